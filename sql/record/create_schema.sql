-- Our schema. No parameters; runs again without effect.
create schema if not exists pgdetour;
