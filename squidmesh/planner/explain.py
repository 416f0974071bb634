"""Why a run is where it is, and what may be done about it: (graph, sight) -> explanation. Pure, as all of the planner.

Each live step has a cause (``waiting``), and so have joins that wait and runs that are ending or over; ``Reason`` says
which of them is told first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.explanation import Cause, Explanation, Reason
from squidmesh.planner.endings import ending, endings
from squidmesh.planner.offers import offers, unsafe_steps
from squidmesh.planner.sight import MOST_JOBS
from squidmesh.planner.waiting import Waiting
from squidmesh.planner.wording import iso
from squidmesh.records import JobKind
from squidmesh.states import JobState, shown_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squidmesh.meters import MeterTable
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.sight import SeenJob, Sight
    from squidmesh.records import JSONObject

MOST_TOLD: Final = 20
"""So many causes are told beside the main one."""


def explain(graph: Graph, sight: Sight, *, registered: bool, known: MeterTable) -> Explanation:
    """Explain a run.

    Args:
        graph: The graph that it started with.
        sight: The run as it was seen.
        registered: Whether this process has the workflow's code, without which some actions are not possible.
        known: The limits and rates that this process's code declares.
    """
    run = sight.run
    live = [seen for seen in sight.jobs if seen.job.kind != JobKind.TIMER]
    causes = sorted(_causes(graph, sight, live, known), key=lambda cause: cause.reason.precedence)
    main, *others = causes
    sound = main.reason is not Reason.INCONSISTENT
    details = {**main.details, **_replay_details(graph, sight, registered=registered)}
    return Explanation(
        run_id=run.id,
        workflow=run.workflow,
        status=shown_status(run.status, claimed=any(seen.job.state is JobState.CLAIMED for seen in live)),
        reason=main.reason,
        step=main.step,
        summary=_sentence(main.summary),
        details=details | ({"more": len(others) - MOST_TOLD} if len(others) > MOST_TOLD else {}),
        also=tuple(others[:MOST_TOLD]),
        next_actions=offers(graph, sight, registered=registered) if sound else (),
        evidence={"run": _run_json(sight), **main.evidence},
        at=sight.now,
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _causes(graph: Graph, sight: Sight, live: Sequence[SeenJob], known: MeterTable) -> Iterator[Cause]:
    status = sight.run.status
    if status.terminal:
        yield from endings(graph, sight)
        return
    counted_jobs = sight.run.progress.live_count + sight.run.progress.deadline
    if len(sight.jobs) < MOST_JOBS and len(sight.jobs) != counted_jobs:
        there = f"the run's state counts {counted_jobs} live jobs, and there are {len(sight.jobs)}"
        summary = f"{there}; somebody has changed rows by hand"
        yield Cause(reason=Reason.INCONSISTENT, step=None, summary=summary, details={"jobs": len(sight.jobs)})
    if status.ending:
        yield ending(sight, live)
    # Who has waited longest comes first among causes of one kind.
    for seen in sorted(live, key=lambda seen: (seen.since, seen.job.slot)):
        yield Waiting(graph, sight, seen, known).cause()
    if not status.ending:
        yield from _joins(graph, sight)


# -- joins, and what belongs to the run -------------------------------------------------------------------------------


def _joins(graph: Graph, sight: Sight) -> Iterator[Cause]:
    """The joins that something has been done for, and that wait for more."""
    progress = sight.run.progress
    ahead = progress.live | graph.reachable(progress.live)
    for join, lacks in graph.joins.items():
        marked, spoiled = progress.marked.get(join, 0), progress.spoiled.get(join, 0)
        waiting_on = list(graph.members(lacks & ~marked & ahead))
        begun = marked | spoiled | (lacks & progress.live)
        if not (waiting_on and begun) or graph.bit[join] & progress.live:
            continue
        statuses: JSONObject = {}
        for name in graph.members(lacks):
            bit = graph.bit[name]
            ended = "completed" if marked & bit else "ended otherwise" if spoiled & bit else "not reached"
            statuses[name] = "live" if progress.live & bit else ended
        yield Cause(
            reason=Reason.WAITING_FOR_DEPENDENCIES,
            step=join,
            summary=f"step {join!r} waits for {', '.join(map(repr, waiting_on))}",
            details={"waiting_on": waiting_on, "dependency_statuses": statuses},
        )


def _replay_details(graph: Graph, sight: Sight, *, registered: bool) -> JSONObject:
    """Of a run that is over: whether it may be replayed, and what stands against it."""
    if not sight.run.status.terminal:
        return {}
    if not registered:
        return {"replay": {"allowed": False, "because": "this process has no code of the workflow"}}
    unsafe = unsafe_steps(graph, sight)
    if unsafe:
        return {"replay": {"allowed": False, "needs": "allow_irreversible", "because_of": unsafe}}
    return {"replay": {"allowed": True}}


def _run_json(sight: Sight) -> JSONObject:
    run = sight.run
    timer = next((seen for seen in sight.jobs if seen.job.kind == JobKind.TIMER), None)
    return {
        "id": str(run.id),
        "workflow": run.workflow,
        "trigger": run.trigger,
        "fingerprint": run.fingerprint,
        "status": str(run.status),
        "attention": run.attention,
        "error": run.error,
        "seq": run.seq,
        "created_at": iso(sight.created_at),
        "finished_at": iso(sight.finished_at),
        "deadline": iso(timer.run_at) if timer else None,
    }
