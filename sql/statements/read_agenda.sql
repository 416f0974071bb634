-- When a scheduler has to look again.
--   triggers text[]   "workflow/trigger" of those that the caller can start
-- Returns: one row: how many schedules there are for it; the seconds until one is due, or null; the runs that a
-- schedule waits for.
-- Locks: none. Index: runs_pkey; schedules is read whole.
SELECT count(*),
       extract(epoch FROM min(s.next_at) FILTER (WHERE NOT s.paused AND waits.run IS NULL) - squidmesh.clock())::float8,
       coalesce(array_agg(waits.run) FILTER (WHERE waits.run IS NOT NULL), '{}')
  FROM squidmesh.schedules s
  LEFT JOIN LATERAL (
       SELECT r.id AS run
         FROM squidmesh.runs r
        WHERE r.id = s.last_run AND r.finished_at IS NULL AND s.overlap = 'queue' AND s.next_at <= squidmesh.clock()
          AND NOT s.paused) AS waits ON true
 WHERE NOT s.retired AND s.workflow || '/' || s.trigger = ANY (%(triggers)s::text[])
