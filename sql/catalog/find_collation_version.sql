-- The version of what compares text on this server by a locale; null where it has none. libc has one version for all its
-- locales but C and POSIX, so that another one tells it where this one goes by another name.
-- $1 text: provider, as in pg_collation
-- $2 text: locale
select (
    select pg_catalog.pg_collation_actual_version(c.oid)
    from pg_catalog.pg_collation as c
    cross join lateral (
        select coalesce(
            pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale', c.collcollate::text
        ) as locale
    ) as l
    where c.collprovider::text = $1
        and (l.locale = $2 or $1 = 'c')
        and not ($1 = 'c' and $2 ~ '^(C|POSIX)(\.|$)')
        and pg_catalog.pg_collation_actual_version(c.oid) is not null
    order by l.locale = $2 desc
    limit 1
) as version
