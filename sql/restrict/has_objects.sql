-- Whether what create_refusal and create_view make is there. No parameters.
select
    pg_catalog.to_regprocedure('pgdetour.refuse()') is not null as refusal,
    pg_catalog.to_regclass('pgdetour.restriction') is not null
    and pg_catalog.to_regprocedure('pgdetour.is_restricted(regclass)') is not null
    and pg_catalog.to_regprocedure('pgdetour.is_restricted(regclass, text)') is not null as view
