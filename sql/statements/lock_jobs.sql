-- Lock all jobs of locked runs, so that none of them is claimed or woken until the plan is saved.
--   run_ids uuid[]
-- Returns: all their jobs.
-- Locks: jobs FOR UPDATE; a claim in flight is waited for (it comes last in its transaction and never waits itself).
-- Index: jobs_pkey.
SELECT run_id, slot, state, kind, step, visit, attempt, saw, queue, priority, lane, worker, claim, started, crashes,
       defers, reason, meters
  FROM squidmesh.jobs
 WHERE run_id = ANY (%(run_ids)s::uuid[])
 ORDER BY run_id, slot
   FOR UPDATE
