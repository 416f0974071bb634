"""What must be true of a schema at any time, and what must be true when all has come to rest: a look at all its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.planner.progress import Progress

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
    "a visit was undone twice, or undone though it had not completed": """
        SELECT run_id, step, visit FROM squidmesh.attempts u WHERE u.kind = 'compensation' AND u.status = 'completed'
         GROUP BY 1, 2, 3
        HAVING count(*) > 1 OR NOT EXISTS (
               SELECT FROM squidmesh.attempts a
                WHERE (a.run_id, a.step, a.visit) = (u.run_id, u.step, u.visit)
                  AND a.kind = 'step' AND a.status = 'completed' AND a.seq < min(u.seq))""",
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
    "a parked job has no reason": """
        SELECT run_id, step FROM squidmesh.jobs WHERE state = 'parked' AND reason IS NULL""",
}

AT_REST = {
    "a job is still claimed or ready": "SELECT run_id, step, state, worker FROM squidmesh.jobs WHERE state IN ('claimed', 'ready')",
}

AFTER_STOP = {
    "a worker's row is left": "SELECT id, dead FROM squidmesh.workers",
}


def check(lab: Lab, *, at_rest: bool = True, workers_left: bool = True) -> None:
    """Fail with all that is wrong with the schema.

    Args:
        lab: Whose schema.
        at_rest: Whether nothing should be happening any more.
        workers_left: Whether workers may still be there.
    """
    queries = ALWAYS | (AT_REST if at_rest else {}) | ({} if workers_left else AFTER_STOP)
    wrong: dict[str, object] = {said: found[:5] for said, query in queries.items() if (found := lab.rows(query))}
    wrong |= _states_and_jobs(lab)
    assert not wrong, wrong


def _states_and_jobs(lab: Lab) -> dict[str, object]:
    """The counts in a run's state are those of its jobs."""
    found = lab.rows(
        """SELECT r.id, r.state, count(j.slot) FILTER (WHERE j.kind <> 'timer'),
                  count(*) FILTER (WHERE j.kind = 'gate' OR trouble),
                  count(*) FILTER (WHERE trouble),
                  count(*) FILTER (WHERE j.attempt > 1 AND j.kind <> 'gate' AND NOT trouble),
                  count(*) FILTER (WHERE j.kind = 'timer'),
                  (SELECT count(*) FROM squidmesh.signals s WHERE s.run_id = r.id AND s.consumed_by IS NULL)
             FROM squidmesh.runs r
             LEFT JOIN (SELECT *, state = 'parked' AND reason IN ('quarantined', 'interrupted') AS trouble
                          FROM squidmesh.jobs) j ON j.run_id = r.id
            GROUP BY r.id"""
    )
    wrong: list[object] = []
    for run_id, state, *counts in found:
        known = Progress.from_json(state)
        said = [known.live_count, known.gates, known.troubles, known.retrying, int(known.deadline)]
        if [*said, sum(known.signals.values())] != counts:
            wrong.append((run_id, state, counts))
    return {"a run's state and its jobs disagree": wrong[:5]} if wrong else {}
