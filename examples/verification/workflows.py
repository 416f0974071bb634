"""The workflows that are verified. What a step does is decided by chance: by its idempotency key and the attempt.

So a retry may go well where the first attempt did not, and whoever runs the same attempt again gets the same.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from squidmesh import Constant, Context, Defer, Outcome, Retry, SquidMesh, Workflow

SCHEMA: Final = os.environ.get("VERIFICATION_SCHEMA", "squidmesh")
LEDGER: Final = "CREATE TABLE squidmesh.ledger (key text, attempt int)"
FOLDER = Path(os.environ.get("VERIFICATION_FOLDER") or tempfile.gettempdir())
RETRY: Final = Retry(max_attempts=3, backoff=Constant(0.05))


def hold(name: str) -> None:
    """Wait while there is a file of this name."""
    while (FOLDER / name).exists():
        time.sleep(0.005)


def trace(ctx: Context, what: str = "did") -> None:
    """Leave a line: the key of what is done, the attempt, and who is called. Appends of a line are atomic."""
    file = os.open(FOLDER / "bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{ctx.idempotency_key} {ctx.attempt} {what}\n".encode())
    os.close(file)


def chance(ctx: Context) -> float:
    """A number from 0 to 1, the same for each run of one attempt."""
    return random.Random(f"{ctx.idempotency_key}/{ctx.attempt}").random()


def act(ctx: Context, fails: float = 0.0, what: str = "did") -> None:
    """What every step does: take a moment, leave a trace, and fail now and then."""
    trace(ctx, what)
    time.sleep(0.02 * random.random())
    if chance(ctx) < fails:
        raise ConnectionError("by chance")


# -- an order: a saga with two people, a signal, a ledger, and something that cannot be undone ----------------------


@dataclass
class Order:
    """What a run is started with."""

    number: int


@dataclass
class Paid:
    """What the bank says."""

    cents: int


order = Workflow("order", payload=Order)


def undo(ctx: Context) -> None:
    """Undo a step; three attempts may not be enough."""
    act(ctx, fails=0.2, what="undid")


@order.step(compensate=undo, compensate_retry=RETRY, output="reserved")
def reserve(ctx: Context, number: int) -> int:
    act(ctx)
    return number


@order.step(compensate=undo, compensate_retry=RETRY, retry=RETRY)
def charge(ctx: Context, reserved: int) -> dict[str, int] | Outcome:
    act(ctx, fails=0.3)
    return Outcome("small") if reserved % 3 == 0 else {"charged": reserved}


managers = order.approval("managers", approvers=2, deadline=1.5, output="decision")
paid = order.wait_for("paid", payload=Paid, output="payment", timeout=1.5)


@order.step(transaction=True, retry=RETRY)
def enter(ctx: Context) -> None:
    """Write to the ledger, and fail now and then when that is done."""
    ctx.connection.execute(f"INSERT INTO {SCHEMA}.ledger VALUES (%s, %s)", [ctx.idempotency_key, ctx.attempt])
    act(ctx, fails=0.3)


@order.step(irreversible=True, retry=Retry(max_attempts=2))
def ship(ctx: Context, payment: Paid) -> dict[str, str]:
    act(ctx, fails=0.2)
    return {"shipped": f"{payment.cents} {ctx.idempotency_key}"}


order.transition(reserve, to=charge)
order.transition(charge, to=managers)
order.transition(charge, on="small", to=paid)
order.transition(managers, to=paid)
order.transition(paid, to=enter)
order.transition(enter, to=ship)

# -- a trip: branches that are undone, one of which may fail, and a join that is skipped then ------------------------

trip = Workflow("trip", payload=Order)


@trip.step(compensate=undo)
def plan(ctx: Context) -> None:
    act(ctx)


def _book(name: str, fails: float) -> None:
    @trip.step(name=name, after=[plan], compensate=undo, retry=RETRY, output=name)
    def book(ctx: Context) -> int:
        act(ctx, fails=fails)
        return ctx.attempt


for _name, _fails in (("flight", 0.1), ("hotel", 0.1), ("car", 0.8), ("guide", 0.5)):
    _book(_name, _fails)
look = trip.pause("look", after=["flight", "hotel", "car"])


@trip.step(after=["guide", look])
def depart(ctx: Context) -> None:
    act(ctx, fails=0.1)


@trip.step
def walk(ctx: Context) -> None:
    act(ctx)


trip.transition("car", on="error", to=walk)

# -- a talk: a loop that hears the same signal again and again ---------------------------------------------------------

talk = Workflow("talk")
hear = talk.wait_for("word", name="hear", output="word", start=True)


@talk.step
def answer(ctx: Context, word: Any) -> dict[str, Any] | Outcome:
    act(ctx, fails=0.1)
    return {f"word{ctx.visit}": word} if ctx.visit == 4 else Outcome("again", {f"word{ctx.visit}": word})


talk.transition(hear, to=answer)
talk.transition(answer, on="again", to=hear)

# -- a chore: what is queued, delayed, deferred and retried, before a deadline -----------------------------------------

chore = Workflow("chore", payload=Order, deadline=4)
nap = chore.wait("nap", seconds=0.2)


@chore.step(compensate=undo)
def begin(ctx: Context) -> None:
    act(ctx)
    if chance(ctx) < 0.5 and random.random() < 0.5:
        raise Defer(0.1, "not yet")


@chore.step(retry=Retry(max_attempts=8, backoff=Constant(0.1)))
async def finish(ctx: Context) -> None:
    act(ctx, fails=0.6)


chore.sequence(begin, nap, finish)

# -- hard times: what must survive when all workers are killed and the server is restarted -----------------------------


@dataclass
class Hardship:
    """What a run is started with: what kind of work it is when all goes down."""

    kind: str


hardship = Workflow("hardship", payload=Hardship)


def take_back(ctx: Context) -> None:
    """Undo ``prepare``, once nobody holds it up."""
    trace(ctx, "undid")
    hold("undoing")


@hardship.step(compensate=take_back)
def prepare(ctx: Context, kind: str) -> Outcome:
    trace(ctx)
    return Outcome(kind)


@hardship.step
def execute(ctx: Context) -> None:
    trace(ctx)
    hold("executing")


@hardship.step(queue="elsewhere")
def queue_up(ctx: Context) -> None:
    trace(ctx)


delay = hardship.wait("delay", seconds=2)


@hardship.step(retry=Retry(max_attempts=2, backoff=Constant(2)))
def try_again(ctx: Context) -> None:
    trace(ctx)
    if ctx.attempt == 1:
        raise ConnectionError("only the second attempt goes well")


approval = hardship.approval("approval", approvers=2)
pause = hardship.pause("pause")
signal = hardship.wait_for("signal", output="said", timeout=timedelta(hours=1))


@hardship.step
def break_down(ctx: Context) -> None:
    trace(ctx)
    raise ConnectionError("so that what was done is undone")


@hardship.step
def conclude(ctx: Context) -> None:
    trace(ctx)


KINDS: Final = {
    "executing": "execute",
    "queued": "queue_up",
    "delayed": "delay",
    "retrying": "try_again",
    "approval": "approval",
    "paused": "pause",
    "signal": "signal",
    "compensating": "break_down",
}
"""The step that a run of each kind of work is at."""

for _kind, _step in KINDS.items():
    hardship.transition(prepare, on=_kind, to=_step)
    if _kind != "compensating":
        hardship.transition(_step, to=conclude)

SOAKED: Final = (order, trip, talk, chore)
mesh = SquidMesh(workflows=[*SOAKED, hardship], schema=SCHEMA)
