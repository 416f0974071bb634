-- Tell listeners something; delivered when the transaction commits.
--   channel text, payloads text[]
-- Returns: nothing of use.
-- Locks: a NOTIFY serialises commits. Index: none.
SELECT pg_notify(%(channel)s::text, told.payload) FROM unnest(%(payloads)s::text[]) AS told (payload)
