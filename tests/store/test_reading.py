"""What people read: runs, lists of runs, histories, and where each step stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from squidmesh.clock import new_id
from squidmesh.planner.plan import NewAudit
from squidmesh.states import AttemptStatus, JobState, RunStatus
from squidmesh.store.runs import (
    RunFilter,
    list_runs,
    read_audits,
    read_definitions,
    read_history,
    read_outputs,
    read_run,
    read_step_states,
    register_definition,
)
from tests.store.kit import Session, attempt, claim, entry, in_schema, locked, plan, save, start

if TYPE_CHECKING:
    from uuid import UUID

    from squidmesh.records import Run


def run_of(session: Session, run_id: UUID) -> Run:
    run = session.run(read_run(run_id))
    assert run is not None
    return run


def test_there_is_no_run_that_was_not_started(store: Session) -> None:
    assert store.run(read_run(new_id())) is None


def test_a_run_of_which_a_step_executes_is_running(store: Session) -> None:
    (run_id,) = start(store)
    assert run_of(store, run_id).status is RunStatus.PENDING
    claim(store)
    assert run_of(store, run_id).status is RunStatus.RUNNING
    assert store.run(list_runs(RunFilter(statuses=(RunStatus.PENDING,)))) == []
    assert store.run(list_runs(RunFilter(statuses=(RunStatus.RUNNING,)))) == [run_of(store, run_id)]


def test_a_finished_run_has_its_end_and_no_live_steps(store: Session) -> None:
    (run_id,) = start(store)
    claim(store)
    error = {"type": "Error", "message": "no"}
    ended = plan(locked(store, run_id), status=RunStatus.FAILED, attention="failed", error=error, removed=[0])
    save(store, ended)
    run = run_of(store, run_id)
    assert (run.status, run.attention, run.error, run.current_steps) == (RunStatus.FAILED, "failed", error, ())
    assert run.finished_at is not None
    assert run.finished_at > run.created_at

    save(store, plan(locked(store, run_id), status=RunStatus.FAILED, attention="failed", error=error))
    assert run_of(store, run_id).finished_at == run.finished_at, "the end of a run does not move"


@pytest.fixture
def listed(store: Session) -> list[UUID]:
    """Seven runs, the oldest first, an hour apart, of which the last three are of one instant."""
    made = [
        start(store, 1, workflow=workflow, trigger=trigger)[0]
        for workflow, trigger in (("a", "x"), ("b", "x"), ("a", "y"), ("a", "x"), ("b", "y"), ("a", "x"), ("a", "x"))
    ]
    for number, run_id in enumerate(made):
        hour = datetime(2026, 1, 1, min(number, 4), tzinfo=UTC)
        store.connection.execute(in_schema("UPDATE squidmesh.runs SET created_at = %s WHERE id = %s"), [hour, run_id])
    return made


def ids(session: Session, wanted: RunFilter) -> list[UUID]:
    return [run.id for run in session.run(list_runs(wanted))]


def test_runs_are_listed_newest_first(store: Session, listed: list[UUID]) -> None:
    assert ids(store, RunFilter()) == listed[::-1]
    assert ids(store, RunFilter(limit=2)) == listed[:-3:-1]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (RunFilter(workflow="b"), [4, 1]),
        (RunFilter(trigger="y"), [4, 2]),
        (RunFilter(workflow="a", trigger="x"), [6, 5, 3, 0]),
        (RunFilter(since=datetime(2026, 1, 1, 3, tzinfo=UTC)), [6, 5, 4, 3]),
        (RunFilter(until=datetime(2026, 1, 1, 1, tzinfo=UTC)), [0]),
        (RunFilter(workflow="nobody's"), []),
        (RunFilter(statuses=()), []),
        (RunFilter(statuses=(RunStatus.FAILED, RunStatus.PENDING), limit=1), [6]),
    ],
)
def test_lists_are_filtered(store: Session, listed: list[UUID], wanted: RunFilter, expected: list[int]) -> None:
    assert ids(store, wanted) == [listed[number] for number in expected]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_have_every_run_once_even_those_of_one_instant(store: Session, listed: list[UUID], size: int) -> None:
    seen: list[UUID] = []
    before: tuple[datetime, UUID] | None = None
    while page := store.run(list_runs(RunFilter(before=before, limit=size))):
        seen += [run.id for run in page]
        before = page[-1].created_at, page[-1].id
    assert seen == listed[::-1]


def test_a_history_is_read_in_order_page_by_page_and_without_snapshots(store: Session) -> None:
    (run_id, foreign) = start(store, 2)
    snapshot = attempt(2, {"sum": 1}, kind="snapshot", step="", visit=0, attempt=0)
    failed = attempt(4, error={"type": "E"}, status=AttemptStatus.FAILED)
    audits = [NewAudit(seq=3, type="routed", step="s4"), NewAudit(seq=6, type="cancelled", actor={"name": "é"})]
    history = [attempt(5, {"b": 2}, outcome="ok"), snapshot, failed, attempt(1, {"a": 1})]
    save(store, plan(locked(store, run_id), seq=7, attempts=history, audits=audits))
    save(store, plan(locked(store, foreign), attempts=[attempt(1, {"f": 1})], audits=[NewAudit(seq=2, type="skipped")]))

    assert [a.seq for a in store.run(read_history(run_id, -1, 10))] == [1, 4, 5]
    assert [a.seq for a in store.run(read_history(run_id, 1, 1))] == [4]
    assert [a.seq for a in store.run(read_history(run_id, 5, 10))] == []
    assert store.run(read_outputs(run_id)) == [(1, {"a": 1}), (5, {"b": 2})]
    assert [e.seq for e in store.run(read_audits(run_id, -1, None))] == [3, 6]
    assert [e.seq for e in store.run(read_audits(run_id, 3, None))] == [6]
    assert [e.seq for e in store.run(read_audits(run_id, -1, 6))] == [3]


def test_where_each_step_stands_that_was_reached_or_is_live(store: Session) -> None:
    (run_id,) = start(store)
    again = attempt(3, step="loop", visit=2, status=AttemptStatus.FAILED)
    attempts = [attempt(1, step="done"), attempt(2, step="loop"), again, attempt(4, step="rejoined")]
    skips = [NewAudit(seq=5, type="skipped", step="join"), NewAudit(seq=0, type="skipped", step="rejoined")]
    jobs = [entry("loop", visit=2, attempt=2, saw=4, delay=1000, state=JobState.SLEEPING), entry("stuck", slot=1)]
    jobs[1].state, jobs[1].reason = JobState.PARKED, "quarantined"
    changes = plan(locked(store, run_id), seq=6, attempts=attempts, audits=skips, moved=jobs[:1], added=jobs[1:])
    save(store, changes)

    found = {state.step: state for state in store.run(read_step_states(run_id))}

    assert found.keys() == {"done", "loop", "rejoined", "join", "stuck"}
    for step in ("done", "rejoined"):
        ended = found[step]
        assert (ended.ended_visit, ended.ended, ended.skipped) == (1, AttemptStatus.COMPLETED, False)
        assert (ended.visit, ended.state) == (None, None)
    join = found["join"]
    assert (join.ended, join.skipped, join.visit) == (None, True, None)
    stuck = found["stuck"]
    assert (stuck.ended, stuck.skipped, stuck.visit, stuck.attempt) == (None, False, 1, 1)
    assert (stuck.state, stuck.reason, stuck.due_at) == (JobState.PARKED, "quarantined", None)
    loop = found["loop"]
    assert (loop.ended_visit, loop.ended) == (2, AttemptStatus.FAILED)
    assert (loop.visit, loop.attempt, loop.saw, loop.state) == (2, 2, 4, JobState.SLEEPING)
    assert loop.due_at is not None
    assert loop.due_at - store.value("SELECT squidmesh.clock()") > timedelta(seconds=900)
    assert store.run(read_step_states(uuid4())) == []


def test_definitions_are_kept_once_under_their_fingerprint(store: Session) -> None:
    store.run(register_definition("f1", "orders", {"format": 1, "steps": ["ünï", 'q"{}\\']}))
    store.run(register_definition("f1", "orders", {"format": 2}))
    store.run(register_definition("f2", "orders", {"format": 3}))
    found = store.run(read_definitions(["f1", "f2", "f3"]))
    assert found == {"f1": {"format": 1, "steps": ["ünï", 'q"{}\\']}, "f2": {"format": 3}}
