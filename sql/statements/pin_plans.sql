-- Pin the plans of the engine's statements for this transaction: each is an index scan, whatever the statistics say. A
-- generic plan that was made while a table was empty once took seconds when it was full.
-- Returns: nothing of use.
-- Locks: none.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)
