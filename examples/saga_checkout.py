"""A checkout that undoes what it did when it cannot be finished: the parcel cannot be sent, so the money goes back.

By itself, on a Postgres of its own::

    python examples/saga_checkout.py

It checks out twice. The order to the moon fails at its last step; then what the steps before it did is undone, the
newest first. On the way, the bank's answer is lost once in each direction: the idempotency keys keep it from taking or
giving back the money twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squidmesh import Constant, Context, Fail, Retry, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn

if TYPE_CHECKING:
    from squidmesh import Run


@dataclass
class Bank:
    """A service outside: it knows each request by its key, and its first answer to each of them is lost."""

    moved: dict[str, int] = field(default_factory=dict[str, int])

    def move(self, cents: int, key: str) -> None:
        """Move money, unless this was asked before."""
        if key not in self.moved:
            self.moved[key] = cents
            raise ConnectionError("the bank did not answer")


bank = Bank()
shelf = {"telescope": 3}


@dataclass
class Order:
    """What a run is started with."""

    article: str
    cents: int
    to: str


saga_checkout = Workflow("saga_checkout", payload=Order)


def put_back(article: str, ctx: Context) -> None:
    """Undo ``reserve``."""
    shelf[article] += 1
    print(f"  put back a {article}, because {ctx.failure and ctx.failure['message']}")


def refund(cents: int, charged: str, ctx: Context) -> None:
    """Undo ``charge``, whose output it gets. It is tried three times unless something else is said."""
    bank.move(-cents, ctx.idempotency_key)
    print(f"  refunded {charged}")


@saga_checkout.step(compensate=put_back)
def reserve(article: str) -> None:
    shelf[article] -= 1


@saga_checkout.step(
    compensate=refund,
    compensate_retry=Retry(max_attempts=5, backoff=Constant(0.1)),
    retry=Retry(max_attempts=3, backoff=Constant(0.1)),
    output="charged",
)
def charge(cents: int, ctx: Context) -> str:
    bank.move(cents, ctx.idempotency_key)
    return f"{cents / 100:.2f} EUR"


@saga_checkout.step
def ship(to: str) -> dict[str, Any]:
    if to == "Moon":
        raise Fail("no carrier goes there", to=to)
    return {"parcel": f"to {to}"}


saga_checkout.sequence(reserve, charge, ship)

mesh = SquidMesh(workflows=[saga_checkout])


# -- all below is only for running it by itself ------------------------------------------------------------------


def tell(run: Run) -> None:
    """Print the attempts of a run in the order in which they ended."""
    assert run.history is not None
    attempts = [(a, step_run.kind) for step_run in run.history.step_runs for a in step_run.attempts]
    for attempt, kind in sorted(attempts, key=lambda pair: pair[0].seq):
        what = f"undo {attempt.step}" if kind == "compensation" else attempt.step
        error = (attempt.error or {}).get("message", "")
        print(f"  {what:12} attempt {attempt.attempt}: {attempt.status} {error}".rstrip())
    stand = ", ".join(f"{step.step} {step.status}" for step in run.history.steps)
    print(f"{run.status}: {stand}")


def main(dsn: str) -> None:
    """Check out twice, and print what was done and undone."""
    with SquidMesh(dsn, workflows=[saga_checkout]) as here:
        here.migrate()
        with here.worker():
            for to in ("Berlin", "Moon"):
                print(f"a telescope to {to}:", flush=True)
                run = here.wait_for_run(here.start_run(saga_checkout, Order("telescope", 19900, to)).id, timeout=60)
                tell(here.inspect_run(run.id, include_history=True))
    for key, cents in bank.moved.items():
        print(f"{cents / 100:8.2f} EUR under the key {key.partition(':')[2]}")
    print(f"{shelf['telescope']} of 3 telescopes are left")


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
