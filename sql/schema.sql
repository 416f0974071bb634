-- The schema of squidmesh, whole: what a database holds after all migrations, with the reasons. It is for reading.
-- `python -m squidmesh migrate` makes it (add `--sql` to see what it would run); a test compares the two.
--
-- How to read it. A *run* is one execution of a workflow; its row says where it stands. Each step of it that is live
-- has one row in *jobs*; what has ended is in *attempts*; what people and the runtime did to the run is in
-- *audit_events*. Workers lock a run, decide what follows, and write all of it in one commit: nothing here changes in
-- another way, and no row is written by a trigger. Workers, definitions and meta are beside that.
--
-- What to expect. Rows of runs and jobs are updated often and in place (HOT), which is why half of each page is kept
-- free and why no index mentions what changes from step to step. The number of jobs is the number of live steps,
-- whatever the history: the table stays small and is vacuumed often. Attempts only grows, until retention removes
-- finished runs. There are no foreign keys: the one path that writes all of these keeps them consistent.
--
-- Rights. Who migrates owns the schema. Who runs workers and clients needs no more than
--     GRANT USAGE ON SCHEMA squidmesh TO app;
--     GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA squidmesh TO app;

CREATE SCHEMA squidmesh;

-- meta: which migrations this schema has. One row, written by whoever migrates, read by whatever starts.
CREATE TABLE squidmesh.meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),  -- so there is never a second
    version integer NOT NULL,                                    -- of the newest migration that was applied
    serves integer NOT NULL                                      -- the oldest code that still works with it, named by
                                                                 -- the version that it was made for
);

-- clock(): the only source of time in the SQL. It is one instant for a whole statement. STABLE and plain SQL, so that
-- it is inlined and indexes on times serve; a test that travels in time replaces it in a schema of its own.
CREATE FUNCTION squidmesh.clock() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN statement_timestamp();

-- definitions: a workflow's graph, kept once however many runs have it. A run finishes on the graph that it started
-- with, also after the code has changed; what no run refers to any more may be deleted.
CREATE TABLE squidmesh.definitions (
    fingerprint text PRIMARY KEY,                          -- hash of the graph: steps, edges, joins, parameters
    workflow text NOT NULL,                                -- the workflow's name
    definition jsonb NOT NULL,                             -- the graph, and the options (retry, queue, priority) as
                                                           -- they were, for workers that do not have the code
    created_at timestamptz NOT NULL DEFAULT squidmesh.clock()
);

-- runs: where each run stands. One row, locked by whoever wants to change anything of the run.
CREATE TABLE squidmesh.runs (
    id uuid PRIMARY KEY,               -- version 7: new ones are at the end of the index; not an order to rely on
    created_at timestamptz NOT NULL,   -- with the id, what lists are ordered and paged by
    finished_at timestamptz,           -- when it reached its terminal status
    replayed_from uuid,                -- the run that this one repeats
    seq integer NOT NULL,              -- the next free place in its history, shared by attempts and audit_events
    workflow text NOT NULL,
    fingerprint text NOT NULL,         -- its graph, in definitions
    trigger text NOT NULL,             -- the workflow's trigger that started it
    key text,                          -- what its start was named by, if it was: one run of a workflow has it
    status text NOT NULL,              -- pending, running, retrying, paused, failing, cancelling, compensating;
                                       -- completed, failed, cancelled. A claim does not touch this row: of a run
                                       -- shown as pending or retrying here, a step may be executing (see jobs)
    attention text,                    -- null while all is well; else what needs a human, or that it failed
    state jsonb NOT NULL,              -- counts and sets of steps (bits) that deciding needs; stays small
    error jsonb,                       -- why it is failing or has failed
    payload jsonb NOT NULL,            -- what it was started with
    schedule jsonb                     -- of a run that a schedule started: which one, for which nominal time
) WITH (fillfactor = 50,                          -- all runs of a turn are updated at once: with 70 a fifth of the
                                                 -- updates leave their page, and the table is half as large again
        autovacuum_vacuum_scale_factor = 0.05,   -- pages clean themselves up: this is for what retention deletes
        autovacuum_vacuum_cost_delay = 0);       -- no pauses: after updates in place the indexes need nothing
