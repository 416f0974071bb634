"""What the two harnesses share: opening and closing, assertions, faults; all but running steps."""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from squidmesh.clock import new_id
from squidmesh.errors import HarnessError, InvalidOption, RunTimeout
from squidmesh.mesh import Mesh, taken_over
from squidmesh.operations import Operations
from squidmesh.retry import measured
from squidmesh.scheduling import Scheduling
from squidmesh.testing.calendar import Calendar
from squidmesh.testing.driver import Driver
from squidmesh.testing.faults import Faults
from squidmesh.testing.looking import ANYTHING, Looking, checked_status, has_completed, name_of
from squidmesh.testing.sessions import open_session
from squidmesh.testing.setup import Takeover

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from uuid import UUID

    from squidmesh.authoring.reading import Reference
    from squidmesh.records import JSON, Attempt, DeclaredStep, Run
    from squidmesh.registry import Registry
    from squidmesh.retry import Seconds
    from squidmesh.states import RunStatus
    from squidmesh.testing.driver import Journey
    from squidmesh.testing.faults import Crashing, Failing, Faulty, Moment, Replacement
    from squidmesh.testing.setup import Setup
    from squidmesh.workflow import Workflow

T = TypeVar("T")

DEFAULT_WAIT_LIMIT: Final = 10_000
"""Steps that one ``wait_for_run`` runs, at most."""

EVENTS_PATIENCE: Final = 5.0
"""Real seconds that subscribers have for the events of one call."""


