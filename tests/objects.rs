//! All that a real database holds: there and back again, each row and each definition as it was.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::support::detour::{Detour, Serving};
use crate::support::extent::pick;
use crate::support::postgres::Postgres;
use crate::support::wait::until;

const SOURCE: &str = include_str!("objects/source.sql");

/// Types of a dump's entries, each of them one object, and the kind that the report has them under.
const COUNTED_AS_DUMPED: [(&str, &str); 33] = [
    ("TABLE", "table"),
    ("SEQUENCE", "sequence"),
    ("VIEW", "view"),
    ("MATERIALIZED VIEW", "materialized view"),
    ("FOREIGN TABLE", "foreign table"),
    ("TRIGGER", "trigger"),
    ("RULE", "rule"),
    ("POLICY", "policy"),
    ("STATISTICS", "statistics object"),
    ("FUNCTION", "function"),
    ("PROCEDURE", "procedure"),
    ("AGGREGATE", "aggregate"),
    ("SCHEMA", "schema"),
    ("EXTENSION", "extension"),
    ("OPERATOR", "operator"),
    ("OPERATOR CLASS", "operator class"),
    ("OPERATOR FAMILY", "operator family"),
    ("COLLATION", "collation"),
    ("CONVERSION", "conversion"),
    ("TEXT SEARCH CONFIGURATION", "text search configuration"),
    ("TEXT SEARCH DICTIONARY", "text search dictionary"),
    ("TEXT SEARCH TEMPLATE", "text search template"),
    ("TEXT SEARCH PARSER", "text search parser"),
    ("ACCESS METHOD", "access method"),
    ("TRANSFORM", "transform"),
    ("EVENT TRIGGER", "event trigger"),
    ("FOREIGN DATA WRAPPER", "foreign-data wrapper"),
    ("SERVER", "server"),
    ("USER MAPPING", "user mapping"),
    ("TYPE", "type"),
    ("DOMAIN", "type"),
    ("CAST", "cast"),
    ("COMMENT", "comment"),
];

/// What the target has not, or not in the same words, once the mirror is made.
const LEFT_OUT: &str = "[]";

#[test]
fn all_that_a_database_holds_goes_there_and_comes_home() {
    let mut detour = Detour::new()
        .on_source(SOURCE)
        .on_target("alter role shop_limited set lock_timeout = '7s'")
        .writing()
        .run("check")
        .exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("role setting shop_limited: deadlock_timeout=7s"), "{warnings}");
    assert!(!warnings.contains("lock_timeout=7s, "), "what is on the target too is no warning: {warnings}");
    for named in [
        "unlogged table public.cache: its rows are in no WAL",
        "large object 424242, 4711: large objects are in no replication stream and are not copied",
        "foreign table public.remote: its definition is mirrored",
        "publication theirs: publications are not mirrored",
        "subscription theirs: subscriptions are not mirrored",
        "database grant CONNECT to shop_app, TEMPORARY to shop_limited, no CONNECT to PUBLIC: privileges on the database itself",
    ] {
        assert!(warnings.contains(named), "{named}: {warnings}");
    }
    detour = detour
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_source("call public.churn(1)")
        .run("mirror")
        .exits(0)
        .phase("mirrored")
        .accounts_for_every_object()
        .differs_in(LEFT_OUT)
        .on_source("call public.churn(2)")
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true).holds_the_same())
        .has_the_same_schema()
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .has_the_same_sequences()
        .on_target("call public.churn(3)")
        .at_rest(|detour| {
            detour
                .run("replay")
                .exits(0)
                .reports("/quarantined", 0)
                .run("verify")
                .exits(0)
                .reports("/equal", true)
                .holds_the_same()
        })
        .on_target("call public.churn(4)")
        .at_rest(|detour| detour.run("cutback").exits(0).serving(Serving::Source).holds_the_same())
        .has_the_same_sequences()
        .application_goes_on()
        .no_client_error()
        .no_row_lost()
        .run("clean")
        .with(&["--drop-data"])
        .exits(0)
        .target_is_empty();
    drop(detour);
}

