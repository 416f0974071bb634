-- Look whether a signal has been sent to a locked run already.
--   run_id uuid, name, key text
-- Returns: a row if it has.
-- Locks: none; the caller has the run's. Index: signals_pkey.
SELECT s.seq
  FROM squidmesh.signals s
 WHERE s.run_id = %(run_id)s::uuid AND s.name = %(name)s::text AND s.key = %(key)s::text
