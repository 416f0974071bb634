"""What must be true of a schema at any time, and what must be true when all has come to rest: a look at all its rows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from squidmesh.planner.progress import Progress
from tests.waiting import until

if TYPE_CHECKING:
    from tests.lab import Lab

ALWAYS = {
    "an ended run has jobs": """
        SELECT r.id, r.status, j.step, j.state FROM squidmesh.runs r JOIN squidmesh.jobs j ON j.run_id = r.id
         WHERE r.finished_at IS NOT NULL""",
    "a run that has not ended has no job that could wake it": """
        SELECT r.id, r.status FROM squidmesh.runs r
         WHERE r.finished_at IS NULL AND NOT EXISTS (SELECT FROM squidmesh.jobs j WHERE j.run_id = r.id)""",
    "a status and finished_at disagree": """
        SELECT id, status FROM squidmesh.runs
         WHERE (status IN ('completed', 'failed', 'cancelled')) <> (finished_at IS NOT NULL)""",
    "a job has no run": """
        SELECT j.run_id FROM squidmesh.jobs j WHERE NOT EXISTS (SELECT FROM squidmesh.runs r WHERE r.id = j.run_id)""",
    "a history has gaps or doubles": """
        SELECT r.id, r.seq, count(h.seq), count(DISTINCT h.seq) FROM squidmesh.runs r
          LEFT JOIN (SELECT run_id, seq FROM squidmesh.attempts UNION ALL
                     SELECT run_id, seq FROM squidmesh.audit_events) h ON h.run_id = r.id
         GROUP BY r.id, r.seq
        HAVING count(h.seq) <> r.seq - 1 OR count(DISTINCT h.seq) <> r.seq - 1 OR max(h.seq) > r.seq - 1""",
    "a visit completed twice": """
        SELECT run_id, step, visit FROM squidmesh.attempts WHERE kind = 'step' AND status = 'completed'
         GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "an attempt that counts was made twice": """
        SELECT run_id, step, visit, attempt FROM squidmesh.attempts WHERE kind = 'step' AND status = 'failed'
         GROUP BY 1, 2, 3, 4 HAVING count(*) > 1""",
    "something happened in a visit after it completed": """
        SELECT a.run_id, a.step, a.visit FROM squidmesh.attempts a JOIN squidmesh.attempts b USING (run_id, step, visit)
         WHERE a.kind = 'step' AND b.kind = 'step' AND a.status = 'completed' AND b.seq > a.seq""",
    "a signal was consumed by what did not complete, or two by one": """
        SELECT s.run_id, s.consumed_by FROM squidmesh.signals s
          LEFT JOIN squidmesh.attempts a ON (a.run_id, a.seq, a.status) = (s.run_id, s.consumed_by, 'completed')
         WHERE s.consumed_by IS NOT NULL GROUP BY 1, 2 HAVING count(a.seq) <> 1""",
    "a run's graph is not stored": """
        SELECT id FROM squidmesh.runs r
         WHERE NOT EXISTS (SELECT FROM squidmesh.definitions d WHERE d.fingerprint = r.fingerprint)""",
    "a job is claimed by nobody": """
        SELECT run_id, step FROM squidmesh.jobs WHERE state = 'claimed' AND worker IS NULL""",
    "a sleeping job will never wake": """
        SELECT run_id, step FROM squidmesh.jobs WHERE (state = 'sleeping') <> (run_at IS NOT NULL)""",
    "a job shares a limit and is claimed without asking it, or the other way round": """
        SELECT run_id, step FROM squidmesh.jobs WHERE (lane >= 4) <> (meters IS NOT NULL) AND state <> 'claimed'""",
    "a parked job has no reason": """
        SELECT run_id, step FROM squidmesh.jobs WHERE state = 'parked' AND reason IS NULL""",
}

