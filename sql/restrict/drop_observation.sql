-- Removes what create_observation has made, once no trigger calls it. No parameters.
drop function if exists pgdetour.observe();
drop table if exists pgdetour.observation;
drop table if exists pgdetour.observed;
