-- Nothing of what was set aside or missing is of any use: the source has the target's rows. No parameters.
delete from pgdetour.quarantine;
delete from pgdetour.unmade_rows
