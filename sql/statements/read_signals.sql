-- Read the signals of locked runs that nothing has consumed yet.
--   run_ids uuid[]
-- Returns: run, name, key, payload, in the order in which they came.
-- Locks: none; the caller has the run's. Index: signals_pkey.
SELECT s.run_id, s.name, s.key, s.payload::text
  FROM squidmesh.signals s
 WHERE s.run_id = ANY (%(run_ids)s::uuid[]) AND s.consumed_by IS NULL
 ORDER BY s.run_id, s.seq
