"""The workflows that are measured. Their bodies do nothing but note on the board that they were entered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from squidmesh import Constant, Context, Limit, Rate, Retry, Workflow
from tests.benchmarks.shapes import Numbered, context, long, loop, wide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from squidmesh.authoring.functions import StepFunction
    from tests.benchmarks.board import Board


def chain(board: Board | None = None) -> Workflow:
    """Five steps in a row, each with a small output."""
    workflow = Workflow("bench_chain", payload=Numbered)

    def first(number: int) -> dict[str, Any]:
        if board is not None:
            board.enter()
        return {"first": number}

    def last(number: int) -> dict[str, Any]:
        if board is not None:
            board.count_body()
        return {"last": number}

    bodies = [first, *(_middle(name) for name in ("second", "third", "fourth")), last]
    workflow.sequence(*(workflow.step(body) for body in bodies))
    return workflow


def chain_async(board: Board | None = None) -> Workflow:
    """The chain with async steps."""
    workflow = Workflow("bench_async", payload=Numbered)

    def make(name: str, note: Callable[[], None] | None) -> StepFunction[[int], Awaitable[dict[str, Any]]]:
        async def body(number: int) -> dict[str, Any]:
            if note is not None:
                note()
            return {name: number}

        return workflow.step(name=name)(body)

    first, last = (board.enter, board.count_body) if board is not None else (None, None)
    notes = {"first": first, "second": None, "third": None, "fourth": None, "last": last}
    workflow.sequence(*(make(name, note) for name, note in notes.items()))
    return workflow


def _middle(name: str) -> Callable[[int], dict[str, Any]]:
    def body(number: int) -> dict[str, Any]:
        return {name: number}

    body.__name__ = body.__qualname__ = name
    return body


def single(board: Board | None = None) -> Workflow:
    """One step with a small output."""
    workflow = Workflow("bench_single", payload=Numbered)

    @workflow.step
    def only(number: int) -> dict[str, Any]:
        if board is not None:
            board.count_body()
        return {"only": number}

    return workflow


def limited(board: Board | None = None, **options: Any) -> Workflow:
    """One step with a small output, of which 50 may execute at once."""
    workflow = Workflow("bench_limited", payload=Numbered)

    @workflow.step(**(options or {"limit": Limit(50)}))
    def only(number: int) -> dict[str, Any]:
        if board is not None:
            board.count_body()
        return {"only": number}

    return workflow


def keyed(board: Board | None = None) -> Workflow:
    """The same, one at once for each number: as many meters as runs."""
    return limited(board, limit=Limit(1, key="number"))


def rated(board: Board | None = None) -> Workflow:
    """The same, with a rate that is never reached."""
    return limited(board, rate=Rate(1_000_000, per=1))


def ping(board: Board | None = None) -> Workflow:
    """One step that notes when its run was begun."""
    workflow = Workflow("bench_ping", payload=Numbered)

    @workflow.step
    def pong(number: int) -> None:
        if board is not None:
            board.note_run(number)

    return workflow


def burst(board: Board | None = None) -> Workflow:
    """One step in a queue of its own."""
    workflow = Workflow("bench_burst", payload=Numbered)

    @workflow.step(queue="bulk")
    def only(number: int) -> None:
        if board is not None:
            board.count_body()

    return workflow


def timed(board: Board | None = None) -> Workflow:
    """A retry, a wait, a gate that nobody opens, and the run's deadline."""
    workflow = Workflow("bench_timed", payload=Numbered, deadline=1.2)

    @workflow.step(retry=Retry(max_attempts=2, backoff=Constant(0.3)))
    def first(ctx: Context, number: int) -> None:
        if board is not None:
            board.note_run(number)
        if ctx.attempt == 1:
            raise ConnectionError("no answer")

    ask = workflow.approval("ask", deadline=0.2)
    workflow.sequence(first, workflow.wait("rest", seconds=0.25), ask)
    workflow.transition(ask, on="timeout", to=workflow.pause("hold"))
    return workflow


WORKFLOWS: Final[Mapping[str, Callable[..., Workflow]]] = {
    "chain": chain,
    "async": chain_async,
    "single": single,
    "limited": limited,
    "keyed": keyed,
    "rated": rated,
    "ping": ping,
    "burst": burst,
    "timed": timed,
    "wide": wide,
    "long": long,
    "loop": loop,
    "context": context,
}


def workflow_of(asked: str, board: Board | None = None) -> Workflow:
    """A workflow by its name, with its sizes behind colons: "chain", "wide:1000", "context:100000:400".

    Args:
        asked: The name and the sizes.
        board: Where its bodies note what they did.
    """
    name, *sizes = asked.split(":")
    return WORKFLOWS[name](board, *map(int, sizes))
