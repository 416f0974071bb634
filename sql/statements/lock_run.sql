-- Lock one run, waiting for whoever holds it: a worker does so for a turn, a person for a transaction.
--   id uuid
-- Returns: the run, or nothing if there is none.
-- Locks: the run FOR NO KEY UPDATE. Index: runs_pkey.
SELECT id, workflow, trigger, fingerprint, status, attention, seq, state::text, error::text
  FROM squidmesh.runs
 WHERE id = %(id)s::uuid
   FOR NO KEY UPDATE
