-- Read the schedules that code has declared, what time it is, and which of them a worker may change: the code of the
-- worker that began last is the newest there is, as long as that worker lives.
--   worker uuid        the one that asks
--   workflows text[]   of these
-- Returns: the time, whether the worker's code stands behind those of workers that began after it, whether the schedule
-- follows it already, and a schedule as read_schedules does; one row with nothing but the time if there are none.
-- Locks: none. Index: workers_pkey; schedules is read whole.
SELECT clock.now, newer.id IS NOT NULL, s.declared_by IS NOT DISTINCT FROM %(worker)s::uuid,
       s.name, s.workflow, s.trigger, s.source, s.expression, s.timezone, s.catch_up_seconds, s.catch_up, s.overlap,
       s.jitter_seconds, s.payload::text, s.paused, s.retired, s.next_at, s.last_at, s.last_run, s.skipped,
       s.last_skipped, s.skip_reason
  FROM (SELECT squidmesh.clock() AS now) AS clock
  LEFT JOIN squidmesh.schedules s ON s.source = 'code' AND s.workflow = ANY (%(workflows)s::text[])
  LEFT JOIN LATERAL (
       SELECT w.id
         FROM squidmesh.workers w, squidmesh.workers me
        WHERE w.id = s.declared_by AND NOT w.dead AND w.lease > clock.now
          AND me.id = %(worker)s::uuid AND (w.started_at, w.id) > (me.started_at, me.id)) AS newer ON true
 ORDER BY s.name
