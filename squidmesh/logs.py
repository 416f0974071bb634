"""Logging: records made while a step runs say which run, step and attempt they belong to.

Attach the filter to a handler, and use its fields in the format::

    handler.addFilter(StepFilter())
    logging.Formatter("%(levelname)s %(run_id)s %(step)s %(message)s")
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.context import Context

current_step: Final[ContextVar[Callable[[], Context] | None]] = ContextVar("squidmesh_step", default=None)
"""Makes the context of the step that runs in this thread or task: most steps log nothing."""

FIELDS: Final = ("run_id", "workflow", "trigger", "step", "attempt")


class StepFilter(logging.Filter):
    """Adds ``run_id``, ``workflow``, ``trigger``, ``step`` and ``attempt`` to each record; None outside of steps."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with the fields added where they are not there already."""
        context = current_step.get()
        step = None if context is None else context()
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, getattr(step, name, None))
        return True
