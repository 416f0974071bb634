"""Why a run is where it is, as a flow for both clients: look once, then judge."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from squidmesh.deciding import Locked, decide_one
from squidmesh.errors import IllegalMove, NotRetryable, RunNotFound
from squidmesh.planner.again import plan_retry
from squidmesh.planner.explain import explain
from squidmesh.planner.facts import Facts
from squidmesh.states import RunStatus
from squidmesh.steering import history_from
from squidmesh.store.sight import read_explanation
from squidmesh.store.statements import ask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from squidmesh.explanation import Explanation
    from squidmesh.operations import Operations
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.plan import LockedRun
    from squidmesh.records import Attempt
    from squidmesh.store.statements import Flow


def explain_run(operations: Operations, run_id: UUID) -> Flow[Explanation]:
    """Explain a run. All that is judged was read by one statement; its graph never changes, nor does what has ended.

    Raises:
        RunNotFound: There is no such run.
        ConfigurationError: Its graph was stored by a newer squidmesh.
    """
    sight = yield from ask(read_explanation(run_id))
    if sight is None:
        raise RunNotFound(run_id)
    graph = yield from operations.graph(sight.run.fingerprint)
    if sight.run.status is RunStatus.FAILED and sight.can_go_on:
        since = yield from history_from(run_id, sight.run.progress.failed_at - 1)
        sight = replace(sight, can_go_on=(yield from _may_retry(graph, sight.run, since)))
    explained: Explanation = explain(
        graph,
        sight,
        registered=sight.run.workflow in operations.registry.workflows,
        known=operations.registry.meters,
    )
    return explained


def _may_retry(graph: Graph, run: LockedRun, since: Sequence[Attempt]) -> Flow[bool]:
    """Whether a failed run would go on if somebody asked for it now: the planner is asked, and nothing is saved."""
    seen = Locked(run=run, facts=Facts(jobs=True))
    try:
        yield from decide_one(graph, seen, partial(plan_retry, since=since, actor=None, comment=None))
    except (IllegalMove, NotRetryable):
        return False
    return True
