-- Write what schedules are; not what they have done.
--   names, workflows, triggers, sources, expressions, timezones, catch_ups, overlaps text[], windows, jitters float8[],
--   payloads jsonb[], paused, retired boolean[], next_ats timestamptz[], declared uuid[]   a schedule each
-- Returns: nothing.
-- Locks: the caller has them. Index: schedules_pkey.
UPDATE squidmesh.schedules s
   SET workflow = new.workflow, trigger = new.trigger, source = new.source, expression = new.expression,
       timezone = new.timezone, catch_up = new.catch_up, overlap = new.overlap, catch_up_seconds = new.seconds,
       jitter_seconds = new.jitter, payload = new.payload, paused = new.paused, retired = new.retired,
       next_at = new.next_at, declared_by = new.declared_by
  FROM unnest(%(names)s::text[], %(workflows)s::text[], %(triggers)s::text[], %(sources)s::text[],
              %(expressions)s::text[], %(timezones)s::text[], %(catch_ups)s::text[], %(overlaps)s::text[],
              %(windows)s::float8[], %(jitters)s::float8[], %(payloads)s::jsonb[], %(paused)s::boolean[],
              %(retired)s::boolean[], %(next_ats)s::timestamptz[], %(declared)s::uuid[])
           AS new (name, workflow, trigger, source, expression, timezone, catch_up, overlap, seconds, jitter, payload,
                   paused, retired, next_at, declared_by)
 WHERE s.name = ANY (ARRAY[new.name])
