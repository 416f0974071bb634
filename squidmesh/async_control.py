"""What ``AsyncSquidMesh`` can do to a run that is there: the twin of ``control``, where the documentation is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from squidmesh.mesh import Mesh
from squidmesh.operations import run_id_of
from squidmesh.steering import remark

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from squidmesh.operations import Start
    from squidmesh.planner.plan import Plan
    from squidmesh.records import JSON, JSONObject, Run
    from squidmesh.store.statements import Flow

T = TypeVar("T")


class AsyncControl(Mesh):
    """The part of ``AsyncSquidMesh`` that changes runs."""

    async def cancel_run(
        self,
        run_id: UUID | str,
        *,
        compensate: bool = False,
        force: bool = False,
        actor: JSON = None,
        comment: str | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        flow = self._steering.cancel(
            run_id_of(run_id), actor=actor, comment=comment, compensate=compensate, force=force
        )
        return await self._steer(flow, connection)

    async def approve_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON,
        step: str | None = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        said = remark(actor=actor, comment=comment, metadata=metadata, needs_actor=True)
        return await self._steer(
            self._steering.review(run_id_of(run_id), approve=True, step=step, remark=said), connection
        )

    async def reject_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON,
        step: str | None = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        said = remark(actor=actor, comment=comment, metadata=metadata, needs_actor=True)
        return await self._steer(
            self._steering.review(run_id_of(run_id), approve=False, step=step, remark=said), connection
        )

    async def unblock_run(
        self,
        run_id: UUID | str,
        *,
        step: str | None = None,
        resolution: str | None = None,
        output: JSONObject | None = None,
        actor: JSON = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        """Let a paused run go on: at a pause step, or after something went wrong with a step.

        Args:
            run_id: The run's id.
            step: Which step is meant, where several wait.
            resolution: Of a step that was interrupted or quarantined: "rerun" it, take it as "completed", or as
                "failed". A quarantined one is run again by default; of an interrupted one only a person can know.
            output: With "completed": what the step is taken to have added to the context.
            actor: Who does it: a text or an object.
            comment: What they say about it.
            metadata: What else is to be kept with it.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            IllegalMove: The run has ended.
            NotWaiting: Nothing of it waits to be unblocked (any more).
        """
        said = remark(actor=actor, comment=comment, metadata=metadata)
        flow = self._steering.unblock(run_id_of(run_id), step=step, resolution=resolution, output=output, remark=said)
        return await self._steer(flow, connection)

    async def send_signal(
        self,
        run_id: UUID | str,
        name: str,
        payload: object = None,
        *,
        key: str | None = None,
        actor: JSON = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        flow = self._steering.signal(run_id_of(run_id), name, payload, key=key, actor=actor)
        return await self._steer(flow, connection)

    async def retry_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON = None,
        comment: str | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        return await self._steer(self._steering.retry(run_id_of(run_id), actor=actor, comment=comment), connection)

    async def replay_run(
        self,
        run_id: UUID | str,
        *,
        from_step: str | None = None,
        allow_irreversible: bool = False,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        flow = self._steering.prepare_replay(
            run_id_of(run_id), allow_irreversible=allow_irreversible, from_step=from_step
        )
        return (await self._start(await self._ask(flow, connection), connection))[0]

    async def _steer(self, flow: Flow[tuple[Run, Plan | None]], connection: psycopg.AsyncConnection[Any] | None) -> Run:
        run, plan = await self._ask(flow, connection)
        if connection is None:
            self._tell(plan)
        elif plan is not None:
            await self._ask(self._operations.announce(plan), connection)
        return run

    @abstractmethod
    async def _ask(self, flow: Flow[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T: ...

    @abstractmethod
    async def _start(self, start: Start, connection: psycopg.AsyncConnection[Any] | None) -> list[Run]: ...
