"""How far a run has come: the small state in the run row that planning needs beside the graph.

It holds sets and counts, never a list with an entry per live step: it stays small however wide a join or long a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from squidmesh.planner.graph import Graph, StepSet
    from squidmesh.records import JSONObject


def _no_counts() -> dict[str, int]:
    """What fields of every run's progress begin with: ``dict[str, int]`` takes four times as long to call."""
    return {}


def visit_key(step: str, visit: int) -> str:
    """A visit as a key of stored state."""
    return f"{step}/{visit}"


class Undo(NamedTuple):
    """How the undoing of completed visits stands; stored as a list.

    Attributes:
        below: What completed below this place in the history is still to be undone.
        cancelled: Whether the run is cancelled at the end of it, rather than failed.
        undone: How many visits were undone.
        left: How many could not be.
    """

    below: int
    cancelled: bool
    undone: int = 0
    left: int = 0


@dataclass(slots=True)
class Progress:
    """The counts and sets of one run.

    Args:
        live: The steps that have a job.
        twice: For steps with more than one job, how many they have.
        seen: The steps that were ever reached.
        visits: For steps reached more than once, how often.
        marked: For each join, its dependencies that completed since it last ran.
        spoiled: For each join, its dependencies that ended otherwise since it last ran.
        slots: The next free slot for a job.
        retrying: How many live jobs are at their second or a later attempt and do not wait for a human.
        gates: How many live jobs wait for a human.
        troubles: How many of those do so because something went wrong.
        weight: Bytes of output since the last snapshot of the context.
        snapshot: Bytes that the context has at least: those of its last snapshot, or of the largest output since.
        watched: Whether somebody asked to be notified of the end.
        deadline: Whether the run has a deadline, which is a job that belongs to no step.
        signals: How many signals of a name came before anything waited for them.
        retried: For visits that are tried again since the run had failed, how many attempts were made before.
        failed_at: The place in the history of what made the run fail.
        undo: How completed visits are being undone, once they are.
    """

    live: StepSet = 0
    twice: dict[str, int] = field(default_factory=_no_counts)
    seen: StepSet = 0
    visits: dict[str, int] = field(default_factory=_no_counts)
    marked: dict[str, StepSet] = field(default_factory=_no_counts)
    spoiled: dict[str, StepSet] = field(default_factory=_no_counts)
    slots: int = 0
    retrying: int = 0
    gates: int = 0
    troubles: int = 0
    weight: int = 0
    snapshot: int = 0
    watched: bool = False
    deadline: bool = False
    signals: dict[str, int] = field(default_factory=_no_counts)
    retried: dict[str, int] = field(default_factory=_no_counts)
    failed_at: int = 0
    undo: Undo | None = None

    @property
    def live_count(self) -> int:
        """How many jobs the run has."""
        count = self.live.bit_count()
        return count + sum(self.twice.values()) - len(self.twice) if self.twice else count

    def copy(self) -> Progress:
        """A copy to change."""
        return Progress(
            self.live,
            self.twice.copy(),
            self.seen,
            self.visits.copy(),
            self.marked.copy(),
            self.spoiled.copy(),
            self.slots,
            self.retrying,
            self.gates,
            self.troubles,
            self.weight,
            self.snapshot,
            self.watched,
            self.deadline,
            self.signals.copy(),
            self.retried.copy(),
            self.failed_at,
            self.undo,
        )

    def enter(self, graph: Graph, step: str) -> int:
        """Count a new visit to ``step`` and its job; return the visit's number."""
        bit = graph.bit[step]
        self.come_back(graph, step)
        visit = 1
        if self.seen & bit:
            visit = self.visits[step] = self.visits.get(step, 1) + 1
        self.seen |= bit
        return visit

    def come_back(self, graph: Graph, step: str) -> None:
        """Count a job of ``step`` that is about a visit which was counted before."""
        bit = graph.bit[step]
        if self.live & bit:
            self.twice[step] = self.twice.get(step, 1) + 1
        self.live |= bit

    def leave(self, graph: Graph, step: str) -> None:
        """Count a job of ``step`` out."""
        jobs = self.twice.pop(step, 1)
        if jobs > 2:  # noqa: PLR2004 - "twice" holds counts from two
            self.twice[step] = jobs - 1
        elif jobs == 1:
            self.live &= ~graph.bit[step]

    def to_json(self) -> JSONObject:
        """The state as stored: sets as hexadecimal text, and nothing that is empty."""
        said: JSONObject = {name: value for name in _PLAIN if (value := getattr(self, name))}
        if self.live:
            said["live"] = f"{self.live:x}"
        if self.seen:
            said["seen"] = f"{self.seen:x}"
        if self.marked:
            said["marked"] = {join: f"{marks:x}" for join, marks in self.marked.items()}
        if self.spoiled:
            said["spoiled"] = {join: f"{marks:x}" for join, marks in self.spoiled.items()}
        return said

    @staticmethod
    def from_json(stored: JSONObject) -> Progress:
        """The progress that ``to_json`` stored."""
        known = dict(stored)
        for key in ("live", "seen"):
            if key in stored:
                known[key] = int(stored[key], 16)
        for key in ("marked", "spoiled"):
            if key in stored:
                known[key] = {join: int(marks, 16) for join, marks in stored[key].items()}
        if "undo" in stored:
            known["undo"] = Undo(*stored["undo"])
        return Progress(**known)


_PLAIN: Final = tuple(
    field.name for field in fields(Progress) if field.name not in ("live", "seen", "marked", "spoiled")
)
"""What is stored as it is."""
