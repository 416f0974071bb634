"""What the server itself can do: durable steps written by pgbench, fifty in a transaction, by one client.

It knows no workflow, decides nothing, runs no body and reads nothing back: no engine can be faster in one process, and
how near one comes says more than its steps per second, because both move with the machine.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.benchmarks.figures import Figures
from tests.benchmarks.gauges import Counters

if TYPE_CHECKING:
    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

HERE: Final = Path(__file__).parent
STEPS: Final = 50
"""Steps in one transaction of limit_step.sql."""


def measure_limit(server: BenchServer, scale: Scale) -> Figures:
    """pgbench's durable steps: fifty in a transaction, one client, prepared."""
    with server.fresh_database() as database:
        with server.connect(database) as connection:
            connection.execute((HERE / "limit_schema.sql").read_bytes())
        server.settle(database)
        with server.connect() as admin:
            before, cpu = Counters.read(admin, database), server.cpu_seconds()
            said = _pgbench(server, database, scale.limit_seconds)
            cost, cpu = Counters.read(admin, database) - before, server.cpu_seconds() - cpu
    rate, count = _figure(r"tps = ([\d.]+)", said), _figure(r"actually processed: (\d+)", said)
    steps = count * STEPS
    return Figures(
        rate * STEPS,
        {
            "commits/step": cost.commits / steps,
            "rows/step": cost.rows / steps,
            "WAL bytes/step": cost.wal_bytes / steps,
            "full pages/step": cost.full_pages / steps,
            "server CPU us/step": cpu / steps * 1e6,
        },
    )


def _pgbench(server: BenchServer, database: str, seconds: int) -> str:
    command = [str(server.bin / "pgbench"), "--no-vacuum", "--protocol=prepared", "--client=1", "--jobs=1"]
    command += [f"--time={seconds}", "--define=next=0", f"--file={HERE / 'limit_step.sql'}", server.dsn(database)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, f"pgbench did not say {pattern!r}:\n{text}"
    return float(found[1])
