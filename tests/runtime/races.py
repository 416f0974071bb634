"""Interleavings that are forced: several ask for something at one moment, and the database decides who is first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh import Run
    from tests.lab import Lab

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'squidmesh'"""


def at_once(lab: Lab, run: Run, *calls: Callable[[], object]) -> list[Any]:
    """Let several calls about one run wait for its lock before any of them gets it; their results or exceptions."""
    holder = lab.session(autocommit=False)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs WHERE id = %s FOR UPDATE"), [run.id])
    with ThreadPoolExecutor(len(calls)) as threads:
        asked = [threads.submit(call) for call in calls]
        until(lambda: lab.value(BLOCKED) == len(calls), what="calls that wait for the run")
        holder.commit()
        return [future.exception() or future.result() for future in asked]


def rows_of(lab: Lab, run: Run) -> list[list[tuple[Any, ...]]]:
    """All that is stored of a run: what must be the same after a call that was refused."""
    of_run = [f"{table} r WHERE run_id" for table in ("jobs", "attempts", "audit_events", "signals")]
    return [
        sorted(lab.rows(f"SELECT r::text FROM squidmesh.{table} = %s", run.id))
        for table in ("runs r WHERE id", *of_run)
    ]


def audits(lab: Lab, run: Run) -> list[str]:
    """The types of a run's audit events, in order."""
    query = "SELECT type FROM squidmesh.audit_events WHERE run_id = %s ORDER BY seq"
    return [type_ for (type_,) in lab.rows(query, run.id)]


def context_of(run: Run) -> dict[str, Any]:
    """A run's context, of a run that was read with it."""
    assert run.context is not None
    return run.context
