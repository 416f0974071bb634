-- Lock the schema against others who migrate it, until the transaction ends; do not wait for it.
-- Returns: whether it is locked now.
-- Locks: an advisory lock of its own. Whoever waited in the database would hold a snapshot, and an index that is built
-- concurrently waits for older snapshots: a deadlock. So whoever does not get it asks again. Index: none.
SELECT pg_try_advisory_xact_lock(hashtextextended('squidmesh.migrate', 0))
