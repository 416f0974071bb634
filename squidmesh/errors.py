"""The error tree: everything that squidmesh raises on purpose, with data and a remedy.

::

    SquidMeshError
    ├── DefinitionError (ValueError)       a workflow is declared wrongly: all problems at once
    ├── RequestError (ValueError)          an argument of a call cannot be used; nothing was stored
    │   ├── InvalidPayload                 the payload does not meet the trigger's contract
    │   ├── InvalidOption                  an option has an unusable value
    │   └── InvalidRunId                   not the text of a UUID
    ├── NotFound (LookupError)
    │   ├── RunNotFound
    │   ├── WorkflowNotFound
    │   ├── TriggerNotFound
    │   ├── SignalNotFound
    │   ├── ScheduleNotFound
    │   └── MeterNotFound
    ├── ScheduleExists                     there is a schedule of this name
    ├── IllegalMove                        the run's status does not allow what was asked
    ├── NotWaiting                         nothing of the run waits for what was decided
    ├── AlreadyVoted                       this actor has approved already; another one is needed
    ├── NotRetryable                       a failed run cannot go on from where it failed
    ├── UnsafeReplay                       a replay would repeat what cannot be undone
    ├── InconsistentRun                    a run's rows contradict each other
    ├── RunExists                          a start with on_conflict="raise" whose key is taken
    ├── ConfigurationError                 the app, the database address or a queue is set up wrongly
    ├── SchemaError                        the database's schema is missing or not served by this code
    ├── ConnectionUnusable                 a ``connection=`` that cannot take part
    ├── CommitUnknown                      the connection was lost while a commit was on its way
    ├── RunTimeout (TimeoutError)          ``wait_for_run`` gave up waiting; the run goes on
    ├── WorkerStopped                      a worker lost its engine or its lease
    ├── HarnessError                       ``squidmesh.testing`` cannot go on; what it ran is stored
    └── StepError                          raised by a step: what is stored is what it carries
        ├── Fail                           give up at once
        ├── RetryAfter                     use an attempt, come back after a delay
        ├── InvalidInput                   the step's parameters cannot be filled from the run
        ├── InvalidOutput                  what the step returned cannot be stored
        └── TransactionError               what the step did with its transaction leaves nothing to commit

    Defer (Exception)                      raised by a step to come back later; not an error, so not in the tree

Every error has a ``code`` (stable, machine-readable) and ``details`` (a JSON object).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from squidmesh.records import JSON, JSONObject


class SquidMeshError(Exception):
    """The root of all errors that squidmesh raises on purpose."""

    code: ClassVar[str] = "error"

    @property
    def details(self) -> JSONObject:
        """What the error knows, as a JSON object."""
        return {}

    def to_json(self) -> JSONObject:
        """The error as a JSON object: ``error`` (its code), ``message`` and its details."""
        return {"error": self.code, "message": str(self), **self.details}


class DefinitionError(SquidMeshError, ValueError):
    """A workflow is declared wrongly.

    Args:
        workflow: The workflow's name.
        problems: Every problem found, each saying where it is and how to mend it.
    """

    code = "invalid_definition"

    def __init__(self, workflow: str, problems: Sequence[str]) -> None:
        self.workflow = workflow
        self.problems = tuple(problems)
        super().__init__("\n".join([f"workflow {workflow!r} cannot be used:", *(f"- {p}" for p in problems)]))

    @property
    def details(self) -> JSONObject:
        """The workflow and its problems."""
        return {"workflow": self.workflow, "problems": list(self.problems)}


class RequestError(SquidMeshError, ValueError):
    """An argument of a call cannot be used. Nothing was stored."""

    code = "invalid_request"


class InvalidPayload(RequestError):
    """A payload does not meet its contract.

    Args:
        workflow: The workflow whose contract was applied.
        missing_fields: Required fields that are absent, in the order of their declaration.
        unknown_fields: Fields that the contract does not have, sorted.
        invalid_fields: Path of each unusable value (``items[2].price``) and what is wrong with it.
    """

    code = "invalid_payload"

    def __init__(
        self,
        workflow: str,
        *,
        missing_fields: Sequence[str] = (),
        unknown_fields: Sequence[str] = (),
        invalid_fields: Mapping[str, str] | None = None,
    ) -> None:
        self.workflow = workflow
        self.missing_fields = tuple(missing_fields)
        self.unknown_fields = tuple(unknown_fields)
        self.invalid_fields = dict(invalid_fields or {})
        said = [f"{name}: required, but missing" for name in self.missing_fields]
        said += [f"{name}: not a field of this payload" for name in self.unknown_fields]
        said += [f"{path}: {problem}" for path, problem in self.invalid_fields.items()]
        super().__init__(f"the payload of {workflow!r} is invalid: " + "; ".join(said))

    @property
    def details(self) -> JSONObject:
        """The three kinds of problems; empty kinds are left out."""
        found: JSONObject = {
            "missing_fields": list(self.missing_fields),
            "unknown_fields": list(self.unknown_fields),
            "invalid_fields": dict(self.invalid_fields),
        }
        return {"workflow": self.workflow, **{k: v for k, v in found.items() if v}}


class InvalidOption(RequestError):
    """An option of a call has an unusable value.

    Args:
        option: The option's name.
        problem: What is wrong with it and what is allowed.
    """

    code = "invalid_option"

    def __init__(self, option: str, problem: str) -> None:
        self.option = option
        super().__init__(f"{option}: {problem}")

    @property
    def details(self) -> JSONObject:
        """The option's name."""
        return {"option": self.option}


