"""Workflows for in-process workers, made anew for each test, so that each has its own counters and gates."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from squidmesh import Context, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from squidmesh.authoring.reading import StepReference


class Bodies:
    """Counts the bodies that started, by run and step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.started: Counter[tuple[UUID, str, int, int]] = Counter()

    def note(self, ctx: Context) -> None:
        """A body has started."""
        with self._lock:
            self.started[ctx.run_id, ctx.step, ctx.visit, ctx.attempt] += 1

    def of(self, run_id: UUID) -> Counter[str]:
        """How many bodies of each step of a run have started."""
        with self._lock:
            found: Counter[str] = Counter()
            for (run, step, _, _), count in self.started.items():
                if run == run_id:
                    found[step] += count
            return found

    def total(self) -> int:
        """How many bodies have started at all."""
        with self._lock:
            return self.started.total()


def nothing(ctx: Context) -> None:
    """Do nothing."""


def chain_of(bodies: Bodies, length: int = 5, inside: Callable[[Context], object] = nothing) -> Workflow:
    """Steps s0, s1 ... one after the other; every other one is async."""
    workflow = Workflow("chain")
    steps = [_counting(workflow, f"s{n}", bodies, inside, is_async=n % 2 == 1) for n in range(length)]
    workflow.sequence(*steps)
    return workflow


def fork_of(bodies: Bodies, width: int = 8, inside: Callable[[Context], object] = nothing) -> Workflow:
    """A step, then so many at once, then one that joins them."""
    workflow = Workflow("fork")
    first = _counting(workflow, "first", bodies, nothing)
    branches = [_counting(workflow, f"b{n}", bodies, inside, after=[first], is_async=n % 3 == 2) for n in range(width)]
    _counting(workflow, "last", bodies, nothing, after=branches)
    return workflow


def single(function: Callable[..., object], name: str = "single", **options: object) -> Workflow:
    """A workflow of one step named work."""
    workflow = Workflow(name)
    workflow.step(name="work", **options)(function)  # type: ignore[call-overload]
    return workflow


def _counting(
    workflow: Workflow,
    name: str,
    bodies: Bodies,
    inside: Callable[[Context], object],
    *,
    is_async: bool = False,
    after: Sequence[StepReference | str] | None = None,
) -> StepReference:
    if is_async:

        async def async_body(ctx: Context) -> dict[str, int]:
            bodies.note(ctx)
            inside(ctx)
            return {ctx.step: ctx.visit}

        return workflow.step(name=name, after=after)(async_body)

    def body(ctx: Context) -> dict[str, int]:
        bodies.note(ctx)
        inside(ctx)
        return {ctx.step: ctx.visit}

    return workflow.step(name=name, after=after)(body)
