-- Start runs of one graph: their rows, their first jobs, and the wake-up of a worker that sleeps.
--   ids uuid[], payloads jsonb[]          one element a run
--   workflow, fingerprint, trigger text   the same for all
--   status, attention text, state jsonb, seq int   what the planner says a new run begins with
--   replayed_from uuid                    the run they replay, or null
--   run_at timestamptz, delay float8      when they may begin: an instant, or seconds from now; null and 0 for at once
--   slots, visits int[], steps, kinds, queues text[], lanes, priorities smallint[], waits float8[] (s)   the first jobs
--   reasons text[]                        for what they wait: one with a reason and no wait is parked
--   channel text, always boolean          where to notify, and whether also when no idle worker serves the queue
-- Returns: created_at, once.
-- Locks: only the rows it inserts. Index: runs_pkey, jobs_pkey; workers is read whole (a row per worker).
WITH started AS (
    INSERT INTO squidmesh.runs (id, created_at, seq, workflow, fingerprint, trigger, status, attention, state,
                                payload, replayed_from, schedule)
    SELECT new.id, squidmesh.clock(), %(seq)s::int, %(workflow)s::text, %(fingerprint)s::text, %(trigger)s::text,
           %(status)s::text, %(attention)s::text, %(state)s::jsonb, new.payload, %(replayed_from)s::uuid,
           -- Which nominal time it was for outlives a replay. The second condition is decided before anything is read:
           -- a plan made while runs was empty walks all of it to find that nothing has no id.
           (SELECT r.schedule FROM squidmesh.runs r
             WHERE r.id = %(replayed_from)s::uuid AND %(replayed_from)s::uuid IS NOT NULL)
      FROM unnest(%(ids)s::uuid[], %(payloads)s::jsonb[]) AS new (id, payload)
), scheduled AS (
    INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state,
                                kind, step, queue, reason)
    SELECT run.id, squidmesh.clock(), squidmesh.clock(), nullif(due.at, squidmesh.clock()), job.slot, job.visit, 1,
           %(seq)s::int, job.priority, job.lane,
           CASE WHEN job.parks THEN 'parked' WHEN due.at > squidmesh.clock() THEN 'sleeping' ELSE 'ready' END,
           job.kind, job.step, job.queue, job.reason
      FROM unnest(%(ids)s::uuid[]) AS run (id),
           (SELECT *, reason IS NOT NULL AND wait = 0 AS parks
              FROM unnest(%(slots)s::int[], %(visits)s::int[], %(steps)s::text[], %(kinds)s::text[], %(queues)s::text[],
                          %(lanes)s::smallint[], %(priorities)s::smallint[], %(waits)s::float8[], %(reasons)s::text[])
                       AS given (slot, visit, step, kind, queue, lane, priority, wait, reason)) AS job,
           LATERAL (SELECT CASE WHEN job.parks THEN squidmesh.clock()
                                ELSE greatest(%(run_at)s::timestamptz,
                                              squidmesh.clock() + make_interval(secs => %(delay)s::float8))
                                     + make_interval(secs => job.wait) END AS at) AS due
)
-- A NOTIFY takes a lock that serialises commits, so it is sent only to somebody who sleeps; of equal ones in a
-- transaction the server sends one.
SELECT squidmesh.clock(),
       (SELECT count(pg_notify(%(channel)s::text, 'queue:' || job.queue))
          FROM unnest(%(queues)s::text[]) AS job (queue)
         WHERE %(always)s::boolean
            -- Read once, not for each queue: else the plan for arrays of unknown length would look so much dearer than
            -- one made for this very start that the server would plan each start anew, for as long as workers is not
            -- analysed.
            OR job.queue = ANY (ARRAY(SELECT unnest(w.queues) FROM squidmesh.workers w WHERE w.idle AND NOT w.dead)))
