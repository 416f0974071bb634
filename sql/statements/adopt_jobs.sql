-- Claim jobs that were parked because no worker knew their step, by a worker that does.
--   queues text[], limits int[]     how many of each queue
--   knows text[]                    "workflow/kind/step" of what the worker can run
--   unreadable text[]               fingerprints of graphs that it cannot read: it would only park their jobs again
--   worker uuid, claim bigint       the fence under which they are handed out
-- Returns: the jobs.
-- Locks: jobs FOR UPDATE SKIP LOCKED. Index: jobs_unknown, jobs_pkey, runs_pkey.
WITH found AS MATERIALIZED (
    SELECT parked.run_id, parked.slot
      FROM unnest(%(queues)s::text[], %(limits)s::int[]) AS wanted (queue, most)
     CROSS JOIN LATERAL (
           SELECT j.run_id, j.slot
             FROM squidmesh.jobs j
             JOIN squidmesh.runs r ON r.id = ANY (ARRAY[j.run_id])
            WHERE j.state = 'parked' AND j.queue = wanted.queue AND j.reason = 'unknown_step'
              AND r.workflow || '/' || j.kind || '/' || j.step = ANY (%(knows)s::text[])
              AND r.fingerprint <> ALL (%(unreadable)s::text[])
            LIMIT wanted.most
              FOR UPDATE OF j SKIP LOCKED) AS parked
), claimed AS (
    UPDATE squidmesh.jobs j
       SET state = 'claimed', worker = %(worker)s::uuid, claim = %(claim)s::bigint, started = j.lane NOT IN (0, 3),
           reason = NULL,
           -- What they share with others was not asked here: their worker files them under it before they begin.
           lane = CASE j.lane WHEN 4 THEN 1 WHEN 5 THEN 2 ELSE j.lane END, meters = NULL
      FROM found
     WHERE j.run_id = ANY (ARRAY[found.run_id]) AND j.slot = found.slot  -- see pin_plans
    RETURNING j.run_id, j.slot, j.state, j.kind, j.step, j.visit, j.attempt, j.saw, j.queue, j.priority, j.lane,
              j.worker, j.claim, j.started, j.crashes, j.defers, j.reason, j.meters
)
SELECT * FROM claimed
