"""Runs and their histories as people read them: headers and tables."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from squidmesh.cli.output import Column, Row, Table, compact_json, one_line, plain, took
from squidmesh.context import Outcome
from squidmesh.definition import StepKind
from squidmesh.planner.compensation import FAILURES
from squidmesh.states import AttemptStatus, RunStatus, StepStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from squidmesh.cli.output import Screen, Style
    from squidmesh.records import JSON, Attempt, History, JSONObject, Run

_STATUS_STYLES: Final[Mapping[str, Style]] = {
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.FAILING: "red",
    RunStatus.CANCELLED: "yellow",
    RunStatus.CANCELLING: "yellow",
    RunStatus.COMPENSATING: "yellow",
    RunStatus.PAUSED: "yellow",
    RunStatus.RETRYING: "yellow",
    RunStatus.RUNNING: "cyan",
    AttemptStatus.ABANDONED: "red",
    StepStatus.PARKED: "yellow",
    StepStatus.COMPENSATED: "yellow",
    StepStatus.NOT_COMPENSATED: "red",
    StepStatus.WAITING: "dim",
    StepStatus.SKIPPED: "dim",
}

_NAMES: Final = 10
"""Columns that the names in a header take."""

_MARKS: Final[Mapping[str, tuple[str, str]]] = {
    StepStatus.WAITING: ("○", "."),
    StepStatus.READY: ("●", "o"),
    StepStatus.SLEEPING: ("◌", "z"),
    StepStatus.RUNNING: ("▸", ">"),
    StepStatus.RETRYING: ("↻", "~"),
    StepStatus.PARKED: ("!", "!"),
    StepStatus.COMPLETED: ("✓", "*"),
    StepStatus.FAILED: ("✗", "x"),
    StepStatus.ABANDONED: ("✗", "x"),
    StepStatus.CANCELLED: ("⊘", "x"),
    StepStatus.SKIPPED: ("-", "-"),
    StepStatus.COMPENSATING: ("↶", "<"),
    StepStatus.COMPENSATED: ("↺", "u"),
    StepStatus.NOT_COMPENSATED: ("✗", "x"),
}


def style_of(status: str) -> Style:
    """The style of a run's, a step's or an attempt's status."""
    return _STATUS_STYLES.get(status, "")


def mark_of(status: str, screen: Screen) -> str:
    """A step's status as one character."""
    return screen.paint(screen.pick(*_MARKS[status]), style_of(status))


def short_id(worker: UUID | None) -> str:
    """Enough of a worker's id to tell it from others: its end, because ids of one minute begin alike."""
    return "" if worker is None else str(worker)[-8:]


def error_line(error: JSONObject | None) -> str:
    """A stored error on one line."""
    if not error:
        return ""
    kind, message = (one_line(str(error.get(key, ""))) for key in ("type", "message"))
    return f"{kind}: {message}" if kind and message else kind or message


def runs_table(runs: Sequence[Run], now: datetime) -> Table:
    """Runs, a row each."""
    columns = [
        Column("id"),
        Column("workflow", flexible=True),
        Column("key", flexible=True, optional=True),
        Column("status"),
        Column("step", flexible=True, optional=True),
        Column("age", right=True),
        Column("attention", optional=True),
    ]
    table = Table(columns)
    for run in runs:
        more = "" if run.attention == run.status else run.attention or ""
        cells = [str(run.id), run.workflow, one_line(run.key or ""), str(run.status), ", ".join(run.current_steps)]
        cells += [took(now - run.created_at), more]
        table.rows.append(Row(cells, ["", "", "", style_of(run.status), "", "", "red"]))
    return table


def header(run: Run, screen: Screen) -> list[str]:
    """What a run is, where it stands, what it was given and what it has."""
    ended = run.finished_at or datetime.now(UTC)
    lasted = f"{'took' if run.finished_at else 'for'} {took(ended - run.created_at)}"
    facts: list[tuple[str, str, Style]] = [
        ("run", str(run.id), "bold"),
        ("workflow", f"{run.workflow}, trigger {run.trigger}", ""),
        ("status", f"{run.status}, {lasted}, started {run.created_at:%Y-%m-%d %H:%M:%S} UTC", style_of(run.status)),
        ("attention", run.attention or "", "red"),
        ("key", one_line(run.key or ""), ""),
        ("replay of", str(run.replayed_from or ""), ""),
        ("schedule", _tick(run), ""),
        ("error", error_line(run.error), "red"),
        *(("undo", _failure_line(failure), "red") for failure in (run.error or {}).get(FAILURES, ())),
        ("deadline", _deadline(run), ""),
        ("payload", compact_json(run.payload, screen), ""),
        ("context", compact_json(run.context, screen) if run.context is not None else "", ""),
    ]
    return [line for name, said, style in facts if said for line in _fact(name, said, style, screen)]


def _tick(run: Run) -> str:
    tick = run.schedule
    return f"{tick.name}, for {tick.nominal_at:%Y-%m-%d %H:%M:%S} UTC" if tick else ""


def _failure_line(failure: JSONObject) -> str:
    """A compensation that failed, on one line."""
    return f"{failure.get('step')} failed: {error_line(failure)}"


def _deadline(run: Run) -> str:
    due = run.history.deadline if run.history else None
    return f"{when(due)}, in {took(due - datetime.now(UTC))}" if due else ""


