"""Transactional steps: the body's writes, its result and its successor are one commit.

The body runs within a transaction on a connection that it is lent. When it has returned, the same lock, decide, save as
everywhere follows on that very connection, then the commit. What ended in no commit goes to the engine like any other
result; what was committed is told to it afterwards, as a plan that it follows.

The run is locked last, and waited for: a step whose writes are made has to be committed now or run again. So whoever
had the run before has committed when the fence is read, and nothing can be applied twice: not after a rescue, and not
after a COMMIT whose answer was lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import pq

from squidmesh.errors import Defer, StepError, TransactionError
from squidmesh.planner.outcome import Abandoned, Broken, Completed, Deferred, Failed, Finding, Happening
from squidmesh.states import AttemptStatus
from squidmesh.store.database import drive, drive_async
from squidmesh.store.jobs import check_fences, notify_idle, pin_plans, read_claimed
from squidmesh.store.runs import lock_run
from squidmesh.store.saving import save_plans
from squidmesh.store.statements import Batch, Statement, ask
from squidmesh.store.transactions import limit_wait, read_transaction
from squidmesh.worker import body
from squidmesh.worker.carried import fold, snapshot_of
from squidmesh.worker.deciding import Case, decide
from squidmesh.worker.desk import differing_takes
from squidmesh.worker.isolation import is_data_error
from squidmesh.worker.turn import queues_to_tell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from uuid import UUID

    from squidmesh.planner.plan import LiveJob, LockedRun, Plan
    from squidmesh.store.statements import Flow
    from squidmesh.worker.engine import Engine
    from squidmesh.worker.permit import Connection, Permit
    from squidmesh.worker.pools import Lender
    from squidmesh.worker.ticket import Ticket

T = TypeVar("T")

RERUNS: Final = 3
"""How often a step is run again because the database undid its transaction; these are no attempts."""

CONFLICTS: Final = ("40P01", "40001", "55P03")
"""SQLSTATE of deadlocks, serialization failures and lock time-outs."""

LONGEST_LOCK_WAIT: Final = 5.0
"""Seconds that the saving waits for the run: a worker has it for a turn, a person for a transaction."""

COME_BACK: Final = 1.0
"""Seconds until a step comes back that could not be begun, or saved, for no fault of its own."""


class _NotCommitted(Exception):
    """Undoes the transaction. What happened instead is in ``happening``, or to be made of ``error``.

    Args:
        happening: What the engine is told.
        error: What the body raised, or what its transaction came to.
        in_saving: Whether it came up when the body had returned.
        lost: Whether the connection broke, and the transaction with it.
    """

    def __init__(
        self,
        happening: Happening | None = None,
        error: BaseException | None = None,
        *,
        in_saving: bool = False,
        lost: bool = False,
    ) -> None:
        self.happening = happening
        self.error = error
        self.in_saving = in_saving
        self.lost = lost


class Transactions:
    """Runs transactional steps: ``run`` on an executor's thread, ``run_async`` on the event loop.

    Args:
        engine: Whose steps they are; only what never changes, its name and whether it stops are looked at.
        lender: Where connections come from.
    """

    def __init__(self, engine: Engine, lender: Lender) -> None:
        self._engine = engine
        self._lender = lender

    def run(self, ticket: Ticket, permit: Permit) -> Happening:
        """Run a step's body and commit its result, or say what happened instead. Nothing escapes."""
        for again in range(RERUNS + 1):
            try:
                return self._attempt(ticket, permit)
            except BaseException as error:  # noqa: BLE001 - user code may raise anything
                happening = _judged(error, ticket, permit, again)
            if happening is not None:
                return happening
            time.sleep(_pause(again))
        raise AssertionError("the last run is always judged")

    async def run_async(self, ticket: Ticket, permit: Permit) -> Happening:
        """The twin of ``run``."""
        for again in range(RERUNS + 1):
            try:
                return await self._attempt_async(ticket, permit)
            except BaseException as error:  # noqa: BLE001 - as above; a cancelled task is one that is not needed
                happening = _judged(error, ticket, permit, again)
            if happening is not None:
                return happening
            await asyncio.sleep(_pause(again))
        raise AssertionError("the last run is always judged")

    # -- one transaction -----------------------------------------------------------------------------------------

    def _attempt(self, ticket: Ticket, permit: Permit) -> Happening:
        with self._lent(permit) as connection:
            with _settling(connection, permit), connection.transaction():
                began = self.ask(connection, read_transaction())
                self._watch(ticket)
                try:
                    happening = contextvars.copy_context().run(body.perform, ticket)
                except BaseException as error:
                    raise _NotCommitted(error=error, lost=connection.broken) from error
                completed = _to_commit(happening, connection, permit)
                try:
                    plan = self.ask(connection, self.save(ticket, completed, began))
                except Exception as error:
                    raise _unsaved(error, connection) from error
            permit.saved = plan
        return completed

    async def _attempt_async(self, ticket: Ticket, permit: Permit) -> Happening:
        async with self._lent_async(permit) as connection:
            with _settling(connection, permit):
                async with connection.transaction():
                    began = await self.ask_async(connection, read_transaction())
                    self._watch(ticket)
                    try:
                        happening = await body.perform_async(ticket)
                    except BaseException as error:
                        raise _NotCommitted(error=error, lost=connection.broken) from error
                    completed = _to_commit(happening, connection, permit)
                    try:
                        plan = await self.ask_async(connection, self.save(ticket, completed, began))
                    except Exception as error:
                        raise _unsaved(error, connection) from error
            permit.saved = plan
        return completed

    @contextmanager
    def _lent(self, permit: Permit) -> Generator[psycopg.Connection[Any]]:
        with ExitStack() as lent:
            try:
                connection = lent.enter_context(self._lender.lend())
            except psycopg.OperationalError as error:
                raise _not_begun(error) from error
            permit.lend(connection)
            try:
                yield connection
            finally:
                permit.take_back()
                if permit.revoked:
                    connection.close()  # a cancellation may still be on its way to it

    @asynccontextmanager
    async def _lent_async(self, permit: Permit) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        async with AsyncExitStack() as lent:
            try:
                connection = await lent.enter_async_context(self._lender.lend_async())
            except psycopg.OperationalError as error:
                raise _not_begun(error) from error
            permit.lend(connection)
            try:
                yield connection
            finally:
                permit.take_back()

    def ask(self, connection: psycopg.Connection[Any], operation: Flow[T] | Statement[T]) -> T:
        """Run an operation within a step's transaction."""
        return drive(connection, operation, self._engine.schema, own_transaction=False)

    async def ask_async(self, connection: psycopg.AsyncConnection[Any], operation: Flow[T] | Statement[T]) -> T:
        """The twin of ``ask``."""
        return await drive_async(connection, operation, self._engine.schema, own_transaction=False)

    def _watch(self, ticket: Ticket) -> None:
        if ticket.function is not None and ticket.function.timeout is not None:
            self._engine.executor.watchdog.watch(ticket, ticket.function.timeout)

    # -- lock, decide, save --------------------------------------------------------------------------------------

    def save(self, ticket: Ticket, completed: Completed, began: str) -> Flow[Plan]:
        """Lock the run, decide, save: what the engine does for its turn, for one result, on the step's connection."""
        engine = self._engine
        run: LockedRun | None
        jobs: list[tuple[UUID, LiveJob]]
        now, _, _, run, jobs = yield Batch(
            (
                read_transaction(),
                pin_plans(),
                limit_wait(LONGEST_LOCK_WAIT),
                lock_run(ticket.run.run_id),
                check_fences(engine.worker, [(ticket.run.run_id, ticket.job)]),
            )
        )
        if now != began:
            raise _NotCommitted(error=_ended_by_itself())
        if run is None:
            raise _lost()
        finding = self._finding(ticket, completed)
        case = Case(run=run, findings=[finding], jobs={job.slot: job for _, job in jobs}, may_snapshot=True)
        (plan,) = yield from decide(engine.registry, [case])
        if plan.discarded:
            raise _lost()
        if not any(attempt.status is AttemptStatus.COMPLETED for attempt in plan.attempts):
            # The planner could not make sense of the run: the engine says so, without what the step wrote.
            raise _NotCommitted(Broken({"type": "InconsistentRun", "message": "its result could not be decided"}))
        if plan.snapshot_seq is not None:
            (material,) = yield from ask(read_claimed([(run.id, run.seq)]))
            plan.add_snapshot(snapshot_of(fold(material.outputs, run.seq), plan))
        # The slot that is free again takes one of its successors; the engine looks for it when it hears of the commit.
        room = {} if engine.stopping or engine.executor.stopped else {ticket.job.queue: 1}
        told = queues_to_tell([plan], room, engine.settings.queues, engine.timers)
        if ticket.job.meters is not None and not room:
            told = sorted({*told, ticket.job.queue})
        statements: list[Statement[Any]] = save_plans([plan], engine.channel)
        if told:
            statements.append(notify_idle(engine.channel, told, engine.worker))
        yield Batch(tuple(statements), last=True)
        return plan

    def _finding(self, ticket: Ticket, completed: Completed) -> Finding:
        return Finding(
            slot=ticket.job.slot,
            worker=self._engine.worker,
            claim=ticket.job.claim,
            happening=completed,
            started_ago=self._engine.monotonic() - (ticket.started or 0.0),
            takes=differing_takes(ticket),
        )


