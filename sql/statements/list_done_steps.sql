-- List the steps of a run that were done, or may have been: whatever a replay would do again.
--   run_id uuid
-- Returns: step.
-- Locks: none. Index: attempts_pkey.
SELECT DISTINCT a.step
  FROM squidmesh.attempts a
 WHERE a.run_id = %(run_id)s::uuid AND a.status IN ('completed', 'abandoned') AND a.kind IN ('step', 'copied')
 ORDER BY a.step
