-- Delete a schedule. Its runs stay.
--   name text
-- Returns: nothing.
-- Locks: the caller has it. Index: schedules_pkey.
DELETE FROM squidmesh.schedules WHERE name = %(name)s::text
