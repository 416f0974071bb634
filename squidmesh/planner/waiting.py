"""What a live step waits for: one cause for each job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.definition import StepKind
from squidmesh.explanation import Cause, Reason
from squidmesh.planner.offers import is_trouble
from squidmesh.planner.outcome import WORKER_DIED
from squidmesh.planner.shared import barrier, meters_json, named, unknown
from squidmesh.planner.sight import MOST_AHEAD
from squidmesh.planner.wording import (
    attempt_json,
    clock_time,
    counted,
    error_text,
    iso,
    job_json,
    lasted,
    until,
    what_of,
    worker_json,
)
from squidmesh.records import JobKind
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus

if TYPE_CHECKING:
    from squidmesh.definition import Step
    from squidmesh.meters import MeterTable
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.sight import SeenJob, Sight
    from squidmesh.records import JSON, JSONObject


class Waiting:
    """Tells what a job of a run waits for.

    Args:
        graph: The graph that the run started with.
        sight: The run as it was seen.
        seen: The job; not the run's deadline, which belongs to no step.
        known: The limits and rates that live code here declares.
    """

    def __init__(self, graph: Graph, sight: Sight, seen: SeenJob, known: MeterTable) -> None:
        self.graph = graph
        self.known = known
        self.sight = sight
        self.seen = seen
        self.job = seen.job
        self.step: Step = graph.steps[seen.job.step]
        self.what = what_of(seen)

    def cause(self) -> Cause:
        """The cause."""
        job = self.job
        if is_trouble(job):
            return self._interrupted() if job.reason == ParkedReason.INTERRUPTED else self._quarantined()
        if job.kind == JobKind.GATE:
            return self._approval() if self.step.kind is StepKind.APPROVAL else self._pause()
        if job.kind == JobKind.SIGNAL:
            return self._signal()
        if job.state is JobState.CLAIMED:
            return self._claimed()
        return self._stranded() or (self._sleeping() if self._asleep else self._ready())

    def _because(self, reason: Reason, summary: str, **details: JSON) -> Cause:
        known: JSONObject = {"attempt": self.job.attempt, "visit": self.job.visit, **details}
        if self.job.kind == JobKind.COMPENSATION:
            known["compensation"] = True
        evidence: JSONObject = {"job": job_json(self.seen)}
        if self.seen.last is not None:
            evidence["attempt"] = attempt_json(self.seen.last)
        if self.seen.worker is not None:
            evidence["worker"] = worker_json(self.seen)
        if self.seen.meters:
            evidence["meters"] = meters_json(self.seen.meters, self.known)
        return Cause(reason=reason, step=self.job.step, summary=summary, details=known, evidence=evidence)

    @property
    def _asleep(self) -> bool:
        run_at = self.seen.run_at
        return self.job.state is JobState.SLEEPING and run_at is not None and run_at > self.sight.now

    @property
    def _last_error(self) -> JSONObject | None:
        return self.seen.last.error if self.seen.last else None

    # -- what waits for a person, or for the world outside -------------------------------------------------------

    def _interrupted(self) -> Cause:
        summary = (
            f"{self.what} cannot be undone, and was cut off in the middle ({error_text(self._last_error)}): "
            "look at what it did, then say what is to become of it"
        )
        return self._because(Reason.INTERRUPTED, summary, last_error=self._last_error, since=iso(self.seen.since))

    def _quarantined(self) -> Cause:
        died = (self._last_error or {}).get("type") == WORKER_DIED
        why = "workers died with it" if died else "what happened to it could not be decided or stored"
        summary = f"{self.what} is set aside, because {why} ({error_text(self._last_error)})"
        crashes = self.job.crashes + died  # the last one has put it here, and is not counted
        return self._because(
            Reason.QUARANTINED,
            summary,
            last_error=self._last_error,
            crashes=crashes,
            since=iso(self.seen.since),
        )

    def _approval(self) -> Cause:
        needed = int(self.step.settings.get("approvers", 1))
        voted = [vote.actor for vote in self.sight.votes.get(self.job.step, ()) if vote.visit == self.job.visit]
        have = f", and has {len(voted)} of {needed}" if needed > 1 else ""
        summary = f"step {self.job.step!r} waits for approval since {clock_time(self.seen.since)}{have}"
        return self._because(
            Reason.PAUSED_FOR_APPROVAL,
            summary + self._limit("nobody decides"),
            approvals=len(voted),
            needed=needed,
            approved_by=voted,
            deadline=iso(self.seen.run_at),
            since=iso(self.seen.since),
            targets={"ok": self._target("ok"), "rejected": self._target("rejected")},
        )

    def _pause(self) -> Cause:
        summary = f"step {self.job.step!r} waits since {clock_time(self.seen.since)} for a person to unblock the run"
        details = {"since": iso(self.seen.since), "targets": {"ok": self._target("ok")}}
        return self._because(Reason.PAUSED_FOR_MANUAL_ACTION, summary, **details)

    def _signal(self) -> Cause:
        name = str(self.step.settings["signal"])
        summary = f"step {self.job.step!r} waits since {clock_time(self.seen.since)} for the signal {name!r}"
        return self._because(
            Reason.WAITING_FOR_SIGNAL,
            summary + self._limit("it does not come"),
            signal=name,
            timeout_at=iso(self.seen.run_at),
            since=iso(self.seen.since),
        )

    def _limit(self, otherwise: str) -> str:
        """What becomes of it in time."""
        if self.job.state is JobState.PARKED:
            return ""
        if not self._asleep:
            return (
                "; its time is up, which a worker will notice" if self.seen.servers else f"; its time is up, {_NOBODY}"
            )
        assert self.seen.run_at is not None, "it sleeps"  # noqa: S101 - a programming error
        target = self._target("timeout")
        then = "the run fails" if target is None else f"it goes on to {target!r}"
        return f"; if {otherwise}, {then} {until(self.seen.run_at, self.sight.now)}"

    def _target(self, outcome: str) -> str | None:
        edge = self.graph.way(self.job.step, outcome)
        return None if edge is None else edge.target

    # -- what a worker has, or could have ------------------------------------------------------------------------

    def _claimed(self) -> Cause:
        worker = self.seen.worker
        since = {"ready_at": iso(self.seen.ready_at), "since": iso(self.seen.since)}
        if worker is None or not worker.alive:
            where = f" on {worker.host}" if worker and worker.host else ""
            gone = f", whose lease ended {lasted(worker.late)} ago" if worker and worker.late is not None else ""
            others = self.sight.workers
            then = "another worker will rescue it" if others else "nobody rescues it, for no worker is alive; start one"
            return self._because(
                Reason.WORKER_LOST,
                f"{self.what} is with a worker{where} that is lost{gone}: {then}",
                **since,
                alive=others,
            )
        summary = f"{self.what} is with the worker on {worker.host} (pid {worker.pid}), attempt {self.job.attempt}"
        return self._because(
            Reason.STEP_RUNNING,
            f"{summary}, live since {clock_time(self.seen.since)}",
            worker=str(worker.id),
            host=worker.host,
            pid=worker.pid,
            max_attempts=self._policy_attempts,
            **since,
        )

    @property
    def _policy_attempts(self) -> int:
        options = self.step.options
        policy = options.compensate_retry if self.job.kind == JobKind.COMPENSATION else options.retry
        return policy.max_attempts

    @property
    def _needs_code(self) -> bool:
        """Whether it takes a worker that has a function for it: waits and logs are done by any."""
        return self.job.kind == JobKind.COMPENSATION or (
            self.job.kind == JobKind.STEP and self.step.kind is StepKind.FUNCTION
        )

    def _stranded(self) -> Cause | None:
        """Whether nothing will move it: nobody serves it, or who does has no code for it."""
        queue, key = self.job.queue, f"{self.sight.run.workflow}/{self.job.kind}/{self.job.step}"
        parked = self.job.state is JobState.PARKED
        if self._asleep:
            return None
        since = iso(self.seen.ready_at)
        if not self.seen.servers:
            summary = f"no live worker serves the queue {queue!r} of {self.what}: start one"
            return self._because(
                Reason.NO_WORKER_FOR_QUEUE, summary, queue=queue, ready_at=since, workers=0, alive=self.sight.workers
            )
        if (self._needs_code or parked) and not self.seen.knowing:
            serve = (
                f"{counted(self.seen.servers, 'live worker')} serve{'s' * (self.seen.servers == 1)} the queue {queue!r}"
            )
            summary = f"{serve}, and none has code for {self.what} of {self.sight.run.workflow}: deploy one that has"
            return self._because(
                Reason.NO_WORKER_KNOWS_STEP, summary, queue=queue, knows=key, ready_at=since, workers=self.seen.servers
            )
        return None

    @property
    def _abandoned(self) -> bool:
        return self.seen.last is not None and self.seen.last.status is AttemptStatus.ABANDONED

    def _ready(self) -> Cause:
        ahead = self.seen.ahead
        place = self._place(ahead)
        details: JSONObject = {
            "queue": self.job.queue,
            "ahead": ahead,
            "ahead_is_all": ahead < MOST_AHEAD,
            "ready_at": iso(self.seen.ready_at),
            "workers": self.seen.servers,
        }
        if self.seen.meters:
            details["unknown"] = unknown(self.seen.meters, self.known)
        shut = barrier(self.seen.meters, self.known, self.sight.now)
        if self._abandoned:
            where = place if shut is None else f"{shut.said}; {place}"
            alone = ", alone and not beside others" if self.job.lane.suspect else ""
            summary = f"{self.what} was abandoned ({error_text(self._last_error)}) and is to run again{alone}: {where}"
            details |= {"crashes": self.job.crashes, "last_error": self._last_error}
            return self._because(Reason.RESCUED, summary, **details)
        if self.job.state is JobState.PARKED:
            summary = f"{self.what} was set aside by a worker without code for it; one that has it will take it over"
            return self._because(Reason.STEP_SCHEDULED, summary, **details)
        if shut is not None:
            before = f"; {place}" if ahead else ""
            return self._because(
                shut.reason, f"{self.what} is ready, but {shut.said}{before}", **details, **shut.details
            )
        if ahead:
            return self._because(Reason.QUEUED, f"{self.what} is ready, {place}", **details)
        if self.sight.run.status is RunStatus.PENDING:
            summary = f"the run was started {clock_time(self.sight.created_at)}, and {self.what} is {place}"
            return self._because(Reason.PENDING_DISPATCH, summary, **details)
        return self._because(Reason.STEP_SCHEDULED, f"{self.what} is ready, {place}", **details)

    def _place(self, ahead: int) -> str:
        """Its place among those that are ready; of what is shared, how much there is may not be known here."""
        many = f"{MOST_AHEAD} or more jobs" if ahead >= MOST_AHEAD else counted(ahead, "job")
        meters = self.seen.meters
        if not meters:
            return (
                f"behind {many} of the queue {self.job.queue!r}" if ahead else f"next in the queue {self.job.queue!r}"
            )
        names = " and ".join(dict.fromkeys(named(meter.name) for meter in meters))
        tail = "; how much that allows is known to its code only" if unknown(meters, self.known) else ""
        return (f"behind {many} that share" if ahead else "next of those that share") + f" {names}{tail}"

    def _sleeping(self) -> Cause:
        assert self.seen.run_at is not None, "it sleeps"  # noqa: S101 - a programming error
        then, tail = until(self.seen.run_at, self.sight.now), "" if self.seen.servers else f", {_NOBODY} now"
        details: JSONObject = {"due": iso(self.seen.run_at), "queue": self.job.queue, "workers": self.seen.servers}
        if self.job.reason is not None:
            said = f" ({self.job.reason})" if self.job.reason else ""
            summary = f"{self.what} asked to come back later{said}, and runs again {then}"
            details |= {"said": self.job.reason, "defers": self.job.defers}
            return self._because(Reason.DEFERRED, summary + tail, **details)
        if self.seen.last is not None and self.seen.last.status is AttemptStatus.FAILED:
            number = f"attempt {self.job.attempt} of {self._policy_attempts}"
            summary = f"{self.what} failed ({error_text(self._last_error)}); {number} follows {then}"
            details |= {
                "next_attempt": self.job.attempt,
                "max_attempts": self._policy_attempts,
                "last_error": self._last_error,
            }
            return self._because(Reason.WAITING_FOR_RETRY, summary + tail, **details)
        if self.job.kind == JobKind.WAIT:
            return self._because(Reason.SLEEPING, f"{self.what} waits, and goes on {then}{tail}", **details)
        return self._because(Reason.DELAYED_START, f"the run begins with {self.what} {then}{tail}", **details)


_NOBODY = "and no live worker serves its queue"
