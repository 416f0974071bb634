-- The jobs of a worker whose run is ending: their steps are to be told.
--   worker uuid
-- Returns: run_id, slot, claim.
-- Locks: none. Index: jobs_claimed.
SELECT run_id, slot, claim FROM squidmesh.jobs WHERE worker = %(worker)s::uuid AND state = 'claimed' AND cancelled
