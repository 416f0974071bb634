"""A workflow's definition as data: frozen, serialisable, with a fingerprint.

A ``Definition`` has no functions in it. The *graph* (what the fingerprint covers) is what a run keeps for its whole
life; the *options* (retry, queue, priority, time-out) are what live code may change under a run in flight.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from squidmesh.retry import NEVER, Exponential, Retry
from squidmesh.timetable import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squidmesh.meters import Limit, Rate
    from squidmesh.records import JSONObject

FORMAT: Final = 2
"""The newest format of a stored graph that this code knows. A worker parks what has a newer one.

1 is steps with functions, waits of a duration, and logs. 2 has gates, signals, waits until an instant, and what becomes
of a run that fails. A graph is stored in the oldest format that can say it, so that older workers share its runs.
"""

COMPLETE: Final = "__complete__"
"""The target of a transition that ends its path."""

COMPENSATION_RETRY: Final = Retry(max_attempts=3, backoff=Exponential(min=1, max=60))
"""How often a compensation is tried if nothing else is said."""

LONGEST_NAME: Final = 100
"""Characters of a name that code declares: of a workflow, a step, a key, or what steps share."""

DEFAULT_QUEUE: Final = "default"
DEFAULT_VISIT_LIMIT: Final = 1000


class StepKind(StrEnum):
    """What a step is."""

    FUNCTION = "function"
    WAIT = "wait"
    LOG = "log"
    PAUSE = "pause"
    APPROVAL = "approval"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a step's function that is filled from the run: its name, and whether it must be there."""

    name: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What live code decides about a step; not part of the graph.

    Args:
        retry: How often the step is tried.
        queue: The queue its jobs are filed under.
        priority: Smaller is sooner, within a queue.
        compensate_retry: How often its compensation is tried.
        transaction: Whether its writes, its result and its successor are one commit.
        timeout: Seconds from the start of its body after which an attempt has failed; None: it may take its time.
        limit: How many of it may execute at once; None: as many as there is room for.
        rate: How often it may begin.
    """

    retry: Retry = NEVER
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    compensate_retry: Retry = COMPENSATION_RETRY
    transaction: bool = False
    timeout: float | None = None
    limit: Limit | None = None
    rate: Rate | None = None

    def to_json(self) -> JSONObject:
        """The options as stored with the graph; those that came later only where they are used.

        Limits and rates are not: a worker runs no step whose code it lacks, and whoever runs it goes by its own code.
        """
        said: JSONObject = {"retry": self.retry.to_json(), "queue": self.queue, "priority": self.priority}
        if self.compensate_retry != COMPENSATION_RETRY:
            said["compensate_retry"] = self.compensate_retry.to_json()
        if self.transaction:
            said["transaction"] = True
        if self.timeout is not None:
            said["timeout"] = self.timeout
        return said

    @staticmethod
    def from_json(stored: JSONObject) -> Options:
        """The options that ``to_json`` stored."""
        undo = stored.get("compensate_retry")
        return Options(
            retry=Retry.from_json(stored["retry"]),
            queue=stored["queue"],
            priority=stored["priority"],
            compensate_retry=Retry.from_json(undo) if undo else COMPENSATION_RETRY,
            transaction=stored.get("transaction", False),
            timeout=stored.get("timeout"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A node of the graph.

    Args:
        name: Its name, unique in the workflow.
        kind: What it is.
        takes: The parameters that are filled from the run.
        takes_all: Whether it takes everything (``**state``).
        output: The key that its return value is stored under; None merges a mapping.
        after: The steps that it joins; empty for a step that transitions lead to.
        start: Whether it is declared an entry step.
        irreversible: Whether nobody but a human may run it again once it was interrupted.
        compensate: The name of the function that undoes what it did; None if nothing does.
        compensatable: Whether what it did can be undone or repeated at all, by whatever means.
        visit_limit: How often one run may reach it.
        settings: What its kind needs: ``seconds`` or ``until`` of a wait; ``message`` and ``level`` of a log;
            ``deadline`` and ``approvers`` of an approval; ``signal`` and ``timeout`` of a wait for a signal.
        options: What live code may change.
    """

    name: str
    kind: StepKind = StepKind.FUNCTION
    takes: tuple[Parameter, ...] = ()
    takes_all: bool = False
    output: str | None = None
    after: tuple[str, ...] = ()
    start: bool = False
    irreversible: bool = False
    compensate: str | None = None
    compensatable: bool = True
    visit_limit: int = DEFAULT_VISIT_LIMIT
    settings: Mapping[str, str | float] = field(default_factory=dict[str, "str | float"])
    options: Options = Options()

    def graph_json(self) -> JSONObject:
        """What the fingerprint covers; whatever has its default is left out, so that new fields change no old print."""
        said: JSONObject = {
            "kind": str(self.kind),
            "takes": [[p.name, p.required] for p in sorted(self.takes, key=lambda p: p.name)],
            "takes_all": self.takes_all,
            "output": self.output,
            "after": sorted(self.after),
            "start": self.start,
            "irreversible": self.irreversible,
            "compensate": self.compensate,
            "visit_limit": self.visit_limit,
            "settings": dict(self.settings),
        }
        kept = {key: value for key, value in said.items() if value or key in ("kind", "visit_limit")}
        return kept if self.compensatable else {**kept, "compensatable": False}

    @property
    def repeatable(self) -> bool:
        """Whether it may be done again by a replay that nobody has looked at."""
        return self.compensatable and not self.irreversible

    @property
    def format(self) -> int:
        """The oldest format that can say it."""
        old = (StepKind.FUNCTION, StepKind.WAIT, StepKind.LOG)
        plain = self.kind in old and self.compensate is None and self.compensatable and "until" not in self.settings
        return 1 if plain else 2

    @staticmethod
    def from_json(name: str, graph: JSONObject, options: JSONObject) -> Step:
        """The step that ``graph_json`` and ``Options.to_json`` stored."""
        known: JSONObject = {
            **graph,
            "kind": StepKind(graph["kind"]),
            "takes": tuple(Parameter(*taken) for taken in graph.get("takes", ())),
            "after": tuple(graph.get("after", ())),
        }
        return Step(name=name, options=Options.from_json(options), **known)


