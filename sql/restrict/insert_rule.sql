-- $1 int4: ordinal; $2 jsonb: patterns; $3 jsonb: exceptions; $4 text[]: roles; $5 text: message; $6 int4: tgtype;
-- $7 text: the trigger's argument; $8 text: format of the statement that makes it
insert into pgdetour.rule (ordinal, included, excluded, roles, message, kind, argument, statement)
values ($1, $2, $3, $4, $5, $6, $7, $8)
