"""Starts with a key: one run of a workflow for a key, whoever starts it, however often, and whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import AsyncSquidMesh, InvalidOption, RunExists, RunStatus, Workflow
from tests.invariants import check
from tests.lab import Ear, Lab
from tests.runtime.apps import single
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from uuid import UUID

MANY = 20


def forked() -> Workflow:
    """Two entry steps, of two queues."""
    workflow = Workflow("forked")
    workflow.step(name="left", start=True)(lambda: None)
    workflow.step(name="right", start=True, queue="other")(lambda: None)
    return workflow


def test_the_second_start_returns_the_run_of_the_first(lab: Lab) -> None:
    """Wherever it stands by then, in both twins; a key is one of its workflow, and other keys are other runs."""
    mesh = lab.mesh(single(lambda: None), forked())
    first = mesh.start_run("single", key="order-17")
    assert (first.key, first.context) == ("order-17", {})
    assert mesh.inspect_run(first.id) == first
    assert mesh.start_run("single", key="order-17", delay=50) == mesh.list_runs(key="order-17")[0]
    lab.worker(mesh)
    mesh.wait_for_run(first.id, TIMEOUT)
    again = mesh.start_run("single", key="order-17")
    assert (again.id, again.status, again.created_at) == (first.id, RunStatus.COMPLETED, first.created_at)
    others = {mesh.start_run("single", key="order-18").id, mesh.start_run("forked", key="order-17").id}
    assert first.id not in others

    async def twin() -> UUID:
        async with AsyncSquidMesh(lab.dsn, workflows=[single(lambda: None)], schema=lab.schema) as other:
            with pytest.raises(RunExists):
                await other.start_run("single", key="order-17", on_conflict="raise")
            return (await other.start_run("single", key="order-17")).id

    assert asyncio.run(twin()) == first.id
    assert [run.id for run in mesh.list_runs(workflow="single", key="order-17")] == [first.id]
    assert mesh.list_runs(key="order-19") == []
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 3


def test_a_start_with_a_key_writes_what_one_without_writes(lab: Lab) -> None:
    """Its jobs, all of them, at their time; twice the key makes no second set of them."""
    mesh = lab.mesh(forked())
    mesh.start_run("forked", delay=3600)
    mesh.start_run("forked", delay=3600, key="a")
    mesh.start_run("forked", delay=3600, key="a")
    query = """
        SELECT array_agg((j.slot, j.state, j.kind, j.step, j.queue, j.run_at - r.created_at, j.saw)::text ORDER BY slot),
               r.status, r.state, r.seq, r.fingerprint, r.trigger
          FROM squidmesh.runs r JOIN squidmesh.jobs j ON j.run_id = r.id GROUP BY r.id"""
    plain, keyed = lab.rows(query)
    assert plain == keyed
    assert "sleeping" in plain[0][0]
    assert "01:00:00" in plain[0][0]
    check(lab, at_rest=False)


def test_a_key_that_is_taken_is_an_error_for_those_who_want_one(lab: Lab) -> None:
    mesh = lab.mesh(single(lambda: None))
    first = mesh.start_run("single", key="a", on_conflict="raise")
    with pytest.raises(RunExists, match="has the key 'a' already") as caught:
        mesh.start_run("single", key="a", on_conflict="raise")
    assert caught.value.details == {"run_id": str(first.id), "workflow": "single", "key": "a"}
    assert caught.value.to_json()["error"] == "run_exists"


def test_only_the_start_that_made_the_run_tells_of_it(lab: Lab) -> None:
    mesh = lab.mesh(single(lambda: None))
    ear = Ear(mesh, "run.created", "run.dispatched")
    run = mesh.start_run("single", key="a")
    mesh.start_run("single", key="a")
    assert [(event.name, event.run_id) for event in ear.heard("run.created")] == [("run.created", run.id)]
    assert len(ear.heard("run.dispatched")) == 1


@pytest.mark.parametrize("bad", [5, "", "  ", "x" * 201, "a\0b", "\ud800", b"a"])
def test_a_key_that_cannot_be_used_is_refused_before_anything_is_stored(lab: Lab, bad: Any) -> None:
    mesh = lab.mesh(single(lambda: None))
    asked: list[Callable[[], object]] = [lambda: mesh.start_run("single", key=bad), lambda: mesh.list_runs(key=bad)]
    for ask in asked:
        with pytest.raises(InvalidOption) as caught:
            ask()
        assert caught.value.details == {"option": "key"}
    with pytest.raises(InvalidOption, match="return"):
        mesh.start_run("single", key="a", on_conflict="ignore")  # type: ignore[arg-type]
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 0
    assert mesh.start_run("single", key="ü" * 200).key == "ü" * 200


def test_a_replay_has_no_key(lab: Lab) -> None:
    mesh = lab.mesh(single(lambda: None))
    run = mesh.start_run("single", key="a")
    mesh.cancel_run(run.id)
    assert mesh.replay_run(run.id).key is None
    assert mesh.start_run("single", key="a").id == run.id


# -- at once -----------------------------------------------------------------------------------------------------------


def test_twenty_threads_make_one_run(lab: Lab) -> None:
    """Held up together by somebody who takes the key and lets it go: then one of them has it, and all return it."""
    mesh = lab.mesh(single(lambda: None), max_connections=MANY)
    holder = lab.session(autocommit=False)
    mesh.start_run("single", key="a", connection=holder)
    with ThreadPoolExecutor(MANY) as threads:
        starts = [threads.submit(mesh.start_run, "single", key="a") for _ in range(MANY)]
        until(lambda: waiting(lab) == MANY, what="twenty starts that wait for the holder of the key")
        holder.rollback()
        found = {start.result(TIMEOUT).id for start in starts}
    assert [row[0] for row in lab.rows("SELECT id FROM squidmesh.runs")] == list(found)
    assert lab.jobs() == {"ready": 1}


def waiting(lab: Lab) -> int:
    """How many sessions wait for another's lock."""
    return int(lab.value("SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"))


