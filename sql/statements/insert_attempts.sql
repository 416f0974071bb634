-- Add ended attempts to the history.
--   run_ids uuid[], seqs int[], steps text[], visits int[], attempts int[], saws int[], kinds text[], statuses text[],
--   outcomes text[], outputs jsonb[], errors jsonb[], workers uuid[], takes text[] (each an array literal, or null)
--   started float8[], finished float8[]   seconds ago, measured on a monotonic clock
-- Returns: nothing.
-- Locks: only the rows it inserts; the run's lock makes the seq free. Index: attempts_pkey.
INSERT INTO squidmesh.attempts (run_id, seq, step, visit, attempt, saw, kind, status, outcome, output, error, worker,
                                takes, started_at, finished_at)
SELECT new.run_id, new.seq, new.step, new.visit, new.attempt, new.saw, new.kind, new.status, new.outcome, new.output,
       new.error, new.worker, new.takes::text[], squidmesh.clock() - make_interval(secs => new.started),
       squidmesh.clock() - make_interval(secs => new.finished)
  FROM unnest(%(run_ids)s::uuid[], %(seqs)s::int[], %(steps)s::text[], %(visits)s::int[], %(attempts)s::int[],
              %(saws)s::int[], %(kinds)s::text[], %(statuses)s::text[], %(outcomes)s::text[], %(outputs)s::jsonb[],
              %(errors)s::jsonb[], %(workers)s::uuid[], %(takes)s::text[], %(started)s::float8[],
              %(finished)s::float8[])
           AS new (run_id, seq, step, visit, attempt, saw, kind, status, outcome, output, error, worker, takes,
                   started, finished)
