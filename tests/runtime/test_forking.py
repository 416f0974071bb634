"""A mesh that was made before a fork works in the child, and leaves what is the parent's to the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# In a process of its own: pytest has threads, and Python warns of forking with threads from 3.12 on.
SCRIPT = """
import os
from squidmesh import SquidMesh, Workflow

greetings = Workflow("greetings")

@greetings.step
def greet() -> dict:
    return {"said": "hello"}

heard = []
mesh = SquidMesh(workflows=[greetings])
mesh.subscribe(lambda event: heard.append(event.name))
mesh.migrate()
before = mesh.start_run(greetings)
with mesh.worker():
    mesh.wait_for_run(before.id, timeout=30)

def work(kind):
    heard.clear()
    with mesh.worker():
        run = mesh.wait_for_run(mesh.start_run(greetings).id, timeout=30)
    assert mesh.events.flush(10)
    print(kind, run.status, "run.created" in heard, "step.completed" in heard, "worker.stopped" in heard, flush=True)

child = os.fork()
if child == 0:
    work("child")
    mesh.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
work("parent")
assert mesh.inspect_run(before.id).status == "completed"
mesh.close()
"""


def test_clients_workers_and_subscribers_work_on_both_sides_of_a_fork(fresh_database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT],
        env={**os.environ, "SQUIDMESH_DATABASE_URL": fresh_database, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["child completed True True True", "parent completed True True True"]


UNCLOSED = """
from squidmesh import SquidMesh, Workflow

greetings = Workflow("greetings")

@greetings.step
def greet() -> dict:
    return {"said": "hello"}

mesh = SquidMesh(workflows=[greetings])
mesh.migrate()
print(mesh.start_run(greetings).status)
"""


def test_a_script_that_closes_nothing_ends(fresh_database: str) -> None:
    """Pools have threads, which are not waited for when they cannot end any more."""
    done = subprocess.run(
        [sys.executable, "-c", UNCLOSED],
        env={**os.environ, "SQUIDMESH_DATABASE_URL": fresh_database, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, ["pending"]), done.stderr
