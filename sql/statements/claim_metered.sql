-- Claim ready jobs that share limits or rates with others, as far as these allow. lock_meters has locked them, so what
-- is counted here stays so until this transaction ends.
--   queues text[], limits int[]                     how many of each queue
--   suspect boolean                                 whether one with which a worker has died may be among them
--   kinds text[]                                    what this code knows to do with a job
--   definitions text[], mosts int[]                 limits
--   rates text[], bursts, refills float8[]          rates: the most tokens, and how many come back in a second
--   worker uuid, claim bigint                       the fence under which they are handed out
-- Returns: a row a job, or one without: seconds until more may be claimed of what is empty or paused (null if nothing
-- is), and the job.
-- Locks: jobs FOR UPDATE SKIP LOCKED, then rows of meters, whose advisory locks it has. Index: jobs_metered,
-- jobs_holding, jobs_holding_queue, meters_pkey.
WITH shared AS MATERIALIZED (
    SELECT noted.queue, noted.meters, split_part(noted.meters, E'\n', 1) AS limited,
           split_part(noted.meters, E'\n', 2) AS rated, split_part(noted.meters, E'\n', 3) AS crowded
      FROM jsonb_to_recordset(nullif(current_setting('squidmesh.locked_meters', true), '')::jsonb)
               AS noted (queue text, meters text)
), given AS MATERIALIZED (
    SELECT * FROM unnest(%(definitions)s::text[], %(mosts)s::int[]) AS given (definition, most)
), room AS MATERIALIZED (
    SELECT asked.name, given.most - (SELECT count(*)
                                       FROM squidmesh.jobs j
                                      WHERE j.state = 'claimed' AND j.meters IS NOT NULL
                                        AND split_part(j.meters, E'\n', 1) = asked.name) AS free
      FROM (SELECT DISTINCT limited AS name FROM shared) AS asked
      JOIN given ON given.definition = split_part(asked.name, '=', 1)
    UNION ALL
    SELECT asked.name, given.most - (SELECT count(*)
                                       FROM squidmesh.jobs j
                                      WHERE j.state = 'claimed' AND j.meters IS NOT NULL AND j.queue = asked.queue)
      FROM (SELECT DISTINCT crowded AS name, queue FROM shared) AS asked
      JOIN given ON given.definition = asked.name
), bucket AS MATERIALIZED (
    SELECT asked.name, given.burst, given.refill,
           least(coalesce(m.tokens + given.refill * greatest(extract(epoch FROM squidmesh.clock() - m.refilled_at), 0),
                          given.burst), given.burst) AS tokens
      FROM (SELECT DISTINCT rated AS name FROM shared) AS asked
      JOIN unnest(%(rates)s::text[], %(bursts)s::float8[], %(refills)s::float8[]) AS given (definition, burst, refill)
        ON given.definition = split_part(asked.name, '=', 1)
      LEFT JOIN squidmesh.meters m ON m.name = asked.name
), judged AS MATERIALIZED (
    SELECT shared.*, one.free AS limit_free, queue.free AS queue_free, floor(bucket.tokens + 1e-9) AS tokens,
           -- Not sooner than is worth a look, if nothing is lost by that: a bucket that is full takes in no more.
           greatest(CASE WHEN bucket.tokens < 1 - 1e-9
                         THEN greatest((1 - bucket.tokens) / bucket.refill,
                                       least(0.05, bucket.burst / bucket.refill / 2))
                     END,
                    (SELECT extract(epoch FROM max(m.paused_until) - squidmesh.clock())::float8
                       FROM squidmesh.meters m
                      WHERE m.name = ANY (ARRAY[shared.limited, shared.rated, shared.crowded]))) AS shut_for
      FROM shared
      LEFT JOIN room one ON one.name = shared.limited
      LEFT JOIN room queue ON queue.name = shared.crowded
      LEFT JOIN bucket ON bucket.name = shared.rated
), candidates AS MATERIALIZED (
    SELECT judged.*, wanted.most, ready.run_id, ready.slot, ready.priority, ready.ready_at, ready.lane
      FROM judged
      JOIN unnest(%(queues)s::text[], %(limits)s::int[]) AS wanted (queue, most) ON wanted.queue = judged.queue
     CROSS JOIN LATERAL (
           SELECT j.run_id, j.slot, j.priority, j.ready_at, j.lane
             FROM squidmesh.jobs j
            WHERE j.state = 'ready' AND j.queue = judged.queue AND j.meters = judged.meters
              AND j.kind = ANY (%(kinds)s::text[]) AND (j.lane = 4 OR %(suspect)s::boolean)
            ORDER BY j.priority, j.ready_at
            LIMIT greatest(least(wanted.most, judged.limit_free, judged.queue_free, judged.tokens), 0)
              FOR UPDATE SKIP LOCKED) AS ready
     WHERE coalesce(judged.shut_for, 0) <= 1e-9
), limited AS (  -- as the limit allows; of these as the rate does; and of these as the queue and the worker do
    SELECT *, row_number() OVER (PARTITION BY limited ORDER BY priority, ready_at) AS place FROM candidates
), rated AS (
    SELECT *, row_number() OVER (PARTITION BY rated ORDER BY priority, ready_at) AS rate_place
      FROM limited
     WHERE limit_free IS NULL OR place <= limit_free
), crowded AS (
    SELECT *, row_number() OVER (PARTITION BY queue ORDER BY priority, ready_at) AS queue_place,
           row_number() OVER (PARTITION BY lane ORDER BY priority, ready_at) AS lane_place
      FROM rated
     WHERE tokens IS NULL OR rate_place <= tokens
), chosen AS MATERIALIZED (
    SELECT * FROM crowded WHERE queue_place <= least(most, queue_free) AND (lane = 4 OR lane_place = 1)
), claimed AS (
    UPDATE squidmesh.jobs j
       SET state = 'claimed', worker = %(worker)s::uuid, claim = %(claim)s::bigint, started = true
      FROM chosen
     WHERE j.run_id = ANY (ARRAY[chosen.run_id]) AND j.slot = chosen.slot  -- see pin_plans
    RETURNING j.run_id, j.slot, j.state, j.kind, j.step, j.visit, j.attempt, j.saw, j.queue, j.priority, j.lane,
              j.worker, j.claim, j.started, j.crashes, j.defers, j.reason, j.meters
), taken AS (
    INSERT INTO squidmesh.meters (name, tokens, refilled_at, idle_at)
    SELECT bucket.name, bucket.tokens - count(*), squidmesh.clock(),
           squidmesh.clock() + make_interval(secs => (bucket.burst - bucket.tokens + count(*)) / bucket.refill)
      FROM chosen
      JOIN bucket ON bucket.name = chosen.rated
     GROUP BY bucket.name, bucket.tokens, bucket.burst, bucket.refill
        ON CONFLICT (name) DO UPDATE
       SET tokens = excluded.tokens, refilled_at = excluded.refilled_at,
           idle_at = greatest(excluded.idle_at, meters.paused_until)
), noted AS (
    SELECT set_config('squidmesh.claimed_runs',
                      (nullif(current_setting('squidmesh.claimed_runs', true), '')::uuid[]
                           || coalesce(array_agg(run_id), '{}'))::text, true),
           set_config('squidmesh.claimed_saws',
                      (nullif(current_setting('squidmesh.claimed_saws', true), '')::int[]
                           || coalesce(array_agg(saw), '{}'))::text, true)
      FROM claimed
), opening AS (
    SELECT min(shut_for) FILTER (WHERE shut_for > 1e-9) AS seconds FROM judged
)
SELECT opening.seconds, claimed.*
  FROM noted
 CROSS JOIN opening
  LEFT JOIN claimed ON true
