r"""A run has failed, and is repaired: it goes on where it failed; later its second half is done over in a new run.

By itself, on a Postgres of its own::

    python examples/recover.py
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squidmesh import Fail, SquidMesh, UnsafeReplay, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn

if TYPE_CHECKING:
    from squidmesh import Run

RATES = {"EUR": 1.0}
"""What a currency is worth. Somebody has forgotten the crowns."""


@dataclass
class Month:
    """What a run is started with."""

    month: str


recover = Workflow("recover", payload=Month)


@recover.step(output="sales")
def download(month: str) -> dict[str, int]:
    print(f"  downloading {month}, which takes an hour")
    return {"EUR": 100, "DKK": 800}


@recover.step(output="total")
def add_up(sales: dict[str, int]) -> float:
    for currency in sales:
        if currency not in RATES:
            raise Fail(f"no rate for {currency}")
    return sum(amount * RATES[currency] for currency, amount in sales.items())


@recover.step(irreversible=True, output="letter")
def send(month: str, total: float) -> str:
    return f"{month}: {total:.2f} EUR"


recover.sequence(download, add_up, send)

mesh = SquidMesh(workflows=[recover])


# -- all below is only for running it by itself ------------------------------------------------------------------


def tell(what: str, run: Run) -> None:
    """Print the attempts that a run has made by now."""
    assert run.history is not None
    print(f"{what}: {run.status}, {(run.error or {}).get('message') or (run.context or {})['letter']}")
    for step_run in run.history.step_runs:
        statuses = ", ".join(attempt.status for attempt in step_run.attempts)
        print(f"  {step_run.step:9} {step_run.kind:7} {statuses}")


def repair(mesh: SquidMesh) -> None:
    """Fail, go on in place, and replay from the middle."""

    def ended(run: Run) -> Run:
        mesh.wait_for_run(run.id, timeout=60)
        return mesh.inspect_run(run.id, include_history=True)

    run = ended(mesh.start_run(recover, Month("May")))
    tell("it fails", run)

    RATES["DKK"] = 0.013  # a slip
    run = ended(mesh.retry_run(run.id, actor="ann", comment="there is a rate for crowns now"))
    tell("retried in place", run)

    RATES["DKK"] = 0.13
    try:
        mesh.replay_run(run.id, from_step="add_up")
    except UnsafeReplay as error:
        print(error)
    new = ended(mesh.replay_run(run.id, from_step="add_up", allow_irreversible=True))
    assert new.replayed_from == run.id
    tell("replayed from the middle", new)


def main(dsn: str) -> None:
    """Repair a run while a worker is there."""
    with SquidMesh(dsn, workflows=[recover]) as here:
        here.migrate()
        with here.worker():
            repair(here)


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
