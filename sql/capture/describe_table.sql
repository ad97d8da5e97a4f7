-- Notes what a table's columns are; whether that is other than before. $1 oid
select pgdetour.describe($1) as changed
