"""What ``SquidMesh`` can do to a run that is there: see ``steering`` for how, and ``async_control`` for the twin."""

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


class Control(Mesh):
    """The part of ``SquidMesh`` that changes runs. Each call takes part in the caller's transaction if it is given one.

    Every one may raise ``InvalidRunId``, ``RunNotFound``, and ``InvalidOption`` for what cannot be used; nothing is
    changed then.
    """

    def cancel_run(
        self,
        run_id: UUID | str,
        *,
        compensate: bool = False,
        force: bool = False,
        actor: JSON = None,
        comment: str | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Cancel a run. What waits or sleeps goes at once; what executes is told, and its result recorded.

        Cancelling a cancelled run returns it.

        Args:
            run_id: Its id.
            compensate: Whether to undo then what its steps did, by their compensations. Also of a run that is being
                cancelled, as long as something of it executes.
            force: Whether not to wait for what executes; its result will come too late, and what it did is not known.
                Also of a run that is failing, or being cancelled, already.
            actor: Who cancels it, for the audit: a text or an object.
            comment: Why, for the audit.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            IllegalMove: It has completed or failed, is failing (without ``force``), or what it did is being undone;
                or it was cancelled without undoing, which is wanted now.
        """
        flow = self._steering.cancel(
            run_id_of(run_id), actor=actor, comment=comment, compensate=compensate, force=force
        )
        return self._steer(flow, connection)

    def approve_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON,
        step: str | None = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Approve what waits for it. Where several actors are needed, this is one vote.

        Args:
            run_id: The run's id.
            actor: Who approves: a text or an object.
            step: Which approval is meant, where several wait.
            comment: What they say about it.
            metadata: What else is to be kept with the decision.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            IllegalMove: The run has ended or is ending.
            NotWaiting: No approval waits: it was decided, its deadline is past, or it is not reached yet.
            AlreadyVoted: This actor has approved already.
        """
        said = remark(actor=actor, comment=comment, metadata=metadata, needs_actor=True)
        return self._steer(self._steering.review(run_id_of(run_id), approve=True, step=step, remark=said), connection)

    def reject_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON,
        step: str | None = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Reject what waits for approval. One rejection is enough. The arguments are those of ``approve_run``.

        Raises:
            IllegalMove: The run has ended or is ending.
            NotWaiting: No approval waits: it was decided, its deadline is past, or it is not reached yet.
        """
        said = remark(actor=actor, comment=comment, metadata=metadata, needs_actor=True)
        return self._steer(self._steering.review(run_id_of(run_id), approve=False, step=step, remark=said), connection)

    def unblock_run(
        self,
        run_id: UUID | str,
        *,
        step: str | None = None,
        resolution: str | None = None,
        output: JSONObject | None = None,
        actor: JSON = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        connection: psycopg.Connection[Any] | None = None,
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
        return self._steer(flow, connection)

    def send_signal(
        self,
        run_id: UUID | str,
        name: str,
        payload: object = None,
        *,
        key: str | None = None,
        actor: JSON = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Send a signal to a run. It ends the oldest wait for it, or is kept until the run gets to one.

        Args:
            run_id: The run's id.
            name: The signal's name, as in ``wait_for``.
            payload: What it says; it must meet the contract that ``wait_for`` declares.
            key: The sender's name for this delivery: one that was sent already changes nothing. Without a key, each
                call is a delivery of its own.
            actor: Who sends it, for the audit.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            IllegalMove: The run has ended or is ending.
            SignalNotFound: No step of its workflow waits for such a signal.
            InvalidPayload: The payload does not meet the contract.
            WorkflowNotFound: The workflow, whose contract would be applied, is not registered here.
        """
        flow = self._steering.signal(run_id_of(run_id), name, payload, key=key, actor=actor)
        return self._steer(flow, connection)

    def retry_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON = None,
        comment: str | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Let a failed run go on from where it failed, on the graph that it has.

        What failed or was taken away is tried again, with what it saw then, the same idempotency key, and all attempts
        that its ``Retry`` allows; what completed meanwhile leads on. ``current_steps`` of the result, and the audit
        event, say which steps these are.

        Args:
            run_id: Its id.
            actor: Who asks for it: a text or an object.
            comment: Why.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            IllegalMove: It has not failed.
            NotRetryable: What its steps did was undone, or nothing of it can be tried again.
        """
        return self._steer(self._steering.retry(run_id_of(run_id), actor=actor, comment=comment), connection)

    def replay_run(
        self,
        run_id: UUID | str,
        *,
        from_step: str | None = None,
        allow_irreversible: bool = False,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Start a new run with the payload of one that has ended, on today's graph.

        Args:
            run_id: The run to replay.
            from_step: Where to go on: what was done before it, and beside it, is taken over from the source. None
                begins at the beginning.
            allow_irreversible: True to run steps again that have completed and cannot be undone.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            IllegalMove: It has not ended.
            UnsafeReplay: Steps that cannot be undone have completed in it, and would run again.
            WorkflowNotFound: Its workflow is not registered.
        """
        flow = self._steering.prepare_replay(
            run_id_of(run_id), allow_irreversible=allow_irreversible, from_step=from_step
        )
        return self._start(self._ask(flow, connection), connection)[0]

    def _steer(self, flow: Flow[tuple[Run, Plan | None]], connection: psycopg.Connection[Any] | None) -> Run:
        run, plan = self._ask(flow, connection)
        if connection is None:
            self._tell(plan)
        elif plan is not None:
            self._ask(self._operations.announce(plan), connection)
        return run

    @abstractmethod
    def _ask(self, flow: Flow[T], connection: psycopg.Connection[Any] | None = None) -> T: ...

    @abstractmethod
    def _start(self, start: Start, connection: psycopg.Connection[Any] | None) -> list[Run]: ...
