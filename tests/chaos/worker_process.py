"""A worker in a process of its own, for tests to kill and freeze: ``python -m tests.chaos.worker_process <settings as JSON>``.

It prints ``ready <id>`` when it works, appends each event to ``events`` in the folder, and stops in good order when its
standard input ends.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from squidmesh import SquidMesh
from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.worker import Worker
from tests.chaos import apps


def main() -> None:
    """Work until standard input ends."""
    said = json.loads(sys.argv[1])
    apps.FOLDER = Path(said["folder"])
    apps.SCHEMA = said["schema"]
    mesh = SquidMesh(said["dsn"], workflows=apps.ALL, schema=said["schema"])
    events = os.open(apps.FOLDER / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    mesh.subscribe(
        lambda e: os.write(events, json.dumps([os.getpid(), e.name, str(e.run_id), str(e.metadata)]).encode() + b"\n")
    )
    address = mesh._address
    worker = Worker(
        connect=address.connect,
        listen=address.connect_to_listen,
        address=address,
        schema=mesh.schema,
        channel=mesh.schema,
        registry=mesh.registry,
        bus=mesh.events,
        settings=WorkerSettings(**said["settings"]),
    )
    with worker:
        print(f"ready {worker.id}", flush=True)
        sys.stdin.read()
    mesh.events.flush(5)


if __name__ == "__main__":
    main()
