"""The workflows of the chaos tests. Their steps leave traces in ``FOLDER``, and can be held up and made to die by files in it."""

from __future__ import annotations

import os
import random
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from squidmesh import COMPLETE as END
from squidmesh import Constant, Context, Limit, Outcome, Rate, Retry, Workflow, WorkflowWarning

FOLDER = Path(tempfile.gettempdir())
SCHEMA = ""


def trace(ctx: Context) -> None:
    """Leave a line: run, step, visit, attempt, process. Appends of a line are atomic."""
    line = f"{ctx.run_id} {ctx.step} {ctx.visit} {ctx.attempt} {os.getpid()}\n"
    file = os.open(FOLDER / "bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def hold(name: str) -> None:
    """Wait while there is a file of this name."""
    while (FOLDER / name).exists():
        time.sleep(0.002)


chain = Workflow("chain")


@chain.step
def c1(ctx: Context, x: int = 1) -> dict[str, int]:
    trace(ctx)
    return {"c1": x + 1}


@chain.step
def c2(ctx: Context, c1: int) -> dict[str, int]:
    trace(ctx)
    hold("hold-c2")
    return {"c2": c1 + 1}


@chain.step
async def c3(ctx: Context, c2: int) -> dict[str, int]:
    trace(ctx)
    return {"c3": c2 + 1}


chain.sequence(c1, c2, c3)


@dataclass
class Account:
    account: str


limited = Workflow("limited", payload=Account)
rated = Workflow("rated")

PER_SECOND, BURST = 60, 5


@limited.step(limit=Limit(2, key="account"))
def share(ctx: Context, account: str) -> dict[str, str]:
    trace(ctx)
    hold("hold-share")
    time.sleep(random.uniform(0, 0.02))
    return {"account": account}


@rated.step(rate=Rate(PER_SECOND, per=1, burst=BURST))
def pace(ctx: Context) -> None:
    trace(ctx)


fork = Workflow("fork")


@fork.step
def f0(ctx: Context) -> dict[str, int]:
    trace(ctx)
    return {"f0": 1}


def _branch(name: str) -> None:
    @fork.step(name=name, after=[f0], output=name)
    def branch(ctx: Context, f0: int) -> int:
        trace(ctx)
        hold("hold-fork")
        return f0

    branches.append(branch)


branches: list[object] = []
for number in range(8):
    _branch(f"branch{number}")


@fork.step(after=branches)  # type: ignore[arg-type]
def joined(ctx: Context, **state: object) -> dict[str, int]:
    trace(ctx)
    return {"sum": sum(int(str(state[f"branch{n}"])) for n in range(8))}


deadly = Workflow("deadly")


@deadly.step
def die(ctx: Context) -> dict[str, int]:
    trace(ctx)
    if (FOLDER / "die").exists():
        os._exit(66)
    return {"died": 0}


careful = Workflow("careful")


@careful.step(irreversible=True, retry=Retry(max_attempts=3))
def pay(ctx: Context) -> dict[str, str]:
    trace(ctx)
    hold("hold-pay")
    return {"paid": ctx.idempotency_key}


shaky = Workflow("shaky")


@shaky.step(retry=Retry(max_attempts=50, backoff=Constant(0.01)))
def s1(ctx: Context, seed: int = 0) -> dict[str, int]:
    trace(ctx)
    if (hash((str(ctx.run_id), ctx.attempt)) + seed) % 3:
        raise RuntimeError("shaky")
    return {"s1": ctx.attempt}


s_wait = shaky.wait("s_wait", seconds=0.05)


@shaky.step
async def s2(ctx: Context, s1: int) -> dict[str, int]:
    trace(ctx)
    return {"s2": s1}


shaky.sequence(s1, s_wait, s2)


ledger = Workflow("ledger")
ENTRY: Final = "INSERT INTO {}.ledger VALUES (%s, %s)"


@ledger.step(transaction=True)
def book(ctx: Context) -> dict[str, int]:
    trace(ctx)
    ctx.connection.execute(ENTRY.format(SCHEMA), [ctx.run_id, ctx.step])
    return {"booked": 1}


@ledger.step(transaction=True)
async def abook(ctx: Context, booked: int) -> dict[str, int]:
    trace(ctx)
    await ctx.connection.execute(ENTRY.format(SCHEMA), [ctx.run_id, ctx.step])
    return {"abooked": booked + 1}


@ledger.step
def booked(ctx: Context, abooked: int) -> dict[str, int]:
    trace(ctx)
    return {"all": abooked}


ledger.sequence(book, abook, booked)


saga = Workflow("saga")


def undo(ctx: Context) -> None:
    trace(ctx)
    hold(f"hold-undo-{ctx.step}")


def _saga_step(name: str) -> None:
    @saga.step(name=name, compensate=undo)
    def step(ctx: Context) -> dict[str, int]:
        trace(ctx)
        return {name: 1}

    saga_steps.append(step)


saga_steps: list[object] = []
for letter in "abc":
    _saga_step(letter)


@saga.step
def saga_end(ctx: Context) -> None:
    raise RuntimeError("all of it is to be undone")


saga.sequence(*saga_steps, saga_end)  # type: ignore[arg-type]


def random_workflow(seed: int) -> Workflow:
    """A graph with branches, joins and loops; the same in each process that asks with this seed."""
    chance = random.Random(seed)
    workflow = Workflow(f"random{seed}")
    names = "abcdefgh"[: 3 + seed % 6]
    led_to: dict[str, list[str]] = {}
    free: list[tuple[str, str]] = []
    targets: set[str] = set()
    joins: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        kind = chance.choice(("target", "target", "join", "entry")) if i else "entry"
        if kind == "join":
            joins[name] = chance.sample(names[:i], chance.randint(1, i))
        elif kind == "target" and free:
            source, outcome = free.pop(chance.randrange(len(free)))
            led_to.setdefault(source, []).append(f"{outcome} {name}")
            targets.add(name)
        free += [(name, outcome) for outcome in ("ok", "error", "review")]
    for source, outcome in free:
        if chance.random() < 0.3:
            end = chance.random() < 0.5 or not targets
            led_to.setdefault(source, []).append(f"{outcome} {END if end else chance.choice(sorted(targets))}")
    for name in names:
        start = name not in targets and name not in joins
        retry = Retry(max_attempts=chance.randint(1, 3), backoff=Constant(chance.choice((0, 0.01))))
        declare = workflow.step(name=name, after=joins.get(name), start=start, retry=retry, visit_limit=5)
        declare(_async_moody if seed % 2 and name in "bdf" else _moody)
    for source, edges in led_to.items():
        for outcome, target in map(str.split, edges):
            workflow.transition(source, to=target, on=outcome)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkflowWarning)
        workflow.check()
    return workflow


def _moody(ctx: Context, **state: object) -> object:
    trace(ctx)
    match random.Random(f"{ctx.run_id}{ctx.step}{ctx.visit}{ctx.attempt}").randrange(8):
        case 0 | 1:
            raise RuntimeError("in a bad mood")
        case 2:
            return Outcome("review", {ctx.step: "review"})
        case _:
            return {ctx.step: ctx.visit, f"seen_by_{ctx.step}": sorted(state)}


async def _async_moody(ctx: Context, **state: object) -> object:
    return _moody(ctx, **state)


RANDOM: Final = tuple(random_workflow(seed) for seed in range(12))
ALL: Final = (chain, fork, deadly, careful, shaky, ledger, saga, limited, rated, *RANDOM)
