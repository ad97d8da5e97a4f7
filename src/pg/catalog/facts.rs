//! What a server, a database and our role are: for checks, before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::pg::Session;
use crate::pg::catalog::objects::Name;
use crate::sql;

/// A server and how much replication it has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`, such as 150004.
    pub version: i32,
    /// `15.4 (Debian …)`.
    pub version_text: String,
    /// A standby: nothing can be written.
    pub in_recovery: bool,
    /// `replica`, `logical`, …
    pub wal_level: String,
    /// Replication slots that can still be made.
    pub free_slots: i32,
    /// WAL senders that can still be started.
    pub free_senders: i32,
    /// Logical replication workers that can still be started: an apply worker of a subscription is one.
    pub free_logical_workers: i32,
    /// Replication origins that can still be made: a subscription needs one.
    pub free_origins: i32,
    /// `max_slot_wal_keep_size` as the server writes it; `-1` for no limit.
    pub max_slot_wal_keep_size: String,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: i32,
}

/// Asks the server about itself.
pub fn read_server(session: &mut Session) -> Result<ServerFacts> {
    let row = session.query_one(&sql::catalog::READ_SERVER, &[])?;
    let free = |max: &str, used: &str| (row.get::<_, i32>(max) - row.get::<_, i32>(used)).max(0);
    Ok(ServerFacts {
        version: row.get("version"),
        version_text: row.get("version_text"),
        in_recovery: row.get("in_recovery"),
        wal_level: row.get("wal_level"),
        free_slots: free("max_slots", "used_slots"),
        free_senders: free("max_senders", "used_senders"),
        free_logical_workers: free("max_logical_workers", "used_logical_workers"),
        free_origins: free("max_origins", "used_origins"),
        max_slot_wal_keep_size: row.get("max_slot_wal_keep_size"),
        max_prepared_transactions: row.get("max_prepared_transactions"),
    })
}

/// A database and how it orders and stores text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// `pg_database.oid`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// `UTF8`, `SQL_ASCII`, …
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Locale provider: `c` libc, `i` ICU, `b` built in.
    pub provider: String,
    /// Locale of a provider other than libc.
    pub locale: Option<String>,
    /// Version of the collation when the database was made.
    pub collation_version: Option<String>,
    /// Size on disk.
    pub bytes: i64,
    /// CONNECTION LIMIT; -1 for none.
    pub connection_limit: i32,
}

/// Asks about the database that the session is in.
pub fn read_database(session: &mut Session) -> Result<DatabaseFacts> {
    let row = session.query_one(&sql::catalog::READ_DATABASE, &[])?;
    Ok(DatabaseFacts {
        oid: row.get("oid"),
        name: row.get("name"),
        encoding: row.get("encoding"),
        collate: row.get("collate"),
        ctype: row.get("ctype"),
        provider: row.get("provider"),
        locale: row.get("locale"),
        collation_version: row.get("collation_version"),
        bytes: row.get("bytes"),
        connection_limit: row.get("connection_limit"),
    })
}

/// Whether both sessions are in one and the same database, whatever names and addresses led there.
///
/// A lock taken in one is looked for in the other: copies of a cluster share identifiers, but not locks.
pub fn is_same_database(one: &mut Session, other: &mut Session) -> Result<bool> {
    let taken = one.query_text(
        "select k.key, pg_catalog.pg_backend_pid(), pg_catalog.pg_try_advisory_lock(k.key) \
         from (select pg_catalog.floor(pg_catalog.random() * 9e18)::bigint as key) as k",
        &[],
    )?;
    let (key, pid): (i64, i32) = (taken[0].get(0), taken[0].get(1));
    let seen = other.query_one(&sql::catalog::FIND_ADVISORY_LOCK, &[&key, &pid]);
    one.query_text("select pg_catalog.pg_advisory_unlock($1)", &[&key])?;
    Ok(seen?.get(0))
}

/// The role that we are connected as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Attributes of a role are independent switches.
pub struct OwnRole {
    /// Its name.
    pub name: String,
    /// SUPERUSER.
    pub superuser: bool,
    /// REPLICATION.
    pub replication: bool,
    /// BYPASSRLS.
    pub bypass_rls: bool,
    /// CREATE on the database.
    pub create_in_database: bool,
    /// Member of `pg_create_subscription` (16 and later).
    pub create_subscription: bool,
    /// Member of `pg_monitor`.
    pub monitor: bool,
}

