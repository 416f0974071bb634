"""The workflows that this process knows: live code by name, and graphs by fingerprint.

A run finishes on the graph it started with. For the graphs of live code that is the live definition; for older ones it
is the stored definition, with the options of live code laid over it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from squidmesh.definition import FORMAT, Definition, Step
from squidmesh.errors import ConfigurationError, WorkflowNotFound
from squidmesh.meters import MeterTable
from squidmesh.planner.graph import Graph
from squidmesh.planner.scheduling import KINDS
from squidmesh.records import JobKind
from squidmesh.store.runs import read_definitions
from squidmesh.store.statements import ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squidmesh.authoring.functions import StepFunction
    from squidmesh.meters import Metering
    from squidmesh.planner.plan import LiveJob
    from squidmesh.records import JSONObject
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow


class Registry:
    """What this process knows of workflows.

    Args:
        workflows: The live ones; they are checked and frozen.
        queue_limits: How many steps of a queue may execute at once, on all workers together.

    Raises:
        DefinitionError: One of them is declared wrongly.
        ConfigurationError: Two of them have the same name, or a limit is none.
    """

    def __init__(self, workflows: Iterable[Workflow], queue_limits: Mapping[str, int] = MappingProxyType({})) -> None:
        self.workflows: dict[str, Workflow] = {}
        self._graphs: dict[str, Graph] = {}
        self.unreadable: set[str] = set()
        """Fingerprints of the graphs that were stored in a newer format: others run those."""
        self.meters = MeterTable.of(queue_limits)
        """What steps of live code share, and queues."""
        for workflow in workflows:
            if self.workflows.setdefault(workflow.name, workflow) is not workflow:
                raise ConfigurationError(f"two workflows are named {workflow.name!r}; names are unique in an app")
            definition = workflow.check()
            self._graphs[definition.fingerprint] = Graph(definition)
            for step in definition.steps:
                self.meters.declare(f"{workflow.name}/{step.name}", step.options.limit, step.options.rate)

    @property
    def knows(self) -> tuple[str, ...]:
        """What live code can run: ``workflow/kind/step`` of each step, ``workflow/timer/``, ``meter/definition``."""
        found: list[str] = [f"meter/{definition}" for definition in sorted(self.meters.definitions)]
        for name, workflow in self.workflows.items():
            found.append(f"{name}/{JobKind.TIMER}/")
            for step in workflow.check().steps:
                found.append(f"{name}/{KINDS[step.kind]}/{step.name}")
                if step.compensate:
                    found.append(f"{name}/{JobKind.COMPENSATION}/{step.name}")
        return tuple(found)

    def workflow(self, wanted: Workflow | str) -> Workflow:
        """A live workflow by name, or itself.

        Raises:
            WorkflowNotFound: It is not registered.
        """
        name = wanted if isinstance(wanted, str) else wanted.name
        found = self.workflows.get(name)
        if found is None or not (isinstance(wanted, str) or found is wanted):
            raise WorkflowNotFound(name, tuple(self.workflows))
        return found

    def live_graph(self, workflow: Workflow) -> Graph:
        """The graph of live code."""
        return self._graphs[workflow.check().fingerprint]

    def graph(self, fingerprint: str) -> Graph | None:
        """A graph by fingerprint, or None if it was not read from the database yet."""
        return self._graphs.get(fingerprint)

    def missing(self, fingerprints: Iterable[str]) -> list[str]:
        """Those fingerprints whose graph has to be read."""
        return sorted({name for name in fingerprints if name not in self._graphs and name not in self.unreadable})

    def learn(self, stored: Mapping[str, JSONObject]) -> None:
        """Take in stored definitions, by fingerprint; those in a newer format are noted as unreadable."""
        for fingerprint, definition in stored.items():
            if definition["format"] > FORMAT:
                self.unreadable.add(fingerprint)
            else:
                old = Definition.from_json(definition)
                live = self.workflows.get(old.workflow)
                self._graphs[fingerprint] = Graph(old.with_options_of(live.check()) if live else old)

    def function(
        self, workflow: str, step: str, kind: JobKind | str = JobKind.STEP
    ) -> StepFunction[..., object] | None:
        """The function of a step in live code, or its compensation; None if there is none."""
        live = self.workflows.get(workflow)
        function = live.functions.get(step) if live else None
        return function.compensation if function and kind == JobKind.COMPENSATION else function

    def metering(self, function: StepFunction[..., object], queue: str) -> Metering | None:
        """What jobs of a step share with others; None if they share nothing.

        Args:
            function: The step's function in live code.
            queue: The queue that they are filed under.
        """
        options, step = function.options, f"{function.workflow}/{function.name}"
        return self.meters.metering(step, options.limit, options.rate, queue)


def learn_graphs(registry: Registry, fingerprints: Iterable[str]) -> Flow[None]:
    """Read the graphs that this process has not met yet; asks nothing if there are none."""
    missing = registry.missing(fingerprints)
    if missing:
        registry.learn((yield from ask(read_definitions(missing))))


def strange_graph(workflow: str, jobs: Iterable[LiveJob]) -> Graph:
    """A stand-in for a graph that this code cannot read: enough to park the jobs for a worker that can."""
    return Graph(
        Definition(workflow, tuple(Step(name=name) for name in {job.step for job in jobs}), ()), readable=False
    )
