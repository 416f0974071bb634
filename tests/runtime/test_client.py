"""The client: what it starts, shows, changes and refuses; sync and async alike."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from squidmesh import (
    COMPLETE,
    AsyncSquidMesh,
    ConfigurationError,
    ConnectionUnusable,
    IllegalMove,
    InvalidOption,
    InvalidPayload,
    InvalidRunId,
    Outcome,
    RunNotFound,
    RunStatus,
    RunTimeout,
    SquidMesh,
    TriggerNotFound,
    UnsafeReplay,
    Workflow,
    WorkflowNotFound,
)
from squidmesh.store.database import check_pooled
from tests.invariants import check
from tests.lab import NOON, Ear, Gate, Lab, standing_still
from tests.runtime.apps import single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Order:
    order_id: str
    count: int = 1


def orders() -> Workflow:
    """A workflow with a contract, two triggers and an irreversible step."""
    workflow = Workflow("orders", payload=Order)
    workflow.manual("other")

    @workflow.step
    def load(order_id: str = "none", count: int = 0) -> dict[str, str]:
        return {"loaded": f"{order_id} x {count}"}

    @workflow.step(irreversible=True)
    def pay(loaded: str) -> dict[str, str]:
        return {"paid": loaded}

    workflow.sequence(load, pay)
    return workflow


# -- starting ----------------------------------------------------------------------------------------------------------


def test_a_start_stores_what_it_returns(lab: Lab) -> None:
    """The returned run is the one that inspect_run shows; a dataclass and a mapping are the same payload."""
    mesh = lab.mesh(orders())
    runs = [mesh.start_run("orders", Order("a", 2)), mesh.start_run("orders", {"order_id": "a", "count": 2})]
    for run in runs:
        assert mesh.inspect_run(run.id) == run
        assert run.payload == {"order_id": "a", "count": 2}
        assert run.status is RunStatus.PENDING
        assert run.current_steps == ("load",)
        assert run.trigger == "manual"
    assert mesh.start_run("orders", trigger="other").trigger == "other"
    check(lab, at_rest=False)


def test_many_runs_are_started_together_or_not_at_all(lab: Lab) -> None:
    """In the order of their payloads; one bad payload refuses them all."""
    mesh = lab.mesh(orders())
    runs = mesh.start_runs("orders", ({"order_id": str(n)} for n in range(2500)))
    assert [run.payload["order_id"] for run in runs] == [str(n) for n in range(2500)]
    assert len({run.created_at for run in runs}) == 1 or sorted(r.created_at for r in runs) == [
        r.created_at for r in runs
    ]
    with pytest.raises(InvalidPayload):
        mesh.start_runs("orders", [{"order_id": "x"}, {"order_id": 5}])
    assert mesh.start_runs("orders", []) == []
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 2500
    check(lab, at_rest=False)


BAD_STARTS: list[tuple[type[Exception], str, object, dict[str, Any], str]] = [
    (WorkflowNotFound, "ordres", None, {}, "orders"),
    (TriggerNotFound, "orders", None, {"trigger": "cron"}, "manual, other"),
    (InvalidPayload, "orders", {}, {}, "order_id: required"),
    (InvalidPayload, "orders", {"order_id": "a", "cuont": 2}, {}, "cuont"),
    (InvalidPayload, "orders", {"order_id": "a", "count": True}, {}, "count"),
    (InvalidPayload, "orders", {"order_id": "a\0b"}, {}, "order_id"),
    (InvalidPayload, "orders", {"order_id": "x" * 2_000_000}, {}, "limit"),
    (InvalidPayload, "orders", 5, {}, "payload"),
    (InvalidOption, "orders", {"order_id": "a"}, {"run_at": datetime(2030, 1, 1)}, "aware"),  # noqa: DTZ001
    (InvalidOption, "orders", {"order_id": "a"}, {"delay": -1}, "delay"),
    (InvalidOption, "orders", {"order_id": "a"}, {"delay": float("nan")}, "delay"),
    (InvalidOption, "orders", {"order_id": "a"}, {"delay": "5"}, "delay"),
    (InvalidOption, "orders", {"order_id": "a"}, {"delay": 1, "run_at": datetime.now(UTC)}, "not both"),
]


@pytest.mark.parametrize("bad", BAD_STARTS, ids=lambda bad: f"{bad[0].__name__} {bad[4]}")
def test_a_bad_start_is_refused_with_data_and_stores_nothing(
    lab: Lab, bad: tuple[type[Exception], str, object, dict[str, Any], str]
) -> None:
    """In both twins with the same error."""
    error, workflow, payload, options, said = bad
    mesh = lab.mesh(orders())
    with pytest.raises(error, match=said) as caught:
        mesh.start_run(workflow, payload, **options)
    assert caught.value.details  # type: ignore[attr-defined]

    async def again() -> None:
        async with AsyncSquidMesh(lab.dsn, workflows=[orders()], schema=lab.schema) as twin:
            with pytest.raises(error, match=said):
                await twin.start_run(workflow, payload, **options)

    asyncio.run(again())
    assert lab.rows("SELECT id FROM squidmesh.runs") == []


@pytest.mark.parametrize(
    "later", [{"delay": 300}, {"delay": timedelta(minutes=5)}, {"run_at": NOON + timedelta(minutes=5)}]
)
def test_a_delayed_start_begins_at_its_time(lab: Lab, later: dict[str, Any]) -> None:
    """Neither earlier nor later, on the database's clock."""
    with standing_still(lab.dsn, orders()) as h:
        run = h.mesh.start_run("orders", {"order_id": "a"}, **later)
        assert h.travel(299.999999) == []
        h.run_until(run, status=RunStatus.COMPLETED)
        assert h.attempts(run)[0].started_at == NOON + timedelta(minutes=5)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_page_by_page(lab: Lab) -> None:
    """Paging by the last run of a page meets each run once, also where many were created at one instant."""
    mesh = lab.mesh(orders(), single(lambda: None))
    wanted = [run.id for run in mesh.start_runs("orders", [{"order_id": "a"}] * 25)]
    mesh.start_run("single")
    found: list[UUID] = []
    page = mesh.list_runs(workflow="orders", limit=10)
    while page:
        found += [run.id for run in page]
        page = mesh.list_runs(workflow="orders", limit=10, before=page[-1])
    assert len(found) == 25
    assert set(found) == set(wanted)
    assert len(mesh.list_runs()) == 26
    assert [run.workflow for run in mesh.list_runs(workflow=mesh.registry.workflows["single"])] == ["single"]
    assert mesh.list_runs(until=page[0].created_at if page else datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert mesh.list_runs(trigger="other") == []


def test_a_claimed_run_is_shown_and_listed_as_running(lab: Lab) -> None:
    """Never as pending, though its row still says so."""
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_))
    lab.worker(mesh)
    run = mesh.start_run("single")
    gate.until_come()
    assert lab.value("SELECT status FROM squidmesh.runs") == "pending"
    assert mesh.inspect_run(run.id).status is RunStatus.RUNNING
    assert [r.id for r in mesh.list_runs(status="running")] == [run.id]
    assert mesh.list_runs(status=RunStatus.PENDING) == []
    assert [r.id for r in mesh.list_runs(status=["pending", RunStatus.RUNNING])] == [run.id]
    gate.open()
    mesh.wait_for_run(run.id, 20)
    assert [r.id for r in mesh.list_runs(status="completed")] == [run.id]


