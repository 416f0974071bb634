"""The authoring surface: a ``Workflow`` collects what is declared, then checks and freezes it.

It holds no opinion of its own: values are judged by ``reading``, functions by ``signature``, the whole by
``validation`` and ``cautions``. Nothing here starts, stores or runs anything.
"""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, TypeAlias, TypeVar, overload
from warnings import warn

from squidmesh.authoring.cautions import WorkflowWarning, warnings
from squidmesh.authoring.declaration import DEFAULT_TRIGGER, Declaration
from squidmesh.authoring.reading import Given
from squidmesh.authoring.validation import problems
from squidmesh.context import Outcome
from squidmesh.definition import DEFAULT_QUEUE, DEFAULT_VISIT_LIMIT, Definition, StepKind, Trigger, TriggerKind
from squidmesh.errors import DefinitionError, TriggerNotFound
from squidmesh.payload import Contract
from squidmesh.timetable import Policy
from squidmesh.values.misfit import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from squidmesh.authoring.functions import StepFunction
    from squidmesh.authoring.reading import Reader, Reference, StepReference
    from squidmesh.meters import Limit, Rate
    from squidmesh.retry import Retry, Seconds
    from squidmesh.timetable import CatchUp, OverlapName

P = ParamSpec("P")
R = TypeVar("R")

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Recovery: TypeAlias = Literal["compensation", "undo"]

LEVELS: Final = ("debug", "info", "warning", "error")

MOST_APPROVERS: Final = 1000


