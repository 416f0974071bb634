-- Remove jobs: their steps are not live any more.
--   run_ids uuid[], slots int[]
-- Returns: nothing.
-- Locks: the caller has the run's. Index: jobs_pkey.
DELETE FROM squidmesh.jobs j
 USING unnest(%(run_ids)s::uuid[], %(slots)s::int[]) AS gone (run_id, slot)
 WHERE j.run_id = ANY (ARRAY[gone.run_id]) AND j.slot = gone.slot  -- see pin_plans
