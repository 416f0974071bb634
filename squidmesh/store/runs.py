"""Statements about runs: lock them, save plans, start them, read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from squidmesh.planner.decisions import Vote
from squidmesh.planner.deploy import LiveRuns, NewNeed
from squidmesh.planner.facts import Completion, KeptSignal
from squidmesh.records import hot_record
from squidmesh.store import columns
from squidmesh.store.codec import encode
from squidmesh.store.rows import (
    attempt_of,
    audit_of,
    instant,
    locked_run_of,
    locked_runs_of,
    optional,
    run_of,
    step_state_of,
)
from squidmesh.store.statements import Statement, nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from squidmesh.planner.plan import LockedRun, StartPlan
    from squidmesh.records import JSON, Attempt, AuditEvent, JSONObject, Run, StepState
    from squidmesh.states import RunStatus
    from squidmesh.store.statements import Rows


@hot_record(kw_only=True)
class NewRuns:
    """Runs of one graph to start together.

    Args:
        ids: Their ids.
        payloads: Their payloads as JSON texts.
        workflow: The workflow's name.
        fingerprint: Names its graph.
        trigger: The trigger that starts them.
        plan: What each begins with.
        run_at: When they may begin.
        delay: Seconds from now until they may begin.
        replayed_from: The run that they replay.
    """

    ids: Sequence[UUID]
    payloads: Sequence[str]
    workflow: str
    fingerprint: str
    trigger: str
    plan: StartPlan
    run_at: datetime | None = None
    delay: float = 0.0
    replayed_from: UUID | None = None


def start_runs(new: NewRuns, channel: str, *, always_notify: bool) -> Statement[datetime]:
    """Start runs; the result is when they were created.

    Args:
        new: The runs.
        channel: Where workers listen.
        always_notify: Whether to notify also when no worker sleeps: inside a host's transaction nobody can know.
    """
    params: dict[str, object] = {
        "ids": columns.ids(new.ids),
        "payloads": columns.texts(new.payloads),
        "workflow": new.workflow,
        "fingerprint": new.fingerprint,
        "trigger": new.trigger,
        "replayed_from": new.replayed_from,
        "run_at": new.run_at,
        "delay": new.delay,
        "channel": channel,
        "always": always_notify,
        **beginning(new.plan),
    }
    return Statement("start_runs", params, _created_at, commits=True)


@lru_cache(maxsize=1024)  # clients plan once for a graph, and start many runs with it
def beginning(plan: StartPlan) -> Mapping[str, object]:
    """The parameters that say what runs begin with."""
    jobs = plan.jobs
    return {
        "status": plan.status.value,  # the driver looks long for how to send an enum
        "attention": plan.attention,
        "seq": plan.seq,
        "state": encode(plan.progress.to_json(), what="state").text,
        "slots": columns.whole(job.slot for job in jobs),
        "visits": columns.whole(job.visit for job in jobs),
        "reasons": columns.texts(job.reason for job in jobs),
        "steps": columns.texts(job.step for job in jobs),
        "kinds": columns.texts(job.kind for job in jobs),
        "queues": columns.texts(job.queue for job in jobs),
        "lanes": columns.whole(job.lane for job in jobs),
        "priorities": columns.whole(job.priority for job in jobs),
        "waits": columns.numbers(job.delay for job in jobs),
    }


def start_keyed(new: NewRuns, key: str, channel: str, *, always_notify: bool) -> Statement[bool]:
    """Start one run unless there is one of its workflow with the key; the result is whether it was started."""
    (run_id,), (payload,) = new.ids, new.payloads
    params: dict[str, object] = {
        "id": run_id,
        "payload": payload,
        "key": key,
        "workflow": new.workflow,
        "fingerprint": new.fingerprint,
        "trigger": new.trigger,
        "run_at": new.run_at,
        "delay": new.delay,
        "channel": channel,
        "always": always_notify,
        **beginning(new.plan),
    }
    return Statement("start_keyed", params, lambda rows: bool(rows[0][0]), commits=True)


def read_keyed(workflow: str, key: str) -> Statement[Run | None]:
    """The run of a workflow that has a key, as ``read_run`` shows it."""
    params = {"workflow": workflow, "key": key}
    return Statement("read_keyed", params, lambda rows: run_of(rows[0]) if rows else None)


def _created_at(rows: Rows) -> datetime:
    created: datetime = instant(rows[0][0])
    return created


def lock_runs(run_ids: Sequence[UUID]) -> Statement[list[LockedRun]]:
    """Lock runs without waiting; those that somebody else holds are left out."""
    return Statement("lock_runs", {"ids": columns.ids(run_ids)}, locked_runs_of)


def lock_run(run_id: UUID) -> Statement[LockedRun | None]:
    """Lock one run, waiting for whoever holds it."""
    return Statement("lock_run", {"id": run_id}, lambda rows: locked_run_of(rows[0]) if rows else None)


def read_run(run_id: UUID) -> Statement[Run | None]:
    """A run as users see it, without its context and history."""
    return Statement("read_run", {"id": run_id}, lambda rows: run_of(rows[0]) if rows else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list; None does not filter.

    Args:
        workflow: Of this workflow.
        trigger: Started by this trigger.
        key: Started with this key.
        statuses: In one of these statuses.
        since: Created at or after.
        until: Created before.
        before: Continue after this run of the page before: its created_at and id.
        limit: At most so many.
    """

    workflow: str | None = None
    trigger: str | None = None
    key: str | None = None
    statuses: tuple[RunStatus, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, UUID] | None = None
    limit: int = 50


