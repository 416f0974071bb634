-- Let nothing begin that shares these meters, for some time; one that is paused for longer stays so.
--   names text[], seconds float8[]
--   untils timestamptz[]   until when, in place of seconds, where it is not null
-- Returns: nothing.
-- Locks: advisory ones of the meters, in the order of their names (a claim that has one is waited for; it never waits
-- itself), then their rows. Index: meters_pkey.
WITH asked AS MATERIALIZED (
    SELECT given.name, max(coalesce(given.until, squidmesh.clock() + make_interval(secs => given.seconds))) AS until
      FROM unnest(%(names)s::text[], %(seconds)s::float8[], %(untils)s::timestamptz[]) AS given (name, seconds, until)
     GROUP BY given.name
     ORDER BY given.name
), locked AS MATERIALIZED (
    SELECT asked.name, asked.until, pg_advisory_xact_lock(hashtextextended('squidmesh.meters ' || asked.name, 0))
      FROM asked
)
INSERT INTO squidmesh.meters AS m (name, paused_until, idle_at)
SELECT locked.name, locked.until, locked.until
  FROM locked
    ON CONFLICT (name) DO UPDATE
   SET paused_until = greatest(m.paused_until, excluded.paused_until), idle_at = greatest(m.idle_at, excluded.idle_at)
