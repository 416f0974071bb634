"""The one save path: plans become statements, one set-wise statement for each kind of row, however many plans."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from squidmesh.store import columns
from squidmesh.store.jobs import notify
from squidmesh.store.meters import pause_meters
from squidmesh.store.statements import Statement, nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from squidmesh.planner.plan import ConsumedSignal, NewAttempt, NewAudit, NewSignal, NextJob, Plan, StartPlan

_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def save_plans(plans: Sequence[Plan], channel: str) -> list[Statement[Any]]:
    """The statements that write plans. The caller holds the locks of their runs.

    Args:
        plans: At most one for a run.
        channel: Where workers and waiters listen: whose step is to stop, and whose run has ended, is told.
    """
    plans = [plan for plan in plans if plan.changes]
    attempts = [(plan.run.id, attempt) for plan in plans for attempt in plan.attempts]
    audits = [(plan.run.id, audit) for plan in plans for audit in plan.audits]
    moved = [(plan.run.id, job) for plan in plans for job in plan.moved]
    added = [(plan.run.id, job) for plan in plans for job in plan.added]
    removed = [(plan.run.id, slot) for plan in plans for slot in plan.removed]
    sent = [(plan.run.id, signal) for plan in plans for signal in plan.signals]
    taken = [(plan.run.id, signal) for plan in plans for signal in plan.consumed]
    flagged = [plan.run.id for plan in plans if plan.flag]
    paused = [(name, seconds, None) for plan in plans for name, seconds in plan.pauses]
    awaited = [f"run:{plan.run.id}" for plan in plans if plan.progress.watched and plan.finished]
    found = [
        _save_runs(plans) if plans else None,
        _insert_attempts(attempts) if attempts else None,
        insert_audits(audits) if audits else None,
        _write_jobs("move_jobs", moved) if moved else None,
        _write_jobs("insert_jobs", added) if added else None,
        _delete_jobs(removed) if removed else None,
        _insert_signals(sent) if sent else None,
        _consume_signals(taken) if taken else None,
        Statement("flag_jobs", {"run_ids": columns.ids(flagged), "channel": channel}, nothing) if flagged else None,
        pause_meters(paused) if paused else None,
        notify(channel, awaited) if awaited else None,
    ]
    return [statement for statement in found if statement is not None]


def begin_histories(run_ids: Sequence[UUID], plan: StartPlan) -> list[Statement[Any]]:
    """The statements for what new runs have in their history from the start: mostly nothing, and so none."""
    attempts = [(run_id, attempt) for run_id in run_ids for attempt in plan.attempts]
    audits = [(run_id, audit) for run_id in run_ids for audit in plan.audits]
    found = [_insert_attempts(attempts) if attempts else None, insert_audits(audits) if audits else None]
    return [statement for statement in found if statement is not None]


def _json(value: object) -> str | None:
    return None if value is None else _dump(value)


def _save_runs(plans: Sequence[Plan]) -> Statement[None]:
    params = {
        "ids": columns.ids(plan.run.id for plan in plans),
        "statuses": columns.words(plan.status for plan in plans),
        "attentions": columns.words(plan.attention for plan in plans),
        "seqs": columns.whole(plan.seq for plan in plans),
        "states": _dump([plan.progress.to_json() for plan in plans]),
        "errors": columns.texts(_json(plan.error) for plan in plans),
        "ended": columns.flags(plan.status.terminal for plan in plans),
    }
    return Statement("save_runs", params, nothing)


def _insert_attempts(rows: Sequence[tuple[UUID, NewAttempt]]) -> Statement[None]:
    said = [attempt for _, attempt in rows]
    params = {
        "run_ids": columns.ids(run_id for run_id, _ in rows),
        "seqs": columns.whole(a.seq for a in said),
        "steps": columns.words(a.step for a in said),
        "visits": columns.whole(a.visit for a in said),
        "attempts": columns.whole(a.attempt for a in said),
        "saws": columns.whole(a.saw for a in said),
        "kinds": columns.words(a.kind for a in said),
        "statuses": columns.words(a.status for a in said),
        "outcomes": columns.words(a.outcome for a in said),
        "outputs": columns.texts(a.output.text if a.output else None for a in said),
        "errors": columns.texts(_json(a.error) for a in said),
        "workers": columns.ids(a.worker for a in said),
        "takes": columns.texts(columns.texts(a.takes) if a.takes is not None else None for a in said),
        "started": columns.seconds(a.started_ago for a in said),
        "finished": columns.seconds(a.finished_ago for a in said),
    }
    return Statement("insert_attempts", params, nothing)


def insert_audits(rows: Sequence[tuple[UUID, NewAudit]]) -> Statement[None]:
    """Add audit events to the histories of runs."""
    said = [audit for _, audit in rows]
    params = {
        "run_ids": columns.ids(run_id for run_id, _ in rows),
        "seqs": columns.whole(a.seq for a in said),
        "types": columns.words(a.type for a in said),
        "steps": columns.words(a.step for a in said),
        "actors": columns.texts(_json(a.actor) for a in said),
        "comments": columns.texts(a.comment for a in said),
        "metadata": columns.texts(_dump(a.metadata) for a in said),
    }
    return Statement("insert_audits", params, nothing)


def _insert_signals(rows: Sequence[tuple[UUID, NewSignal]]) -> Statement[None]:
    said = [signal for _, signal in rows]
    params = {
        "run_ids": columns.ids(run_id for run_id, _ in rows),
        "names": columns.texts(s.name for s in said),
        "keys": columns.texts(s.key for s in said),
        "payloads": columns.texts(s.payload.text for s in said),
        "seqs": columns.whole(s.seq for s in said),
        "consumed": columns.numbers(s.consumed_by for s in said),
    }
    return Statement("insert_signals", params, nothing)


def _consume_signals(rows: Sequence[tuple[UUID, ConsumedSignal]]) -> Statement[None]:
    said = [signal for _, signal in rows]
    params = {
        "run_ids": columns.ids(run_id for run_id, _ in rows),
        "names": columns.texts(s.name for s in said),
        "keys": columns.texts(s.key for s in said),
        "consumed": columns.whole(s.consumed_by for s in said),
    }
    return Statement("consume_signals", params, nothing)


def _write_jobs(name: str, rows: Sequence[tuple[UUID, NextJob]]) -> Statement[None]:
    jobs = [job for _, job in rows]
    params = {
        "run_ids": columns.ids(run_id for run_id, _ in rows),
        "slots": columns.whole(job.slot for job in jobs),
        "states": columns.words(job.state for job in jobs),
        "kinds": columns.words(job.kind for job in jobs),
        "steps": columns.words(job.step for job in jobs),
        "visits": columns.whole(job.visit for job in jobs),
        "attempts": columns.whole(job.attempt for job in jobs),
        "saws": columns.whole(job.saw for job in jobs),
        "queues": columns.words(job.queue for job in jobs),
        "priorities": columns.whole(job.priority for job in jobs),
        "lanes": columns.whole(job.lane for job in jobs),
        "delays": columns.numbers(job.delay for job in jobs),
        "workers": columns.ids(job.worker for job in jobs),
        "claims": columns.whole(job.claim for job in jobs),
        "started": columns.flags(job.started for job in jobs),
        "crashes": columns.whole(job.crashes for job in jobs),
        "defers": columns.whole(job.defers for job in jobs),
        "reasons": columns.words(job.reason for job in jobs),
        "meters": columns.texts(job.meters for job in jobs),
        "same": columns.flags(job.same_visit for job in jobs),
    }
    return Statement(name, params, nothing)


def _delete_jobs(rows: Iterable[tuple[UUID, int]]) -> Statement[None]:
    gone = list(rows)
    params = {"run_ids": columns.ids(r for r, _ in gone), "slots": columns.whole(s for _, s in gone)}
    return Statement("delete_jobs", params, nothing)