BAD_READS: list[tuple[type[Exception], Callable[[SquidMesh], object]]] = [
    (InvalidRunId, lambda mesh: mesh.inspect_run("nonsense")),
    (InvalidRunId, lambda mesh: mesh.inspect_run(5)),  # type: ignore[arg-type]
    (InvalidRunId, lambda mesh: mesh.cancel_run("")),
    (InvalidRunId, lambda mesh: mesh.replay_run("x")),
    (InvalidRunId, lambda mesh: mesh.wait_for_run("x", 1)),
    (RunNotFound, lambda mesh: mesh.inspect_run(uuid4())),
    (RunNotFound, lambda mesh: mesh.inspect_run(str(uuid4()), include_history=True)),
    (RunNotFound, lambda mesh: mesh.cancel_run(uuid4())),
    (RunNotFound, lambda mesh: mesh.replay_run(uuid4())),
    (RunNotFound, lambda mesh: mesh.wait_for_run(uuid4(), 1)),
    (InvalidOption, lambda mesh: mesh.list_runs(status="compleeted")),
    (InvalidOption, lambda mesh: mesh.list_runs(limit=0)),
    (InvalidOption, lambda mesh: mesh.list_runs(limit=10_000)),
    (InvalidOption, lambda mesh: mesh.list_runs(limit=True)),
    (InvalidOption, lambda mesh: mesh.list_runs(since=datetime(2026, 1, 1))),  # noqa: DTZ001
    (InvalidOption, lambda mesh: mesh.list_runs(before=(datetime(2026, 1, 1), uuid4()))),  # noqa: DTZ001
    (InvalidOption, lambda mesh: mesh.list_runs(before="abc")),  # type: ignore[arg-type]
    (InvalidOption, lambda mesh: mesh.cancel_run(uuid4(), actor="")),
    (InvalidOption, lambda mesh: mesh.cancel_run(uuid4(), comment="  ")),
    (InvalidOption, lambda mesh: mesh.cancel_run(uuid4(), actor={"a": "\0"})),
    (InvalidOption, lambda mesh: mesh.inspect_run(uuid4(), limit=0)),
    (InvalidOption, lambda mesh: mesh.inspect_run(uuid4(), limit=-1, include_history=True)),
    (InvalidOption, lambda mesh: mesh.inspect_run(uuid4(), after_seq=-1)),
    (InvalidOption, lambda mesh: mesh.wait_for_run(uuid4(), float("nan"))),
    (InvalidOption, lambda mesh: mesh.wait_for_run(uuid4(), -1)),
    (InvalidOption, lambda mesh: mesh.wait_for_run(uuid4(), "5")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("error", "call"), BAD_READS)
def test_a_bad_call_is_refused_with_a_typed_error(
    lab: Lab, error: type[Exception], call: Callable[[SquidMesh], object]
) -> None:
    """It says what was wrong, in words and as data."""
    mesh = lab.mesh(orders())
    with pytest.raises(error) as caught:
        call(mesh)
    assert caught.value.details  # type: ignore[attr-defined]


def test_a_history_is_read_page_by_page(lab: Lab) -> None:
    """Pages of any size together are the whole."""
    workflow = Workflow("long")

    @workflow.step(start=True, visit_limit=50)
    def again(visits: int = 0) -> object:
        return Outcome("enough" if visits == 22 else "ok", {"visits": visits + 1})

    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=COMPLETE)
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    run = mesh.start_run(workflow)
    mesh.wait_for_run(run.id, 20)
    whole = mesh.inspect_run(run.id, include_history=True).history
    assert whole is not None
    seqs: list[int] = []
    after: int | None = 0
    while after is not None:
        page = mesh.inspect_run(run.id, include_history=True, after_seq=after, limit=5).history
        assert page is not None
        seqs += [attempt.seq for step in page.step_runs for attempt in step.attempts]
        after = page.next_seq
    assert seqs == [attempt.seq for step in whole.step_runs for attempt in step.attempts]
    assert len(seqs) == 23


