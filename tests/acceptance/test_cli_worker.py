"""``squidmesh worker`` as a process: its log, how it stops, and what others do when it is killed."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from squidmesh import Run, RunStatus, SquidMesh
from tests.acceptance.cli_app import WORKFLOWS
from tests.acceptance.cli_kit import QUICK, CommandLine
from tests.proxy import Proxy
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def mesh(database: str) -> Iterator[SquidMesh]:
    """A client on that database."""
    with SquidMesh(database, workflows=WORKFLOWS) as mesh:
        yield mesh


def attempts(mesh: SquidMesh, run: Run, step: str) -> list[str]:
    """How the attempts at a step ended."""
    history = mesh.inspect_run(run.id, include_history=True).history
    assert history is not None
    return [str(a.status) for s in history.step_runs if s.step == step for a in s.attempts]


def started(folder: Path, times: int = 1) -> None:
    """Wait until the step that waits to be let go has started so often."""
    until((folder / f"started-{times}").exists, what="the step has started")


def test_it_says_what_it_serves_and_what_not(squidmesh: CommandLine) -> None:
    with squidmesh.worker("--queues", "default:3,mail:2") as worker:
        line = worker.says(" started: ")
        assert "queues default:3, mail:2" in line
        assert "workflows greeting (1 steps), order (4 steps)" in line
        assert "schema squidmesh; pid " in line
        assert "queue slow, which needs another worker: 'elsewhere/crawl'" in worker.says("does not serve")
        assert worker.stop() == 0
        assert worker.says("SIGTERM: stopping; no step is running")
        assert worker.out == []


def test_its_log_says_what_fails_and_records_of_steps_say_of_which(squidmesh: CommandLine, mesh: SquidMesh) -> None:
    with squidmesh.worker() as worker:
        order = mesh.start_run("order", {"name": "Ann", "times": 3})
        broken = mesh.start_run("broken")
        greeting = mesh.start_run("greeting", {"name": "Ann"})
        failed = worker.says("send failed: ValueError: too heavy ?[31m")
        assert f"run_id={order.id} workflow=order trigger=shop step=send attempt=1" in failed
        assert "send will be tried again in 10 ms" in worker.says("tried again")
        assert f" error    run failed  run_id={broken.id} workflow=broken" in worker.says("run failed")
        own = worker.says("greeting Ann")
        assert own.endswith(f"run_id={greeting.id} workflow=greeting trigger=manual step=greet attempt=1")
        assert worker.stop() == 0


@pytest.mark.parametrize("option", ["--json", "--log-format=json"])
def test_its_log_may_be_json(squidmesh: CommandLine, mesh: SquidMesh, option: str) -> None:
    broken = mesh.start_run("broken")
    with squidmesh.open("worker", option) as process:
        mesh.wait_for_run(broken.id, 30)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    lines, nothing = (out, err) if option == "--json" else (err, out)
    assert nothing == ""
    records = [json.loads(line) for line in lines.splitlines()]
    assert all(record["schema_version"] == 1 for record in records)
    ours = [record for record in records if record.get("run_id") == str(broken.id)]
    (failed,) = (record for record in ours if record.get("event") == "step.failed")
    assert (failed["workflow"], failed["step"], failed["attempt"], failed["level"]) == ("broken", "fail", 1, "warning")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_running_steps_end(
    squidmesh: CommandLine, mesh: SquidMesh, tmp_path: Path, number: signal.Signals
) -> None:
    run = mesh.start_run("held", {"folder": str(tmp_path)})
    with squidmesh.worker() as worker:
        started(tmp_path)
        worker.signal(number)
        line = worker.says(f"{number.name}: stopping; waiting up to 30 s")
        assert f"hold of run {run.id}; a second signal stops at once" in line
        (tmp_path / "go").touch()
        assert worker.ends() == 0
        assert worker.says(" stopped")
    assert attempts(mesh, run, "hold") == ["completed"]
    found = mesh.inspect_run(run.id)
    assert (found.context, found.current_steps) == ({"held": True}, ("after",))
    mesh.cancel_run(run.id)


def test_the_second_signal_stops_at_once_and_the_step_is_run_again_elsewhere(
    squidmesh: CommandLine, mesh: SquidMesh, tmp_path: Path
) -> None:
    run = mesh.start_run("held", {"folder": str(tmp_path)})
    with squidmesh.worker("--grace", "1h") as worker:
        started(tmp_path)
        worker.signal(signal.SIGINT)
        worker.says("waiting up to 60 min")
        worker.signal(signal.SIGINT)
        worker.says("SIGINT again: stopping at once")
        assert worker.ends() == 0
    (tmp_path / "go").touch()
    with squidmesh.worker() as worker:
        assert mesh.wait_for_run(run.id, 30).status is RunStatus.COMPLETED
        assert worker.stop() == 0
    assert attempts(mesh, run, "hold") == ["abandoned", "completed"]


def test_the_grace_period_ends(squidmesh: CommandLine, mesh: SquidMesh, tmp_path: Path) -> None:
    run = mesh.start_run("held", {"folder": str(tmp_path)})
    with squidmesh.worker("--grace", "50ms") as worker:
        started(tmp_path)
        assert worker.stop() == 0
    assert attempts(mesh, run, "hold") == ["abandoned"]
    mesh.cancel_run(run.id)


def test_killed_in_the_middle_of_a_step_another_worker_finishes_the_run(
    squidmesh: CommandLine, mesh: SquidMesh, tmp_path: Path
) -> None:
    run = mesh.start_run("held", {"folder": str(tmp_path)})
    with squidmesh.worker(*QUICK) as first, squidmesh.worker("--queues", "unused", *QUICK) as second:
        started(tmp_path)
        first.signal(signal.SIGKILL)
        assert first.ends() == -signal.SIGKILL
        second.says(" is dead: ")
        second.says("hold was cut off: WorkerDied")
        assert second.stop() == 0
    (tmp_path / "go").touch()
    with squidmesh.worker() as third:
        ended = mesh.wait_for_run(run.id, 30)
        assert third.stop() == 0
    assert (ended.status, ended.context) == (RunStatus.COMPLETED, {"held": True})
    assert attempts(mesh, run, "hold") == ["abandoned", "completed"]
    assert attempts(mesh, run, "after") == ["completed"]


def test_a_failed_engine_is_an_exit_code(squidmesh: CommandLine, fresh_database: str) -> None:
    """The table of jobs vanishes under a worker: it stops by itself, and says so."""
    cli = CommandLine(fresh_database)
    cli("migrate").ok()
    with cli.worker(*QUICK) as worker, SquidMesh(fresh_database) as mesh:
        mesh.list_runs()
        with mesh.address.connect() as connection:
            connection.execute("ALTER TABLE squidmesh.jobs RENAME TO gone")
        assert worker.ends() == 1
        assert worker.says("squidmesh: the worker's engine failed: UndefinedTable")
    del squidmesh


def test_without_a_database_the_second_signal_still_stops_it(database: str, mesh: SquidMesh, tmp_path: Path) -> None:
    run = mesh.start_run("held", {"folder": str(tmp_path)})
    with Proxy(database) as proxy, CommandLine(proxy.dsn).worker() as worker:
        started(tmp_path)
        proxy.stop()
        worker.signal(signal.SIGTERM)
        worker.says("waiting up to 30 s")
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 1
        assert worker.says("the database was not told in time; others take over after the lease")
    mesh.cancel_run(run.id)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--queues", "default:0"), "a concurrency from 1 to 10000"),
        (("--heartbeat", "30s"), "must be above 0 and below lease=30 seconds"),
    ],
)
def test_settings_that_cannot_work_are_usage_errors(squidmesh: CommandLine, given: tuple[str, ...], said: str) -> None:
    refused = squidmesh("worker", *given)
    assert refused.code == 2
    assert said in refused.err
