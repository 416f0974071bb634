"""The peers, from the harness's side: what they are, where they are installed, and how they are measured.

Each is installed from PyPI, with its version pinned, into an environment of its own below ``.nox``, and does what we do
in the same run on the same server: see ``tests.benchmarks.peers``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.benchmarks.board import Board, new_board
from tests.benchmarks.drain import Drain, Engine, drain
from tests.benchmarks.figures import Benchmark, Figures, percentile
from tests.benchmarks.worker_process import ROOT, ToldProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

ENVIRONMENTS: Final = ROOT / ".nox" / "{}.{}".format(*sys.version_info) / "peers"
MOST_SECONDS: Final = 600.0


class Unavailable(Exception):
    """A peer cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library that is compared with.

    Args:
        name: What it is called in the tables.
        module: Its program in ``tests.benchmarks.peers``, and the name of its environment.
        requirements: What is installed there.
        left: Whether there is anything left to do: a query that says so.
        chains: Whether it knows workflows of several steps; the others run single jobs.
        fast: Whether it runs thousands of jobs a second, so that few of them would say nothing.
        newer: Whether it needs Python 3.12.
        option: What its program is told beside that.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    left: str
    chains: bool = False
    fast: bool = False
    newer: bool = False
    option: str = ""


_PSYCOPG: Final = f"psycopg[binary]=={psycopg.__version__}"
_PGQUEUER: Final = Peer(
    name="pgqueuer",
    module="pgqueuer",
    requirements=("pgqueuer[psycopg,asyncpg]==1.6.0", _PSYCOPG, "uvloop==0.23.0"),
    # What is finished leaves this table.
    left="SELECT EXISTS (SELECT FROM pgqueuer)",
    fast=True,
)
PEERS: Final = (
    Peer(
        name="dbos",
        module="dbos",
        requirements=("dbos==3.4.0", _PSYCOPG),
        left="SELECT EXISTS (SELECT FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED'))",
        chains=True,
    ),
    Peer(
        name="absurd",
        module="absurd",
        requirements=("absurd-sdk==0.5.1", "absurdctl==0.5.1", _PSYCOPG),
        left="SELECT EXISTS (SELECT FROM absurd.t_bench WHERE state NOT IN ('completed', 'failed', 'cancelled'))",
        chains=True,
    ),
    replace(_PGQUEUER, name="pgqueuer-asyncpg", option="asyncpg"),
    replace(_PGQUEUER, name="pgqueuer-psycopg", option="psycopg"),
    Peer(
        name="oban",
        module="oban",
        requirements=("oban==0.7.0", _PSYCOPG, "uvloop==0.23.0"),
        left="SELECT EXISTS (SELECT FROM oban_jobs"
        " WHERE state IN ('available', 'scheduled', 'executing', 'retryable'))",
        fast=True,
        newer=True,
    ),
    Peer(
        name="chancy",
        module="chancy",
        requirements=("chancy==0.26.0", _PSYCOPG),
        left="SELECT EXISTS (SELECT FROM chancy_jobs WHERE state IN ('pending', 'running', 'retrying'))",
        fast=True,
    ),
    Peer(
        name="procrastinate",
        module="procrastinate",
        requirements=("procrastinate==3.10.0", _PSYCOPG),
        left="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
    ),
)


