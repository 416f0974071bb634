"""What must hold whatever people and the world outside do: decide, send, unblock, cancel, undo, retry, replay."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from hypothesis import given, settings

from squidmesh.errors import NotRetryable
from squidmesh.planner.outcome import Failed
from squidmesh.planner.plan import NewAttempt
from squidmesh.records import DEADLINE_SLOT, JobKind
from squidmesh.states import RUN_MOVES, AttemptStatus, JobState, ParkedReason, RunStatus, may_move
from tests.effort import EXAMPLES
from tests.property.driver import Driver
from tests.property.reference import Retelling, is_gate, noted, reached, visits_of, what_follows
from tests.property.simulator import Simulator, stored
from tests.property.strategies import choices, definitions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.definition import Definition
    from squidmesh.planner.outcome import Happening
    from squidmesh.records import Job
    from tests.property.driver import Turn
    from tests.property.strategies import Choices

trying = settings(max_examples=EXAMPLES * 3)
life: Final = given(definitions(people=True), choices())


def lived(definition: Definition, chosen: Choices) -> Iterator[tuple[Simulator, Driver, Turn]]:
    sim = Simulator(definition, may_snapshot=True)
    driver = Driver(sim, chosen, people=True)
    for turn in driver.turns():
        yield sim, driver, turn


def end_of(definition: Definition, chosen: Choices) -> Simulator:
    """A run that was driven to its end."""
    sim = Simulator(definition, may_snapshot=True)
    for _ in Driver(sim, chosen, people=True).turns():
        pass
    return sim


def attempts(sim: Simulator, kind: str = "step") -> list[NewAttempt]:
    return [row for row in sim.history if isinstance(row, NewAttempt) and row.kind == kind]


def steps(sim: Simulator) -> list[Job]:
    return [job for job in sim.jobs.values() if job.kind != JobKind.TIMER]


@trying
@life
def test_every_run_comes_to_its_end_and_the_history_explains_the_state(definition: Definition, chosen: Choices) -> None:
    """Whoever has decided what: from the rows alone, a slow model of the design's rules tells the very same state."""
    told = Retelling(definition)
    sim = Simulator(definition)
    saved = len(sim.turns)
    for turn in Driver(sim, chosen, people=True).turns():
        too_late = turn.plan.error is not None and turn.plan.error["type"] == "DeadlineExceeded"
        if turn.plan.changes:
            (rows,) = sim.turns[saved:]
            told.hear(rows, too_late=too_late and turn.run.progress.deadline)
            saved += 1
        only_deferred = told.status is RunStatus.PENDING and sim.run.status is RunStatus.RUNNING
        assert sim.run.status is told.status or only_deferred
        assert visits_of(sim) == Counter((v.step, v.number, v.attempt, v.gate) for v in told.live)
        assert reached(sim) == told.visits
        if told.ending is None:
            assert noted(sim) == told.ended
    assert sim.run.status.terminal


@trying
@life
def test_the_counts_are_those_of_the_jobs_and_attention_says_what_is_wanted(
    definition: Definition, chosen: Choices
) -> None:
    for sim, _, turn in lived(definition, chosen):
        jobs, progress, status = steps(sim), sim.run.progress, sim.run.status
        troubles = [
            str(j.reason) for j in jobs if j.state is JobState.PARKED and ParkedReason(str(j.reason)).is_trouble
        ]
        assert progress.live_count == len(jobs)
        assert progress.twice == {step: n for step, n in Counter(job.step for job in jobs).items() if n > 1}
        assert progress.gates == sum(is_gate(job) for job in jobs)
        assert progress.troubles == len(troubles)
        assert progress.retrying == sum(job.attempt > 1 for job in jobs if not is_gate(job))
        assert stored(turn.plan.progress) == turn.plan.progress
        assert [row.seq for row in sim.history] == list(range(sim.run.seq)), "the places in the history are dense"
        undo = progress.undo
        if troubles:
            assert sim.run.attention in troubles
        elif status is RunStatus.CANCELLED:
            assert sim.run.attention == ("not_compensated" if undo and undo.left else None)
        elif status in (RunStatus.FAILING, RunStatus.FAILED) or (undo and not undo.cancelled):
            assert sim.run.attention == "failed"
        else:
            assert sim.run.attention == ("paused" if progress.gates else None)


