-- The isolation level of the current transaction.
-- Returns: its name.
-- Locks: none. Index: none.
SELECT current_setting('transaction_isolation')
