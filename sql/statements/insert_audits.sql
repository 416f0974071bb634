-- Add audit events to the history.
--   run_ids uuid[], seqs int[], types text[], steps text[], actors jsonb[], comments text[], metadata jsonb[]
-- Returns: nothing.
-- Locks: only the rows it inserts. Index: audit_events_pkey.
INSERT INTO squidmesh.audit_events (run_id, seq, type, step, actor, comment, metadata, at)
SELECT new.*, squidmesh.clock()
  FROM unnest(%(run_ids)s::uuid[], %(seqs)s::int[], %(types)s::text[], %(steps)s::text[], %(actors)s::jsonb[],
              %(comments)s::text[], %(metadata)s::jsonb[]) AS new
