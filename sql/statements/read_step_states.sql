-- Where each step of a run stands: its latest attempt, and its jobs.
--   run_id uuid
-- Returns: a row per step that was reached or is live: step, visits, latest attempt's status, job's state, due time,
-- reason, attempt number, and whether its latest event is that it was skipped.
-- Locks: none. Index: attempts_pkey, jobs_pkey, audit_events_pkey.
WITH ended AS (
    SELECT DISTINCT ON (a.step) a.step, a.visit, a.status, a.seq
      FROM squidmesh.attempts a
     WHERE a.run_id = %(run_id)s::uuid AND a.kind <> 'snapshot'
     ORDER BY a.step, a.seq DESC
), live AS (
    SELECT DISTINCT ON (j.step) j.step, j.visit, j.attempt, j.state, j.run_at, j.reason
      FROM squidmesh.jobs j
     WHERE j.run_id = %(run_id)s::uuid
     ORDER BY j.step, j.visit DESC
), skipped AS (
    SELECT e.step, max(e.seq) AS seq
      FROM squidmesh.audit_events e
     WHERE e.run_id = %(run_id)s::uuid AND e.type = 'skipped'
     GROUP BY e.step
)
SELECT step, greatest(ended.visit, live.visit), ended.status, live.state, live.run_at, live.reason, live.attempt,
       coalesce(skipped.seq > coalesce(ended.seq, 0), false)
  FROM ended FULL JOIN live USING (step) FULL JOIN skipped USING (step)