SAID_AND_DONE = {
    "a compensation completed twice": """
        SELECT run_id, step, visit FROM squidmesh.attempts WHERE kind = 'compensation' AND status = 'completed'
         GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "something was undone that had not completed before": """
        SELECT c.run_id, c.step, c.visit FROM squidmesh.attempts c WHERE c.kind = 'compensation' AND NOT EXISTS (
               SELECT FROM squidmesh.attempts a WHERE a.run_id = c.run_id AND a.step = c.step AND a.visit = c.visit
                  AND a.kind = 'step' AND a.status = 'completed' AND a.seq < c.seq)""",
    "an older visit was undone before a newer one": """
        SELECT run_id, step, visit FROM (
            SELECT c.run_id, c.step, c.visit, a.seq, lag(a.seq) OVER (PARTITION BY c.run_id ORDER BY c.seq) AS undone_before
              FROM squidmesh.attempts c JOIN squidmesh.attempts a USING (run_id, step, visit)
             WHERE c.kind = 'compensation' AND a.kind = 'step' AND a.status = 'completed') undoing
         WHERE seq > undone_before""",
    "a step ended after the undoing had begun": """
        SELECT a.run_id, a.step, a.visit FROM squidmesh.attempts a JOIN squidmesh.audit_events e USING (run_id)
         WHERE e.type = 'compensating' AND a.kind = 'step' AND a.seq > e.seq""",
    "not all that could be undone was tried": """
        SELECT e.run_id, e.metadata FROM squidmesh.audit_events e JOIN squidmesh.runs r ON r.id = e.run_id
          JOIN squidmesh.definitions d USING (fingerprint)
         WHERE e.type = 'compensated'
           AND (e.metadata ->> 'undone')::int + (e.metadata ->> 'left')::int <> (
               SELECT count(*) FROM squidmesh.attempts a
                WHERE a.run_id = e.run_id AND a.kind = 'step' AND a.status = 'completed'
                  AND d.definition -> 'steps' -> a.step -> 'compensate' IS NOT NULL)""",
    "a run was undone and is not over": """
        SELECT r.id, r.status FROM squidmesh.runs r JOIN squidmesh.audit_events e ON e.run_id = r.id
         WHERE e.type = 'compensated' AND r.status NOT IN ('failed', 'cancelled')""",
    "a gate was decided twice": """
        SELECT run_id, step, metadata ->> 'visit' FROM squidmesh.audit_events
         WHERE type IN ('approved', 'rejected', 'resumed') GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "somebody voted twice": """
        SELECT run_id, step, metadata ->> 'visit', actor FROM squidmesh.audit_events
         WHERE type IN ('voted', 'approved') GROUP BY 1, 2, 3, 4 HAVING count(*) > 1""",
    "two signals ended one wait": """
        SELECT run_id, consumed_by FROM squidmesh.signals WHERE consumed_by IS NOT NULL
         GROUP BY 1, 2 HAVING count(*) > 1""",
    "a signal ended what is no wait for it": """
        SELECT s.run_id, s.name, s.key FROM squidmesh.signals s WHERE s.consumed_by IS NOT NULL AND NOT EXISTS (
               SELECT FROM squidmesh.attempts a
                WHERE a.run_id = s.run_id AND a.seq = s.consumed_by AND a.status = 'completed' AND a.outcome = 'ok')""",
    "a delivery and its audit event disagree": """
        SELECT run_id, seq FROM squidmesh.signals s FULL JOIN (
               SELECT * FROM squidmesh.audit_events WHERE type = 'signalled') e USING (run_id, seq)
         WHERE s.name IS DISTINCT FROM e.metadata ->> 'signal' OR s.key IS DISTINCT FROM e.metadata ->> 'key'""",
}
"""Of people, signals and undoing."""

BUSY = "a job is still claimed or ready"

AT_REST = {
    BUSY: "SELECT run_id, step, state, worker FROM squidmesh.jobs WHERE state IN ('claimed', 'ready')",
    "a run is said to be at work, and nothing of it is": """
        SELECT r.id, r.status FROM squidmesh.runs r WHERE status IN ('pending', 'retrying', 'failing', 'cancelling')
           AND NOT EXISTS (SELECT FROM squidmesh.jobs j
                            WHERE j.run_id = r.id AND (j.state <> 'parked' OR j.reason = 'unknown_step'))""",
    "a run has not ended and nobody can see for what it waits": """
        SELECT r.id, r.status FROM squidmesh.runs r WHERE r.finished_at IS NULL AND NOT EXISTS (
               SELECT FROM squidmesh.jobs j WHERE j.run_id = r.id AND j.state IN ('parked', 'sleeping'))""",
}

AFTER_STOP = {
    "a worker's row is left": "SELECT id, dead FROM squidmesh.workers",
}


def check(lab: Lab, *, at_rest: bool = True, workers_left: bool = True) -> None:
    """Fail with all that is wrong with the schema.

    Args:
        lab: Whose schema.
        at_rest: Whether nothing should be happening any more; what workers are still at is waited for.
        workers_left: Whether workers may still be there.
    """
    if at_rest and workers_left:
        with suppress(AssertionError):  # what is wrong is said below
            until(lambda: not lab.rows(AT_REST[BUSY]))
    queries = ALWAYS | SAID_AND_DONE | (AT_REST if at_rest else {}) | ({} if workers_left else AFTER_STOP)
    wrong: dict[str, object] = {said: found[:5] for said, query in queries.items() if (found := lab.rows(query))}
    wrong |= _states_and_jobs(lab)
    assert not wrong, wrong


def _states_and_jobs(lab: Lab) -> dict[str, object]:
    """The counts in a run's state are those of its jobs, and of the signals that wait for it."""
    found = lab.rows(
        """SELECT r.id, r.state, count(*) FILTER (WHERE kind <> 'timer'), count(*) FILTER (WHERE human),
                  count(*) FILTER (WHERE attempt > 1 AND NOT human AND kind <> 'timer'),
                  count(*) FILTER (WHERE human AND reason IN ('interrupted', 'quarantined') AND kind <> 'timer'),
                  count(*) FILTER (WHERE kind = 'timer'),
                  (SELECT coalesce(jsonb_object_agg(name, count), '{}') FROM (
                       SELECT name, count(*) FROM squidmesh.signals s
                        WHERE s.run_id = r.id AND consumed_by IS NULL GROUP BY 1) waiting)
             FROM squidmesh.runs r LEFT JOIN (
                  SELECT *, kind = 'gate' OR state = 'parked' AND reason NOT IN ('unknown_step', 'signal') AS human
                    FROM squidmesh.jobs) j ON j.run_id = r.id
            GROUP BY r.id"""
    )
    wrong: list[object] = []
    for run_id, state, *counts in found:
        of = Progress.from_json(state)
        known = [of.live_count, of.gates, of.retrying, of.troubles, int(of.deadline), of.signals]
        if known != counts:
            wrong.append((run_id, known, counts))
    return {"a run's state and its rows disagree": wrong[:5]} if wrong else {}
