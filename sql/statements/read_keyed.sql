-- Read the run of a workflow that has a key, as users see it.
--   workflow, key text
-- Returns: the run as read_run does.
-- Locks: none. Index: runs_by_key, jobs_pkey.
SELECT r.id, r.workflow, r.trigger, r.key, r.status, r.attention, r.payload::text, r.error::text, r.fingerprint,
       r.replayed_from, r.created_at, r.finished_at, r.schedule::text, coalesce(live.claimed, false),
       coalesce(live.steps, '{}')
  FROM squidmesh.runs r
  LEFT JOIN LATERAL (
       SELECT bool_or(j.state = 'claimed') AS claimed, array_agg(DISTINCT j.step ORDER BY j.step) AS steps
         FROM squidmesh.jobs j
        WHERE j.run_id = r.id AND j.kind <> 'timer') AS live ON r.finished_at IS NULL
 WHERE r.workflow = %(workflow)s::text AND r.key = %(key)s::text
