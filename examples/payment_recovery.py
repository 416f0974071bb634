r"""A payment has failed: wait until it may have settled, then ask the gateway, again and again, until it knows.

By itself, on a Postgres of its own and with a gateway that refuses twice before it answers::

    python examples/payment_recovery.py

As an app, on your database (``SQUIDMESH_DATABASE_URL``), from the directory ``examples``::

    python -m squidmesh migrate --app payment_recovery:mesh
    python -m squidmesh worker --app payment_recovery:mesh
    python -m squidmesh start payment_recovery --app payment_recovery:mesh \
        -p account_id=acct_1 -p invoice_id=inv_2 -p attempt_id=att_3 -p gateway_url=http://...
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from squidmesh import Context, Exponential, Retry, SquidMesh, Workflow
from squidmesh.embedded import EmbeddedPostgres, given_dsn
from squidmesh.tools import http

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass
class FailedPayment:
    """What a run is started with."""

    account_id: str
    invoice_id: str
    attempt_id: str
    gateway_url: str


payment_recovery = Workflow("payment_recovery", payload=FailedPayment)


@payment_recovery.step
def load_invoice(invoice_id: str) -> dict[str, Any]:
    return {"invoice": {"id": invoice_id, "status": "open"}}


settle = payment_recovery.wait("wait_for_settlement", seconds=5)
note = payment_recovery.log("log_recovery_attempt", "Invoice loaded, checking gateway status")


@payment_recovery.step(retry=Retry(max_attempts=5, backoff=Exponential(min=1, max=30)))
def check_gateway_status(invoice: dict[str, Any], gateway_url: str) -> dict[str, Any]:
    answer = http.get(gateway_url, timeout=1)
    return {"gateway_check": {"invoice_id": invoice["id"], "status": answer.body}}


@payment_recovery.step(irreversible=True)
def notify_customer(ctx: Context, account_id: str, gateway_check: dict[str, Any]) -> dict[str, Any]:
    del gateway_check  # what the message to the customer would be about
    return {"notified": account_id, "key": ctx.idempotency_key}


payment_recovery.sequence(load_invoice, settle, note, check_gateway_status, notify_customer)

mesh = SquidMesh(workflows=[payment_recovery])


# -- all below is only for running it by itself ------------------------------------------------------------------


class Gateway(ThreadingHTTPServer):
    """A payment gateway on loopback: its first requests are refused with 503."""

    def __init__(self, refusals: int = 2) -> None:
        super().__init__(("127.0.0.1", 0), GatewayHandler)
        self.refusals = refusals
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        """Where an attempt is asked for."""
        return f"http://127.0.0.1:{self.server_port}/checks/att_3"


class GatewayHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Gateway

    def do_GET(self) -> None:
        """Refuse, or say that the payment has settled."""
        refuses = len(self.server.statuses) < self.server.refusals
        status = HTTPStatus.SERVICE_UNAVAILABLE if refuses else HTTPStatus.OK
        self.server.statuses.append(status.value)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"out of order" if refuses else b"settled")

    def log_message(self, *args: object) -> None:
        """Say nothing; the run's history tells it all."""


@contextmanager
def running_gateway() -> Generator[Gateway]:
    """A gateway that answers while the block runs."""
    with Gateway() as gateway:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        yield gateway
        gateway.shutdown()


def main(dsn: str) -> None:
    """Run it once, and print what happened."""
    with running_gateway() as gateway, SquidMesh(dsn, workflows=[payment_recovery]) as here:
        here.migrate()
        run = here.start_run(payment_recovery, FailedPayment("acct_1", "inv_2", "att_3", gateway.url))
        print(f"run {run.id}; it takes 8 seconds", flush=True)
        with here.worker():
            run = here.wait_for_run(run.id, timeout=60)
        history = here.inspect_run(run.id, include_history=True).history
    for step_run in history.step_runs if history else ():
        for attempt in step_run.attempts:
            error = (attempt.error or {}).get("message", "")
            print(f"{attempt.step:22} attempt {attempt.attempt}: {attempt.status} {error}")
    print(f"{run.status}; the gateway answered {gateway.statuses}; context {run.context}")


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
