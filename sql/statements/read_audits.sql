-- Read what was done to a run, in order.
--   run_id uuid, after int, below int: seqs above the one and below the other (null: all)
-- Returns: the audit events.
-- Locks: none. Index: audit_events_pkey.
SELECT seq, type, step, actor::text, comment, metadata::text, at
  FROM squidmesh.audit_events
 WHERE run_id = %(run_id)s::uuid AND seq > %(after)s::int
   AND (%(below)s::int IS NULL OR seq < %(below)s::int)
 ORDER BY seq
