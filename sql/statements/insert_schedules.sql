-- Add schedules; one whose name is taken is left as it is.
--   names, workflows, triggers, sources, expressions, timezones, catch_ups, overlaps text[], windows, jitters float8[],
--   payloads jsonb[], paused, retired boolean[], next_ats timestamptz[], declared uuid[]   a schedule each
-- Returns: the names of those that were added.
-- Locks: only the rows it inserts; waits for another who adds the same name. Index: schedules_pkey.
INSERT INTO squidmesh.schedules (name, workflow, trigger, source, expression, timezone, catch_up, overlap,
                                 catch_up_seconds, jitter_seconds, payload, paused, retired, next_at, declared_by)
SELECT new.name, new.workflow, new.trigger, new.source, new.expression, new.timezone, new.catch_up, new.overlap,
       new.seconds, new.jitter, new.payload, new.paused, new.retired, new.next_at, new.declared_by
  FROM unnest(%(names)s::text[], %(workflows)s::text[], %(triggers)s::text[], %(sources)s::text[],
              %(expressions)s::text[], %(timezones)s::text[], %(catch_ups)s::text[], %(overlaps)s::text[],
              %(windows)s::float8[], %(jitters)s::float8[], %(payloads)s::jsonb[], %(paused)s::boolean[],
              %(retired)s::boolean[], %(next_ats)s::timestamptz[], %(declared)s::uuid[])
           AS new (name, workflow, trigger, source, expression, timezone, catch_up, overlap, seconds, jitter, payload,
                   paused, retired, next_at, declared_by)
 ORDER BY new.name
ON CONFLICT (name) DO NOTHING
RETURNING name
