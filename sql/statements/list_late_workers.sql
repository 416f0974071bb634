-- Workers whose lease is past, that were declared dead, or of which nothing is left but their jobs; and those whose
-- lease says nothing, because the clock was set back since: a dead one would be waited for until it has caught up.
--   id uuid: the one that asks, left out
-- Returns: id, beats, dead, host, pid, seconds since the lease ended; how many it may be silent, if that says nothing.
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
SELECT w.id, w.beats, w.dead, w.host, w.pid, extract(epoch FROM squidmesh.clock() - w.lease)::float8,
       CASE WHEN w.renewed_at > squidmesh.clock() THEN extract(epoch FROM w.lease - w.renewed_at)::float8 ELSE 0 END
  FROM squidmesh.workers w
 WHERE (w.dead OR w.lease < squidmesh.clock() OR w.renewed_at > squidmesh.clock()) AND w.id <> %(id)s::uuid
UNION ALL
-- A worker whose row is gone: it was taken away by hand, or claimed once more while it was declared dead.
SELECT holder.worker, 0::bigint, true, '', 0, 0::float8, 0::float8
  FROM holder
 WHERE holder.worker IS NOT NULL AND NOT EXISTS (SELECT FROM squidmesh.workers w WHERE w.id = holder.worker)
