-- Read what the contexts of runs have under a key, and what time it is.
--   run_ids uuid[], keys text[]
-- Returns: run, key, value or null, the database's time.
-- Locks: none; the caller has the run's. Index: attempts_pkey, backwards, and runs_pkey.
SELECT wanted.run_id, wanted.key, coalesce(newest.value, r.payload -> wanted.key)::text, squidmesh.clock()
  FROM unnest(%(run_ids)s::uuid[], %(keys)s::text[]) AS wanted (run_id, key)
  JOIN squidmesh.runs r ON r.id = ANY (ARRAY[wanted.run_id])  -- see pin_plans
  LEFT JOIN LATERAL (
       SELECT a.output -> wanted.key AS value
         FROM squidmesh.attempts a
        WHERE a.run_id = wanted.run_id AND a.output ? wanted.key AND a.kind <> 'compensation'
          -- What the newest snapshot does not have, nothing before it has.
          AND a.seq >= coalesce((SELECT s.seq FROM squidmesh.attempts s
                                  WHERE s.run_id = wanted.run_id AND s.kind = 'snapshot'
                                  ORDER BY s.seq DESC LIMIT 1), 0)
        ORDER BY a.seq DESC
        LIMIT 1) AS newest ON true
