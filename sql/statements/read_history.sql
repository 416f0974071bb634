-- Read ended attempts of a run, in order.
--   run_id uuid, after int, most int: from the first seq above, so many
-- Returns: the attempts.
-- Locks: none. Index: attempts_pkey.
SELECT a.seq, a.step, a.visit, a.attempt, a.status, a.outcome, a.output::text, a.error::text, a.worker, a.saw, a.takes,
       a.started_at, a.finished_at, a.kind
  FROM squidmesh.attempts a
 WHERE a.run_id = %(run_id)s::uuid AND a.seq > %(after)s::int AND a.kind <> 'snapshot'
 ORDER BY a.seq
 LIMIT %(most)s::int
