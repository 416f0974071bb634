-- Tell workers that sleep of queues that they serve: there are ready jobs, or a timer that they do not know.
--   channel text, queues text[]
--   worker uuid   who knows already, or null
-- Returns: nothing of use.
-- Locks: a NOTIFY serialises commits; none is sent when nobody sleeps. Index: none; workers is read whole (a
-- row per worker).
SELECT pg_notify(%(channel)s::text, 'queue:' || filled.queue)
  FROM unnest(%(queues)s::text[]) AS filled (queue)
 WHERE EXISTS (SELECT
                 FROM squidmesh.workers w
                WHERE w.idle AND NOT w.dead AND filled.queue = ANY (w.queues)
                  AND w.id IS DISTINCT FROM %(worker)s::uuid)