/// Asks who we are and what we may do here.
pub fn read_own_role(session: &mut Session) -> Result<OwnRole> {
    let row = session.query_one(&sql::catalog::READ_OWN_ROLE, &[])?;
    Ok(OwnRole {
        name: row.get("name"),
        superuser: row.get("superuser"),
        replication: row.get("replication"),
        bypass_rls: row.get("bypass_rls"),
        create_in_database: row.get("create_in_database"),
        create_subscription: row.get("create_subscription"),
        monitor: row.get("monitor"),
    })
}

/// Whether our role may set `session_replication_role`: as superuser, or by a grant (15 and later).
pub fn may_set_replica_role(session: &mut Session) -> Result<bool> {
    if session.version < 150_000 {
        return Ok(read_own_role(session)?.superuser);
    }
    let may = "select pg_catalog.has_parameter_privilege('session_replication_role', 'SET')";
    Ok(session.query_text(may, &[])?[0].get(0))
}

/// Keeps event triggers from firing for what the session does, but for those that always do, where our role may: what they write
/// would be in the way of the rows that are mirrored.
pub fn silence_event_triggers(session: &mut Session) -> Result<()> {
    if may_set_replica_role(session)? {
        session
            .query_text("select pg_catalog.set_config('session_replication_role', 'replica', false)", &[])?;
    }
    Ok(())
}

/// Who owns tables, which are given by their oids.
pub fn list_table_owners(session: &mut Session, tables: &[u32]) -> Result<BTreeMap<Name, String>> {
    let rows = session.query(&sql::catalog::LIST_TABLE_OWNERS, &[&tables])?;
    let owner = |row: &postgres::Row| ((row.get("schema_name"), row.get("table_name")), row.get("owner"));
    Ok(rows.iter().map(owner).collect())
}

/// Settings by which a server writes statements to its log, or keeps their text in its statistics, and values by which it does not.
pub const STATEMENT_LOGGING: [(&str, &str); 6] = [
    ("log_statement", "none"),
    ("log_min_error_statement", "panic"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_transaction_sample_rate", "0"),
    ("pg_stat_statements.track", "none"),
];

/// One of [`STATEMENT_LOGGING`] as it is for our session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLogging {
    /// Its name.
    pub name: String,
    /// The value by which no statement is written.
    pub quiet: String,
    /// Our role may set it: as superuser, or by a grant (15 and later).
    pub may_set: bool,
    /// It has another value now.
    pub tells: bool,
}

/// What tells of the statements that our session sends.
pub fn list_statement_logging(session: &mut Session) -> Result<Vec<StatementLogging>> {
    let (names, quiet): (Vec<String>, Vec<String>) =
        STATEMENT_LOGGING.iter().map(|(name, quiet)| ((*name).to_owned(), (*quiet).to_owned())).unzip();
    let by_grant = session.version >= 150_000;
    let allowed = if by_grant { "pg_catalog.has_parameter_privilege(s.name, 'SET')" } else { "r.rolsuper" };
    let text = sql::catalog::LIST_STATEMENT_LOGGING.with(&[("allowed", allowed)]);
    let setting = |row: &postgres::Row| StatementLogging {
        name: row.get("name"),
        quiet: row.get("quiet"),
        may_set: row.get("allowed"),
        tells: row.get("tells"),
    };
    Ok(session.query_text(&text, &[&names, &quiet])?.iter().map(setting).collect())
}

/// One role by name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Attributes of a role are independent switches.
pub struct Role {
    /// Its name.
    pub name: String,
    /// SUPERUSER: no fence and no limit holds for it.
    pub superuser: bool,
    /// LOGIN.
    pub can_login: bool,
    /// REPLICATION.
    pub replication: bool,
    /// BYPASSRLS.
    pub bypass_rls: bool,
    /// CONNECTION LIMIT; -1 for none.
    pub connection_limit: i32,
    /// VALID UNTIL is past: no password lets it in.
    pub expired: bool,
    /// CONNECT on this database, by any way.
    pub may_connect: bool,
    /// All roles that it is a member of, directly or not.
    pub member_of: Vec<String>,
    /// Settings of the role: `name=value`.
    pub settings: Vec<String>,
    /// Our own role may change its settings.
    pub may_set: bool,
}

