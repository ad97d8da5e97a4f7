-- $1 int4[]: ordinals; $2 text[]: kinds; $3 text[]: schemas or nulls; $4 text[]: tables or nulls; $5 text[]: statements
insert into pgdetour.post_data (ordinal, kind, schema_name, table_name, statement)
select p.ordinal, p.kind, p.schema_name, p.table_name, p.statement
from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[])
    as p (ordinal, kind, schema_name, table_name, statement)
