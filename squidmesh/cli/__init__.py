"""The command line: ``squidmesh``, or ``python -m squidmesh``.

Data goes to stdout, talk to stderr. Whatever goes wrong is one line and an exit code (``exits``). Signal handlers are
installed here and nowhere else in the package.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from squidmesh.cli.arguments import Commands
from squidmesh.cli.commands import demo, deploy, diff, meters, migrate, reasons, runs, schedules, start, steer, worker
from squidmesh.cli.exits import Exit, as_json, exit_of, explain
from squidmesh.cli.output import Screen, one_line, talk

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; by default that of this process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a stream that somebody put there in place of the real one
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    screen = Screen.of(sys.stdout, os.environ)
    try:
        return _run(given, screen)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nor must the interpreter complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        talk("interrupted")
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the top of the program: nobody is shown a traceback unasked
        if "--debug" in given:
            traceback.print_exception(error)
        talk(explain(error))
        for note in getattr(error, "__notes__", ()):
            talk(one_line(str(note)))
        if "--json" in given:
            screen.write_json(error=as_json(error))
        return exit_of(error)


def commands() -> Commands:
    """The command line's grammar."""
    known = Commands()
    for module in (migrate, deploy, worker, demo):
        module.add(known)
    start.add_start(known)
    runs.add(known)
    reasons.add(known)
    diff.add(known)
    steer.add(known)
    start.add_replay(known)
    schedules.add(known)
    meters.add(known)
    return known


def _run(given: Sequence[str], screen: Screen) -> int:
    known = commands()
    options = known.parse(given)
    if options.command is None:
        known.parser.print_help(sys.stderr)
        return Exit.USAGE
    code: int = options.run(options, screen)
    return code