@contextmanager
def _settling(connection: Connection, permit: Permit) -> Generator[None]:
    """Around a transaction: notes when the answer to its COMMIT was lost."""
    try:
        yield
    except _NotCommitted:
        raise
    except BaseException as error:
        # BEGIN has failed; or COMMIT, since nothing else is left to fail once the saving has begun.
        permit.in_doubt = permit.saving and connection.closed
        raise _NotCommitted(error=error, lost=connection.closed) from error


def _to_commit(happening: Happening, connection: Connection, permit: Permit) -> Completed:
    """What the body came to, if its transaction can be committed."""
    if not isinstance(happening, Completed):
        raise _NotCommitted(happening)
    status = connection.info.transaction_status
    if connection.broken:
        raise _NotCommitted(error=psycopg.OperationalError("the step's connection was lost"), lost=True)
    if connection.closed:
        error = TransactionError("the step closed ctx.connection; leave that to squidmesh", retryable=False)
        raise _NotCommitted(error=error)
    if status is pq.TransactionStatus.INERROR:
        said = (
            "the step caught an error of the database, after which its transaction cannot be committed; "
            "put what may fail into `with ctx.connection.transaction():`, or let the error out"
        )
        raise _NotCommitted(error=TransactionError(said))
    if status is not pq.TransactionStatus.INTRANS:
        raise _NotCommitted(error=_ended_by_itself())
    if not permit.begin_saving():
        raise _lost()
    return happening


