-- Announce a worker.
--   id uuid, pid int, host, version text, queues, knows text[], lease float8 (seconds)
-- Returns: nothing.
-- Locks: only the row it inserts. Index: workers_pkey.
INSERT INTO squidmesh.workers (id, lease, pid, host, version, queues, knows)
VALUES (%(id)s::uuid, squidmesh.clock() + make_interval(secs => %(lease)s::float8), %(pid)s::int, %(host)s::text,
        %(version)s::text, %(queues)s::text[], %(knows)s::text[])
