-- Claim ready jobs, queue by queue, and note for the next statement of the same transaction which runs they belong to.
--   queues text[], lanes smallint[], limits int[]   how many of each lane of each queue
--   worsts int[]                                    the worst priority of these that is wanted
--   kinds text[]                                    what this code knows to do with a job
--   worker uuid, claim bigint                       the fence under which they are handed out
-- Returns: the jobs.
-- Locks: jobs FOR UPDATE SKIP LOCKED; it never waits, and comes last in a transaction. Index: jobs_ready, one bounded
-- scan for each queue and lane (a queue = ANY (...) would sort the whole backlog), then jobs_pkey.
WITH found AS MATERIALIZED (
    SELECT ready.run_id, ready.slot
      FROM unnest(%(queues)s::text[], %(lanes)s::smallint[], %(limits)s::int[], %(worsts)s::int[])
               AS wanted (queue, lane, most, worst)
     CROSS JOIN LATERAL (
           SELECT j.run_id, j.slot
             FROM squidmesh.jobs j
            WHERE j.state = 'ready' AND j.queue = wanted.queue AND j.lane = wanted.lane
              AND j.priority <= wanted.worst AND j.kind = ANY (%(kinds)s::text[])
            ORDER BY j.priority, j.ready_at
            LIMIT wanted.most
              FOR UPDATE SKIP LOCKED) AS ready
), claimed AS (
    UPDATE squidmesh.jobs j
       SET state = 'claimed', worker = %(worker)s::uuid, claim = %(claim)s::bigint, started = j.lane IN (1, 2)
      FROM found
     WHERE j.run_id = ANY (ARRAY[found.run_id]) AND j.slot = found.slot  -- see pin_plans
    RETURNING j.run_id, j.slot, j.state, j.kind, j.step, j.visit, j.attempt, j.saw, j.queue, j.priority, j.lane,
              j.worker, j.claim, j.started, j.crashes, j.defers, j.reason
), noted AS (
    -- Runs are read by a statement of their own: one statement would lock the newest job and read an older run.
    SELECT set_config('squidmesh.claimed_runs', coalesce(array_agg(run_id)::text, '{}'), true),
           set_config('squidmesh.claimed_saws', coalesce(array_agg(saw)::text, '{}'), true)
      FROM claimed
)
SELECT claimed.* FROM noted LEFT JOIN claimed ON true WHERE claimed.run_id IS NOT NULL
