"""Gauges: what a stretch of work cost in CPU time, commits, rows and WAL. Read before and after, and subtracted."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import astuple, dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import psycopg

# The places of utime, stime, cutime and cstime in /proc/<pid>/stat, counted from behind the program's name.
_OWN, _REAPED = slice(11, 13), slice(13, 15)

EVERY: Final = 0.02
"""Seconds between two looks at what sessions wait for."""


def cpu_seconds(pid: int) -> float:
    """CPU time of one process, without its children; not a number where there is no /proc."""
    return _cpu(pid, _OWN)


def reaped_cpu_seconds(pid: int) -> float:
    """CPU time of a process's children that have ended."""
    return _cpu(pid, _REAPED)


def cpu_seconds_of_tree(pid: int) -> float:
    """CPU time of a process and of its living children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        children = []
    return cpu_seconds(pid) + sum(cpu_seconds_of_tree(int(child)) for child in children)


def resident_bytes(pid: int) -> float:
    """Resident memory of one process; not a number where there is no /proc."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return nan
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def threads(pid: int) -> int:
    """How many threads a process has; 0 where there is no /proc."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _cpu(pid: int, which: slice) -> float:
    if not Path("/proc/self/stat").exists():
        return nan
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[which]
    except (FileNotFoundError, ProcessLookupError):  # it has ended: it is among the reaped now
        return 0.0
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """Time of all CPUs, in ticks: how much was busy, and how much of that the hypervisor took away."""

    total: int
    idle: int
    stolen: int

    @classmethod
    def read(cls) -> Self | None:
        """Now; None where there is no /proc."""
        try:
            line = Path("/proc/stat").read_text().partition("\n")[0]
        except FileNotFoundError:
            return None
        user, nice, system, idle, waiting, irq, softirq, stolen = map(int, line.split()[1:9])
        return cls(user + nice + system + idle + waiting + irq + softirq + stolen, idle + waiting, stolen)

    def busy_cpus_since(self, before: Machine) -> float:
        """How many CPUs were busy on average, whatever with."""
        total = max(self.total - before.total, 1)
        return (1 - (self.idle - before.idle) / total) * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server has counted for one database; WAL and buffers, found or read, are those of the whole server."""

    commits: int
    rollbacks: int
    inserted: int
    updated: int
    deleted: int
    wal_bytes: int
    full_pages: int
    buffers: int
    vacuum_buffers: int

    @classmethod
    def read(cls, connection: psycopg.Connection[Any], database: str) -> Self:
        """Now. Sessions tell what they did when they end, or about once a second."""
        row = connection.execute(
            "SELECT xact_commit, xact_rollback, tup_inserted, tup_updated, tup_deleted,"
            "       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, wal_fpi, io.clients, io.vacuum"
            "  FROM pg_stat_database, pg_stat_wal,"
            "       (SELECT coalesce(sum(hits + reads) FILTER (WHERE backend_type = 'client backend'), 0)::bigint,"
            "               coalesce(sum(hits + reads) FILTER (WHERE backend_type = 'autovacuum worker'), 0)::bigint"
            "          FROM pg_stat_io WHERE object = 'relation') AS io (clients, vacuum)"
            " WHERE datname = %s",
            (database,),
        ).fetchone()
        assert row is not None
        return cls(*row)

    def __sub__(self, before: Counters) -> Counters:
        return Counters(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    @property
    def rows(self) -> int:
        """Rows written."""
        return self.inserted + self.updated + self.deleted


class WaitSampler:
    """What the sessions of a database wait for, looked at now and then.

    Args:
        connection: To another database, so that the looks are not counted in this one.
        database: Whose sessions.
    """

    def __init__(self, connection: psycopg.Connection[Any], database: str = "bench%") -> None:
        self._connection = connection
        self._database = database
        self._next = 0.0
        self._seen: Counter[str] = Counter()

    def look(self) -> None:
        """Look, unless the last look is less than ``EVERY`` seconds ago."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        found = self._connection.execute(
            "SELECT coalesce(wait_event_type, 'none'), count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND state = 'active' AND datname LIKE %s GROUP BY 1",
            (self._database,),
        )
        self._seen.update(dict(found.fetchall()))

    def shares(self) -> dict[str, float]:
        """Percent of active sessions that waited: for locks of rows and the like, light-weight ones, the disk."""
        total = max(self._seen.total(), 1)
        return {f"{kind} waits %": self._seen[kind] / total * 100 for kind in ("Lock", "LWLock", "IO")}
