"""Statements as values: what is sent to the database, before anybody sends it.

A store function returns a ``Statement``; an operation that needs several is a *flow*: a generator that yields batches
of statements and is sent their results. Two small drivers (``database``) run either, sync and async. So no operation is
written twice, and what an operation says to the database can be read in one place and tested without one.

The SQL itself is in ``sql/statements``, one file each; the schema's name is put in by exact replacement of one token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, LiteralString, TypeAlias, TypeVar, cast

from squidmesh.errors import ConfigurationError
from squidmesh.records import hot_record

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[Row]

SCHEMA_MARK: Final = "squidmesh."
"""The schema as it is written in the SQL files; only there, and always with the dot."""

DEFAULT_SCHEMA: Final = "squidmesh"


@hot_record()
class Statement(Generic[T]):
    """One statement.

    Args:
        name: The name of its file.
        params: Its parameters.
        decode: How its rows become a result.
        commits: Whether it is sent alone and changes something, so that a lost answer leaves a commit in doubt.
    """

    name: str
    params: Mapping[str, object]
    decode: Callable[[Rows], T]
    commits: bool = False


@hot_record()
class Batch:
    """Statements that are sent together, in one round trip.

    Args:
        statements: In order.
        last: Whether the transaction commits with them; nothing may follow.
        ahead: Whether they need not be waited for: the server may be at them while the flow goes on. They belong to
            the next batch's round trip, which also raises their errors; their own results are not wanted.
    """

    statements: tuple[Statement[Any], ...]
    last: bool = False
    ahead: bool = False


Flow: TypeAlias = Generator[Batch, list[Any], T]
"""An operation: yields batches, is sent the list of their results, returns its own."""


def ask(statement: Statement[T], *, last: bool = False) -> Flow[T]:
    """Run a single statement within a flow, with ``yield from``."""
    (result,) = yield Batch((statement,), last)
    return cast("T", result)


def nothing(rows: Rows) -> None:
    """Decode the rows of a statement that returns nothing of use."""
    del rows


def sql_folder() -> Path:
    """Where the SQL is: inside an installed package, or beside it in a checkout.

    Raises:
        ConfigurationError: It is in neither place: the installation is broken.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "sql", package.parent / "sql"):
        if (folder / "statements").is_dir():
            return folder
    raise ConfigurationError(f"the SQL files of squidmesh are missing beside {package}; install the package again")


def check_schema_name(schema: str) -> str:
    """The schema's name, if it may be one.

    Raises:
        ConfigurationError: It is not a plain lower-case identifier.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,47}", schema):
        raise ConfigurationError(
            f"schema name {schema!r}: use lower-case letters, digits and _, at most 48, not starting with a digit"
        )
    return schema


@cache
def sql_of(name: str, schema: str = DEFAULT_SCHEMA) -> LiteralString:
    """The text of a statement's file for a schema.

    It passes for a ``LiteralString`` here and nowhere else: the file is part of the program, and the schema's name was
    checked to be an identifier.
    """
    text = (sql_folder() / "statements" / f"{name}.sql").read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
    return body.replace(SCHEMA_MARK, f"{check_schema_name(schema)}.")  # pyright: ignore[reportReturnType]