# -- replaying ---------------------------------------------------------------------------------------------------------


def test_a_replay_is_a_new_run_with_the_old_payload(lab: Lab) -> None:
    """Only of what has ended, and only with leave where something irreversible was done."""
    mesh = lab.mesh(orders())
    ear = Ear(mesh, "run.replayed")
    run = mesh.start_run("orders", {"order_id": "a"})
    with pytest.raises(IllegalMove):
        mesh.replay_run(run.id)
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    with pytest.raises(UnsafeReplay) as caught:
        mesh.replay_run(run.id)
    assert caught.value.details["steps"] == ["pay"]
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 1
    again = mesh.replay_run(run.id, allow_irreversible=True)
    assert again.replayed_from == run.id
    assert again.payload == run.payload
    assert mesh.wait_for_run(again.id, 20).status is RunStatus.COMPLETED
    assert [event.run_id for event in ear.heard("run.replayed")] == [again.id]
    check(lab)


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_waiting_is_ended_by_a_notification(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With polls an hour apart, threads and tasks that wait for the same runs and for others are all woken."""
    monkeypatch.setattr("squidmesh.mesh.POLL", (3600.0, 3600.0))
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_))
    lab.worker(mesh, 10)
    runs = [mesh.start_run("single") for _ in range(5)]
    results: list[RunStatus] = []
    waiting = [
        threading.Thread(target=lambda run=run: results.append(mesh.wait_for_run(run.id, 20).status))
        for run in runs * 3
    ]
    for thread in waiting:
        thread.start()

    async def wait() -> list[RunStatus]:
        async with AsyncSquidMesh(lab.dsn, workflows=[single(gate.pass_)], schema=lab.schema) as twin:
            tasks = [asyncio.create_task(twin.wait_for_run(run.id, 20)) for run in runs * 2]
            watched = "SELECT count(*) FROM squidmesh.runs WHERE state ? 'watched'"
            await asyncio.to_thread(until, lambda: lab.value(watched) == 5)
            await asyncio.to_thread(until, lambda: len(twin._waiters._waiting) == 5)
            gate.open()
            return [(await task).status for task in tasks]

    assert asyncio.run(wait()) == [RunStatus.COMPLETED] * 10
    for thread in waiting:
        thread.join(20)
    assert results == [RunStatus.COMPLETED] * 15
    assert not mesh._waiters._waiting


def test_waiting_gives_up_in_time(lab: Lab) -> None:
    """Also while somebody holds the run's lock; the error knows the status, and the run goes on."""
    mesh = lab.mesh(single(lambda: None))
    run = mesh.start_run("single")
    with pytest.raises(RunTimeout) as caught:
        mesh.wait_for_run(run.id, 0.05)
    assert caught.value.details == {"run_id": str(run.id), "seconds": 0.05, "status": "pending"}
    assert isinstance(caught.value, TimeoutError)
    holder = lab.session(autocommit=False)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs FOR UPDATE"))
    with pytest.raises(RunTimeout):
        mesh.wait_for_run(run.id, timedelta(seconds=0.05))
    holder.rollback()
    with pytest.raises(RunTimeout):
        mesh.wait_for_run(run.id, 0)
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id).status is RunStatus.COMPLETED
    assert mesh.wait_for_run(run.id, 0).status is RunStatus.COMPLETED


