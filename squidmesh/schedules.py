"""``mesh.schedules``: the schedules of a database, for sync code. What is asked of it is in ``schedule_flows``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from squidmesh.schedule_flows import ScheduleFlows, paused_one, policy_of, resumed_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import psycopg

    from squidmesh.planner.graph import Graph
    from squidmesh.records import JSON, Run
    from squidmesh.retry import Seconds
    from squidmesh.schedule_flows import Listing, Times
    from squidmesh.scheduling import Prepared
    from squidmesh.store.statements import Flow
    from squidmesh.timetable import CatchUp, OverlapName, Schedule
    from squidmesh.workflow import Workflow

T = TypeVar("T")

Runs: TypeAlias = "list[Run]"


class Ask(Protocol):
    """Runs a flow, in a transaction of its own or in the caller's."""

    def __call__(self, flow: Flow[T], connection: psycopg.Connection[Any] | None = None, /) -> T:
        """Run it."""
        ...


class Schedules:
    """The schedules of a database: ``mesh.schedules``. ``AsyncSchedules`` is its twin.

    Methods that change something take ``connection=``, as those of ``SquidMesh`` do.

    Example::

        mesh.schedules.create("berlin", digest, "0 9 * * mon-fri", timezone="Europe/Berlin", payload={"city": "Berlin"})
        mesh.schedules.pause("digest/daily")
    """

    def __init__(
        self, flows: ScheduleFlows, ask: Ask, register: Callable[[Graph], None], tell: Callable[[Runs], None]
    ) -> None:
        self._flows = flows
        self._ask = ask
        self._register = register
        self._tell = tell

    def list(self, *, workflow: Workflow | str | None = None) -> Listing:
        """Schedules, by name.

        Args:
            workflow: Only those of this workflow.
        """
        return self._ask(self._flows.list(workflow))

    def get(self, name: str) -> Schedule:
        """A schedule.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        return self._ask(self._flows.get(name))

    def next_times(self, name: str, count: int = 5) -> Times:
        """The nominal times that are to come next, in UTC; as if it were not paused.

        Args:
            name: The schedule's name.
            count: How many, up to 1,000.

        Raises:
            ScheduleNotFound: There is none of this name.
            InvalidOption: ``count`` cannot be used.
        """
        return self._ask(self._flows.next_times(name, count))

    def create(
        self,
        name: str,
        workflow: Workflow | str,
        expression: str,
        *,
        trigger: str | None = None,
        timezone: str = "UTC",
        payload: Mapping[str, JSON] | None = None,
        catch_up: CatchUp | Seconds | None = None,
        overlap: OverlapName = "allow",
        jitter: Seconds = 0,
        paused: bool = False,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Schedule:
        """Create a schedule.

        Args:
            name: Its name: as that of a workflow, and of no other schedule.
            workflow: The workflow whose runs it starts: a registered one, or its name.
            expression: When it fires, such as "0 9 * * mon-fri".
            trigger: The trigger whose contract the payload meets; the first one declared by default.
            timezone: The IANA zone whose clock the expression is read by.
            payload: What is not left to the contract's defaults. Defaults such as ``today()`` are those of the nominal
                time.
            catch_up: A ``CatchUp``, or seconds or timedelta; by default the latest nominal time of the past day.
            overlap: "allow", "skip" or "queue".
            jitter: Seconds or timedelta: its runs begin up to so much later.
            paused: Whether it begins paused.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleExists: There is one of this name.
            InvalidOption: The name or a policy cannot be used.
            WorkflowNotFound: The workflow is not registered.
            TriggerNotFound: It has no such trigger.
            CronError: The expression or the time zone cannot be used.
            InvalidPayload: The payload and the contract's defaults do not make a whole one.
        """
        wanted = self._flows.wanted(
            name,
            workflow,
            expression,
            trigger=trigger,
            timezone=timezone,
            payload=payload,
            policy=policy_of(catch_up, overlap, jitter),
            paused=paused,
        )
        return self._ask(self._flows.create(wanted), connection)

    def change(
        self,
        name: str,
        *,
        expression: str | None = None,
        timezone: str | None = None,
        payload: Mapping[str, JSON] | None = None,
        catch_up: CatchUp | Seconds | None = None,
        overlap: OverlapName | None = None,
        jitter: Seconds | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Schedule:
        """Change a schedule that was created with ``create``; what is None stays. It never fires for what is past.

        Args:
            name: The schedule's name.
            expression: As in ``create``.
            timezone: As in ``create``.
            payload: In place of the one before.
            catch_up: As in ``create``.
            overlap: As in ``create``.
            jitter: As in ``create``.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleNotFound: There is none of this name.
            InvalidOption: It is declared in code, or a policy cannot be used.
            CronError: The expression or the time zone cannot be used.
            InvalidPayload: The payload and the contract's defaults do not make a whole one.
        """
        changed = self._flows.changer(
            expression=expression,
            timezone=timezone,
            payload=payload,
            catch_up=catch_up,
            overlap=overlap,
            jitter=jitter,
        )
        return self._ask(self._flows.change(name, changed), connection)

    def pause(self, name: str, *, connection: psycopg.Connection[Any] | None = None) -> Schedule:
        """Start no more runs, until it is resumed. Pausing twice is allowed; no code and no deploy resumes it.

        Args:
            name: The schedule's name.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        return self._ask(self._flows.change(name, paused_one), connection)

    def resume(self, name: str, *, connection: psycopg.Connection[Any] | None = None) -> Schedule:
        """Go on with the next nominal time from now: those that came while it was paused get no run.

        Args:
            name: The schedule's name.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleNotFound: There is none of this name.
        """
        return self._ask(self._flows.change(name, resumed_one), connection)

    def delete(self, name: str, *, connection: psycopg.Connection[Any] | None = None) -> None:
        """Delete a schedule. Its runs stay.

        Args:
            name: The schedule's name.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleNotFound: There is none of this name.
            InvalidOption: It is declared in code, which would bring it back.
        """
        self._ask(self._flows.delete(name), connection)

    def trigger_now(self, name: str, *, connection: psycopg.Connection[Any] | None = None) -> Run:
        """Start a run now, for this instant, beside those that the schedule starts, also while it is paused.

        Args:
            name: The schedule's name.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleNotFound: There is none of this name.
            WorkflowNotFound: Its workflow is not registered.
            TriggerNotFound: Its workflow has no such trigger any more.
            InvalidPayload: Its payload does not meet the contract any more.
        """
        return self._start(self._flows.prepare_now(name), connection)[0]

    def backfill(
        self, name: str, start: datetime, end: datetime, *, connection: psycopg.Connection[Any] | None = None
    ) -> Runs:
        """Start a run for each nominal time from ``start`` until before ``end`` that has none; return these runs.

        What is still to come is left to the schedule, and no policy holds these runs up. Doing so again starts nothing
        twice.

        Args:
            name: The schedule's name.
            start: An aware datetime.
            end: An aware datetime; with at most 1,000 nominal times before it.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            ScheduleNotFound: There is none of this name.
            InvalidOption: ``start`` or ``end`` is not an aware datetime, or there are too many nominal times.
            WorkflowNotFound: Its workflow is not registered.
            TriggerNotFound: Its workflow has no such trigger any more.
            InvalidPayload: Its payload does not meet the contract any more.
        """
        return self._start(self._flows.prepare_backfill(name, start, end), connection)

    def _start(self, flow: Flow[Prepared | None], connection: psycopg.Connection[Any] | None) -> Runs:
        prepared = self._ask(flow, connection)
        if prepared is None:
            return []
        self._register(prepared.graph)
        runs = self._ask(self._flows.scheduling.start(prepared, always_notify=connection is not None), connection)
        if connection is None:
            self._tell(runs)
        return runs
