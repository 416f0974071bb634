"""A random schedule: workers that claim, finish, fail, crash and give back, and people who decide, send and cancel.

What happens next is taken from decisions that were drawn beforehand. When those run out, every step ends well and in
order, so a schedule always comes to an end, if the planner lets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from squidmesh.definition import StepKind
from squidmesh.errors import SquidMeshError
from squidmesh.planner.decisions import RESOLUTIONS
from squidmesh.planner.outcome import (
    Abandoned,
    Broken,
    Completed,
    Deferred,
    Elapsed,
    Failed,
    Filed,
    Finding,
    Output,
    Returned,
    Unknown,
)
from squidmesh.records import BODILESS, DEADLINE_SLOT, JobKind
from squidmesh.states import JobState, ParkedReason, RunStatus
from tests.property.simulator import OTHER_WORKER, WORKER, Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from squidmesh.definition import Definition
    from squidmesh.planner.outcome import Happening
    from squidmesh.planner.plan import LockedRun, Plan
    from squidmesh.records import Job
    from tests.property.strategies import Choices

SMALL: Final = Output('{"n": 1}', {"n": 1})
LARGE: Final = Output("x" * 80_000, {"n": "x" * 79_000})
"""Enough for a snapshot."""

MOST_RETRIES: Final = 2
"""So many attempts are looked at before a run is not retried any more: there would be no end."""

BROKEN_OFF: Final = {"type": "WorkerLost", "message": "gone"}

ENDINGS: Final = (
    *("well", "well", "well", "review", "review", "retryable", "retryable", "final", "surprise"),
    *("defer", "crash", "crash", "cut off", "return", "unknown", "filed", "broken"),
)
"""How a job that was handed out may end; "well" first, as Choices wants it."""

UNSTARTED: Final = ("well", "well", "crash", "return")
"""The same for a job without a body."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One save: the run and its jobs before it, what was found, and the plan that was applied."""

    run: LockedRun
    jobs: dict[int, Job]
    findings: tuple[Finding, ...]
    plan: Plan


