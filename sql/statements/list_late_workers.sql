-- Workers whose lease is past, that were declared dead, or of which nothing is left but their jobs.
--   id uuid: the one that asks, left out
-- Returns: id, beats, dead, host, pid, seconds since the lease ended.
-- Locks: none. Index: jobs_claimed, workers_pkey, an entry of each for each worker; workers is read whole (a row each).
WITH RECURSIVE holder (worker) AS (
    -- From worker to worker: what one of them has may be thousands of jobs, and this is asked with each heartbeat.
    (SELECT j.worker FROM squidmesh.jobs j WHERE j.state = 'claimed' ORDER BY j.worker LIMIT 1)
    UNION ALL
    SELECT (SELECT j.worker
              FROM squidmesh.jobs j
             WHERE j.state = 'claimed' AND j.worker > holder.worker
             ORDER BY j.worker
             LIMIT 1)
      FROM holder
     WHERE holder.worker IS NOT NULL
)
SELECT w.id, w.beats, w.dead, w.host, w.pid, extract(epoch FROM squidmesh.clock() - w.lease)::float8
  FROM squidmesh.workers w
 WHERE (w.dead OR w.lease < squidmesh.clock()) AND w.id <> %(id)s::uuid
UNION ALL
-- A worker whose row is gone: it was taken away by hand, or claimed once more while it was declared dead.
SELECT holder.worker, 0::bigint, true, '', 0, 0::float8
  FROM holder
 WHERE holder.worker IS NOT NULL AND NOT EXISTS (SELECT FROM squidmesh.workers w WHERE w.id = holder.worker)
