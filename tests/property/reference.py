"""What a run's history says, told slowly from the rules of the design: an independent model of the planner.

``Retelling`` is given the definition and the rows of the history, save by save, and nothing else. It keeps names in
plain lists and sets, walks the graph anew for every question, and decides joins by the rule as the design states it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squidmesh.definition import COMPLETE, StepKind
from squidmesh.planner.plan import NewAttempt, NewAudit
from squidmesh.records import JobKind
from squidmesh.states import AttemptStatus, JobState, RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from squidmesh.definition import Definition
    from squidmesh.records import Job
    from tests.property.simulator import Row, Simulator

WAITS_FOR_PEOPLE = (StepKind.PAUSE, StepKind.APPROVAL)


@dataclass(slots=True)
class Visit:
    """A live visit to a step, or what undoes one."""

    step: str
    number: int
    attempt: int = 1
    before: int = 0
    """Attempts that were made before the run was retried: they do not count."""
    gate: bool = False
    """Whether it waits for a human."""
    undoing: bool = False
    """Whether it undoes that visit."""


class Retelling:
    """A run as its history tells it.

    Attributes:
        live: The live visits.
        visits: How often each step was reached.
        ended: For each (join, dependency), how the dependency ended since the join was last decided: "ok" or "bad".
        ending: FAILING, CANCELLING or COMPENSATING, once nothing begins any more.
        executed: Whether an attempt shows that something was handed out.
        skipped: The joins that were skipped, in the order of the decisions.
        undo: The visits that completed and can be undone, the oldest first.
        cancelled: Whether the run was cancelled.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.joins = {step.name: step.after for step in definition.steps if step.after}
        self.edges = {(edge.source, edge.outcome): edge.target for edge in definition.transitions}
        self.live: list[Visit] = []
        self.visits: Counter[str] = Counter()
        self.ended: dict[tuple[str, str], set[str]] = {}
        self.ending: RunStatus | None = None
        self.executed = False
        self.skipped: list[str | None] = []
        self.undo: list[tuple[str, int]] = []
        self.cancelled = self._undo_wanted = False
        self._since: list[NewAttempt] = []
        """The attempts from what made the run fail onwards."""
        for entry in definition.entries:
            self._reach(entry.name)

    @property
    def status(self) -> RunStatus:
        """The run's status: PENDING also where nothing but deferrals, which leave no row, shows that it runs."""
        if self.ending is not None:
            ended = RunStatus.CANCELLED if self.cancelled else RunStatus.FAILED
            return self.ending if self.live else ended
        waiting = any(self.definition.by_name[visit.step].kind is StepKind.SIGNAL for visit in self.live)
        self.executed |= waiting
        if not self.executed and not all(visit.gate for visit in self.live):
            return RunStatus.PENDING
        if not self.live:
            return RunStatus.COMPLETED
        if any(visit.attempt == 1 and not visit.gate for visit in self.live):
            return RunStatus.RUNNING
        return RunStatus.PAUSED if all(visit.gate for visit in self.live) else RunStatus.RETRYING

    def hear(self, saved: Sequence[Row], *, too_late: bool = False) -> None:
        """What was written in one save; and whether it was because the deadline was reached, of which no row tells."""
        before = len(self.skipped)
        if too_late:
            self.ending, self._since = RunStatus.FAILING, []
        if any(isinstance(row, NewAudit) and row.type == "retried" for row in saved):
            self._retry()
        for row in saved:
            match row:
                case NewAudit():
                    self._hear_audit(row)
                case NewAttempt(kind="step" | "compensation"):
                    self._hear_attempt(row)
                case _:
                    pass
        self._decide_joins()
        self._undo_next()
        audited = [row.step for row in saved if isinstance(row, NewAudit) and row.type == "skipped"]
        assert audited == self.skipped[before:], "the audited skips are not those that the rule asks for"

    # -- rows ----------------------------------------------------------------------------------------------------

    def _hear_audit(self, row: NewAudit) -> None:
        if row.type == "cancelled" and self.ending is not RunStatus.FAILING:
            self.ending, self.cancelled = RunStatus.CANCELLING, True
            self._undo_wanted |= row.metadata.get("compensate", False)
        elif row.type == "paused" and row.metadata["reason"] in ("quarantined", "interrupted"):
            self._find(row.step, row.metadata["visit"]).gate = True
        elif row.type == "resolved" and row.metadata["resolution"] == "rerun":
            visit = self._find(row.step, row.metadata["visit"])
            visit.gate = self.definition.by_name[visit.step].kind in WAITS_FOR_PEOPLE

    def _find(self, step: str | None, number: int) -> Visit:
        (visit,) = (v for v in self.live if (v.step, v.number) == (step, number))
        return visit

    def _hear_attempt(self, row: NewAttempt) -> None:
        taken_away = row.status is AttemptStatus.CANCELLED
        kept = self.definition.by_name[row.step].kind is StepKind.SIGNAL and row.worker is None and not taken_away
        if (taken_away and self.ending is None) or kept:
            # A join of this very save was reached too often, and so the run failed; or let a wait begin that a signal
            # ended at once.
            self._decide_joins()
            assert self.ending is None if kept else self.ending is not None
        self.executed |= row.worker is not None or not taken_away
        visit = self._find(row.step, row.visit)
        assert (visit.attempt, visit.undoing) == (row.attempt, row.kind == "compensation")
        if visit.undoing:
            self._end_undoing(visit, row)
        else:
            self._end(visit, row)

    def _end(self, visit: Visit, row: NewAttempt) -> None:
        going_on = self.ending is None
        if row.status is AttemptStatus.ABANDONED and going_on:
            return
        if row.status is AttemptStatus.FAILED and going_on and self._tried_again(visit, row):
            visit.attempt += 1
            return
        self.live.remove(visit)
        if row.status is AttemptStatus.COMPLETED and self.definition.by_name[row.step].compensate:
            self.undo.append((row.step, row.visit))
        if going_on:
            self._lead_on(visit.step, row.outcome or "error")
        if self.ending is not None:
            self._since = [*self._since, row]

    def _tried_again(self, visit: Visit, row: NewAttempt) -> bool:
        assert row.error is not None
        options = self.definition.by_name[row.step].options
        policy = options.compensate_retry if visit.undoing else options.retry
        return bool(row.error["retryable"]) and row.attempt - visit.before < policy.max_attempts

    def _lead_on(self, step: str, outcome: str) -> None:
        self._note(step, "ok" if outcome == "ok" else "bad")
        target = self._way(step, outcome)
        if target is None and outcome != "ok":
            self.ending, self._since = RunStatus.FAILING, []
        elif target is not None and target != COMPLETE:
            self._reach(target)

    def _way(self, step: str, outcome: str) -> str | None:
        other = "error" if outcome in ("rejected", "timeout") else outcome
        return self.edges.get((step, outcome), self.edges.get((step, other)))

    def _reach(self, step: str) -> None:
        self.visits[step] += 1
        declared = self.definition.by_name[step]
        if self.visits[step] > declared.visit_limit:
            self.ending, self._since = RunStatus.FAILING, []
        else:
            self.live.append(Visit(step, self.visits[step], gate=declared.kind in WAITS_FOR_PEOPLE))

    # -- undoing, and going on -----------------------------------------------------------------------------------

    def _undo_next(self) -> None:
        wanted = self.ending in (RunStatus.FAILING, RunStatus.COMPENSATING) or self._undo_wanted
        if self.ending is not None and wanted and not self.live and self.undo:
            self.ending = RunStatus.COMPENSATING
            self.live = [Visit(*self.undo[-1], undoing=True)]

    def _end_undoing(self, visit: Visit, row: NewAttempt) -> None:
        if row.status is AttemptStatus.ABANDONED:
            return
        if row.status is AttemptStatus.FAILED and self._tried_again(visit, row):
            visit.attempt += 1
            return
        assert self.undo.pop() == (visit.step, visit.number)
        self.live.remove(visit)

    def _retry(self) -> None:
        assert not self.live, "a run is retried that has not ended"
        since = {(row.step, row.visit): row for row in self._since}
        rows = sorted(since.values(), key=lambda row: row.seq)
        self.ending, self._since, self.executed = None, [], True
        for row in rows:
            if row.status is AttemptStatus.COMPLETED:
                outcome = row.outcome or "ok"
                if outcome == "ok" or self._way(row.step, outcome) is not None:
                    self._lead_on(row.step, outcome)
                    continue
                self._forgive(row.step)
                self._reach(row.step)
                continue
            self._forgive(row.step)
            number = row.attempt + (row.status is AttemptStatus.FAILED)
            visit = Visit(row.step, row.visit, number, number - 1)
            visit.gate = self.definition.by_name[row.step].kind in WAITS_FOR_PEOPLE
            self.live.append(visit)

    def _forgive(self, step: str) -> None:
        for join in self.joins:
            how = self.ended.get((join, step), set())
            how.discard("bad")
            if not how:
                self.ended.pop((join, step), None)

    # -- joins ---------------------------------------------------------------------------------------------------

    def _note(self, step: str, how: str) -> None:
        for join, after in self.joins.items():
            if step in after:
                self.ended.setdefault((join, step), set()).add(how)

    def _decide_joins(self) -> None:
        while self.ending is None and (decided := self._first(self._decidable())):
            for join in decided:
                if self.ending is None:
                    self._decide(join)

    def _decide(self, join: str) -> None:
        """It runs if a dependency completed and each other one's branch was not taken; otherwise it is skipped."""
        ended = {step: self.ended.pop((join, step), set[str]()) for step in self.joins[join]}
        completed = [step for step, how in ended.items() if "ok" in how]
        ended_badly = [step for step, how in ended.items() if "bad" in how and step not in completed]
        runs = bool(completed) and not ended_badly
        if runs:
            self._reach(join)
        else:
            self.skipped.append(join)
            self._note(join, "bad")

    def _decidable(self) -> list[str]:
        """The joins that were touched, and of which each dependency completed or can no longer run."""
        live = {visit.step for visit in self.live}
        coming = live | self._ahead(live)
        touched = sorted({join for join, _ in self.ended})
        return [join for join in touched if not self._missing(join) & coming]

    def _missing(self, join: str) -> set[str]:
        return {step for step in self.joins[join] if "ok" not in self.ended.get((join, step), ())}

    def _first(self, joins: list[str]) -> list[str]:
        """Those that wait for none of the others; where they wait in a circle, one of the circle."""
        leads = {join: {join} | self._ahead({join}) for join in joins}
        waits = {join: {other for other in joins if self._missing(join) & leads[other]} for join in joins}
        free = [join for join in joins if not waits[join]]
        return free or [join for join in joins if all(join in waits[other] for other in waits[join])][:1]

    def _ahead(self, steps: set[str]) -> set[str]:
        """Every step that may run because these do."""
        found: set[str] = set()
        while True:
            sources = steps | found
            targets = {target for (source, _), target in self.edges.items() if source in sources}
            targets |= {join for join, after in self.joins.items() if sources & set(after)}
            targets.discard(COMPLETE)
            if targets <= found:
                return found
            found |= targets


