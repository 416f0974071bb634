"""What is offered may be done, and what is not offered may not: tried on runs of every kind, wherever they stand."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squidmesh.errors import SquidMeshError
from squidmesh.explanation import Action, Reason
from squidmesh.meters import MeterTable, Rate
from squidmesh.planner.decisions import RESOLUTIONS
from squidmesh.planner.explain import MOST_TOLD
from squidmesh.planner.sight import SeenMeter
from squidmesh.records import JobKind
from squidmesh.states import JobState
from tests.effort import EXAMPLES
from tests.property.sights import explained
from tests.property.simulator import NOW, Simulator
from tests.property.strategies import choices, flow
from tests.property.wanderer import rich_definitions, wander

if TYPE_CHECKING:
    from squidmesh.definition import Definition
    from squidmesh.planner.plan import Plan
    from tests.property.strategies import Choices

trying = settings(max_examples=3 * EXAMPLES)

SHUT = {
    Reason.KEY_PAUSED: SeenMeter(kind="limit", name="w/s", paused_until=NOW + timedelta(seconds=1)),
    Reason.WAITING_FOR_LIMIT: SeenMeter(kind="limit", name="w/s", held=2),
    Reason.WAITING_FOR_RATE: SeenMeter(kind="rate", name="w/s", tokens=0.0, refilled_ago=1.0),
}
KNOWN = MeterTable({"w/s": 2}, {"w/s": Rate(1, per=60)})

SERVED = (JobKind.STEP, JobKind.WAIT, JobKind.COMPENSATION)
"""What gets on when a worker takes it, and not when a person decides."""

DECISIONS = ("approve_run", "reject_run", "unblock_run", "retry_run", "cancel_run")


def do(sim: Simulator, action: Action) -> Plan | None:
    """Do what is offered; None if it changes nothing. What only the caller can give is given."""
    said = action.arguments
    match action.name:
        case "approve_run" | "reject_run":
            assert action.needs == ("actor",)
            return sim.review(said["step"], "somebody new", approve=action.name == "approve_run")
        case "unblock_run":
            return sim.unblock(said["step"], said.get("resolution"))
        case "send_signal":
            assert action.needs == ("payload",)
            return sim.signal(said["name"], {}, key="new")
        case "retry_run":
            return sim.retry()
        case _:
            assert action.name == "cancel_run", action
            return sim.cancel(**said)


def forms(sim: Simulator, name: str) -> list[Action]:
    """Every way to ask for one of the decisions."""
    said: dict[str, list[dict[str, object]]] = {
        "unblock_run": [{"step": step, "resolution": r} for step in sim.graph.names for r in (None, *RESOLUTIONS)],
        "retry_run": [{}],
        "cancel_run": [{}, {"compensate": True}, {"force": True}],
    }
    reviewed: list[dict[str, object]] = [{"step": step} for step in sim.graph.names]
    needs = ("actor",) if name in ("approve_run", "reject_run") else ()
    return [Action(name, arguments, "", needs) for arguments in said.get(name, reviewed)]


def refused(sim: Simulator, action: Action) -> bool:
    """Whether the planner refuses it, or has nothing to change."""
    try:
        return do(sim.fork(), action) is None
    except SquidMeshError:
        return True


@trying
@given(rich_definitions(), choices())
def test_what_is_offered_is_accepted_and_what_is_not_is_refused(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in wander(sim, chosen):
        offered = explained(sim).next_actions
        for action in offered:
            if action.name != "replay_run":
                assert do(sim.fork(), action) is not None, action
        about = {(action.name, action.arguments.get("step")) for action in offered}
        for name in DECISIONS:
            for form in forms(sim, name):
                if (name, form.arguments.get("step")) not in about:
                    assert refused(sim, form), f"{form} is not offered"
        cancels = [action.arguments for action in offered if action.name == "cancel_run"]
        if {} not in cancels:
            assert refused(sim, Action("cancel_run", {}, "")), "it may be cancelled only by force"


@trying
@given(rich_definitions(), choices())
def test_a_run_always_has_a_reason_that_fits_its_status(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in wander(sim, chosen):
        why = explained(sim)
        reasons = [cause.reason for cause in why.causes]
        assert why.status in (sim.run.status, sim.shown)
        assert Reason.INCONSISTENT not in reasons
        assert reasons == sorted(reasons, key=lambda reason: reason.precedence)
        assert why.summary[0].isupper() or why.summary[0].isdigit()
        assert why.summary.endswith(".")
        assert (why.reason.precedence >= Reason.DEADLINE_EXCEEDED.precedence) == (
            sim.run.status.terminal and why.reason is not Reason.NOT_COMPENSATED
        )
        if why.reason.precedence <= Reason.PAUSED_FOR_MANUAL_ACTION.precedence:
            assert sim.run.attention or sim.run.progress.gates, "a person is needed, and the run says so"
        told = {cause.step for cause in why.causes}
        assert set(filter(None, sim.live)) <= told or len(why.also) == MOST_TOLD, "every live step has its cause"


@trying
@given(rich_definitions(), choices())
def test_nothing_is_said_to_go_on_by_itself_where_no_worker_is_alive(definition: Definition, chosen: Choices) -> None:
    sim = Simulator(definition)
    for _ in wander(sim, chosen):
        why = explained(sim, servers=0, knowing=0)
        reasons = {cause.reason for cause in why.causes}
        waiting = [job for job in sim.jobs.values() if job.state is JobState.READY and job.kind in SERVED]
        assert (Reason.NO_WORKER_FOR_QUEUE in reasons) >= bool(waiting)
        assert not reasons & {Reason.QUEUED, Reason.STEP_SCHEDULED, Reason.PENDING_DISPATCH, Reason.RESCUED, *SHUT}


@trying
@given(rich_definitions(), choices(), st.sampled_from(list(SHUT)))
def test_what_keeps_a_ready_step_waiting_is_told_of_each_and_of_no_other(
    definition: Definition, chosen: Choices, reason: Reason
) -> None:
    sim = Simulator(definition)
    for _ in wander(sim, chosen):
        why = explained(sim, known=KNOWN, meters=(SHUT[reason],))
        waiting = {job.step for job in sim.jobs.values() if job.state is JobState.READY and job.kind in SERVED}
        told = {cause.step for cause in why.causes if cause.reason in (reason, Reason.RESCUED)}
        assert waiting <= told or len(why.also) == MOST_TOLD
        assert not {cause.reason for cause in why.causes} & {*SHUT} - {reason}
        assert not waiting & {cause.step for cause in why.causes if cause.reason is Reason.PENDING_DISPATCH}


def test_nothing_is_offered_for_a_run_whose_rows_contradict_each_other() -> None:
    sim = Simulator(flow("a -> b"))
    sim.jobs.clear()
    why = explained(sim)
    assert (why.reason, why.next_actions) == (Reason.INCONSISTENT, ())
    with pytest.raises(SquidMeshError):
        sim.cancel()