def _ended_by_itself() -> TransactionError:
    return TransactionError(
        "the step ended its transaction by itself, with a COMMIT or ROLLBACK as SQL; what a COMMIT wrote stays. "
        "Leave the end to squidmesh; `with ctx.connection.transaction():` is a part that can be rolled back",
        retryable=False,
    )


def _lost() -> _NotCommitted:
    """The job is somebody else's by now: its result is worth nothing, and the engine finds the same."""
    said = "the job was given to somebody else, or given up, before the step was done; what it wrote was rolled back"
    return _NotCommitted(Abandoned({"type": "Discarded", "message": said}, cut_off=True))


def _not_begun(error: Exception) -> _NotCommitted:
    return _NotCommitted(Deferred(COME_BACK, body.storable(f"no connection for its transaction: {error}")))


def _unsaved(error: Exception, connection: Connection) -> _NotCommitted:
    if isinstance(error, _NotCommitted):
        return error
    return _NotCommitted(error=error, in_saving=True, lost=connection.broken)


def _judged(error: BaseException, ticket: Ticket, permit: Permit, again: int) -> Happening | None:
    """What the engine is told of a transaction that was not committed; None: run the step again."""
    if permit.in_doubt:
        # The engine compares with the database: if the job is still ours, the server has rolled back.
        return Abandoned({"type": "CommitUnknown", "message": "the connection was lost at the COMMIT"}, cut_off=True)
    said = error if isinstance(error, _NotCommitted) else _NotCommitted(error=error)
    if said.happening is not None:
        return said.happening
    error, in_saving = said.error or error, said.in_saving
    conflict = said.lost or _is_conflict(error)
    if conflict and again < RERUNS and not permit.revoked and not ticket.cancellation.raised:
        return None
    if conflict and in_saving:
        # Somebody holds the run for long: not the step's fault, and no reason to fail it.
        return Deferred(COME_BACK, body.storable(f"its result could not be saved: {error}"))
    if in_saving and isinstance(error, Exception) and is_data_error(error):
        return Failed(body.describe(error, retryable=False), retryable=False)
    return body.failure(error, ticket)


def _is_conflict(error: BaseException | None) -> bool:
    """Whether the database undid the transaction for no fault of the step's; also as an ORM's error that wraps it."""
    for _ in range(10):
        if error is None or isinstance(error, StepError | Defer):
            return False
        if isinstance(error, psycopg.Error):
            return error.sqlstate in CONFLICTS
        error = error.__cause__
    return False


def _pause(again: int) -> float:
    """Seconds before a step is run again: at random, so that two that ran into each other do not do so again."""
    return random.uniform(0.0, 0.02 * 2**again)  # noqa: S311
