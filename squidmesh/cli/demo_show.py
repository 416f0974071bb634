"""``squidmesh demo``: ten seconds in which somebody sees what squidmesh does.

Everything in it is real: a Postgres (embedded, or the one that was given), a gateway that refuses over HTTP, a worker
with all its threads. Nothing of it stays.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http import HTTPStatus
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from squidmesh import events
from squidmesh.cli import demo_workflow
from squidmesh.cli.app import connection_to
from squidmesh.cli.demo_gateway import Gateway
from squidmesh.cli.demo_workflow import FailedPayment, payment_recovery
from squidmesh.cli.exits import Exit
from squidmesh.cli.graph_view import graph_lines
from squidmesh.cli.output import Screen, plain, span, talk, took
from squidmesh.cli.views import attempts_table, error_line, header, mark_of, run_json, short_id
from squidmesh.client import SquidMesh
from squidmesh.definition import StepKind
from squidmesh.embedded import EmbeddedPostgres
from squidmesh.states import RunStatus, StepStatus
from squidmesh.store.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Generator

    from squidmesh.cli.output import Style
    from squidmesh.events import Event
    from squidmesh.records import JSONObject, Run

_INDENT: Final = "  "

REFUSALS: Final = 2
PATIENCE: Final = 60.0
"""Seconds after which something must be wrong with the machine."""

_NEXT: Final = (
    ("the code behind it", "python -m squidmesh demo --code"),
    ("on a database of yours", "python -m squidmesh demo --dsn postgresql://..."),
    ("a workflow of yours", "python -m squidmesh worker --app yourmodule:mesh"),
)


def code() -> str:
    """The source of the workflow that the demo runs."""
    return inspect.getsource(demo_workflow)


def play(dsn: str | None, screen: Screen, *, as_json: bool) -> int:
    """Run the demo.

    Args:
        dsn: The database to use; None starts one.
        screen: Where to.
        as_json: Whether for programs.

    Returns:
        The exit code.
    """
    # What the demo shows are its events; the library's own warnings would stand between them.
    logging.getLogger("squidmesh").setLevel(logging.ERROR)
    stage = _JSONStage(screen) if as_json else _Stage(screen)
    with ExitStack() as undo:
        stage.open()
        mesh = undo.enter_context(_database(dsn, stage))
        gateway = undo.enter_context(Gateway(REFUSALS))
        stage.introduce("gateway", f"{gateway.url}, refuses twice before it answers")
        worker = undo.enter_context(mesh.worker())
        stage.introduce("worker", f"{short_id(worker.id)}, in this process, up to 10 steps at once")
        ended = _run(mesh, FailedPayment("acct_1", "inv_2", "att_3", f"{gateway.url}/att_3"), stage)
        stage.conclude(ended)
        return Exit.OK if ended.status is RunStatus.COMPLETED else Exit.FAILURE


def _run(mesh: SquidMesh, payment: FailedPayment, stage: _Stage) -> Run:
    """Run the workflow, telling what happens; returns the run with its history."""
    forget = mesh.subscribe(stage.tell)
    stage.begin()
    run = mesh.start_run(payment_recovery, payment)
    mesh.wait_for_run(run.id, PATIENCE)
    ended = mesh.inspect_run(run.id, include_history=True)
    mesh.events.flush(PATIENCE)
    forget()
    return ended


@contextmanager
def _database(dsn: str | None, stage: _Stage) -> Generator[SquidMesh]:
    """A mesh on a migrated database, of which nothing stays."""
    schema = f"squidmesh_demo_{token_hex(3)}"
    with ExitStack() as undo:
        began = time.monotonic()
        if dsn is None:
            dsn = undo.enter_context(EmbeddedPostgres()).dsn
            where = f"embedded Postgres, ready after {took(time.monotonic() - began)}"
        else:
            where = "the one that you gave"
        mesh = SquidMesh(dsn, workflows=[payment_recovery], schema=schema)
        connection = undo.enter_context(connection_to(mesh))
        stage.introduce("database", where)
        undo.callback(_drop, connection, schema)
        version = migrate(connection, schema)[-1].version
        stage.introduce("schema", f"{schema}, migrated to version {version}; dropped at the end")
        undo.callback(mesh.close)
        yield mesh


def _drop(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


class _Stage:
    """What the audience sees.

    Args:
        screen: Where.
    """

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._began = 0.0
        self._names = max(len(step.name) for step in payment_recovery.definition.steps)

    def open(self) -> None:
        """Say what this is."""
        title = self.screen.paint("squidmesh", "bold")
        self.screen.say(f"{title}  durable workflows in plain Python functions, on Postgres\n")

    def introduce(self, who: str, about: str) -> None:
        """Name one of those who take part."""
        self.screen.say(f"  {self.screen.paint(who.ljust(9), 'dim')} {about}")

    def begin(self) -> None:
        """The run is about to start."""
        self._title("The run, as it happens")
        self._began = time.monotonic()

    def tell(self, event: Event) -> None:
        """One calm line for what matters; called on the events' thread."""
        about, step = event.metadata, str(event.metadata.get("step", ""))
        match event.name:
            case events.RUN_CREATED:
                self._line(StepStatus.READY, "run started", about["workflow"])
            case events.RUN_DISPATCHED if event.measurements.get("delay", 0) and _is_wait(step):
                wait = span(event.measurements["delay"])
                self._line(StepStatus.SLEEPING, step, f"sleeps {wait} in the database, no worker held")
            case events.STEP_COMPLETED:
                self._line(StepStatus.COMPLETED, step, _completed(event), "")
            case events.STEP_FAILED:
                self._line(StepStatus.FAILED, step, f"attempt {about['attempt']}: {_refusal(about['error'])}", "red")
            case events.STEP_RETRY_SCHEDULED:
                self._line(StepStatus.RETRYING, step, f"again in {span(event.measurements['delay'])}", "yellow")
            case events.RUN_TRANSITION if RunStatus(about["to_status"]).terminal:
                status = RunStatus(about["to_status"])
                self._line(StepStatus(str(status)), f"run {status}", "", "bold")
            case _:
                pass

    def conclude(self, run: Run) -> None:
        """Show what is stored of it."""
        history = run.history
        assert history is not None, "it was asked for"  # noqa: S101
        self._title("The run, as it is stored")
        width = self.screen.width
        inner = replace(self.screen, width=None if width is None else width - len(_INDENT))
        self._say_all(header(run, inner))
        self.screen.say()
        self._say_all(attempts_table(run, history).lines(inner))
        self._title("The graph, and where each step stands")
        self._say_all(graph_lines(payment_recovery.definition, history.steps, inner))
        self._title("What to try next")
        self._say_all([f"{self.screen.paint(what.ljust(23), 'dim')} {command}" for what, command in _NEXT])

    def _say_all(self, lines: list[str]) -> None:
        for line in lines:
            self.screen.say(f"{_INDENT}{line}".rstrip())

    def _title(self, text: str) -> None:
        self.screen.say(f"\n{self.screen.paint(text, 'bold')}\n")

    def _line(self, status: StepStatus, who: str, text: str, style: Style = "dim") -> None:
        at = f"{time.monotonic() - self._began:5.1f} s"
        room = None if self.screen.width is None else self.screen.width - self._names - 16
        said = self.screen.paint(self.screen.shorten(text, room), style)
        mark = mark_of(status, self.screen)
        self.screen.say(f"  {self.screen.paint(at, 'dim')}  {mark} {who.ljust(self._names)}  {said}".rstrip())


