-- Renew a worker's lease, unless it was declared dead.
--   id uuid, lease float8 (seconds)
-- Returns: a row if it lives.
-- Locks: its row. Index: workers_pkey.
UPDATE squidmesh.workers
   SET lease = squidmesh.clock() + make_interval(secs => %(lease)s::float8), renewed_at = squidmesh.clock(),
       beats = beats + 1
 WHERE id = %(id)s::uuid AND NOT dead
RETURNING beats
