-- Let what shares these meters begin again, before their pauses are over, and tell workers to look.
--   names text[], channel text
-- Returns: nothing of use.
-- Locks: advisory ones of the meters, in the order of their names (a claim that has one is waited for; it never waits
-- itself), then their rows; a NOTIFY serialises commits. Index: meters_pkey; jobs_metered, one entry for each queue;
-- workers is read whole (a row per worker).
WITH asked AS MATERIALIZED (
    SELECT DISTINCT given.name FROM unnest(%(names)s::text[]) AS given (name) ORDER BY given.name
), locked AS MATERIALIZED (
    SELECT asked.name, pg_advisory_xact_lock(hashtextextended('squidmesh.meters ' || asked.name, 0)) FROM asked
), resumed AS (
    UPDATE squidmesh.meters m
       SET paused_until = NULL, idle_at = CASE WHEN m.tokens IS NULL THEN squidmesh.clock() ELSE m.idle_at END
      FROM locked
     WHERE m.name = ANY (ARRAY[locked.name])
)
SELECT pg_notify(%(channel)s::text, 'queue:' || served.queue)
  FROM (SELECT DISTINCT unnest(w.queues) AS queue FROM squidmesh.workers w WHERE NOT w.dead) AS served
 WHERE EXISTS (SELECT
                 FROM squidmesh.jobs j
                WHERE j.state = 'ready' AND j.meters IS NOT NULL AND j.queue = served.queue)