def test_waiting_without_listening_looks_once_more_before_it_gives_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended between the last look and the end of the patience is not called late."""
    monkeypatch.setattr("squidmesh.mesh.POLL", (3600.0, 3600.0))
    mesh = lab.mesh(single(lambda: None), polling_only=True)
    lab.worker(mesh, beat=0.05)
    run = mesh.start_run("single", delay=0.1)
    assert mesh.wait_for_run(run.id, 1.5).status is RunStatus.COMPLETED


def test_without_listen_everything_is_found_by_polling(lab: Lab) -> None:
    """polling_only: no session listens, and runs complete, also those that start between heartbeats."""
    mesh = lab.mesh(single(lambda: None), polling_only=True)
    with mesh.worker(lease=600.0, heartbeat=300.0) as worker:
        until(lambda: worker._engine._vigil.idle_said, what="an idle worker")
        for _ in range(2):
            assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED
    listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'squidmesh' AND query LIKE 'LISTEN%%'"
    assert lab.value(listening) == 0


# -- a host's connection -----------------------------------------------------------------------------------------------


def test_a_start_takes_part_in_the_hosts_transaction(lab: Lab) -> None:
    """Nothing is there before its commit, nothing after its rollback; a savepoint takes back its part alone."""
    mesh = lab.mesh(orders())
    host = lab.session(autocommit=False, row_factory=dict_row)
    first = mesh.start_run("orders", {"order_id": "1"}, connection=host)
    with pytest.raises(RunNotFound):
        mesh.inspect_run(first.id)
    host.rollback()
    with pytest.raises(RunNotFound):
        mesh.inspect_run(first.id)

    kept = mesh.start_run("orders", {"order_id": "2"}, connection=host)
    with host.transaction(force_rollback=True):
        gone = mesh.start_runs("orders", [{"order_id": "3"}] * 3, connection=host)
    host.commit()
    assert mesh.inspect_run(kept.id).payload["order_id"] == "2"
    for run in gone:
        with pytest.raises(RunNotFound):
            mesh.inspect_run(run.id)
    assert lab.value("SELECT count(*) FROM squidmesh.jobs") == 1


def test_an_autocommit_host_gets_a_transaction_of_ours(lab: Lab) -> None:
    """All that a call does is one commit; inside a transaction block of the host it is the host's."""
    mesh = lab.mesh(orders())
    host = lab.session()
    run = mesh.start_run("orders", {"order_id": "1"}, connection=host)
    assert mesh.inspect_run(run.id).id == run.id
    with host.transaction(force_rollback=True):
        gone = mesh.start_run("orders", {"order_id": "2"}, connection=host)
    with pytest.raises(RunNotFound):
        mesh.inspect_run(gone.id)
    assert host.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_an_idle_worker_hears_of_a_start_when_the_host_commits(lab: Lab) -> None:
    """With heartbeats far apart nothing else can tell it; no event tells of it before."""
    mesh = lab.mesh(single(lambda: None))
    ear = Ear(mesh, "run.created")
    worker = lab.worker(mesh, lease=600.0, beat=300.0)
    until(lambda: worker._engine._vigil.idle_said, what="an idle worker")
    host = lab.session(autocommit=False)
    run = mesh.start_run("single", connection=host)
    assert ear.heard("run.created") == []
    host.commit()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED


