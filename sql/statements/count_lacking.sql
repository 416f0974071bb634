-- Of the runs that count_live counts, those whose payload lacks a key that a step of their graph needs.
--   fingerprints, steps, keys text[]     of each need: the graph, the step, and the key
-- Returns: step, key, workflow, fingerprint, the live steps, how many runs.
-- Locks: none. Index: as count_live.
SELECT need.step, need.key, r.workflow, r.fingerprint, live.steps, count(*)
  FROM (SELECT j.run_id, array_agg(DISTINCT j.step ORDER BY j.step) AS steps
          FROM squidmesh.jobs j
         GROUP BY j.run_id) AS live
  JOIN squidmesh.runs r ON r.id = live.run_id
  JOIN unnest(%(fingerprints)s::text[], %(steps)s::text[], %(keys)s::text[]) AS need (fingerprint, step, key)
       ON need.fingerprint = r.fingerprint
 WHERE r.status NOT IN ('failing', 'cancelling') AND NOT r.payload ? need.key
 GROUP BY need.step, need.key, r.workflow, r.fingerprint, live.steps
