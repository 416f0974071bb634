"""What must hold for every workflow and every order of events, tried on random ones.

``SQUIDMESH_PROPERTY_EXAMPLES=5000`` tries harder.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squidmesh.definition import Definition, Options, Step, StepKind, Transition
from squidmesh.planner.draft import SNAPSHOT_FACTOR, SNAPSHOT_FLOOR
from squidmesh.planner.facts import Facts, NeedsMore
from squidmesh.planner.outcome import Abandoned, Completed, Deferred, Failed, Returned, TimedOut
from squidmesh.planner.planner import CRASH_BUDGET, plan_cancel, plan_findings, plan_watch
from squidmesh.retry import NEVER, Retry
from squidmesh.states import RUN_MOVES, AttemptStatus, JobState, RunStatus, may_move, shown_status
from tests.effort import EXAMPLES
from tests.property.driver import Driver, moves_that_occur
from tests.property.reference import Retelling, noted, reached, visits_of, what_follows
from tests.property.simulator import Simulator, stored
from tests.property.strategies import RETRIES, choices, definitions

if TYPE_CHECKING:
    from squidmesh.planner.outcome import Finding, Happening
    from tests.property.driver import Turn
    from tests.property.strategies import Choices

trying = settings(max_examples=EXAMPLES)


# -- a run gets to its end, and stays there ----------------------------------------------------------------------------


@trying
@given(definitions(), choices())
def test_a_run_that_is_driven_on_ends_or_waits_for_a_human(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in Driver(sim, chosen).turns():
        assert sim.run.status.terminal == (not sim.jobs), "nothing is live exactly when the run has ended"
    if sim.jobs:
        assert sim.run.status is RunStatus.PAUSED
        assert all(sim.waits_for_human(job) for job in sim.jobs.values())
        assert sim.run.attention in [job.reason for job in sim.jobs.values()], "what it waits for is said"


@trying
@given(definitions(), choices())
def test_a_completed_run_leaves_no_join_undecided(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in Driver(sim, chosen).turns():
        if sim.run.status is RunStatus.COMPLETED:
            assert not sim.run.progress.marked
            assert not sim.run.progress.spoiled


@trying
@given(definitions(), choices())
def test_a_run_that_is_ending_schedules_nothing_and_waits_only_for_what_executes(
    definition: Definition, chosen: Choices
) -> None:
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        if sim.run.status.ending or sim.run.status.terminal:
            assert not turn.plan.moved
            assert not turn.plan.added
            assert all(job.state is JobState.CLAIMED for job in sim.jobs.values())
        assert turn.plan.flag == (sim.run.status.ending and not turn.run.status.ending)


@trying
@given(definitions(), choices())
def test_nothing_changes_a_run_after_its_end(definition: Definition, chosen: Choices) -> None:
    """Late findings (of a worker that was declared dead, say) are discarded, whatever was noted for joins."""
    sim = Simulator(definition)
    late: list[Finding] = []
    for turn in Driver(sim, chosen).turns():
        late += turn.findings
    if sim.run.status.terminal:
        plan = sim.decide(*late)
        assert not plan.changes
        assert plan.discarded == late
        assert (plan.status, plan.attention, plan.error) == (sim.run.status, sim.run.attention, sim.run.error)
        assert plan_watch(sim.graph, sim.run) is None


# -- a fact counts once ------------------------------------------------------------------------------------------------


@trying
@given(definitions(), choices())
def test_a_fact_is_decided_once(definition: Definition, chosen: Choices) -> None:
    """The same findings again, or any under another claim number or by another worker, change nothing."""
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        again = sim.decide(*turn.findings)
        assert not again.changes
        assert again.discarded == list(turn.findings)
        assert again.status is sim.run.status
        forged = [
            forged
            for slot in sim.slots(JobState.CLAIMED)
            for real in [sim.finding(slot, Completed())]
            for forged in (replace(real, claim=real.claim - 1), replace(real, worker=UUID(int=9)))
        ]
        plan = sim.decide(*forged)
        assert not plan.changes
        assert plan.discarded == forged


@trying
@given(definitions(), choices())
def test_two_findings_of_one_job_in_a_batch_count_once(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in Driver(sim, chosen).turns():
        for slot in sim.slots(JobState.CLAIMED):
            well, badly = sim.finding(slot, Completed()), sim.finding(slot, Failed({"retryable": False}))
            once, twice = sim.decide(well), sim.decide(well, badly)
            assert twice.discarded == [badly]
            assert replace(twice, discarded=[]) == once


# -- the history explains the state ------------------------------------------------------------------------------------


@trying
@given(definitions(), choices())
def test_the_history_explains_the_state(definition: Definition, chosen: Choices) -> None:
    """From the definition and the rows of the history, a slow model of the design's rules tells the very same state.

    It is told which rows were saved together, because joins are decided at the end of a save. One thing leaves no
    row: a run of which something was handed out, and did nothing yet but ask to come back later.
    """
    sim, told = Simulator(definition), Retelling(definition)
    for turn in Driver(sim, chosen).turns():
        if turn.plan.changes:
            told.hear(sim.turns[-1])
        only_deferred = told.status is RunStatus.PENDING and sim.run.status is RunStatus.RUNNING
        assert sim.run.status is told.status or only_deferred
        assert visits_of(sim) == Counter((v.step, v.number, v.attempt, v.gate) for v in told.live)
        assert reached(sim) == told.visits
        if told.ending is None:
            assert noted(sim) == told.ended


@trying
@given(definitions(), choices())
def test_the_counts_are_those_of_the_jobs(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in Driver(sim, chosen).turns():
        jobs, progress = list(sim.jobs.values()), sim.run.progress
        gates = [job for job in jobs if sim.waits_for_human(job)]
        assert progress.live_count == len(jobs)
        assert set(sim.graph.members(progress.live)) == set(sim.live)
        assert progress.twice == {step: n for step, n in Counter(sim.live).items() if n > 1}
        assert progress.gates == len(gates)
        assert progress.retrying == sum(job.attempt > 1 for job in jobs if job not in gates)
        assert progress.slots > max(sim.jobs, default=-1)


@trying
@given(definitions(), choices())
def test_the_places_in_the_history_are_dense(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition, may_snapshot=True)
    for _ in Driver(sim, chosen).turns():
        assert [row.seq for row in sim.history] == list(range(sim.run.seq))


@trying
@given(definitions(), choices())
def test_every_attempt_at_a_visit_sees_what_the_first_one_saw(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition, may_snapshot=True)
    saws = {(job.step, job.visit): job.saw for job in sim.jobs.values()}
    for _ in Driver(sim, chosen).turns():
        for job in sim.jobs.values():
            assert saws.setdefault((job.step, job.visit), sim.run.seq) == job.saw, "a new visit sees all there is"
    for attempt in sim.attempts:
        assert attempt.saw <= attempt.seq
        if attempt.worker is not None:
            assert saws[attempt.step, attempt.visit] == attempt.saw


@trying
@given(definitions(), choices())
def test_outputs_never_outweigh_the_snapshot_by_much(definition: Definition, chosen: Choices) -> None:
    """Wherever the context is at hand, a snapshot is taken once it is due."""
    sim = Simulator(definition, may_snapshot=True)
    for turn in Driver(sim, chosen).turns():
        if not sim.run.status.terminal and turn.findings:
            assert sim.run.progress.weight <= SNAPSHOT_FACTOR * max(sim.run.progress.snapshot, SNAPSHOT_FLOOR)


# -- moves -------------------------------------------------------------------------------------------------------------


@trying
@given(definitions(), choices())
def test_every_move_is_listed(definition: Definition, chosen: Choices) -> None:
    """As stored, directly or by way of ``running`` (a claim does not write the run); as shown, always directly."""
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        old, new = turn.run.status, turn.plan.status
        claimed = any(job.state is JobState.CLAIMED for job in turn.jobs.values())
        assert may_move(RUN_MOVES, old, new) or may_move(RUN_MOVES, shown_status(old, claimed=claimed), new)
        assert may_move(RUN_MOVES, *turn.plan.shown_move)
        assert turn.plan.finished == (new.terminal and old is not new)


def test_every_listed_move_occurs() -> None:
    """All that can happen to a few steps, and all that can be asked of their runs, makes every move there is."""
    retried = Step(name="retried", start=True, options=Options(retry=Retry(max_attempts=2)))
    undone = Step(name="undone", start=True, compensate="undo", options=Options(compensate_retry=NEVER))
    vote = Step(name="vote", kind=StepKind.APPROVAL, settings={"deadline": 5.0})
    stop = Step(name="stop", kind=StepKind.PAUSE, start=True)
    go = Step(name="go", kind=StepKind.SIGNAL, settings={"signal": "go", "timeout": 5.0})
    definitions = (
        Definition(
            "two",
            (retried, Step(name="careful", start=True, irreversible=True), Step(name="last")),
            (Transition("retried", "ok", "last"),),
        ),
        Definition("undone", (undone, vote), (Transition("undone", "ok", "vote"),), deadline=60.0),
        Definition("undone beside a retry", (undone, retried), ()),
        Definition("late", (Step(name="late"),), (), deadline=60.0),
        Definition("paused", (stop, go), (Transition("stop", "ok", "go"),), deadline=60.0),
        Definition("paused beside a retry", (stop, retried), (), deadline=60.0),
    )
    listed = {(old, new) for old, moves in RUN_MOVES.items() for new in moves}
    occurring = set[tuple[RunStatus, RunStatus]]().union(*map(moves_that_occur, definitions))
    assert listed - occurring == set()


# -- batches -----------------------------------------------------------------------------------------------------------


@trying
@given(definitions(loops=False), choices(), choices())
def test_batching_and_order_are_immaterial_where_no_step_is_reached_twice(
    definition: Definition, decided: Choices, chosen: Choices
) -> None:
    """What runs and what is skipped follows from the graph and how each step ends; no schedule can change it.

    With loops that holds no more: a dependency that ends twice in one batch is noted once, so a join fires once where
    it might have fired twice (tests/unit/test_joins.py tells the story).
    """
    named = {edge.source for edge in definition.transitions if edge.outcome == "review"}
    outcomes = {s.name: decided.among(("ok", "review")) if s.name in named else "ok" for s in definition.steps}
    sim = Simulator(definition)
    for _ in Driver(sim, chosen, outcomes=outcomes, most_at_once=7).turns():
        pass
    runs, skipped = what_follows(definition, outcomes)
    assert sim.run.status is RunStatus.COMPLETED
    assert sorted((a.step, a.visit, a.status) for a in sim.attempts) == sorted(
        (step, 1, AttemptStatus.COMPLETED) for step in runs
    )
    assert sorted(str(audit.step) for audit in sim.audits if audit.type == "skipped") == sorted(skipped)


@trying
@given(definitions(joins=False), choices())
def test_without_joins_a_batch_is_the_same_as_one_by_one(definition: Definition, chosen: Choices) -> None:
    """But for what the new visits see: in a batch, the outputs of all of it."""
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        other = sim.fork(turn.run, turn.jobs)
        for finding in turn.findings:
            other.save(finding)
        if turn.findings:
            assert [replace(j, saw=0) for j in other.jobs.values()] == [replace(j, saw=0) for j in sim.jobs.values()]
            assert (other.run.status, other.run.error) == (sim.run.status, sim.run.error)
            assert rows_since(other, turn) == rows_since(sim, turn)


def rows_since(sim: Simulator, turn: Turn) -> Counter[tuple[object, ...]]:
    """What was added to the history by a turn, in whatever order."""
    attempts = Counter[tuple[object, ...]](
        (a.step, a.visit, a.attempt, a.status, a.outcome) for a in sim.attempts if a.seq >= turn.run.seq
    )
    return attempts + Counter((a.step, a.type) for a in sim.audits if a.seq >= turn.run.seq)


# -- promises ----------------------------------------------------------------------------------------------------------

HARDSHIPS: Final[tuple[Happening, ...]] = (
    Failed({"retryable": True}),
    TimedOut({"retryable": True}),
    Abandoned({}),
    Abandoned({}, cut_off=True),
    Deferred(1.0, "later"),
    Returned(),
)


@trying
@given(st.sampled_from(RETRIES), st.booleans(), st.lists(st.sampled_from(HARDSHIPS), max_size=20))
def test_a_body_starts_as_often_as_promised(retry: Retry, irreversible: bool, hardships: list[Happening]) -> None:
    """At most attempts + crash budget times, plus cut-offs, defers, and one start that nobody can prove."""
    step = Step(name="hard", irreversible=irreversible, options=Options(retry=retry))
    sim = Simulator(Definition("one", (step,), ()))
    endured: list[Happening] = []
    for hardship in hardships:
        if any(not sim.waits_for_human(job) for job in sim.jobs.values()):
            sim.end("hard", hardship)
            endured.append(hardship)
    starts = [h for h in endured if not isinstance(h, Returned)]
    free = [h for h in starts if isinstance(h, Deferred) or (isinstance(h, Abandoned) and h.cut_off)]
    assert len(starts) - len(free) <= retry.max_attempts + CRASH_BUDGET + 1
    late = 0 if irreversible else sum(isinstance(h, TimedOut) for h in starts)
    assert sum(isinstance(h, Failed) for h in starts) + late <= retry.max_attempts
    if irreversible:
        assert sum(isinstance(h, Abandoned | TimedOut) for h in starts) <= 1, "an interrupted one is never run again"


@trying
@given(definitions(), choices())
def test_the_attempts_at_a_visit_are_numbered_without_gaps(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in Driver(sim, chosen).turns():
        pass
    numbers: dict[tuple[str, int], list[int]] = {}
    for attempt in sim.attempts:
        if attempt.status in (AttemptStatus.COMPLETED, AttemptStatus.FAILED):
            numbers.setdefault((attempt.step, attempt.visit), []).append(attempt.attempt)
    for (step, _), taken in numbers.items():
        assert taken == list(range(1, len(taken) + 1))
        assert len(taken) <= definition.by_name[step].options.retry.max_attempts


# -- values in, values out ---------------------------------------------------------------------------------------------


@trying
@given(definitions(), choices())
def test_planning_changes_nothing_that_it_was_given(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        before = deepcopy((turn.run, turn.jobs, turn.findings))
        plan_findings(sim.graph, turn.run, turn.jobs, turn.findings, may_snapshot=True)
        plan_watch(sim.graph, turn.run)
        if not turn.run.status.ending:
            plan_cancel(sim.graph, turn.run, turn.jobs, Facts(), actor=None, comment=None)
        assert (turn.run, turn.jobs, turn.findings) == before


@trying
@given(definitions(), choices())
def test_all_jobs_are_asked_for_only_when_a_run_begins_to_fail(definition: Definition, chosen: Choices) -> None:
    """Given all of them, the planner never asks again; given some, it decides the same, or asks."""
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        if not turn.findings:
            continue
        some = {finding.slot: turn.jobs[finding.slot] for finding in turn.findings}
        plan = plan_findings(sim.graph, turn.run, turn.jobs, turn.findings)
        assert plan == turn.plan
        begins_to_fail = plan.status in (RunStatus.FAILING, RunStatus.FAILED) and not turn.run.status.ending
        if begins_to_fail and len(some) < len(turn.jobs):
            with pytest.raises(NeedsMore):
                plan_findings(sim.graph, turn.run, some, turn.findings)
        else:
            assert plan_findings(sim.graph, turn.run, some, turn.findings) == plan


@trying
@given(definitions(), choices())
def test_progress_survives_storage(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for turn in Driver(sim, chosen).turns():
        assert stored(turn.plan.progress) == turn.plan.progress