def closed(lab: Lab) -> Any:
    connection = lab.session()
    connection.close()
    return connection


def failed(lab: Lab) -> Any:
    connection = lab.session(autocommit=False)
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1/0")
    return connection


def serializable(lab: Lab) -> Any:
    connection = lab.session(autocommit=False)
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    return connection


def no_connection(lab: Lab) -> Any:
    return "postgresql://"


def a_cursor(lab: Lab) -> Any:
    return lab.session().cursor()


@pytest.mark.parametrize("made", [closed, failed, serializable, no_connection, a_cursor])
def test_a_connection_that_cannot_take_part_is_refused(lab: Lab, made: Callable[[Lab], Any]) -> None:
    """With a typed error, and nothing stored."""
    mesh = lab.mesh(orders())
    connection = made(lab)
    with pytest.raises(ConnectionUnusable, match="connection="):
        mesh.start_run("orders", {"order_id": "1"}, connection=connection)
    assert lab.rows("SELECT id FROM squidmesh.runs") == []


# -- processes, threads, loops -----------------------------------------------------------------------------------------


def test_many_threads_share_a_mesh(lab: Lab) -> None:
    """More threads than connections, all starting at the same instant, the very first use included."""
    mesh = lab.mesh(orders(), max_connections=3)
    barrier = threading.Barrier(20)
    runs: list[UUID] = []

    def start() -> None:
        barrier.wait(20)
        runs.extend(mesh.start_run("orders", {"order_id": "a"}).id for _ in range(5))

    threads = [threading.Thread(target=start) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(runs)) == 100
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 100


