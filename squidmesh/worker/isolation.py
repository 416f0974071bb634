"""One bad value harms one run: a batch that cannot be stored is halved until the run that spoils it stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from squidmesh.planner.outcome import Broken, Failed
from squidmesh.worker.body import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.worker.carried import CarriedRun

DATA_ERRORS: Final = ("22", "23", "54")
"""SQLSTATE classes that say that a value cannot be stored: data exception, integrity violation, limit exceeded."""

VALUE_ERRORS: Final = (ValueError, TypeError, OverflowError)
"""What building a statement raises for a value that cannot be sent."""


def save_isolated(batch: list[CarriedRun], save: Callable[[list[CarriedRun]], None]) -> None:
    """Save a batch with ``save``, or its halves, or in place of what cannot be stored a plain failure.

    Raises:
        psycopg.Error: It is not a value's fault.
    """
    try:
        save(batch)
    except (psycopg.Error, *VALUE_ERRORS) as error:
        if not is_data_error(error) or not batch:
            raise
        if len(batch) == 1:
            _save_broken(batch[0], error, save)
        else:
            save_isolated(batch[: len(batch) // 2], save)
            save_isolated(batch[len(batch) // 2 :], save)


def _save_broken(run: CarriedRun, error: Exception, save: Callable[[list[CarriedRun]], None]) -> None:
    """Save a plain failure in place of what cannot be stored; if that fails too, only that it is broken."""
    said = describe(error, retryable=False)
    for happening in (Failed(said, retryable=False), Broken({"type": said["type"], "message": "cannot be stored"})):
        for ticket in run.results:
            ticket.happening = happening
        try:
            save([run])
        except (psycopg.Error, *VALUE_ERRORS) as again:
            if not is_data_error(again):
                raise
            error = again
        else:
            return
    raise error


def is_data_error(error: Exception) -> bool:
    """Whether a value cannot be stored, by the server's word, or the driver's, which looks at values first."""
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "")[:2] in DATA_ERRORS or isinstance(error, psycopg.DataError)
    return True
