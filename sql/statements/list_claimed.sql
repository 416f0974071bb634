-- What the database says a worker has.
--   worker uuid
-- Returns: its jobs.
-- Locks: none; nobody else changes them while the worker lives. Index: jobs_claimed.
SELECT run_id, slot, state, kind, step, visit, attempt, saw, queue, priority, lane, worker, claim, started, crashes,
       defers, reason, meters
  FROM squidmesh.jobs
 WHERE worker = %(worker)s::uuid AND state = 'claimed'
