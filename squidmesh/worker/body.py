"""Running one step's body, and turning whatever it did into a happening. The edge of user code: nothing escapes."""

from __future__ import annotations

import contextvars
import dataclasses
import logging
import random
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from squidmesh.context import Outcome
from squidmesh.definition import StepKind
from squidmesh.errors import Defer, InvalidInput, InvalidOutput, StepError
from squidmesh.logs import current_step
from squidmesh.planner.outcome import Completed, Deferred, Failed, Happening, Output, Returned, TimedOut, Unknown
from squidmesh.records import JobKind
from squidmesh.retry import LONGEST_DELAY
from squidmesh.store.codec import Unencodable, encode
from squidmesh.worker.own import OwnContext, own

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from squidmesh.authoring.functions import StepFunction
    from squidmesh.definition import Step
    from squidmesh.records import JSONObject
    from squidmesh.retry import Retry
    from squidmesh.worker.ticket import Ticket

LONGEST_TEXT: Final = 4000
"""Characters of a stored message or traceback: an error is evidence, not a dump."""

LONGEST_NAME: Final = 200
"""Characters of an outcome that a step names; transitions have shorter ones."""

FRAMES: Final = 8

_OURS: Final = str(Path(__file__).parent)
"""Where the frames are that no author wants to see."""

logger = logging.getLogger("squidmesh.steps")


def run(ticket: Ticket) -> Happening:
    """Run a sync step, or write a log step's message, in this thread."""
    try:
        # A fresh context for each step: what one sets, another does not see.
        return contextvars.copy_context().run(perform, ticket)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit included
        return failure(error, ticket)


async def run_async(ticket: Ticket) -> Happening:
    """Run an async step in this task, whose context is its own."""
    try:
        return await perform_async(ticket)
    except BaseException as error:  # noqa: BLE001 - as above; a cancelled task is one whose worker stops
        return failure(error, ticket)


async def perform_async(ticket: Ticket) -> Happening:
    """Run an async step in this task; what its body raises comes out."""
    function = ticket.function
    if ticket.cancellation.raised:
        return Returned()
    if function is None or ticket.step is None:
        return Unknown()
    awaitable = cast("Awaitable[object]", function.call(**_arguments(ticket, function)))
    return _completed(await awaitable, ticket)


def perform(ticket: Ticket) -> Happening:
    """Run a sync step in this thread and context; what its body raises comes out."""
    step, function = ticket.step, ticket.function
    if ticket.cancellation.raised:
        return Returned()
    if step is not None and step.kind is StepKind.LOG:
        level = logging.getLevelNamesMapping()[str(step.settings["level"]).upper()]
        logger.log(level, "%s", step.settings["message"], extra=_log_fields(ticket))
        return Completed()
    if function is None or step is None:
        return Unknown()
    return _completed(function.call(**_arguments(ticket, function)), ticket)


def _arguments(ticket: Ticket, function: StepFunction[..., object]) -> dict[str, object]:
    """What a body is called with, in objects of its own: one that changes its input must not change that of others."""
    state = ticket.state
    if function.takes_all:
        state = own(state)
    else:
        state = {p.name: own(state[p.name]) for p in function.takes if p.name in state}
    current_step.set(ticket.context)
    try:
        return function.bind(state, lambda: OwnContext.of(ticket.context()))
    except InvalidInput:
        # Once more with everything, for an error that says what there would have been.
        return function.bind(ticket.state, ticket.context)


def _log_fields(ticket: Ticket) -> dict[str, object]:
    run = ticket.run
    where = {"run_id": run.run_id, "workflow": run.workflow, "trigger": run.trigger}
    return {**where, "step": ticket.job.step, "attempt": ticket.job.attempt}


def _completed(returned: object, ticket: Ticket) -> Completed:
    if ticket.job.kind != JobKind.COMPENSATION:
        return completion(returned, ticket.step)
    # It has done its work, whatever it says about it, and adds nothing to the context.
    if returned is None or isinstance(returned, Mapping | Outcome):
        return completion(returned, None)  # pyright: ignore[reportUnknownArgumentType] - it is what it is
    return completion({"result": returned}, None)


