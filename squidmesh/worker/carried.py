"""What a worker remembers of a run that it has jobs of, so that a chain's next step needs no reading.

The context is the fold of outputs in order. It is remembered with the place in the history up to which it goes; when
the locked run has moved on since (another worker saved something), it is read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.planner.outcome import Output
from squidmesh.records import SCHEDULE_KEY, Tick
from squidmesh.store.codec import encode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from squidmesh.planner.plan import Plan
    from squidmesh.records import JSONObject
    from squidmesh.store.jobs import Material
    from squidmesh.worker.ticket import Ticket


LARGEST_SNAPSHOT: Final = 1 << 30
"""Bytes; more than jsonb takes: its outputs were let in one by one."""


class CarriedRun:
    """What a worker remembers of one run, and what it has in hand of it.

    Args:
        material: What was read of it.

    Attributes:
        tickets: What is in hand, by slot.
        results: The tickets whose step has ended and is not saved yet.
        ask_again: When to ask for its lock again, if somebody else holds it; on the worker's monotonic clock.
        patience: Seconds between the last two questions.
        start: What its steps could see as it began: the payload, and the schedule that started it, if one did.
        schedule: That schedule, and the nominal time.
        upto: The place in its history up to which its outputs are remembered.
        weight: Bytes of its payload, and of what its steps returned, saved or not; as JSON text.
    """

    __slots__ = (
        "_added",
        "_outputs",
        "_payload_size",
        "_shown",
        "_state",
        "ask_again",
        "error",
        "fingerprint",
        "patience",
        "payload",
        "results",
        "run_id",
        "schedule",
        "start",
        "status",
        "tickets",
        "trigger",
        "upto",
        "weight",
        "workflow",
    )

    def __init__(self, material: Material) -> None:
        self.run_id: UUID = material.run_id
        self.workflow = material.workflow
        self.trigger = material.trigger
        self.fingerprint = material.fingerprint
        self.status = material.status
        self.payload: JSONObject = material.payload
        self.error = material.error
        self.start, self.schedule = self.payload, None
        if material.schedule is not None:
            self.start = {**self.payload, SCHEDULE_KEY: material.schedule}
            self.schedule = Tick.from_json(material.schedule)
        self.tickets: dict[int, Ticket] = {}
        self.results: list[Ticket] = []
        self.ask_again = self.patience = 0.0
        self.upto, self.weight, self._payload_size = 0, material.size, material.payload_size
        self._begin_with({})

    def _begin_with(self, outputs: JSONObject) -> None:
        """Remember these outputs, and nothing that was added to others."""
        self._outputs = outputs
        self._added: list[JSONObject] = []
        self._state, self._shown = {**self.start, **outputs}, 0

    def take(self, material: Material, saw: int) -> None:
        """Remember the context as it was at ``saw``, from what was read."""
        self._begin_with(fold(material.outputs, saw))
        self.upto, self.status, self.weight = saw, material.status, material.size

    def follow(self, plan: Plan) -> None:
        """Go on with a plan that this worker saved, if the context was up to date until then."""
        self.status = plan.status
        if self.upto == plan.run.seq:
            self._added += added_by(plan)
            self.upto = plan.seq
            if plan.snapshot_seq is not None:
                # From now on readers begin with the snapshot, whose keys are in the order that the database gave them.
                self._begin_with(self._added[-1])
                self.weight = self._payload_size + plan.progress.snapshot

    def snapshot(self, plan: Plan) -> Output:
        """What steps returned up to and including a plan that is about to be saved, as one output."""
        return snapshot_of(overlaid(self._outputs, self._added), plan)

    def state(self) -> JSONObject:
        """The payload overlaid with what steps returned up to now; tickets hold it, so it is never changed."""
        if self._shown < len(self._added):
            self._state = overlaid(self._state, self._added[self._shown :])
            self._shown = len(self._added)
        return self._state

    def state_after(self, plan: Plan) -> JSONObject:
        """The same, once a plan that is about to be saved is."""
        return overlaid(self.state(), added_by(plan))


def added_by(plan: Plan) -> list[JSONObject]:
    """What the steps returned that a plan records."""
    return [a.output.value for a in plan.attempts if a.output is not None and a.kind != "compensation"]


def overlaid(before: JSONObject, outputs: Iterable[JSONObject]) -> JSONObject:
    """A new object: what there was before, and outputs in order, the later over the earlier."""
    merged = dict(before)
    for output in outputs:
        merged.update(output)
    return merged


def snapshot_of(outputs: JSONObject, plan: Plan) -> Output:
    """What steps returned before and with a plan that is about to be saved, as one output."""
    encoded = encode(overlaid(outputs, added_by(plan)), what="context", limit=LARGEST_SNAPSHOT)
    return Output(encoded.text, encoded.value)


def fold(outputs: Iterable[tuple[int, JSONObject]], saw: int) -> JSONObject:
    """The outputs with a ``seq`` below ``saw``, the later over the earlier."""
    return overlaid({}, (output for seq, output in outputs if seq < saw))
