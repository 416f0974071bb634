"""The save path: whatever a plan says is what is read back, row by row and field by field."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import NewAttempt, NewAudit, NextJob
from squidmesh.planner.progress import Progress
from squidmesh.records import JobKind, JSONObject, Lane
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus
from squidmesh.store.jobs import lock_jobs, read_claimed
from squidmesh.store.runs import read_audits, read_history, read_outputs, read_run
from squidmesh.store.saving import save_plans
from tests.store.kit import CHANNEL, Session, attempt, claim, entry, heard, kept, listen, locked, plan, save, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.records import Attempt
    from tests.store.conftest import Connect

EXAMPLES: Final = settings(max_examples=30)

ODD: Final = (
    *("", " ", "NULL", "null", "{}", "{a,b}", "a,b", '"', "\\", '\\"', "''", "'; DROP TABLE x; --", "%(ids)s", "%"),
    *("a\nb\r\tc", "\x01\x7f", "ünï", "\U0001f419", "\u2028", "$1", "squidmesh.jobs"),
)

texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=9)
smallint = st.integers(-(2**15), 2**15 - 1)
integer = st.integers(0, 2**31 - 1)
bigint = st.integers(0, 2**63 - 1)
ago = st.floats(0, 1e7, allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
outputs = objects.map(lambda value: Output(json.dumps(value, ensure_ascii=False), value))

new_attempts = st.builds(
    NewAttempt,
    seq=st.just(0),
    step=texts,
    visit=integer,
    attempt=integer,
    status=st.sampled_from(AttemptStatus),
    saw=integer,
    outcome=st.none() | texts,
    output=st.none() | outputs,
    error=st.none() | objects,
    worker=st.none() | st.uuids(),
    started_ago=st.none() | ago,
    finished_ago=ago,
    takes=st.none() | st.lists(texts, max_size=3).map(tuple),
    kind=st.just("step"),
)

new_audits = st.builds(
    NewAudit,
    seq=st.just(0),
    type=texts,
    step=st.none() | texts,
    actor=values,
    comment=st.none() | texts,
    metadata=objects,
)

next_jobs = st.builds(
    NextJob,
    slot=st.just(0),
    step=texts,
    visit=integer,
    attempt=integer,
    queue=texts,
    priority=smallint,
    saw=integer,
    kind=st.sampled_from(JobKind),
    lane=st.sampled_from(Lane),
    state=st.sampled_from(JobState),
    delay=ago,
    crashes=st.integers(0, 2**15 - 1),
    defers=integer,
    reason=st.none() | texts | st.sampled_from(ParkedReason),
    same_visit=st.booleans(),
    worker=st.none() | st.uuids(),
    claim=bigint,
)


@pytest.fixture(scope="module")
def saver(store_dsn: str) -> Iterator[Session]:
    """One session for all examples of a property."""
    session = Session(store_dsn)
    yield session
    session.connection.execute("DELETE FROM store_tests.runs; DELETE FROM store_tests.jobs")
    session.connection.execute("DELETE FROM store_tests.attempts; DELETE FROM store_tests.audit_events")
    session.close()


def as_stored(value: NewAttempt | NewAudit | NextJob) -> dict[str, Any]:
    """The fields that a record is read back with under the same names."""
    left_out = {"started_ago", "finished_ago", "kind", "output", "delay", "same_visit"}
    left_out -= {"kind"} if isinstance(value, NextJob) else set()
    return {f.name: getattr(value, f.name) for f in fields(value) if f.name not in left_out}


def read_as(value: NewAttempt | NewAudit | NextJob, record: object) -> dict[str, Any]:
    return {name: getattr(record, name) for name in as_stored(value)}


@EXAMPLES
@given(made=st.lists(new_attempts, min_size=1, max_size=8))
def test_attempts_are_read_back_as_they_were_saved(saver: Session, made: list[NewAttempt]) -> None:
    (run_id,) = start(saver)
    made = [replace(a, seq=seq) for seq, a in enumerate(made)]

    save(saver, plan(locked(saver, run_id), attempts=made))

    read = saver.run(read_history(run_id, -1, 100))
    assert [read_as(a, r) for a, r in zip(made, read, strict=True)] == [as_stored(a) for a in made]
    said = [None if a.output is None else a.output.value for a in made]
    assert [r.output for r in read] == said
    assert [output for _, output in saver.run(read_outputs(run_id))] == [o for o in said if o is not None]
    for new, found in zip(made, read, strict=True):
        assert_times(new, found)


def assert_times(new: NewAttempt, found: Attempt) -> None:
    """Both times were measured back from one instant, to the microsecond."""
    assert (found.started_at is None) == (new.started_ago is None)
    if found.started_at is not None and new.started_ago is not None:
        apart = timedelta(seconds=new.started_ago - new.finished_ago)
        assert abs(found.finished_at - found.started_at - apart) <= timedelta(microseconds=4)


@EXAMPLES
@given(made=st.lists(new_audits, min_size=1, max_size=8))
def test_audit_events_are_read_back_as_they_were_saved(saver: Session, made: list[NewAudit]) -> None:
    (run_id,) = start(saver)
    made = [replace(a, seq=seq) for seq, a in enumerate(made)]

    save(saver, plan(locked(saver, run_id), audits=made))

    read = saver.run(read_audits(run_id, -1, None))
    assert [read_as(a, r) for a, r in zip(made, read, strict=True)] == [as_stored(a) for a in made]


@EXAMPLES
@given(moved=st.lists(next_jobs, max_size=4), added=st.lists(next_jobs, max_size=4))
def test_jobs_are_read_back_as_they_were_saved(saver: Session, moved: list[NextJob], added: list[NextJob]) -> None:
    """Moved in place or inserted: it comes to the same."""
    (run_id,) = start(saver, 1, *(entry(slot=slot) for slot in range(5)))
    moved = [replace(job, slot=slot) for slot, job in enumerate(moved)]
    added = [replace(job, slot=slot) for slot, job in enumerate(added, start=5)]

    save(saver, plan(locked(saver, run_id), moved=moved, added=added, removed=list(range(len(moved), 5))))

    expected = [*moved, *added]
    read = saver.run(lock_jobs([run_id]))
    assert [read_as(j, r) for j, r in zip(expected, read, strict=True)] == [as_stored(j) for j in expected]
    for job, found in zip(expected, read, strict=True):
        assert found.started == (job.state is JobState.CLAIMED and job.lane is not Lane.AHEAD)
    slept = saver.rows(
        "SELECT slot, extract(epoch FROM run_at - squidmesh.clock()) FROM squidmesh.jobs"
        " WHERE run_id = %s AND run_at IS NOT NULL ORDER BY slot",
        run_id,
    )
    sleeping = [job for job in expected if job.state is JobState.SLEEPING]
    assert [slot for slot, _ in slept] == [job.slot for job in sleeping]
    for (_, seconds), job in zip(slept, sleeping, strict=True):
        assert job.delay - 60 < seconds <= job.delay + 0.001


saved_runs = st.fixed_dictionaries(
    {
        "status": st.sampled_from(RunStatus),
        "attention": st.none() | texts,
        "seq": integer.filter(lambda seq: seq > 1),
        "error": st.none() | objects,
        "progress": st.builds(
            Progress,
            live=st.integers(0, 2**200),
            twice=st.dictionaries(texts, integer.filter(bool), max_size=3),
            seen=st.integers(0, 2**200),
            visits=st.dictionaries(texts, integer.filter(bool), max_size=3),
            marked=st.dictionaries(texts, st.integers(0, 2**70), max_size=3),
            spoiled=st.dictionaries(texts, st.integers(0, 2**70), max_size=3),
            slots=integer,
            retrying=integer,
            gates=integer,
            weight=bigint,
            snapshot=bigint,
            watched=st.booleans(),
        ),
    }
)


@EXAMPLES
@given(wanted=saved_runs)
def test_runs_are_read_back_as_they_were_saved(saver: Session, wanted: dict[str, Any]) -> None:
    (run_id,) = start(saver)
    run = locked(saver, run_id)

    save(saver, plan(run, **wanted))

    assert locked(saver, run_id) == replace(run, **wanted)
    shown = saver.run(read_run(run_id))
    assert shown is not None
    assert (shown.finished_at is not None) == wanted["status"].terminal


def test_a_large_output_is_kept_whole(store: Session) -> None:
    """A megabyte of what the literals of arrays have to escape, beside others in one statement."""
    large: JSONObject = {"text": '"\\{},NULL \U0001f419' * 70_000}
    assert len(json.dumps(large["text"], ensure_ascii=False).encode()) > 1024 * 1024
    (run_id,) = start(store, payloads=[json.dumps(large)])

    save(store, plan(locked(store, run_id), attempts=[attempt(1, {"a": 1}), attempt(2, large), attempt(3, {"b": 2})]))

    assert store.run(read_outputs(run_id)) == [(1, {"a": 1}), (2, large), (3, {"b": 2})]
    (material,) = store.run(read_claimed([(run_id, 4)]))
    assert material.payload == large
    assert material.outputs == ((1, {"a": 1}), (2, large), (3, {"b": 2}))


def test_a_hundred_plans_are_saved_by_as_many_statements_as_one(store: Session) -> None:
    run_ids = start(store, 100)
    workers = uuid4()
    jobs = {job.run_id: job for job in claim(store, 100, worker=workers)}
    runs = [locked(store, run_id) for run_id in run_ids]
    plans = [
        plan(
            run,
            seq=2 + n,
            attempts=[attempt(1, {"n": n})],
            moved=[kept(jobs[run.id], f"s{n}", n)],
            added=[entry(slot=1)],
        )
        for n, run in enumerate(runs)
    ]

    assert [s.name for s in save_plans(plans, CHANNEL)] == [s.name for s in save_plans(plans[:1], CHANNEL)]
    save(store, *plans)

    for n, run_id in enumerate(run_ids):
        assert locked(store, run_id).seq == 2 + n
        assert store.run(read_outputs(run_id)) == [(1, {"n": n})]
        chain, added = store.run(lock_jobs([run_id]))
        assert (chain.step, chain.claim, chain.worker, added.slot) == (f"s{n}", n, workers, 1)


def test_a_plan_that_changes_nothing_says_nothing(store: Session) -> None:
    (run_id,) = start(store)
    run = locked(store, run_id)
    assert save_plans([plan(run, seq=run.seq)], CHANNEL) == []


def test_a_visit_that_goes_on_keeps_its_since_and_a_new_one_does_not(store: Session) -> None:
    (run_id,) = start(store, 1, entry(slot=0), entry(slot=1))
    created = store.value("SELECT min(since) FROM squidmesh.jobs")
    changes = [entry("same", slot=0, same_visit=True), entry("new", slot=1)]
    save(store, plan(locked(store, run_id), moved=changes))
    rows = store.rows("SELECT step, since > %s, ready_at > %s FROM squidmesh.jobs ORDER BY slot", created, created)
    assert rows == [("same", False, True), ("new", True, True)]


def test_what_was_flagged_to_stop_is_not_flagged_when_it_is_handed_out_again(store: Session) -> None:
    (run_id,) = start(store)
    (job,) = claim(store)
    save(store, plan(locked(store, run_id), flag=True))
    assert store.value("SELECT cancelled FROM squidmesh.jobs") is True
    save(store, plan(locked(store, run_id), moved=[NextJob.same(job)]))
    assert store.value("SELECT cancelled FROM squidmesh.jobs") is False


def test_the_end_of_a_watched_run_is_told(store: Session, connect: Connect) -> None:
    listener = listen(connect())
    watched, unwatched, going_on = (locked(store, run_id) for run_id in start(store, 3))
    watch = replace(watched.progress, watched=True)

    save(
        store,
        plan(watched, status=RunStatus.COMPLETED, progress=watch, removed=[0]),
        plan(unwatched, status=RunStatus.COMPLETED, removed=[0]),
        plan(going_on, progress=watch),
    )

    assert heard(listener, store) == [f"run:{watched.id}"]


def test_one_bad_value_fails_the_whole_batch_and_leaves_nothing(store: Session) -> None:
    good, bad = (locked(store, run_id) for run_id in start(store, 2))
    broken = replace(attempt(1), output=Output("{", {}))

    with pytest.raises(psycopg.DataError):
        save(store, plan(good, seq=5, attempts=[attempt(1, {"a": 1})]), plan(bad, attempts=[broken]))

    assert [locked(store, run.id) for run in (good, bad)] == [good, bad]
    assert store.value("SELECT count(*) FROM squidmesh.attempts") == 0