class InvalidRunId(RequestError):
    """A run id that is not the text of a UUID."""

    code = "invalid_run_id"

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(f"{value!r} is not a run id; a run id is a UUID, as start_run returns it")

    @property
    def details(self) -> JSONObject:
        """The value that was given, as text."""
        return {"value": str(self.value)}


class NotFound(SquidMeshError, LookupError):
    """Something that was named does not exist."""

    code = "not_found"


class RunNotFound(NotFound):
    """No run has this id (any more: retention removes finished runs)."""

    code = "run_not_found"

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id
        super().__init__(f"there is no run {run_id}")

    @property
    def details(self) -> JSONObject:
        """The id that was asked for."""
        return {"run_id": str(self.run_id)}


class WorkflowNotFound(NotFound):
    """No workflow of this name was handed to ``SquidMesh(workflows=...)``."""

    code = "workflow_not_found"

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        have = ", ".join(self.known) or "none"
        super().__init__(f"there is no workflow {name!r}; registered: {have}. Pass it in SquidMesh(workflows=[...])")

    @property
    def details(self) -> JSONObject:
        """The name asked for and the names known."""
        return {"workflow": self.name, "known": list(self.known)}


class TriggerNotFound(NotFound):
    """The workflow has no trigger of this name."""

    code = "trigger_not_found"

    def __init__(self, workflow: str, name: str, known: Sequence[str]) -> None:
        self.workflow = workflow
        self.name = name
        self.known = tuple(known)
        super().__init__(f"workflow {workflow!r} has no trigger {name!r}; it has: {', '.join(known)}")

    @property
    def details(self) -> JSONObject:
        """The workflow, the name asked for and the names known."""
        return {"workflow": self.workflow, "trigger": self.name, "known": list(self.known)}


class SignalNotFound(NotFound):
    """No step of the run's graph waits for a signal of this name."""

    code = "signal_not_found"

    def __init__(self, run_id: UUID, name: str, known: Sequence[str]) -> None:
        self.run_id = run_id
        self.name = name
        self.known = tuple(known)
        have = ", ".join(self.known) or "no signal at all"
        super().__init__(f"no step of run {run_id} waits for a signal {name!r}; its workflow waits for: {have}")

    @property
    def details(self) -> JSONObject:
        """The run, the name asked for and the names known."""
        return {"run_id": str(self.run_id), "signal": self.name, "known": list(self.known)}


class ScheduleNotFound(NotFound):
    """No schedule has this name."""

    code = "schedule_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        hint = "one that code declares is named workflow/trigger, and is there once a worker has started"
        super().__init__(f"there is no schedule {name!r}; {hint}")

    @property
    def details(self) -> JSONObject:
        """The name that was asked for."""
        return {"schedule": self.name}


class MeterNotFound(NotFound):
    """No limit or rate has this name.

    Args:
        name: The name that was asked for.
        known: What this process's code declares, with a placeholder where it has a key.
    """

    code = "meter_not_found"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        declared = f"this app declares {', '.join(self.known)}" if self.known else "this app declares none"
        super().__init__(f"there is no limit or rate {name!r}: {declared}, and the database has nothing filed under it")

    @property
    def details(self) -> JSONObject:
        """The name that was asked for, and those that are declared."""
        return {"meter": self.name, "known": list(self.known)}


class ScheduleExists(SquidMeshError):
    """There is a schedule of this name already. Nothing was stored."""

    code = "schedule_exists"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is a schedule {name!r} already; change it, or choose another name")

    @property
    def details(self) -> JSONObject:
        """The name that is taken."""
        return {"schedule": self.name}


