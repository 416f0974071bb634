-- Make sleeping jobs ready whose time has come, and say when the next ones are due.
--   queues text[]; most int: at most so many in each queue
-- Returns: how many were woken, and the seconds until the next is due (null if none sleeps, 0 or less if some are due).
-- Locks: jobs FOR UPDATE SKIP LOCKED: whoever holds one wakes it, or its run is being changed. Index: jobs_sleeping.
WITH due AS MATERIALIZED (
    SELECT found.run_id, found.slot
      FROM unnest(%(queues)s::text[]) AS served (queue)
     CROSS JOIN LATERAL (
           SELECT j.run_id, j.slot
             FROM squidmesh.jobs j
            WHERE j.state = 'sleeping' AND j.queue = served.queue AND j.run_at <= squidmesh.clock()
            ORDER BY j.run_at
            LIMIT %(most)s::int
              FOR UPDATE SKIP LOCKED) AS found
), woken AS (
    UPDATE squidmesh.jobs j
       SET state = 'ready', ready_at = squidmesh.clock(), run_at = NULL
      FROM due
     WHERE j.run_id = ANY (ARRAY[due.run_id]) AND j.slot = due.slot  -- see pin_plans
    RETURNING j.run_id, j.slot
)
SELECT (SELECT count(*) FROM woken),
       (SELECT extract(epoch FROM min(upcoming.run_at) - squidmesh.clock())::float8
          FROM unnest(%(queues)s::text[]) AS served (queue)
         CROSS JOIN LATERAL (
               -- This statement's snapshot still shows the woken ones as sleeping: the next is the first after them.
               SELECT j.run_at
                 FROM squidmesh.jobs j
                WHERE j.state = 'sleeping' AND j.queue = served.queue
                  AND (j.run_at > squidmesh.clock() OR (SELECT count(*) FROM due) >= %(most)s::int)
                ORDER BY j.run_at
                LIMIT 1) AS upcoming)
