"""Connections are lost in every way: terminated, timed out, and with the whole server."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import RunStatus
from squidmesh.embedded import EmbeddedPostgres
from squidmesh.store.database import drive
from tests.effort import FULL_CHAOS
from tests.invariants import check
from tests.lab import Gate, laboratory
from tests.proxy import Proxy
from tests.runtime.apps import Bodies, chain_of, fork_of, single
from tests.waiting import until

if TYPE_CHECKING:
    from uuid import UUID

    from tests.lab import Lab

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("seed", range(10 if FULL_CHAOS else 2))
def test_backends_terminated_at_random(lab: Lab, seed: int) -> None:
    """Those of engine, caretaker, listener and client: each body starts once, each run completes."""
    chance = random.Random(seed)
    bodies = Bodies()
    workflows = (chain_of(bodies), fork_of(bodies, 4))
    mesh = lab.mesh(*workflows)
    runs = [run for workflow in workflows for run in mesh.start_runs(workflow, [None] * 20)]
    workers = [lab.worker(mesh, 4, lease=30.0, beat=0.05) for _ in range(2)]
    for number in range(8):
        until(lambda n=number: bodies.total() >= min(20 * n, 200), what="some bodies")  # type: ignore[misc]
        ours = f"query LIKE '%%{lab.schema}%%'"
        lab.terminate(ours if chance.random() < 0.5 else f"{ours} AND random() < 0.5")
    lab.until_ended(len(runs))
    for worker in workers:
        worker.stop()
    assert {mesh.inspect_run(run.id).status for run in runs} == {RunStatus.COMPLETED}
    assert set(bodies.started.values()) == {1}
    check(lab, workers_left=False)


def test_a_lost_listener_costs_no_more_than_a_heartbeat(lab: Lab) -> None:
    """While listening is impossible, workers and waiters find everything by looking."""
    mesh = lab.mesh(single(lambda: None))
    with Proxy(lab.dsn) as proxy:
        deaf = lab.mesh(*mesh.registry.workflows.values(), listen_dsn=proxy.dsn)
        worker = lab.worker(deaf)
        assert worker._listener is not None
        assert worker._listener.connected.is_set()
        proxy.stop()
        until(lambda: not worker._listener.connected.is_set())  # type: ignore[union-attr]
        for _ in range(3):
            assert deaf.wait_for_run(deaf.start_run("single").id, 20).status is RunStatus.COMPLETED


def test_a_session_that_is_ended_in_the_middle_of_a_turn_does_not_end_the_engine(lab: Lab) -> None:
    """By the server, between lock and save, as a time-out or an administrator would: the turn is taken again."""
    bodies = Bodies()
    mesh = lab.mesh(chain_of(bodies))
    ended: list[int] = []

    def before_the_save(message: bytes) -> bool:
        if message.startswith(b"P") and b".runs r\n   SET status" in message and len(ended) < 3:
            ended.append(lab.terminate(f"state = 'idle in transaction' AND query LIKE '%%{lab.schema}.%%'"))
        return False

    with Proxy(lab.dsn) as proxy:
        proxy.cut_when(before_the_save)
        slow = lab.mesh(*mesh.registry.workflows.values(), dsn=proxy.dsn, prepared_statements=False)
        worker = lab.worker(slow, lease=30.0)
        run = mesh.start_run("chain")
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
        worker.stop()
    assert ended == [1, 1, 1]
    assert set(bodies.started.values()) == {1}
    check(lab, workers_left=False)


@pytest.mark.parametrize("code", ["25P03", "25P04", "25006", "57P01", "40P01", "53300"])
def test_errors_that_may_pass_do_not_end_the_engine(lab: Lab, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Time-outs, failovers, deadlocks, too many connections: whatever class psycopg files them under."""
    mesh = lab.mesh(single(lambda: None))
    failed: list[int] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        if len(failed) < 2 and threading.current_thread().name == "squidmesh-engine":
            failed.append(1)
            raise psycopg.errors.lookup(code)
        return drive(*args, **kwargs)

    monkeypatch.setattr("squidmesh.worker.link.drive", failing)
    lab.worker(mesh)
    assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED
    assert len(failed) == 2


def test_a_server_that_becomes_read_only_does_not_end_the_engine(lab: Lab) -> None:
    """As after a failover to a standby: when it can be written to again, the worker goes on."""
    mesh = lab.mesh(single(lambda: None))
    lab.worker(mesh, lease=60.0, beat=0.05)
    assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED
    database = lab.value("SELECT current_database()")
    with psycopg.connect(lab.dsn, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
        try:
            lab.terminate(f"query LIKE '%%{lab.schema}%%'")
            run = mesh.start_run("single", connection=_writable(lab))
            pending = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'squidmesh'"
            until(lambda: lab.value(pending) >= 2, what="connections of the worker")
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only".encode())
    lab.terminate(f"query LIKE '%%{lab.schema}%%'")
    assert mesh.wait_for_run(run.id, 30).status is RunStatus.COMPLETED
    check(lab)


def _writable(lab: Lab) -> psycopg.Connection[tuple[object, ...]]:
    connection = lab.session()
    connection.execute("SET default_transaction_read_only = off")
    return connection


def test_a_server_restarted_under_load() -> None:
    """Stopped without mercy and started again: what was committed is there, what was not is done again, once."""
    bodies = Bodies()
    settings = {"full_page_writes": "off", "max_connections": "100"}
    with EmbeddedPostgres(settings=settings, tcp=True) as postgres, laboratory(postgres.dsn) as lab:
        mesh = lab.mesh(chain_of(bodies), fork_of(bodies, 4))
        runs = [run for name in ("chain", "fork") for run in mesh.start_runs(name, [None] * 20)]
        worker = lab.worker(mesh, 4, lease=60.0, beat=0.1)
        waiting = threading.Thread(target=_wait, args=(lab, [run.id for run in runs]))
        waiting.start()
        for number in range(3 if FULL_CHAOS else 1):
            until(lambda n=number: bodies.total() >= 15 * (n + 1), what="some bodies")  # type: ignore[misc]
            postgres.restart("immediate")
        lab.until_ended(len(runs), timeout=60)
        waiting.join(60)
        worker.stop()
        assert set(bodies.started.values()) == {1}
        check(lab, workers_left=False)


def _wait(lab: Lab, run_ids: list[UUID]) -> None:
    """Ask again and again, on connections of one's own, as a client does whose server comes and goes."""
    query = "SELECT count(*) FROM squidmesh.runs WHERE id = ANY (%s) AND finished_at IS NOT NULL"

    def ended() -> bool:
        try:
            with psycopg.connect(lab.dsn, autocommit=True) as connection:
                return connection.execute(lab.sql(query), [run_ids]).fetchone() == (len(run_ids),)
        except psycopg.OperationalError:
            return False

    until(ended, 60)


def test_a_worker_stops_though_the_database_is_away(lab: Lab) -> None:
    """It waits no longer than grace period and lease; what it had is rescued by another."""
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_))
    with Proxy(lab.dsn) as proxy:
        away = lab.mesh(*mesh.registry.workflows.values(), dsn=proxy.dsn)
        worker = lab.worker(away)
        run = mesh.start_run("single")
        gate.until_come()
        proxy.stop()
        worker.stop(grace=0.0)
        assert worker.wait(0)
        until(lambda: not worker._engine_thread.is_alive(), what="the end of the engine")
    gate.open()
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert [status for _, _, status in lab.attempts(run)] == ["abandoned", "completed"]
    check(lab)