#[test]
fn row_security_refuses_a_copy_instead_of_cutting_it() {
    let mut detour = Detour::new()
        .on_source(
            "create table public.hidden (id int primary key, note text);
             insert into public.hidden select n, 'n' from generate_series(1, 10) as n;
             create policy few on public.hidden using (id < 5);
             alter table public.hidden enable row level security, force row level security;
             alter table public.hidden owner to shop_owner; alter schema public owner to shop_owner;
             alter role shop_owner replication",
        )
        .on_source("begin; insert into public.hidden values (11, 'prepared'); prepare transaction 'waits'")
        .configured("[mirror]\ntables = [\"public.hidden\"]");
    let warnings = detour.ask("check", &[]).at("/warnings").to_string();
    assert!(warnings.contains("prepared transaction waits"), "{warnings}");
    let conninfo = detour.source.conninfo("shop_owner");
    detour = detour.on_source("rollback prepared 'waits'").source_is(&conninfo);
    detour = detour.run("mirror").exits(3).finding("public.hidden", "row-level security", "BYPASSRLS");
    let conninfo = detour.source.conninfo("dba");
    let detour = detour.source_is(&conninfo).run("mirror").exits(0);
    assert_eq!(detour.target.value::<i64>("select count(*) from public.hidden"), 10);
}

#[test]
fn many_tables_wide_tables_and_large_values_go_over() {
    let (tables, megabytes): (u64, u64) = (pick(300, 5000), pick(10, 100));
    // One statement, since it commits: locks of so many tables do not fit into one transaction.
    let many = format!(
        "do $$ begin
             for n in 1..{tables} loop
                 execute format('create table many.t%s (id int primary key, note text)', n);
                 execute format('insert into many.t%s select g, %L from generate_series(1, 3) as g', n, n);
                 if n % 100 = 0 then commit; end if;
             end loop;
         end $$"
    );
    let wide: Vec<String> = (2..=1600).map(|n| format!("c{n} bool")).collect();
    let wide = format!(
        "create table public.wide (c1 int primary key, {});
         insert into public.wide (c1, c2, c1600) select n, true, n % 2 = 0 from generate_series(1, 20) as n",
        wide.join(", ")
    );
    let large = format!(
        "create table public.large (id int primary key, value text, note text);
         alter table public.large alter value set storage external;
         insert into public.large select 1, string_agg(md5(n::text), ''), 'x' from generate_series(1, {megabytes} * 32768) as n"
    );
    let mut detour = Detour::new()
        .on_source("create schema many")
        .on_source(&many)
        .on_source(&wide)
        .on_source(&large)
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_source("update public.wide set c1600 = not c1600, c800 = true where c1 < 5; insert into public.wide (c1) values (99)")
        .on_source("update public.large set note = 'y'; insert into public.large select 2, value, 'z' from public.large")
        .on_source(&format!("insert into many.t1 values (4, 'x'); update many.t{tables} set note = 'y'"));
    let (answer, caught_up) = detour.start("mirror", &[]).end_measured();
    assert_eq!(detour.keep(answer).code(), Some(0), "{}", detour.last().describe());
    let mut detour = detour
        .on_source(
            "update public.large set value = value || 'end' where id = 2; update public.wide set c3 = true",
        )
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .holds_the_same()
        .run("clean")
        .exits(0)
        .target_is_empty();
    let (answer, copied) = detour.start("mirror", &[]).end_measured();
    assert_eq!(detour.keep(answer).code(), Some(0), "{}", detour.last().describe());
    // A copy passes values on in pieces, however large; one that is streamed is held some times over while it is applied.
    let known = (64 << 10) + 4 * tables;
    assert!(copied <= known, "a peak of {copied} kB");
    assert!(caught_up <= known + 5 * (megabytes << 10), "a peak of {caught_up} kB");
}