-- No index on status, on purpose: each step of each run would have to touch it.

-- Lists of runs, newest first, page by page. Without the id, which orders those of one instant: an index that has it
-- could be taken for a look-up by id while the table is empty, and be walked whole when it is full.
CREATE INDEX runs_by_time ON squidmesh.runs (created_at);
-- The same for one workflow.
CREATE INDEX runs_by_workflow ON squidmesh.runs (workflow, created_at);
-- What an operator looks at first. Partial, so that a run on its happy path is not in it.
CREATE INDEX runs_needing_attention ON squidmesh.runs (attention, created_at) WHERE attention IS NOT NULL;
-- Which runs repeat a given one.
CREATE INDEX runs_by_source ON squidmesh.runs (replayed_from) WHERE replayed_from IS NOT NULL;
-- One run of a workflow for a key, whoever starts it, and however often.
CREATE UNIQUE INDEX runs_by_key ON squidmesh.runs (workflow, key) WHERE key IS NOT NULL;

-- jobs: the steps that are live. A row leaves when its step ends; the next step of a chain takes over the row.
CREATE TABLE squidmesh.jobs (
    run_id uuid NOT NULL,
    since timestamptz NOT NULL,              -- when this visit to the step became live
    ready_at timestamptz NOT NULL,           -- when it last became ready: who waits longest is first
    run_at timestamptz,                      -- while it sleeps: when it becomes ready
    worker uuid,                             -- while it is claimed: whose it is
    claim bigint NOT NULL DEFAULT 0,         -- the number under which it was handed out; a result under another number
                                             -- comes too late and is dropped (the fence)
    slot integer NOT NULL,                   -- its place in the run; a chain keeps one, a fork has several
    visit integer NOT NULL,                  -- the n-th time that the run reached this step
    attempt integer NOT NULL,                -- number of the current or next attempt
    saw integer NOT NULL,                    -- the run's seq when this visit was handed out: what ended before is its
                                             -- input, also for a retry
    defers integer NOT NULL DEFAULT 0,       -- how often it asked to come back later
    priority smallint NOT NULL,              -- smaller is sooner
    lane smallint NOT NULL,                  -- 0: may be claimed ahead; 1: only to be started at once (irreversible);
                                             -- 2: one at a time, because a worker died with it; 3: nothing executes;
                                             -- 4 and 5: as 1 and 2, and as its meters allow
    crashes smallint NOT NULL DEFAULT 0,     -- how often a worker died with it
    started boolean NOT NULL DEFAULT false,  -- whether it was claimed to be started at once: a crash then counts
    cancelled boolean NOT NULL DEFAULT false,  -- its run is ending: the step that executes is asked to stop
    state text NOT NULL,                     -- ready; sleeping until run_at; claimed by worker; parked for reason
    kind text NOT NULL,                      -- step; wait; gate: for a person; signal: for a message; compensation:
                                             -- undoes a visit that completed; timer: the run's deadline, of no step
    step text NOT NULL,
    queue text NOT NULL,
    reason text,                             -- parked: unknown_step, quarantined, interrupted, pause, approval, signal;
                                             -- else why it was deferred
    meters text COLLATE "C",                 -- what it shares with others: three lines, each may be empty: the meter of
                                             -- its limit, of its rate, of its queue's limit; null: nothing
    PRIMARY KEY (run_id, slot)
) WITH (fillfactor = 50,                          -- as for runs
        autovacuum_vacuum_scale_factor = 0,      -- not by the share that is dead: a million may sleep
        autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0,     -- the same; workers pin their plans and do not depend on it
        autovacuum_analyze_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0);       -- no pauses: it takes milliseconds, beside a million, too

