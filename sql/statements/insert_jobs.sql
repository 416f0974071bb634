-- Add jobs: the branches of a fork, the join of several branches.
--   run_ids uuid[], slots int[], states, kinds, steps text[], visits, attempts, saws int[], queues text[],
--   priorities, lanes smallint[], delays float8[] (seconds), workers uuid[], claims bigint[], started boolean[],
--   crashes smallint[], defers int[], reasons, meters text[], same boolean[] (of no use here: as for move_jobs)
-- Returns: nothing.
-- Locks: only the rows it inserts; the run's lock makes the slot free. Index: jobs_pkey and the one of its state.
INSERT INTO squidmesh.jobs (run_id, slot, state, kind, step, visit, attempt, saw, queue, priority, lane, worker, claim,
                            started, crashes, defers, reason, meters, since, ready_at, run_at)
SELECT new.run_id, new.slot, new.state, new.kind, new.step, new.visit, new.attempt, new.saw, new.queue, new.priority,
       new.lane, new.worker, new.claim, new.started, new.crashes, new.defers, new.reason, new.meters, squidmesh.clock(),
       squidmesh.clock(),
       CASE WHEN new.state = 'sleeping' THEN squidmesh.clock() + make_interval(secs => new.delay) END
  FROM unnest(%(run_ids)s::uuid[], %(slots)s::int[], %(states)s::text[], %(kinds)s::text[], %(steps)s::text[],
              %(visits)s::int[], %(attempts)s::int[], %(saws)s::int[], %(queues)s::text[], %(priorities)s::smallint[],
              %(lanes)s::smallint[], %(delays)s::float8[], %(workers)s::uuid[], %(claims)s::bigint[],
              %(started)s::boolean[], %(crashes)s::smallint[], %(defers)s::int[], %(reasons)s::text[],
              %(meters)s::text[], %(same)s::boolean[])
           AS new (run_id, slot, state, kind, step, visit, attempt, saw, queue, priority, lane, delay, worker, claim,
                   started, crashes, defers, reason, meters, same)
