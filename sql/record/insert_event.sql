-- $1 text: command; $2 text: message; $3 text: host of the caller; $4 float8: milliseconds or null
insert into pgdetour.event (command, message, host, ms)
values ($1, $2, $3, $4)