impl Detour {
    /// Nothing that the mirror made is left on the target.
    pub fn target_is_empty(self) -> Detour {
        // Of servers before 15 a newer pg_dump writes the schema public of an empty database too.
        let empty = schema_of(&self.target, "template1");
        let left: Vec<String> =
            schema(&self.target).into_iter().filter(|entry| !empty.contains(entry)).collect();
        assert!(left.is_empty(), "{left:#?}");
        let settings = "select count(*) from pg_db_role_setting where setdatabase <> 0";
        assert_eq!(self.target.value::<i64>(settings), 0, "settings of the database are gone");
        self
    }

    /// As the record has it: what is in there is no change of the source's later on.
    fn differs_in(self, objects: &str) -> Detour {
        let left_out = "select (facts -> 'left_out')::text from pgdetour.detour";
        assert_eq!(self.target.value::<String>(left_out), objects);
        self
    }

    /// The report counts all that the fixture has, and names what did not go over.
    fn accounts_for_every_object(self) -> Detour {
        let kinds = self.last().at("/report/objects").as_array().cloned().expect("a list of kinds");
        let count = |kind: &str, what: &str| -> i64 {
            let found = kinds.iter().find(|counted| counted["kind"] == kind);
            found.and_then(|counted| counted[what].as_i64()).unwrap_or_else(|| panic!("no {kind}: {kinds:?}"))
        };
        let tables: i64 = self.source.value(
            "select count(*) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
              where c.relkind in ('r', 'p') and n.nspname !~ '^(pg_|information_schema|pgdetour)'",
        );
        assert_eq!(count("table", "mirrored"), tables);
        let mut dumped: BTreeMap<&str, i64> = BTreeMap::new();
        for entry in entry_types(&self.source) {
            if let Some((_, kind)) = COUNTED_AS_DUMPED.iter().find(|(name, _)| *name == entry) {
                *dumped.entry(kind).or_default() += 1;
            }
        }
        for (entry, kind) in COUNTED_AS_DUMPED {
            let entries = dumped.get(kind).copied().unwrap_or_default();
            assert!(entries > 0, "the source has no {entry}");
            assert_eq!(count(kind, "mirrored"), entries, "{kind}: {kinds:#?}");
        }
        for (kind, mirrored) in [("database setting", 3), ("role setting", 1)] {
            assert_eq!(count(kind, "mirrored"), mirrored, "{kind}: {kinds:?}");
        }
        let unsupported: Vec<&str> = kinds
            .iter()
            .filter(|counted| counted["unsupported"] != 0)
            .map(|counted| counted["kind"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(
            unsupported,
            [
                "database grant",
                "large object",
                "publication",
                "role setting",
                "subscription",
                "unlogged table"
            ],
            "{kinds:#?}"
        );
        assert!(kinds.iter().all(|counted| counted["skipped"] == 0), "{kinds:#?}");
        let empty: i64 = self.target.value("select count(*) from public.cache");
        assert_eq!(empty, 0, "an unlogged table is made and left empty");
        self
    }

    /// Every followed table holds the same rows on both sides, as each server writes them as text.
    pub fn holds_the_same(self) -> Detour {
        let same = || contents(&self.source) == contents(&self.target);
        let limit = Duration::from_secs(60);
        let mut last = String::new();
        let began = std::time::Instant::now();
        until("both sides hold the same", limit * 2, || {
            if same() {
                last.clear();
                return Some(());
            }
            last = differences(&contents(&self.source), &contents(&self.target));
            (began.elapsed() > limit).then_some(())
        });
        assert!(last.is_empty(), "{last}\n{}", self.last().describe());
        self
    }

    /// `pg_dump` writes the same definitions of both sides.
    pub fn has_the_same_schema(self) -> Detour {
        let major = |server: &Postgres| -> i32 {
            server.value::<i32>("select current_setting('server_version_num')::int4") / 10_000
        };
        let is_same_major = major(&self.source) == major(&self.target);
        // Majors write the same view or constraint in other words: then what there is has to do.
        let head = |entry: String| entry.lines().next().unwrap_or_default().to_owned();
        let read = |server: &Postgres| -> Vec<String> {
            let entries = schema(server);
            if is_same_major { entries } else { entries.into_iter().map(head).collect() }
        };
        let (source, target) = (read(&self.source), read(&self.target));
        let lost: Vec<&String> = source.iter().filter(|entry| !target.contains(entry)).collect();
        let come: Vec<&String> = target.iter().filter(|entry| !source.contains(entry)).collect();
        assert!(
            lost.is_empty() && come.is_empty(),
            "only on the source: {lost:#?}\nonly on the target: {come:#?}"
        );
        assert!(source.len() > 5, "a dump was read");
        let filled = "select string_agg(oid::regclass::text || ' ' || relispopulated, ', ' order by relname)
                        from pg_class where relkind = 'm'";
        assert_eq!(
            self.source.value::<Option<String>>(filled),
            self.target.value::<Option<String>>(filled),
            "materialized views are filled where they were"
        );
        self
    }

    /// Every sequence stands where the other side's does.
    pub fn has_the_same_sequences(self) -> Detour {
        let read = |server: &Postgres| -> Vec<String> {
            let query = "select format('%I.%I %s', schemaname, sequencename, last_value) from pg_sequences
                          where schemaname <> 'pgdetour' order by 1";
            let rows = server.client("dba").query(query, &[]).expect("sequences can be listed");
            rows.iter().map(|row| row.get(0)).collect()
        };
        assert_eq!(read(&self.source), read(&self.target));
        self
    }
}

/// Rows and hash of each table, read without any help of what is tested.
fn contents(server: &Postgres) -> BTreeMap<String, (i64, Option<String>)> {
    let mut client = server.client("dba");
    let tables = "select format('%I.%I', n.nspname, c.relname)
                    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                   where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^(pg_|information_schema|pgdetour)'
                     and c.relname <> 'probe'";
    client
        .batch_execute(
            "set search_path = ''; set timezone = 'UTC'; set extra_float_digits = 3; set row_security = off;
             set intervalstyle = postgres; set datestyle = iso; set bytea_output = hex",
        )
        .expect("settings can be set");
    let names: Vec<String> =
        client.query(tables, &[]).expect("tables can be listed").iter().map(|row| row.get(0)).collect();
    let hash = |name: String| {
        let query = format!(
            "select count(*), md5(string_agg(t, chr(10) order by t collate \"C\"))
               from (select r::text as t from only {name} as r) as rows"
        );
        let row = client.query_one(&query, &[]).unwrap_or_else(|error| panic!("{error:?}\n{query}"));
        (name, (row.get(0), row.get(1)))
    };
    names.into_iter().map(hash).collect()
}

fn differences(
    source: &BTreeMap<String, (i64, Option<String>)>,
    target: &BTreeMap<String, (i64, Option<String>)>,
) -> String {
    let names: std::collections::BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    let differing = names.into_iter().filter(|name| source.get(*name) != target.get(*name));
    differing
        .map(|name| format!("{name}: source {:?}, target {:?}", source.get(name), target.get(name)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The type of each entry of a dump that an empty database has not.
fn entry_types(server: &Postgres) -> Vec<String> {
    let empty = schema_of(server, "template1");
    let of = |entry: String| {
        let (_, rest) = entry.split_once("; Type: ").expect("an entry has a type");
        rest.split(';').next().unwrap_or_default().to_owned()
    };
    schema(server).into_iter().filter(|entry| !empty.contains(entry)).map(of).collect()
}

/// The entries of a dump, in an order of their own.
fn schema(server: &Postgres) -> Vec<String> {
    schema_of(server, "shop")
}

fn schema_of(server: &Postgres, database: &str) -> Vec<String> {
    let output = Command::new(server.client_program("pg_dump"))
        .args(["--schema-only", "--no-publications", "--no-subscriptions", "--exclude-schema=pgdetour", "-d"])
        .arg(format!("{} dbname={database}", server.conninfo("dba")))
        .output()
        .expect("pg_dump can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("a dump is UTF-8");
    let (text, _) = text.split_once("\n--\n-- PostgreSQL database dump complete").expect("a dump has an end");
    let body = text.split("\n--\n-- Name: ").skip(1);
    let mut entries: Vec<String> = body.map(|entry| entry.trim_end().to_owned()).collect();
    entries.sort();
    entries
}

#[test]
fn row_level_security_that_binds_its_owner_does_not_stop_the_mirror() {
    let mut detour = Detour::new().table("orders").without_router().on_source(
        "alter table public.orders owner to shop_owner;
         alter table public.orders enable row level security; alter table public.orders force row level security;
         create policy own on public.orders using (false); create policy app on public.orders to shop_app using (true)",
    );
    detour = detour.run("check").exits(0).mirrored();
    detour =
        detour.on_source("insert into public.orders select id + 5000, note from public.orders where id <= 3");
    until("the rows are mirrored", Duration::from_secs(30), || {
        (detour.target.value::<i64>("select count(*) from public.orders where id > 5000") == 3).then_some(())
    });
    detour.run("verify").exits(0).run("cutover").exits(0);
}

#[test]
fn settings_of_the_database_change_no_word_of_a_definition() {
    let detour = Detour::new().without_router().on_source(
        "alter database shop set standard_conforming_strings = off; alter database shop set quote_all_identifiers = on;
         alter database shop set bytea_output = 'escape'",
    );
    let detour = detour.on_source(
        r"create table public.path (id int primary key, at text default E'a\\b', raw bytea default E'\\x5c27',
              constraint own check (at <> E'x\\''y'));
          comment on table public.path is E'one\\two';
          create view public.said as select id, E'v\\v'::text as word from public.path;
          insert into public.path (id) values (1)",
    );
    let detour = detour.mirrored().has_the_same_schema();
    detour.target.exec("insert into public.path (id) values (2)");
    let read = "select at || '|' || word || '|' || obj_description('public.path'::regclass) || '|' || encode(raw, 'escape')
        from public.path join public.said using (id) order by id desc limit 1";
    assert_eq!(detour.target.value::<String>(read), r"a\b|v\v|one\two|\\'");
}

#[test]
fn what_needs_a_key_or_is_called_begin_goes_over_with_all_behind_it() {
    let detour = Detour::new().table("orders").without_router().on_source(
        "create table public.slot (id int primary key, begin date);
         create function public.begin() returns int language sql as 'select 1';
         create function public.first_begin() returns date language sql
             begin atomic select s.begin from public.slot as s order by s.begin; end;
         create materialized view public.\"By key\" as select s.id, s.begin, count(*) from public.slot as s group by s.id;
         comment on materialized view public.\"By key\" is 'grouped';
         grant select on public.\"By key\" to shop_app; grant select (id) on public.\"By key\" to shop_limited;
         create function public.grouped() returns setof date language sql
             begin atomic select s.begin from public.slot as s group by s.id; end;
         revoke execute on function public.grouped() from public;
         create function public.z_trigger() returns trigger language plpgsql as 'begin return new; end';
         create trigger z before insert on public.orders for each row execute function public.z_trigger();
         create policy own on public.slot using (begin is not null); alter table public.slot enable row level security;
         grant select on public.slot to shop_app",
    );
    detour.mirrored().has_the_same_schema().run("verify").exits(0);
}

#[test]
fn a_materialized_view_that_only_the_source_can_fill_stops_nothing() {
    let detour = Detour::new().table("orders").without_router();
    let (port, directory) = (detour.source.port(), detour.source.directory().display().to_string());
    let mut detour = detour.on_source(&format!(
        "create extension postgres_fdw;
         create server far foreign data wrapper postgres_fdw options (host '{directory}', port '{port}', dbname 'shop');
         create user mapping for dba server far options (user 'dba');
         create foreign table public.remote (id int) server far options (table_name 'orders');
         create materialized view public.seen as select id from public.remote;
         create materialized view public.seen_again as select id from public.seen;
         create materialized view public.here as select id from public.orders;
         alter server far options (set port '1')"
    ));
    let populated = "select string_agg(relname, ' ') from pg_class where relkind = 'm' and relispopulated";
    assert_eq!(detour.source.value::<String>(populated).split(' ').count(), 3);
    detour = detour.run("mirror").exits(0);
    for view in ["seen", "seen_again"] {
        let told = format!("run refresh materialized view \"public\".\"{view}\"; once");
        assert!(detour.last().stdout.contains(&told.replace('"', "\\\"")), "{}", detour.last().describe());
    }
    assert_eq!(detour.target.value::<String>(populated), "here");
    detour.run("mirror").exits(0).changed(false).run("verify").exits(0).run("cutover").exits(0);
}

const LOGGED: &str = "create table public.ddl_log (id serial primary key, tag text, who text);
     create function public.log_ddl() returns event_trigger language plpgsql security definer set search_path = public
         as $$ begin insert into ddl_log (tag, who) values (tg_tag, session_user); end $$;
     create event trigger log_ddl on ddl_command_end execute function public.log_ddl();
     create event trigger log_drop on sql_drop execute function public.log_ddl();
     create table public.later (id int primary key)";

#[test]
fn an_event_trigger_that_writes_does_not_hear_of_what_is_made_on_the_target() {
    let detour = Detour::new().table("orders").without_router().on_source(LOGGED);
    let detour = detour.configured("[[restrict]]\ntables = [\"public.orders\"]\n").run("mirror").exits(0);
    let logged: i64 = detour.source.value("select count(*) from public.ddl_log");
    assert!(logged > 0);
    let detour =
        detour.run("mirror").exits(0).run("verify").exits(0).reports("/equal", true).run("restrict").exits(0);
    // From the switch on it is at work there.
    let detour =
        detour.run("cutover").exits(0).on_target("create table public.made_there (id int primary key)");
    assert_eq!(
        detour.target.value::<String>("select tag from public.ddl_log order by id desc limit 1"),
        "CREATE TABLE"
    );
}

#[test]
fn an_event_trigger_that_writes_does_not_keep_the_copies_from_being_dropped() {
    let detour = Detour::new().table("orders").without_router().on_source(LOGGED).mirrored();
    detour.run("clean").exits(0).target_is_empty();
}

#[test]
fn what_stood_on_the_target_before_stays_there() {
    let detour = Detour::new()
        .table("orders")
        .without_router()
        .on_source("create collation public.own (locale = 'C')")
        .on_target(
            "create foreign data wrapper theirs; create server theirs foreign data wrapper theirs;
         create user mapping for shop_app server theirs options (password 'p');
         create text search configuration public.theirs (copy = pg_catalog.simple);
         create collation public.\"The irs\" (locale = 'C'); create cast (bool as date) with inout",
        );
    let read = "select string_agg(name, ' ' order by name) from (
            select umoptions::text as name from pg_user_mapping union all select srvname from pg_foreign_server
            union all select cfgname from pg_ts_config where oid >= 16384
            union all select collname from pg_collation where oid >= 16384
            union all select 'cast' from pg_cast where oid >= 16384) as there";
    let before: String = detour.target.value(read);
    // What is made while there are no copies is somebody's, too.
    let detour = detour
        .run("mirror")
        .fault("after:begin the record")
        .dies()
        .on_target("create table public.keep (id int); create collation public.kept (locale = 'C')")
        .run("mirror")
        .exits(3)
        .finding("table public.keep", "is not ours", "elsewhere")
        .finding("collation public.kept", "is not ours", "elsewhere")
        .on_target("drop table public.keep; drop collation public.kept")
        .run("mirror")
        .exits(0)
        .run("clean")
        .exits(0);
    assert_eq!(detour.target.value::<String>(read), before);
    assert!(before.contains("The irs cast theirs theirs"), "{before}");
}

#[test]
fn an_empty_schema_that_is_there_is_taken_over_and_left_as_it_was() {
    let comments = "select string_agg(concat_ws(' ', nspname, nspowner::regrole, obj_description(oid, 'pg_namespace')), ', '
                        order by nspname)
                    from pg_namespace where nspname in ('desk', 'public')";
    let detour = Detour::new()
        .without_router()
        .on_source(
            "create schema desk authorization shop_owner; create table desk.orders (id int primary key);
             comment on schema desk is 'the source''s'; comment on schema public is 'the source''s, too'",
        )
        .on_target("create schema desk; comment on schema desk is E'it\\\\s the target''s'");
    let before: String = detour.target.value(comments);
    let detour = detour.run("check").exits(0).run("mirror").exits(0);
    let mirrored: String = detour.target.value(comments);
    assert!(mirrored.contains("desk shop_owner the source's") && mirrored.contains("too"), "{mirrored}");
    let detour = detour.run("clean").exits(0);
    assert_eq!(detour.target.value::<String>(comments), before);
    assert!(before.contains("it\\s the target's"), "{before}");
}

#[test]
fn a_partitioned_table_with_an_identity_column_is_the_same_on_every_major() {
    let detour = Detour::new().table("orders").without_router().on_source(
        "create table public.event (id bigint generated always as identity, at date not null, primary key (id, at))
             partition by range (at);
         create table public.event_1 partition of public.event default;
         insert into public.event (at) values ('2026-05-05');
         grant select, insert, update, delete on public.event to shop_app",
    );
    let detour = detour.mirrored().run("mirror").exits(0).run("check").exits(0).run("cutover").exits(0);
    let detour = detour.on_target("insert into public.event (at) values ('2026-06-06')");
    let detour = detour.run("replay").exits(0).run("cutback").exits(0);
    assert_eq!(detour.source.value::<i64>("select sum(id)::bigint from public.event"), 3);
}

#[test]
fn what_the_target_is_too_old_for_is_told_before_anything_is_made() {
    let version = "select current_setting('server_version_num')::int / 10000";
    let mut detour = Detour::new().table("orders").without_router();
    let (source, target) = (detour.source.value::<i32>(version), detour.target.value::<i32>(version));
    let mut found: Vec<(&str, &str)> = Vec::new();
    if source >= 15 && target < 15 {
        detour = detour.on_source(
            "create table public.once (id int primary key, a int unique nulls not distinct);
             create view public.seen with (security_invoker = on) as select id from public.orders",
        );
        found.extend([("public.once_a_key", "NULLS NOT DISTINCT"), ("public.seen", "security_invoker")]);
    }
    if source >= 18 && target < 18 {
        detour = detour.on_source(
            "create extension btree_gist;
             create table public.computed (id int primary key, a int, v int generated always as (a * 2) virtual);
             create table public.lax (id int primary key, a int, constraint lax_check check (a > 0) not enforced);
             create table public.late (id int primary key, a int);
             alter table public.late add constraint late_a not null a not valid;
             create table public.own (id int primary key, a int, constraint own_a not null a no inherit);
             create table public.heir () inherits (public.computed);
             alter table public.heir add constraint heir_a not null a;
             create table public.stay (id int, during int4range, primary key (id, during without overlaps))",
        );
        found.extend([
            ("public.computed.v", "virtual"),
            ("public.lax.lax_check", "NOT ENFORCED"),
            ("public.late.late_a", "NOT VALID"),
            ("public.own.own_a", "NO INHERIT"),
            ("public.heir.heir_a", "inherited"),
            ("public.stay.stay_pkey", "periods"),
        ]);
    }
    if found.is_empty() {
        detour.run("check").exits(0);
        return;
    }
    for command in ["check", "mirror"] {
        detour = detour.run(command).exits(3).kind("checks_failed").changed(false);
        for (object, message) in &found {
            detour = detour.finding(object, message, "mirror.exclude");
        }
    }
    detour = detour.on_source(
        "drop table if exists public.once, public.heir, public.computed, public.lax, public.late, public.own, public.stay;
         drop view if exists public.seen",
    );
    if source >= 18 {
        // What no catalog tells the age of the server tells itself, and the same command goes on once it is changed.
        detour = detour
            .on_source("create table public.keyed (id uuid primary key default uuidv7())")
            .run("mirror")
            .exits(3)
            .kind("newer_feature")
            .changed(false)
            .message("could not create table \"keyed\" as PostgreSQL 18 has it")
            .on_source("alter table public.keyed alter id drop default");
    }
    detour.run("mirror").exits(0).run("verify").exits(0);
}
