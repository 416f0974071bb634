"""Kill all workers with ``kill -9`` and restart Postgres, while every kind of work is under way; see all to its end.

From the top of the repository::

    python -m examples.verification.resilience --rounds 3
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Final

from examples.verification import workflows
from examples.verification.kit import PATIENCE, Place, opened
from squidmesh import RunStatus, SquidMesh
from tests.invariants import check
from tests.waiting import until

if TYPE_CHECKING:
    from uuid import UUID

AT: Final = {
    "executing": ("execute", "claimed"),
    "queued": ("queue_up", "ready"),
    "delayed": ("delay", "sleeping"),
    "retrying": ("try_again", "sleeping"),
    "approval": ("approval", "parked"),
    "paused": ("pause", "parked"),
    "signal": ("signal", "sleeping"),
    "compensating": ("prepare", "claimed"),
}
"""The job that a run of each kind has when all goes down."""

REPEATED: Final = {"executing": "execute", "compensating": "prepare"}
"""What is cut off in the middle and therefore done again."""


def go_down(place: Place, mesh: SquidMesh, restarts: str) -> dict[str, UUID]:
    """Bring a run of each kind to where it is to be, then end everything; return the runs."""
    for held in ("executing", "undoing"):
        (place.folder / held).touch()
    place.start_worker()
    runs = {kind: mesh.start_run("hardship", {"kind": kind}).id for kind in workflows.KINDS}
    where = "SELECT step, state FROM squidmesh.jobs WHERE run_id = %s"
    for kind, run_id in runs.items():
        until(lambda r=run_id, k=kind: place.lab.rows(where, r) == [AT[k]], PATIENCE, what=kind)  # type: ignore[misc]
    mesh.approve_run(runs["approval"], actor="ann")
    mesh.send_signal(runs["approval"], "signal", "early", key="1")  # nothing of this run will wait for it
    place.kill_workers()
    if place.postgres is not None and restarts != "none":
        place.postgres.restart("immediate" if restarts == "crash" else "fast")
    for held in ("executing", "undoing"):
        (place.folder / held).unlink()
    return runs


def come_back(place: Place, mesh: SquidMesh, runs: dict[str, UUID]) -> None:
    """Start workers, decide what waits for somebody, and see every run to its end."""
    for _ in range(2):
        place.start_worker("--queues", "default:10,elsewhere:2")
    mesh.approve_run(runs["approval"], actor="bob")
    mesh.unblock_run(runs["paused"])
    mesh.send_signal(runs["signal"], "signal", {"word": "go"}, key="1")
    for kind, run_id in runs.items():
        run = mesh.wait_for_run(run_id, PATIENCE)
        expected = RunStatus.FAILED if kind == "compensating" else RunStatus.COMPLETED
        assert run.status is expected, (kind, run.status, run.error)
        query = "SELECT count(*) FROM squidmesh.attempts WHERE run_id = %s AND step = %s AND status = 'abandoned'"
        cut_off = place.lab.value(query, run_id, REPEATED.get(kind, "prepare"))
        assert cut_off == (kind in REPEATED), (kind, cut_off)
    assert place.stop_workers() == [0, 0]
    check(place.lab)


def run(rounds: int = 1, *, dsn: str | None = None) -> None:
    """Go down and come back so many times: with a crash of the server, and with an ordinary restart.

    Args:
        rounds: How often.
        dsn: A database to do it in; that server is not restarted. None: a server of its own.
    """
    with opened(dsn) as place:
        mesh = place.lab.mesh(*workflows.SOAKED, workflows.hardship)
        for number in range(rounds):
            began = time.monotonic()
            restarts = "none" if place.postgres is None else ("crash", "restart")[number % 2]
            come_back(place, mesh, go_down(place, mesh, restarts))
            took = time.monotonic() - began
            print(f"round {number + 1}: {', '.join(AT)} survived (server: {restarts}); {took:.1f} s", flush=True)


def main() -> None:
    """Read the arguments and run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often everything goes down (2)")
    run(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
