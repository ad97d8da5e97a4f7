-- Objects that a load in several transactions has made before it was interrupted. No parameters.
select m.class, m.object from pgdetour.made as m
