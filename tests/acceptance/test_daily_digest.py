"""The example of a schedule, run by itself: it makes up for mornings that were missed, and once only."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.acceptance.cli_kit import ROOT, CommandLine


def test_the_example_makes_up_for_three_mornings_once(database: str) -> None:
    environ = {**CommandLine().environ, "SQUIDMESH_DATABASE_URL": database}
    command = [sys.executable, str(ROOT / "examples" / "daily_digest.py")]
    first, second = (
        subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        for _ in range(2)
    )
    assert re.fullmatch(r"the next one is at \S+ 0[56]:00 UTC; three are made up for", first[0])
    assert len(first) == 4
    days = [re.fullmatch(r"(\S+) 0[56]:00 UTC: Kreuzberg sold \d+ on (\S+)", line) for line in first[1:]]
    assert all(day and day[1] > day[2] for day in days), "each is of the day before its nominal time"
    assert len({day[1] for day in days if day}) == 3
    assert len(second) == 1, "doing it again starts nothing twice"
