-- The least that a durable step can be made of: where a run stands, what is to be done next, what was done.
CREATE TABLE run (
    id bigint PRIMARY KEY,
    status text NOT NULL,
    step int NOT NULL,
    context jsonb NOT NULL
);
CREATE TABLE attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint NOT NULL,
    step int NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    data jsonb NOT NULL
);
CREATE TABLE job (
    id bigint PRIMARY KEY,
    run_id bigint NOT NULL,
    step int NOT NULL,
    run_at timestamptz NOT NULL DEFAULT now()
);
-- Job n belongs to run n modulo 5,000: whoever removes job n adds job n + 5,000, so 5,000 are always waiting.
INSERT INTO run SELECT id, 'running', 0, jsonb_build_object('filling', repeat('r', 480)) FROM generate_series(0, 4999) AS id;
INSERT INTO job SELECT id, id, 0 FROM generate_series(0, 4999) AS id;
