-- Start runs of one graph: their rows, their first jobs, and the wake-up of a worker that sleeps.
--   ids uuid[], payloads jsonb[]          one element a run
--   workflow, fingerprint, trigger text   the same for all
--   status text, state jsonb, seq int     what the planner says a new run begins with
--   replayed_from uuid                    the run they replay, or null
--   run_at timestamptz, delay float8      when they may begin: an instant, or seconds from now; null and 0 for at once
--   slots int[], steps, kinds, queues text[], lanes, priorities smallint[], waits float8[] (s)   the first jobs
--   channel text, always boolean          where to notify, and whether also when no idle worker serves the queue
-- Returns: created_at, once.
-- Locks: only the rows it inserts. Index: runs_pkey, jobs_pkey; workers is read whole (a row per worker).
WITH input AS (
    SELECT squidmesh.clock() AS now,
           greatest(%(run_at)s::timestamptz, squidmesh.clock() + make_interval(secs => %(delay)s::float8)) AS begins
), started AS (
    INSERT INTO squidmesh.runs (id, created_at, seq, workflow, fingerprint, trigger, status, state, payload,
                                replayed_from, schedule)
    SELECT new.id, input.now, %(seq)s::int, %(workflow)s::text, %(fingerprint)s::text, %(trigger)s::text,
           %(status)s::text, %(state)s::jsonb, new.payload, %(replayed_from)s::uuid,
           -- Which nominal time it was for outlives a replay.
           (SELECT r.schedule FROM squidmesh.runs r WHERE r.id = %(replayed_from)s::uuid)
      FROM input, unnest(%(ids)s::uuid[], %(payloads)s::jsonb[]) AS new (id, payload)
), scheduled AS (
    INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state,
                                kind, step, queue)
    SELECT run.id, input.now, input.now, nullif(due.at, input.now), job.slot, 1, 1, %(seq)s::int, job.priority,
           job.lane, CASE WHEN due.at > input.now THEN 'sleeping' ELSE 'ready' END, job.kind, job.step, job.queue
      FROM input,
           unnest(%(ids)s::uuid[]) AS run (id),
           unnest(%(slots)s::int[], %(steps)s::text[], %(kinds)s::text[], %(queues)s::text[], %(lanes)s::smallint[],
                  %(priorities)s::smallint[], %(waits)s::float8[])
               AS job (slot, step, kind, queue, lane, priority, wait),
           LATERAL (SELECT input.begins + make_interval(secs => job.wait) AS at) AS due
), notified AS (
    -- A NOTIFY takes a lock that serialises commits, so it is sent only to somebody who sleeps.
    SELECT pg_notify(%(channel)s::text, 'queue:' || served.queue)
      FROM (SELECT DISTINCT queue FROM unnest(%(queues)s::text[]) AS job (queue)) AS served
     WHERE %(always)s::boolean
        OR EXISTS (SELECT FROM squidmesh.workers w WHERE w.idle AND NOT w.dead AND served.queue = ANY (w.queues))
)
SELECT input.now, (SELECT count(*) FROM notified) FROM input
