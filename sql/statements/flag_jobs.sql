-- Tell the steps that still execute that their run is ending.
--   run_ids uuid[], channel text
-- Returns: nothing.
-- Locks: the caller has the run's. Index: jobs_pkey.
WITH flagged AS (
    UPDATE squidmesh.jobs
       SET cancelled = true
     WHERE run_id = ANY (%(run_ids)s::uuid[])
       AND worker IS NOT NULL  -- it is claimed; asked by its state, all claimed jobs there are could be looked through
    RETURNING worker
)
SELECT pg_notify(%(channel)s::text, 'worker:' || told.worker) FROM (SELECT DISTINCT worker FROM flagged) AS told
