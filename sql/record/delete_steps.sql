-- $1 text: command
delete from pgdetour.step
where command = $1
