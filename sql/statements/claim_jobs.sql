-- Claim ready jobs, queue by queue, and note for the next statement of the same transaction which runs they belong to.
--   queues text[], lanes smallint[], limits int[]   how many of each lane of each queue
--   firsts, ages, belows text[]                     of each, as array literals, the stretches of the index to read:
--                                                   from a priority on, of that one only what became ready so many
--                                                   seconds ago or later (null: all), to below another priority
--   kinds text[]                                    what this code knows to do with a job
--   worker uuid, claim bigint                       the fence under which they are handed out
-- Returns: the jobs, and how many seconds each of them had been ready.
-- Locks: jobs FOR UPDATE SKIP LOCKED; it never waits, and comes last in a transaction. Index: jobs_ready, one bounded
-- scan for each stretch (a queue = ANY (...) would sort the whole backlog), then jobs_pkey.
WITH found AS MATERIALIZED (
    SELECT ready.run_id, ready.slot
      FROM unnest(%(queues)s::text[], %(lanes)s::smallint[], %(limits)s::int[], %(firsts)s::text[], %(ages)s::text[],
                  %(belows)s::text[]) AS wanted (queue, lane, most, firsts, ages, belows)
     CROSS JOIN LATERAL (
           -- One stretch after the other, until there are enough: sorted, all of them would be read, and locked.
           SELECT stretch.run_id, stretch.slot
             FROM unnest(wanted.firsts::smallint[], wanted.ages::float8[], wanted.belows::int[])
                      AS bounds (first, age, below)
            CROSS JOIN LATERAL (
                  SELECT j.run_id, j.slot
                    FROM squidmesh.jobs j
                   WHERE j.state = 'ready' AND j.queue = wanted.queue AND j.lane = wanted.lane
                     AND (j.priority, j.ready_at)
                         >= (bounds.first,
                             coalesce(squidmesh.clock() - make_interval(secs => bounds.age), '-infinity'))
                     AND j.priority < bounds.below
                     AND j.kind = ANY (%(kinds)s::text[])
                   ORDER BY j.priority, j.ready_at
                   LIMIT wanted.most
                     FOR UPDATE SKIP LOCKED) AS stretch
            LIMIT wanted.most) AS ready
), claimed AS (
    UPDATE squidmesh.jobs j
       SET state = 'claimed', worker = %(worker)s::uuid, claim = %(claim)s::bigint, started = j.lane IN (1, 2)
      FROM found
     WHERE j.run_id = ANY (ARRAY[found.run_id]) AND j.slot = found.slot  -- see pin_plans
    RETURNING j.run_id, j.slot, j.state, j.kind, j.step, j.visit, j.attempt, j.saw, j.queue, j.priority, j.lane,
              j.worker, j.claim, j.started, j.crashes, j.defers, j.reason, j.meters,
              extract(epoch FROM squidmesh.clock() - j.ready_at)::float8
), noted AS (
    -- Runs are read by a statement of their own: one statement would lock the newest job and read an older run.
    SELECT set_config('squidmesh.claimed_runs', coalesce(array_agg(run_id)::text, '{}'), true),
           set_config('squidmesh.claimed_saws', coalesce(array_agg(saw)::text, '{}'), true)
      FROM claimed
)
SELECT claimed.* FROM noted LEFT JOIN claimed ON true WHERE claimed.run_id IS NOT NULL
