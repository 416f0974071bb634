"""Where steps stand, derived from their jobs and attempts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from squidmesh import StepStatus, Workflow
from squidmesh.planner.graph import Graph
from squidmesh.planner.history import history_of
from squidmesh.records import History, JobKind, StepState
from squidmesh.states import AttemptStatus, JobState

DUE = datetime(2026, 3, 1, 9, tzinfo=UTC)


def state(step: str, job: JobState | None, kind: str, *, attempt: int = 1) -> StepState:
    return StepState(step, 1, AttemptStatus.COMPLETED, "step", False, 1, attempt, 2, job, DUE, None, kind)


def history(*states: StepState) -> History:
    made = Workflow("made")
    made.step(name="it")(lambda: None)
    return history_of(Graph(made.check()), {}, outputs=[], states=states, attempts=[], audits=[], next_seq=None)


@pytest.mark.parametrize("job", [JobState.PARKED, JobState.SLEEPING, JobState.READY])
@pytest.mark.parametrize("kind", [JobKind.GATE, JobKind.SIGNAL])
def test_what_waits_for_somebody_is_parked_whether_for_ever_or_not(job: JobState, kind: JobKind) -> None:
    assert history(state("it", job, kind)).steps[0].status is StepStatus.PARKED


@pytest.mark.parametrize(
    ("job", "attempt", "status"),
    [
        (JobState.READY, 1, StepStatus.READY),
        (JobState.SLEEPING, 1, StepStatus.SLEEPING),
        (JobState.SLEEPING, 2, StepStatus.RETRYING),
        (JobState.CLAIMED, 2, StepStatus.RUNNING),
    ],
)
def test_a_step_with_a_body_waits_for_its_turn_or_for_time(job: JobState, attempt: int, status: StepStatus) -> None:
    assert history(state("it", job, JobKind.STEP, attempt=attempt)).steps[0].status is status


@pytest.mark.parametrize("job", [JobState.CLAIMED, JobState.SLEEPING, JobState.READY])
def test_what_is_being_undone_is_compensating_until_it_needs_a_person(job: JobState) -> None:
    assert history(state("it", job, JobKind.COMPENSATION, attempt=2)).steps[0].status is StepStatus.COMPENSATING
    parked = state("it", JobState.PARKED, JobKind.COMPENSATION)
    assert history(parked).steps[0].status is StepStatus.PARKED


def test_a_deadline_is_no_step() -> None:
    found = history(state("", JobState.SLEEPING, JobKind.TIMER), state("it", JobState.READY, JobKind.STEP))
    assert (found.deadline, [step.step for step in found.steps], len(found.step_runs)) == (DUE, ["it"], 1)
    assert history(state("it", JobState.READY, JobKind.STEP)).deadline is None
