"""What may be done about a run: every offer is one that the planner accepts as the run stands.

The rules are those of ``decisions``, ``again`` and ``planner``, told from the other side; property tests hold the two
together, in both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.definition import StepKind
from squidmesh.explanation import Action
from squidmesh.planner.decisions import DECIDABLE
from squidmesh.planner.planner import CANCELLABLE
from squidmesh.records import JobKind
from squidmesh.states import JobState, ParkedReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.sight import Sight
    from squidmesh.records import Job


def offers(graph: Graph, sight: Sight, *, registered: bool) -> tuple[Action, ...]:
    """What may be done now, the most telling first.

    Args:
        graph: The graph that the run started with.
        sight: The run as it was seen.
        registered: Whether this process has the workflow's code, without which it can neither replay nor judge a
            signal's payload.
    """
    return (
        *_reviews(graph, sight),
        *_unblocking(graph, sight),
        *(_signals(graph, sight) if registered else ()),
        *_retry(sight),
        *(_replay(graph, sight) if registered else ()),
        *_cancel(graph, sight),
    )


def is_trouble(job: Job) -> bool:
    """Whether it waits for a person because something went wrong."""
    troubled = job.reason in (ParkedReason.QUARANTINED, ParkedReason.INTERRUPTED)
    return job.state is JobState.PARKED and troubled and job.kind != JobKind.TIMER


def _live(sight: Sight) -> dict[str, Job]:
    """Of each live step the oldest visit: the one that is meant when somebody decides."""
    found: dict[str, Job] = {}
    for seen in sorted(sight.jobs, key=lambda seen: (seen.job.step, seen.job.visit, seen.job.slot)):
        if seen.job.kind != JobKind.TIMER:
            found.setdefault(seen.job.step, seen.job)
    return found


def _reviews(graph: Graph, sight: Sight) -> Iterator[Action]:
    if sight.run.status not in DECIDABLE:
        return
    for name, job in _live(sight).items():
        gate = graph.steps[name]
        if job.kind != JobKind.GATE or gate.kind is not StepKind.APPROVAL:
            continue
        needed = int(gate.settings.get("approvers", 1))
        voted = sum(vote.visit == job.visit for vote in sight.votes.get(name, ()))
        if voted + 1 < needed:
            why = f"approve {name!r}: one of {needed - voted} approvals that are missing, by somebody who has not voted"
        elif voted:
            why = f"approve {name!r}: the last approval that is missing, by somebody who has not voted"
        else:
            why = f"approve {name!r}: the run goes on"
        ways = graph.way(name, "rejected")
        lost = "the run fails" if ways is None else f"it goes on to {_where(ways.target)}"
        yield Action("approve_run", {"step": name}, why, needs=("actor",))
        yield Action("reject_run", {"step": name}, f"reject {name!r}: {lost}", needs=("actor",))


def _where(target: str) -> str:
    return "its end" if target.startswith("__") else repr(target)


def _unblocking(graph: Graph, sight: Sight) -> Iterator[Action]:
    if sight.run.status not in (*DECIDABLE, RunStatus.COMPENSATING):
        return
    troubled = {seen.job.step: seen.job for seen in sight.jobs if is_trouble(seen.job)}
    for name, job in sorted(troubled.items()):
        if job.kind == JobKind.GATE:
            continue  # which is decided as any gate
        what = "undoing it" if job.kind == JobKind.COMPENSATION else "it"
        yield _resolution(name, "rerun", f"run {name!r} once more: if {what} did nothing, or may be done twice")
        yield _resolution(name, "completed", f"take {name!r} as completed: if {what} was done (give its output)")
        yield _resolution(name, "failed", f"take {name!r} as failed: the run goes the way of errors, or fails")
    for name, job in _live(sight).items():
        if job.kind == JobKind.GATE and graph.steps[name].kind is StepKind.PAUSE:
            yield Action("unblock_run", {"step": name}, f"let it go on from {name!r}")


def _resolution(step: str, resolution: str, why: str) -> Action:
    return Action("unblock_run", {"step": step, "resolution": resolution}, why)


def _signals(graph: Graph, sight: Sight) -> Iterator[Action]:
    if sight.run.status not in DECIDABLE:
        return
    waiting = [step for step, job in _live(sight).items() if job.kind == JobKind.SIGNAL]
    for name in sorted({str(graph.steps[step].settings["signal"]) for step in waiting}):
        why = f"send the signal {name!r}, in place of whoever should: the run goes on"
        yield Action("send_signal", {"name": name}, why, needs=("payload",))


def _retry(sight: Sight) -> Iterator[Action]:
    run = sight.run
    exhausted = (run.error or {}).get("type") == "VisitLimitReached"
    if run.status is RunStatus.FAILED and run.progress.undo is None and sight.can_go_on and not exhausted:
        yield Action(
            "retry_run", {}, "retry it: it goes on from where it failed, with all the attempts that a step has"
        )


def unsafe_steps(graph: Graph, sight: Sight) -> list[str]:
    """The steps that a replay would do again although they cannot be undone."""
    return [step for step in sight.done if step in graph.steps and not graph.steps[step].repeatable]


def _replay(graph: Graph, sight: Sight) -> Iterator[Action]:
    if not sight.run.status.terminal:
        return
    unsafe = unsafe_steps(graph, sight)
    if unsafe:
        why = f"replay it: a new run from the beginning, which does again what cannot be undone: {', '.join(unsafe)}"
        yield Action("replay_run", {"allow_irreversible": True}, why)
    else:
        yield Action(
            "replay_run", {}, "replay it: a new run from the beginning, with the same payload, on today's graph"
        )


def _cancel(graph: Graph, sight: Sight) -> Iterator[Action]:
    status, progress = sight.run.status, sight.run.progress
    if status in CANCELLABLE:
        yield Action("cancel_run", {}, "cancel it: nothing more of it is begun")
        if graph.undoable & progress.seen:
            yield Action("cancel_run", {"compensate": True}, "cancel it and undo what its steps did")
    elif status in (RunStatus.CANCELLING, RunStatus.FAILING):
        yield Action(
            "cancel_run", {"force": True}, "do not wait for what still executes: its results will come too late"
        )
