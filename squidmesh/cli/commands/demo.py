"""``squidmesh demo``: its grammar; the demo itself is loaded only when somebody wants to see it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from squidmesh.cli.exits import Exit, UsageError
from squidmesh.embedded import given_dsn

if TYPE_CHECKING:
    from argparse import Namespace

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("demo", "show what squidmesh does, on a Postgres of its own, in ten seconds", run)
    parser.add_argument("--code", action="store_true", help="print the workflow that the demo runs, and run nothing")


def run(options: Namespace, screen: Screen) -> int:
    """Run the demo, or print its workflow."""
    from squidmesh.cli.demo_show import code, play  # noqa: PLC0415 - no other command should wait for it

    if options.app or options.schema:
        raise UsageError("demo has an app of its own, and a schema that it drops at the end: no --app, no --schema")
    if not options.code:
        return play(options.dsn or given_dsn(os.environ), screen, as_json=options.json)
    if options.json:
        screen.write_json(code=code())
    else:
        screen.say(code(), end="")
    return Exit.OK
