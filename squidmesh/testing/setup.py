"""What a harness is made of, and what meshes ask while it has them in its hands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from squidmesh.errors import InvalidOption
from squidmesh.mesh import Mesh

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    import psycopg

    from squidmesh.records import Run
    from squidmesh.store.statements import Flow
    from squidmesh.testing.sessions import Session
    from squidmesh.workflow import Workflow

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a harness is made of; the parameters of ``harness``."""

    dsn: str | None
    workflows: Sequence[Workflow]
    queue_limits: Mapping[str, int]
    meshes: Sequence[Mesh]
    connection: psycopg.Connection[Any] | None
    schema: str
    at: datetime | None
    fresh: bool

    @staticmethod
    def of(
        dsn: str | None,
        workflows: Iterable[Workflow],
        mesh: Mesh | Iterable[Mesh],
        *,
        connection: psycopg.Connection[Any] | None,
        schema: str,
        at: datetime | None,
        fresh: bool,
    ) -> Setup:
        """The setup that the parameters of ``harness`` make."""
        meshes = (mesh,) if isinstance(mesh, Mesh) else tuple(mesh)
        theirs = [workflow for each in meshes for workflow in each.registry.workflows.values()]
        limits: dict[str, int] = {}
        for queue, most in (pair for each in meshes for pair in each.registry.meters.queue_limits.items()):
            limits[queue] = min(most, limits.get(queue, most))
        return Setup(
            dsn=dsn,
            queue_limits=limits,
            workflows=tuple(dict.fromkeys([*workflows, *theirs])),
            meshes=meshes,
            connection=connection,
            schema=schema,
            at=at,
            fresh=fresh,
        )

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InvalidOption: With what is allowed.
        """
        if self.connection is not None and (self.dsn is not None or self.fresh):
            raise InvalidOption("connection", "has its database and schema: leave dsn= and fresh= out")
        if self.at is not None:
            checked_instant("at", self.at)


@dataclass(frozen=True, slots=True)
class Takeover:
    """What meshes ask while a harness has them in its hands (a ``StandIn``).

    Args:
        session: Where the database is, and time.
        waiting: Runs steps until a run has ended.
        waiting_async: The same for async meshes.
    """

    session: Session
    waiting: Callable[[UUID, float], Run]
    waiting_async: Callable[[UUID, float], Awaitable[Run]]

    def run(self, operation: Flow[T], connection: psycopg.Connection[Any] | None) -> T:
        """Run an operation."""
        return self.session.run(operation, connection)

    async def run_async(self, operation: Flow[T], connection: psycopg.AsyncConnection[Any] | None) -> T:
        """Run an operation of an async mesh."""
        return await self.session.run_async(operation, connection)

    def wait(self, run_id: UUID, seconds: float) -> Run:
        """Wait for a run's end."""
        return self.waiting(run_id, seconds)

    async def wait_async(self, run_id: UUID, seconds: float) -> Run:
        """Wait for a run's end in async code."""
        return await self.waiting_async(run_id, seconds)

    def now(self) -> datetime:
        """The instant at which time stands."""
        return self.session.now


def checked_instant(option: str, value: datetime) -> datetime:
    """An aware instant, in UTC.

    Raises:
        InvalidOption: It is not aware.
    """
    if getattr(value, "tzinfo", None) is None:
        raise InvalidOption(
            option, f"must be an aware datetime, such as datetime(2030, 1, 1, tzinfo=UTC), not {value!r}"
        )
    return value.astimezone(UTC)