def python_of(peer: Peer) -> Path:
    """The Python of a peer's environment, which is made the first time.

    Raises:
        Unavailable: It cannot be made here.
    """
    home = ENVIRONMENTS / peer.module
    python, stamp = home / "bin" / "python", home / "installed"
    mark = hashlib.sha256(repr(peer.requirements).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == mark:
        return python
    print(f"installing {', '.join(peer.requirements)}", flush=True)
    _run(peer, [_base(peer), "-m", "venv", "--clear", str(home)])
    _run(peer, [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements])
    stamp.write_text(mark)
    return python


def _base(peer: Peer) -> str:
    """A Python that its environment can be made with."""
    if not peer.newer or sys.version_info >= (3, 12):
        return sys.executable
    found = [shutil.which(f"python3.{minor}") for minor in (12, 13, 14)]
    found += map(str, sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3")))
    for python in filter(None, found):
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    raise Unavailable("it needs Python 3.12 or newer, and there is none")


def _run(peer: Peer, command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=MOST_SECONDS,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise Unavailable(f"{Path(command[0]).name} {command[2]} failed: {lines[-1]}")
    return done.stdout


class _Program:
    """A peer's program, for one server.

    Args:
        peer: The peer.
        server: Whose programs it finds on its path: one needs psql.
    """

    def __init__(self, peer: Peer, server: BenchServer) -> None:
        self._peer = peer
        self._python = str(python_of(peer))
        self._environment = {"PATH": f"{server.bin}{os.pathsep}{os.environ['PATH']}"}

    def do(self, action: str, dsn: str, board: Board, **task: Any) -> float:
        """Have it done; the seconds that it took."""
        said = _run(self._peer, self._command(action, dsn, board, task), self._environment)
        return float(json.loads(said.splitlines()[-1])["seconds"])

    def worker(self, dsn: str, board: Board, **task: Any) -> ToldProcess:
        """Its worker."""
        return ToldProcess(self._command("work", dsn, board, task), self._environment)

    def _command(self, action: str, dsn: str, board: Board, task: dict[str, Any]) -> list[str]:
        said = {"workflow": "single", **task, "action": action, "dsn": dsn, "board": board.path}
        said["option"] = self._peer.option
        return [self._python, "-m", f"tests.benchmarks.peers.{self._peer.module}", json.dumps(said)]

    def engine(self) -> Engine:
        """What ``drain`` wants to know."""

        def fill(dsn: str, what: Drain) -> None:
            with new_board() as board:
                self.do("setup", dsn, board)
                self.do("fill", dsn, board, workflow=what.workflow, count=what.runs)

        def worker(dsn: str, what: Drain, board: Board) -> ToldProcess:
            return self.worker(dsn, board, workflow=what.workflow)

        return Engine(fill=fill, worker=worker, left=self._peer.left)


def rivals_of(name: str) -> list[Benchmark]:
    """The benchmarks that put the peers beside one of ours; none where they have nothing like it."""
    return [
        Benchmark(
            name=f"{name}:{peer.name}", unit=_UNITS[name], measure=_measured(_WAYS[name], peer, name), reference=name
        )
        for peer in PEERS
        if name in _WAYS and (peer.chains or name != "chain")
    ]


def _measured(
    way: Callable[[BenchServer, Scale, Peer], Figures], peer: Peer, name: str
) -> Callable[[BenchServer, Scale], Figures]:
    def measure(server: BenchServer, scale: Scale) -> Figures:
        try:
            return way(server, scale, peer)
        except (AssertionError, OSError, psycopg.Error, subprocess.SubprocessError) as why:
            raise Unavailable(f"{type(why).__name__}: {why}") from why  # hours of other measurements must not be lost

    measure.__doc__ = f"What {name} measures, by {' and '.join(peer.requirements[:-1])}."
    return measure


def _chain(server: BenchServer, scale: Scale, peer: Peer) -> Figures:
    engine = _Program(peer, server).engine()
    return drain(server, Drain(engine=engine, workflow="chain", runs=scale.peer_chain_runs, steps=5))


def _single(server: BenchServer, scale: Scale, peer: Peer) -> Figures:
    runs = scale.single_runs if peer.fast else scale.peer_single_runs
    return drain(server, Drain(engine=_Program(peer, server).engine(), workflow="single", runs=runs, steps=1))


def _start(server: BenchServer, scale: Scale, peer: Peer) -> Figures:
    program, count = _Program(peer, server), scale.peer_starts
    with server.fresh_database() as database, new_board() as board:
        program.do("setup", server.dsn(database), board)
        server.settle(database)
        seconds = program.do("start", server.dsn(database), board, count=count)
    return Figures(count / seconds, {"seconds": seconds})


def _latency(server: BenchServer, scale: Scale, peer: Peer) -> Figures:
    program, count = _Program(peer, server), scale.pings
    task = {"count": count, "pause": scale.pause, "latency": True}
    with server.fresh_database() as database, new_board() as board:
        dsn = server.dsn(database)
        program.do("setup", dsn, board)
        server.settle(database)
        with program.worker(dsn, board, latency=True) as worker:
            worker.start()
            time.sleep(scale.latency_settle_seconds)
            program.do("start", dsn, board, **task)
            deadline = time.monotonic() + MOST_SECONDS
            while not all(board.entered_at(number) for number in range(count)):
                worker.check()
                assert time.monotonic() < deadline, "not all runs were begun"
                time.sleep(0.01)
        waits = [(board.entered_at(number) - board.called_at(number)) / 1e6 for number in range(count)]
    p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
    return Figures(p50, {"p50 ms": p50, "p99 ms": p99, "worst ms": max(waits)})


_WAYS: Final = {"chain": _chain, "single": _single, "start": _start, "latency": _latency}
_UNITS: Final = {"chain": "steps/s", "single": "steps/s", "start": "runs/s", "latency": "ms p50"}