/// Those of the named roles that exist, by name.
pub fn list_roles(session: &mut Session, names: &[String]) -> Result<Vec<Role>> {
    let rows = session.query(&sql::catalog::LIST_ROLES, &[&names])?;
    let role = |row: &postgres::Row| Role {
        name: row.get("name"),
        superuser: row.get("superuser"),
        can_login: row.get("can_login"),
        replication: row.get("replication"),
        bypass_rls: row.get("bypass_rls"),
        connection_limit: row.get("connection_limit"),
        expired: row.get("expired"),
        may_connect: row.get("may_connect"),
        member_of: row.get("member_of"),
        settings: row.get("settings"),
        may_set: row.get("may_set"),
    };
    Ok(rows.iter().map(role).collect())
}

/// Those of the named roles that have a password; `None` where our role is not told.
pub fn list_passwords(session: &mut Session, names: &[String]) -> Result<Option<BTreeSet<String>>> {
    let told = "select pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    if !session.query_text(told, &[])?.first().is_some_and(|row| row.get(0)) {
        return Ok(None);
    }
    let rows = session.query(&sql::catalog::LIST_PASSWORDS, &[&names])?;
    Ok(Some(rows.iter().map(|row| row.get("name")).collect()))
}

/// By each of the named roles, those that log in as its members.
pub fn list_login_members(
    session: &mut Session,
    names: &[String],
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in session.query(&sql::catalog::LIST_LOGIN_MEMBERS, &[&names])? {
        members.entry(row.get("group_name")).or_default().insert(row.get("name"));
    }
    Ok(members)
}

/// A value that a role finds set in this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleValue {
    /// Whose.
    pub role: String,
    /// Of the setting.
    pub name: String,
    /// As it was given.
    pub value: String,
    /// Set for this role alone.
    pub of_role: bool,
    /// Set in this database alone; that of a role is where a read-only fence sets its own.
    pub in_database: bool,
}

/// What the named roles find set in this database; of each role and name what is in force comes first.
pub fn list_role_settings(session: &mut Session, names: &[String]) -> Result<Vec<RoleValue>> {
    let rows = session.query(&sql::catalog::LIST_ROLE_SETTINGS, &[&names])?;
    let value = |row: &postgres::Row| RoleValue {
        role: row.get("role_name"),
        name: row.get("name"),
        value: row.get("value"),
        of_role: row.get("of_role"),
        in_database: row.get("in_database"),
    };
    Ok(rows.iter().map(value).collect())
}

/// What a server's configuration gives to those for whom neither their role nor the database sets anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// As the server writes it.
    pub value: String,
    /// False where our role may not find out: then it is what is built in.
    pub is_known: bool,
}

/// What the server's configuration says of these settings, by name: not what our own role or database sets for our session.
pub fn list_standing_values(session: &mut Session, names: &[&str]) -> Result<BTreeMap<String, Configured>> {
    let rows = session.query(&sql::catalog::LIST_STANDING_VALUES, &[&names])?;
    let own = |row: &&postgres::Row| row.get::<_, bool>("is_own");
    let may_read = rows.iter().any(|row| row.get("may_read_files"));
    let mut files = BTreeMap::new();
    if may_read && rows.iter().any(|row| own(&row)) {
        let rows = session.query(&sql::catalog::LIST_FILE_SETTINGS, &[&names])?;
        files.extend(rows.iter().map(|row| (row.get::<_, String>("name"), row.get::<_, String>("value"))));
    }
    let mut configured = |row: &postgres::Row| {
        let name: String = row.get("name");
        let (value, is_known) = match files.remove(&name) {
            _ if !own(&row) => (row.get("value"), true),
            Some(value) => (value, true),
            None => (row.get("built_in"), may_read),
        };
        (name, Configured { value, is_known })
    };
    Ok(rows.iter().map(&mut configured).collect())
}

/// A role, and a schema or what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RightOn {
    /// Whose.
    pub role: String,
    /// The schema, unquoted.
    pub schema: String,
    /// The table, view, sequence or function, unquoted; none for the schema itself.
    pub object: Option<String>,
    /// Types of the arguments; none for what is no function.
    pub arguments: Option<String>,
}

impl RightOn {
    /// The same role's right on another object that is no function.
    pub fn at(&self, schema: &str, object: &str) -> RightOn {
        let (schema, object) = (schema.to_owned(), Some(object.to_owned()));
        RightOn { role: self.role.clone(), schema, object, arguments: None }
    }
}

