-- Keep what was sent to runs.
--   run_ids uuid[], names, keys text[], payloads jsonb[], seqs int[] (place in the history), consumed int[] (seq of the
--   attempt that it ended, or null)
-- Returns: nothing.
-- Locks: only the rows it inserts; the caller has the run's, and knows that it has no such signal. Index: signals_pkey.
INSERT INTO squidmesh.signals (run_id, name, key, payload, seq, consumed_by, sent_at)
SELECT new.run_id, new.name, new.key, new.payload, new.seq, new.consumed_by, squidmesh.clock()
  FROM unnest(%(run_ids)s::uuid[], %(names)s::text[], %(keys)s::text[], %(payloads)s::jsonb[], %(seqs)s::int[],
              %(consumed)s::int[])
           AS new (run_id, name, key, payload, seq, consumed_by)
