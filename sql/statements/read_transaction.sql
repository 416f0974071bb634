-- Read the id of the current transaction, which gets one if it has none: that of a step's transaction when it began,
-- and the one before its result is saved, must be the same.
-- Returns: the id, as text.
-- Locks: none. Index: none.
SELECT pg_current_xact_id()::text