@dataclass(frozen=True, slots=True, order=True)
class Transition:
    """An edge: when ``source`` ends with ``outcome``, ``target`` runs next.

    Args:
        source: Name of the step that ended.
        outcome: "ok", "error", or a name that the step returned with ``Outcome``.
        target: Name of the next step, or COMPLETE.
        recovery: For an error edge: "compensation" or "undo", shown in the history.
    """

    source: str
    outcome: str
    target: str
    recovery: str | None = None


class TriggerKind(StrEnum):
    """What starts a run."""

    MANUAL = "manual"
    CRON = "cron"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A way to start a run. Not part of the graph: a run in flight does not care how others start.

    Args:
        name: Its name, unique in the workflow.
        kind: Manual or cron.
        expression: Of a cron trigger: its cron expression.
        timezone: Of a cron trigger: its IANA time zone.
        policy: Of a cron trigger: how it behaves beside that.
    """

    name: str
    kind: TriggerKind = TriggerKind.MANUAL
    expression: str | None = None
    timezone: str | None = None
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True)
class Definition:
    """A workflow's definition: validated, frozen, without functions.

    Args:
        workflow: The workflow's name.
        steps: In the order of their declaration.
        transitions: The edges.
        triggers: In the order of their declaration; the first is the default one.
        deadline: Seconds after which a run fails that has not ended; None if there is no limit. Like the triggers it is
            a matter of starts, not of the graph.
    """

    workflow: str
    steps: tuple[Step, ...]
    transitions: tuple[Transition, ...]
    triggers: tuple[Trigger, ...] = ()
    deadline: float | None = None

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        """The steps by name."""
        return {step.name: step for step in self.steps}

    @cached_property
    def entries(self) -> tuple[Step, ...]:
        """The steps a run begins with: those declared so, or else the one that nothing leads to."""
        declared = tuple(step for step in self.steps if step.start)
        targets = {edge.target for edge in self.transitions}
        return declared or tuple(step for step in self.steps if not step.after and step.name not in targets)

    @cached_property
    def graph_json(self) -> JSONObject:
        """The graph in canonical order: what the fingerprint covers and the database keeps."""
        return {
            "format": max((step.format for step in self.steps), default=1),
            "workflow": self.workflow,
            "steps": {step.name: step.graph_json() for step in sorted(self.steps, key=lambda s: s.name)},
            "transitions": [
                [edge.source, edge.outcome, edge.target, edge.recovery]
                for edge in sorted(self.transitions, key=_edge_order)
            ],
        }

    @cached_property
    def fingerprint(self) -> str:
        """Names the graph: equal graphs have equal fingerprints, whatever their order of declaration."""
        canonical = json.dumps(self.graph_json, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_json(self) -> JSONObject:
        """The definition as stored: the graph, and the options as a fallback for workers without the code."""
        return {**self.graph_json, "options": {step.name: step.options.to_json() for step in self.steps}}

    @staticmethod
    def from_json(stored: JSONObject) -> Definition:
        """The definition that ``to_json`` stored. Triggers are not stored.

        Raises:
            ValueError: It was stored in a newer format than this code knows.
        """
        if stored["format"] > FORMAT:
            raise ValueError(f"graph format {stored['format']} is newer than {FORMAT}, the newest this code knows")
        options = stored["options"]
        steps = tuple(Step.from_json(name, graph, options[name]) for name, graph in stored["steps"].items())
        return Definition(stored["workflow"], steps, tuple(Transition(*edge) for edge in stored["transitions"]))

    def with_options_of(self, live: Definition) -> Definition:
        """This graph with the options of ``live``, for the steps that it still has."""
        steps = (replace(s, options=live.by_name[s.name].options) if s.name in live.by_name else s for s in self.steps)
        return replace(self, steps=tuple(steps), deadline=live.deadline)


def _edge_order(edge: Transition) -> tuple[str, str]:
    return edge.source, edge.outcome
