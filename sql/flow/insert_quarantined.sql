-- Sets changes aside. Each parameter is a text[] with an element a change, in commit order: $1 position; $2 schema; $3 table;
-- $4 key before; $5 key after; $6 operation; $7 kind; $8 row before; $9 row after; $10 mapped values; $11 SQLSTATE; $12 constraint;
-- $13 message
insert into pgdetour.quarantine (
    commit_lsn, schema_name, table_name, key, key_after, operation, kind, old_row, new_row, mapped, sqlstate,
    constraint_name, message
)
select
    c.lsn::pg_catalog.pg_lsn, c.schema_name, c.table_name, c.key::jsonb, c.key_after::jsonb, c.operation, c.kind,
    c.old_row::jsonb, c.new_row::jsonb, c.mapped::jsonb, c.sqlstate, c.constraint_name, c.message
from rows from (
    pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
    pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]),
    pg_catalog.unnest($7::text[]), pg_catalog.unnest($8::text[]), pg_catalog.unnest($9::text[]),
    pg_catalog.unnest($10::text[]), pg_catalog.unnest($11::text[]), pg_catalog.unnest($12::text[]),
    pg_catalog.unnest($13::text[])
) with ordinality as c (
    lsn, schema_name, table_name, key, key_after, operation, kind, old_row, new_row, mapped, sqlstate,
    constraint_name, message, position
)
order by c.position
