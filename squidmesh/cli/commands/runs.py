"""``squidmesh runs`` and ``inspect``: what there is, and what happened. They change nothing and need no app."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit, UsageError
from squidmesh.cli.graph_view import graph_lines, notes_of
from squidmesh.cli.output import talk
from squidmesh.cli.values import instant_or_ago, positive, whole_number
from squidmesh.cli.views import attempts_table, audit_table, header, run_json, runs_table
from squidmesh.states import RunStatus

if TYPE_CHECKING:
    from argparse import Namespace

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.client import SquidMesh
    from squidmesh.records import History, Run

_ATTEMPTS: Final = 1000
"""Attempts that a page of a run's history has, unless another number is asked for."""


def add(commands: Commands) -> None:
    """Add both commands."""
    listing = commands.add("runs", "list runs, newest first", list_runs)
    listing.add_argument("--workflow", metavar="NAME", help="only of this workflow")
    listing.add_argument(
        "--status",
        action="append",
        choices=[str(status) for status in RunStatus],
        metavar="STATUS",
        help=f"only in this status; repeatable: {', '.join(RunStatus)}",
    )
    listing.add_argument("--trigger", metavar="NAME", help="only started by this trigger")
    listing.add_argument("--key", metavar="KEY", help="only started with this key")
    listing.add_argument(
        "--since", metavar="WHEN", type=instant_or_ago, help="only created since: ISO 8601, or a duration ago (2h)"
    )
    listing.add_argument("--until", metavar="WHEN", type=instant_or_ago, help="only created before")
    listing.add_argument("--limit", metavar="N", type=positive, default=50, help="at most so many (50), up to 1000")
    listing.add_argument("--before", metavar="RUN_ID", help="continue after this run, the last of the page before")

    showing = commands.add("inspect", "show a run: where it stands, and what happened", inspect)
    showing.add_argument("run_id", metavar="RUN_ID", help="the run")
    showing.add_argument("--history", action="store_true", help="every attempt at every step, and what was done to it")
    showing.add_argument("--no-graph", action="store_true", help="without the drawing")
    showing.add_argument("--after", metavar="SEQ", type=whole_number, help="with --history: continue here")
    showing.add_argument("--limit", metavar="N", type=positive, help=f"with --history: attempts ({_ATTEMPTS})")


def list_runs(options: Namespace, screen: Screen) -> int:
    """List runs."""
    with opened_mesh(options) as mesh:
        runs = mesh.list_runs(
            workflow=options.workflow,
            status=options.status,
            trigger=options.trigger,
            key=options.key,
            since=options.since,
            until=options.until,
            before=mesh.inspect_run(options.before) if options.before else None,
            limit=options.limit,
        )
    more = runs[-1].id if len(runs) == options.limit else None
    if options.json:
        screen.write_json(runs=[run_json(run) for run in runs], next=more)
        return Exit.OK
    if runs:
        screen.say("\n".join(runs_table(runs, datetime.now(UTC)).lines(screen)))
    else:
        talk("no such runs")
    if more:
        talk(f"there may be more: --before {more}")
    return Exit.OK


def inspect(options: Namespace, screen: Screen) -> int:
    """Show a run."""
    if not options.history and (options.after is not None or options.limit is not None):
        raise UsageError("--after and --limit choose what --history shows; give them together with it")
    after, limit = options.after or 0, options.limit or _ATTEMPTS
    with opened_mesh(options) as mesh:
        run = mesh.inspect_run(options.run_id, include_history=True, after_seq=after, limit=limit)
        if options.json:
            _write_json(options, run, screen)
        else:
            _show(options, mesh, run, screen)
    return Exit.OK


def _write_json(options: Namespace, run: Run, screen: Screen) -> None:
    history = run.history
    parts: dict[str, object] = {"run": run_json(run)}
    if history:
        parts |= {"steps": history.steps, "deadline": history.deadline}
    if options.history and history:
        parts |= {"step_runs": history.step_runs, "audit_events": history.audit_events, "next_seq": history.next_seq}
    screen.write_json(**parts)


def _show(options: Namespace, mesh: SquidMesh, run: Run, screen: Screen) -> None:
    history = run.history
    assert history is not None, "it was asked for"  # noqa: S101
    screen.say("\n".join(header(run, screen)))
    graph = mesh.registry.graph(run.fingerprint)
    if not options.no_graph and graph is not None:
        screen.say()
        screen.say("\n".join(graph_lines(graph.definition, history.steps, screen, notes_of(graph.definition, history))))
    if options.history:
        _show_history(run, history, screen)


def _show_history(run: Run, history: History, screen: Screen) -> None:
    tables = (attempts_table(run, history), audit_table(run, history, screen))
    for table in tables:
        if table.rows:
            screen.say()
            screen.say("\n".join(table.lines(screen)))
    if history.next_seq is not None:
        talk(f"there is more: --after {history.next_seq}")
