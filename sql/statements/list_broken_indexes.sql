-- Indexes that an interrupted CREATE INDEX CONCURRENTLY left behind: they are never used, but kept up to date.
-- Returns: their names.
-- Locks: none. Index: the catalog's own.
SELECT c.relname
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid AND n.nspname || '.' = 'squidmesh.'
 ORDER BY c.relname
