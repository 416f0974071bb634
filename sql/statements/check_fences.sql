-- Compare the fences of jobs of locked runs: which of them are still those that a worker was handed out.
--   run_ids uuid[], slots int[], claims bigint[], worker uuid
-- Returns: their places in the arrays, from 1. Every hand-out raises the claim number, so they are as the worker knows
-- them: what changes a claimed job, but for its flag, takes it away from the worker or raises the number.
-- Locks: none; a claimed job changes only under its run's lock, which the caller has. Index: jobs_pkey.
SELECT wanted.place::int
  FROM unnest(%(run_ids)s::uuid[], %(slots)s::int[], %(claims)s::bigint[])
       WITH ORDINALITY AS wanted (run_id, slot, claim, place)
  JOIN squidmesh.jobs j ON j.run_id = ANY (ARRAY[wanted.run_id]) AND j.slot = wanted.slot  -- see pin_plans
 WHERE j.worker = %(worker)s::uuid AND j.claim = wanted.claim
   -- It is claimed, then; asked by its state, too, all claimed jobs there are could be looked through.
