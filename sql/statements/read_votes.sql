-- Read the approvals of a run's steps that were not the last ones needed, and what time it is.
--   run_id uuid
-- Returns: step, visit, actor of each vote in order; one row with nulls if there is none; the database's time in all.
-- Locks: none; the caller has the run's. Index: audit_events_pkey.
SELECT voted.step, (voted.metadata ->> 'visit')::int, voted.actor::text, squidmesh.clock()
  FROM (SELECT) AS always
  LEFT JOIN squidmesh.audit_events voted ON voted.run_id = %(run_id)s::uuid AND voted.type = 'voted'
 ORDER BY voted.seq
