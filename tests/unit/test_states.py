"""The tables of statuses and moves hold together."""

from __future__ import annotations

import pytest

from squidmesh.states import JOB_MOVES, RUN_MOVES, JobState, ParkedReason, RunStatus, may_move, shown_status


def test_every_status_has_its_moves() -> None:
    assert set(RUN_MOVES) == set(RunStatus)
    assert set(JOB_MOVES) == set(JobState)


def test_a_run_that_has_ended_stays_so_unless_somebody_retries_one_that_failed() -> None:
    terminal = {status for status in RunStatus if status.terminal}
    assert terminal == {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    assert {status for status in terminal if RUN_MOVES[status]} == {RunStatus.FAILED}
    assert not any(status.ending for status in RUN_MOVES[RunStatus.FAILED])


def test_a_run_that_is_ending_ends_perhaps_after_it_was_undone() -> None:
    assert {s: set(RUN_MOVES[s]) for s in RunStatus if s.ending} == {
        RunStatus.FAILING: {RunStatus.COMPENSATING, RunStatus.FAILED},
        RunStatus.CANCELLING: {RunStatus.COMPENSATING, RunStatus.CANCELLED},
        RunStatus.COMPENSATING: {RunStatus.FAILED, RunStatus.CANCELLED},
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
    assert not may_move(JOB_MOVES, JobState.SLEEPING, JobState.CLAIMED)


def test_a_run_is_shown_as_running_while_a_job_is_claimed() -> None:
    shown = {status: shown_status(status, claimed=True) for status in RunStatus}
    assert {old: new for old, new in shown.items() if old is not new} == {
        RunStatus.PENDING: RunStatus.RUNNING,
        RunStatus.RETRYING: RunStatus.RUNNING,
    }
    assert all(shown_status(status, claimed=False) is status for status in RunStatus)


def test_what_waits_for_a_worker_or_a_signal_needs_no_human() -> None:
    assert {r for r in ParkedReason if not r.needs_human} == {ParkedReason.UNKNOWN_STEP, ParkedReason.SIGNAL}
    assert {r for r in ParkedReason if r.is_trouble} == {ParkedReason.QUARANTINED, ParkedReason.INTERRUPTED}
