"""A run's graph as people read it: the drawing, each step with its state and what its kind means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.cli.drawing import draw
from squidmesh.cli.output import one_line, span
from squidmesh.cli.views import LIVE, mark_of, style_of, votes_for, when
from squidmesh.context import Outcome
from squidmesh.definition import StepKind
from squidmesh.states import ParkedReason, StepStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squidmesh.cli.output import Screen
    from squidmesh.definition import Definition, Step
    from squidmesh.records import DeclaredStep, History, StepRun


def notes_of(definition: Definition, history: History) -> Mapping[str, str]:
    """What else the history says of steps: approvals so far, other outcomes than "ok", results taken over."""
    notes = {run.step: _note_of_ended(run) for run in history.step_runs if run.kind != "compensation"}
    for state in history.steps:
        step, waits = definition.by_name[state.step], state.status is StepStatus.PARKED
        needed = int(step.settings.get("approvers", 1))
        if step.kind is StepKind.APPROVAL and waits and needed > 1 and history.next_seq is None:
            notes[state.step] = f"{votes_for(history, state.step, state.visits)} of {needed} so far"
    return notes


def _note_of_ended(step_run: StepRun) -> str:
    latest = step_run.attempts[-1] if step_run.attempts and step_run.status not in LIVE else None
    if latest is None or latest.outcome in (None, Outcome.OK):
        return step_run.kind if step_run.kind != "step" else ""
    return f"outcome {latest.outcome}"


def graph_lines(
    definition: Definition, steps: Iterable[DeclaredStep], screen: Screen, notes: Mapping[str, str] | None = None
) -> list[str]:
    """The graph, each step with its state and what its kind means.

    Args:
        definition: The graph.
        steps: Where its steps stand.
        screen: Where it is shown.
        notes: What else is to be said of steps, by name.
    """
    states = {step.step: step for step in steps}
    lines = draw(definition, unicode=screen.unicode)
    left = max(line.lanes_width for line in lines) + 1
    names = max(len(step.name) for step in definition.steps)
    statuses = max((len(state.status) for state in states.values()), default=0)
    drawn: list[str] = []
    for line in lines:
        note = screen.paint(line.note, "dim")
        if line.step is None:
            drawn.append(f"{screen.paint(line.before.ljust(left), 'dim')} {note}".rstrip())
            continue
        state = states[line.step]
        lanes = f"{screen.paint(line.before, 'dim')}{mark_of(state.status, screen)}{screen.paint(line.after, 'dim')}"
        padding = " " * (left - line.lanes_width)
        status = screen.paint(state.status.ljust(statuses), style_of(state.status))
        about = screen.paint(_about(definition.by_name[line.step], state, (notes or {}).get(line.step, "")), "dim")
        parts = [line.step.ljust(names), status, *(text for text in (about, note) if text)]
        drawn.append(f"{lanes}{padding} {'  '.join(parts)}".rstrip())
    return drawn


def _about(step: Step, state: DeclaredStep, note: str) -> str:
    """What else is to be said of a step."""
    attempts = step.options.retry.max_attempts
    said = [
        _what_it_does(step),
        f"up to {attempts} attempts" if attempts > 1 else "",
        "irreversible" if step.irreversible else "",
        f"undone by {step.compensate}" if step.compensate else "" if step.compensatable else "cannot be undone",
        f"{state.visits} visits" if state.visits > 1 else "",
        note,
        f"due {when(state.due_at)}" if state.due_at else "",
        one_line(state.reason or "") if state.reason not in _EXPECTED else "",
    ]
    return ", ".join(text for text in said if text)


_EXPECTED: Final = (ParkedReason.PAUSE, ParkedReason.APPROVAL, ParkedReason.SIGNAL)
"""Why a step is parked that does nothing else than wait: its kind says it already."""


def _what_it_does(step: Step) -> str:
    """What a step without a function does."""
    settings = step.settings
    match step.kind:
        case StepKind.LOG:
            return "writes to the log"
        case StepKind.WAIT:
            until = f"until {'the time in ' if settings.get('key') else ''}{settings.get('until')}"
            return f"waits {span(float(settings['seconds'])) if 'seconds' in settings else until}"
        case StepKind.PAUSE:
            return "waits to be unblocked"
        case StepKind.APPROVAL:
            people = int(settings.get("approvers", 1))
            return f"waits for {f'{people} approvals' if people > 1 else 'approval'}{_at_most(settings, 'deadline')}"
        case StepKind.SIGNAL:
            named = "" if settings["signal"] == step.name else f" {settings['signal']}"
            return f"waits for signal{named}{_at_most(settings, 'timeout')}"
        case _:
            return ""


def _at_most(settings: Mapping[str, str | float], limit: str) -> str:
    return f" for up to {span(float(settings[limit]))}" if limit in settings else ""
