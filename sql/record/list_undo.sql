-- $1 text: command. Last noted first: the order in which to take back.
select u.ordinal, u.action
from pgdetour.undo as u
where u.command = $1
order by u.ordinal desc
