r"""A digest of the day before, every morning at seven in Berlin, and of mornings that were missed.

By itself, on a Postgres of its own, where it makes up for the last three mornings::

    python examples/daily_digest.py

As an app, on your database (``SQUIDMESH_DATABASE_URL``), from the directory ``examples``::

    python -m squidmesh migrate --app daily_digest:mesh
    python -m squidmesh worker --app daily_digest:mesh
    python -m squidmesh schedules list --app daily_digest:mesh
    python -m squidmesh schedules backfill daily_digest/morning --app daily_digest:mesh --since 3d
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from squidmesh import CatchUp, Context, SquidMesh, Workflow, today
from squidmesh.embedded import EmbeddedPostgres, given_dsn

if TYPE_CHECKING:
    from squidmesh import Run

SALES = {"mon": 120, "tue": 80, "wed": 95, "thu": 110, "fri": 160, "sat": 40, "sun": 25}
"""What a real one would ask a database for."""


@dataclass
class Digest:
    """What a run is started with: all of it has defaults, because a schedule has nobody to ask."""

    shop: str = "Kreuzberg"
    day: date = today()  # noqa: RUF009 - of the nominal time, also if the run begins later


daily_digest = Workflow("daily_digest")
daily_digest.cron(
    "morning",
    "0 7 * * *",
    timezone="Europe/Berlin",
    payload=Digest,
    catch_up=CatchUp(timedelta(days=2), "all"),
    overlap="queue",
)


@daily_digest.step
def count_sales(day: date) -> dict[str, Any]:
    """The sales of the day before."""
    before = day - timedelta(days=1)
    return {"sales": SALES[f"{before:%a}".lower()], "of": before.isoformat()}


@daily_digest.step
def send(ctx: Context, shop: str, sales: int, of: str) -> dict[str, str]:
    """Send it; the signal id keeps the mail service from sending the digest of a window twice."""
    once = ctx.schedule.signal_id if ctx.schedule else ctx.idempotency_key
    return {"mail": f"{shop} sold {sales} on {of}", "once": str(once)}


daily_digest.sequence(count_sales, send)

mesh = SquidMesh(workflows=[daily_digest])


def make_up(mesh: SquidMesh, days: int) -> list[Run]:
    """Start the digests of the last days that have none, and wait for them."""
    now = datetime.now(UTC)
    runs = mesh.schedules.backfill("daily_digest/morning", now - timedelta(days=days), now)
    return [mesh.wait_for_run(run.id, timeout=30) for run in runs]


def main(dsn: str) -> None:
    """Make up for three mornings, and print what was sent."""
    with SquidMesh(dsn, workflows=[daily_digest]) as here:
        here.migrate()
        with here.worker():
            (following,) = here.schedules.next_times("daily_digest/morning", 1)
            print(f"the next one is at {following:%Y-%m-%d %H:%M} UTC; three are made up for", flush=True)
            for run in make_up(here, days=3):
                assert run.schedule is not None
                assert run.context is not None
                print(f"{run.schedule.nominal_at:%Y-%m-%d %H:%M} UTC: {run.context['mail']}")


if __name__ == "__main__":
    if given := given_dsn(os.environ):
        main(given)
    else:
        with EmbeddedPostgres() as postgres:
            main(postgres.dsn)
