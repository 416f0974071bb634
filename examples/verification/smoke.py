"""Run every example as its page says, and compare how its runs end with how they should.

From the top of the repository::

    python -m examples.verification.smoke
    python -m examples.verification.smoke saga_checkout signals
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from examples.verification.kit import PATIENCE, ROOT, SETTINGS
from squidmesh.embedded import EmbeddedPostgres, given_dsn
from tests.invariants import check
from tests.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

EXPECTED: Final[Mapping[str, Mapping[str, int]]] = {
    "daily_digest": {"completed": 3},
    "dependency_recovery": {"completed": 2},
    "local_ledger_checkout": {"completed": 2},
    "manual_approval": {"completed": 3},
    "payment_recovery": {"completed": 1},
    "rate_limited_api": {"completed": 16},
    "recover": {"completed": 2},
    "saga_checkout": {"completed": 1, "failed": 1},
    "signals": {"completed": 4},
}
"""How the runs of each example end, and at least how many do so."""


def found() -> list[str]:
    """The examples that there are."""
    return sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@contextmanager
def databases(dsn: str | None) -> Generator[str]:
    """An address of a server in which databases may be made: the one that was given, or one of our own."""
    if given := dsn or given_dsn(os.environ):
        yield given
    else:
        with EmbeddedPostgres(settings=SETTINGS) as postgres:
            yield postgres.dsn


@contextmanager
def database(server: str) -> Generator[str]:
    """The address of a new database."""
    name = f"squidmesh_smoke_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def run_one(name: str, server: str) -> str:
    """Run an example in a database of its own, and look at all rows that it leaves.

    Args:
        name: The example.
        server: The server to make the database in.

    Returns:
        What it said.

    Raises:
        AssertionError: It failed, or its runs did not end as they should.
    """
    with ExitStack() as undo:
        dsn = undo.enter_context(database(server))
        environ = {**os.environ, "SQUIDMESH_DATABASE_URL": dsn, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"{name} failed: {done.stdout}{done.stderr}"
        lab = Lab(dsn, "squidmesh", undo)
        ended = dict(lab.rows("SELECT status, count(*) FROM squidmesh.runs WHERE workflow = %s GROUP BY 1", name))
        expected = EXPECTED[name]
        fits = ended.keys() == expected.keys() and all(ended[status] >= count for status, count in expected.items())
        assert fits, f"the runs of {name} ended as {ended}, not as {dict(expected)}: {done.stdout}"
        check(lab, workers_left=False)
    return done.stdout


def run(names: list[str], *, dsn: str | None = None) -> None:
    """Run examples beside each other.

    Args:
        names: Which.
        dsn: A server to make databases in; None: one of our own.
    """
    with databases(dsn) as server, ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        for name, _ in zip(names, pool.map(lambda name: run_one(name, server), names), strict=True):
            print(f"{name} ended as it should; {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    """Read the arguments and run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="examples, by the names of their files; all by default")
    run(parser.parse_args().names or found())


if __name__ == "__main__":
    main()
