"""Notes what squidmesh sends to the database from this process: the server keeps no such list without an extension."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def noting(note: Callable[[str, Any], None]) -> Iterator[None]:
    """Have each command noted, BEGIN and COMMIT included.

    Args:
        note: Called with its text and its parameters, before it is sent.
    """

    class NotingCursor(psycopg.Cursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Self:
            note(args[0], args[1] if len(args) > 1 else None)
            return super().execute(*args, **kwargs)

    original = psycopg.Cursor
    psycopg.Cursor = NotingCursor  # type: ignore[misc] # every cursor is made by this name
    try:
        yield
    finally:
        psycopg.Cursor = original  # type: ignore[misc]
