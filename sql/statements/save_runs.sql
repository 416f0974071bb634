-- Write where runs stand.
--   ids uuid[], statuses text[], attentions text[], seqs int[], states jsonb[], errors jsonb[], ended boolean[]
-- Returns: nothing.
-- Locks: the caller has them. No index is touched while attention stays null (HOT). Index: runs_pkey.
UPDATE squidmesh.runs r
   SET status = new.status, attention = new.attention, seq = new.seq, state = new.state, error = new.error,
       -- A run that is retried has not ended any more; one that has ended stays so, whatever else is written.
       finished_at = CASE WHEN new.ended THEN coalesce(r.finished_at, squidmesh.clock()) END
  FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(attentions)s::text[], %(seqs)s::int[], %(states)s::jsonb[],
              %(errors)s::jsonb[], %(ended)s::boolean[])
           AS new (id, status, attention, seq, state, error, ended)
 WHERE r.id = ANY (ARRAY[new.id])  -- see pin_plans
