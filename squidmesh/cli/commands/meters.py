"""``squidmesh meters``: what steps share, who holds it and who waits, and what a person may do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit, UsageError
from squidmesh.cli.output import Column, Row, Table, plain, talk
from squidmesh.cli.values import duration, instant, positive

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from datetime import datetime

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.meters import Meter

VERBS: Final = ("list", "pause", "resume")

MOST_SHOWN: Final = 100

_OPTIONS: Final = {"limit": "list", "seconds": "pause", "until": "pause"}
"""Which verb an option is for."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("meters", "list, pause or resume limits and rates", run)
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help=f"what to do: {', '.join(VERBS)}")
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="the limit or rate, with the value of its key; list: how names begin"
    )
    parser.add_argument("--limit", metavar="N", type=positive, help=f"list: so many ({MOST_SHOWN}), up to 1000")
    parser.add_argument(
        "--for", metavar="DURATION", dest="seconds", type=duration, help="pause: for so long, such as 600 or 10m"
    )
    parser.add_argument("--until", metavar="WHEN", type=instant, help="pause: until then, ISO 8601 with an offset")


def run(options: Namespace, screen: Screen) -> int:
    """Do what the verb says."""
    verb: str = options.verb
    if verb != "list" and options.name is None:
        raise UsageError(f"meters {verb} takes the NAME of a limit or rate")
    for option, owner in _OPTIONS.items():
        if verb != owner and getattr(options, option) is not None:
            raise UsageError(f"--{'for' if option == 'seconds' else option} is for: meters {owner}")
    if verb == "pause" and (options.seconds is None) == (options.until is None):
        raise UsageError("meters pause takes either --for or --until")
    with opened_mesh(options) as mesh:
        if verb == "list":
            _list(mesh.meters.list(options.name, options.limit or MOST_SHOWN), options, screen)
        elif verb == "pause":
            _changed(mesh.meters.pause(options.name, seconds=options.seconds, until=options.until), options, screen)
        else:
            _changed(mesh.meters.resume(options.name), options, screen)
    return Exit.OK


def _list(meters: Sequence[Meter], options: Namespace, screen: Screen) -> None:
    if options.json:
        screen.write_json(meters=[plain(meter) for meter in meters])
        return
    if not meters:
        talk("no limit or rate is in use")
        return
    columns = [
        Column("limit or rate", flexible=True),
        Column("at work", right=True),
        Column("of", right=True),
        Column("waiting", right=True),
        Column("tokens", right=True, optional=True),
        Column("paused until (UTC)", optional=True),
    ]
    table = Table(columns)
    for meter in meters:
        tokens = "" if meter.tokens is None else str(int(meter.tokens + 1e-9))
        counts = [str(meter.held), "" if meter.most is None else str(meter.most), str(meter.waiting), tokens]
        paused = f"{meter.paused_until:%Y-%m-%d %H:%M:%S}" if meter.paused_until else ""
        table.rows.append(Row([meter.name, *counts, paused], ["", "", "", "", "", "yellow" if paused else ""]))
    screen.say("\n".join(table.lines(screen)))


def _changed(meter: Meter, options: Namespace, screen: Screen) -> None:
    if options.json:
        screen.write_json(meter=plain(meter))
    else:
        screen.say("not paused" if meter.paused_until is None else f"paused until {_time(meter.paused_until)}")


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