class _JSONStage(_Stage):
    """The same for programs: a line of JSON for each event, and one for the run at the end."""

    def open(self) -> None:
        """Say nothing."""

    def introduce(self, who: str, about: str) -> None:
        """Say it beside the data."""
        talk(f"{who}: {about}")

    def begin(self) -> None:
        """The run is about to start."""
        self._began = time.monotonic()

    def tell(self, event: Event) -> None:
        """Every event."""
        self.screen.write_json(event=plain(event), seconds=round(time.monotonic() - self._began, 3))

    def conclude(self, run: Run) -> None:
        """The run with its history."""
        self.screen.write_json(run=run_json(run), history=plain(run.history))


def _refusal(error: JSONObject) -> str:
    """A stored error in a few words: the address of the gateway is known by now."""
    status = error.get("details", {}).get("status")
    return f"{status} {HTTPStatus(status).phrase}" if status else error_line(error)


def _is_wait(step: str) -> bool:
    return payment_recovery.definition.by_name[step].kind is StepKind.WAIT


def _completed(event: Event) -> str:
    """What is to be said of a step that has completed."""
    step = payment_recovery.definition.by_name[event.metadata["step"]]
    if step.kind is StepKind.LOG:
        return json.dumps(step.settings["message"])
    lasted = took(event.measurements.get("duration"))
    attempt = event.metadata["attempt"]
    return f"attempt {attempt}, {lasted}" if attempt > 1 else lasted
