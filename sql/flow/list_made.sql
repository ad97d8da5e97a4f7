-- Objects that loads of the schema have made. No parameters.
select m.class, m.object from pgdetour.made as m
