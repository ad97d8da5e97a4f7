-- $1 text: flow
delete from pgdetour.progress
where flow = $1