def when(at: datetime) -> str:
    """An instant, with its day unless that is today."""
    return f"{at:%H:%M:%S} UTC" if at.date() == datetime.now(UTC).date() else f"{at:%Y-%m-%d %H:%M} UTC"


def _fact(name: str, said: str, style: Style, screen: Screen) -> list[str]:
    """A name and what is to be said of it: errors in as many lines as they take, all else on one."""
    room = None if screen.width is None else max(screen.width - _NAMES, _NAMES)
    if style == "red" and room is not None:
        lines = textwrap.wrap(said, room, break_on_hyphens=False)
    else:
        lines = [screen.shorten(said, room)]
    names = [name, *[""] * (len(lines) - 1)]
    pairs = zip(names, lines, strict=True)
    return [f"{screen.paint(n.ljust(_NAMES), 'dim')}{screen.paint(line, style)}" for n, line in pairs]


def attempts_table(run: Run, history: History) -> Table:
    """Each attempt at each step: how long it waited for its turn, how long it took, who ran it, and what went wrong."""
    columns = [
        Column("step", flexible=True),
        Column("kind", optional=True),
        Column("visit", right=True, optional=True),
        Column("attempt", right=True),
        Column("status"),
        Column("outcome", optional=True),
        Column("waited", right=True),
        Column("took", right=True),
        Column("worker"),
    ]
    table = Table(columns, note_title="error")
    looping = any(step_run.visit > 1 for step_run in history.step_runs)
    gates = {step.step for step in history.steps if step.kind in _GATES}
    scheduled = _scheduling_times(run, history)
    for step_run in history.step_runs:
        name = [step_run.step, "" if step_run.kind == "step" else step_run.kind, str(step_run.visit) if looping else ""]
        since, number = None, 1
        undoes = step_run.kind == "compensation"
        for attempt in step_run.attempts:
            since = since or scheduled(attempt.seq if undoes else attempt.saw)
            waits = step_run.step in gates and not undoes
            table.rows.append(_attempt_row(name, attempt, since, waits=waits))
            name, since = ["", "", ""], attempt.finished_at
            number = attempt.attempt + (attempt.status is AttemptStatus.FAILED)
        if step_run.status in LIVE:
            cells = [*name, str(number), str(step_run.status), "", "", "", ""]
            table.rows.append(Row(cells, ["", "dim", "", "", style_of(step_run.status)]))
    return table


LIVE: Final = (
    StepStatus.READY,
    StepStatus.SLEEPING,
    StepStatus.RUNNING,
    StepStatus.RETRYING,
    StepStatus.PARKED,
    StepStatus.COMPENSATING,
)

_GATES: Final = (StepKind.PAUSE, StepKind.APPROVAL, StepKind.SIGNAL)
"""Kinds of steps that wait for somebody, and take as long as that takes."""


def _attempt_row(name: Sequence[str], attempt: Attempt, since: datetime, *, waits: bool) -> Row:
    begun = attempt.finished_at if waits else attempt.started_at
    waited = begun - since if begun and attempt.kind != "copied" else None
    cells = [
        *name,
        str(attempt.attempt),
        str(attempt.status),
        attempt.outcome or "" if attempt.outcome != Outcome.OK else "",
        took(waited),
        "" if waits else took(attempt.seconds),
        short_id(attempt.worker),
    ]
    styles: list[Style] = ["", "dim", "", "", style_of(attempt.status), "yellow", "dim", "", "dim"]
    return Row(cells, styles, note=error_line(attempt.error))


def _scheduling_times(run: Run, history: History) -> Callable[[int], datetime]:
    """When something was scheduled: when that happened which stands before it in the run's history."""
    ended = [(attempt.seq, attempt.finished_at) for step_run in history.step_runs for attempt in step_run.attempts]
    known = sorted([(0, run.created_at), *ended, *((event.seq, event.at) for event in history.audit_events)])

    def scheduled(place: int) -> datetime:
        return next((at for seq, at in reversed(known) if seq < place), run.created_at)

    return scheduled


def audit_table(run: Run, history: History, screen: Screen) -> Table:
    """What was done to a run, a row each."""
    columns = [
        Column("at", right=True),
        Column("event"),
        Column("step", optional=True),
        Column("by", optional=True),
        Column("comment", flexible=True, optional=True),
        Column("details", flexible=True, optional=True),
    ]
    table = Table(columns)
    for event in history.audit_events:
        actor = event.actor if isinstance(event.actor, str) else compact_json(event.actor, screen)
        table.rows.append(
            Row(
                [
                    f"+{took(event.at - run.created_at)}",
                    event.type,
                    event.step or "",
                    one_line(actor) if event.actor is not None else "",
                    one_line(event.comment or ""),
                    _details(event.metadata, screen),
                ]
            )
        )
    return table


def _details(metadata: JSONObject, screen: Screen) -> str:
    """What else is known of an audit event; that it concerns the first visit goes without saying."""
    said = {key: value for key, value in metadata.items() if (key, value) != ("visit", 1)}
    return compact_json(said, screen) if said else ""


def votes_for(history: History, step: str, visit: int) -> int:
    """How many approvals a step has got that were not the last one needed."""
    votes = [event for event in history.audit_events if event.type == "voted" and event.step == step]
    return sum(event.metadata.get("visit") == visit for event in votes)


def run_json(run: Run) -> JSON:
    """A run as ``--json`` prints it, its history left to those who asked for it."""
    said = {key: value for key, value in plain(run).items() if key != "history"}
    return {**said, "schedule": run.schedule.to_json() if run.schedule else None}
