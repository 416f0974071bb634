"""Let everything happen at once for a while, workers that are killed included; then look at every row that is left.

From the top of the repository::

    python -m examples.verification.soak --seconds 60
    python -m examples.verification.soak --seconds 600 --seed 17 --workers 4

Clients start, approve, reject, unblock, signal, cancel, retry and replay runs by chance, and write down what they were
told. Meanwhile worker processes are killed, frozen and stopped. In the end all comes to rest, and three things must
hold: the promises of the rows (``tests/invariants.py``), that what is stored is what clients were told, and that every
run which still waits can be ended. The seed decides what is asked, not which thread is faster: it tells what was tried,
and finds the same again only with luck.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from examples.verification import workflows
from examples.verification.kit import PATIENCE, Place, opened
from squidmesh.errors import (
    AlreadyVoted,
    IllegalMove,
    InvalidOption,
    NotRetryable,
    NotWaiting,
    SignalNotFound,
    UnsafeReplay,
)
from tests.invariants import check
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from squidmesh import Run, SquidMesh

REFUSALS: Final = (AlreadyVoted, IllegalMove, InvalidOption, NotRetryable, NotWaiting, SignalNotFound, UnsafeReplay)
"""What a client that asks by chance is told now and then. Any other error ends the soak."""

ACTORS: Final = ("ann", "bob", "cem")
NAMES: Final = {"order": "paid", "talk": "word"}
"""The signal that runs of a workflow wait for."""


@dataclass
class Told:
    """What clients were told has happened. Appending and counting are safe among threads under one lock."""

    runs: list[UUID] = field(default_factory=list["UUID"])
    replays: set[UUID] = field(default_factory=set["UUID"])
    reviews: Counter[UUID] = field(default_factory=Counter["UUID"])
    unblocked: Counter[UUID] = field(default_factory=Counter["UUID"])
    retried: Counter[UUID] = field(default_factory=Counter["UUID"])
    cancelled: set[UUID] = field(default_factory=set["UUID"])
    signals: set[tuple[UUID, str, str]] = field(default_factory=set[tuple["UUID", str, str]])
    asked: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client(threading.Thread):
    """Asks for things by chance until it is told to stop.

    Args:
        mesh: What it asks.
        told: Where it writes down what it was told.
        seed: Decides what it asks.
        over: Set when it is to stop.
        most: So many runs are started at most, by all clients together.
    """

    def __init__(self, mesh: SquidMesh, told: Told, seed: str, over: threading.Event, most: int) -> None:
        super().__init__(daemon=True)
        self.mesh, self.told, self.over, self.most = mesh, told, over, most
        self.chance = random.Random(seed)
        self.failure: BaseException | None = None
        self.ways: list[Callable[[], None]] = [
            *[self.start_one] * 6,
            *[self.review] * 8,
            *[self.send] * 8,
            *[self.unblock] * 3,
            self.cancel,
            *[self.retry] * 2,
            self.replay,
        ]

    def run(self) -> None:
        """Ask, until it is over."""
        try:
            while not self.over.wait(self.chance.uniform(0, 0.02)):
                way = self.chance.choice(self.ways)
                with self.told.lock:
                    self.told.asked[way.__name__] += 1
                try:
                    way()
                except REFUSALS as refusal:
                    with self.told.lock:
                        self.told.refused[refusal.code] += 1
        except BaseException as failure:  # noqa: BLE001 - told by whoever waits for the thread
            self.failure = failure
            self.over.set()

    def start_one(self) -> None:
        """Start a run, now or a little later; none while very many are under way."""
        if len(self.told.runs) >= self.most:
            return
        workflow = self.chance.choice(workflows.SOAKED)
        payload = None if workflow is workflows.talk else {"number": self.chance.randrange(1000)}
        delay = self.chance.choice((None, None, None, 0.3))
        run = self.mesh.start_run(workflow, payload, delay=delay)
        with self.told.lock:
            self.told.runs.append(run.id)

    def review(self) -> None:
        """Approve or reject what waits for it."""
        run = self._one_that_is("paused")
        if run is None:
            return
        actor = self.chance.choice(ACTORS)
        decide = self.mesh.reject_run if self.chance.random() < 0.1 else self.mesh.approve_run
        decide(run.id, actor=actor)
        with self.told.lock:
            self.told.reviews[run.id] += 1

    def send(self) -> None:
        """Send a signal to a run, perhaps early, perhaps again."""
        run = self._any()
        if run is None or run.workflow not in NAMES:
            return
        name, key = NAMES[run.workflow], f"delivery {self.chance.randrange(6)}"
        payload: Any = {"cents": self.chance.randrange(100)} if name == "paid" else self.chance.choice(ACTORS)
        for _ in range(self.chance.choice((1, 1, 2))):
            self.mesh.send_signal(run.id, name, payload, key=key)
            with self.told.lock:
                self.told.signals.add((run.id, name, key))

    def unblock(self) -> None:
        """Let a run go on that is paused, whatever the reason."""
        run = self._one_that_is(self.chance.choice(("paused", "compensating")))
        if run is None:
            return
        resolution = self.chance.choice((None, None, "rerun", "completed", "failed"))
        self.mesh.unblock_run(run.id, resolution=resolution, actor=self.chance.choice(ACTORS))
        with self.told.lock:
            self.told.unblocked[run.id] += 1

    def cancel(self) -> None:
        """Cancel a run, with or without undoing what it did."""
        run = self._any()
        if run is None:
            return
        self.mesh.cancel_run(run.id, compensate=self.chance.random() < 0.6, force=self.chance.random() < 0.2)
        with self.told.lock:
            self.told.cancelled.add(run.id)

    def retry(self) -> None:
        """Let a failed run go on."""
        run = self._one_that_is("failed")
        if run is None:
            return
        self.mesh.retry_run(run.id, actor=self.chance.choice(ACTORS))
        with self.told.lock:
            self.told.retried[run.id] += 1

    def replay(self) -> None:
        """Start a run over, or from one of its steps on."""
        run = self._one_that_is(self.chance.choice(("completed", "failed", "cancelled")))
        if run is None or len(self.told.runs) >= self.most:
            return
        workflow = self.mesh.registry.workflow(run.workflow)
        step = self.chance.choice([None, *(step.name for step in workflow.definition.steps)])
        new = self.mesh.replay_run(run.id, from_step=step, allow_irreversible=self.chance.random() < 0.5)
        with self.told.lock:
            self.told.runs.append(new.id)
            self.told.replays.add(new.id)

    def _any(self) -> Run | None:
        recent = self.told.runs[-80:]
        return self.mesh.inspect_run(self.chance.choice(recent)) if recent else None

    def _one_that_is(self, status: str) -> Run | None:
        found = self.mesh.list_runs(status=status, limit=40)
        return self.chance.choice(found) if found else None


def disturb(place: Place, chance: random.Random, over: threading.Event, said: Counter[str]) -> None:
    """Kill, freeze and stop workers by chance; each is replaced."""
    while not over.wait(chance.uniform(0.3, 1.5)):
        victim = chance.choice(place.workers)
        way = chance.choice(("kill", "kill", "kill", "stop", "freeze"))
        said[way] += 1
        if way == "freeze":
            victim.process.send_signal(signal.SIGSTOP)
            over.wait(chance.uniform(0.5, 2))
            victim.process.send_signal(signal.SIGCONT)
            continue
        place.workers.remove(victim)
        if way == "stop":
            victim.process.send_signal(signal.SIGTERM)
            victim.process.wait(PATIENCE)
        victim.end()
        place.start_worker()


def come_to_rest(place: Place) -> None:
    """Wait until nothing happens any more by itself, not even later."""
    restless = "SELECT step, kind, state, reason, run_id FROM squidmesh.jobs WHERE state <> 'parked' LIMIT 5"
    with suppress(AssertionError):
        until(lambda: not place.lab.rows(restless), PATIENCE)
    left = place.lab.rows(restless)
    assert not left, f"it does not come to rest: {left}"


def compare(place: Place, told: Told) -> None:
    """What is stored is what clients were told, no more and no less."""

    def audited(*types: str) -> Counter[UUID]:
        query = "SELECT run_id, count(*) FROM squidmesh.audit_events WHERE type = ANY (%s) GROUP BY 1"
        return Counter(dict(place.lab.rows(query, list(types))))

    def listed(query: str) -> Counter[Any]:
        return Counter(row[0] if len(row) == 1 else row for row in place.lab.rows(query))

    pairs: dict[str, tuple[Counter[Any], Counter[Any]]] = {
        "runs": (listed("SELECT id FROM squidmesh.runs"), Counter(told.runs)),
        "replays": (listed("SELECT id FROM squidmesh.runs WHERE replayed_from IS NOT NULL"), Counter(told.replays)),
        "signals": (listed("SELECT run_id, name, key FROM squidmesh.signals"), Counter(told.signals)),
        "reviews": (audited("voted", "approved", "rejected"), told.reviews),
        "unblocked": (audited("resumed", "resolved"), told.unblocked),
        "retried": (audited("retried"), told.retried),
        "cancelled": (Counter(set(audited("cancelled"))), Counter(told.cancelled)),
    }
    wrong = {what: (stored - said, said - stored) for what, (stored, said) in pairs.items() if stored != said}
    assert not wrong, f"stored and not told, told and not stored: {wrong}"
    alive = "SELECT id, status FROM squidmesh.runs WHERE id = ANY (%s) AND status NOT IN ('cancelled', 'failed')"
    assert not place.lab.rows(alive, list(told.cancelled))


def compare_bodies(place: Place, _: Told) -> None:
    """No body ran without an attempt to show for it, and no attempt completed without a body."""
    traces = [line.split() for line in (place.folder / "bodies").read_text().splitlines()]
    bodies = Counter((key, attempt) for key, attempt in traces)
    # One defers itself, one is begun anew after a deadlock: both leave no row then.
    ran = Counter(key for key, _ in traces if ":begin:" not in key and ":enter:" not in key)
    rows = place.lab.rows(
        """SELECT run_id || ':' || step || ':' || visit || CASE kind WHEN 'step' THEN '' ELSE ':compensation' END,
                  attempt::text, status, worker IS NOT NULL FROM squidmesh.attempts
            WHERE kind IN ('step', 'compensation') AND step = ANY (%s)""",
        [name for workflow in workflows.SOAKED for name in workflow.functions],
    )
    attempts = Counter(key for key, *_ in rows)
    hidden = {key: (count, attempts[key]) for key, count in ran.items() if count > attempts[key]}
    assert not hidden, f"bodies that ran more often than attempts show: {hidden}"
    missing = [row for row in rows if row[2] == "completed" and row[3] and not bodies[row[0], row[1]]]
    assert not missing, f"attempts that completed without a body: {missing[:5]}"


def compare_ledger(place: Place, _: Told) -> None:
    """What transactional steps wrote is there once where they completed, and nowhere else."""
    written = Counter(place.lab.rows("SELECT key, attempt FROM squidmesh.ledger"))
    completed = place.lab.rows(
        """SELECT run_id || ':enter:' || visit, attempt FROM squidmesh.attempts
            WHERE kind = 'step' AND step = 'enter' AND status = 'completed' AND worker IS NOT NULL"""
    )
    assert written == Counter(completed), (written - Counter(completed), Counter(completed) - written)


CHECKS: Final = (compare, compare_bodies, compare_ledger)
"""What must hold at rest, beside the promises of the rows. What a new kind of step promises is one more of these."""


def end_what_waits(place: Place, mesh: SquidMesh) -> int:
    """Whatever waits for somebody can be ended: cancelled, or unblocked where it is being undone already."""
    waiting = [row[0] for row in place.lab.rows("SELECT id FROM squidmesh.runs WHERE finished_at IS NULL")]
    for run_id in waiting:
        if mesh.inspect_run(run_id).status == "compensating":
            mesh.unblock_run(run_id, resolution="completed", actor="the soak")
        else:
            mesh.cancel_run(run_id, compensate=True, actor="the soak")
    place.lab.until_ended(place.lab.value("SELECT count(*) FROM squidmesh.runs"), PATIENCE)
    return len(waiting)


def run(
    seconds: float = 60,
    *,
    seed: int | None = None,
    workers: int = 3,
    clients: int = 4,
    most_runs: int = 20_000,
    dsn: str | None = None,
) -> None:
    """Soak for so long.

    Args:
        seconds: How long clients ask and workers are killed.
        seed: What is asked; by default a new one.
        workers: How many worker processes there are at a time.
        clients: How many threads ask.
        most_runs: So many runs are started at most.
        dsn: A database to do it in; None: a server of its own.
    """
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"seed {seed}: {seconds:g} s, {workers} workers, {clients} clients", flush=True)
    told, over, said = Told(), threading.Event(), Counter[str]()
    with opened(dsn) as place:
        mesh = place.lab.mesh(*workflows.SOAKED, workflows.hardship, max_connections=clients + 2)
        place.lab.rows(workflows.LEDGER)
        for _ in range(workers):
            place.start_worker()
        place.until_ready()
        asking = [Client(mesh, told, f"{seed}/{number}", over, most_runs) for number in range(clients)]
        disturbing = threading.Thread(target=disturb, args=(place, random.Random(f"{seed}/d"), over, said), daemon=True)
        for thread in (*asking, disturbing):
            thread.start()
        over.wait(seconds)
        over.set()
        for thread in (*asking, disturbing):
            thread.join(PATIENCE)
        for client in asking:
            if client.failure is not None:
                raise client.failure
        conclude(place, mesh, told)
        print(f"workers: {dict(said)}; asked: {dict(told.asked)}; refused: {dict(told.refused)}")


def conclude(place: Place, mesh: SquidMesh, told: Told) -> None:
    """Let all come to rest and look at every row, twice: with what waits for somebody, and without."""
    began = time.monotonic()
    come_to_rest(place)
    print(f"at rest after {time.monotonic() - began:.1f} s", flush=True)
    found = place.lab.rows("SELECT status, attention, count(*) FROM squidmesh.runs GROUP BY 1, 2 ORDER BY 1, 2")
    said = (f"{count} {status}" + f" ({attention})" * bool(attention) for status, attention, count in found)
    print(f"{len(told.runs)} runs: {', '.join(said)}", flush=True)
    check(place.lab)
    for holds in CHECKS:
        holds(place, told)
    print(f"{end_what_waits(place, mesh)} runs waited for somebody, and were ended")
    codes = place.stop_workers()
    assert not any(codes), f"workers ended with {codes}; {place.log.read_text()[-2000:]}"
    check(place.lab)


def main() -> int:
    """Read the arguments and run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, help="what is asked; by default a new one, which is printed")
    parser.add_argument("--workers", type=int, default=3, help="worker processes at a time (3)")
    parser.add_argument("--clients", type=int, default=4, help="threads that ask (4)")
    parser.add_argument("--most-runs", type=int, default=20_000, help="so many runs are started at most (20000)")
    chosen = parser.parse_args()
    run(
        chosen.seconds,
        seed=chosen.seed,
        workers=chosen.workers,
        clients=chosen.clients,
        most_runs=chosen.most_runs,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
