-- Nobody says how values are read and written: it is as sessions of the database do.
alter table conventions.meetings
    alter begins type timestamptz,
    alter day type timestamptz,
    alter ends type timestamp,
    alter seen type text,
    alter said type timestamptz,
    alter written type date using written::date,
    alter lasts type text,
    alter marked type text using marked::text;
