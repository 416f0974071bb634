-- Read the outputs of a run, in order: what its context is folded of.
--   run_id uuid
-- Returns: seq, output.
-- Locks: none. Index: attempts_pkey.
SELECT a.seq, a.output::text
  FROM squidmesh.attempts a
 WHERE a.run_id = %(run_id)s::uuid AND a.output IS NOT NULL AND a.kind IN ('step', 'copied')
 ORDER BY a.seq
