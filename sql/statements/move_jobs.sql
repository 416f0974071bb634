-- Write jobs in place: a chain's successor takes its predecessor's row; a retry keeps its own.
--   run_ids uuid[], slots int[], states, kinds, steps text[], visits, attempts, saws int[], queues text[],
--   priorities, lanes smallint[], delays float8[] (seconds), workers uuid[], claims bigint[], started boolean[],
--   crashes smallint[], defers int[], reasons, meters text[], same boolean[] (the visit goes on: since stays)
-- Returns: nothing.
-- Locks: the caller has the run's; a claim in flight is waited for. No index is touched while the job stays claimed by
-- the same worker (HOT): ready_at is renewed only where the job becomes ready; what was claimed and comes back as
-- it was keeps its place in the queue. Index: jobs_pkey.
UPDATE squidmesh.jobs j
   SET state = new.state, kind = new.kind, step = new.step, visit = new.visit, attempt = new.attempt, saw = new.saw,
       queue = new.queue, priority = new.priority, lane = new.lane, worker = new.worker, claim = new.claim,
       started = new.started, crashes = new.crashes, defers = new.defers, reason = new.reason, meters = new.meters,
       cancelled = false,
       since = CASE WHEN new.same THEN j.since ELSE squidmesh.clock() END,
       ready_at = CASE WHEN new.state <> 'ready' THEN j.ready_at
                       WHEN new.same AND j.state = 'claimed'
                        AND (new.attempt, new.crashes, new.defers) = (j.attempt, j.crashes, j.defers) THEN j.ready_at
                       ELSE squidmesh.clock() END,
       run_at = CASE WHEN new.state = 'sleeping' THEN squidmesh.clock() + make_interval(secs => new.delay) END
  FROM unnest(%(run_ids)s::uuid[], %(slots)s::int[], %(states)s::text[], %(kinds)s::text[], %(steps)s::text[],
              %(visits)s::int[], %(attempts)s::int[], %(saws)s::int[], %(queues)s::text[], %(priorities)s::smallint[],
              %(lanes)s::smallint[], %(delays)s::float8[], %(workers)s::uuid[], %(claims)s::bigint[],
              %(started)s::boolean[], %(crashes)s::smallint[], %(defers)s::int[], %(reasons)s::text[],
              %(meters)s::text[], %(same)s::boolean[])
           AS new (run_id, slot, state, kind, step, visit, attempt, saw, queue, priority, lane, delay, worker, claim,
                   started, crashes, defers, reason, meters, same)
 WHERE j.run_id = ANY (ARRAY[new.run_id]) AND j.slot = new.slot  -- see pin_plans
