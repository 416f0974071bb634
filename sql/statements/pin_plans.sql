-- Pin the plans of the engine's statements for this transaction: each is an index scan, whatever the statistics say. A
-- generic plan that was made while a table was empty once took seconds when it was full. Where arrays or locked rows
-- are joined with a table, its key is compared with `= ANY (ARRAY[...])`: that can be looked up but not merged, so
-- walking the whole index, which costs nothing while it is empty, is no plan either. What is prepared is planned once:
-- left to itself the server would plan claim_jobs anew each time, which takes longer than the claim.
-- Returns: nothing of use.
-- Locks: none. Index: none.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)
