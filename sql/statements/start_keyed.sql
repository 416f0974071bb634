-- Start a run unless there is one of its workflow with its key: its row, its first jobs, and the wake-up of a worker.
--   id uuid, payload jsonb, key text      the run
--   workflow, fingerprint, trigger text
--   status, attention text, state jsonb, seq int   what the planner says a new run begins with
--   run_at timestamptz, delay float8      when it may begin: an instant, or seconds from now; null and 0 for at once
--   slots, visits int[], steps, kinds, queues text[], lanes, priorities smallint[], waits float8[] (s)   the first jobs
--   reasons text[]                        for what they wait: one with a reason and no wait is parked
--   channel text, always boolean          where to notify, and whether also when no idle worker serves the queue
-- Returns: whether it was started.
-- Locks: only the rows it inserts; whoever inserts the same key waits until this transaction has ended, and the other
--   way round. Index: runs_by_key, runs_pkey, jobs_pkey; workers is read whole (a row per worker).
WITH started AS (
    INSERT INTO squidmesh.runs (id, created_at, seq, workflow, fingerprint, trigger, key, status, attention, state,
                                payload)
    VALUES (%(id)s::uuid, squidmesh.clock(), %(seq)s::int, %(workflow)s::text, %(fingerprint)s::text,
            %(trigger)s::text, %(key)s::text, %(status)s::text, %(attention)s::text, %(state)s::jsonb,
            %(payload)s::jsonb)
    ON CONFLICT (workflow, key) WHERE key IS NOT NULL DO NOTHING
    RETURNING id, created_at AS now,
              greatest(%(run_at)s::timestamptz, created_at + make_interval(secs => %(delay)s::float8)) AS begins
), scheduled AS (
    INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state,
                                kind, step, queue, reason)
    SELECT started.id, started.now, started.now, nullif(due.at, started.now), job.slot, job.visit, 1, %(seq)s::int,
           job.priority, job.lane,
           CASE WHEN job.parks THEN 'parked' WHEN due.at > started.now THEN 'sleeping' ELSE 'ready' END, job.kind,
           job.step, job.queue, job.reason
      FROM started,
           (SELECT *, reason IS NOT NULL AND wait = 0 AS parks
              FROM unnest(%(slots)s::int[], %(visits)s::int[], %(steps)s::text[], %(kinds)s::text[], %(queues)s::text[],
                          %(lanes)s::smallint[], %(priorities)s::smallint[], %(waits)s::float8[], %(reasons)s::text[])
                       AS given (slot, visit, step, kind, queue, lane, priority, wait, reason)) AS job,
           LATERAL (SELECT CASE WHEN job.parks THEN started.now
                                ELSE started.begins + make_interval(secs => job.wait) END AS at) AS due
), notified AS (
    SELECT pg_notify(%(channel)s::text, 'queue:' || served.queue)
      FROM started, (SELECT DISTINCT queue FROM unnest(%(queues)s::text[]) AS job (queue)) AS served
     WHERE %(always)s::boolean
        OR served.queue = ANY (ARRAY(SELECT unnest(w.queues) FROM squidmesh.workers w WHERE w.idle AND NOT w.dead))
)
SELECT EXISTS (SELECT FROM started), (SELECT count(*) FROM notified)