def test_two_loops_share_an_async_mesh(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loop has a pool of its own, and exactly one, however many tasks come first."""
    pools: list[object] = []

    class Counted(AsyncConnectionPool[Any]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pools.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("squidmesh.async_client.AsyncConnectionPool", Counted)
    mesh = AsyncSquidMesh(lab.dsn, workflows=[orders()], schema=lab.schema)

    async def use() -> None:
        async with mesh:
            await asyncio.gather(*(mesh.start_run("orders", {"order_id": "a"}) for _ in range(10)))
            assert len(await mesh.list_runs(limit=100)) >= 10

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    asyncio.run(use())
    assert len(pools) == 3
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 30
    mine = (
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'squidmesh' AND query LIKE '%%{lab.schema}.%%'"
    )
    until(lambda: lab.value(mine) == 0, what="no connection is left")


def test_a_forked_child_uses_connections_of_its_own(lab: Lab) -> None:
    """The child starts, waits, closes and ends; the parent's pool, listener and subscribers go on as before."""
    mesh = lab.mesh(single(lambda: None))
    lab.worker(mesh)
    before = mesh.start_run("single")
    mesh.wait_for_run(before.id, 20)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        code = 1
        try:
            told: list[str] = []
            mesh.subscribe(lambda event: told.append(event.name), "run.created")
            run = mesh.start_run("single")
            ended = mesh.wait_for_run(run.id, 20)
            mesh.events.flush(5)
            mesh.close()
            os.write(writer, f"{run.id} {ended.status} {told}".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    assert os.waitpid(pid, 0)[1] == 0
    child_run, status, heard = said.split(" ", 2)
    assert status == "completed"
    assert heard == "['run.created']"
    assert mesh.inspect_run(child_run).status is RunStatus.COMPLETED
    assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED


def test_a_client_survives_the_loss_of_its_connections(lab: Lab) -> None:
    """Those in the pool were terminated while nobody used them: the next call does not notice."""
    mesh = lab.mesh(orders())
    mesh.start_run("orders", {"order_id": "a"})
    assert mesh._database is not None
    (pooled,) = mesh._database.pool._pool
    assert lab.terminate(f"query LIKE '%%{lab.schema}%%'") >= 1

    def ended() -> bool:
        try:
            check_pooled(pooled)
        except psycopg.OperationalError:
            return True
        return False

    until(ended, what="the end of the connection, to be seen here")
    assert mesh.start_run("orders", {"order_id": "b"}).status is RunStatus.PENDING
    assert len(mesh.list_runs()) == 2


def test_without_an_address_it_says_where_one_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructors open nothing; the first use says what is missing."""
    for name in ("SQUIDMESH_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    mesh = SquidMesh(workflows=[orders()])
    with pytest.raises(ConfigurationError, match="SQUIDMESH_DATABASE_URL"):
        mesh.list_runs()


def test_a_workflow_is_known_by_itself_or_its_name(lab: Lab) -> None:
    """Another one of the same name is not it; two of one name are refused."""
    mesh = lab.mesh(orders())
    with pytest.raises(WorkflowNotFound):
        mesh.start_run(orders(), {"order_id": "a"})
    with pytest.raises(ConfigurationError, match="two workflows"):
        SquidMesh(lab.dsn, workflows=[orders(), orders()])


def test_a_run_that_is_held_for_a_moment_is_watched_soon_after(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With polls an hour apart, whoever began to wait while a worker was saving the run is told of its end."""
    monkeypatch.setattr("squidmesh.mesh.POLL", (3600.0, 3600.0))
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_))
    lab.worker(mesh)
    run = mesh.start_run("single")
    gate.until_come()
    holder = lab.session(autocommit=False)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs FOR UPDATE"))
    waiting = threading.Thread(target=mesh.wait_for_run, args=(run.id, 20))
    waiting.start()
    until(lambda: mesh._waiters._waiting, what="somebody who waits")
    holder.rollback()
    until(lambda: lab.rows("SELECT id FROM squidmesh.runs WHERE state ? 'watched'"), what="a watched run")
    gate.open()
    waiting.join(20)
    assert not waiting.is_alive()
