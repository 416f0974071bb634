"""``squidmesh schedules``: what fires when, and what a person may do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit, UsageError
from squidmesh.cli.output import Column, Row, Table, plain, talk
from squidmesh.cli.values import instant_or_ago, positive
from squidmesh.cli.views import run_json

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.client import SquidMesh
    from squidmesh.records import JSONObject, Run
    from squidmesh.timetable import Schedule

VERBS: Final = ("list", "next", "pause", "resume", "trigger", "backfill")
STARTING: Final = ("trigger", "backfill")
"""The verbs that start runs, and so need the app."""

_OPTIONS: Final = {"workflow": "list", "count": "next", "since": "backfill", "until": "backfill"}
"""Which verb an option is for."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("schedules", "list, pause, resume, trigger or backfill schedules", run)
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help=f"what to do: {', '.join(VERBS)}")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the schedule; for all but list")
    parser.add_argument("--workflow", metavar="NAME", help="list: only of this workflow")
    parser.add_argument("--count", metavar="N", type=positive, help="next: so many nominal times (5), up to 1000")
    parser.add_argument(
        "--since", metavar="WHEN", type=instant_or_ago, help="backfill: from here, ISO 8601, or a duration ago (2d)"
    )
    parser.add_argument("--until", metavar="WHEN", type=instant_or_ago, help="backfill: until before; now by default")


def run(options: Namespace, screen: Screen) -> int:
    """Do what the verb says."""
    verb: str = options.verb
    if (options.name is None) != (verb == "list"):
        raise UsageError(f"schedules {verb} takes {'no NAME' if verb == 'list' else 'the NAME of a schedule'}")
    for option, owner in _OPTIONS.items():
        if verb != owner and getattr(options, option) is not None:
            raise UsageError(f"--{option} is for: schedules {owner}")
    if verb == "backfill" and options.since is None:
        raise UsageError("schedules backfill needs --since, and takes --until")
    with opened_mesh(options, needs_app=verb in STARTING) as mesh:
        if verb == "list":
            _list(mesh.schedules.list(workflow=options.workflow), options, screen)
        elif verb == "next":
            _next(mesh.schedules.next_times(options.name, options.count or 5), options, screen)
        elif verb in STARTING:
            _started(_start(mesh, options), options, screen)
        else:
            change = mesh.schedules.pause if verb == "pause" else mesh.schedules.resume
            _changed(change(options.name), options, screen)
    return Exit.OK


def _start(mesh: SquidMesh, options: Namespace) -> Sequence[Run]:
    if options.verb == "trigger":
        return [mesh.schedules.trigger_now(options.name)]
    return mesh.schedules.backfill(options.name, options.since, options.until or datetime.now(UTC))


def _list(schedules: Sequence[Schedule], options: Namespace, screen: Screen) -> None:
    if options.json:
        screen.write_json(schedules=[schedule_json(schedule) for schedule in schedules])
        return
    if not schedules:
        talk("no schedules; those that code declares are there once a worker has started")
        return
    columns = [
        Column("schedule", flexible=True),
        Column("expression"),
        Column("zone"),
        Column("state"),
        Column("next (UTC)"),
        Column("last (UTC)", optional=True),
        Column("passed over", optional=True),
    ]
    table = Table(columns)
    for schedule in schedules:
        state = state_of(schedule)
        skipped = f"{schedule.skipped}, {schedule.skip_reason}" if schedule.skipped else ""
        cells = [schedule.name, schedule.expression, schedule.timezone, state]
        times = [_time(schedule.next_at if state == "active" else None), _time(schedule.last_at)]
        table.rows.append(Row([*cells, *times, skipped], ["", "", "", "" if state == "active" else "yellow"]))
    screen.say("\n".join(table.lines(screen)))


def _next(times: Sequence[datetime], options: Namespace, screen: Screen) -> None:
    if options.json:
        screen.write_json(schedule=options.name, next=times)
        return
    if not times:
        talk(f"{options.name} names no time that is to come")
    for at in times:
        screen.say(f"{at:%Y-%m-%d %H:%M:%S} UTC")


def _changed(schedule: Schedule, options: Namespace, screen: Screen) -> None:
    if options.json:
        screen.write_json(schedule=schedule_json(schedule))
    else:
        screen.say(state_of(schedule))


def _started(runs: Sequence[Run], options: Namespace, screen: Screen) -> None:
    if options.json:
        screen.write_json(runs=[run_json(run) for run in runs])
        return
    if not runs:
        talk("nothing to start: there is no nominal time that has no run")
    for run in runs:
        screen.say(str(run.id))


def state_of(schedule: Schedule) -> str:
    """Where a schedule stands, in a word."""
    return "retired" if schedule.retired else "paused" if schedule.paused else "active"


def schedule_json(schedule: Schedule) -> JSONObject:
    """A schedule as ``--json`` prints it."""
    said: JSONObject = plain(schedule)
    policy = said.pop("policy")
    catch_up = {"window": policy["window"], "mode": schedule.policy.mode}
    return {**said, "catch_up": catch_up, "overlap": policy["overlap"], "jitter": policy["jitter"]}


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
