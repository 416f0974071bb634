-- Read what handed-out jobs need of their runs: the facts, and the outputs that make up their input.
--   run_ids uuid[], saws int[]   jobs whose run is read beside those that claim_jobs noted in this transaction
-- Returns: a row a run: its facts, and its outputs in order (seq, text) from the last snapshot that all its jobs saw.
-- Locks: none. Index: runs_pkey, attempts_pkey.
WITH wanted AS (
    SELECT run_id, min(saw) AS low, max(saw) AS high
      FROM (SELECT unnest(nullif(current_setting('squidmesh.claimed_runs', true), '')::uuid[]) AS run_id,
                   unnest(nullif(current_setting('squidmesh.claimed_saws', true), '')::int[]) AS saw
            UNION ALL
            SELECT * FROM unnest(%(run_ids)s::uuid[], %(saws)s::int[])) AS job
     GROUP BY run_id
)
SELECT r.id, r.workflow, r.trigger, r.fingerprint, r.status, r.payload::text, r.error::text, r.schedule::text,
       outputs.seqs,
       outputs.texts
  FROM wanted
  JOIN squidmesh.runs r ON r.id = ANY (ARRAY[wanted.run_id])  -- see pin_plans
  LEFT JOIN LATERAL (
       SELECT array_agg(a.seq ORDER BY a.seq) AS seqs, array_agg(a.output::text ORDER BY a.seq) AS texts
         FROM squidmesh.attempts a
        WHERE a.run_id = r.id AND a.seq < wanted.high AND a.output IS NOT NULL AND a.kind <> 'compensation'
          AND a.seq >= coalesce((SELECT s.seq FROM squidmesh.attempts s
                                  WHERE s.run_id = r.id AND s.seq < wanted.low AND s.kind = 'snapshot'
                                  ORDER BY s.seq DESC LIMIT 1), 0)) AS outputs ON wanted.high > 1
