-- Version 1: runs, jobs, attempts, audit events, signals, schedules, workers, definitions.
-- squidmesh: serves 1
-- The commented whole is in sql/schema.sql.

CREATE TABLE squidmesh.meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version integer NOT NULL,
    serves integer NOT NULL
);

CREATE FUNCTION squidmesh.clock() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN statement_timestamp();

CREATE TABLE squidmesh.definitions (
    fingerprint text PRIMARY KEY,
    workflow text NOT NULL,
    definition jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT squidmesh.clock()
);

CREATE TABLE squidmesh.runs (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    replayed_from uuid,
    seq integer NOT NULL,
    workflow text NOT NULL,
    fingerprint text NOT NULL,
    trigger text NOT NULL,
    key text,
    status text NOT NULL,
    attention text,
    state jsonb NOT NULL,
    error jsonb,
    payload jsonb NOT NULL,
    schedule jsonb
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX runs_by_time ON squidmesh.runs (created_at);
CREATE INDEX runs_by_workflow ON squidmesh.runs (workflow, created_at);
CREATE INDEX runs_needing_attention ON squidmesh.runs (attention, created_at) WHERE attention IS NOT NULL;
CREATE INDEX runs_by_source ON squidmesh.runs (replayed_from) WHERE replayed_from IS NOT NULL;
CREATE UNIQUE INDEX runs_by_key ON squidmesh.runs (workflow, key) WHERE key IS NOT NULL;

CREATE TABLE squidmesh.jobs (
    run_id uuid NOT NULL,
    since timestamptz NOT NULL,
    ready_at timestamptz NOT NULL,
    run_at timestamptz,
    worker uuid,
    claim bigint NOT NULL DEFAULT 0,
    slot integer NOT NULL,
    visit integer NOT NULL,
    attempt integer NOT NULL,
    saw integer NOT NULL,
    defers integer NOT NULL DEFAULT 0,
    priority smallint NOT NULL,
    lane smallint NOT NULL,
    crashes smallint NOT NULL DEFAULT 0,
    started boolean NOT NULL DEFAULT false,
    cancelled boolean NOT NULL DEFAULT false,
    state text NOT NULL,
    kind text NOT NULL,
    step text NOT NULL,
    queue text NOT NULL,
    reason text,
    meters text COLLATE "C",
    PRIMARY KEY (run_id, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX jobs_ready ON squidmesh.jobs (queue, lane, priority, ready_at) WHERE state = 'ready';
CREATE INDEX jobs_sleeping ON squidmesh.jobs (queue, run_at) WHERE state = 'sleeping';
CREATE INDEX jobs_claimed ON squidmesh.jobs (worker) WHERE state = 'claimed';
CREATE INDEX jobs_unknown ON squidmesh.jobs (queue) WHERE state = 'parked' AND reason = 'unknown_step';
CREATE INDEX jobs_metered ON squidmesh.jobs (queue, meters, priority, ready_at)
    WHERE state = 'ready' AND meters IS NOT NULL;
CREATE INDEX jobs_holding ON squidmesh.jobs (split_part(meters, E'\n', 1))
    WHERE state = 'claimed' AND meters IS NOT NULL;
CREATE INDEX jobs_holding_queue ON squidmesh.jobs (queue) WHERE state = 'claimed' AND meters IS NOT NULL;

CREATE TABLE squidmesh.meters (
    name text COLLATE "C" PRIMARY KEY,
    tokens float8,
    refilled_at timestamptz,
    paused_until timestamptz,
    idle_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX meters_idle ON squidmesh.meters (idle_at);

CREATE TABLE squidmesh.attempts (
    run_id uuid NOT NULL,
    worker uuid,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    seq integer NOT NULL,
    visit integer NOT NULL,
    attempt integer NOT NULL,
    saw integer NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    step text NOT NULL,
    outcome text,
    takes text[],
    error jsonb,
    output jsonb,
    PRIMARY KEY (run_id, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE TABLE squidmesh.audit_events (
    run_id uuid NOT NULL,
    at timestamptz NOT NULL,
    seq integer NOT NULL,
    type text NOT NULL,
    step text,
    comment text,
    actor jsonb,
    metadata jsonb NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE squidmesh.signals (
    run_id uuid NOT NULL,
    sent_at timestamptz NOT NULL,
    seq integer NOT NULL,
    consumed_by integer,
    name text NOT NULL,
    key text NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (run_id, name, key)
);

CREATE TABLE squidmesh.schedules (
    name text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT squidmesh.clock(),
    next_at timestamptz,
    last_at timestamptz,
    last_run uuid,
    last_skipped timestamptz,
    skipped bigint NOT NULL DEFAULT 0,
    declared_by uuid,
    catch_up_seconds float8 NOT NULL,
    jitter_seconds float8 NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    retired boolean NOT NULL DEFAULT false,
    workflow text NOT NULL,
    trigger text NOT NULL,
    source text NOT NULL,
    expression text NOT NULL,
    timezone text NOT NULL,
    catch_up text NOT NULL,
    overlap text NOT NULL,
    skip_reason text,
    payload jsonb NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX schedules_due ON squidmesh.schedules (next_at) WHERE NOT paused AND NOT retired;

CREATE TABLE squidmesh.workers (
    id uuid PRIMARY KEY,
    lease timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL DEFAULT squidmesh.clock(),
    started_at timestamptz NOT NULL DEFAULT squidmesh.clock(),
    beats bigint NOT NULL DEFAULT 0,
    pid integer NOT NULL,
    idle boolean NOT NULL DEFAULT false,
    dead boolean NOT NULL DEFAULT false,
    host text NOT NULL,
    version text NOT NULL,
    queues text[] NOT NULL,
    knows text[] NOT NULL
) WITH (fillfactor = 50);

CREATE VIEW squidmesh.run_context AS
SELECT r.id AS run_id,
       r.payload || CASE WHEN r.schedule IS NULL THEN '{}' ELSE jsonb_build_object('schedule', r.schedule) END
           || coalesce(folded.outputs, '{}') AS context
  FROM squidmesh.runs r
  LEFT JOIN LATERAL (
      SELECT jsonb_object_agg(pair.key, pair.value ORDER BY a.seq) AS outputs
        FROM squidmesh.attempts a CROSS JOIN LATERAL jsonb_each(a.output) pair
       WHERE a.run_id = r.id AND a.status = 'completed' AND a.kind <> 'snapshot'
  ) folded ON true;

CREATE VIEW squidmesh.step_runs AS
SELECT DISTINCT ON (a.run_id, a.step, a.visit)
       a.run_id, a.step, a.visit, a.attempt AS attempts, a.status, a.outcome, a.output, a.error,
       a.started_at, a.finished_at
  FROM squidmesh.attempts a
 WHERE a.kind <> 'snapshot'
 ORDER BY a.run_id, a.step, a.visit, a.seq DESC;
