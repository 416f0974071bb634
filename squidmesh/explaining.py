"""Why a run is where it is, as a flow for both clients: look once, then judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.errors import RunNotFound
from squidmesh.planner.explain import explain
from squidmesh.store.sight import read_explanation
from squidmesh.store.statements import ask

if TYPE_CHECKING:
    from uuid import UUID

    from squidmesh.explanation import Explanation
    from squidmesh.operations import Operations
    from squidmesh.store.statements import Flow


def explain_run(operations: Operations, run_id: UUID) -> Flow[Explanation]:
    """Explain a run. All that is judged was read by one statement; its graph never changes.

    Raises:
        RunNotFound: There is no such run.
        ConfigurationError: Its graph was stored by a newer squidmesh.
    """
    sight = yield from ask(read_explanation(run_id))
    if sight is None:
        raise RunNotFound(run_id)
    graph = yield from operations.graph(sight.run.fingerprint)
    explained: Explanation = explain(graph, sight, registered=sight.run.workflow in operations.registry.workflows)
    return explained
