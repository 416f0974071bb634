"""A soak for the database's space: constant load, while what is dead must be reclaimed as fast as it comes.

Every job that passes leaves dead rows and dead index entries behind. Whatever the server's vacuum does with the
settings that the tables are shipped with, the jobs table and its indexes must not become much larger than they were in
the first quarter, and a run must not take more space in the table of runs.

    python -m examples.verification.bloat --seconds 600
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from examples.verification.kit import PATIENCE, SETTINGS, opened
from squidmesh import Workflow
from squidmesh.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from examples.verification.kit import Place

MOST_GROWTH: Final = 2.5
"""What is reclaimed with delay goes up and down; without any reclaiming all would be four times the first quarter."""
SERVER: Final = {**SETTINGS, "autovacuum_naptime": "5s"}
"""Autovacuum looks every few seconds, not once a minute: so there are enough of them in a short time."""
FEW_PAGES: Final = 16 * 8192
"""Bytes that do not matter: an empty table may have been cut to nothing, or not."""

SIZES: Final = """
SELECT c.relname, pg_relation_size(c.oid)
  FROM pg_class c
 WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'i') AND c.relname ~ '^(jobs|runs|attempts)'
"""
COUNTS: Final = """
SELECT relname, n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count + vacuum_count
  FROM pg_stat_user_tables
 WHERE schemaname = %s AND relname IN ('jobs', 'runs')
"""

worn = Workflow("worn")


@worn.step
def first() -> None:
    """Do nothing."""


pause = worn.wait("pause", seconds=0.02)


@worn.step
def second() -> None:
    """Do nothing."""


@worn.step
def third() -> None:
    """Do nothing."""


worn.sequence(first, pause, second, third)


@dataclass(frozen=True, slots=True)
class Sample:
    """How large things are.

    Args:
        runs: How many runs there are.
        sizes: The bytes of each table and index.
        counts: Of each table, as the statistics have it: updates, those in place, dead rows, vacuums.
    """

    runs: int
    sizes: dict[str, int]
    counts: dict[str, tuple[int, ...]]

    def measures(self) -> dict[str, float]:
        """What must not grow: the bytes of what is live, and the bytes for each thousand runs."""
        live = {name: float(size) for name, size in self.sizes.items() if name.startswith("jobs")}
        return {**live, "runs, for each thousand": self.sizes["runs"] / self.runs * 1000}

    def __str__(self) -> str:
        """One line of the report."""
        jobs = " ".join(f"{name} {size / 1024:,.0f}" for name, size in sorted(self.sizes.items()) if "jobs" in name)
        counted = (
            f"{name}: {in_place / max(updates, 1):.0%} in place, {dead:,} dead, {vacuums} vacuums"
            for name, (updates, in_place, dead, vacuums) in sorted(self.counts.items())
        )
        per_run = self.sizes["runs"] / self.runs
        return f"{self.runs:>9,} runs, {per_run:,.0f} bytes each; kB: {jobs}; {'; '.join(counted)}"


def sample(place: Place) -> Sample:
    """Look at the sizes now."""
    rows: list[tuple[Any, ...]] = place.lab.rows(COUNTS, place.lab.schema)
    return Sample(
        runs=place.lab.value("SELECT count(*) FROM squidmesh.runs"),
        sizes=dict(place.lab.rows(SIZES, place.lab.schema)),
        counts={name: tuple(counts) for name, *counts in rows},
    )


def judge(samples: Sequence[Sample]) -> None:
    """Nothing is ever much larger than it was in the first quarter."""
    early = len(samples) // 4
    for name in samples[0].measures():
        before = max(one.measures()[name] for one in samples[:early])
        after = max(one.measures()[name] for one in samples[early:])
        grown = f"{name} grows: {before:,.0f} bytes in the first quarter, {after:,.0f} afterwards"
        assert after <= before * MOST_GROWTH + FEW_PAGES, grown


def run(
    seconds: float = 300,
    *,
    rounds: int | None = None,
    batch: int = 500,
    between: float = 5.0,
    dsn: str | None = None,
) -> list[Sample]:
    """Soak for so long.

    Args:
        seconds: How long runs are started, each batch when the one before has ended; autovacuum does what it does.
        rounds: Instead: so many batches, with a vacuum after each, by hand: what autovacuum would do in its own time.
        batch: How many runs are started at a time.
        between: Seconds between looks at the sizes.
        dsn: A database to do it in; None: a server of its own.

    Returns:
        What was seen.
    """
    samples: list[Sample] = []
    with _server(dsn) as given, opened(given) as place:
        mesh = place.lab.mesh(worn)
        began = looked = time.monotonic()
        with mesh.worker(queues={"default": 100}):
            started = 0
            while (started < rounds * batch) if rounds else (time.monotonic() - began < seconds):
                mesh.start_runs(worn, [None] * batch)
                started += batch
                place.lab.until_ended(started, PATIENCE)
                if rounds:
                    place.lab.rows("VACUUM squidmesh.jobs")
                    place.lab.rows("VACUUM squidmesh.runs")
                if rounds or time.monotonic() - looked >= between:
                    looked = time.monotonic()
                    samples.append(sample(place))
                    print(samples[-1], flush=True)
    judge(samples)
    return samples


@contextmanager
def _server(dsn: str | None) -> Iterator[str]:
    if dsn is not None:
        yield dsn
        return
    with EmbeddedPostgres(settings=SERVER) as postgres:
        yield postgres.dsn


def main() -> int:
    """Read the arguments and run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="how long (300)")
    parser.add_argument("--rounds", type=int, help="so many batches, with a vacuum by hand after each, instead")
    parser.add_argument("--batch", type=int, default=500, help="runs started at a time (500)")
    chosen = parser.parse_args()
    run(chosen.seconds, rounds=chosen.rounds, batch=chosen.batch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
