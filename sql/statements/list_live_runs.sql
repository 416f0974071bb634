-- Which of some runs are live. Asked after a lock, in a statement of its own: that sees what was committed meanwhile.
--   ids uuid[]
-- Returns: their ids.
-- Locks: none. Index: runs_pkey.
SELECT r.id FROM squidmesh.runs r WHERE r.id = ANY (%(ids)s::uuid[]) AND r.finished_at IS NULL