START = """
import json, sys
from squidmesh import SquidMesh
from tests.runtime.apps import single
mesh = SquidMesh(sys.argv[1], workflows=[single(lambda: None)], schema=sys.argv[2])
mesh.list_runs()
print("here", flush=True)
sys.stdin.readline()
print(json.dumps([str(mesh.start_run("single", key=f"k{n}").id) for n in range(50)]))
"""


def test_processes_that_start_at_once_make_one_run_a_key(lab: Lab) -> None:
    command = [sys.executable, "-c", START, lab.dsn, lab.schema]
    several = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.stdout.readline() for process in several if process.stdout] == ["here\n"] * 4
    for process in several:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.communicate(timeout=TIMEOUT)[0]) for process in several]
    assert said == [said[0]] * 4
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 50
    assert lab.jobs() == {"ready": 50}


# -- in the caller's own transaction -----------------------------------------------------------------------------------


def test_a_start_in_a_transaction_holds_up_starts_of_its_key_and_no_others(lab: Lab) -> None:
    """If the host commits, they return its run."""
    mesh, other = lab.mesh(single(lambda: None)), lab.mesh(single(lambda: None))
    host = lab.session(autocommit=False)
    mine = mesh.start_run("single", key="a", connection=host)
    assert mesh.start_run("single", key="a", connection=host).id == mine.id
    assert other.start_run("single", key="b").key == "b"
    with ThreadPoolExecutor(1) as thread:
        later = thread.submit(other.start_run, "single", key="a")
        until(lambda: waiting(lab) == 1, what="a start that waits for the host")
        host.commit()
        assert later.result(TIMEOUT).id == mine.id
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 2


def test_a_taken_key_leaves_the_hosts_transaction_usable(lab: Lab) -> None:
    mesh = lab.mesh(single(lambda: None))
    taken = mesh.start_run("single", key="a")
    with lab.session(autocommit=False) as host:
        with pytest.raises(RunExists):
            mesh.start_run("single", key="a", on_conflict="raise", connection=host)
        assert mesh.start_run("single", key="a", connection=host).id == taken.id
        mesh.start_run("single", key="b", connection=host)
    assert [run.key for run in mesh.list_runs()] == ["b", "a"]


class Interrupted(psycopg.Connection[Any]):
    """A connection with somebody who acts between two of its statements."""

    between: Callable[[], object] | None = None

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        found = super().wait(gen, *args, **options)
        if self.between is not None:
            self.between()
        return found


def test_a_run_that_is_deleted_before_it_was_read_is_started_after_all(lab: Lab) -> None:
    """Retention may take the run that had the key between the two statements of a start."""
    mesh = lab.mesh(single(lambda: None))
    old = mesh.start_run("single", key="a")
    host = Interrupted.connect(lab.dsn)
    lab.undo.callback(host.close)
    statements = 0

    def delete_after_the_first() -> None:
        nonlocal statements
        statements += 1
        if statements == AFTER_THE_FIRST_STATEMENT:
            lab.rows("DELETE FROM squidmesh.jobs")
            lab.rows("DELETE FROM squidmesh.runs")

    host.between = delete_after_the_first
    new = mesh.start_run("single", key="a", connection=host)
    host.commit()
    assert new.id != old.id
    assert [row[0] for row in lab.rows("SELECT id FROM squidmesh.runs")] == [new.id]
    assert lab.jobs() == {"ready": 1}


AFTER_THE_FIRST_STATEMENT = 2
"""After the look at the isolation level and the insert; then comes the reading."""
