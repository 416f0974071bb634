-- List runs, newest first, by what does not change or is terminal.
--   workflow, trigger, key text, statuses text[], since, until timestamptz   filters, or null
--   before timestamptz, before_id uuid                                       continue after this run, or null
--   most int
-- Returns: the runs as read_run does.
-- Locks: none. Index: runs_by_time; runs_by_workflow where a workflow is named, runs_by_key where a key is, too.
SELECT r.id, r.workflow, r.trigger, r.key, r.status, r.attention, r.payload::text, r.error::text, r.fingerprint,
       r.replayed_from, r.created_at, r.finished_at, r.schedule::text, coalesce(live.claimed, false),
       coalesce(live.steps, '{}')
  FROM squidmesh.runs r
  LEFT JOIN LATERAL (
       SELECT bool_or(j.state = 'claimed') AS claimed, array_agg(DISTINCT j.step ORDER BY j.step) AS steps
         FROM squidmesh.jobs j
        WHERE j.run_id = r.id AND j.kind <> 'timer') AS live ON r.finished_at IS NULL
 WHERE (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text)
   AND (%(trigger)s::text IS NULL OR r.trigger = %(trigger)s::text)
   AND (%(key)s::text IS NULL OR r.key = %(key)s::text)
   AND (%(since)s::timestamptz IS NULL OR r.created_at >= %(since)s::timestamptz)
   AND (%(until)s::timestamptz IS NULL OR r.created_at < %(until)s::timestamptz)
   AND (%(before)s::timestamptz IS NULL OR (r.created_at, r.id) < (%(before)s::timestamptz, %(before_id)s::uuid))
   AND (%(statuses)s::text[] IS NULL
        OR CASE WHEN live.claimed AND r.status IN ('pending', 'retrying') THEN 'running' ELSE r.status END
           = ANY (%(statuses)s::text[]))
 ORDER BY r.created_at DESC, r.id DESC
 LIMIT %(most)s::int