-- Claiming: of each queue and lane the best few, read in order and no further.
CREATE INDEX jobs_ready ON squidmesh.jobs (queue, lane, priority, ready_at) WHERE state = 'ready';
-- Waking: of each queue those that are due, and when the next one is.
CREATE INDEX jobs_sleeping ON squidmesh.jobs (queue, run_at) WHERE state = 'sleeping';
-- What a worker has: for settling doubts, for telling it what to stop, for rescuing what it left behind.
CREATE INDEX jobs_claimed ON squidmesh.jobs (worker) WHERE state = 'claimed';
-- What waits for a worker that knows the step; not what waits for people, of which there may be very much.
CREATE INDEX jobs_unknown ON squidmesh.jobs (queue) WHERE state = 'parked' AND reason = 'unknown_step';
-- Claiming what is metered: which meters there are ready jobs of, and of each the best few.
CREATE INDEX jobs_metered ON squidmesh.jobs (queue, meters, priority, ready_at)
    WHERE state = 'ready' AND meters IS NOT NULL;
-- How much of a limit is taken.
CREATE INDEX jobs_holding ON squidmesh.jobs (split_part(meters, E'\n', 1))
    WHERE state = 'claimed' AND meters IS NOT NULL;
-- How much of a queue's limit is taken.
CREATE INDEX jobs_holding_queue ON squidmesh.jobs (queue) WHERE state = 'claimed' AND meters IS NOT NULL;

