"""The app of the command line's acceptance tests: its steps leave traces in a folder that their payload names."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from squidmesh import AsyncSquidMesh, Constant, Context, Limit, Retry, SquidMesh, Workflow

logger = logging.getLogger("shop")


@dataclass
class Greeting:
    name: str
    times: int = 1


greeting = Workflow("greeting", payload=Greeting)


@greeting.step
def greet(name: str, times: int) -> dict[str, Any]:
    logger.info("greeting %s", name)
    return {"greeting": f"hello {name} " * times}


order = Workflow("order")
order.manual("shop", payload=Greeting)
order.manual("phone", payload=Greeting)


@order.step
def price(times: int) -> dict[str, Any]:
    return {"total": times * 5}


@order.step(irreversible=True)
def charge(total: int) -> dict[str, Any]:
    return {"charged": total}


@order.step(retry=Retry(max_attempts=2, backoff=Constant(0.01)))
def send(total: int) -> None:
    if total > 10:
        raise ValueError("too\nheavy \033[31m")


@order.step
def apologise() -> None: ...


order.sequence(price, charge, send)
order.transition(send, on="error", to=apologise)

broken = Workflow("broken")


@broken.step
def fail() -> None:
    raise ValueError("always")


patient = Workflow("patient")
patient.wait("rest", seconds=3600)


@dataclass
class Traces:
    folder: str


held = Workflow("held", payload=Traces)


@held.step
def hold(ctx: Context, folder: str) -> dict[str, Any]:
    """Say that it runs, then wait to be let go."""
    traces = Path(folder)
    (traces / f"started-{len(list(traces.glob('started-*'))) + 1}").touch()
    while not (traces / "go").exists():
        if ctx.cancelled:
            return {"cancelled": True}
        time.sleep(0.01)
    return {"held": True}


@held.step
def after(held: bool) -> None:
    assert held


held.sequence(hold, after)

elsewhere = Workflow("elsewhere")


@elsewhere.step(queue="slow")
def crawl() -> None: ...


trip = Workflow("trip", payload=Traces, deadline=timedelta(days=2))


def cancel_flight(flight: str, folder: str) -> None:
    if not (Path(folder) / "airline").exists():
        raise ConnectionError("the airline does not answer")


@trip.step(output="flight", compensate=cancel_flight, compensate_retry=Retry(max_attempts=1))
def book() -> str:
    return "LH 17"


sign_off = trip.approval("sign_off", approvers=2, deadline=3600, output="signed")
paid = trip.wait_for("paid", timeout=3600, output="payment")


@trip.step(compensatable=False)
def mail(folder: str) -> None:
    if not (Path(folder) / "post").exists():
        raise ConnectionError("the post office is closed")


last_look = trip.pause("last_look")


@trip.step(output="excuse")
def excuse(signed: dict[str, Any]) -> str:
    return f"{signed['decision']} by {signed['actor']}"


trip.sequence(book, sign_off, paid, mail, last_look)
trip.transition(sign_off, on="error", to=excuse)

bridge = Workflow("bridge", payload=Traces)


@bridge.step(output="near")
def approach() -> bool:
    return True


@bridge.step(irreversible=True, output="crossed")
def cross(folder: str, near: bool) -> int:
    if not (Path(folder) / "go").exists():
        raise ConnectionError("the bridge is up")
    return int(near)


bridge.sequence(approach, cross)

deaf = Workflow("deaf", payload=Traces)


@deaf.step
def listen(folder: str) -> None:
    """Hear nothing until something comes through the gate."""
    (Path(folder) / "started").touch()
    (Path(folder) / "gate").read_text()


@dataclass
class Account:
    account: str


metered = Workflow("metered", payload=Account)


@metered.step(limit=Limit(2, key="account"))
def work(account: str) -> dict[str, Any]:
    return {"worked": account}


WORKFLOWS = [greeting, order, broken, patient, held, elsewhere, trip, bridge, deaf, metered]
mesh = SquidMesh(workflows=WORKFLOWS)
async_mesh = AsyncSquidMesh(workflows=WORKFLOWS)


def make() -> SquidMesh:
    return mesh
