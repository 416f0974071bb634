"""Starts that have a key: one run of a workflow for a key, whoever starts it, and however often.

The first statement inserts the run unless the key is taken; it waits for whoever is about to take it. The second reads
the run that has the key now: a statement of its own, because the first cannot see what was committed while it waited.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from squidmesh.errors import InvalidOption, RunExists
from squidmesh.store.codec import Unencodable, encode
from squidmesh.store.runs import read_keyed, start_keyed
from squidmesh.store.saving import begin_histories
from squidmesh.store.statements import Batch

if TYPE_CHECKING:
    from squidmesh.operations import Start
    from squidmesh.records import Run
    from squidmesh.store.runs import NewRuns
    from squidmesh.store.statements import Flow

OnConflict: TypeAlias = Literal["return", "raise"]
"""What a start does whose key is taken: return the run that has it, or raise ``RunExists``."""

LONGEST_KEY: Final = 200


def checked_key(key: object, option: str = "key") -> str | None:
    """A key, if it may be one.

    Raises:
        InvalidOption: It is no text, blank, too long, or cannot be stored.
    """
    if key is None:
        return None
    if not isinstance(key, str) or not key.strip():
        raise InvalidOption(option, f"must be a text that is not empty, or left out, not {key!r}")
    if len(key) > LONGEST_KEY:
        raise InvalidOption(option, f"{len(key):,} characters, and the limit is {LONGEST_KEY}: use a hash of it")
    try:
        encode(key, what=option)
    except Unencodable as error:
        raise InvalidOption(option, error.problem) from error
    return str(key)


def with_key(start: Start, key: str | None, on_conflict: OnConflict) -> Start:
    """A prepared start of one run, with its key if it has one.

    Raises:
        InvalidOption: ``key`` or ``on_conflict`` cannot be used.
    """
    if on_conflict not in ("return", "raise"):
        raise InvalidOption("on_conflict", f'must be "return" or "raise", not {on_conflict!r}')
    return start if key is None else replace(start, key=checked_key(key), on_conflict=on_conflict)


def start_or_find(
    new: NewRuns, key: str, on_conflict: OnConflict, channel: str, *, always_notify: bool
) -> Flow[list[Run] | None]:
    """Start the one run unless its key is taken, and read the run that has it.

    Returns:
        The run; None if the one that had the key was deleted before it could be read: then ask again.

    Raises:
        RunExists: The key is taken, and that was to be an error.
    """
    run: Run | None
    history = begin_histories(new.ids, new.plan)
    started, run = yield Batch(
        (start_keyed(new, key, channel, always_notify=always_notify), read_keyed(new.workflow, key)), last=not history
    )
    if run is None:
        return None
    if started:
        if history:
            yield Batch(tuple(history), last=True)
        new_run: Run = replace(run, context={})
        return [new_run]
    if on_conflict == "raise":
        raise RunExists(run.id, run.workflow, key)
    return [run]
