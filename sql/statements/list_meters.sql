-- List what steps share, limits and rates by name: what jobs carry, and what has a row.
--   prefix text   names that begin so; empty for all
--   name text     this one alone; null for all
--   most int      at most so many, in the order of their names
-- Returns: a row each: the name; how many claimed jobs carry it, and how many ready ones; the tokens that were left,
-- and since how many seconds; until when it is paused, if it is.
-- Locks: none. Index: jobs_metered (all of it, an entry for each ready job that shares something), jobs_holding; meters
-- is read whole.
WITH carried AS MATERIALIZED (
    SELECT j.meters, 0 AS held, count(*) AS waiting
      FROM squidmesh.jobs j
     WHERE j.state = 'ready' AND j.meters IS NOT NULL
     GROUP BY j.queue, j.meters
    UNION ALL
    SELECT j.meters, count(*), 0
      FROM squidmesh.jobs j
     WHERE j.state = 'claimed' AND j.meters IS NOT NULL
     GROUP BY j.meters
), named AS MATERIALIZED (
    SELECT part.name, sum(carried.held) AS held, sum(carried.waiting) AS waiting
      FROM carried
     CROSS JOIN LATERAL (
           -- A step's limit and its rate may have one name.
           SELECT DISTINCT line.name FROM string_to_table(carried.meters, E'\n') AS line (name)) AS part
     WHERE part.name <> ''
     GROUP BY part.name
)
SELECT name, coalesce(named.held, 0)::int, coalesce(named.waiting, 0)::int, m.tokens,
       extract(epoch FROM squidmesh.clock() - m.refilled_at)::float8,
       CASE WHEN m.paused_until > squidmesh.clock() THEN m.paused_until END
  FROM named
  FULL JOIN squidmesh.meters m USING (name)
 WHERE (named.waiting IS NOT NULL OR m.idle_at > squidmesh.clock())
   AND starts_with(name, %(prefix)s::text) AND (%(name)s::text IS NULL OR name = %(name)s::text)
 ORDER BY name COLLATE "C"
 LIMIT %(most)s::int
