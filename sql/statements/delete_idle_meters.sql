-- Delete the rows of meters that say no more than no row would: full again, and open.
--   most int   at most so many
-- Returns: nothing.
-- Locks: rows of meters, SKIP LOCKED. Index: meters_idle.
DELETE FROM squidmesh.meters m
 USING (SELECT old.name FROM squidmesh.meters old WHERE old.idle_at < squidmesh.clock() LIMIT %(most)s::int
           FOR UPDATE SKIP LOCKED) AS idle
 WHERE m.name = ANY (ARRAY[idle.name])
