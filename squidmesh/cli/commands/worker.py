"""``squidmesh worker``: run the steps of the app's workflows until told to stop.

The first SIGTERM or SIGINT stops it in good order, the second at once. The handlers only put a note into a queue that
is safe for that; everything else happens on the main thread, or on the thread that does the stopping.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Literal

import psycopg

from squidmesh.authoring.wording import listed
from squidmesh.cli.app import opened_mesh
from squidmesh.cli.exits import Exit
from squidmesh.cli.output import Screen, span
from squidmesh.cli.values import duration, queues
from squidmesh.cli.worker_log import LEVELS, JSONFormatter, TextFormatter, log_events, mark_records, set_up_logging
from squidmesh.errors import WorkerStopped
from squidmesh.worker.process import dedicate_process
from squidmesh.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Generator

    from squidmesh.cli.arguments import Commands
    from squidmesh.client import SquidMesh
    from squidmesh.worker.worker import Worker

_CUT_OFF_SECONDS: Final = 5.0
"""How long a worker that shall stop at once may take to tell the database; others take over after its lease."""

_FLUSH_SECONDS: Final = 2.0
_MOST_LISTED: Final = 5
_DEFAULTS: Final = WorkerSettings()

logger = logging.getLogger("squidmesh.worker")

Note = signal.Signals | Literal["ended", "stopped"]


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "worker",
        "run the steps of your workflows; SIGTERM or Ctrl-C stops it in good order, a second one at once",
        run,
    )
    parser.add_argument(
        "--queues",
        type=queues,
        default=dict(_DEFAULTS.queues),
        metavar="NAME:N,...",
        help="the queues to serve, and how many steps of each run at once (default:10)",
    )
    _add_duration(parser, "--grace", _DEFAULTS.grace, "how long running steps may go on when it is told to stop")
    _add_duration(parser, "--heartbeat", _DEFAULTS.beat, "how often it says that it is alive, and looks for itself")
    _add_duration(parser, "--lease", _DEFAULTS.lease, "how long after a heartbeat others take it to be alive")
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="what is logged on stderr (info)")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="(text); --json: as JSON, on stdout"
    )


def _add_duration(parser: ArgumentParser, name: str, default: float, said: str) -> None:
    parser.add_argument(name, type=duration, default=default, metavar="DURATION", help=f"{said} ({default:g}s)")


def run(options: Namespace, screen: Screen) -> int:
    """Work until told to stop."""
    stream = sys.stdout if options.json else sys.stderr
    as_json = options.json or options.log_format == "json"
    formatter = JSONFormatter() if as_json else TextFormatter(Screen.of(stream, os.environ).paint)
    set_up_logging(stream, formatter, options.log_level)
    del screen
    with opened_mesh(options, needs_app=True) as mesh:
        mark_records()
        worker = mesh.worker(
            queues=options.queues, grace=options.grace, lease=options.lease, heartbeat=options.heartbeat
        )
        forget = log_events(mesh)
        dedicate_process()
        try:
            return _serve(mesh, worker)
        finally:
            mesh.events.flush(_FLUSH_SECONDS)
            forget()


def _serve(mesh: SquidMesh, worker: Worker) -> int:
    notes: SimpleQueue[Note] = SimpleQueue()
    with _noting_signals(notes):
        worker.start()
        _say_what_it_does(mesh, worker)
        threading.Thread(target=_watch, args=(worker, notes), daemon=True).start()
        # The longest wait of all: for ever, but for signals.
        first = notes.get()
        if not isinstance(first, signal.Signals):
            worker.stop()  # says why it ended
            return Exit.OK
        _say_what_it_waits_for(worker, first)
        threading.Thread(target=_stop, args=(worker, notes), daemon=True).start()
        return _see_it_stop(worker, notes)


def _see_it_stop(worker: Worker, notes: SimpleQueue[Note]) -> int:
    """Wait for the good order; a second signal ends it."""
    patience: float | None = None
    while True:
        try:
            note = notes.get(timeout=patience)
        except Empty:
            logger.error("the database was not told in time; others take over after the lease")  # noqa: TRY400
            return Exit.FAILURE
        if note == "stopped":
            worker.stop()  # has happened; raises if its engine failed
            logger.info("worker %s stopped", worker.id)
            return Exit.OK
        if isinstance(note, signal.Signals):
            logger.warning("%s again: stopping at once; what still runs is given back", note.name)
            worker.cut_off()
            patience = _CUT_OFF_SECONDS


@contextmanager
def _noting_signals(notes: SimpleQueue[Note]) -> Generator[None]:
    """Note signals instead of dying of them."""
    stops = (signal.SIGTERM, signal.SIGINT)
    # SimpleQueue.put is reentrant, and so about all that a handler may do.
    before = {number: signal.signal(number, lambda which, _: notes.put(signal.Signals(which))) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(worker: Worker, notes: SimpleQueue[Note]) -> None:
    with suppress(WorkerStopped):
        worker.wait()
    notes.put("ended")


def _stop(worker: Worker, notes: SimpleQueue[Note]) -> None:
    try:
        worker.stop()
    except (WorkerStopped, psycopg.Error):
        logger.debug("stopping failed", exc_info=True)
    finally:
        notes.put("stopped")


def _say_what_it_does(mesh: SquidMesh, worker: Worker) -> None:
    workflows = mesh.registry.workflows
    serves = worker.settings.queues
    places = ", ".join(f"{queue}:{count}" for queue, count in serves.items())
    names = ", ".join(f"{name} ({len(workflow.definition.steps)} steps)" for name, workflow in workflows.items())
    logger.info(
        "worker %s started: queues %s; workflows %s; schema %s; pid %d",
        worker.id,
        places,
        names or "none",
        mesh.schema,
        os.getpid(),
    )
    if not workflows:
        logger.warning("the app has no workflows, so there is nothing to do: SquidMesh(workflows=[...])")
    for queue, steps in _unserved(mesh, worker).items():
        logger.info("does not serve queue %s, which needs another worker: %s", queue, listed(steps))


def _unserved(mesh: SquidMesh, worker: Worker) -> dict[str, list[str]]:
    """The steps in queues that this worker does not serve."""
    found: dict[str, list[str]] = {}
    for name, workflow in mesh.registry.workflows.items():
        for step in workflow.definition.steps:
            if step.options.queue not in worker.settings.queues:
                found.setdefault(step.options.queue, []).append(f"{name}/{step.name}")
    return found


def _say_what_it_waits_for(worker: Worker, why: signal.Signals) -> None:
    running = worker.running
    if not running:
        logger.info("%s: stopping; no step is running", why.name)
        return
    shown = ", ".join(f"{step.step} of run {step.run_id}" for step in running[:_MOST_LISTED])
    more = f" and {len(running) - _MOST_LISTED} more" if len(running) > _MOST_LISTED else ""
    logger.info(
        "%s: stopping; waiting up to %s for %s%s; a second signal stops at once",
        why.name,
        span(worker.settings.grace),
        shown,
        more,
    )
