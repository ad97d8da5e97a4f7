-- Changes that were set aside. No parameters.
select count(*) as changes
from pgdetour.quarantine
