//! All that a refused command must leave alone, as lines that can be compared.

use super::pgbouncer::PgBouncer;
use super::postgres::Postgres;

/// Each query gives one text a row; oids and the statistics are left out, since they change by themselves.
const QUERIES: [&str; 12] = [
    "select format('namespace %s owner %s acl %s', nspname, nspowner::regrole, nspacl)
       from pg_namespace where nspname !~ '^pg_'",
    "select format('relation %s.%s kind %s owner %s acl %s identity %s triggers %s', n.nspname, c.relname, c.relkind,
            c.relowner::regrole, c.relacl, c.relreplident, c.relhastriggers)
       from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^(pg_|information_schema)'",
    "select format('column %s.%s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attacl)
       from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where a.attnum > 0 and n.nspname !~ '^(pg_|information_schema)'",
    "select format('function %s.%s acl %s', n.nspname, p.proname, p.proacl)
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname !~ '^(pg_|information_schema)'",
    "select format('trigger %s on %s enabled %s', tgname, tgrelid::regclass, tgenabled) from pg_trigger
      where not tgisinternal union all select format('event trigger %s %s', evtname, evtenabled) from pg_event_trigger",
    "select format('role %s login %s super %s limit %s', rolname, rolcanlogin, rolsuper, rolconnlimit) from pg_roles
      union all select format('setting of %s in %s: %s', setrole::regrole, setdatabase, setconfig)
       from pg_db_role_setting",
    "select format('database %s acl %s limit %s allowed %s', datname, datacl, datconnlimit, datallowconn)
       from pg_database",
    "select format('publication %s all tables %s', pubname, puballtables) from pg_publication",
    "select format('subscription %s enabled %s', subname, subenabled) from pg_subscription",
    "select format('slot %s plugin %s', slot_name, plugin) from pg_replication_slots",
    "select format('file setting %s = %s', name, setting) from pg_file_settings where sourcefile like '%auto.conf'",
    "select format('prepared transaction %s', gid) from pg_prepared_xacts",
];

/// The catalog of a server's database, and how many rows each table has (but for the harness's own probes);
/// just "down" for a server that is stopped.
pub fn of_server(side: &str, server: &Postgres) -> Vec<String> {
    let Ok(mut client) = server.try_client("dba") else { return vec![format!("{side}: down")] };
    let mut lines = Vec::new();
    for query in QUERIES {
        let rows = client.query(query, &[]).unwrap_or_else(|error| panic!("{error:?}\n{query}"));
        lines.extend(rows.iter().map(|row| format!("{side}: {}", row.get::<_, &str>(0))));
    }
    let tables = "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where c.relkind = 'r' and c.relname <> 'probe' and n.nspname !~ '^(pg_|information_schema)'";
    for row in client.query(tables, &[]).expect("the tables can be listed") {
        let table: &str = row.get(0);
        let count =
            client.query_one(&format!("select count(*) from {table}"), &[]).expect("rows can be counted");
        lines.push(format!("{side}: {table} has {} rows", count.get::<_, i64>(0)));
    }
    lines.sort();
    lines
}

/// Where the pooler sends clients, whether it holds them, and its file.
pub fn of_pooler(pooler: &PgBouncer) -> Vec<String> {
    let file = std::fs::read_to_string(pooler.databases_file()).expect("the pooler's file can be read");
    ["host", "port", "paused"]
        .map(|column| format!("pooler: {column} {}", pooler.database(column)))
        .into_iter()
        .chain(file.lines().map(|line| format!("pooler: file has {line}")))
        .collect()
}
