"""The server that everything is measured on: durable, of our own, reached over TCP as production is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import contextmanager
from math import nan
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import sql

from squidmesh.embedded import EmbeddedPostgres
from tests.benchmarks.gauges import cpu_seconds_of_tree, reaped_cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        self._templates: set[str] = set()

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
    def fresh_database(self, template: str | None = None) -> Iterator[str]:
        """A database, dropped afterwards: no measurement sees what the one before has left.

        Args:
            template: The database that it is a copy of; an empty one by default.
        """
        self._made += 1
        name = f"bench_{self._made}"
        with self.connect() as connection:
            copied = (
                sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template)) if template else sql.SQL("")
            )
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copied)
        try:
            yield name
        finally:
            with self.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """A database to make copies of, kept until the server stops: what takes long to fill is filled once.

        Args:
            name: Its name.
            fill: Fills it, given its name; everybody has left it afterwards.
        """
        if name not in self._templates:
            with self.connect() as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            fill(name)
            self._templates.add(name)
        return name

    def wal_without_pages(self, start: int, end: int) -> float:
        """Bytes of WAL between two places without the full pages that follow a checkpoint; nan if they are gone."""
        with self.connect() as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        command = [str(self.bin / "pg_waldump"), "--stats", f"--path={row[0]}/pg_wal"]
        command += [f"--{name}={at >> 32:X}/{at & 0xFFFFFFFF:X}" for name, at in (("start", start), ("end", end))]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        # "Total", how many, their size, its share of all, and then the same of full pages.
        found = re.search(r"^Total\s+\d+\s+(\d+)", said, re.MULTILINE)
        return float(found[1]) if found else nan

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
