-- Declare a worker dead: from now on its renewal fails for ever.
--   id uuid, beats bigint: as seen at both looks; if it has beaten since, it lives
-- Returns: a row if it is dead now.
-- Locks: its row. Index: workers_pkey.
UPDATE squidmesh.workers SET dead = true WHERE id = %(id)s::uuid AND beats = %(beats)s::bigint RETURNING id
