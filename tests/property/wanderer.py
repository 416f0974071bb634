"""Runs of every kind of step to which anything happens, and of which anything is asked, in any order.

The driver of ``driver`` is a schedule that comes to an end; this is a walk that only goes on for a while, through the
states that people meet: gates, signals, deadlines, quarantine, undoing, runs that failed and are tried again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from squidmesh.definition import Definition, Options, Step, StepKind
from squidmesh.errors import SquidMeshError
from squidmesh.planner.outcome import (
    Abandoned,
    Broken,
    Completed,
    Deferred,
    Elapsed,
    Failed,
    Filed,
    Happening,
    Returned,
    Unknown,
)
from squidmesh.records import BODILESS
from squidmesh.states import JobState, ParkedReason
from tests.property.strategies import choices, definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.property.simulator import Simulator
    from tests.property.strategies import Choices

ERROR: Final = {"type": "Error", "message": "it broke"}
ACTORS: Final = ("ann", "bob", "cy")

MOST_MOVES: Final = 60


def rich_definitions() -> st.SearchStrategy[Definition]:
    """Definitions with gates, signals, compensations and deadlines among their steps."""
    return st.builds(_enriched, definitions(), choices())


def _enriched(plain: Definition, chosen: Choices) -> Definition:
    steps = tuple(_enrich(step, chosen) for step in plain.steps)
    return replace(plain, steps=steps, deadline=60.0 if chosen.once_in(3) else None)


def _enrich(step: Step, chosen: Choices) -> Step:
    if step.kind is not StepKind.FUNCTION:
        return step
    bare = replace(step, irreversible=False, options=Options())
    match chosen.among(("as it is", "undone", "undone", "pause", "approval", "signal", "signal")):
        case "undone":
            return replace(step, compensate="undo")
        case "pause":
            return replace(bare, kind=StepKind.PAUSE)
        case "approval":
            limit: dict[str, str | float] = {"deadline": 5.0} if chosen.once_in(2) else {}
            return replace(bare, kind=StepKind.APPROVAL, settings={"approvers": chosen.among((1, 2)), **limit})
        case "signal":
            limit = {"timeout": 5.0} if chosen.once_in(2) else {}
            return replace(bare, kind=StepKind.SIGNAL, settings={"signal": chosen.among(("go", "stop")), **limit})
        case _:
            return step


def wander(sim: Simulator, chosen: Choices) -> Iterator[None]:
    """Move on by chance, and stop after each move: something happened to a job, or somebody asked for something."""
    for _ in range(MOST_MOVES):
        if not _move(sim, chosen):
            return
        yield


def _move(sim: Simulator, chosen: Choices) -> bool:
    """Whether there was anything to do."""
    moves: list[Callable[[], object]] = []
    for slot, job in sorted(sim.jobs.items()):
        unknown = job.state is JobState.PARKED and job.reason == ParkedReason.UNKNOWN_STEP
        if job.state is JobState.READY or unknown:
            moves += [lambda slot=slot: sim.claim(slot)] * 2  # type: ignore[misc]
        elif job.state is JobState.SLEEPING:
            moves.append(lambda slot=slot: sim.wake(slot))  # type: ignore[misc]
        elif job.state is JobState.CLAIMED:
            moves += [lambda slot=slot: sim.save(sim.finding(slot, _happening(sim, slot, chosen)))] * 3  # type: ignore[misc]
    if chosen.once_in(3) or not moves:
        moves = [lambda: _ask(sim, chosen)]
    chosen.among(moves)()
    return chosen.taken < len(chosen.drawn)


def _happening(sim: Simulator, slot: int, chosen: Choices) -> Happening:
    if sim.jobs[slot].kind in BODILESS:
        elapsing: tuple[Happening, ...] = (Elapsed(), Abandoned(ERROR), Returned())
        return chosen.among(elapsing)
    endings: tuple[Happening, ...] = (
        *(Completed(), Completed(), Completed(), Completed(outcome="review"), Failed(ERROR, retry_after=7.0)),
        *(Failed(ERROR, retryable=False), Abandoned(ERROR), Abandoned(ERROR), Abandoned(ERROR, cut_off=True)),
        *(Deferred(30.0, "not yet"), Returned(), Unknown(), Broken(ERROR), Filed("w/s=a\n\n"), Filed(None)),
    )
    return chosen.among(endings)


def _ask(sim: Simulator, chosen: Choices) -> None:
    """Somebody asks for something, and may be told that it cannot be done."""
    steps = (None, *sim.graph.names)
    actor = chosen.among(ACTORS)
    asked: tuple[Callable[[], object], ...] = (
        lambda: sim.review(chosen.among(steps), actor),
        lambda: sim.review(chosen.among(steps), actor, approve=False),
        lambda: sim.unblock(chosen.among(steps), chosen.among((None, "rerun", "completed", "failed"))),
        sim.unblock,
        lambda: sim.signal(chosen.among(("go", "stop")), {}, key=str(sim.run.seq)),
        sim.retry,
        lambda: sim.cancel(compensate=chosen.once_in(2), force=chosen.once_in(3)) if chosen.once_in(2) else None,
    )
    try:
        chosen.among(asked)()
    except SquidMeshError:
        return
