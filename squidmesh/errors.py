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
    │   └── TriggerNotFound
    ├── IllegalMove                        the run's status does not allow what was asked
    ├── UnsafeReplay                       a replay would repeat what cannot be undone
    ├── ConfigurationError                 the app, the database address or a queue is set up wrongly
    ├── SchemaError                        the database's schema is missing or not served by this code
    ├── ConnectionUnusable                 a ``connection=`` that cannot take part
    ├── CommitUnknown                      the connection was lost while a commit was on its way
    ├── RunTimeout (TimeoutError)          ``wait_for_run`` gave up waiting; the run goes on
    ├── WorkerStopped                      a worker lost its engine or its lease
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


class UnsafeReplay(SquidMeshError):
    """A replay would run irreversible steps again that have completed. Nothing was stored.

    Args:
        run_id: The run that was to be replayed.
        steps: The irreversible steps that completed in it.
    """

    code = "unsafe_replay"

    def __init__(self, run_id: UUID, steps: Sequence[str]) -> None:
        self.run_id = run_id
        self.steps = tuple(steps)
        super().__init__(
            f"run {run_id} has completed irreversible steps ({', '.join(steps)}), which a replay would run again; "
            "pass allow_irreversible=True if that is meant"
        )

    @property
    def details(self) -> JSONObject:
        """The run, the steps, and the option that overrides."""
        return {"run_id": str(self.run_id), "steps": list(self.steps), "required_override": "allow_irreversible"}


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


class StepError(SquidMeshError):
    """Raised by a step's body; what it carries is what is stored as the attempt's error.

    Args:
        message: What went wrong, for people.
        details: What else is worth storing: JSON values only.
        retryable: False gives up at once; None leaves it to the step's ``Retry``; True is stronger than its ``on`` and
            ``give_up_on``, not than its ``max_attempts``.
        retry_after: Seconds (or timedelta) to wait before the next attempt, in place of the step's backoff.
    """

    code = "step_error"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, JSON] | None = None,
        retryable: bool | None = None,
        retry_after: float | timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
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
    """Use an attempt and come back after ``delay`` (seconds or timedelta) instead of the step's backoff."""

    code = "retry_after"

    def __init__(self, delay: float | timedelta, message: str = "asked to be retried later", **details: JSON) -> None:
        super().__init__(message, details=details, retryable=True, retry_after=delay)


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
    """

    def __init__(self, delay: float | timedelta, reason: str = "") -> None:
        super().__init__(reason or "deferred")
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        self.reason = reason
