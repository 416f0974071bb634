-- Where each step of a run stands: its latest attempt, whether it was skipped since, and its latest job.
--   run_id uuid
-- Returns: a row per step that was reached or is live; one for the step '' if the run has a deadline.
-- Locks: none. Index: attempts_pkey, audit_events_pkey, jobs_pkey.
WITH ended AS (
    SELECT DISTINCT ON (a.step) a.step, a.visit, a.status, a.kind, a.seq
      FROM squidmesh.attempts a
     WHERE a.run_id = %(run_id)s::uuid AND a.kind <> 'snapshot'
     ORDER BY a.step, a.seq DESC
), skipped AS (
    SELECT e.step, max(e.seq) AS seq
      FROM squidmesh.audit_events e
     WHERE e.run_id = %(run_id)s::uuid AND e.type = 'skipped'
     GROUP BY e.step
), live AS (
    SELECT DISTINCT ON (j.step) j.step, j.visit, j.attempt, j.saw, j.state, j.run_at, j.reason, j.kind
      FROM squidmesh.jobs j
     WHERE j.run_id = %(run_id)s::uuid
     ORDER BY j.step, j.visit DESC
)
SELECT step, ended.visit, ended.status, ended.kind, coalesce(skipped.seq > coalesce(ended.seq, 0), false),
       live.visit, live.attempt, live.saw, live.state, live.run_at, live.reason, live.kind
  FROM ended FULL JOIN skipped USING (step) FULL JOIN live USING (step)
