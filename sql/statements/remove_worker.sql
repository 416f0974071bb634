-- Take a worker's row away: it left in good order, or nothing of it is left to rescue.
--   id uuid
-- Returns: nothing.
-- Locks: its row. Index: workers_pkey.
DELETE FROM squidmesh.workers WHERE id = %(id)s::uuid
