"""The example of a checkout with a ledger, run by itself: one order is entered whole, the other one not at all."""

from __future__ import annotations

import subprocess
import sys

from tests.acceptance.cli_kit import ROOT, CommandLine


def test_an_order_is_entered_whole_or_not_at_all(fresh_database: str) -> None:
    environ = {**CommandLine().environ, "SQUIDMESH_DATABASE_URL": fresh_database}
    command = [sys.executable, str(ROOT / "examples" / "local_ledger_checkout.py")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "completed: o-1 is yours; 3 entries",
        "completed: o-2 has to be paid in advance",
        "o-1 sales          -72.00",
        "o-1 tax            -18.00",
        "o-1 customer:ann    90.00",
    ]