@trying
@life
def test_no_run_is_ever_stuck_and_its_deadline_is_there_while_it_may_fire(
    definition: Definition, chosen: Choices
) -> None:
    for sim, _, turn in lived(definition, chosen):
        status = sim.run.status
        assert bool(steps(sim)) == (not status.terminal), "somebody, time or the world can always move it"
        limited = definition.deadline is not None and not (status.ending or status.terminal)
        assert (DEADLINE_SLOT in sim.jobs) == sim.run.progress.deadline == limited
        old, new = turn.run.status, turn.plan.status
        assert may_move(RUN_MOVES, *turn.plan.shown_move)
        assert turn.plan.finished == (new.terminal and not old.terminal)
        if status.ending and status is not RunStatus.COMPENSATING:
            assert all(job.state is JobState.CLAIMED for job in steps(sim))


@trying
@life
def test_no_visit_completes_twice_and_nothing_happens_to_it_after_that(definition: Definition, chosen: Choices) -> None:
    sim = end_of(definition, chosen)
    done: set[tuple[str, int]] = set()
    for attempt in attempts(sim):
        assert (attempt.step, attempt.visit) not in done
        if attempt.status is AttemptStatus.COMPLETED:
            done.add((attempt.step, attempt.visit))


@trying
@life
def test_what_completed_is_undone_once_the_newest_first_when_nothing_executes(
    definition: Definition, chosen: Choices
) -> None:
    for sim, _, turn in lived(definition, chosen):
        kinds = [job.kind for job in steps(sim)]
        if sim.run.status is RunStatus.COMPENSATING:
            assert kinds == [JobKind.COMPENSATION], "one at a time, and nothing beside"
        else:
            assert JobKind.COMPENSATION not in kinds
        undo = sim.run.progress.undo
        begun = any(row.type == "compensating" for row in sim.audits)
        undoable = [(a.seq, a.step, a.visit) for a in attempts(sim) if a.status is AttemptStatus.COMPLETED]
        undoable = [done for done in undoable if definition.by_name[done[1]].compensate]
        tried = [key for key, _ in Counter((a.saw, a.step, a.visit) for a in attempts(sim, "compensation")).items()]
        newest_first = [(seq + 1, step, visit) for seq, step, visit in reversed(undoable)]
        assert tried == newest_first[: len(tried)]
        completed = [a for a in attempts(sim, "compensation") if a.status is AttemptStatus.COMPLETED]
        assert len({(a.step, a.visit) for a in completed}) == len(completed)
        if sim.run.status is RunStatus.FAILED:
            assert begun == bool(undoable), "a run that fails undoes all there is"
        if begun and sim.run.status.terminal:
            assert undo is not None
            assert (undo.undone, undo.undone + undo.left) == (len(completed), len(undoable))
            assert turn.plan.finished


@trying
@life
def test_a_signal_is_consumed_once_and_in_order_of_arrival(definition: Definition, chosen: Choices) -> None:
    for sim, driver, _ in lived(definition, chosen):
        for name in ("go", "stop"):
            sent = [number for called, number in driver.sent if called == name]
            consumed: list[object] = [
                a.output.value["said"]
                for a in attempts(sim)
                if definition.by_name[a.step].settings.get("signal") == name and a.output and a.worker is None
                and a.output.value.get("said") is not None
            ]  # fmt: skip
            kept: list[object] = [signal.payload for signal in sim.kept if signal.name == name]
            assert consumed + kept == sent
            assert sim.run.progress.signals.get(name, 0) == len(kept)
            if kept and sim.run.status not in (RunStatus.FAILED, RunStatus.CANCELLED) and not sim.run.status.ending:
                waiting = [j for j in steps(sim) if j.kind == JobKind.SIGNAL]
                assert all(definition.by_name[job.step].settings["signal"] != name for job in waiting)


