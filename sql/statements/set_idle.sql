-- Say whether a worker sleeps, so that starts notify only those who need it.
--   id uuid, idle boolean
-- Returns: nothing.
-- Locks: its row. Index: workers_pkey.
UPDATE squidmesh.workers SET idle = %(idle)s::boolean WHERE id = %(id)s::uuid
