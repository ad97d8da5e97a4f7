-- $1 text: command; $2 jsonb: action
insert into pgdetour.undo (command, action)
values ($1, $2)