def list_runs(wanted: RunFilter) -> Statement[list[Run]]:
    """Runs, newest first."""
    before, before_id = wanted.before or (None, None)
    params: dict[str, object] = {
        "workflow": wanted.workflow,
        "trigger": wanted.trigger,
        "key": wanted.key,
        "statuses": None if wanted.statuses is None else columns.texts(wanted.statuses),
        "since": wanted.since,
        "until": wanted.until,
        "before": before,
        "before_id": before_id,
        "most": wanted.limit,
    }
    return Statement("list_runs", params, lambda rows: [run_of(row) for row in rows])


def read_history(run_id: UUID, after: int, most: int) -> Statement[list[Attempt]]:
    """Ended attempts in order, from the first ``seq`` above ``after``."""
    params = {"run_id": run_id, "after": after, "most": most}
    return Statement("read_history", params, lambda rows: [attempt_of(row) for row in rows])


def read_outputs(run_id: UUID) -> Statement[list[tuple[int, JSONObject]]]:
    """The outputs of a run in order: (seq, output)."""
    return Statement("read_outputs", {"run_id": run_id}, lambda rows: [(seq, optional(text)) for seq, text in rows])


def read_audits(run_id: UUID, after: int, below: int | None) -> Statement[list[AuditEvent]]:
    """What was done to a run, in order, with a ``seq`` above ``after`` and below ``below``."""
    params = {"run_id": run_id, "after": after, "below": below}
    return Statement("read_audits", params, lambda rows: [audit_of(row) for row in rows])


def read_step_states(run_id: UUID) -> Statement[list[StepState]]:
    """Where each step of a run stands that was reached or is live."""
    return Statement("read_step_states", {"run_id": run_id}, lambda rows: [step_state_of(row) for row in rows])


def read_signals(run_ids: Sequence[UUID]) -> Statement[list[tuple[UUID, KeptSignal]]]:
    """The signals of locked runs that nothing has consumed yet, in order."""
    return Statement("read_signals", {"run_ids": columns.ids(run_ids)}, _kept_signals)


def _kept_signals(rows: Rows) -> list[tuple[UUID, KeptSignal]]:
    return [(run_id, KeptSignal(name, key, optional(payload))) for run_id, name, key, payload in rows]


def find_signal(run_id: UUID, name: str, key: str) -> Statement[bool]:
    """Whether a signal has been sent to a locked run already."""
    return Statement("find_signal", {"run_id": run_id, "name": name, "key": key}, bool)


