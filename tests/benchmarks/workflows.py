"""The workflows that are measured. Their bodies do nothing but note on the board that they were entered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from squidmesh import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.board import Board


@dataclass(frozen=True, slots=True)
class Numbered:
    """The payload of all runs."""

    number: int


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


def ping(board: Board | None = None) -> Workflow:
    """One step that notes when its run was begun."""
    workflow = Workflow("bench_ping", payload=Numbered)

    @workflow.step
    def pong(number: int) -> None:
        if board is not None:
            board.note_run(number)

    return workflow


WORKFLOWS = {"chain": chain, "single": single, "ping": ping}
