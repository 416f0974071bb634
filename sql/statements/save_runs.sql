-- Write where runs stand.
--   ids uuid[], statuses text[], attentions text[], seqs int[], errors jsonb[], ended boolean[]
--   states jsonb   an array of them
-- Returns: nothing.
-- Locks: the caller has them. No index is touched while attention stays null (HOT). Index: runs_pkey.
UPDATE squidmesh.runs r
   SET status = new.status, attention = new.attention, seq = new.seq, state = new.state, error = new.error,
       -- A run that is retried has not ended any more; one that has ended stays so, whatever else is written.
       finished_at = CASE WHEN new.ended THEN coalesce(r.finished_at, squidmesh.clock()) END
  FROM ROWS FROM (unnest(%(ids)s::uuid[], %(statuses)s::text[], %(attentions)s::text[], %(seqs)s::int[],
                         %(errors)s::jsonb[], %(ended)s::boolean[]),
                  jsonb_array_elements(%(states)s::jsonb))
           AS new (id, status, attention, seq, error, ended, state)
 WHERE r.id = ANY (ARRAY[new.id])  -- see pin_plans
