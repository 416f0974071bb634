-- Lock schedules, waiting for whoever fires or changes them.
--   names text[]
-- Returns: the schedules as read_schedules does, the time before them.
-- Locks: the schedules FOR UPDATE, by name. Index: schedules_pkey.
SELECT squidmesh.clock(),
       s.name, s.workflow, s.trigger, s.source, s.expression, s.timezone, s.catch_up_seconds, s.catch_up, s.overlap,
       s.jitter_seconds, s.payload::text, s.paused, s.retired, s.next_at, s.last_at, s.last_run, s.skipped,
       s.last_skipped, s.skip_reason
  FROM squidmesh.schedules s
 WHERE s.name = ANY (%(names)s::text[])
 ORDER BY s.name
   FOR UPDATE