@trying
@life
def test_an_approval_needs_so_many_different_people(definition: Definition, chosen: Choices) -> None:
    sim = end_of(definition, chosen)
    votes: dict[tuple[str | None, int], list[str]] = {}
    for audit in sim.audits:
        if audit.type in ("voted", "approved"):
            assert audit.step is not None
            key = audit.step, audit.metadata["visit"]
            votes.setdefault(key, []).append(repr(audit.actor))
            assert len(set(votes[key])) == len(votes[key])
            needed = definition.by_name[audit.step].settings["approvers"]
            assert (len(votes[key]) == needed) == (audit.type == "approved")


# -- going on ----------------------------------------------------------------------------------------------------------


class FailingOnce(Driver):
    """Drives a run of which some steps fail once, for good, before they end as they should."""

    failing: set[str]

    def _happening(self, job: Job) -> Happening:
        if job.step in self.failing:
            self.failing.discard(job.step)
            return Failed({"type": "Error", "message": "it broke"}, retryable=False)
        return super()._happening(job)


@trying
@given(definitions(loops=False), choices(), choices())
def test_a_run_that_is_retried_ends_as_if_nothing_had_happened(
    definition: Definition, decided: Choices, chosen: Choices
) -> None:
    named = {edge.source for edge in definition.transitions if edge.outcome == "review"}
    caught = {edge.source for edge in definition.transitions if edge.outcome == "error"}
    outcomes = {s.name: decided.among(("ok", "review")) if s.name in named else "ok" for s in definition.steps}
    sim = Simulator(definition)
    driver = FailingOnce(sim, chosen, outcomes=outcomes, most_at_once=7)
    driver.failing = {s.name for s in definition.steps if s.name not in caught and decided.once_in(2)}
    while True:
        for _ in driver.turns():
            pass
        if sim.run.status is not RunStatus.FAILED:
            break
        sim.retry()
    runs, skipped = what_follows(definition, outcomes)
    assert sim.run.status is RunStatus.COMPLETED
    done = sorted((a.step, a.visit) for a in sim.attempts if a.status is AttemptStatus.COMPLETED)
    assert done == sorted((step, 1) for step in runs)
    assert sorted(str(audit.step) for audit in sim.audits if audit.type == "skipped") == sorted(skipped)
    assert not sim.run.progress.retried


@trying
@given(definitions(loops=False), choices(), choices())
def test_a_replay_from_a_step_leads_to_the_same_end(definition: Definition, decided: Choices, chosen: Choices) -> None:
    """What is copied and what runs again are together what the source did, each once."""
    named = {edge.source for edge in definition.transitions if edge.outcome == "review"}
    outcomes = {s.name: decided.among(("ok", "review")) if s.name in named else "ok" for s in definition.steps}
    source = Simulator(definition)
    for _ in Driver(source, chosen, outcomes=outcomes).turns():
        pass
    step = decided.among(sorted(a.step for a in source.attempts))
    sim, replay = source.replay(step)
    assert step in sim.live
    assert set(replay.repeated).isdisjoint(replay.copied)
    for _ in Driver(sim, chosen, outcomes=outcomes).turns():
        pass
    assert sim.run.status is source.run.status is RunStatus.COMPLETED
    ended = [(a.step, a.visit, a.outcome) for a in (*attempts(sim, "copied"), *sim.attempts)]
    assert sorted(ended) == sorted((a.step, a.visit, a.outcome) for a in source.attempts)
    assert Counter(a.step for a in sim.audits if a.type == "skipped") == Counter(
        a.step for a in source.audits if a.type == "skipped"
    )
    assert {a.step for a in sim.attempts} == set(replay.repeated)


@trying
@life
def test_a_failed_run_that_is_retried_has_back_what_it_lost(definition: Definition, chosen: Choices) -> None:
    """Each visit that was live or failed is live again, under its number, and it saw what it saw."""
    sim = end_of(definition, chosen)
    if sim.run.status is not RunStatus.FAILED:
        return
    since = {(a.step, a.visit): a for a in attempts(sim) if a.seq >= sim.run.progress.failed_at}
    lost = {key: a.saw for key, a in since.items() if a.status is not AttemptStatus.COMPLETED}
    signals = sim.run.progress.signals.copy()
    try:
        sim.retry()
    except NotRetryable:
        return
    back = {(job.step, job.visit): job.saw for job in steps(sim)}
    for key, saw in lost.items():
        assert back.get(key, saw if signals else None) == saw
