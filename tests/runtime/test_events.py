"""Events, listeners and waiters: what others do with them harms nobody."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest

from squidmesh import RunStatus, Workflow
from squidmesh.clock import new_id
from squidmesh.events import EVENT_NAMES, Event
from squidmesh.store.listener import Listener
from tests.lab import Ear, Lab
from tests.runtime.apps import single
from tests.waiting import until


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_subscriber_that_raises_harms_nothing(lab: Lab, error: type[BaseException]) -> None:
    """Whatever it raises: the others are told, of this event and of the next ones."""
    mesh = lab.mesh(single(lambda: None))

    def broken(event: Event) -> None:
        raise error

    mesh.subscribe(broken)
    ear = Ear(mesh)
    lab.worker(mesh)
    assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED
    until(lambda: "step.completed" in ear.names())


def test_events_are_told_in_the_order_of_what_happened(lab: Lab) -> None:
    """Each with its run, and with what it is about."""
    workflow = Workflow("w")

    @workflow.step
    def first() -> None: ...

    @workflow.step(after=[first])
    def second() -> None: ...

    mesh = lab.mesh(workflow)
    ear = Ear(mesh)
    # Started first: a worker that is there already may tell of the run before the client comes to it.
    run = mesh.start_run(workflow)
    worker = lab.worker(mesh)
    mesh.wait_for_run(run.id, 20)
    worker.stop()
    of_run = [(e.name, e.metadata.get("step"), e.metadata.get("to_status")) for e in ear.events if e.run_id == run.id]
    assert of_run == [
        ("run.created", None, None),
        ("run.dispatched", "first", None),
        ("run.transition", None, "running"),
        ("step.started", "first", None),
        ("step.completed", "first", None),
        ("run.dispatched", "second", None),
        ("step.started", "second", None),
        ("step.completed", "second", None),
        ("run.transition", None, "completed"),
    ]
    assert {e.metadata["workflow"] for e in ear.events if e.run_id} == {"w"}
    assert [name for name in ear.names() if name.startswith("worker.")] == ["worker.started", "worker.stopped"]


def test_only_what_was_named_is_told_and_a_subscription_ends(lab: Lab) -> None:
    """A name that does not exist is refused with those that do."""
    mesh = lab.mesh(single(lambda: None))
    ear = Ear(mesh, "run.created")
    mesh.start_run("single")
    assert ear.names() == ["run.created"]
    ear.stop()
    mesh.start_run("single")
    assert ear.names() == ["run.created"]
    with pytest.raises(ValueError, match=r"run\.creatd.*run\.created"):
        mesh.subscribe(print, "run.creatd")
    assert len(set(EVENT_NAMES)) == len(EVENT_NAMES)


def test_a_listener_outlives_lost_connections_and_whoever_hears(lab: Lab) -> None:
    """It connects again, tells that something may have been missed, and goes on after an exception."""
    heard: list[str | None] = []

    def hear(payload: str | None) -> None:
        heard.append(payload)
        if payload == "bad":
            raise RuntimeError("a listener that raises")

    listener = Listener(
        lambda: psycopg.connect(lab.dsn, autocommit=True, application_name="listening"), lab.schema, hear
    )
    listener.start()
    try:
        until(lambda: heard == [None])
        lab.rows("SELECT pg_notify(%s, 'bad')", lab.schema)
        lab.rows("SELECT pg_notify(%s, 'good')", lab.schema)
        until(lambda: heard == [None, "bad", "good"])
        lab.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listening'")
        until(lambda: heard == [None, "bad", "good", None])
        lab.rows("SELECT pg_notify(%s, 'again')", lab.schema)
        until(lambda: heard[-1] == "again")
    finally:
        listener.stop()
        listener.stop()


def test_a_waiter_whose_loop_is_closed_harms_no_other(lab: Lab) -> None:
    """Nor does a notification that nobody of ours sent."""
    mesh = lab.mesh(single(lambda: None))
    run = mesh.start_run("single")
    loop = asyncio.new_event_loop()
    loop.close()
    woken = threading.Event()
    mesh._waiters.add(run.id, lambda: loop.call_soon_threadsafe(print))
    mesh._waiters.add(run.id, woken.set)
    until(lambda: mesh._waiters._listener is not None and mesh._waiters._listener.connected.is_set())
    woken.clear()
    for payload in ("run:nonsense", "run:", "", ":", f"run:{new_id()}", f"run:{run.id}"):
        lab.rows("SELECT pg_notify(%s, %s)", lab.schema, payload)
    assert woken.wait(20)


def test_a_stranger_on_the_channel_harms_no_worker(lab: Lab) -> None:
    """Notifications that make no sense are ignored."""
    mesh = lab.mesh(single(lambda: None))
    lab.worker(mesh)
    for payload in ("queue:", "worker:nonsense", "run:1", "", "queue:default", "x" * 7000):
        lab.rows("SELECT pg_notify(%s, %s)", lab.schema, payload)
    assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED
