"""``squidmesh start`` and ``replay``: what makes new runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.authoring.wording import listed
from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit, UsageError
from squidmesh.cli.output import talk, took
from squidmesh.cli.values import duration, instant, payload_of, texts_among
from squidmesh.cli.views import error_line, run_json
from squidmesh.errors import InvalidPayload, RunExists
from squidmesh.states import RunStatus

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.client import SquidMesh
    from squidmesh.records import JSONObject, Run


def add_start(commands: Commands) -> None:
    """Add ``start``."""
    parser = commands.add("start", "start a run, and print its id", start)
    parser.add_argument("workflow", metavar="WORKFLOW", help="the workflow's name")
    parser.add_argument("--trigger", metavar="NAME", help="the trigger; by default the first one declared")
    parser.add_argument(
        "-p",
        "--param",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the payload: key=text, or key:=json for numbers, lists and the like; repeatable",
    )
    parser.add_argument("--payload", metavar="JSON", help="the payload as JSON; @file reads a file, - reads stdin")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--delay", metavar="DURATION", type=duration, help="begin so much later, such as 30s or 1h30m")
    when.add_argument("--at", metavar="INSTANT", type=instant, help="begin then: ISO 8601 with an offset")
    parser.add_argument("--key", metavar="KEY", help="names the run: there is one of the workflow with this key")
    parser.add_argument(
        "--on-conflict",
        choices=["return", "raise"],
        help="with --key, if it is taken: print the id of the run that has it (return, the default), or exit code 4",
    )
    _add_waiting(parser)


def add_replay(commands: Commands) -> None:
    """Add ``replay``."""
    parser = commands.add("replay", "start a run again that has ended, as a new one, and print the new id", replay)
    parser.add_argument("run_id", metavar="RUN_ID", help="the run that has ended")
    parser.add_argument(
        "--from-step", metavar="STEP", help="go on from there; the results of what was done before are taken over"
    )
    parser.add_argument(
        "--allow-irreversible",
        action="store_true",
        help="even if it runs steps again that have completed and cannot be undone",
    )
    _add_waiting(parser)


def _add_waiting(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait until it has ended; exit code 1 unless it completed")
    parser.add_argument("--timeout", metavar="DURATION", type=duration, help="with --wait: no longer than this")


def _check_waiting(options: Namespace) -> None:
    if options.timeout is not None and not options.wait:
        raise UsageError("--timeout says how long --wait waits; give them together")


def start(options: Namespace, screen: Screen) -> int:
    """Start a run."""
    _check_waiting(options)
    if options.on_conflict and options.key is None:
        raise UsageError("--on-conflict says what happens if --key is taken; give them together")
    payload = payload_of(options.payload, options.param)
    with opened_mesh(options, needs_app=True) as mesh:
        try:
            run = mesh.start_run(
                options.workflow,
                payload,
                trigger=options.trigger,
                run_at=options.at,
                delay=options.delay,
                key=options.key,
                on_conflict="raise",
            )
        except RunExists as error:
            if options.on_conflict == "raise":
                raise
            run = mesh.inspect_run(error.run_id)
            talk(f"there is a run of {run.workflow} with this key already, {run.status}; nothing was started")
            return _follow(mesh, run, options, screen)
        except InvalidPayload as error:
            _add_hint(error, options.param)
            raise
        talk(f"started a run of {run.workflow}, trigger {run.trigger}")
        return _follow(mesh, run, options, screen)


def replay(options: Namespace, screen: Screen) -> int:
    """Replay a run."""
    _check_waiting(options)
    with opened_mesh(options, needs_app=True) as mesh:
        run = mesh.replay_run(
            options.run_id, from_step=options.from_step, allow_irreversible=options.allow_irreversible
        )
        talk(f"started a run of {run.workflow} with the payload of {run.replayed_from}")
        if options.from_step is not None:
            talk(_taken_over(mesh, run))
        return _follow(mesh, run, options, screen)


def _taken_over(mesh: SquidMesh, run: Run) -> str:
    """What a replay that goes on from a step begins with, and whose results it knows."""
    history = mesh.inspect_run(run.id, include_history=True).history
    events = history.audit_events if history else ()
    told: JSONObject = next((event.metadata for event in events if event.type == "replayed"), dict[str, object]())
    copied, begins = (listed(told.get(key, ())) for key in ("copied", "steps"))
    results = f"takes over the results of {copied}" if copied else "takes over no results"
    return f"it begins with {begins or listed(run.current_steps)}, and {results}"


def _follow(mesh: SquidMesh, run: Run, options: Namespace, screen: Screen) -> int:
    """Print the id of a new run, and wait for its end if asked to."""
    if not options.json:
        screen.say(str(run.id))
    if options.wait:
        run = _wait(mesh, run, options.timeout)
    if options.json:
        screen.write_json(run=run_json(run))
    return Exit.FAILURE if options.wait and run.status is not RunStatus.COMPLETED else Exit.OK


def _wait(mesh: SquidMesh, run: Run, timeout: float | None) -> Run:
    try:
        ended = mesh.wait_for_run(run.id, timeout)
    except KeyboardInterrupt:
        talk(f"run {run.id} goes on")
        raise
    lasted = took(ended.finished_at - ended.created_at if ended.finished_at else None)
    why = f": {error_line(ended.error)}" if ended.error else ""
    talk(f"run {ended.id} {ended.status} after {lasted}{why}")
    return ended


def _add_hint(error: InvalidPayload, assignments: list[str]) -> None:
    """A number given as ``key=5`` is a text: say how to give a number."""
    texts = [key for key in texts_among(assignments) if key in error.invalid_fields]
    if texts:
        error.add_note(
            f"hint: -p {texts[0]}=... gives a text; -p {texts[0]}:=... gives a number, true, null, a list or an object"
        )
