-- Find what ready jobs share with others, and lock these meters without waiting, for claim_metered in the same
-- transaction: it counts and takes what is left under the lock, in a snapshot of its own.
--   queues, afters text[]             the queues, and after which meters of each to go on
--   most int                          at most so many different meters of each queue
--   parts int[], definitions text[], mosts int[]   what this worker knows: in which line of meters; the limit, or null
-- Returns: a row a queue in which there are some: the last meters that were looked at; whether there may be more;
-- whether somebody else has the lock of one of them.
-- Locks: advisory ones of meters until the end of the transaction; it never waits. Index: jobs_metered, one entry for
-- each of the meters; jobs_holding, jobs_holding_queue; workers is read whole for meters that nobody here knows.
WITH RECURSIVE walked AS (
    SELECT wanted.queue, first.meters, 1 AS place
      FROM unnest(%(queues)s::text[], %(afters)s::text[]) AS wanted (queue, after)
     CROSS JOIN LATERAL (
           SELECT j.meters
             FROM squidmesh.jobs j
            WHERE j.state = 'ready' AND j.queue = wanted.queue AND j.meters > wanted.after
            ORDER BY j.meters
            LIMIT 1) AS first
    UNION ALL
    SELECT walked.queue, next.meters, walked.place + 1
      FROM walked
     CROSS JOIN LATERAL (
           SELECT j.meters
             FROM squidmesh.jobs j
            WHERE j.state = 'ready' AND j.queue = walked.queue AND j.meters > walked.meters
            ORDER BY j.meters
            LIMIT 1) AS next
     WHERE walked.place < %(most)s::int
), named AS MATERIALIZED (
    SELECT walked.queue, walked.meters, part.name,
           -- What is full is left alone: whoever makes room in it claims the next one itself, and needs the lock.
           coalesce(given.part = 1 AND EXISTS (
                        SELECT
                          FROM squidmesh.jobs j
                         WHERE j.state = 'claimed' AND j.meters IS NOT NULL
                           AND split_part(j.meters, E'\n', 1) = part.name
                        OFFSET given.most - 1 LIMIT 1), false)
           OR coalesce(given.part = 3 AND EXISTS (
                        SELECT
                          FROM squidmesh.jobs j
                         WHERE j.state = 'claimed' AND j.meters IS NOT NULL AND j.queue = walked.queue
                        OFFSET given.most - 1 LIMIT 1), false)
           -- What other code declares is left to it; what none does any more is claimed by anybody, to be filed anew.
           OR (given.part IS NULL AND EXISTS (
                        SELECT
                          FROM squidmesh.workers w
                         WHERE NOT w.dead AND 'meter/' || split_part(part.name, '=', 1) = ANY (w.knows))) AS shut
      FROM walked
     CROSS JOIN LATERAL string_to_table(walked.meters, E'\n') WITH ORDINALITY AS part (name, number)
      LEFT JOIN unnest(%(parts)s::int[], %(definitions)s::text[], %(mosts)s::int[]) AS given (part, definition, most)
        ON given.part = part.number AND given.definition = split_part(part.name, '=', 1)
     WHERE part.name <> ''
), open AS MATERIALIZED (
    SELECT queue, meters, array_agg(name) AS names FROM named GROUP BY queue, meters HAVING NOT bool_or(shut)
), locked AS MATERIALIZED (
    SELECT asked.name, pg_try_advisory_xact_lock(hashtextextended('squidmesh.meters ' || asked.name, 0)) AS got
      FROM (SELECT DISTINCT unnest(open.names) AS name FROM open) AS asked
), held AS MATERIALIZED (
    SELECT open.queue, open.meters, open.names <@ ARRAY(SELECT locked.name FROM locked WHERE locked.got) AS got
      FROM open
), noted AS MATERIALIZED (
    SELECT set_config('squidmesh.locked_meters',
                      coalesce(jsonb_agg(jsonb_build_object('queue', queue, 'meters', meters)) FILTER (WHERE got),
                               '[]')::text,
                      true)
      FROM held
)
SELECT walked.queue, max(walked.meters), count(*) >= %(most)s::int,
       EXISTS (SELECT FROM held WHERE held.queue = walked.queue AND NOT held.got)
  FROM noted CROSS JOIN walked
 GROUP BY walked.queue
