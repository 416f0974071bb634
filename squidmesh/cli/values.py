"""Values on the command line: durations, instants, queues and payloads, each refused with what would be right."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from squidmesh.cli.exits import UsageError
from squidmesh.worker.settings import DEFAULT_CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squidmesh.records import JSON, JSONObject

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def duration(text: str) -> float:
    """Seconds: ``5``, ``5s``, ``500ms``, ``2m``, ``1h30m``, ``2d``.

    Raises:
        ArgumentTypeError: It is not a duration.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(f"({_PART.pattern})+", text):
        raise ArgumentTypeError(f"{text!r} is not a duration; write 5, 5s, 500ms, 2m, 1h30m or 2d")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def instant(text: str) -> datetime:
    """An instant: ISO 8601 with an offset.

    Raises:
        ArgumentTypeError: It is not one, or says not in which time zone.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an instant; write 2026-03-01T09:00:00Z") from None
    if value.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} says not in which time zone; write {text}Z, or {text}+02:00")
    return value


def instant_or_ago(text: str) -> datetime:
    """An instant, or a duration before now: ``2h`` is two hours ago.

    Raises:
        ArgumentTypeError: It is neither.
    """
    try:
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    except OverflowError:
        raise ArgumentTypeError(f"{text!r} ago is before the calendar begins") from None
    except ArgumentTypeError:
        pass
    try:
        return instant(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error}, or 2h for two hours ago") from None


def queues(text: str) -> dict[str, int]:
    """Queues with a concurrency each: ``default:20,slow:2``; a name alone has the default concurrency.

    Raises:
        ArgumentTypeError: It is not such a list.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"([^:\s]+)(?::(\d{1,6}))?", part.strip())
        if match is None:
            raise ArgumentTypeError(f"{part!r} is not a queue with a concurrency; write default:20,slow:2")
        name, count = match[1], int(match[2] or DEFAULT_CONCURRENCY)
        if name in found:
            raise ArgumentTypeError(f"queue {name!r} is given twice")
        found[name] = count
    return found


def positive(text: str) -> int:
    """A number of things.

    Raises:
        ArgumentTypeError: It is not a whole number above 0.
    """
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    """A schema version, or a place in a history.

    Raises:
        ArgumentTypeError: It is not a whole number.
    """
    if not re.fullmatch(r"\d{1,9}", text):
        raise ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def payload_of(given: str | None, assignments: Sequence[str]) -> JSON:
    """The payload: ``--payload`` overlaid with each ``-p``; None if there is neither.

    Args:
        given: JSON, ``@file``, or ``-`` for stdin.
        assignments: ``key=text`` or ``key:=json``.

    Raises:
        UsageError: One of them cannot be read.
    """
    whole = None if given is None else _json(*_read(given, "--payload"))
    if not assignments:
        return whole
    if whole is not None and not isinstance(whole, dict):
        raise UsageError("-p adds keys to --payload, which must then be a JSON object")
    named: dict[str, Any] = {}
    for assignment in assignments:
        key, value = _assigned(assignment)
        if key in named:
            raise UsageError(f"-p {key} is given twice")
        named[key] = value
    return {**cast("JSONObject", whole or {}), **named}


def object_of(given: str | None, option: str) -> JSONObject | None:
    """A JSON object; None if there is none.

    Args:
        given: JSON, ``@file``, or ``-`` for stdin.
        option: The option that it was given to.

    Raises:
        UsageError: It cannot be read, or is no object.
    """
    if given is None:
        return None
    value = _json(*_read(given, option))
    if not isinstance(value, dict):
        raise UsageError(f'{option} must be a JSON object, such as {{"ticket": "T-17"}}')
    return cast("JSONObject", value)


def actor_of(given: str | None) -> JSON:
    """Who does it: a text as it stands, or an object if it looks like one.

    Raises:
        UsageError: It looks like a JSON object, and is none.
    """
    return object_of(given, "--actor") if given is not None and given.lstrip().startswith("{") else given


def texts_among(assignments: Sequence[str]) -> list[str]:
    """The keys that were given as text, with ``key=text``."""
    return [name for name, operator, _ in map(_split, assignments) if operator == "="]


def _read(given: str, option: str) -> tuple[str, str]:
    """The text that was meant, and what to call it."""
    if given == "-":
        return sys.stdin.read(), "stdin"
    if not given.startswith("@"):
        return given, option
    try:
        return Path(given[1:]).read_text(encoding="utf-8"), given[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {given}: cannot read the file: {error}") from error


def _json(text: str, where: str) -> JSON:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, where))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from error


def _once(pairs: list[tuple[str, JSON]], where: str) -> JSONObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: key {twice!r} is given twice")
    return found


def _split(assignment: str) -> tuple[str, str, str]:
    name, equals, value = assignment.partition("=")
    return (name[:-1], ":=", value) if equals and name.endswith(":") else (name, equals, value)


def _assigned(assignment: str) -> tuple[str, JSON]:
    name, operator, value = _split(assignment)
    if not name or not operator:
        raise UsageError(f"-p {assignment}: write key=text, or key:=json for numbers, lists and the like")
    return name, _json(value, f"-p {name}:=") if operator == ":=" else value
