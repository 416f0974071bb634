"""Exit codes, and how an error becomes one line: whatever goes wrong, nobody is shown a traceback unasked.

``docs/cli.md`` prints the table, and a test compares it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

import psycopg

from squidmesh.cli.output import one_line
from squidmesh.errors import (
    AlreadyVoted,
    CommitUnknown,
    ConfigurationError,
    DefinitionError,
    IllegalMove,
    InvalidOption,
    NotFound,
    NotRetryable,
    NotWaiting,
    RequestError,
    RunExists,
    RunTimeout,
    ScheduleExists,
    SchemaError,
    SquidMeshError,
    UnsafeReplay,
)

if TYPE_CHECKING:
    from squidmesh.records import JSONObject


class Exit(IntEnum):
    """What the process's exit code says."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    SCHEMA = 5
    TIMED_OUT = 6
    UNREACHABLE = 7
    STRANDS = 8
    INTERRUPTED = 130


MEANINGS: Final = {
    Exit.OK: "done",
    Exit.FAILURE: "failure: the run ended badly, the worker's engine failed, or something unexpected",
    Exit.USAGE: "usage: arguments, payload, app or address cannot be used; nothing was stored",
    Exit.NOT_FOUND: "no such run, workflow, trigger, schedule, signal, limit or rate",
    Exit.REFUSED: "refused by a rule: the run's status, a key that is taken, nothing that waits for it, or a replay "
    "that is not safe",
    Exit.SCHEMA: "the schema is missing or not the one this squidmesh serves; migrate --check: something is pending",
    Exit.TIMED_OUT: "timed out waiting; the run goes on",
    Exit.UNREACHABLE: "the database cannot be reached, or the connection broke",
    Exit.STRANDS: "check-deploy: there are live runs that could not finish with this code",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}


class UsageError(SquidMeshError):
    """The command line cannot be used as it is."""

    code = "usage"


_CODES: Final = (
    ((UsageError, RequestError, ConfigurationError, DefinitionError), Exit.USAGE),
    ((NotFound,), Exit.NOT_FOUND),
    ((AlreadyVoted, IllegalMove, NotRetryable, NotWaiting, RunExists, ScheduleExists, UnsafeReplay), Exit.REFUSED),
    ((SchemaError,), Exit.SCHEMA),
    ((RunTimeout,), Exit.TIMED_OUT),
    ((psycopg.OperationalError, psycopg.InterfaceError, CommitUnknown), Exit.UNREACHABLE),
)


def exit_of(error: Exception) -> Exit:
    """The exit code that says what kind of error this is."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), Exit.FAILURE)


def explain(error: Exception) -> str:
    """The error as one line, in the words of the command line."""
    match error:
        case SquidMeshError():
            return _explained(error)
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return f"the database cannot be reached, or the connection broke: {one_line(str(error))}"
        case psycopg.Error():
            return f"the database refused: {one_line(str(error))}"
        case _:
            return f"unexpected {type(error).__name__}: {one_line(str(error))} (--debug shows where)"


def _explained(error: SquidMeshError) -> str:
    said = one_line(str(error))
    match error:
        case UnsafeReplay():
            done = ", ".join(error.steps)
            said = (
                f"run {error.run_id} has completed steps that cannot be undone ({done}), which a replay would run again"
            )
            return f"{said}; add --allow-irreversible if that is meant"
        case DefinitionError():
            return f"workflow {error.workflow!r} cannot be used: {'; '.join(one_line(p) for p in error.problems)}"
        case NotWaiting():
            return f"{said} (squidmesh inspect {error.run_id} shows where it stands)"
        case NotRetryable():
            return said.replace("; replay it instead", f"; replay it instead: squidmesh replay {error.run_id}")
        case InvalidOption() if error.option in _OPTIONS:
            return _as_options(said, error.option)
        case _:
            return said


_OPTIONS: Final = ("actor", "comment", "from_step", "key", "metadata", "output", "resolution", "step")
"""Options of calls that are options of the command line, too."""


def _as_options(said: str, option: str) -> str:
    """What a call would be told, with options in place of arguments."""
    said = f"--{option.replace('_', '-')}{said.removeprefix(option)}"
    return said.replace("resolution='completed'", "--resolution completed").replace("output=", "--output")


def as_json(error: Exception) -> JSONObject:
    """The error as ``--json`` prints it: ``error`` (its code), ``message``, and what else it knows."""
    if isinstance(error, SquidMeshError):
        return error.to_json()
    code = "database_unreachable" if exit_of(error) is Exit.UNREACHABLE else "unexpected"
    return {"error": code, "message": explain(error)}
