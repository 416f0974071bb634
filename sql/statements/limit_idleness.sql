-- Give up this transaction, and its locks, when the client falls silent in the middle of it: frozen, or cut off.
-- Nor may it wait for another's lock for longer than that: it has locks that others wait for.
--   seconds float8
-- Returns: nothing of use.
-- Locks: none. Index: none.
SELECT set_config('idle_in_transaction_session_timeout', (%(seconds)s::float8 * 1000)::int::text, true),
       set_config('lock_timeout', (%(seconds)s::float8 * 1000)::int::text, true)
