-- Fifty durable steps in one statement and one commit; pgbench keeps "next", the number of the first of them.
WITH batch AS MATERIALIZED (
    SELECT :next::bigint + place AS job, (:next::bigint + place) % 5000 AS run FROM generate_series(0, 49) AS place
), removed AS (
    DELETE FROM job USING batch WHERE job.id = batch.job
), recorded AS (
    INSERT INTO attempt (run_id, step, data)
    SELECT run, 1, jsonb_build_object('outcome', 'ok', 'filling', repeat('a', 180)) FROM batch
), moved AS (
    UPDATE run
       SET status = 'running', step = step + 1,
           context = jsonb_build_object('job', batch.job, 'filling', repeat('r', 480))
      FROM batch
     WHERE run.id = batch.run
)
INSERT INTO job (id, run_id, step) SELECT job + 5000, run, 2 FROM batch;
\set next :next + 50
