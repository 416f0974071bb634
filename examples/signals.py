r"""A payment that the bank confirms from outside: before we wait for it, while we do, twice, or never.

By itself, on a Postgres of its own::

    python examples/signals.py

In an application, the bank's web hook would be one line::

    mesh.send_signal(run_id, "payment_confirmed", body, key=delivery_id)
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from squidmesh import InvalidPayload, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn


@dataclass
class Order:
    """What a run is started with."""

    order_id: str


@dataclass
class Confirmation:
    """What the bank says: a signal's payload has a contract like that of a run."""

    cents: int


signals = Workflow("signals", payload=Order)


@signals.step(output="invoice")
def send_invoice(order_id: str) -> str:
    return f"invoice of {order_id}"


# 5 seconds, so that this example is over soon; two weeks would be right.
confirmed = signals.wait_for("payment_confirmed", payload=Confirmation, output="confirmation", timeout=5)


@signals.step(output="end")
def deliver(order_id: str, confirmation: Confirmation) -> str:
    return f"{order_id} is delivered for {confirmation.cents / 100:.2f} EUR"


@signals.step(output="end")
def remind(invoice: str) -> str:
    return f"a reminder of the {invoice} is sent"


signals.sequence(send_invoice, confirmed, deliver)
signals.transition(confirmed, on="timeout", to=remind)

mesh = SquidMesh(workflows=[signals])


# -- all below is only for running it by itself ------------------------------------------------------------------


def main(dsn: str) -> None:
    """Four orders: confirmed early, while their run waits for it, twice, and never."""
    with SquidMesh(dsn, workflows=[signals]) as here:
        here.migrate()
        early, waiting, twice, never = (
            here.start_run(signals, Order(name)).id for name in ("early", "waiting", "twice", "never")
        )
        # No worker is there yet, so nobody waits for these. They are kept.
        here.send_signal(early, "payment_confirmed", Confirmation(1900), key="hook-1")
        for _ in range(2):
            here.send_signal(twice, "payment_confirmed", {"cents": 2500}, key="hook-2")
        try:
            here.send_signal(never, "payment_confirmed", {"cents": "a lot"})
        except InvalidPayload as error:
            print(error)

        with here.worker():
            while here.inspect_run(waiting).current_steps != ("payment_confirmed",):
                time.sleep(0.01)
            here.send_signal(waiting, "payment_confirmed", {"cents": 700}, key="hook-3", actor="the bank")
            for run_id in (early, waiting, twice, never):
                here.wait_for_run(run_id, timeout=60)
        for run_id in (early, waiting, twice, never):
            run = here.inspect_run(run_id, include_history=True)
            assert run.history is not None
            context: dict[str, Any] = run.context or {}
            deliveries = [e.metadata["key"] for e in run.history.audit_events if e.type == "signalled"]
            print(f"{run.status}: {context['end']}; signals: {', '.join(deliveries) or 'none'}")


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
