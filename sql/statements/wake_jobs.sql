-- Make sleeping jobs ready whose time has come, and say when the next ones are due.
--   queues text[], free int[]   the queues, and how many jobs of each the caller can begin at once
--   ages float8[]               of each queue: look at what was due so many seconds ago or later; null: at all
--   most int                    at most so many in each queue
--   channel text, worker uuid   where to notify workers that sleep, other than this one, of what it cannot begin
-- Returns: a row a queue: its name; how many were woken; the seconds until the next is due (null if none sleeps; 0 if
-- some are due that were not woken: there are more, or somebody holds them); whether somebody was notified.
-- Locks: jobs FOR UPDATE SKIP LOCKED: whoever holds one wakes it, or its run is being changed. Index: jobs_sleeping;
-- jobs_pkey; workers is read whole (a row per worker), and only if more was woken than can begin.
WITH served AS MATERIALIZED (
    SELECT queue, free, coalesce(squidmesh.clock() - make_interval(secs => age), '-infinity') AS earliest
      FROM unnest(%(queues)s::text[], %(free)s::int[], %(ages)s::float8[]) AS given (queue, free, age)
), due AS MATERIALIZED (
    SELECT found.run_id, found.slot
      FROM served
     CROSS JOIN LATERAL (
           SELECT j.run_id, j.slot
             FROM squidmesh.jobs j
            WHERE j.state = 'sleeping' AND j.queue = served.queue AND j.run_at >= served.earliest
              AND j.run_at <= squidmesh.clock()
            ORDER BY j.run_at
            LIMIT %(most)s::int
              FOR UPDATE SKIP LOCKED) AS found
), woken AS (
    UPDATE squidmesh.jobs j
       SET state = 'ready', ready_at = squidmesh.clock(), run_at = NULL
      FROM due
     WHERE j.run_id = ANY (ARRAY[due.run_id]) AND j.slot = due.slot  -- see pin_plans
    RETURNING j.queue, j.lane
), counted AS MATERIALIZED (
    SELECT queue, count(*) AS jobs, count(*) FILTER (WHERE lane <> 3) AS bodies FROM woken GROUP BY queue
)
SELECT served.queue, coalesce(counted.jobs, 0),
       -- This statement's snapshot shows the woken ones as sleeping still: there are more if it shows more than those.
       CASE WHEN (SELECT count(*)
                    FROM (SELECT
                            FROM squidmesh.jobs j
                           WHERE j.state = 'sleeping' AND j.queue = served.queue AND j.run_at >= served.earliest
                             AND j.run_at <= squidmesh.clock()
                           LIMIT %(most)s::int + 1) AS shown) > coalesce(counted.jobs, 0)
            THEN 0::float8
            ELSE (SELECT extract(epoch FROM j.run_at - squidmesh.clock())::float8
                    FROM squidmesh.jobs j
                   WHERE j.state = 'sleeping' AND j.queue = served.queue AND j.run_at > squidmesh.clock()
                   ORDER BY j.run_at
                   LIMIT 1)
        END,
       -- Others that sleep wake at the same time, but what is being woken here they see neither asleep nor ready.
       CASE WHEN counted.bodies > served.free
             AND EXISTS (SELECT FROM squidmesh.workers w
                          WHERE w.idle AND NOT w.dead AND w.id <> %(worker)s::uuid AND served.queue = ANY (w.queues))
            THEN pg_notify(%(channel)s::text, 'queue:' || served.queue) IS NOT NULL
            ELSE false
        END
  FROM served
  LEFT JOIN counted ON counted.queue = served.queue
