"""Before a deploy: would the runs that are live finish with the code at hand?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.planner.deploy import new_needs, strandings
from squidmesh.records import DeployCheck
from squidmesh.registry import learn_graphs
from squidmesh.store.runs import count_lacking, count_live
from squidmesh.store.statements import ask

if TYPE_CHECKING:
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow


def check_deploy(registry: Registry) -> Flow[DeployCheck]:
    """Compare the code of this process with the live runs."""
    live = yield from ask(count_live())
    fingerprints = sorted({runs.fingerprint for runs in live})
    yield from learn_graphs(registry, fingerprints)
    graphs = {fingerprint: registry.graph(fingerprint) for fingerprint in fingerprints}
    code = {
        name: {step: function.takes for step, function in workflow.functions.items()}
        for name, workflow in registry.workflows.items()
    }
    needs = new_needs(live, graphs, code)
    lacking = (yield from ask(count_lacking(needs))) if needs else {}
    undone = {
        name: [step for step, function in workflow.functions.items() if function.compensation]
        for name, workflow in registry.workflows.items()
    }
    found = strandings(live, graphs, code, lacking, undone)
    return DeployCheck(runs=sum(runs.count for runs in live), strandings=tuple(found))
