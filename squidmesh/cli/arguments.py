"""The command line's grammar: one parser, options that may stand before or after the verb, errors of one line."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, NoReturn

from squidmesh.cli.exits import MEANINGS, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from squidmesh.cli.output import Screen

    Command = Callable[[argparse.Namespace, Screen], int]

_NARROWEST: Final = 40
"""Columns that help takes, however narrow the terminal."""


class Parser(argparse.ArgumentParser):
    """A parser that raises what it has to complain about."""

    def error(self, message: str) -> NoReturn:
        """Complain, and say where help is.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message} (see: {self.prog} --help)")


class Commands:
    """The commands, each with the common options."""

    def __init__(self) -> None:
        self.parser = Parser(
            prog="squidmesh",
            description=_filled("Durable workflows in plain Python functions, on the Postgres that you already have."),
            epilog="\n".join(["exit codes:", *(_filled(said, f"  {code:<4} ") for code, said in MEANINGS.items())]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.parser.add_argument("--version", action="version", version=f"squidmesh {_version()}")
        _add_common_options(self.parser, default=None)
        self._subparsers = self.parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(self, name: str, summary: str, run: Command, *, epilog: str | None = None) -> Parser:
        """Add a command.

        Args:
            name: The verb.
            summary: What it does, for the list of commands and for its own help.
            run: Called with the options and the screen for data; returns the exit code.
            epilog: More help, as it stands.
        """
        parser: Parser = self._subparsers.add_parser(
            name,
            help=summary,
            description=_filled(summary[0].upper() + summary[1:] + "."),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # Suppressed, lest their defaults override what was given before the verb.
        _add_common_options(parser, default=argparse.SUPPRESS)
        parser.set_defaults(run=run)
        return parser

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options.

        Raises:
            UsageError: They cannot be used.
            SystemExit: Help or the version was asked for, and printed.
        """
        return self.parser.parse_args(arguments)


def _add_common_options(parser: argparse.ArgumentParser, *, default: object) -> None:
    group = parser.add_argument_group("common options, before or after the command")
    flag = False if default is None else default
    group.add_argument(
        "--app", metavar="MODULE:ATTRIBUTE", default=default, help="where your SquidMesh is; or SQUIDMESH_APP"
    )
    group.add_argument(
        "--dsn",
        metavar="URL",
        default=default,
        help="address of the database, stronger than the app's; or SQUIDMESH_DATABASE_URL, DATABASE_URL",
    )
    group.add_argument("--schema", metavar="NAME", default=default, help="schema that squidmesh lives in")
    group.add_argument("--json", action="store_true", default=flag, help="print JSON on stdout")
    group.add_argument("--debug", action="store_true", default=flag, help="print tracebacks, too")


def _filled(text: str, name: str = "") -> str:
    """Text in as many lines as the terminal's width asks for, as argparse does it, behind a name."""
    width = max(shutil.get_terminal_size().columns - 2, _NARROWEST)
    return textwrap.fill(text, width, initial_indent=name, subsequent_indent=" " * len(name), break_on_hyphens=False)


def _version() -> str:
    try:
        return version("squidmesh")
    except PackageNotFoundError:
        return "(not installed)"