class IllegalMove(SquidMeshError):
    """The run's status does not allow what was asked. Nothing was changed.

    Args:
        run_id: The run.
        status: Its status when it was locked.
        wanted: What was asked, as a verb ("cancel", "replay").
        allowed: The statuses in which it would be possible.
    """

    code = "illegal_move"

    def __init__(self, run_id: UUID, status: str, wanted: str, allowed: Sequence[str]) -> None:
        self.run_id = run_id
        self.status = status
        self.wanted = wanted
        self.allowed = tuple(allowed)
        super().__init__(f"cannot {wanted} run {run_id}: it is {status}; possible only when {' or '.join(allowed)}")

    @property
    def details(self) -> JSONObject:
        """The run, its status, what was wanted and when it is allowed."""
        return {
            "run_id": str(self.run_id),
            "status": self.status,
            "wanted": self.wanted,
            "allowed": list(self.allowed),
        }


class NotWaiting(SquidMeshError):
    """Nothing of the run waits for what was asked: it was decided already, or is not reached yet. Nothing was changed.

    Args:
        run_id: The run.
        wanted: What was asked, as a verb ("approve", "unblock").
        step: The step that was named, if one was.
        waiting: The steps that do wait for it.
        status: The run's status.
    """

    code = "not_waiting"

    def __init__(self, run_id: UUID, wanted: str, step: str | None, waiting: Sequence[str], status: str) -> None:
        self.run_id = run_id
        self.wanted = wanted
        self.step = step
        self.waiting = tuple(waiting)
        self.status = status
        what = f"step {step!r} does not wait for that" if step else "no step waits for that"
        have = f"; what does: {', '.join(waiting)}" if waiting else ""
        super().__init__(f"cannot {wanted} run {run_id}, which is {status}: {what} now{have}")

    @property
    def details(self) -> JSONObject:
        """The run, its status, what was asked of which step, and the steps that wait for it."""
        return {
            "run_id": str(self.run_id),
            "status": self.status,
            "wanted": self.wanted,
            "step": self.step,
            "waiting": list(self.waiting),
        }


class AlreadyVoted(SquidMeshError):
    """This actor has approved this step already; it takes another one. Nothing was changed."""

    code = "already_voted"

    def __init__(self, run_id: UUID, step: str, votes: int, needed: int) -> None:
        self.run_id = run_id
        self.step = step
        self.votes = votes
        self.needed = needed
        super().__init__(
            f"this actor has approved step {step!r} of run {run_id} already; {votes} of {needed} approvals are there, "
            "and each must come from somebody else"
        )

    @property
    def details(self) -> JSONObject:
        """The run, the step, and how many approvals there are and are needed."""
        return {"run_id": str(self.run_id), "step": self.step, "votes": self.votes, "needed": self.needed}


class NotRetryable(SquidMeshError):
    """A failed run cannot go on from where it failed. Nothing was changed.

    Args:
        run_id: The run.
        reason: Why, and what to do instead.
    """

    code = "not_retryable"

    def __init__(self, run_id: UUID, reason: str) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__(f"run {run_id} cannot be retried: {reason}")

    @property
    def details(self) -> JSONObject:
        """The run."""
        return {"run_id": str(self.run_id)}


class UnsafeReplay(SquidMeshError):
    """A replay would run steps again that have completed and cannot be undone. Nothing was stored.

    Args:
        run_id: The run that was to be replayed.
        steps: The irreversible and not compensatable steps that completed in it and would run again.
    """

    code = "unsafe_replay"

    def __init__(self, run_id: UUID, steps: Sequence[str]) -> None:
        self.run_id = run_id
        self.steps = tuple(steps)
        super().__init__(
            f"run {run_id} has completed steps that cannot be undone ({', '.join(steps)}), which a replay would run "
            "again; pass allow_irreversible=True if that is meant"
        )

    @property
    def details(self) -> JSONObject:
        """The run, the steps, and the option that overrides."""
        return {"run_id": str(self.run_id), "steps": list(self.steps), "required_override": "allow_irreversible"}


class InconsistentRun(SquidMeshError):
    """A run's jobs are not those that its state counts: rows were changed by hand. Nothing was changed."""

    code = "inconsistent_run"

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id
        super().__init__(f"the jobs of run {run_id} are not those that its state counts; was one removed by hand?")

    @property
    def details(self) -> JSONObject:
        """The run."""
        return {"run_id": str(self.run_id)}


class RunExists(SquidMeshError):
    """There is a run of the workflow with this key, and the start said ``on_conflict="raise"``. Nothing was stored.

    Args:
        run_id: The run that has the key.
        workflow: Its workflow.
        key: The key.
    """

    code = "run_exists"

    def __init__(self, run_id: UUID, workflow: str, key: str) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.key = key
        super().__init__(f"run {run_id} of {workflow!r} has the key {key!r} already; nothing was started")

    @property
    def details(self) -> JSONObject:
        """The run that has the key, its workflow, and the key."""
        return {"run_id": str(self.run_id), "workflow": self.workflow, "key": self.key}