class Driver:
    """Drives a run by chance until only a human could go on.

    Args:
        sim: The run.
        chosen: The decisions.
        outcomes: Of each step, the outcome with which it completes. Without them, anything happens.
        most_at_once: How many findings a batch has at most.
        people: Whether people decide, send signals and retry, too; then the run goes on until it has ended.
    """

    def __init__(
        self,
        sim: Simulator,
        chosen: Choices,
        *,
        outcomes: Mapping[str, str] | None = None,
        most_at_once: int = 4,
        people: bool = False,
    ) -> None:
        self.sim = sim
        self.chosen = chosen
        self.outcomes = outcomes
        self.most_at_once = most_at_once
        self.people = people
        self.refused: list[SquidMeshError] = []
        """What was asked for and could not be done."""
        self.sent: list[tuple[str, int]] = []
        """The signals that were sent, by name and number."""
        self._acted = self._retried = 0

    def turns(self) -> Iterator[Turn]:
        """Every save, just after it was applied."""
        while self._anything_left():
            if self.people and self._people_act():
                if turn := self._ask_something():
                    yield turn
            elif self.outcomes is None and not self.sim.run.status.ending and self.chosen.once_in(100):
                yield self._cancel()
            elif claimed := self._claimed_to_finish():
                yield self._finish(claimed)
            else:
                self._hand_out()

    def _anything_left(self) -> bool:
        if self.people and self.sim.run.status is RunStatus.FAILED and self._retried < MOST_RETRIES:
            return self.chosen.once_in(2)
        return any(self.people or not self.sim.waits_for_human(job) for job in self.sim.jobs.values())

    def _people_act(self) -> bool:
        """Whether it is their turn: by chance, or because nothing goes on without them."""
        steps = [job for job in self.sim.jobs.values() if job.kind != JobKind.TIMER]
        return all(self.sim.waits_for_human(job) for job in steps) or self.chosen.once_in(5)

    def _ask_something(self) -> Turn | None:
        """Ask for one thing that may be asked for, often at the wrong moment; None if it was refused."""
        run, jobs = self.sim.run, dict(self.sim.jobs)
        self._acted += 1
        try:
            plan = self._request()()
        except SquidMeshError as error:
            assert (self.sim.run, self.sim.jobs) == (run, jobs), "what is refused changes nothing"
            self.refused.append(error)
            return None
        return None if plan is None else Turn(run, jobs, (), plan)

    def _request(self) -> Callable[[], Plan | None]:
        sim, chosen = self.sim, self.chosen
        if sim.run.status is RunStatus.FAILED:
            self._retried += 1
            return sim.retry
        waiting = [job for job in sim.jobs.values() if sim.waits_for_human(job)]
        what = chosen.among(("help", "help", "help", "help", "signal", "review", "unblock", "cancel"))
        if what == "help" and waiting:
            return lambda: self._help(chosen.among(waiting))
        steps = [step for step in sim.graph.names if sim.graph.steps[step].kind is not StepKind.FUNCTION]
        step = chosen.among((None, *steps))
        if what == "cancel" and chosen.once_in(3):
            undo, force = chosen.once_in(2), chosen.once_in(3)
            return lambda: sim.cancel(compensate=undo, force=force)
        if what == "review":
            approve = chosen.among((True, False))
            return lambda: sim.review(step, chosen.among(("ada", "bob")), approve=approve)
        if what == "unblock":
            return lambda: sim.unblock(step, chosen.among(RESOLUTIONS))
        signals = {str(step.settings["signal"]) for step in sim.graph.steps.values() if step.kind is StepKind.SIGNAL}
        return lambda: self._send(chosen.among((*sorted(signals), "stop")))

    def _help(self, job: Job) -> Plan:
        """Do what the job waits for, in one of the ways there are."""
        if job.reason in (ParkedReason.QUARANTINED, ParkedReason.INTERRUPTED):
            return self.sim.unblock(job.step, self.chosen.among(("completed", "rerun", "failed")))
        if job.kind == JobKind.SIGNAL:
            return self._send(str(self.sim.graph.steps[job.step].settings["signal"]))
        if self.sim.graph.steps[job.step].kind is StepKind.PAUSE:
            return self.sim.unblock(job.step)
        approve = not self.chosen.once_in(4)
        return self.sim.review(job.step, {"n": self._acted}, approve=approve)

    def _send(self, name: str) -> Plan:
        number = len(self.sent)
        plan = self.sim.signal(name, number, key=str(number))
        self.sent.append((name, number))
        return plan

    def _claimed_to_finish(self) -> list[int]:
        """Jobs that end in one batch, if any do now: those that are not handed out may be first."""
        claimed = self.sim.slots(JobState.CLAIMED)
        if not claimed or (self._waiting() and self.chosen.once_in(2)):
            return []
        batch = [self.chosen.among(claimed)]
        while len(batch) < min(len(claimed), self.most_at_once) and self.chosen.once_in(2):
            batch.append(self.chosen.among([slot for slot in claimed if slot not in batch]))
        # A deadline is told of alone, so that the history alone says what came before it.
        return [DEADLINE_SLOT] if DEADLINE_SLOT in batch else batch

    def _waiting(self) -> list[int]:
        """The slots of the jobs that can be woken or handed out."""
        jobs = self.sim.jobs.items()
        found = [slot for slot, job in jobs if job.state is not JobState.CLAIMED and not self.sim.waits_for_human(job)]
        return sorted(found, key=lambda slot: (slot == DEADLINE_SLOT, self.sim.jobs[slot].kind in (JobKind.GATE, JobKind.SIGNAL), slot))  # fmt: skip

    def _hand_out(self) -> None:
        slot = self.chosen.among(self._waiting())
        if self.sim.jobs[slot].state is JobState.SLEEPING:
            self.sim.wake(slot)
        else:
            self.sim.claim(slot, self.chosen.among((WORKER, OTHER_WORKER)))

    def _cancel(self) -> Turn:
        run, jobs = self.sim.run, dict(self.sim.jobs)
        plan = self.sim.cancel()
        assert plan is not None
        return Turn(run, jobs, (), plan)

    def _finish(self, slots: list[int]) -> Turn:
        run, jobs = self.sim.run, dict(self.sim.jobs)
        findings = tuple(self.sim.finding(slot, self._happening(jobs[slot])) for slot in slots)
        return Turn(run, jobs, findings, self.sim.save(*findings))

    def _happening(self, job: Job) -> Happening:
        if self.outcomes is not None:
            return Completed(outcome=self.outcomes[job.step])
        if job.kind in BODILESS and job.kind != JobKind.WAIT:
            others: tuple[Happening, ...] = (Abandoned(BROKEN_OFF), Returned(), Broken(BROKEN_OFF))
            return self.chosen.among((Elapsed(), Elapsed(), *others))
        if job.kind == JobKind.WAIT:
            what = self.chosen.among(UNSTARTED)
        else:
            what = self.chosen.among(ENDINGS)
            # Most runs are to live on, for what comes later is more interesting.
            what = what if self._leads_on(job, what) or self.chosen.once_in(5) else "well"
        return self._happen(what)

    def _leads_on(self, job: Job, what: str) -> bool:
        """Whether the run goes on although the step ends in this way."""
        if job.kind == JobKind.COMPENSATION:
            return True
        if what in ("review", "surprise"):
            return (job.step, what) in self.sim.graph.edges
        if what in ("retryable", "final"):
            policy = self.sim.graph.steps[job.step].options.retry
            return (job.step, "error") in self.sim.graph.edges or (
                what == "retryable" and job.attempt < policy.max_attempts
            )
        return what != "broken"

    def _happen(self, what: str) -> Happening:
        output = self.chosen.among((None, SMALL, LARGE))
        error = {"type": "Error", "message": what, "retryable": what != "final"}
        happenings: dict[str, Happening] = {
            "well": Completed(output),
            "review": Completed(output, "review"),
            "surprise": Completed(output, "surprise"),
            "retryable": Failed(error, retry_after=self.chosen.among((None, 7.0)), chance=0.5),
            "final": Failed(error, retryable=False),
            "defer": Deferred(30.0, "not yet"),
            "crash": Abandoned(BROKEN_OFF),
            "cut off": Abandoned(BROKEN_OFF, cut_off=True),
            "return": Returned(),
            "unknown": Unknown(),
            "filed": Filed("w/s=a\n\n"),
            "broken": Broken(BROKEN_OFF),
        }
        return happenings[what]


