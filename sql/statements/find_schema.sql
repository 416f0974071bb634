-- Look whether squidmesh is installed in its schema, and whether we may read it. It fails in neither case.
-- Returns: whether we may read it, null if it is not there; and who we are.
-- Locks: none. Index: the catalog's own.
SELECT bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), current_user
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = 'meta' AND n.nspname || '.meta' = 'squidmesh.meta'
