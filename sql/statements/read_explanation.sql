-- Read what says why a run is where it is. It is one statement, so that all of it is of one instant, without a lock.
--   run_id uuid
--   most_jobs int    jobs of it at most; what waits for people or signals is among them
--   most_ahead int   how far to count the jobs before a ready one
-- Returns: the run as planning needs it, created_at, finished_at; the time, how many workers are alive; its jobs; what
-- ended where it failed; whether attempts have ended from there on; the steps done; votes; who cancelled it.
-- Locks: none. Index: runs_pkey, jobs_pkey, jobs_ready, attempts_pkey, audit_events_pkey, workers_pkey; of what shares
-- limits or rates jobs_metered, jobs_holding, jobs_holding_queue, meters_pkey; workers is read whole (one row each).
WITH alive AS MATERIALIZED (
    SELECT w.queues, w.knows FROM squidmesh.workers w WHERE NOT w.dead AND w.lease > squidmesh.clock()
), live AS MATERIALIZED (
    SELECT j.*
      FROM squidmesh.jobs j
     WHERE j.run_id = %(run_id)s::uuid
     ORDER BY j.state = 'parked' OR j.kind IN ('gate', 'signal', 'timer') DESC, j.slot
     LIMIT %(most_jobs)s::int
)
SELECT r.id, r.workflow, r.trigger, r.fingerprint, r.status, r.attention, r.seq, r.state::text, r.error::text,
       r.created_at, r.finished_at, squidmesh.clock(), (SELECT count(*) FROM alive), jobs.found::text,
       failed.found::text, goes_on.found, done.found, votes.found::text, cancelled.found::text
  FROM squidmesh.runs r
 CROSS JOIN LATERAL (
       SELECT jsonb_agg(to_jsonb(live) || jsonb_build_object(
                  'ahead', before.ahead, 'servers', serving.servers, 'knowing', serving.knowing,
                  'holder', to_jsonb(holder), 'last', to_jsonb(last), 'sharing', sharing.found)
              ORDER BY live.slot) AS found
         FROM live
        CROSS JOIN LATERAL (
              SELECT count(*) AS servers,
                     count(*) FILTER (WHERE r.workflow || '/' || live.kind || '/' || live.step = ANY (alive.knows))
                         AS knowing
                FROM alive
               WHERE live.queue = ANY (alive.queues)) AS serving
         LEFT JOIN LATERAL (
              SELECT count(*) AS ahead
                FROM (SELECT 1
                        FROM squidmesh.jobs o
                       WHERE live.meters IS NULL AND o.state = 'ready' AND o.queue = live.queue AND o.lane = live.lane
                         AND (o.priority, o.ready_at) < (live.priority, live.ready_at)
                      UNION ALL
                      SELECT 1
                        FROM squidmesh.jobs o
                       WHERE o.state = 'ready' AND o.queue = live.queue AND o.meters = live.meters
                         AND (o.priority, o.ready_at) < (live.priority, live.ready_at)
                       LIMIT %(most_ahead)s::int) AS first) AS before ON live.state = 'ready'
         LEFT JOIN LATERAL (
              SELECT jsonb_agg(
                         jsonb_build_object(
                             'part', part.number, 'name', part.name,
                             'held', CASE part.number
                                     WHEN 1 THEN (SELECT count(*)
                                                    FROM squidmesh.jobs o
                                                   WHERE o.state = 'claimed' AND o.meters IS NOT NULL
                                                     AND split_part(o.meters, E'\n', 1) = part.name)
                                     WHEN 3 THEN (SELECT count(*)
                                                    FROM squidmesh.jobs o
                                                   WHERE o.state = 'claimed' AND o.meters IS NOT NULL
                                                     AND o.queue = live.queue)
                                      END,
                             'tokens', m.tokens,
                             'refilled_ago', extract(epoch FROM squidmesh.clock() - m.refilled_at)::float8,
                             'paused_until', m.paused_until)
                         ORDER BY part.number) AS found
                FROM string_to_table(live.meters, E'\n') WITH ORDINALITY AS part (name, number)
                LEFT JOIN LATERAL (
                     SELECT * FROM squidmesh.meters m WHERE m.name = part.name LIMIT 1) AS m ON true
               WHERE part.name <> '') AS sharing ON live.state = 'ready'
         LEFT JOIN LATERAL (
              SELECT w.host, w.pid, NOT w.dead AND w.lease > squidmesh.clock() AS alive,
                     extract(epoch FROM squidmesh.clock() - w.lease)::float8 AS late
                FROM squidmesh.workers w
               WHERE w.id = live.worker) AS holder ON true
         LEFT JOIN LATERAL (
              -- Nothing of a visit has ended before what it saw: the scan is as short as what happened since.
              SELECT a.seq, a.step, a.visit, a.attempt, a.status, a.outcome, a.error, a.worker, a.saw, a.started_at,
                     a.finished_at, a.kind
                FROM squidmesh.attempts a
               WHERE a.run_id = live.run_id AND a.seq >= live.saw AND a.step = live.step AND a.visit = live.visit
                 AND (a.kind = 'compensation') = (live.kind = 'compensation') AND a.kind <> 'snapshot'
               ORDER BY a.seq DESC
               LIMIT 1) AS last ON true) AS jobs
  LEFT JOIN LATERAL (
       SELECT jsonb_build_object(
                  'seq', a.seq, 'step', a.step, 'visit', a.visit, 'attempt', a.attempt, 'status', a.status,
                  'outcome', a.outcome, 'error', a.error, 'worker', a.worker, 'saw', a.saw,
                  'started_at', a.started_at, 'finished_at', a.finished_at, 'kind', a.kind) AS found
         FROM squidmesh.attempts a
        WHERE a.run_id = r.id AND a.seq = (r.state ->> 'failed_at')::int AND a.kind <> 'snapshot') AS failed ON true
 CROSS JOIN LATERAL (
       SELECT EXISTS (SELECT
                        FROM squidmesh.attempts a
                       WHERE a.run_id = r.id AND a.seq >= (r.state ->> 'failed_at')::int AND a.kind = 'step')
                  AS found) AS goes_on
  LEFT JOIN LATERAL (
       SELECT array_agg(DISTINCT a.step ORDER BY a.step) AS found
         FROM squidmesh.attempts a
        WHERE a.run_id = r.id AND a.status IN ('completed', 'abandoned') AND a.kind IN ('step', 'copied')) AS done
    ON r.finished_at IS NOT NULL
  LEFT JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_array(e.step, e.metadata -> 'visit', e.actor) ORDER BY e.seq) AS found
         FROM squidmesh.audit_events e
        WHERE e.run_id = r.id AND e.type = 'voted') AS votes ON r.finished_at IS NULL
  LEFT JOIN LATERAL (
       SELECT to_jsonb(e) AS found
         FROM squidmesh.audit_events e
        WHERE e.run_id = r.id AND e.type = 'cancelled'
        ORDER BY e.seq DESC
        LIMIT 1) AS cancelled ON r.status IN ('cancelling', 'compensating', 'cancelled')
 WHERE r.id = %(run_id)s::uuid
