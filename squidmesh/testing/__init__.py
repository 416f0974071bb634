"""Virtual time for tests: run workflows without threads and without waiting, on a real database.

A harness owns the clock. It runs what is ready when told to, one step at a time, with the worker's own engine; between
that, time stands still. Travelling stops at every timer on the way: waits, retries and delayed starts happen in order.

Example::

    def test_settles_after_a_month():
        with squidmesh.testing.harness(workflows=[billing]) as h:
            run = h.mesh.start_run(billing, {"invoice": "i-1"})
            h.travel(days=30)
            h.assert_status(run, "completed")
"""

from __future__ import annotations

from squidmesh.errors import HarnessError
from squidmesh.testing.driver import Ran
from squidmesh.testing.faults import Call, Crash, Crashing, Failing, Replacement
from squidmesh.testing.twins import AsyncHarness, Harness, async_harness, harness

__all__ = [
    "AsyncHarness",
    "Call",
    "Crash",
    "Crashing",
    "Failing",
    "Harness",
    "HarnessError",
    "Ran",
    "Replacement",
    "async_harness",
    "harness",
]
