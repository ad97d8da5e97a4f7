-- Settings that a role, a database or a configuration may have changed, and on which the meaning of text values
-- or the life of a long session depends; and no compilation of statements, which takes longer than any of ours that it
-- would be used for. Those that this server's version does not know are left out.
-- $1 text: lock_timeout; $2 to $5 text: the conventions of the session
select pg_catalog.set_config(s.name, v.value, false)
from (values
    ('TimeZone', $2),
    ('DateStyle', $3),
    ('IntervalStyle', $4),
    ('bytea_output', $5),
    ('extra_float_digits', '3'),
    ('client_encoding', 'UTF8'),
    ('search_path', ''),
    ('standard_conforming_strings', 'on'),
    ('array_nulls', 'on'),
    ('xmloption', 'content'),
    ('lc_monetary', 'C'),
    ('quote_all_identifiers', 'off'),
    ('row_security', 'off'),
    ('jit', 'off'),
    ('default_transaction_read_only', 'off'),
    ('default_transaction_isolation', 'read committed'),
    ('statement_timeout', '0'),
    ('idle_in_transaction_session_timeout', '0'),
    ('idle_session_timeout', '0'),
    ('transaction_timeout', '0'),
    -- What we tell the other side to forget has to outlive a crash.
    (
        'synchronous_commit',
        case pg_catalog.current_setting('synchronous_commit')
            when 'off' then 'local'
            else pg_catalog.current_setting('synchronous_commit')
        end
    ),
    ('lock_timeout', $1)
) as v (name, value)
join pg_catalog.pg_settings as s on pg_catalog.lower(s.name) = pg_catalog.lower(v.name)