class Workflow:
    """A named workflow: triggers, steps and the edges between them.

    What is declared wrongly is collected and raised at once by ``check``, which also freezes the workflow.

    Args:
        name: Its name. Runs are stored under it, so keep it.
        payload: A dataclass or TypedDict: the contract of a trigger named "manual", which is then the default one.
            A workflow without any trigger has a "manual" one that takes no payload.
        deadline: Seconds or timedelta that a run may take, waiting included, from when it may begin; then it fails, and
            what executes is told through ``ctx.cancelled``. None sets no limit.

    Example:
        >>> orders = Workflow("orders")
        >>> @orders.step
        ... def load(order_id: str = "none") -> dict[str, str]:
        ...     return {"order": order_id}
        >>> orders.check().entries[0].name
        'load'
    """

    def __init__(self, name: str, *, payload: type[object] | None = None, deadline: Seconds | None = None) -> None:
        self._declaration = Declaration.of(name)
        if deadline is not None:
            self._declaration.deadline = self._declaration.reader("workflow").duration("deadline", deadline)
        self._definition: Definition | None = None
        if payload is not None:
            self._declaration.triggers.append((Trigger(name=DEFAULT_TRIGGER), Contract.of(payload)))

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}, {len(self._declaration.steps)} steps{', frozen' * self.frozen}>"

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self._declaration.workflow

    @property
    def frozen(self) -> bool:
        """Whether it was checked, so that nothing can be added any more."""
        return self._definition is not None

    @property
    def functions(self) -> Mapping[str, StepFunction[..., object]]:
        """The steps that have a function, by name."""
        return MappingProxyType(self._declaration.functions)

    @property
    def definition(self) -> Definition:
        """The definition. The first look at it checks and freezes the workflow, as ``check`` does."""
        return self._definition or self._check()

    def contract(self, trigger: str) -> Contract:
        """The contract of a trigger's payload.

        Raises:
            TriggerNotFound: There is no such trigger.
        """
        contracts = {known.name: contract for known, contract in self._declaration.known_triggers}
        if trigger not in contracts:
            raise TriggerNotFound(self.name, trigger, list(contracts))
        return contracts[trigger]

    def signal_contract(self, name: str) -> Contract | None:
        """The contract of a signal's payload; None if it takes any JSON value, or if no step waits for it."""
        return next((contract for _, signal, contract in self._declaration.signals if signal == name), None)

    def check(self) -> Definition:
        """Check what was declared, and freeze it. Doing so again changes nothing.

        Warns:
            WorkflowWarning: Something is allowed but probably not meant.

        Raises:
            DefinitionError: Something is wrong; with all problems.
        """
        return self._definition or self._check()

    def manual(self, name: str, *, payload: type[object] | None = None) -> None:
        """Declare a trigger for runs that code or people start. The first trigger declared is the default one.

        Args:
            name: Its name.
            payload: The contract of its payload: a dataclass or TypedDict; None allows no fields.
        """
        reader = self._reader("trigger", name)
        self._declaration.triggers.append((Trigger(name=reader.name(name)), Contract.of(payload)))

    def cron(
        self,
        name: str,
        expression: str,
        *,
        timezone: str = "UTC",
        payload: type[object] | None = None,
        catch_up: CatchUp | Seconds | None = None,
        overlap: OverlapName = "allow",
        jitter: Seconds = 0,
    ) -> None:
        """Declare a trigger with a schedule: workers start a run for each of its nominal times.

        Args:
            name: Its name.
            expression: When it fires, such as "0 9 * * mon-fri".
            timezone: The IANA zone whose clock it is read by.
            payload: The contract of its payload, each field with a default; None allows no fields.
            catch_up: What happens to nominal times that nobody was there for: a ``CatchUp``, or the seconds (or
                timedelta) for which they are worth a run. By default the latest one of the past day gets one.
            overlap: While the run before is live: "allow" starts the next beside it, "skip" passes it over, "queue"
                waits.
            jitter: Seconds or timedelta: its runs begin up to so much later, so that not all begin at once.
        """
        reader = self._reader("trigger", name)
        policy, problems = Policy.read(catch_up, overlap, jitter)
        for option, problem in problems:
            reader.note(f"{option}= {problem}")
        trigger = Trigger(
            name=reader.name(name),
            kind=TriggerKind.CRON,
            expression=reader.text("expression", expression, "@daily"),
            timezone=reader.text("timezone", timezone, "UTC"),
            policy=policy,
        )
        self._declaration.triggers.append((trigger, Contract.of(payload)))

    @overload
    def step(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...

    @overload
    def step(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        output: str | None = None,
        after: Sequence[Reference] | None = None,
        start: bool = False,
        retry: Retry | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        irreversible: bool = False,
        compensate: Callable[..., object] | None = None,
        compensate_retry: Retry | None = None,
        compensatable: bool = True,
        visit_limit: int = DEFAULT_VISIT_LIMIT,
        transaction: bool = False,
        timeout: Seconds | None = None,
        limit: Limit | None = None,
        rate: Rate | None = None,
    ) -> Callable[[Callable[P, R]], StepFunction[P, R]]: ...

    def step(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        name: str | None = None,
        output: str | None = None,
        after: Sequence[Reference] | None = None,
        start: bool = False,
        retry: Retry | None = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        irreversible: bool = False,
        compensate: Callable[..., object] | None = None,
        compensate_retry: Retry | None = None,
        compensatable: bool = True,
        visit_limit: int = DEFAULT_VISIT_LIMIT,
        transaction: bool = False,
        timeout: Seconds | None = None,
        limit: Limit | None = None,
        rate: Rate | None = None,
    ) -> StepFunction[P, R] | Callable[[Callable[P, R]], StepFunction[P, R]]:
        """Declare a function as a step. What comes back is called like the function, and names the step elsewhere.

        Args:
            function: Its parameters are its input, taken by name from the payload and what earlier steps returned.
            name: The step's name; the function's by default.
            output: The key that its return value is stored under. Without it, the function returns a mapping or
                dataclass, which is merged into the context, or None.
            after: The steps that it waits for and joins; then no transition may lead to it.
            start: Whether runs begin with it; needed where several steps begin, or where a loop leads back to it.
            retry: How often it is tried; once by default.
            queue: The queue that its jobs are filed under.
            priority: Smaller is sooner, within a queue.
            irreversible: Whether nobody but a human may run it again once it was interrupted, or in a replay.
            compensate: What undoes it: a function that is called when the run fails for good, or is cancelled with
                ``compensate=True``. Its parameters are filled as a step's are, from what was there once the step had
                completed; ``ctx.failure`` says why.
            compensate_retry: How often the compensation is tried; three times by default.
            compensatable: False says that nothing can undo it: a replay asks first, as for an irreversible one.
            visit_limit: How often one run may reach it.
            transaction: Whether what it writes on ``ctx.connection``, its result and its successor are one commit.
            timeout: Seconds or timedelta from the start of its body, after which the attempt has failed.
            limit: How many of it may execute at once on all workers together, as a whole or for each value of a key.
            rate: How many attempts at it may begin in a period, likewise.
        """
        given = Given(
            output=output,
            after=after,
            start=start,
            retry=retry,
            queue=queue,
            priority=priority,
            irreversible=irreversible,
            visit_limit=visit_limit,
            compensate=compensate,
            compensate_retry=compensate_retry,
            compensatable=compensatable,
            transaction=transaction,
            timeout=timeout,
            limit=limit,
            rate=rate,
        )
        frame = inspect.currentframe()
        caller = frame.f_back if frame else None

        def declare(function: Callable[P, R]) -> StepFunction[P, R]:
            self._refuse_if_frozen()
            return self._declaration.add_function(function, name, given, caller)

        return declare if function is None else declare(function)

    def wait(
        self,
        name: str,
        *,
        seconds: Seconds | None = None,
        until: datetime | str | None = None,
        after: Sequence[Reference] | None = None,
        start: bool = False,
    ) -> StepReference:
        """Declare a step that lets time pass. No worker is held up by it.

        Args:
            name: Its name.
            seconds: Seconds or timedelta; more than nothing.
            until: In place of ``seconds``: an aware datetime, or the key of the payload or context under which the run
                has one, as ISO 8601 text with an offset. An instant that is past is over at once.
            after: The steps that it waits for and joins first; then no transition may lead to it.
            start: Whether runs begin with it.
        """
        reader = self._reader("wait", name)
        if (seconds is None) == (until is None):
            reader.note("needs either seconds= or until=")
        settings: Mapping[str, str | float] = {}
        if until is not None:
            settings = reader.until(until)
        elif seconds is not None:
            settings = {"seconds": reader.duration("seconds", seconds)}
        return self._declaration.add_built_in(StepKind.WAIT, name, Given(after=after, start=start), settings)

    def log(
        self,
        name: str,
        message: str,
        *,
        level: Level = "info",
        after: Sequence[Reference] | None = None,
        start: bool = False,
    ) -> StepReference:
        """Declare a step that writes a message to the worker's log.

        Args:
            name: Its name.
            message: What is written.
            level: "debug", "info", "warning" or "error".
            after: The steps that it waits for and joins first; then no transition may lead to it.
            start: Whether runs begin with it.
        """
        reader = self._reader("log", name)
        written = reader.text("message", message)
        settings = {"message": written, "level": reader.choice("level", level, LEVELS) or "info"}
        return self._declaration.add_built_in(StepKind.LOG, name, Given(after=after, start=start), settings)

    def pause(self, name: str, *, after: Sequence[Reference] | None = None, start: bool = False) -> StepReference:
        """Declare a step that waits until somebody calls ``unblock_run``.

        Args:
            name: Its name.
            after: The steps that it waits for and joins first; then no transition may lead to it.
            start: Whether runs begin with it.
        """
        self._reader("pause", name)
        return self._declaration.add_built_in(StepKind.PAUSE, name, Given(after=after, start=start), {})

    def approval(
        self,
        name: str,
        *,
        output: str | None = None,
        deadline: Seconds | None = None,
        approvers: int = 1,
        after: Sequence[Reference] | None = None,
        start: bool = False,
    ) -> StepReference:
        """Declare a step that waits for people to decide: ``approve_run`` or ``reject_run``.

        It ends with the outcome "ok", "rejected" or "timeout". The last two go the way of "error" where they have no
        transition of their own, and without one fail the run. What was decided (``decision``, ``actor``,
        ``decided_at``, ``comment``, ``metadata``) is its output.

        Args:
            name: Its name.
            output: The key that its output is stored under. Without it, the output is merged into the context.
            deadline: Seconds or timedelta within which it must be decided; None waits for ever.
            approvers: How many different actors must approve. One rejection is enough.
            after: The steps that it waits for and joins first; then no transition may lead to it.
            start: Whether runs begin with it.
        """
        reader = self._reader("approval", name)
        settings: dict[str, str | float] = {}
        if deadline is not None:
            settings["deadline"] = reader.duration("deadline", deadline)
        needed = reader.whole("approvers", approvers, least=1, most=MOST_APPROVERS)
        if needed > 1:
            settings["approvers"] = needed
        given = Given(output=output, after=after, start=start)
        return self._declaration.add_built_in(StepKind.APPROVAL, name, given, settings)

    def wait_for(
        self,
        signal: str,
        *,
        name: str | None = None,
        payload: type[object] | None = None,
        output: str | None = None,
        timeout: Seconds | None = None,
        after: Sequence[Reference] | None = None,
        start: bool = False,
    ) -> StepReference:
        """Declare a step that waits for a signal: ``send_signal(run_id, signal, payload)``.

        A signal that comes before the run waits for it is kept. The step ends with the outcome "ok", or "timeout",
        which goes the way of "error" where it has no transition of its own, and without one fails the run.

        Args:
            signal: The signal's name.
            name: The step's name; the signal's by default.
            payload: The contract of the signal's payload: a dataclass or TypedDict. None takes any JSON value.
            output: The key that the payload is stored under. Without it, the payload is merged into the context.
            timeout: Seconds or timedelta to wait at most; None waits for ever.
            after: The steps that it waits for and joins first; then no transition may lead to it.
            start: Whether runs begin with it.
        """
        reader = self._reader("wait for signal", signal)
        awaited = reader.name(signal)
        settings: dict[str, str | float] = {"signal": awaited}
        if timeout is not None:
            settings["timeout"] = reader.duration("timeout", timeout)
        called = signal if name is None else name
        contract = None if payload is None else Contract.of(payload)
        self._declaration.signals.append((str(called), awaited, contract))
        given = Given(output=output, after=after, start=start)
        return self._declaration.add_built_in(StepKind.SIGNAL, called, given, settings)

    def sequence(self, *steps: Reference) -> None:
        """Declare that steps run one after the other: a transition on "ok" from each to the next."""
        self._refuse_if_frozen()
        self._declaration.add_sequence(steps)

    def transition(
        self, source: Reference, *, to: Reference, on: str = Outcome.OK, recovery: Recovery | None = None
    ) -> None:
        """Declare what runs next when a step ends.

        Args:
            source: The step that ends.
            to: What runs next, or ``COMPLETE`` to end this path.
            on: The outcome: "ok", "error" (it failed for good), or a name that the step returns with ``Outcome``.
            recovery: Of an error: what ``to`` does about it, as the run's history shows it.
        """
        self._refuse_if_frozen()
        self._declaration.add_transition(source, on, to, recovery)

    def _reader(self, what: str, name: object) -> Reader:
        self._refuse_if_frozen()
        return self._declaration.reader(f"{what} {quote(name)}")

    def _check(self) -> Definition:
        found = problems(self._declaration)
        if found:
            raise DefinitionError(self.name, found)
        for caution in warnings(self._declaration):
            warn(f"workflow {self.name!r}: {caution}", WorkflowWarning, stacklevel=3)
        self._definition = self._declaration.freeze()
        return self._definition

    def _refuse_if_frozen(self) -> None:
        if self.frozen:
            remedy = "declare everything before check(), and before it is handed to SquidMesh"
            raise DefinitionError(self.name, [f"it was checked and cannot be changed any more; {remedy}"])
