"""The app of the command line's acceptance tests: its steps leave traces in a folder that their payload names."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squidmesh import AsyncSquidMesh, Constant, Context, Retry, SquidMesh, Workflow

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


WORKFLOWS = [greeting, order, broken, patient, held, elsewhere]
mesh = SquidMesh(workflows=WORKFLOWS)
async_mesh = AsyncSquidMesh(workflows=WORKFLOWS)


def make() -> SquidMesh:
    return mesh
