"""Where two runs part: what they were started with, then visit by visit what happened in each.

Runs are told apart by what they did, not by when or where: times, workers and ids are no differences. Nor is the order
in which branches ended: visits are compared by step and number, those first that either run came to first.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from squidmesh.records import JobKind, RunDiff, StepDifference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from squidmesh.records import JSON, Run, StepRun

T = TypeVar("T")


def diff(a: Run, b: Run, steps_a: Sequence[StepRun], steps_b: Sequence[StepRun]) -> RunDiff:
    """Compare two runs.

    Args:
        a: A run.
        b: Another one.
        steps_a: Its whole history of visits, in order.
        steps_b: That of the other.
    """
    # What was undone follows from where they parted; it is not looked at.
    visits_a, visits_b = (
        {(s.step, s.visit): s for s in steps if s.kind != JobKind.COMPENSATION} for steps in (steps_a, steps_b)
    )
    places: dict[tuple[str, int], int] = {}
    for visits in (visits_a, visits_b):
        for place, visit in enumerate(visits):
            places[visit] = min(place, places.get(visit, place))
    found = [
        _difference(visit, visits_a.get(visit), visits_b.get(visit))
        for visit in sorted(places, key=lambda visit: (places[visit], visit))
    ]
    return RunDiff(
        a=a.id,
        b=b.id,
        workflow=_pair(a.workflow, b.workflow),
        graph=_pair(a.fingerprint, b.fingerprint),
        trigger=_pair(a.trigger, b.trigger),
        status=_pair(a.status, b.status),
        payload_keys=_differing(a.payload, b.payload),
        steps=tuple(difference for difference in found if difference is not None),
    )


def _difference(visit: tuple[str, int], a: StepRun | None, b: StepRun | None) -> StepDifference | None:
    """What differs between two runs' visits; None if nothing does."""
    output_a, output_b = (side.output or {} if side else {} for side in (a, b))
    found = StepDifference(
        step=visit[0],
        visit=visit[1],
        status=_pair(a.status if a else None, b.status if b else None),
        outcome=_pair(_outcome(a), _outcome(b)),
        output_keys=_differing(output_a, output_b),
        attempts=_pair(len(a.attempts) if a else 0, len(b.attempts) if b else 0),
        error_type=_pair(_error_type(a), _error_type(b)),
    )
    same = StepDifference(step=found.step, visit=found.visit)
    return None if found == same else found


def _pair(a: T, b: T) -> tuple[T, T] | None:
    """Both sides, if they differ."""
    return None if a == b else (a, b)


def _outcome(visit: StepRun | None) -> str | None:
    return visit.attempts[-1].outcome if visit and visit.attempts else None


def _error_type(visit: StepRun | None) -> str | None:
    error = visit.error if visit else None
    return None if error is None else str(error.get("type"))


def _differing(a: Mapping[str, JSON], b: Mapping[str, JSON]) -> tuple[str, ...]:
    """The keys that only one side has, or whose values differ."""
    return tuple(sorted(key for key in a.keys() | b.keys() if _text(a, key) != _text(b, key)))


def _text(side: Mapping[str, JSON], key: str) -> str | None:
    """A value as text: to Python, True is 1."""
    return json.dumps(side[key], sort_keys=True) if key in side else None
