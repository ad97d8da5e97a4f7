-- Everything that we keep on a side. No parameters.
drop schema if exists pgdetour cascade;
