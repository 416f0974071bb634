"""A deploy: two versions of one app as two real worker processes, and what check-deploy says of it beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh import SquidMesh
from tests.acceptance.cli_kit import QUICK, CommandLine
from tests.acceptance.deploy_app import orders
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from pathlib import Path

    from squidmesh import Run


def test_two_versions_work_side_by_side_and_what_strands_was_predicted(fresh_database: str, tmp_path: Path) -> None:
    old_cli, new_cli = (CommandLine(fresh_database, app=f"deploy_app:{version}") for version in ("old", "new"))
    with (
        SquidMesh(fresh_database, workflows=[orders("old", "charge")]) as old,
        SquidMesh(fresh_database, workflows=[orders("new", "bill")]) as new,
    ):
        old.migrate()
        print_of_old = old.registry.workflows["orders"].check().fingerprint

        def start(mesh: SquidMesh, name: str) -> Run:
            (tmp_path / name).mkdir()
            return mesh.start_run("orders", {"folder": str(tmp_path / name)})

        def let_go(name: str) -> None:
            until((tmp_path / name / "held").exists, what=f"{name}, held")
            (tmp_path / name / "go").touch()

        def stranding(now: int, later: int) -> dict[str, object]:
            place = {"workflow": "orders", "fingerprint": print_of_old, "step": "charge", "key": None}
            return {**place, "reason": "step_gone", "runs_now": now, "runs_later": later}

        def checked() -> list[dict[str, object]]:
            said = new_cli("check-deploy", "--json")
            assert said.code == (8 if said.json["strandings"] else 0)
            return list(said.json["strandings"])

        first = start(old, "first")
        with old_cli.worker(*QUICK) as old_worker, new_cli.worker(*QUICK):
            # Side by side: the old run ends on its old graph, the new one on the new graph.
            until((tmp_path / "first" / "held").exists, what="the first run, held")
            assert checked() == [stranding(0, 1)]
            assert old_cli("check-deploy").ok().err == "squidmesh: each of 1 live runs can finish with this code\n"
            second = start(new, "second")
            let_go("first")
            let_go("second")
            ended = [new.wait_for_run(run.id, TIMEOUT) for run in (first, second)]
            assert [run.status for run in ended] == ["completed", "completed"]
            by, by_new = (run.context or {} for run in ended)
            assert (ended[0].fingerprint, by["charge_by"], by_new["bill_by"]) == (print_of_old, "old", "new")
            assert by.keys() == {"reserve_by", "charge_by", "send_by"}
            assert checked() == []

            # The old worker goes too early: what was predicted is what parks.
            assert old_worker.stop() == 0
            third = start(old, "third")
            assert checked() == [stranding(0, 1)]
            let_go("third")
            parked = until_status_of_step(new, third, "charge", "unknown_step")
            assert parked == {"charge"}
            assert checked() == [stranding(1, 0)]
            table = new_cli("check-deploy")
            assert [line.split()[:5] for line in table.out.splitlines()] == [
                ["workflow", "graph", "step", "now", "later"],
                ["orders", print_of_old, "charge", "1", "0"],
            ]
            assert "this code has no function for the step" in table.out

            # A worker with the old code does it after all.
            with old_cli.worker(*QUICK):
                ended_late = new.wait_for_run(third.id, TIMEOUT)
        late = ended_late.context or {}
        assert (ended_late.status, late["reserve_by"], late["charge_by"]) == ("completed", "new", "old")


def until_status_of_step(mesh: SquidMesh, run: Run, step: str, reason: str) -> set[str]:
    """Wait until a step is parked for a reason; return all that are."""

    def parked() -> set[str]:
        history = mesh.inspect_run(run.id, include_history=True).history
        assert history is not None
        found = {declared.step for declared in history.steps if declared.reason == reason}
        return found if step in found else set()

    return until(parked, what=f"{step}, parked")


def test_check_deploy_needs_an_app(fresh_database: str) -> None:
    SquidMesh(fresh_database).migrate()
    said = CommandLine(fresh_database, app=None)("check-deploy")
    assert (said.code, said.out) == (2, "")
