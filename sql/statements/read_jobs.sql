-- Read jobs of locked runs: the fence is compared with what stands here.
--   run_ids uuid[], slots int[]
-- Returns: the jobs that exist.
-- Locks: none; a claimed job changes only under its run's lock, which the caller has. Index: jobs_pkey.
SELECT j.run_id, j.slot, j.state, j.kind, j.step, j.visit, j.attempt, j.saw, j.queue, j.priority, j.lane, j.worker,
       j.claim, j.started, j.crashes, j.defers, j.reason, j.meters
  FROM unnest(%(run_ids)s::uuid[], %(slots)s::int[]) AS wanted (run_id, slot)
  JOIN squidmesh.jobs j ON j.run_id = ANY (ARRAY[wanted.run_id]) AND j.slot = wanted.slot  -- see pin_plans