/// What roles may do with the users' schemas, tables, views, sequences and functions, such as `SELECT`, whoever granted it to whom;
/// what they may do nothing with is there, too.
pub fn list_role_rights(
    session: &mut Session,
    roles: &[String],
) -> Result<BTreeMap<RightOn, BTreeSet<String>>> {
    let rows = session.query(&sql::catalog::LIST_ROLE_RIGHTS, &[&roles])?;
    let right = |row: &postgres::Row| {
        let on = RightOn {
            role: row.get("role_name"),
            schema: row.get("schema_name"),
            object: row.get("object_name"),
            arguments: row.get("arguments"),
        };
        (on, row.get::<_, Vec<String>>("may").into_iter().collect())
    };
    Ok(rows.iter().map(right).collect())
}

/// What a role may do with an object, and to whom that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose right, on what.
    pub on: RightOn,
    /// The privilege: `SELECT`.
    pub may: String,
    /// The role itself, or one whose privileges it has; none for everybody.
    pub grantee: Option<String>,
}

/// To whom it was granted what roles may do with these objects: schema and name, no name for a schema itself.
pub fn list_grants(
    session: &mut Session,
    roles: &[String],
    objects: &[(&str, Option<&str>)],
) -> Result<Vec<Grant>> {
    let (schemas, names): (Vec<&str>, Vec<Option<&str>>) = objects.iter().copied().unzip();
    let rows = session.query(&sql::catalog::LIST_GRANTS, &[&roles, &schemas, &names])?;
    let grant = |row: &postgres::Row| Grant {
        on: RightOn {
            role: row.get("role_name"),
            schema: row.get("schema_name"),
            object: row.get("object_name"),
            arguments: row.get("arguments"),
        },
        may: row.get("may"),
        grantee: row.get("grantee"),
    };
    Ok(rows.iter().map(grant).collect())
}