class Bench:
    """What both harnesses offer. Made by ``harness`` or ``async_harness``.

    Attributes:
        schema: The schema that the test works in.
        registry: The workflows.
    """

    __test__: ClassVar[bool] = False

    schema: str
    registry: Registry

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._undo = ExitStack()
        self._busy = False

    # -- opening and closing -------------------------------------------------------------------------------------

    def _open(
        self,
        mesh: Mesh,
        wait: Callable[[UUID, float], Run],
        wait_async: Callable[[UUID, float], Awaitable[Run]],
    ) -> None:
        """Open the session, and take the meshes over, the harness's own being the first."""
        setup = self._setup
        with ExitStack() as undo:
            session = undo.enter_context(
                open_session(setup.dsn, setup.connection, setup.schema, setup.at, fresh=setup.fresh)
            )
            if setup.meshes:
                mesh.events = setup.meshes[0].events
            for each in (mesh, *setup.meshes):
                undo.enter_context(taken_over(each, Takeover(session, wait, wait_async)))
            self._session, self.schema, self.registry = session, session.schema, mesh.registry
            operations = Operations(self.registry, self.schema, new_id, lambda: session.now)
            self._operations, self._looking = operations, Looking(session, operations)
            self._faults = Faults(self.registry)
            self._bus = mesh.events
            calendar = Calendar(session, Scheduling(operations, new_id), self._bus)
            calendar.register()
            self._driver = Driver(session, self.registry, self._bus, self._faults, calendar)
            self._undo = undo.pop_all()

    @contextmanager
    def _at_work(self) -> Generator[None]:
        """While steps are run; afterwards nothing is in a worker's hands, and events are told."""
        if self._busy:
            raise HarnessError("a step is being run: steps cannot run others, or wait for other runs, in a harness")
        self._busy = True
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the first error is the one to look at
                self._driver.rest()
            raise
        else:
            self._driver.rest()
        finally:
            self._busy = False
            self._bus.flush(EVENTS_PATIENCE)

    # -- time ----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The instant at which time stands."""
        return self._session.now

    @property
    def next_timer(self) -> datetime | None:
        """When the next wait, retry, time-out, deadline or nominal time is due, a rate has a token, or a pause is over.

        None if nothing waits for time.
        """
        return self._driver.next_timer()

    def outage(
        self, by: Seconds = 0, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Let time pass in which no worker is there: nothing is run, and no schedule fires, until the next call.

        Args:
            by: Seconds, or a timedelta.
            days: And so many days,
            hours: hours,
            minutes: minutes,
            seconds: and seconds.

        Raises:
            InvalidOption: Time would go back.
        """
        parts = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        self._driver.pass_over(self._arrival(by, parts))

    def _arrival(self, by: Seconds, parts: timedelta) -> datetime:
        seconds = measured(by) + parts.total_seconds()
        if not (isfinite(seconds) and seconds >= 0):
            raise InvalidOption("by", f"must be seconds or a timedelta, and not negative, not {by!r}")
        return self.now + timedelta(seconds=seconds)

    # -- asking --------------------------------------------------------------------------------------------------

    def run(self, run: Run | UUID | str) -> Run:
        """A run as it stands now, with its context and history.

        Args:
            run: The run, or its id.
        """
        return self._looking.run(run)

    def runs(self, workflow: Workflow | str | None = None) -> list[Run]:
        """The runs that were started, in order.

        Args:
            workflow: Only of this workflow.
        """
        return self._looking.runs(workflow)

    def steps(self, run: Run | UUID | str) -> list[str]:
        """The names of the steps that ran, in the order in which they ended: a step that was retried is there again.

        Args:
            run: The run, or its id.
        """
        return self._looking.steps(run)

    def undone(self, run: Run | UUID | str) -> list[str]:
        """The names of the steps that were undone, in the order in which their compensations completed.

        Args:
            run: The run, or its id.
        """
        return self._looking.undone(run)

    def attempts(self, run: Run | UUID | str) -> list[Attempt]:
        """All ended attempts of a run, in order, also those that a crash or a cancellation ended.

        Args:
            run: The run, or its id.
        """
        return self._looking.attempts(run)

    def describe(self, run: Run | UUID | str) -> str:
        """Where a run stands, step by step, as text.

        Args:
            run: The run, or its id.
        """
        return self._looking.describe(self._looking.run(run))

    def assert_started(self, workflow: Workflow | str, /, count: int | None = 1, **payload: JSON) -> list[Run]:
        """Assert that runs were started, and return them.

        Args:
            workflow: The workflow, or its name.
            count: How many; None for any number but 0.
            payload: Values that their payloads have, as stored.

        Raises:
            AssertionError: With what was started.
        """
        return self._looking.assert_started(workflow, count, payload)

    def assert_status(self, run: Run | UUID | str, status: RunStatus | str) -> Run:
        """Assert that a run has a status, and return it as it stands.

        Args:
            run: The run, or its id.
            status: The status.

        Raises:
            AssertionError: With where it stands.
        """
        return self._looking.assert_status(run, status)

    def assert_step(
        self,
        run: Run | UUID | str,
        step: Reference,
        *,
        status: str | None = None,
        attempts: int | None = None,
        output: object = ANYTHING,
    ) -> DeclaredStep:
        """Assert how the latest visit to a step stands, and return it.

        Args:
            run: The run, or its id.
            step: The step, or its name.
            status: Its status.
            attempts: How often it was tried: attempts that completed or failed.
            output: What it added to the context.

        Raises:
            AssertionError: With where the run stands.
        """
        return self._looking.assert_step(run, step, status, attempts, output)

    # -- arranging -----------------------------------------------------------------------------------------------

    def replace(self, step: Faulty, function: Callable[..., object]) -> Replacement:
        """Replace a step's function, until the ``with`` block or the harness ends.

        Args:
            step: The step, its name, or ``"workflow/step"``; or the function that undoes one, or its name.
            function: Called in its place. Its parameters are filled by name, as those of any step.

        Raises:
            InvalidOption: There is no such step, or the function cannot be one.

        Example::

            with h.replace(charge, lambda amount: {"receipt": "r-1"}) as fake:
                h.drain()
            assert fake.calls[0].arguments == {"amount": 12}
        """
        frame = inspect.currentframe()
        # Annotations may name what is local where the test is written.
        return self._faults.replace(step, function, frame.f_back if frame else None)

    def fail(
        self,
        step: Faulty,
        error: BaseException | type[BaseException],
        *,
        attempts: Iterable[int] | None = None,
        first: int | None = None,
    ) -> Failing:
        """Raise an error at some attempts at a step, in place of running it.

        Args:
            step: As in ``replace``.
            error: An exception, or the class of one.
            attempts: Numbers of the attempts.
            first: The first so many attempts; 1 if neither is given.

        Raises:
            InvalidOption: One of these cannot be used.
        """
        return self._faults.fail(step, error, attempts, first)

    def time_out(self, step: Faulty, *, attempts: Iterable[int] | None = None, first: int | None = None) -> Failing:
        """Have some attempts at a step end because its time is up, in place of running it. Time stands still.

        Args:
            step: As in ``replace``. It is declared with ``timeout=``.
            attempts: Numbers of the attempts.
            first: The first so many attempts; 1 if neither is given.

        Raises:
            InvalidOption: The step has no time-out, or one of these cannot be used.
        """
        return self._faults.time_out(step, attempts, first)

    def crash(self, step: Faulty, when: Moment = "before_commit", *, times: int = 1) -> Crashing:
        """Kill the worker when it next runs a step. Its jobs are rescued at once, and another worker goes on.

        Args:
            step: As in ``replace``.
            when: ``in_body``: before the function does anything; ``before_commit``: the function is done, its result
                not stored; ``after_commit``: the result is stored, and what the worker took on with it is lost.
            times: How often.

        Raises:
            InvalidOption: One of these cannot be used.
        """
        return self._faults.crash(step, when, times)

    # -- journeys ------------------------------------------------------------------------------------------------

    def _until(
        self,
        run: Run | UUID | str,
        status: RunStatus | str | None,
        step: Reference | None,
        when: Callable[[Run], bool] | None,
        limit: int,
    ) -> Journey[Run]:
        said, test = _goal(status, step, when)

        def holds() -> bool:
            shown = self._looking.run(run)
            if test(shown):
                return True
            if shown.status.terminal:
                raise HarnessError(f"the run has ended, and not {said}: {self._looking.describe(shown)}")
            return False

        def stands() -> str:
            shown = self._looking.run(run)
            return f". It is not {said}: {self._looking.describe(shown)}\n{self._looking.explain(shown.id)}"

        if not (yield from self._driver.until(holds, limit, stands=stands)):
            raise self._dead_end(said)
        return self._looking.run(run)

    def _wait(self, run_id: UUID, seconds: float) -> Journey[Run]:
        """What ``wait_for_run`` of a mesh does here: the steps are run meanwhile, and time passes."""
        latest = self.now + timedelta(seconds=seconds) if isfinite(seconds) else None

        def look() -> Run:
            return self._session.ask(self._operations.inspect(run_id, history=False, after_seq=0, limit=1))

        if (yield from self._driver.until(lambda: look().status.terminal, DEFAULT_WAIT_LIMIT, latest)):
            return look()
        if latest is None:
            raise self._dead_end("wait_for_run to return")
        raise RunTimeout(run_id, seconds, look().status)

    def _dead_end(self, said: str) -> HarnessError:
        stands = self._looking.describe_unfinished()
        return HarnessError(f"nothing can happen any more by itself, and not {said}. Where runs stand:\n{stands}")


def _goal(
    status: RunStatus | str | None, step: Reference | None, when: Callable[[Run], bool] | None
) -> tuple[str, Callable[[Run], bool]]:
    """What is waited for, in words and as a test."""
    if sum(given is not None for given in (status, step, when)) > 1:
        raise InvalidOption("status", "give one of status=, step= and when=, or none of them")
    if status is not None:
        wanted = checked_status(status)
        return f"in status {str(wanted)!r}", lambda run: run.status is wanted
    if step is not None:
        name = name_of(step)
        return f"with step {name!r} completed", lambda run: has_completed(run, name)
    return ("as when= wants it", when) if when is not None else ("ended", lambda run: run.status.terminal)