def moves_that_occur(definition: Definition) -> set[tuple[RunStatus, RunStatus]]:
    """Every move of everything that can happen to a run, but for deferrals and other ways to wait."""
    found: set[tuple[RunStatus, RunStatus]] = set()
    seen: set[object] = set()
    ahead = [Simulator(definition)]
    while ahead:
        sim = ahead.pop()
        for after in _futures(sim):
            found.add((sim.run.status, after.run.status))
            if (place := _place(after)) not in seen:
                seen.add(place)
                ahead.append(after)
    return found


def _place(sim: Simulator) -> object:
    """Where a run stands, as far as it matters for what may become of it."""
    jobs = frozenset((j.step, j.kind, j.state, j.attempt, j.crashes, j.reason) for j in sim.jobs.values())
    progress = sim.run.progress
    lost = frozenset((a.step, a.status) for a in sim.attempts if 0 < progress.failed_at <= a.seq)
    undo = progress.undo and (progress.undo.cancelled, progress.undo.below > 0)
    return sim.run.status, jobs, lost, undo, tuple(progress.signals)


def _futures(sim: Simulator) -> Iterator[Simulator]:
    """The run after each single thing that can happen to it now."""
    happenings: tuple[Happening, ...] = (Completed(), Failed({"retryable": True}), Abandoned(BROKEN_OFF))
    for slot in sim.slots(JobState.READY):
        (after := sim.fork()).claim(slot)
        yield after
    for slot in sim.slots(JobState.SLEEPING):
        (after := sim.fork()).wake(slot)
        yield after
    for slot in sim.slots(JobState.CLAIMED):
        for happening in (Elapsed(),) if sim.jobs[slot].kind in BODILESS else happenings:
            (after := sim.fork()).save(after.finding(slot, happening))
            yield after
    yield from _asked(sim)


def _asked(sim: Simulator) -> Iterator[Simulator]:
    """The run after each single thing that people and the world outside can ask of it now."""
    asked: list[Callable[[Simulator], object]] = [
        lambda run: run.cancel(),
        lambda run: run.cancel(compensate=True),
        lambda run: run.cancel(force=True),
        lambda run: run.review(),
        lambda run: run.review(approve=False),
        lambda run: run.signal("go"),
    ]
    steps = sorted({job.step for job in sim.jobs.values()})
    asked += [
        lambda run, step=step, resolution=resolution: run.unblock(step, resolution)  # type: ignore[misc]
        for step in steps
        for resolution in (None, "rerun", "completed", "failed")
    ]
    if sim.run.progress.retried.get("retried/1", 0) < MOST_RETRIES:
        asked.append(lambda run: run.retry())
    for request in asked:
        after = sim.fork()
        try:
            request(after)
        except SquidMeshError:
            continue
        yield after
