-- Count the unfinished runs that may still start a step, by their graph and the steps that are live in them.
-- Returns: workflow, fingerprint, the live steps, how many runs.
-- Locks: none. Index: jobs_pkey, runs_pkey; every unfinished run has a job, so jobs is read whole, and of runs those.
SELECT r.workflow, r.fingerprint, live.steps, count(*)
  FROM (SELECT j.run_id, array_agg(DISTINCT j.step ORDER BY j.step) AS steps
          FROM squidmesh.jobs j
         WHERE j.kind <> 'timer'  -- it belongs to no step
         GROUP BY j.run_id) AS live
  JOIN squidmesh.runs r ON r.id = live.run_id
 WHERE r.status NOT IN ('failing', 'cancelling')  -- these only wait for what executes
 GROUP BY r.workflow, r.fingerprint, live.steps
