-- Workers whose lease is past, that were declared dead, or of which nothing is left but their jobs.
--   id uuid: the one that asks, left out
-- Returns: id, beats, dead, host, pid, seconds since the lease ended.
-- Locks: none. Index: jobs_claimed, workers_pkey; workers is read whole (a row per worker).
SELECT w.id, w.beats, w.dead, w.host, w.pid, extract(epoch FROM squidmesh.clock() - w.lease)::float8
  FROM squidmesh.workers w
 WHERE (w.dead OR w.lease < squidmesh.clock()) AND w.id <> %(id)s::uuid
UNION ALL
-- A worker whose row is gone: it was taken away by hand, or claimed once more while it was declared dead.
SELECT DISTINCT j.worker, 0::bigint, true, '', 0, 0::float8
  FROM squidmesh.jobs j
 WHERE j.state = 'claimed' AND NOT EXISTS (SELECT FROM squidmesh.workers w WHERE w.id = j.worker)
