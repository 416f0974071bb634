"""The server that everything is measured on: durable, of our own, reached over TCP as production is."""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import sql

from squidmesh.embedded import EmbeddedPostgres
from tests.benchmarks.gauges import cpu_seconds_of_tree, reaped_cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""What makes a commit a commit. These are the defaults; they are said, so that nobody need wonder."""

_MUCH_MEMORY: Final = 4 * 1024**3


class BenchServer:
    """A Postgres server for benchmarks; a context manager.

    Attributes:
        settings: What it was started with.
        bin: The directory of its programs.
    """

    def __init__(self) -> None:
        self.settings = {
            **DURABLE,
            "shared_buffers": "1GB" if _free_memory() > _MUCH_MEMORY else "256MB",
            "max_wal_size": "4GB",
            "max_connections": "100",
            "track_wal_io_timing": "off",
        }
        self._postgres = EmbeddedPostgres(settings=self.settings, tcp=True)
        self.bin: Path = self._postgres.bin
        self._made = 0

    def __enter__(self) -> Self:
        self._postgres.start()
        with self.connect() as connection:
            for name, value in DURABLE.items():
                row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
                assert row == (value,), f"{name} is {row}: without it nothing here means anything"
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()

    def dsn(self, database: str = "postgres") -> str:
        """The address of a database."""
        return self._postgres.dsn_for(database, tcp=True)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit mode."""
        return psycopg.connect(self.dsn(database), autocommit=True)

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """An empty database, dropped afterwards: no measurement sees what the one before has left."""
        self._made += 1
        name = f"bench_{self._made}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            with self.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def settle(self, database: str) -> None:
        """Vacuum, analyze and checkpoint: what was done to prepare a measurement is not paid for within it."""
        with self.connect(database) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def cpu_seconds(self) -> float:
        """CPU time of the whole server: its processes, and those that have ended."""
        pid = self._postgres.pid
        assert pid is not None, "the server has died"
        return cpu_seconds_of_tree(pid) + reaped_cpu_seconds(pid)

    def about(self) -> dict[str, str]:
        """What it was measured on and with."""
        with self.connect() as connection:
            row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return {
            "postgres": str(row[0]),
            "python": platform.python_version(),
            "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
            "cpus": str(os.cpu_count()),
            "load": "{:.2f} {:.2f} {:.2f}".format(*os.getloadavg()),
            "settings": ", ".join(f"{name}={value}" for name, value in self.settings.items()),
        }


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not tell
        return 0
