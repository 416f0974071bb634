-- Workers whose lease is past, or that were declared dead and still have jobs.
--   id uuid: the one that asks, left out
-- Returns: id, beats, dead, host, pid, seconds since the lease ended.
-- Locks: none. It reads the table whole: a row per worker.
SELECT id, beats, dead, host, pid, extract(epoch FROM squidmesh.clock() - lease)::float8
  FROM squidmesh.workers
 WHERE (dead OR lease < squidmesh.clock()) AND id <> %(id)s::uuid