-- meters: what is left of rates, and what is paused. A meter without a row is full and open. Whoever writes one holds
-- the advisory lock of its name; how much of a limit is taken is not stored, it is counted among the claimed jobs.
CREATE TABLE squidmesh.meters (
    name text COLLATE "C" PRIMARY KEY,  -- definition=key; a definition is workflow/step:key, or a name that steps share
    tokens float8,                      -- how many jobs could begin at refilled_at; null: as many as the rate allows
    refilled_at timestamptz,            -- when tokens was written
    paused_until timestamptz,           -- nothing of it begins before
    idle_at timestamptz NOT NULL        -- from when on the row says no more than no row would
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Which rows may go.
CREATE INDEX meters_idle ON squidmesh.meters (idle_at);

-- attempts: what ended, in order. Rows are inserted once and never changed.
CREATE TABLE squidmesh.attempts (
    run_id uuid NOT NULL,
    worker uuid,                       -- who ran it
    started_at timestamptz,            -- null: its body never started
    finished_at timestamptz NOT NULL,
    seq integer NOT NULL,              -- its place in the run's history
    visit integer NOT NULL,            -- as in jobs
    attempt integer NOT NULL,          -- as in jobs
    saw integer NOT NULL,              -- as in jobs
    kind text NOT NULL,                -- step; compensation: it undid that visit; copied: from the run that this one
                                       -- repeats; snapshot: not an attempt, but all outputs so far in one, so that
                                       -- reading them can begin there
    status text NOT NULL,              -- completed, failed, abandoned (its worker died), cancelled
    step text NOT NULL,
    outcome text,                      -- completed: the transition that it named
    takes text[],                      -- its parameters, where the code's were not those of the graph; else null
    error jsonb,                       -- why it did not complete
    output jsonb,                      -- what it added to the run's context (a compensation adds nothing)
    PRIMARY KEY (run_id, seq)          -- the only index: every reader asks for one run, from some seq on
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);  -- in small portions: new pages are marked as never to change

-- audit_events: what was done to a run, by people and by the runtime. Inserted once, and few beside attempts: the
-- server's defaults for vacuum serve it, as they serve signals, which are read by run, and the small tables below.
CREATE TABLE squidmesh.audit_events (
    run_id uuid NOT NULL,
    at timestamptz NOT NULL,
    seq integer NOT NULL,              -- its place in the run's history, among the attempts
    type text NOT NULL,                -- cancelled, replayed, routed, rescued, skipped, paused ...
    step text,                         -- the step it concerns
    comment text,                      -- what the person said
    actor jsonb,                       -- who, if it was a person
    metadata jsonb NOT NULL,           -- what else is known
    PRIMARY KEY (run_id, seq)
);

-- signals: what was sent to a run from outside, whether the run has waited for it yet or not. Under the run's lock.
CREATE TABLE squidmesh.signals (
    run_id uuid NOT NULL,
    sent_at timestamptz NOT NULL,
    seq integer NOT NULL,              -- its place in the run's history, where the audit event says who sent it
    consumed_by integer,               -- seq of the attempt that it ended; null: no step has waited for it yet
    name text NOT NULL,
    key text NOT NULL,                 -- the sender's name for this delivery: sent again, it is the same signal
    payload jsonb NOT NULL,
    PRIMARY KEY (run_id, name, key)
);

-- schedules: when cron starts runs. Whoever finds a row that is due locks it, starts the run and stores the next
-- nominal time in one commit; nobody leads. Those that code declares are registered by each worker that starts.
CREATE TABLE squidmesh.schedules (
    name text PRIMARY KEY,                   -- "workflow/trigger" of one that is declared in code
    created_at timestamptz NOT NULL DEFAULT squidmesh.clock(),
    next_at timestamptz,                     -- the next nominal time to decide about; firing moves it on, never back.
                                             -- If past: it waits (see overlap) or nobody is there. Null: it never fires
    last_at timestamptz,                     -- the latest nominal time that a run was started for
    last_run uuid,                           -- that run: whether it is live still is what overlap asks
    last_skipped timestamptz,                -- the latest nominal time that was passed over
    skipped bigint NOT NULL DEFAULT 0,       -- how many were passed over, at least
    declared_by uuid,                        -- of one declared in code: the worker whose code it follows
    catch_up_seconds float8 NOT NULL,        -- a nominal time that is missed for longer is passed over
    jitter_seconds float8 NOT NULL,          -- its runs begin up to so much later
    paused boolean NOT NULL DEFAULT false,   -- by a person: no code changes that
    retired boolean NOT NULL DEFAULT false,  -- the code does not declare it any more
    workflow text NOT NULL,
    trigger text NOT NULL,                   -- whose contract its payload meets
    source text NOT NULL,                    -- code, or api: by a call
    expression text NOT NULL,                -- of cron
    timezone text NOT NULL,                  -- an IANA name
    catch_up text NOT NULL,                  -- of several that were missed: latest, or all
    overlap text NOT NULL,                   -- while the run before is live: allow, skip, queue
    skip_reason text,                        -- why last_skipped was: missed, superseded, overlap, payload
    payload jsonb NOT NULL                   -- what is not left to the contract's defaults
) WITH (fillfactor = 50);

-- What is due, and when the next one is.
CREATE INDEX schedules_due ON squidmesh.schedules (next_at) WHERE NOT paused AND NOT retired;

-- workers: who is at work. One row per process, updated by its heartbeat every few seconds: never one per job.
CREATE TABLE squidmesh.workers (
    id uuid PRIMARY KEY,                 -- new at each start; never a host's name, which may come back
    lease timestamptz NOT NULL,          -- it is late after this
    renewed_at timestamptz NOT NULL DEFAULT squidmesh.clock(),  -- its latest heartbeat; if that is to come, the clock
                                         -- was set back, and the lease says nothing
    started_at timestamptz NOT NULL DEFAULT squidmesh.clock(),
    beats bigint NOT NULL DEFAULT 0,     -- goes up with each heartbeat: who has beaten between two looks lives,
                                         -- whatever the clocks say
    pid integer NOT NULL,
    idle boolean NOT NULL DEFAULT false, -- it sleeps: whoever makes work for its queues notifies it
    dead boolean NOT NULL DEFAULT false, -- declared dead by another worker: it can never renew its lease again
    host text NOT NULL,
    version text NOT NULL,               -- of squidmesh
    queues text[] NOT NULL,              -- that it serves
    knows text[] NOT NULL                -- "workflow/step" of each step that it has a function for
) WITH (fillfactor = 50);

-- The views are for people with psql; the program does not read them.

-- run_context: everything that a run's steps can see by now: the payload, the schedule that started it,
-- overlaid with the outputs in order.
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

-- step_runs: each visit to each step with how its latest attempt ended. What is still live is in jobs.
CREATE VIEW squidmesh.step_runs AS
SELECT DISTINCT ON (a.run_id, a.step, a.visit)
       a.run_id, a.step, a.visit, a.attempt AS attempts, a.status, a.outcome, a.output, a.error,
       a.started_at, a.finished_at
  FROM squidmesh.attempts a
 WHERE a.kind <> 'snapshot'
 ORDER BY a.run_id, a.step, a.visit, a.seq DESC;

INSERT INTO squidmesh.meta (version, serves) VALUES (1, 1);
