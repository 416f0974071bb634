-- Keep a workflow's graph under its fingerprint.
--   fingerprint, workflow text, definition jsonb
-- Returns: nothing.
-- Locks: only the row it inserts. Index: definitions_pkey.
INSERT INTO squidmesh.definitions (fingerprint, workflow, definition)
VALUES (%(fingerprint)s::text, %(workflow)s::text, %(definition)s::jsonb)
    ON CONFLICT (fingerprint) DO NOTHING
