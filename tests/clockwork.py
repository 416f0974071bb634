"""A database's clock that a test moves: ``squidmesh.clock()`` in the test's schema, with an offset read from a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from squidmesh.scheduling import TOLD

if TYPE_CHECKING:
    from tests.lab import Lab


class Clockwork:
    """The clock of a laboratory's schema. It goes on at its own pace from wherever it is set.

    Args:
        lab: The laboratory.
        start: What it shows at first.
    """

    def __init__(self, lab: Lab, start: datetime = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)) -> None:
        self._lab = lab
        lab.rows("CREATE TABLE squidmesh.clock_offset (seconds float8 NOT NULL)")
        lab.rows("INSERT INTO squidmesh.clock_offset VALUES (0)")
        lab.rows(
            "CREATE OR REPLACE FUNCTION squidmesh.clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE "
            "RETURN statement_timestamp() + make_interval(secs => (SELECT seconds FROM squidmesh.clock_offset))"
        )
        self.set(start)

    def set(self, at: datetime) -> None:
        """Set it, and let nobody know."""
        query = "UPDATE squidmesh.clock_offset SET seconds = extract(epoch FROM %s - statement_timestamp())"
        self._lab.rows(query, at)

    def step(self, **change: float) -> None:
        """Put it forward or back, and let nobody know."""
        query = "UPDATE squidmesh.clock_offset SET seconds = seconds + %s"
        self._lab.rows(query, timedelta(**change).total_seconds())

    def step_and_tell(self, **change: float) -> None:
        """Put it forward or back, and have the schedulers look now instead of within half a minute."""
        self.step(**change)
        self.tell()

    def tell(self) -> None:
        """Have the schedulers look now."""
        self._lab.rows("SELECT pg_notify(%s, %s)", self._lab.schema, TOLD)

    def now(self) -> datetime:
        """What it shows."""
        shown: datetime = self._lab.value("SELECT squidmesh.clock()")
        return shown.astimezone(UTC)


__all__ = ["Clockwork"]