def read_completions(
    wanted: Sequence[tuple[UUID, int, Iterable[str]]],
) -> Statement[list[tuple[UUID, int, Completion | None]]]:
    """Of each locked run the newest completed visit below a place in its history, of the steps that can be undone.

    Args:
        wanted: (run, place, steps).
    """
    params = {
        "run_ids": columns.ids(run_id for run_id, _, _ in wanted),
        "belows": columns.whole(below for _, below, _ in wanted),
        "steps": columns.texts("/".join(steps) for _, _, steps in wanted),
    }
    return Statement("read_completions", params, _completions)


def _completions(rows: Rows) -> list[tuple[UUID, int, Completion | None]]:
    return [
        (run_id, below, None if seq is None else Completion(seq, step, visit))
        for run_id, below, seq, step, visit in rows
    ]


def read_values(wanted: Sequence[tuple[UUID, str]]) -> Statement[list[tuple[UUID, str, JSON, datetime]]]:
    """What the contexts of locked runs have under a key, and what time it is: (run, key, value, now)."""
    params = {"run_ids": columns.ids(r for r, _ in wanted), "keys": columns.texts(k for _, k in wanted)}
    return Statement(
        "read_values", params, lambda rows: [(run, key, optional(text), instant(now)) for run, key, text, now in rows]
    )


def read_votes(run_id: UUID) -> Statement[tuple[dict[str, list[Vote]], datetime]]:
    """The approvals of a locked run's steps that were not the last ones needed, by step; and what time it is."""
    return Statement("read_votes", {"run_id": run_id}, _votes)


def _votes(rows: Rows) -> tuple[dict[str, list[Vote]], datetime]:
    found: dict[str, list[Vote]] = {}
    for step, visit, actor, _ in rows:
        if step is not None:
            found.setdefault(step, []).append(Vote(visit, optional(actor)))
    return found, instant(rows[0][3])


def list_done_steps(run_id: UUID) -> Statement[list[str]]:
    """The steps of a run that were done, or may have been."""
    return Statement("list_done_steps", {"run_id": run_id}, lambda rows: [step for (step,) in rows])


def register_definition(fingerprint: str, workflow: str, definition: JSONObject) -> Statement[None]:
    """Keep a graph under its fingerprint."""
    text = encode(definition, what="definition", limit=64 * 1024 * 1024).text
    params = {"fingerprint": fingerprint, "workflow": workflow, "definition": text}
    return Statement("register_definition", params, nothing)


def read_definitions(fingerprints: Sequence[str]) -> Statement[dict[str, JSONObject]]:
    """Graphs by their fingerprints."""
    params = {"fingerprints": columns.texts(fingerprints)}
    return Statement("read_definitions", params, lambda rows: {name: optional(text) for name, text in rows})


def count_live() -> Statement[list[LiveRuns]]:
    """The unfinished runs that may still start a step, by their graph and the steps that are live in them."""
    return Statement("count_live", {}, lambda rows: [LiveRuns(w, f, tuple(steps), n) for w, f, steps, n in rows])


def count_lacking(needs: Sequence[NewNeed]) -> Statement[dict[NewNeed, list[LiveRuns]]]:
    """For each of some needs, those of the same runs whose payload has no such key."""
    params = {
        "fingerprints": columns.texts(need.fingerprint for need in needs),
        "steps": columns.texts(need.step for need in needs),
        "keys": columns.texts(need.key for need in needs),
    }
    return Statement("count_lacking", params, _lacking)


def _lacking(rows: Rows) -> dict[NewNeed, list[LiveRuns]]:
    found: dict[NewNeed, list[LiveRuns]] = {}
    for step, key, workflow, fingerprint, steps, count in rows:
        runs = LiveRuns(workflow, fingerprint, tuple(steps), count)
        found.setdefault(NewNeed(fingerprint, step, key), []).append(runs)
    return found
