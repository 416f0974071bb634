-- The schema's version, and the oldest code version that it serves.
-- Returns: version, serves.
-- Locks: none. Index: none; it has one row.
SELECT version, serves FROM squidmesh.meta
