"""What becomes of a run that is ending, and how one has ended: the causes that are about the run as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.definition import StepKind
from squidmesh.explanation import Cause, Reason
from squidmesh.planner.wording import attempt_json, clock_time, counted, error_text, iso, name_of
from squidmesh.states import AttemptStatus, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.sight import SeenJob, Sight
    from squidmesh.records import Attempt, JSONObject


def ending(sight: Sight, live: Sequence[SeenJob]) -> Cause:
    """What a run waits for that is failing or being cancelled, or undoes what it did."""
    run, undo = sight.run, sight.run.progress.undo
    steps = sorted({seen.job.step for seen in live})
    if run.status is RunStatus.COMPENSATING and undo is not None:
        why = "it was cancelled" if undo.cancelled else f"it failed ({error_text(run.error)})"
        left = f", {counted(undo.left, 'step')} could not be" if undo.left else ""
        summary = (
            f"the run is undoing what it did, because {why}: {counted(undo.undone, 'step')} undone{left}, "
            f"now {', '.join(map(repr, steps))}"
        )
        details: JSONObject = {"undone": undo.undone, "left": undo.left, "now": steps, "cancelled": undo.cancelled}
        return Cause(
            reason=Reason.COMPENSATING,
            step=steps[0] if steps else None,
            summary=summary,
            details={**details, "last_error": run.error},
            evidence=_cancelled_evidence(sight),
        )
    still = f"waits for what still executes: {', '.join(map(repr, steps))}"
    if run.status is RunStatus.FAILING:
        summary = f"the run fails ({error_text(run.error)}) and {still}"
        return Cause(
            reason=Reason.FAILING,
            step=(run.error or {}).get("step"),
            summary=summary,
            details={"last_error": run.error, "waiting_on": steps},
            evidence=_failed_evidence(sight),
        )
    summary = f"the run was cancelled{_by_whom(sight)} and {still}"
    evidence = _cancelled_evidence(sight)
    return Cause(
        reason=Reason.CANCELLING,
        step=None,
        summary=summary,
        details={"waiting_on": steps, **_who(sight)},
        evidence=evidence,
    )


# -- the run is over --------------------------------------------------------------------------------------------------


def endings(graph: Graph, sight: Sight) -> Iterator[Cause]:
    """How a run has ended; first of all, that not everything could be undone."""
    run, undo = sight.run, sight.run.progress.undo
    when = f" {clock_time(sight.finished_at)}" if sight.finished_at else ""
    if undo is not None and undo.left:
        failures = (run.error or {}).get("compensation_failures", [])
        first = f", first {failures[0].get('step')!r}: {error_text(failures[0])}" if failures else ""
        summary = f"the run ended{when}, and what {counted(undo.left, 'step')} did could not be undone{first}"
        yield Cause(
            reason=Reason.NOT_COMPENSATED,
            step=failures[0].get("step") if failures else None,
            summary=summary,
            details={"undone": undo.undone, "left": undo.left, "failures": failures},
        )
    if run.status is RunStatus.COMPLETED:
        yield Cause(reason=Reason.COMPLETED, step=None, summary=f"the run completed{when}")
        return
    undone = {"undone": undo.undone} if undo is not None else {}
    tail = f"; {counted(undo.undone, 'step')} undone" if undo is not None and undo.undone else ""
    if run.status is RunStatus.CANCELLED:
        yield Cause(
            reason=Reason.CANCELLED,
            step=None,
            summary=f"the run was cancelled{when}{_by_whom(sight)}{tail}",
            details={**_who(sight), **undone},
            evidence=_cancelled_evidence(sight),
        )
        return
    yield _failure(graph, sight, f"{when}{tail}", undone)


def _failure(graph: Graph, sight: Sight, tail: str, undone: JSONObject) -> Cause:
    run, error = sight.run, sight.run.error or {}
    reason, failed = _failure_reason(graph, sight), _failed_attempt(sight)
    step = error.get("step")
    details: JSONObject = {"last_error": run.error, **undone}
    at = f" at step {step!r}" if step else ""
    if failed is not None:
        details |= {"attempt": failed.attempt, "visit": failed.visit}
    if reason is Reason.DEADLINE_EXCEEDED:
        summary = f"the run did not end before its deadline, and failed{tail}"
    elif reason is Reason.REJECTED:
        who = f" by {name_of(error.get('actor'))}" if error.get("actor") else ""
        said = f" ({error['comment']})" if error.get("comment") else ""
        summary = f"the run failed{tail}, because step {step!r} was rejected{who}{said}"
        details |= {"actor": error.get("actor"), "comment": error.get("comment")}
    elif reason is Reason.TIMED_OUT:
        summary = f"the run failed{tail}, because {error_text({'message': error.get('message')})}"
    elif reason is Reason.RETRY_EXHAUSTED:
        details["max_attempts"] = graph.steps[str(step)].options.retry.max_attempts
        summary = (
            f"the run failed{tail}: {counted(details['max_attempts'], 'attempt')}{at} failed ({error_text(error)})"
        )
    else:
        summary = f"the run failed{at}{tail}: {error_text(error)}"
    return Cause(reason=reason, step=step, summary=summary, details=details, evidence=_failed_evidence(sight))


def _failure_reason(graph: Graph, sight: Sight) -> Reason:
    run, error = sight.run, sight.run.error or {}
    step, type_ = graph.steps.get(str(error.get("step"))), error.get("type")
    if "step" not in error and type_ == "DeadlineExceeded":
        return Reason.DEADLINE_EXCEEDED
    if step is None:
        return Reason.STEP_FAILED
    # What waits for people and signals has no code of the user's, so these errors are the planner's.
    if step.kind in (StepKind.PAUSE, StepKind.APPROVAL, StepKind.SIGNAL):
        return {"Rejected": Reason.REJECTED, "TimedOut": Reason.TIMED_OUT}.get(str(type_), Reason.STEP_FAILED)
    failed, most = _failed_attempt(sight), step.options.retry.max_attempts
    if failed is None or failed.status is not AttemptStatus.FAILED or error.get("retryable") is False:
        return Reason.STEP_FAILED
    made = failed.attempt - run.progress.retried.get(step.name, 0)
    return Reason.RETRY_EXHAUSTED if most > 1 and made >= most else Reason.STEP_FAILED


def _failed_attempt(sight: Sight) -> Attempt | None:
    """The attempt that made the run fail, if one did; else what was taken away then may stand in its place."""
    failed, step = sight.failed, (sight.run.error or {}).get("step")
    wrong = failed is None or failed.step != step or failed.status is AttemptStatus.CANCELLED
    return None if wrong else failed


def _failed_evidence(sight: Sight) -> JSONObject:
    failed = _failed_attempt(sight)
    return {} if failed is None else {"attempt": attempt_json(failed)}


def _who(sight: Sight) -> JSONObject:
    said = sight.cancelled
    return {} if said is None else {"actor": said.actor, "comment": said.comment, "at": iso(said.at)}


def _by_whom(sight: Sight) -> str:
    said = sight.cancelled
    if said is None:
        return ""
    comment = f" ({said.comment})" if said.comment else ""
    return (f" by {name_of(said.actor)}" if said.actor else "") + comment


def _cancelled_evidence(sight: Sight) -> JSONObject:
    said = sight.cancelled
    if said is None:
        return {}
    audit = {"seq": said.seq, "type": said.type, "metadata": said.metadata, **_who(sight)}
    return {"audit": audit}