class ConfigurationError(SquidMeshError):
    """The app, the database address or a queue is set up wrongly."""

    code = "configuration"


class SchemaError(SquidMeshError):
    """The database's schema is missing, or outside the range that this code serves."""

    code = "schema"


class ConnectionUnusable(SquidMeshError):
    """A ``connection=`` cannot take part: closed, in a failed transaction, in pipeline mode, or isolated too highly."""

    code = "connection_unusable"


class CommitUnknown(SquidMeshError):
    """The connection was lost while a commit was on its way: it may have happened or not. Look before repeating."""

    code = "commit_unknown"


class RunTimeout(SquidMeshError, TimeoutError):
    """``wait_for_run`` gave up waiting. The run itself goes on."""

    code = "run_timeout"

    def __init__(self, run_id: UUID, seconds: float, status: str) -> None:
        self.run_id = run_id
        self.seconds = seconds
        self.status = status
        super().__init__(f"run {run_id} is still {status} after {seconds:g} s")

    @property
    def details(self) -> JSONObject:
        """The run, the seconds waited and its last known status."""
        return {"run_id": str(self.run_id), "seconds": self.seconds, "status": self.status}


class WorkerStopped(SquidMeshError):
    """A worker stopped by itself: its engine failed. The cause is chained."""

    code = "worker_stopped"


class HarnessError(SquidMeshError):
    """A test with ``squidmesh.testing`` cannot go on: nothing can happen any more, or too much does."""

    code = "harness"


class StepError(SquidMeshError):
    """Raised by a step's body; what it carries is what is stored as the attempt's error.

    Args:
        message: What went wrong, for people.
        details: What else is worth storing: JSON values only.
        retryable: False gives up at once; None leaves it to the step's ``Retry``; True is stronger than its ``on`` and
            ``give_up_on``, not than its ``max_attempts``.
        retry_after: Seconds (or timedelta) to wait before the next attempt, in place of the step's backoff.
        pause: Whether nothing else begins before ``retry_after`` that shares the step's ``rate=`` (or, without one, its
            ``limit=``) for the same value of the key; without any of them it changes nothing.
    """

    code = "step_error"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, JSON] | None = None,
        retryable: bool | None = None,
        retry_after: float | timedelta | None = None,
        pause: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.pause = pause
        self.retryable = retryable
        self.retry_after = retry_after.total_seconds() if isinstance(retry_after, timedelta) else retry_after
        self._details = dict(details or {})

    @property
    def details(self) -> JSONObject:
        """What else is worth storing."""
        return dict(self._details)


class Fail(StepError):
    """Give up this step at once, whatever its ``Retry`` says.

    Example:
        >>> raise Fail("card expired", card="4242")
        Traceback (most recent call last):
        squidmesh.errors.Fail: card expired
    """

    code = "fail"

    def __init__(self, message: str, **details: JSON) -> None:
        super().__init__(message, details=details, retryable=False)


class RetryAfter(StepError):
    """Use an attempt and come back after ``delay`` (seconds or timedelta) instead of the step's backoff.

    Args:
        delay: Seconds or timedelta, not negative.
        message: Why, for people.
        pause: Whether what shares the step's ``rate=`` or ``limit=`` waits as long, too.
        details: What else is worth storing.
    """

    code = "retry_after"

    def __init__(
        self,
        delay: float | timedelta,
        message: str = "asked to be retried later",
        *,
        pause: bool = False,
        **details: JSON,
    ) -> None:
        super().__init__(message, details=details, retryable=True, retry_after=delay, pause=pause)


class InvalidInput(StepError):
    """The step's parameters cannot be filled from the payload and what earlier steps returned."""

    code = "invalid_input"


class InvalidOutput(StepError):
    """What the step returned cannot be stored."""

    code = "invalid_output"


class TransactionError(StepError):
    """What a step did with its transaction, or without one: nothing of it can be committed with its result."""

    code = "transaction_error"


class Defer(Exception):
    """Come back after ``delay`` (seconds or timedelta) without using an attempt.

    Args:
        delay: Seconds or timedelta, not negative.
        reason: Shown to whoever asks what the run is waiting for.
        pause: Whether what shares the step's ``rate=`` or ``limit=`` waits as long, too.
    """

    def __init__(self, delay: float | timedelta, reason: str = "", *, pause: bool = False) -> None:
        super().__init__(reason or "deferred")
        self.pause = pause
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        self.reason = reason
