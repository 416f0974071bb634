"""``squidmesh migrate``: bring the schema up to date, or say what that would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.cli.app import connection_to, find_mesh
from squidmesh.cli.exits import Exit, UsageError
from squidmesh.cli.output import talk
from squidmesh.cli.values import whole_number
from squidmesh.store.migrations import migrate, script, status

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from squidmesh.cli.arguments import Commands
    from squidmesh.cli.output import Screen
    from squidmesh.store.migrations import Migration


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "migrate", "bring the database's schema up to date; safe to repeat, and from many at once", run
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="change nothing; exit code 5 if something is pending")
    how.add_argument("--sql", action="store_true", help="change nothing; print what would be run, for psql or a DBA")
    parser.add_argument(
        "--from", dest="after", metavar="N", type=whole_number, help="with --sql: the version that is there (0)"
    )
    parser.add_argument("--to", metavar="N", type=whole_number, help="with --sql: the version wanted (the newest)")


def run(options: Namespace, screen: Screen) -> int:
    """Migrate, look, or print."""
    if not options.sql and (options.after is not None or options.to is not None):
        raise UsageError("--from and --to choose what --sql prints; give them together with it")
    mesh = find_mesh(options)
    if options.sql:
        text = script(mesh.schema, options.after or 0, options.to)
        if options.json:
            screen.write_json(sql=text)
        else:
            screen.say(text, end="")
        return Exit.OK
    with connection_to(mesh) as connection:
        if options.check:
            pending = status(connection, mesh.schema).pending
            _tell(options, screen, mesh.schema, pending=pending)
            return Exit.SCHEMA if pending else Exit.OK
        _tell(options, screen, mesh.schema, applied=migrate(connection, mesh.schema))
        return Exit.OK


def _tell(options: Namespace, screen: Screen, schema: str, **found: Sequence[Migration]) -> None:
    ((what, migrations),) = found.items()
    names = [migration.name for migration in migrations]
    if options.json:
        screen.write_json(schema=schema, **{what: names})
        return
    for name in names:
        screen.say(f"{what} {name}")
    if not names:
        talk(f"the schema {schema!r} is up to date")
