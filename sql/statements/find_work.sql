-- Whether there is something to do for a worker that sleeps.
--   queues text[], worker uuid
-- Returns: one row: whether it has jobs, or some of its queues are ready or parked because nobody knew their step; the
-- seconds until the next timer of its queues, or null.
-- Locks: none. Index: jobs_claimed; jobs_ready, jobs_unknown and jobs_sleeping, one entry of each for each queue.
SELECT EXISTS (SELECT FROM squidmesh.jobs j WHERE j.state = 'claimed' AND j.worker = %(worker)s::uuid)
       OR EXISTS (SELECT
                    FROM unnest(%(queues)s::text[]) AS served (queue)
                   CROSS JOIN LATERAL (
                         SELECT
                           FROM squidmesh.jobs j
                          WHERE j.state = 'ready' AND j.queue = served.queue
                          LIMIT 1) AS job)
       OR EXISTS (SELECT
                    FROM unnest(%(queues)s::text[]) AS served (queue)
                   CROSS JOIN LATERAL (
                         SELECT
                           FROM squidmesh.jobs j
                          WHERE j.state = 'parked' AND j.reason = 'unknown_step' AND j.queue = served.queue
                          LIMIT 1) AS job),
       (SELECT extract(epoch FROM min(first.run_at) - squidmesh.clock())::float8
          FROM unnest(%(queues)s::text[]) AS served (queue)
         CROSS JOIN LATERAL (
               SELECT j.run_at
                 FROM squidmesh.jobs j
                WHERE j.state = 'sleeping' AND j.queue = served.queue
                ORDER BY j.run_at
                LIMIT 1) AS first)
