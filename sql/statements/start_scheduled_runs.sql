-- Start the runs of one schedule: as start_runs, but each for a nominal time, of which no other run has the key.
--   ids uuid[], payloads jsonb[], keys text[], schedules jsonb[], run_ats timestamptz[]   one element a run
--   workflow, fingerprint, trigger text   the same for all
--   status, attention text, state jsonb, seq int   what the planner says a new run begins with
--   slots, visits int[], steps, kinds, queues text[], lanes, priorities smallint[], waits float8[] (s)   the first jobs
--   reasons text[]                        for what they wait: one with a reason and no wait is parked
--   channel text, always boolean          where to notify, and whether also when no idle worker serves the queue
-- Returns: created_at, and the ids of the runs that were started.
-- Locks: only the rows it inserts; waits for another start under the same key. Index: runs_pkey, runs_by_key,
-- jobs_pkey; workers is read whole (a row per worker).
WITH started AS (
    INSERT INTO squidmesh.runs (id, created_at, seq, workflow, fingerprint, trigger, key, status, attention, state,
                                payload, schedule)
    SELECT new.id, squidmesh.clock(), %(seq)s::int, %(workflow)s::text, %(fingerprint)s::text, %(trigger)s::text,
           new.key, %(status)s::text, %(attention)s::text, %(state)s::jsonb, new.payload, new.schedule
      FROM unnest(%(ids)s::uuid[], %(payloads)s::jsonb[], %(keys)s::text[], %(schedules)s::jsonb[])
               AS new (id, payload, key, schedule)
    ON CONFLICT (workflow, key) WHERE key IS NOT NULL DO NOTHING
    RETURNING id, created_at
), scheduled AS (
    INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state,
                                kind, step, queue, reason)
    SELECT run.id, run.created_at, run.created_at, nullif(due.at, run.created_at), job.slot, job.visit, 1,
           %(seq)s::int, job.priority, job.lane,
           CASE WHEN job.parks THEN 'parked' WHEN due.at > run.created_at THEN 'sleeping' ELSE 'ready' END, job.kind,
           job.step, job.queue, job.reason
      FROM started AS run
      JOIN unnest(%(ids)s::uuid[], %(run_ats)s::timestamptz[]) AS begins (id, at) ON begins.id = run.id,
           (SELECT *, reason IS NOT NULL AND wait = 0 AS parks
              FROM unnest(%(slots)s::int[], %(visits)s::int[], %(steps)s::text[], %(kinds)s::text[], %(queues)s::text[],
                          %(lanes)s::smallint[], %(priorities)s::smallint[], %(waits)s::float8[], %(reasons)s::text[])
                       AS given (slot, visit, step, kind, queue, lane, priority, wait, reason)) AS job,
           LATERAL (SELECT CASE WHEN job.parks THEN run.created_at
                                ELSE greatest(begins.at, run.created_at) + make_interval(secs => job.wait)
                           END AS at) AS due
), notified AS (
    SELECT pg_notify(%(channel)s::text, 'queue:' || served.queue)
      FROM (SELECT DISTINCT queue FROM unnest(%(queues)s::text[]) AS job (queue)) AS served
     WHERE EXISTS (SELECT FROM started)
       AND (%(always)s::boolean
            OR EXISTS (SELECT FROM squidmesh.workers w WHERE w.idle AND NOT w.dead AND served.queue = ANY (w.queues)))
)
SELECT squidmesh.clock(), coalesce((SELECT array_agg(id) FROM started), '{}'), (SELECT count(*) FROM notified)
