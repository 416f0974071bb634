"""The real store against its model: random runs are driven through both at once, and after each step both are the same.

What the planner's properties prove of runs in memory holds in the database by that.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from squidmesh.meters import MeterTable
from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import NewAttempt
from squidmesh.planner.planner import plan_start
from squidmesh.states import JobState
from squidmesh.store.jobs import adopt_jobs, claim_jobs, lock_jobs, pin_plans, wake_jobs
from squidmesh.store.meters import claim_metered, lock_meters
from squidmesh.store.runs import (
    NewRuns,
    find_signal,
    lock_run,
    read_audits,
    read_completions,
    read_history,
    read_signals,
    read_votes,
    start_runs,
)
from squidmesh.store.saving import insert_audits
from squidmesh.store.statements import Batch
from tests.property.driver import Driver
from tests.property.simulator import RUN_ID, WORKER, Simulator, blank
from tests.property.strategies import choices, definitions
from tests.store.kit import CHANNEL, TABLES, Session, in_schema, rooms, save

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from squidmesh.definition import Definition
    from squidmesh.planner.decisions import Vote
    from squidmesh.planner.facts import Completion
    from squidmesh.planner.plan import Plan
    from squidmesh.records import Job
    from squidmesh.store.statements import Flow
    from tests.property.strategies import Choices


def _claim_metered(worker: UUID, number: int) -> Flow[list[Job]]:
    """Claim one job that is filed under what nobody here limits."""
    known = MeterTable()
    _, _, metered = yield Batch(
        (
            pin_plans(),
            lock_meters({"default": ""}, known),
            claim_metered(worker, number, {"default": 1}, known, suspect=True),
        ),
        last=True,
    )
    return list(metered.jobs)


class Mirrored(Simulator):
    """A simulated run that also takes place in the database; whatever is done is done to both, then both are compared."""

    def __init__(self, definition: Definition, session: Session) -> None:
        super().__init__(definition, may_snapshot=True)
        self._session = session
        session.connection.execute(in_schema("".join(f"DELETE FROM squidmesh.{table};" for table in TABLES)))
        new = NewRuns(
            ids=[RUN_ID],
            payloads=["{}"],
            workflow=self.run.workflow,
            fingerprint=self.run.fingerprint,
            trigger=self.run.trigger,
            plan=plan_start(self.graph, blank(definition)),
        )
        session.run(start_runs(new, CHANNEL, always_notify=False))
        if new.plan.audits:
            session.run(insert_audits([(RUN_ID, audit) for audit in new.plan.audits]))
        self.compare()

    def claim(self, slot: int, worker: UUID = WORKER) -> Job:
        """The database chooses among jobs that are alike; the model follows."""
        wanted, number = self.jobs[slot], self._claims + 1
        if wanted.state is JobState.PARKED:
            knows = [f"{self.run.workflow}/{wanted.kind}/{wanted.step}"]
            found = self._session.run(adopt_jobs(worker, number, rooms(1), knows))
        elif wanted.meters is not None:
            found = self._session.run(_claim_metered(worker, number))
        else:
            found = self._session.run(claim_jobs(worker, number, rooms(1, lane=wanted.lane)))
        (claimed,) = found
        job = super().claim(claimed.slot, worker)
        assert claimed == job
        self.compare()
        return job

    def wake(self, slot: int) -> None:
        due = "UPDATE squidmesh.jobs SET run_at = squidmesh.clock() WHERE slot = %s AND state = 'sleeping'"
        self._session.connection.execute(in_schema(due), [slot])
        assert self._session.run(wake_jobs({"default": 1})).count == 1
        super().wake(slot)
        self.compare()

    def apply(self, plan: Plan) -> None:
        super().apply(plan)
        plan.attempts = [as_json(attempt) for attempt in plan.attempts]
        save(self._session, plan)
        self.compare()

    def compare(self) -> None:
        assert self._session.run(lock_run(RUN_ID)) == self.run
        jobs = self._session.run(lock_jobs([RUN_ID]))
        assert jobs == [job for _, job in sorted(self.jobs.items())]
        assert self._session.run(read_signals([RUN_ID])) == [(RUN_ID, signal) for signal in self.kept]

    def votes(self) -> dict[str, list[Vote]]:
        found, _ = self._session.run(read_votes(RUN_ID))
        assert found == super().votes()
        return found

    def _newest_completion(self, below: int) -> Completion | None:
        asked = [(RUN_ID, below, list(self.graph.members(self.graph.undoable)))]
        ((_, _, found),) = self._session.run(read_completions(asked))
        assert found == super()._newest_completion(below)
        return found

    def compare_history(self) -> None:
        attempts = [as_json(a) for a in self.history if isinstance(a, NewAttempt) and a.kind != "snapshot"]
        found = self._session.run(read_history(RUN_ID, -1, 10_000))
        for new, old in zip(attempts, found, strict=True):
            for name in (
                "seq",
                "step",
                "visit",
                "attempt",
                "status",
                "outcome",
                "error",
                "worker",
                "saw",
                "takes",
                "kind",
            ):
                assert getattr(new, name) == getattr(old, name), name
            assert old.output == (None if new.output is None else json.loads(new.output.text))
        audits = self._session.run(read_audits(RUN_ID, -1, None))
        said = [(a.seq, a.type, a.step, a.actor, a.comment, a.metadata) for a in self.audits]
        assert [(a.seq, a.type, a.step, a.actor, a.comment, a.metadata) for a in audits] == said


def as_json(attempt: NewAttempt) -> NewAttempt:
    """The model's outputs are anything of a certain weight; the database wants JSON of that weight."""
    if attempt.output is None or attempt.output.text.startswith("{"):
        return attempt
    text = json.dumps({"n": ""})
    return replace(attempt, output=Output(text.replace('""', f'"{"x" * (len(attempt.output.text) - len(text))}"'), {}))


@pytest.fixture(scope="module")
def session(store_dsn: str) -> Iterator[Session]:
    session = Session(store_dsn)
    yield session
    session.connection.execute(in_schema("".join(f"DELETE FROM squidmesh.{table};" for table in TABLES)))
    session.close()


@settings(max_examples=60)
@given(definition=definitions(), chosen=choices())
def test_a_run_in_the_database_is_the_run_in_memory(session: Session, definition: Definition, chosen: Choices) -> None:
    mirrored = Mirrored(definition, session)
    for _ in Driver(mirrored, chosen).turns():
        assert mirrored.history == sorted(mirrored.history, key=lambda row: row.seq)
    mirrored.compare_history()


@settings(max_examples=60)
@given(definition=definitions(people=True), chosen=choices())
def test_a_run_that_people_have_to_do_with_is_the_same_in_both(
    session: Session, definition: Definition, chosen: Choices
) -> None:
    """Gates, signals kept and consumed, votes, compensations, deadlines, retries."""
    mirrored = Mirrored(definition, session)
    driver = Driver(mirrored, chosen, people=True)
    for _ in driver.turns():
        pass
    mirrored.compare_history()
    for name, number in driver.sent:
        assert session.run(find_signal(RUN_ID, name, str(number)))
    ended = {a.seq for a in mirrored.attempts if a.status == "completed"}
    consumed = session.rows("SELECT consumed_by FROM squidmesh.signals WHERE consumed_by IS NOT NULL")
    assert {seq for (seq,) in consumed} <= ended
    assert len(consumed) + len(mirrored.kept) == len(driver.sent)
