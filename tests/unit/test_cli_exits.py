"""Errors as one line, an exit code, and JSON."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from squidmesh import errors
from squidmesh.cli.exits import Exit, UsageError, as_json, exit_of, explain
from squidmesh.errors import CommitUnknown

ID = UUID(int=7)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), Exit.USAGE),
        (errors.InvalidPayload("w", missing_fields=["a"]), Exit.USAGE),
        (errors.InvalidRunId("x"), Exit.USAGE),
        (errors.InvalidOption("limit", "no"), Exit.USAGE),
        (errors.ConfigurationError("no"), Exit.USAGE),
        (errors.DefinitionError("w", ["no"]), Exit.USAGE),
        (errors.RunNotFound(ID), Exit.NOT_FOUND),
        (errors.WorkflowNotFound("w"), Exit.NOT_FOUND),
        (errors.TriggerNotFound("w", "t", []), Exit.NOT_FOUND),
        (errors.IllegalMove(ID, "failed", "cancel", ["running"]), Exit.REFUSED),
        (errors.UnsafeReplay(ID, ["pay"]), Exit.REFUSED),
        (errors.RunExists(ID, "w", "k"), Exit.REFUSED),
        (errors.NotWaiting(ID, "approve", None, [], "running"), Exit.REFUSED),
        (errors.AlreadyVoted(ID, "gate", 1, 2), Exit.REFUSED),
        (errors.NotRetryable(ID, "no"), Exit.REFUSED),
        (errors.SignalNotFound(ID, "paid", []), Exit.NOT_FOUND),
        (errors.SchemaError("no"), Exit.SCHEMA),
        (errors.RunTimeout(ID, 5, "running"), Exit.TIMED_OUT),
        (psycopg.OperationalError("no"), Exit.UNREACHABLE),
        (psycopg.InterfaceError("no"), Exit.UNREACHABLE),
        (CommitUnknown("no"), Exit.UNREACHABLE),
        (psycopg.ProgrammingError("no"), Exit.FAILURE),
        (errors.WorkerStopped("no"), Exit.FAILURE),
        (ZeroDivisionError("no"), Exit.FAILURE),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: Exit) -> None:
    assert exit_of(error) is code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.UnsafeReplay(ID, ["pay"]), "add --allow-irreversible if that is meant"),
        (errors.UnsafeReplay(ID, ["pay"]), "has completed steps that cannot be undone (pay)"),
        (errors.NotWaiting(ID, "approve", None, [], "running"), f"(squidmesh inspect {ID} shows where it stands)"),
        (errors.NotRetryable(ID, "undone; replay it instead"), f"undone; replay it instead: squidmesh replay {ID}"),
        (errors.InvalidOption("from_step", "no such step"), "--from-step: no such step"),
        (
            errors.InvalidOption("resolution", "'completed' (with output= if later steps need it)"),
            "--resolution: 'completed' (with --output if",
        ),
        (errors.InvalidOption("output", "belongs to resolution='completed'"), "--output: belongs to --resolution comp"),
        (errors.InvalidOption("delay", "for later: run_at="), "delay: for later: run_at="),
        (errors.DefinitionError("w", ["step a: no", "step b: no"]), "step a: no; step b: no"),
        (psycopg.OperationalError("connection failed:\n\tis it running?"), "connection failed: is it running?"),
        (psycopg.ProgrammingError("no such table"), "the database refused: no such table"),
        (ZeroDivisionError("by zero"), "unexpected ZeroDivisionError: by zero (--debug shows where)"),
    ],
)
def test_errors_are_one_line_in_the_words_of_the_command_line(error: Exception, said: str) -> None:
    assert said in explain(error)
    assert "\n" not in explain(error)


def test_errors_as_json_have_a_code_a_message_and_their_data() -> None:
    assert as_json(errors.RunNotFound(ID)) == {
        "error": "run_not_found",
        "message": f"there is no run {ID}",
        "run_id": str(ID),
    }
    assert as_json(psycopg.OperationalError("x"))["error"] == "database_unreachable"
    assert as_json(ZeroDivisionError("x"))["error"] == "unexpected"
    assert as_json(UsageError("x"))["error"] == "usage"
