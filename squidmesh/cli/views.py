"""Runs and their histories as people read them: headers, tables, and the graph with the state of each step."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from squidmesh.cli.drawing import draw
from squidmesh.cli.output import Column, Row, Table, compact_json, one_line, plain, span, took
from squidmesh.definition import StepKind
from squidmesh.states import AttemptStatus, RunStatus, StepStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from squidmesh.cli.output import Screen, Style
    from squidmesh.definition import Definition, Step
    from squidmesh.records import JSON, Attempt, DeclaredStep, History, JSONObject, Run, StepRun

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
        ("payload", compact_json(run.payload, screen), ""),
        ("context", compact_json(run.context, screen) if run.context is not None else "", ""),
    ]
    return [line for name, said, style in facts if said for line in _fact(name, said, style, screen)]


def _tick(run: Run) -> str:
    tick = run.schedule
    return f"{tick.name}, for {tick.nominal_at:%Y-%m-%d %H:%M:%S} UTC" if tick else ""


def _fact(name: str, said: str, style: Style, screen: Screen) -> list[str]:
    """A name and what is to be said of it: an error in as many lines as it takes, all else on one."""
    room = None if screen.width is None else max(screen.width - _NAMES, _NAMES)
    if name == "error" and room is not None:
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
        Column("visit", right=True, optional=True),
        Column("attempt", right=True),
        Column("status"),
        Column("waited", right=True),
        Column("took", right=True),
        Column("worker"),
    ]
    table = Table(columns, note_title="error")
    looping = any(step_run.visit > 1 for step_run in history.step_runs)
    scheduled = _scheduling_times(run, history)
    for step_run in history.step_runs:
        before: Attempt | None = None
        for attempt in step_run.attempts:
            since = before.finished_at if before else scheduled(attempt.saw)
            table.rows.append(_attempt_row(step_run, attempt, since, looping=looping, first=before is None))
            before = attempt
        if step_run.status in _LIVE:
            name = step_run.step if before is None else ""
            number = before.attempt + 1 if before and step_run.status is StepStatus.RETRYING else 1
            cells = [name, str(step_run.visit) if looping else "", str(number), str(step_run.status), "", "", ""]
            table.rows.append(Row(cells, ["", "", "", style_of(step_run.status)]))
    return table


_LIVE: Final = (
    StepStatus.READY,
    StepStatus.SLEEPING,
    StepStatus.RUNNING,
    StepStatus.RETRYING,
    StepStatus.PARKED,
)


def _attempt_row(step_run: StepRun, attempt: Attempt, since: datetime, *, looping: bool, first: bool) -> Row:
    waited = attempt.started_at - since if attempt.started_at else None
    cells = [
        step_run.step if first else "",
        str(step_run.visit) if looping and first else "",
        str(attempt.attempt),
        str(attempt.status),
        took(waited),
        took(attempt.seconds),
        short_id(attempt.worker),
    ]
    style = style_of(attempt.status)
    return Row(cells, ["", "", "", style, "dim", "", "dim"], note=error_line(attempt.error))


def _scheduling_times(run: Run, history: History) -> Callable[[int], datetime]:
    """When a visit was scheduled: when that happened in the run's history which it saw last."""
    ended = [(attempt.seq, attempt.finished_at) for step_run in history.step_runs for attempt in step_run.attempts]
    known = sorted([(0, run.created_at), *ended, *((event.seq, event.at) for event in history.audit_events)])

    def scheduled(saw: int) -> datetime:
        return next((at for seq, at in reversed(known) if seq < saw), run.created_at)

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
                    compact_json(event.metadata, screen) if event.metadata else "",
                ]
            )
        )
    return table


def graph_lines(definition: Definition, steps: Iterable[DeclaredStep], screen: Screen) -> list[str]:
    """The graph, each step with its state and what its kind means."""
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
        about = screen.paint(_about(definition.by_name[line.step], state), "dim")
        parts = [line.step.ljust(names), status, *(text for text in (about, note) if text)]
        drawn.append(f"{lanes}{padding} {'  '.join(parts)}".rstrip())
    return drawn


def _about(step: Step, state: DeclaredStep) -> str:
    """What else is to be said of a step."""
    attempts = step.options.retry.max_attempts
    said = [
        f"waits {span(float(step.settings['seconds']))}" if step.kind is StepKind.WAIT else "",
        "writes to the log" if step.kind is StepKind.LOG else "",
        f"up to {attempts} attempts" if attempts > 1 else "",
        "irreversible" if step.irreversible else "",
        f"{state.visits} visits" if state.visits > 1 else "",
        f"due {state.due_at:%H:%M:%S} UTC" if state.due_at else "",
        one_line(state.reason or ""),
    ]
    return ", ".join(text for text in said if text)


def run_json(run: Run) -> JSON:
    """A run as ``--json`` prints it, its history left to those who asked for it."""
    said = {key: value for key, value in plain(run).items() if key != "history"}
    return {**said, "schedule": run.schedule.to_json() if run.schedule else None}