def completion(returned: object, step: Step | None) -> Completed:
    """What a body's return value means.

    Raises:
        InvalidOutput: It cannot be stored.
    """
    outcome = Outcome.OK
    if isinstance(returned, Outcome):
        outcome, returned = _checked_name(returned.name), returned.output
    key = step.output if step is not None else None
    if returned is None and key is None:
        return Completed(None, outcome)
    if key is not None:
        returned = {key: returned}
    elif dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        returned = {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    elif not isinstance(returned, Mapping):
        raise InvalidOutput(
            f"the step returned {type(returned).__name__}, which has no keys to merge; "
            'return a mapping or a dataclass, or declare output="some_key" for it',
            retryable=False,
        )
    try:
        encoded = encode(returned, what="result")  # pyright: ignore[reportUnknownArgumentType] - it is what it is
    except Unencodable as error:
        raise InvalidOutput(str(error), details={"path": error.path}, retryable=False) from error
    return Completed(Output(encoded.text, encoded.value), outcome)


def _checked_name(name: object) -> str:
    """The outcome that a body named: transitions are declared with texts of this kind only.

    Raises:
        InvalidOutput: No transition can have this name.
    """
    if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
        said = storable(repr(name), LONGEST_NAME)
        raise InvalidOutput(f"Outcome needs the name of a transition, not {said}", retryable=False)
    return name


def failure(error: BaseException, ticket: Ticket) -> Happening:
    """What an exception that left a body means."""
    try:
        if isinstance(error, Defer):
            return Deferred(_within_limits(error.delay), storable(str(error.reason)), error.pause is True)
        retry_after = error.retry_after if isinstance(error, StepError) else None
        if retry_after is not None:
            retry_after = _within_limits(retry_after)
        retryable = _retryable(error, ticket.function.retry if ticket.function else None)
        pause = isinstance(error, StepError) and error.pause is True
        return Failed(describe(error, retryable=retryable), retryable, retry_after, random.random(), pause)  # noqa: S311
    except BaseException as second:  # noqa: BLE001 - an exception of user code may raise when it is looked at
        message = f"{type(error).__name__}, and {type(second).__name__} when it was asked what it is"
        return Failed({"type": type(error).__name__, "message": message, "retryable": False}, retryable=False)


def timed_out(ticket: Ticket, seconds: float) -> Happening:
    """What it means that a body did not end in time."""
    retryable = _retryable(TimeoutError(), ticket.function.retry if ticket.function else None)
    error: JSONObject = {
        "type": "TimedOut",
        "message": f"the step did not end within {seconds:g} s",
        "retryable": retryable,
    }
    chance = random.random()  # noqa: S311
    if ticket.permit is not None:  # what it did is undone, and cannot be committed any more
        return Failed(error, retryable, chance=chance)
    return TimedOut(error, retryable, chance)


def _within_limits(delay: float) -> float:
    return min(delay, LONGEST_DELAY) if delay > 0 else 0.0  # NaN is above nothing


def _retryable(error: BaseException, policy: Retry | None) -> bool:
    if isinstance(error, StepError) and error.retryable is not None:
        return error.retryable
    # SystemExit and its like are judged as any exception: a step must not take the worker's thread down.
    judged = error if isinstance(error, Exception) else RuntimeError(repr(error))
    return policy is None or policy.covers(judged)


def describe(error: BaseException, *, retryable: bool) -> JSONObject:
    """An exception as it is stored: type, message, details, whether it may be retried, a shortened traceback."""
    found: JSONObject = {
        "type": type(error).__name__,
        "message": storable(str(error)) or type(error).__name__,
        "retryable": retryable,
    }
    if isinstance(error, StepError):
        if error.details:
            found["details"] = _storable_details(error.details)
    else:
        found["traceback"] = storable(_shortened(error))
    return found


def _shortened(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OURS)][-FRAMES:]
    return "".join(traceback.format_list(frames))


def _storable_details(details: JSONObject) -> Any:
    try:
        return encode(details, what="details", limit=16 * LONGEST_TEXT).value
    except Unencodable:
        return {"text": storable(repr(details))}


def storable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text that Postgres takes: no NUL, no half of a surrogate pair, not too long."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def note_time(ticket: Ticket, happening: Happening, started: float, monotonic: Callable[[], float]) -> Ticket:
    """Write down what happened and when, unless the worker gave up on it meanwhile: that stands."""
    if ticket.happening is None:
        ticket.started = None if isinstance(happening, Returned) else started
        ticket.finished, ticket.happening = monotonic(), happening
    return ticket
