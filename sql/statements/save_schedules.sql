-- Write what was decided about nominal times.
--   names text[], next_ats timestamptz[]          a schedule each: the next nominal time to decide about
--   last_ats timestamptz[], last_runs uuid[]      what was started last, or null
--   skipped bigint[], last_skipped timestamptz[], reasons text[]   how many were passed over, the last, and why
-- Returns: nothing.
-- Locks: the caller has them. Index: schedules_pkey, runs_pkey.
UPDATE squidmesh.schedules s
   SET next_at = new.next_at,
       last_at = greatest(s.last_at, new.last_at),
       -- One that somebody had started before under the same key is not there.
       last_run = coalesce((SELECT r.id FROM squidmesh.runs r WHERE r.id = new.last_run), s.last_run),
       skipped = s.skipped + new.skipped,
       last_skipped = coalesce(new.last_skipped, s.last_skipped),
       skip_reason = coalesce(new.reason, s.skip_reason)
  FROM unnest(%(names)s::text[], %(next_ats)s::timestamptz[], %(last_ats)s::timestamptz[], %(last_runs)s::uuid[],
              %(skipped)s::bigint[], %(last_skipped)s::timestamptz[], %(reasons)s::text[])
           AS new (name, next_at, last_at, last_run, skipped, last_skipped, reason)
 WHERE s.name = ANY (ARRAY[new.name])
