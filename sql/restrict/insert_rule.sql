-- $1 int4: ordinal; $2 jsonb: patterns; $3 jsonb: exceptions; $4 text[]: roles; $5 text: message; $6 text: SQLSTATE;
-- $7 int4: tgtype; $8 bool: only where a table above is open; $9 text: the trigger's argument; $10 text: format of the
-- statement that makes it
insert into pgdetour.rule (
    ordinal, included, excluded, roles, message, sqlstate, kind, from_above, argument, statement
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
