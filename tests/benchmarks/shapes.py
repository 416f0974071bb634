"""Workflows of any size: wide ones, long ones, loops, and such with a large context. Their names carry their sizes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from squidmesh import Outcome, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.board import Board

WAIT_SECONDS: Final = 0.01
WAIT_EVERY: Final = 10
"""Each tenth step of a long chain is a wait."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """The payload of all runs."""

    number: int


def wide(board: Board | None, branches: int) -> Workflow:
    """One step, that many behind it, and one that joins them all."""
    workflow = Workflow("bench_wide", payload=Numbered)
    root = workflow.step(name="root")(_entering(board))
    behind = [workflow.step(name=f"branch{n}", after=[root])(_returning(f"k{n}")) for n in range(branches)]
    workflow.step(name="join", after=behind)(_counting(board))
    return workflow


def long(board: Board | None, steps: int) -> Workflow:
    """A chain of that many steps, each tenth of them a short wait."""
    workflow = Workflow("bench_long", payload=Numbered)
    middle = [
        workflow.wait(f"wait{n}", seconds=WAIT_SECONDS)
        if n % WAIT_EVERY == 0
        else workflow.step(name=f"step{n}")(_returning("latest"))
        for n in range(1, steps - 1)
    ]
    first, last = workflow.step(name="first")(_entering(board)), workflow.step(name="last")(_counting(board))
    workflow.sequence(first, *middle, last)
    return workflow


def loop(board: Board | None, visits: int) -> Workflow:
    """A step that goes back to itself until it was visited that often."""
    workflow = Workflow("bench_loop", payload=Numbered)

    @workflow.step(start=True, visit_limit=visits)
    def again(visit: int = 0) -> Outcome:
        if board is not None:
            board.enter()
            if visit + 1 == visits:
                board.count_body()
        return Outcome("again" if visit + 1 < visits else "ok", {"visit": visit + 1})

    workflow.transition(again, on="again", to=again)
    return workflow


def context(board: Board | None, size: int, visits: int, takes: int = 0) -> Workflow:
    """A step that returns ``size`` bytes, and then a loop of small steps beside them; if ``takes``, each takes them."""
    workflow = Workflow("bench_context", payload=Numbered)

    @workflow.step
    def fill(number: int) -> dict[str, Any]:
        if board is not None:
            board.enter()
        return {"filling": filling(size, number)}

    def ended(visit: int) -> Outcome:
        if board is not None and visit + 1 == visits:
            board.count_body()
        return Outcome("again" if visit + 1 < visits else "ok", {"visit": visit + 1})

    def small(visit: int = 0) -> Outcome:
        return ended(visit)

    def taking(filling: str, visit: int = 0) -> Outcome:
        assert len(filling) == size
        return ended(visit)

    again = workflow.step(name="again", visit_limit=visits)(taking if takes else small)
    workflow.sequence(fill, again)
    workflow.transition(again, on="again", to=again)
    return workflow


def filling(size: int, number: int) -> str:
    """Text that does not shrink to nothing when it is compressed; the same for the same number."""
    return random.Random(number).randbytes((size + 1) // 2).hex()[:size]


def _entering(board: Board | None) -> Callable[[int], None]:
    def body(number: int) -> None:
        if board is not None:
            board.enter()

    return body


def _counting(board: Board | None) -> Callable[[int], None]:
    def body(number: int) -> None:
        if board is not None:
            board.count_body()

    return body


def _returning(key: str) -> Callable[[int], dict[str, Any]]:
    def body(number: int) -> dict[str, Any]:
        return {key: number}

    return body
