-- Read graphs by their fingerprints.
--   fingerprints text[]
-- Returns: fingerprint, definition.
-- Locks: none. Index: definitions_pkey.
SELECT fingerprint, definition::text FROM squidmesh.definitions WHERE fingerprint = ANY (%(fingerprints)s::text[])
