-- The definitions that the source's tables have by now, to which the target's are equal.
-- $1 text[]: schemas; $2 text[]: names; $3 text[]: fingerprints
update pgdetour.table_copy as t
set fingerprint = wanted.fingerprint
from unnest($1::text[], $2::text[], $3::text[]) as wanted (schema_name, table_name, fingerprint)
where t.schema_name = wanted.schema_name and t.table_name = wanted.table_name
