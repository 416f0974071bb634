-- Read of each run the newest completed visit below a place in its history that can be undone.
--   run_ids uuid[], belows int[], steps text[]   the steps that have a compensation, joined by /
-- Returns: run, below; seq, step, visit of the completion, or nulls.
-- Locks: none; the caller has the run's. Index: attempts_pkey, backwards from that place.
SELECT wanted.run_id, wanted.below, newest.seq, newest.step, newest.visit
  FROM unnest(%(run_ids)s::uuid[], %(belows)s::int[], %(steps)s::text[]) AS wanted (run_id, below, steps)
  LEFT JOIN LATERAL (
       SELECT a.seq, a.step, a.visit
         FROM squidmesh.attempts a
        WHERE a.run_id = wanted.run_id AND a.seq < wanted.below AND a.kind = 'step' AND a.status = 'completed'
          AND a.step = ANY (string_to_array(wanted.steps, '/'))
        ORDER BY a.seq DESC
        LIMIT 1) AS newest ON true