def what_follows(definition: Definition, outcomes: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """The steps that run and those that are skipped, in a graph without circles of which each step ends as given."""
    entries = {step.name for step in definition.entries}

    def runs(step: str) -> bool:
        edges = [edge for edge in definition.transitions if edge.target == step]
        led_to = any(runs(edge.source) and outcomes[edge.source] == edge.outcome for edge in edges)
        joins = any(ends_well(other) for other in definition.by_name[step].after) and not skipped(step)
        return step in entries or led_to or joins

    def ends_well(step: str) -> bool:
        return runs(step) and outcomes[step] == "ok"

    def ends_badly(step: str) -> bool:
        return skipped(step) or (runs(step) and outcomes[step] != "ok")

    def skipped(step: str) -> bool:
        return any(ends_badly(other) for other in definition.by_name[step].after)

    names = [step.name for step in definition.steps]
    return {name for name in names if runs(name)}, {name for name in names if skipped(name)}


def visits_of(sim: Simulator) -> Counter[tuple[str, int, int, bool]]:
    """The live visits, as the jobs show them."""
    return Counter((job.step, job.visit, job.attempt, is_gate(job)) for job in sim.jobs.values() if job.step)


def is_gate(job: Job) -> bool:
    """Whether a job waits for a person's decision, or goes on to do so."""
    trouble = job.state is JobState.PARKED and job.reason in ("quarantined", "interrupted")
    return trouble or job.kind == JobKind.GATE


def reached(sim: Simulator) -> Counter[str]:
    """How often each step was reached, as the progress has it."""
    progress = sim.run.progress
    return Counter({step: progress.visits.get(step, 1) for step in sim.graph.members(progress.seen)})


def noted(sim: Simulator) -> dict[tuple[str, str], set[str]]:
    """How the dependencies of joins ended, as the progress has it, in the form of ``Retelling.ended``."""
    found: dict[tuple[str, str], set[str]] = {}
    for how, notes in (("ok", sim.run.progress.marked), ("bad", sim.run.progress.spoiled)):
        for join, steps in notes.items():
            for step in sim.graph.members(steps):
                found.setdefault((join, step), set()).add(how)
    return found
