-- Lock schedules that are due, the longest due first; those that somebody else has locked are being fired.
--   triggers text[]   "workflow/trigger" of those that the caller can start
--   most int
-- Returns: the schedules as read_schedules does, the time before them.
-- Locks: the schedules FOR UPDATE, without waiting. Index: schedules_due, runs_pkey.
SELECT squidmesh.clock(),
       s.name, s.workflow, s.trigger, s.source, s.expression, s.timezone, s.catch_up_seconds, s.catch_up, s.overlap,
       s.jitter_seconds, s.payload::text, s.paused, s.retired, s.next_at, s.last_at, s.last_run, s.skipped,
       s.last_skipped, s.skip_reason
  FROM squidmesh.schedules s
 WHERE s.next_at <= squidmesh.clock() AND NOT s.paused AND NOT s.retired
   AND s.workflow || '/' || s.trigger = ANY (%(triggers)s::text[])
   -- Those that wait for a run would be in the way of others.
   AND NOT (s.overlap = 'queue'
            AND EXISTS (SELECT FROM squidmesh.runs r WHERE r.id = s.last_run AND r.finished_at IS NULL))
 ORDER BY s.next_at
 LIMIT %(most)s::int
   FOR UPDATE OF s SKIP LOCKED
