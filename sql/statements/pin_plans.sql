-- Pin the plans of the engine's statements for this transaction: each is an index scan, whatever the statistics say. A
-- generic plan that was made while a table was empty once took seconds when it was full. Where arrays or locked rows
-- are joined with a table, its key is compared with `= ANY (ARRAY[...])`: that can be looked up but not merged, so
-- walking the whole index, which costs nothing while it is empty, is no plan either; nor is a bitmap of a few rows.
-- So the generic plan is as good as any. The server would not think so, because it takes arrays of unknown length for
-- longer than they are, and would plan each call anew: that takes several times as long as the call.
-- Nor is anything compiled: before Postgres 18 what is switched off counts as enormously dear, and what is dear is
-- compiled where the server can do so, half a second for what takes a tenth of a millisecond.
-- Returns: nothing of use.
-- Locks: none. Index: none.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true)
