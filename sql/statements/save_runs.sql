-- Write where runs stand.
--   ids uuid[], statuses text[], attentions text[], seqs int[], states jsonb[], errors jsonb[], finished boolean[]
-- Returns: nothing.
-- Locks: the caller has them. No index is touched while attention stays null (HOT). Index: runs_pkey.
UPDATE squidmesh.runs r
   SET status = new.status, attention = new.attention, seq = new.seq, state = new.state, error = new.error,
       finished_at = CASE WHEN new.finished THEN squidmesh.clock() ELSE r.finished_at END
  FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(attentions)s::text[], %(seqs)s::int[], %(states)s::jsonb[],
              %(errors)s::jsonb[], %(finished)s::boolean[])
           AS new (id, status, attention, seq, state, error, finished)
 WHERE r.id = ANY (ARRAY[new.id])  -- see pin_plans
