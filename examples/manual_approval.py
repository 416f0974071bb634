r"""An expense that people decide about: two managers for a large one, silence for a small one, a cashier who pays.

By itself, on a Postgres of its own::

    python examples/manual_approval.py

As an app, on your database (``SQUIDMESH_DATABASE_URL``), from the directory ``examples``::

    python -m squidmesh migrate --app manual_approval:mesh
    python -m squidmesh worker --app manual_approval:mesh
    python -m squidmesh start manual_approval --app manual_approval:mesh -p purpose=chairs -p amount=900
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from squidmesh import AlreadyVoted, Outcome, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn

if TYPE_CHECKING:
    from uuid import UUID

    from squidmesh import Run


SMALL = 100
"""EUR below which nobody has to agree, as long as nobody objects."""


@dataclass
class Expense:
    """What a run is started with."""

    purpose: str
    amount: int


manual_approval = Workflow("manual_approval", payload=Expense)


@manual_approval.step
def judge(amount: int) -> Outcome | None:
    return Outcome("small") if amount < SMALL else None


two_managers = manual_approval.approval("two_managers", approvers=2, deadline=timedelta(days=2), output="decision")
# A second, so that this example is over soon; a day would be right.
anyone = manual_approval.approval("anyone", deadline=1, output="decision")
payday = manual_approval.pause("payday")


@manual_approval.step(output="paid")
def pay(amount: int, decision: dict[str, Any]) -> str:
    return f"{amount} EUR, {decision['decision']}"


@manual_approval.step(output="told")
def tell_requester(purpose: str, decision: dict[str, Any]) -> str:
    return f"no money for {purpose}: {decision.get('comment', 'nobody decided')}"


manual_approval.sequence(judge, two_managers, payday, pay)
manual_approval.transition(two_managers, on="rejected", to=tell_requester)
manual_approval.transition(two_managers, on="timeout", to=tell_requester)

manual_approval.transition(judge, on="small", to=anyone)
manual_approval.transition(anyone, to=pay)
manual_approval.transition(anyone, on="timeout", to=pay)  # who says nothing agrees
manual_approval.transition(anyone, on="rejected", to=tell_requester)

mesh = SquidMesh(workflows=[manual_approval])


# -- all below is only for running it by itself ------------------------------------------------------------------


def until_waiting(mesh: SquidMesh, run_id: UUID, step: str) -> None:
    """Wait until a run waits at a step; an application would show what waits instead."""
    while mesh.inspect_run(run_id).current_steps != (step,):
        time.sleep(0.01)


def tell(run: Run) -> None:
    """Print who did what to a run, and how it ended."""
    assert run.history is not None
    for event in run.history.audit_events:
        who = event.actor or "squidmesh"
        print(f"  {event.type:9} {event.step or '':13} {who}{f': {event.comment}' if event.comment else ''}")
    context: dict[str, Any] = run.context or {}
    print(f"{run.payload['purpose']}: {run.status}; {context.get('paid') or context.get('told')}")


def decide(mesh: SquidMesh) -> list[UUID]:
    """Start three expenses and decide about them, as an application's buttons would."""
    chairs = mesh.start_run(manual_approval, Expense("chairs", 900)).id
    yacht = mesh.start_run(manual_approval, Expense("yacht", 900_000)).id
    pencils = mesh.start_run(manual_approval, Expense("pencils", 9)).id

    until_waiting(mesh, chairs, "two_managers")
    mesh.approve_run(chairs, actor="ann", comment="mine broke, too")
    try:
        mesh.approve_run(chairs, actor="ann")
    except AlreadyVoted as error:
        print(error)
    mesh.approve_run(chairs, actor="bob", metadata={"budget": "furniture"})
    until_waiting(mesh, chairs, "payday")
    mesh.unblock_run(chairs, actor="cashier")

    until_waiting(mesh, yacht, "two_managers")
    mesh.approve_run(yacht, actor="skipper")
    mesh.reject_run(yacht, actor="ann", comment="we do not have a harbour")
    return [chairs, yacht, pencils]


def main(dsn: str) -> None:
    """Let three expenses be decided about, and print their audit trails."""
    with SquidMesh(dsn, workflows=[manual_approval]) as here:
        here.migrate()
        with here.worker():
            for run_id in decide(here):
                here.wait_for_run(run_id, timeout=60)
                tell(here.inspect_run(run_id, include_history=True))


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
