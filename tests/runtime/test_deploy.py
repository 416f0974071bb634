"""``check_deploy``: the code at hand against real live runs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from squidmesh import AsyncSquidMesh, DeployCheck, Stranding, StrandingReason, Workflow
from squidmesh.definition import FORMAT
from tests.lab import Gate, Lab
from tests.waiting import TIMEOUT


@dataclass
class Old:
    name: str


@dataclass
class New(Old):
    weight: int = 1


def orders(*steps: str, needs: str | None = None) -> Workflow:
    """A chain of steps with outputs of their own; the last one may need a key."""
    workflow = Workflow("orders", payload=New if needs == "weight" else Old)
    made = [workflow.step(name=name, output=f"{name}_done")(lambda name: 1) for name in steps[:-1]]
    last: dict[str | None, object] = {
        None: lambda name: 1,
        "weight": lambda name, weight: 1,
        "name": lambda name: 1,
    }
    made.append(workflow.step(name=steps[-1], output="ended")(last[needs]))  # type: ignore[arg-type]
    workflow.sequence(*made)
    return workflow


def test_it_counts_runs_by_what_they_are_at_and_may_get_to(lab: Lab) -> None:
    """Those that have ended do not count, nor those that are ending; both twins say the same."""
    old = lab.mesh(orders("pay", "send"))
    old.cancel_run(old.start_run("orders", {"name": "a"}).id)
    runs = old.start_runs("orders", [{"name": "b"}] * 3)
    lab.rows("UPDATE squidmesh.jobs SET step = 'send' WHERE run_id = %s", runs[0].id)
    ending = old.start_run("orders", {"name": "c"})
    lab.rows("UPDATE squidmesh.runs SET status = 'failing' WHERE id = %s", ending.id)

    check = lab.mesh(orders("pay", "post")).check_deploy()

    expected = Stranding(
        workflow="orders",
        fingerprint=runs[0].fingerprint,
        step="send",
        reason=StrandingReason.STEP_GONE,
        runs_now=1,
        runs_later=2,
    )
    assert check == DeployCheck(runs=3, strandings=(expected,))
    assert not check.ok
    assert old.check_deploy() == DeployCheck(runs=3, strandings=())
    assert old.check_deploy().ok

    async def twin() -> DeployCheck:
        async with AsyncSquidMesh(lab.dsn, workflows=[orders("pay", "post")], schema=lab.schema) as mesh:
            return await mesh.check_deploy()

    assert asyncio.run(twin()) == check


def test_a_missing_workflow_and_an_unreadable_graph_are_said(lab: Lab) -> None:
    old = lab.mesh(orders("pay", "send"))
    run = old.start_run("orders", {"name": "a"})
    check = lab.mesh().check_deploy()
    assert [(s.step, s.reason, s.runs_now, s.runs_later) for s in check.strandings] == [
        ("pay", "workflow_gone", 1, 0),
        ("send", "workflow_gone", 0, 1),
    ]
    newer = json.dumps({"format": FORMAT + 1})
    lab.rows("UPDATE squidmesh.definitions SET definition = definition || %s::jsonb", newer)
    check = lab.mesh(orders("pay", "post")).check_deploy()
    assert [(s.fingerprint, s.step, s.reason, s.runs_now) for s in check.strandings] == [
        (run.fingerprint, None, "newer_graph", 1)
    ]


def test_a_new_parameter_is_looked_up_in_the_payloads(lab: Lab) -> None:
    """Only the runs whose payload has no such key would fail; and they do."""
    old = lab.mesh(orders("pay", "send"))
    lacking, having = old.start_runs("orders", [{"name": "a"}, {"name": "b"}])
    lab.rows("UPDATE squidmesh.runs SET payload = payload || '{\"weight\": 2}' WHERE id = %s", having.id)
    new = lab.mesh(orders("pay", "send", needs="weight"))
    (found,) = new.check_deploy().strandings
    assert (found.step, found.reason, found.key) == ("send", "parameter_missing", "weight")
    assert (found.runs_now, found.runs_later) == (0, 1)
    lab.worker(new)
    assert new.wait_for_run(having.id, TIMEOUT).status == "completed"
    error = new.wait_for_run(lacking.id, TIMEOUT).error
    assert error is not None
    assert error["type"] == "InvalidInput"


def test_a_running_step_counts_as_being_there(lab: Lab) -> None:
    gate = Gate()
    workflow = Workflow("orders")
    workflow.step(name="pay")(gate.pass_)
    old = lab.mesh(workflow)
    run = old.start_run("orders")
    lab.worker(old)
    gate.until_come()
    assert [s.runs_now for s in lab.mesh().check_deploy().strandings] == [1]
    gate.open()
    old.wait_for_run(run.id, TIMEOUT)
    assert lab.mesh().check_deploy() == DeployCheck(runs=0, strandings=())
