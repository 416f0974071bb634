-- Read schedules, and what time it is.
--   name, workflow text   only the one of this name, only those of this workflow, or null
-- Returns: the time, and a schedule, a row each; one row with nothing but the time if there are none.
-- Locks: none. Index: schedules_pkey, or none: a list is read whole.
SELECT clock.now,
       s.name, s.workflow, s.trigger, s.source, s.expression, s.timezone, s.catch_up_seconds, s.catch_up, s.overlap,
       s.jitter_seconds, s.payload::text, s.paused, s.retired, s.next_at, s.last_at, s.last_run, s.skipped,
       s.last_skipped, s.skip_reason
  FROM (SELECT squidmesh.clock() AS now) AS clock
  LEFT JOIN squidmesh.schedules s
         ON (%(name)s::text IS NULL OR s.name = %(name)s::text)
        AND (%(workflow)s::text IS NULL OR s.workflow = %(workflow)s::text)
 ORDER BY s.name
