-- Note of signals that were kept which attempt they have ended.
--   run_ids uuid[], names, keys text[], consumed int[] (seq of the attempt)
-- Returns: nothing.
-- Locks: the caller has the run's, and with it its signals. Index: signals_pkey.
UPDATE squidmesh.signals s
   SET consumed_by = new.consumed_by
  FROM unnest(%(run_ids)s::uuid[], %(names)s::text[], %(keys)s::text[], %(consumed)s::int[])
           AS new (run_id, name, key, consumed_by)
 WHERE s.run_id = ANY (ARRAY[new.run_id]) AND s.name = new.name AND s.key = new.key  -- see pin_plans