/// Tables and partitions into which roles may write, and how: `INSERT`.
pub fn list_writable_tables(
    session: &mut Session,
    roles: &[String],
) -> Result<BTreeMap<RightOn, BTreeSet<String>>> {
    let rows = session.query(&sql::catalog::LIST_WRITABLE_TABLES, &[&roles])?;
    let right = |row: &postgres::Row| {
        let on = RightOn {
            role: row.get("role_name"),
            schema: row.get("schema_name"),
            object: row.get("table_name"),
            arguments: None,
        };
        (on, row.get::<_, Vec<String>>("may").into_iter().collect())
    };
    Ok(rows.iter().map(right).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Server;
    use crate::pg::catalog::{self, objects};
    use crate::pg::test_server::TestServer;
    use crate::phase::Place;
    use crate::plan::Plan;

    #[test]
    fn a_server_a_database_and_our_role_are_told_as_they_are() {
        let one = TestServer::start("max_replication_slots = 7");
        let mut session = one.server(Place::Source).connect().unwrap();
        let make = "create database other; create role limited login connection limit 3; create role grouped; grant grouped to limited";
        make.split("; ").for_each(|statement| session.change_script(statement).unwrap());
        let facts = read_server(&mut session).unwrap();
        assert_eq!((facts.free_slots, facts.in_recovery, facts.wal_level.as_str()), (7, false, "logical"));
        session
            .change_script("select pg_catalog.pg_create_logical_replication_slot('s', 'pgoutput')")
            .unwrap();
        assert_eq!(read_server(&mut session).unwrap().free_slots, 6);
        let database = read_database(&mut session).unwrap();
        assert_eq!((database.name.as_str(), database.encoding.as_str()), ("postgres", "UTF8"));
        assert!(may_set_replica_role(&mut session).unwrap());
        let role = read_own_role(&mut session).unwrap();
        assert!(role.superuser && role.replication && role.name == "postgres");
        let roles = list_roles(&mut session, &["limited".into(), "nobody".into()]).unwrap();
        assert_eq!(roles.len(), 1);
        assert_eq!((roles[0].connection_limit, roles[0].may_connect), (3, true));
        assert_eq!(roles[0].member_of, ["grouped"]);
    }

    #[test]
    fn what_logs_statements_is_told_with_who_may_turn_it_off() {
        let one = TestServer::start("log_statement = 'ddl'");
        one.client().batch_execute("create role plain login").unwrap();
        let mut superuser = one.server(Place::Target).connect().unwrap();
        let all = list_statement_logging(&mut superuser).unwrap();
        assert_eq!(all.len(), STATEMENT_LOGGING.len());
        assert!(all.iter().all(|setting| setting.may_set), "{all:?}");
        let telling = |session: &mut Session| {
            let settings = list_statement_logging(session).unwrap().into_iter();
            settings.filter(|one| one.tells && !one.may_set).map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(telling(&mut superuser), [""; 0]);
        let mut server = one.server(Place::Target);
        let text = format!("host=127.0.0.1 port={} dbname=postgres user=plain", one.port);
        server.conninfo = crate::pg::Conninfo::parse(&text).unwrap();
        let mut plain = server.connect().unwrap();
        assert_eq!(telling(&mut plain), ["log_statement", "log_min_error_statement"]);
        if plain.version >= 150_000 {
            one.client().batch_execute("grant set on parameter log_statement to plain").unwrap();
            assert_eq!(telling(&mut plain), ["log_min_error_statement"]);
        }
    }

    #[test]
    fn a_database_is_known_again_whatever_led_there() {
        let one = TestServer::start("");
        let two = TestServer::start("");
        let connect = |server: &TestServer, dbname: &str| {
            let text = format!("host=127.0.0.1 port={} dbname={dbname} user=postgres", server.port);
            let conninfo = crate::pg::Conninfo::parse(&text).unwrap();
            let plan = Plan::real();
            Server {
                place: Place::Target,
                conninfo,
                application_name: "pgdetour test".into(),
                plan,
                conventions: crate::pg::Conventions::default(),
            }
            .connect()
            .unwrap()
        };
        let mut first = connect(&one, "postgres");
        first.change_script("create database other").unwrap();
        assert!(is_same_database(&mut first, &mut connect(&one, "postgres")).unwrap());
        assert!(!is_same_database(&mut first, &mut connect(&one, "other")).unwrap());
        assert!(!is_same_database(&mut first, &mut connect(&two, "postgres")).unwrap());
    }

    #[test]
    fn a_fingerprint_is_the_same_on_both_sides_and_changes_with_the_table() {
        let one = TestServer::start("");
        let mut session = one.server(Place::Source).connect().unwrap();
        assert!(objects::list_user_objects(&mut session).unwrap().is_empty());
        session.change_script("create table public.t (id int4 primary key, gone int4, s text); create type public.e as enum ('a')").unwrap();
        let kinds: Vec<String> =
            objects::list_user_objects(&mut session).unwrap().into_iter().map(|object| object.kind).collect();
        assert_eq!(kinds, ["table", "type"]);
        let tables = catalog::list_tables(&mut session).unwrap();
        let mut print = || objects::fingerprint_tables(&mut session, &tables).unwrap();
        let before = print();
        assert_eq!(before, print());
        for change in [
            "alter table public.t alter s type varchar(5)",
            "alter table public.t drop gone",
            "alter table public.t replica identity full",
            "alter table public.t alter s set not null",
        ] {
            let before = objects::fingerprint_tables(&mut session, &tables).unwrap();
            session.change_script(change).unwrap();
            assert_ne!(before, objects::fingerprint_tables(&mut session, &tables).unwrap(), "{change}");
        }
        // The same table made at once, without a dropped column, has the same fingerprint.
        let before = objects::fingerprint_tables(&mut session, &tables).unwrap();
        session.change_script("drop table public.t; create table public.t (id int4 primary key, s varchar(5) not null); alter table public.t replica identity full").unwrap();
        assert_eq!(before, objects::fingerprint_tables(&mut session, &tables).unwrap());
    }

    #[test]
    fn the_identity_of_a_partition_is_that_of_its_root() {
        let one = TestServer::start("");
        let mut session = one.server(Place::Source).connect().unwrap();
        let make = "create table public.p (id int8 generated always as identity, at date) partition by range (at); \
                    create table public.p_1 partition of public.p default";
        make.split("; ").for_each(|statement| session.change_script(statement).unwrap());
        let names = |name: &str| [("public".to_owned(), name.to_owned())];
        let mut print = |name: &str| objects::fingerprint_named(&mut session, &names(name)).unwrap();
        let (root, partition) = (print("p"), print("p_1"));
        // As the one major has it in the catalog, and then as the other does.
        for identity in ["a", ""] {
            let text = format!(
                "set allow_system_table_mods = on; update pg_catalog.pg_attribute set attidentity = '{identity}' \
                 where attname = 'id' and attrelid = 'public.p_1'::pg_catalog.regclass"
            );
            one.client().batch_execute(&text).unwrap();
            assert_eq!(print("p_1"), partition, "{identity}");
        }
        one.client().batch_execute("alter table public.p alter id set generated by default").unwrap();
        assert_ne!(print("p"), root);
    }
}
