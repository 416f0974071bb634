"""The worker's log: its format, and the events that an operator wants to read there.

Records made while a step runs carry run_id, workflow, trigger, step and attempt, whoever made them: in text at the end
of the line, in JSON as keys.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from squidmesh import events
from squidmesh.cli.output import JSON_VERSION, one_line, span, took
from squidmesh.cli.views import error_line
from squidmesh.logs import FIELDS, StepFilter
from squidmesh.states import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from squidmesh.cli.output import Style
    from squidmesh.client import SquidMesh
    from squidmesh.events import Event

LEVELS: Final = ("debug", "info", "warning", "error")

_LEVEL_STYLES: Final[dict[int, Style]] = {
    logging.DEBUG: "dim",
    logging.WARNING: "yellow",
    logging.ERROR: "red",
    logging.CRITICAL: "red",
}

logger = logging.getLogger("squidmesh.worker")


class TextFormatter(logging.Formatter):
    """One line a record, for people: time in UTC, level, message, and of which step it is.

    Args:
        paint: Gives a text a style.
    """

    def __init__(self, paint: Callable[[str, Style], str]) -> None:
        super().__init__()
        self._paint = paint

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        at = datetime.fromtimestamp(record.created, UTC)
        where = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = (
            f"{self._paint(f'{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}Z', 'dim')} "
            f"{self._paint(record.levelname.lower().ljust(8), _LEVEL_STYLES.get(record.levelno, ''))} "
            f"{one_line(record.getMessage())}  {self._paint(where, 'dim')}"
        ).rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        said: dict[str, object] = {
            "schema_version": JSON_VERSION,
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        event = getattr(record, "event", None)
        if event is not None:
            said["event"] = event
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def _fields(record: logging.LogRecord) -> dict[str, str | int]:
    found = {name: getattr(record, name, None) for name in FIELDS}
    return {
        name: value if isinstance(value, int) else one_line(str(value))
        for name, value in found.items()
        if value is not None
    }


def set_up_logging(stream: TextIO, formatter: logging.Formatter, level: str) -> None:
    """Send the log to ``stream``. An app that sets up logging itself, when it is loaded, has the last word."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])


def mark_records() -> None:
    """Let the records of all handlers say of which step they are; after the app was loaded."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(StepFilter())


def log_events(mesh: SquidMesh) -> Callable[[], None]:
    """Log what happens to steps and runs, as far as the level wants to know; returns what ends it."""
    wanted = [name for name, (level, _) in _TOLD.items() if logger.isEnabledFor(level)]
    return mesh.subscribe(_log, *wanted) if wanted else lambda: None


_TOLD: Final = {
    events.STEP_STARTED: (logging.DEBUG, "{step} started"),
    events.STEP_COMPLETED: (logging.DEBUG, "{step} completed in {took}"),
    events.STEP_SKIPPED: (logging.INFO, "{step} skipped: a step that it waits for did not end well"),
    events.STEP_RETRY_SCHEDULED: (logging.INFO, "{step} will be tried again in {delay}"),
    events.STEP_FAILED: (logging.WARNING, "{step} failed: {error}"),
    events.STEP_ABANDONED: (logging.WARNING, "{step} was cut off: {error}"),
    events.GATE_OPENED: (logging.INFO, "{step} waits for a person: {reason}"),
    events.COMPENSATION_STARTED: (logging.DEBUG, "undoing {step}"),
    events.COMPENSATION_COMPLETED: (logging.INFO, "{step} undone in {took}"),
    events.COMPENSATION_FAILED: (logging.WARNING, "undoing {step} failed: {error}"),
    events.STEP_DISCARDED: (logging.WARNING, "a late result was discarded: the step is somebody else's by now"),
    events.RUN_TRANSITION: (logging.ERROR, "run {to_status}"),
}
"""The level and the words for each event; of a run's transition, the highest level that it may have."""

_TRANSITION_LEVELS: Final = {
    RunStatus.COMPLETED: logging.INFO,
    RunStatus.CANCELLED: logging.INFO,
    RunStatus.FAILED: logging.ERROR,
}


def _log(event: Event) -> None:
    about = event.metadata
    level, words = _TOLD[event.name]
    if event.name == events.RUN_TRANSITION:
        level = _TRANSITION_LEVELS.get(RunStatus(about["to_status"]), logging.DEBUG)
    if not logger.isEnabledFor(level):
        return
    said = words.format(
        step=about.get("step"),
        reason=about.get("reason"),
        to_status=about.get("to_status"),
        error=error_line(about.get("error")),
        took=took(event.measurements.get("duration")),
        delay=span(event.measurements.get("delay", 0.0)),
    )
    fields: dict[str, object] = {name: about[name] for name in FIELDS if name in about}
    logger.log(level, "%s", said, extra={**fields, "run_id": event.run_id, "event": event.name})
