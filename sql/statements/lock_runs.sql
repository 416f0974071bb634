-- Lock runs without waiting: a run that somebody else holds is left out, and asked for again in the next turn.
--   ids uuid[]
-- Returns: the runs that were locked.
-- Locks: runs FOR NO KEY UPDATE, in id order, SKIP LOCKED. Index: runs_pkey.
SELECT id, workflow, trigger, fingerprint, status, attention, seq, state::text, error::text
  FROM squidmesh.runs
 WHERE id = ANY (%(ids)s::uuid[])
 ORDER BY id
   FOR NO KEY UPDATE SKIP LOCKED
