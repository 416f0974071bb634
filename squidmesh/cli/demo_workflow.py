"""The workflow that ``squidmesh demo`` runs: a payment failed, so ask the gateway again until it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from squidmesh import Context, Exponential, Retry, Workflow
from squidmesh.tools import http


@dataclass
class FailedPayment:
    """What a run is started with; checked before anything is stored."""

    account_id: str
    invoice_id: str
    attempt_id: str
    gateway_url: str


payment_recovery = Workflow("payment_recovery", payload=FailedPayment)


@payment_recovery.step
def load_invoice(invoice_id: str) -> dict[str, Any]:
    """A step is a function: its parameters are its input, what it returns is there for later steps."""
    return {"invoice": {"id": invoice_id, "status": "open"}}


# Two seconds or two months: a wait is a row in the database and holds no worker.
settle = payment_recovery.wait("wait_for_settlement", seconds=2)
note = payment_recovery.log("log_recovery_attempt", "Invoice loaded, checking gateway status")


@payment_recovery.step(retry=Retry(max_attempts=5, backoff=Exponential(min=1, max=30)))
def check_gateway_status(invoice: dict[str, Any], gateway_url: str) -> dict[str, Any]:
    """Raises what the gateway's refusal is, and is then tried again."""
    answer = http.get(gateway_url, timeout=1)
    return {"gateway_check": {"invoice_id": invoice["id"], "status": answer.body}}


@payment_recovery.step(irreversible=True)
def notify_customer(ctx: Context, account_id: str, gateway_check: dict[str, Any]) -> dict[str, Any]:
    """Never repeated by itself once it was interrupted; the key is for the mailer, should a person repeat it."""
    return {"notified": account_id, "key": ctx.idempotency_key, "because": gateway_check["status"]}


payment_recovery.sequence(load_invoice, settle, note, check_gateway_status, notify_customer)
