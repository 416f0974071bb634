-- The isolation level of the current transaction.
-- Returns: its name.
-- Locks: none.
SELECT current_setting('transaction_isolation')
