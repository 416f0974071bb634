"""The tables of statuses and moves hold together."""

from __future__ import annotations

import pytest

from squidmesh.states import JOB_MOVES, RUN_MOVES, JobState, ParkedReason, RunStatus, may_move, shown_status


def test_every_status_has_its_moves() -> None:
    assert set(RUN_MOVES) == set(RunStatus)
    assert set(JOB_MOVES) == set(JobState)


def test_a_run_has_ended_when_no_move_is_left() -> None:
    assert {s for s in RunStatus if s.terminal} == {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


def test_a_run_that_is_ending_has_one_way_to_go() -> None:
    assert {s: set(RUN_MOVES[s]) for s in RunStatus if s.ending} == {
        RunStatus.FAILING: {RunStatus.FAILED},
        RunStatus.CANCELLING: {RunStatus.CANCELLED},
    }


def test_every_status_can_be_reached_and_leads_to_an_end() -> None:
    def ahead(status: RunStatus) -> set[RunStatus]:
        found: set[RunStatus] = set()
        fresh = {status}
        while fresh:
            fresh = {new for old in fresh for new in RUN_MOVES[old]} - found
            found |= fresh
        return found

    assert ahead(RunStatus.PENDING) == set(RunStatus) - {RunStatus.PENDING}
    for status in RunStatus:
        assert status.terminal or any(later.terminal for later in ahead(status))


def test_a_run_can_be_cancelled_until_it_is_ending() -> None:
    cancellable = {status for status in RunStatus if RunStatus.CANCELLED in RUN_MOVES[status]}
    assert cancellable == {s for s in RunStatus if not s.terminal} - {RunStatus.FAILING}


@pytest.mark.parametrize("status", RunStatus)
def test_staying_is_always_allowed_and_never_listed(status: RunStatus) -> None:
    assert may_move(RUN_MOVES, status, status)
    assert status not in RUN_MOVES[status]


def test_an_unlisted_move_is_refused() -> None:
    assert may_move(RUN_MOVES, RunStatus.PENDING, RunStatus.RUNNING)
    assert not may_move(RUN_MOVES, RunStatus.COMPLETED, RunStatus.RUNNING)
    assert may_move(JOB_MOVES, JobState.READY, JobState.CLAIMED)
    assert not may_move(JOB_MOVES, JobState.READY, JobState.SLEEPING)


def test_a_run_is_shown_as_running_while_a_job_is_claimed() -> None:
    shown = {status: shown_status(status, claimed=True) for status in RunStatus}
    assert {old: new for old, new in shown.items() if old is not new} == {
        RunStatus.PENDING: RunStatus.RUNNING,
        RunStatus.RETRYING: RunStatus.RUNNING,
    }
    assert all(shown_status(status, claimed=False) is status for status in RunStatus)


def test_a_step_that_nobody_knows_waits_for_a_worker_and_the_others_for_a_human() -> None:
    assert {reason for reason in ParkedReason if not reason.needs_human} == {ParkedReason.UNKNOWN_STEP}
