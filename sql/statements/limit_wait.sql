-- Limit how long this transaction waits for a lock from now on: a transactional step locks its run last, and waits.
--   milliseconds int
-- Returns: nothing of use.
-- Locks: none. Index: none.
SELECT set_config('lock_timeout', %(milliseconds)s::int::text, true)
