-- Nobody says in which zone: it is the database's own, on both servers.
alter table time_zones.meetings
    alter begins type timestamptz,
    alter day type timestamptz,
    alter ends type timestamp,
    alter seen type text,
    alter said type timestamptz;
