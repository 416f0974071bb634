"""A checkout that writes a ledger in your own database: entries, the step's result and the next step are one commit.

By itself, on a Postgres of its own::

    python examples/local_ledger_checkout.py

It checks out twice. The first order fits the customer's credit: its three entries are there, once. The second one finds
that it does not when two entries are written already: they are rolled back, and the run takes its error route.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psycopg

from squidmesh import Context, Fail, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn

LEDGER = """
CREATE TABLE IF NOT EXISTS ledger (
    id serial PRIMARY KEY, order_id text NOT NULL, account text NOT NULL, cents int NOT NULL, key text NOT NULL UNIQUE
)"""
ENTER = "INSERT INTO ledger (order_id, account, cents, key) VALUES (%s, %s, %s, %s)"
OWED = "SELECT coalesce(sum(cents), 0) FROM ledger WHERE account = %s"

CREDIT = 10_000
"""Cents that a customer may owe."""


@dataclass
class Order:
    """What a run is started with."""

    order_id: str
    customer: str
    cents: int


checkout = Workflow("local_ledger_checkout", payload=Order)


@checkout.step(transaction=True)
def enter(ctx: Context, order_id: str, customer: str, cents: int) -> dict[str, Any]:
    tax = cents // 5
    entries = [("sales", tax - cents), ("tax", -tax), (f"customer:{customer}", cents)]
    for account, amount in entries:
        if account.startswith("customer:"):
            (owed,) = ctx.connection.execute(OWED, [account]).fetchone()
            if owed + amount > CREDIT:
                raise Fail("the customer's credit does not reach", owed=owed, asked=amount)
        # The key would refuse a second entry of the same visit. It never has to.
        ctx.connection.execute(ENTER, [order_id, account, amount, f"{ctx.idempotency_key}:{account}"])
    return {"entries": len(entries)}


@checkout.step
def confirm(order_id: str, entries: int) -> dict[str, Any]:
    return {"said": f"{order_id} is yours; {entries} entries"}


@checkout.step
def decline(order_id: str) -> dict[str, Any]:
    return {"said": f"{order_id} has to be paid in advance"}


checkout.transition(enter, to=confirm)
checkout.transition(enter, on="error", to=decline)

mesh = SquidMesh(workflows=[checkout])


# -- all below is only for running it by itself ------------------------------------------------------------------


def main(dsn: str) -> None:
    """Check out twice, and print what is in the ledger."""
    with psycopg.connect(dsn) as connection:
        connection.execute(LEDGER)
    with SquidMesh(dsn, workflows=[checkout]) as here:
        here.migrate()
        with here.worker():
            for order in (Order("o-1", "ann", 9_000), Order("o-2", "ann", 2_000)):
                run = here.wait_for_run(here.start_run(checkout, order).id, timeout=60)
                print(f"{run.status}: {(run.context or {})['said']}")
    with psycopg.connect(dsn) as connection:
        for order_id, account, cents in connection.execute("SELECT order_id, account, cents FROM ledger ORDER BY id"):
            print(f"{order_id} {account:12} {cents / 100:8.2f}")


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
