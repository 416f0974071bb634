-- Tell sleeping workers that a queue they serve has ready jobs.
--   channel text, queues text[]
-- Returns: nothing of use.
-- Locks: a NOTIFY serialises commits; none is sent when nobody sleeps. Index: none; workers is read whole (a
-- row per worker).
SELECT pg_notify(%(channel)s::text, 'queue:' || filled.queue)
  FROM unnest(%(queues)s::text[]) AS filled (queue)
 WHERE EXISTS (SELECT FROM squidmesh.workers w WHERE w.idle AND NOT w.dead AND filled.queue = ANY (w.queues))
