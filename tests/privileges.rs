//! The trip with roles that are no superusers, and a password that nobody gets to see.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::NoTls;

use crate::support::detour::{Detour, Serving};
use crate::support::pgbouncer;
use crate::support::postgres::Postgres;

/// Every printable character, the space not at an end, where nobody could see it.
fn canary() -> String {
    let mut text: String = ('!'..='~').collect();
    text.insert(40, ' ');
    text
}

/// Runs of the password that every way of escaping it leaves as they are; none stands anywhere else.
const PIECES: [&str; 2] = ["BCDEFGHIJKLMNOPQRSTUVWX", "bcdefghijklmnopqrstuvwx"];

fn assert_hidden(place: &str, text: &str) {
    for piece in PIECES {
        let Some(at) = text.find(piece) else { continue };
        let around: String = text[at.saturating_sub(60)..].chars().take(40).collect();
        panic!("{place} shows the password, behind {around:?}");
    }
}

/// Looks at the arguments of every process on this host, which anybody may.
struct Onlooker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Onlooker {
    fn start() -> Onlooker {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !told.load(Ordering::SeqCst) {
                for entry in std::fs::read_dir("/proc").expect("Linux has /proc").flatten() {
                    let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    if arguments.windows(8).any(|window| window == b"pgdetour" || window == b"pg_dump\0") {
                        seen.insert(String::from_utf8_lossy(&arguments).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        Onlooker { stop, thread }
    }

    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("it only looks")
    }
}

/// How `detour` reaches a server, its password with libpq's escapes.
fn conninfo(server: &Postgres, password: &str) -> String {
    let password = password.replace('\\', "\\\\").replace('\'', "\\'");
    format!("host=127.0.0.1 port={} dbname=shop user=detour password='{password}'", server.port())
}

/// Runs what `check --grants` writes for one side there, as it stands; then gives the role its password.
fn grant(detour: &Detour, side: &str) {
    let output = detour.as_text("check", &["--grants", "--role", "detour", "--side", side]);
    let sql = String::from_utf8(output.stdout).expect("SQL is text");
    assert!(output.status.success(), "{sql}{}", String::from_utf8_lossy(&output.stderr));
    let server = if side == "source" { &detour.source } else { &detour.target };
    server.exec(&sql);
    let password = canary().replace('\\', "\\\\").replace('\'', "''");
    // In a message of its own: a message is logged before any of it is run.
    let mut client = server.client("dba");
    client.batch_execute("set log_statement = 'none'").expect("a superuser may");
    client.batch_execute(&format!("alter role detour password E'{password}'")).expect("the role is there");
    let is_superuser = "select rolsuper from pg_roles where rolname = 'detour'";
    assert!(!server.value::<bool>(is_superuser), "{sql}");
    // Run twice it changes nothing, but for a role that is there already.
    server.exec(&sql.replace("create role \"detour\"", "alter role \"detour\""));
}

/// All that the record holds on one side.
fn record(server: &Postgres) -> String {
    let mut text = String::new();
    let mut client = server.client("dba");
    let tables = "select table_name::text from information_schema.tables where table_schema = 'pgdetour'";
    for table in client.query(tables, &[]).expect("the catalog can be read") {
        let table: String = table.get(0);
        let rows = client.query(&format!("select to_jsonb(t)::text from pgdetour.{table} as t"), &[]);
        for row in rows.expect("the record can be read") {
            let _ = writeln!(text, "{}", row.get::<_, String>(0));
        }
    }
    text
}

#[test]
fn a_role_of_its_own_takes_the_trip_and_its_password_is_seen_nowhere() {
    let mut detour = Detour::new()
        .table("orders")
        .table("users")
        .on_source(
            "alter table public.orders owner to shop_owner; alter table public.users owner to shop_owner;
             create schema reports authorization shop_owner; create extension hstore",
        )
        .on_source("alter system set log_statement = 'all'")
        .on_target("alter system set log_statement = 'all'")
        .on_source("select pg_reload_conf()")
        .on_target("select pg_reload_conf()")
        .configured("[[restrict]]\ntables = [\"public.users\"]");
    for side in ["source", "target"] {
        grant(&detour, side);
    }
    // The pooler logs in with a password of its own, too.
    let ini = format!(" user=shop_app password='{}'", canary().replace('\'', "''"));
    let file = detour.pooler().databases_file();
    let entry = std::fs::read_to_string(&file).expect("the file can be read");
    let entry = entry.trim_end().to_owned() + &ini + "\n";
    std::fs::write(&file, &entry).expect("the file can be written");
    detour.pooler().console("reload");
    let console = detour.pooler().console_conninfo();
    let section = format!(
        "[router]\nkind = \"pgbouncer\"\n[[router.pgbouncer]]\nadmin = \"{console}\"\ndatabase = \"shop\"\n\
         config = \"{}\"\ntarget = {}",
        file.display(),
        crate::support::detour::quoted(&(pgbouncer::entry(detour.target.port()) + &ini))
    );
    detour = detour.routed(&section).writing();
    let onlooker = Onlooker::start();

    let (source, target) = (conninfo(&detour.source, &canary()), conninfo(&detour.target, &canary()));
    detour = detour.source_is(&source).target_is(&target);
    let has_subscriptions =
        detour.target.value::<i32>("select current_setting('server_version_num')::int") >= 160_000;
    if has_subscriptions {
        detour = detour.run("check").exits(0);
    } else {
        // What this version keeps to superusers is all that is missing, and the way around it is named.
        detour = detour.run("check").exits(0);
        let warnings = detour.last().at("/warnings").to_string();
        assert!(
            warnings.contains("may not create subscriptions") && warnings.contains("mirror --follow"),
            "{warnings}"
        );
        assert!(warnings.contains("only superusers can make event triggers"), "{warnings}");
        // Where its files are is told to superusers alone.
        assert!(warnings.contains("how much room its disk has cannot be seen from here"), "{warnings}");
        // So is, before 15, who may let another write as replication does.
        let others =
            detour.target.value::<i32>("select current_setting('server_version_num')::int") < 150_000;
        assert_eq!(others, warnings.contains("may not set session_replication_role"), "{warnings}");
        let expected = 3 + usize::from(others);
        assert_eq!(detour.last().at("/warnings").as_array().map(Vec::len), Some(expected), "{warnings}");
        let superuser = detour.target.conninfo("dba");
        detour = detour.target_is(&superuser).run("check").exits(0);
    }

    // Failures that have to do with the password.
    let wrong = conninfo(&detour.source, &(canary() + "x"));
    detour = detour.source_is(&wrong).run("mirror").exits(5).kind("unreachable").source_is(&source);
    let nowhere = source.replacen(&format!("port={}", detour.source.port()), "port=1", 1);
    detour = detour.target_reaches_source_by(&nowhere).run("mirror").exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("could not connect to the publisher"), "{warnings}");
    detour = detour.run("clean").exits(0).target_reaches_source_by(&source);

    detour = detour.run("mirror").with(&["--dry-run", "-v"]).exits(0).mirrored().run("restrict").exits(0);
    detour = detour.run("cutover").with(&["--dry-run"]).exits(0);
    let original = std::fs::read(&file).expect("the file can be read");
    detour = detour.run("cutover").fault("before:point router to target").dies();
    detour = detour.run("cutover").exits(0).serving(Serving::Target).application_goes_on();
    for (place, server) in [("the source's record", &detour.source), ("the target's record", &detour.target)]
    {
        assert_hidden(place, &record(server));
    }
    detour = detour.application_is_refused("delete from public.users", "25006");
    for arguments in [&["--format", "prometheus"][..], &["--check", "-v"], &[]] {
        let output = detour.as_text("status", arguments);
        assert_hidden("status", &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    detour =
        detour.run("replay").exits(0).at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0));
    detour = detour.run("cutback").exits(0).serving(Serving::Source);
    assert_eq!(std::fs::read(&file).expect("the file can be read"), original, "byte for byte");
    detour = detour.run("clean").exits(0);

    let arguments = onlooker.stop();
    assert!(arguments.iter().any(|line| line.contains("--schema-only")), "pg_dump was seen: {arguments:?}");
    for line in &arguments {
        assert_hidden("a process's arguments", line);
    }
    assert_hidden("what was written", &detour.all_said());
    assert_hidden("the source's log", &detour.source.log());
    assert_hidden("the target's log", &detour.target.log());
    let pooler = file.parent().expect("it is in a folder").with_file_name("pgbouncer.log");
    assert_hidden("the pooler's log", &String::from_utf8_lossy(&std::fs::read(pooler).unwrap_or_default()));
    detour.no_client_error().no_row_lost();
}

#[test]
fn a_role_of_its_own_raises_read_only_fences() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source("alter table public.orders owner to shop_owner")
        .configured("[mirror]\ncarrier = \"pgdetour\"")
        .fenced_read_only()
        .writing();
    for side in ["source", "target"] {
        grant(&detour, side);
    }
    let (source, target) = (conninfo(&detour.source, &canary()), conninfo(&detour.target, &canary()));
    detour = detour.source_is(&source).target_is(&target).run("check").exits(0);
    for (on_source, side) in [(true, "source"), (false, "target")] {
        let detour_on =
            |detour: Detour, sql| if on_source { detour.on_source(sql) } else { detour.on_target(sql) };
        detour = detour_on(detour, "revoke shop_app from detour").run("check").exits(3).finding(
            &format!("{side}: role \"shop_app\""),
            "cannot change its default_transaction_read_only",
            "GRANT \"shop_app\" TO \"detour\"",
        );
        let hint = detour.last().text_at("/error/failures/0/hint").to_owned();
        let statement = hint.trim_start_matches("Run ").split(';').next().expect("a statement").to_owned();
        detour = detour_on(detour, &statement).run("check").exits(0);
    }
    detour = detour.mirrored().run("cutover").exits(0).phase("detoured").application_goes_on();
    assert_eq!(detour.who_really_serves(), Serving::Target);
    detour = detour.run("replay").exits(0).run("cutback").exits(0).application_goes_on();
    assert_eq!(detour.who_really_serves(), Serving::Source);
    detour = detour.run("clean").exits(0);
    let left = "select count(*) from pg_db_role_setting where array_to_string(setconfig, ' ') ~ 'read_only'";
    for server in [&detour.source, &detour.target] {
        assert_eq!(server.value::<i64>(left), 0, "a setting is left");
    }
    detour.no_row_lost();
}

#[test]
fn a_role_of_its_own_makes_the_limited_role() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source(
            "create role staff; grant staff to shop_app; alter table public.orders owner to shop_owner",
        )
        .on_target("create role staff; grant staff to shop_app")
        .configured("[restrict_role]\nname = \"shop_guest\"\n[[restrict]]\ntables = [\"public.orders\"]")
        .configured("[mirror]\ncarrier = \"pgdetour\"");
    for side in ["source", "target"] {
        grant(&detour, side);
    }
    let (source, target) = (conninfo(&detour.source, &canary()), conninfo(&detour.target, &canary()));
    // Nobody is to make it by hand before restrict does.
    detour = detour.source_is(&source).target_is(&target).run("check").exits(0).run("mirror").exits(0);
    if detour.target.value::<i32>("select current_setting('server_version_num')::int") < 150_000 {
        detour.run("restrict").exits(3).finding("restrict_role", "", "superuser");
        return;
    }
    detour = detour.run("check").exits(3).finding("shop_guest", "does not exist", "pgdetour restrict");
    assert_eq!(detour.last().at("/error/failures").as_array().map(Vec::len), Some(1));
    detour = detour.run("restrict").exits(0).run("check").exits(0);
    let is_member = "select pg_has_role('shop_guest', 'staff', 'member')";
    assert!(detour.target.value::<bool>(is_member), "it is like the application's role");
    // Since 16 whoever makes a role has none of its privileges; what it owns has to find an heir all the same.
    let detour = detour
        .on_target("create table public.left_behind (); alter table public.left_behind owner to shop_guest")
        .run("restrict")
        .with(&["--lift"])
        .exits(0);
    let is_there = "select exists (select from pg_roles where rolname = 'shop_guest')";
    assert!(!detour.target.value::<bool>(is_there), "it is gone");
    // Nothing is removed by who may not remove the role.
    let is_sixteen =
        detour.target.value::<i32>("select current_setting('server_version_num')::int") >= 160_000;
    let taken = if is_sixteen {
        "revoke admin option for shop_guest from detour"
    } else {
        "alter role detour nocreaterole"
    };
    let mut detour = detour.run("restrict").exits(0).on_target(taken);
    detour = detour.run("clean").with(&["--drop-data"]).exits(3).changed(false).phase("mirrored").finding(
        "role \"shop_guest\"",
        if is_sixteen { "ADMIN OPTION" } else { "CREATEROLE" },
        "there, then run the same command again",
    );
    let hint = detour.last().text_at("/error/failures/0/hint").to_owned();
    let statement = hint.trim_start_matches("Run ").split(';').next().expect("a statement").to_owned();
    detour.on_target(&statement).run("clean").with(&["--drop-data"]).exits(0);
}

#[test]
fn without_one_grant_the_check_names_it() {
    let detour = Detour::new().table("orders").on_source("alter table public.orders owner to shop_owner");
    grant(&detour, "source");
    let source = conninfo(&detour.source, &canary());
    let mut detour = detour.source_is(&source);
    for (revoke, restore, object, hint) in [
        ("alter role detour noreplication", "alter role detour replication", "source", "REPLICATION"),
        (
            "revoke pg_signal_backend from detour",
            "grant pg_signal_backend to detour",
            "shop_app",
            "GRANT pg_signal_backend",
        ),
        (
            "revoke pg_read_all_stats from detour",
            "grant pg_read_all_stats to detour",
            "shop_app",
            "GRANT pg_read_all_stats",
        ),
    ] {
        detour = detour.on_source(revoke).run("check").exits(3).finding(object, "", hint);
        assert_eq!(detour.last().at("/error/failures").as_array().map(Vec::len), Some(1), "{revoke}");
        detour = detour.on_source(restore);
    }
    let detour = detour.on_source("revoke shop_owner from detour").run("check").exits(3);
    let detour =
        detour.finding("public.orders", "does not own", "owner").finding("source", "connect", "GRANT");
    let checks = detour.last().at("/report/checks").as_array().expect("a table").clone();
    let holds = checks.iter().filter(|line| line["state"] == "holds").count();
    let fails: Vec<&serde_json::Value> = checks.iter().filter(|line| line["state"] == "fails").collect();
    assert!(holds > 15 && fails.len() >= 2, "{checks:?}");
    assert!(fails.iter().all(|line| line["fix"].as_str().is_some_and(|fix| !fix.is_empty())), "{fails:?}");
    let steps: BTreeSet<&str> = checks.iter().filter_map(|line| line["step"].as_str()).collect();
    assert_eq!(
        steps,
        BTreeSet::from(["mirror", "restrict", "capture", "cutover", "cutback"]),
        "all steps at once"
    );
    let mut detour = detour.on_source("grant shop_owner to detour").run("check").exits(0);
    // The role cannot do what it was not given.
    let mut client =
        source.parse::<postgres::Config>().expect("it is one").connect(NoTls).expect("it connects");
    for forbidden in ["create role intruder", "alter system set work_mem = '1GB'", "create database other"] {
        let error = client.batch_execute(forbidden).expect_err("it is not a superuser");
        assert_eq!(error.code().map(postgres::error::SqlState::code), Some("42501"), "{forbidden}");
    }
    detour.ask("status", &[]);
}

#[test]
fn triggers_that_the_mirror_fires_on_the_target_are_named() {
    let detour = Detour::new().table("orders").on_source(
        "alter table public.orders owner to shop_owner;
         create function public.shout() returns trigger language plpgsql as
             $$ begin new.note := pg_catalog.upper(new.note); return new; end $$;
         create trigger shout before insert or update on public.orders for each row execute function public.shout();
         create trigger off before insert on public.orders for each row execute function public.shout();
         alter table public.orders disable trigger off",
    );
    let mut detour = detour.without_router();
    for side in ["source", "target"] {
        grant(&detour, side);
    }
    let (source, target) = (conninfo(&detour.source, &canary()), conninfo(&detour.target, &canary()));
    detour = detour.source_is(&source).target_is(&target).configured("[mirror]\ncarrier = \"pgdetour\"");
    let told = |detour: &Detour| {
        let warnings = detour.last().at("/warnings").to_string();
        let of_shout = warnings.contains("trigger \\\"shout\\\" fires on the target again for mirrored rows");
        assert!(!warnings.contains("\\\"off\\\" fires"), "{warnings}");
        of_shout
    };
    let may = detour.target.value::<i32>("select current_setting('server_version_num')::int") >= 150_000;
    if may {
        detour = detour.run("check").exits(0);
        assert!(!told(&detour), "{}", detour.last().describe());
        detour = detour.on_target("revoke set on parameter session_replication_role from detour");
    }
    for command in ["check", "mirror", "check"] {
        detour = detour.run(command).exits(0);
        assert!(told(&detour), "{}", detour.last().describe());
    }
    detour = detour.run("cutover").with(&["--rehearse"]).exits(0);
    assert!(told(&detour), "{}", detour.last().describe());
    detour = detour.on_target("alter table public.orders disable trigger shout").run("check").exits(0);
    assert!(!told(&detour), "{}", detour.last().describe());
}

/// What a role of its own, made by `check --grants`, needs no superuser for on any version.
fn by_a_role_of_its_own(detour: Detour) -> Detour {
    for side in ["source", "target"] {
        grant(&detour, side);
    }
    let (source, target) = (conninfo(&detour.source, &canary()), conninfo(&detour.target, &canary()));
    detour.source_is(&source).target_is(&target).configured("[mirror]\ncarrier = \"pgdetour\"")
}

/// A role of its own that may not write as replication does on the target.
fn without_the_replica_role(detour: Detour) -> Detour {
    let detour = by_a_role_of_its_own(detour);
    let may = detour.target.value::<i32>("select current_setting('server_version_num')::int") >= 150_000;
    if may {
        detour.target.exec("revoke set on parameter session_replication_role from detour");
    }
    detour
}

/// The first statement of the latest failure's hint.
fn remedy(detour: &Detour) -> String {
    let hint = detour.last().text_at("/error/failures/0/hint").to_owned();
    hint.trim_start_matches("Run ").split(';').next().expect("a statement").to_owned()
}

#[test]
fn a_role_of_its_own_gives_objects_to_owners_who_may_not_create_where_they_are() {
    let detour = Detour::new().without_router().table("orders").on_source(
        "create role clerk; alter table public.orders owner to shop_owner;
         create schema app; create view app.ours as select 1 as one; alter view app.ours owner to shop_owner;
         create schema desk authorization shop_owner;
         create view desk.plain as select 1 as one; alter view desk.plain owner to clerk;
         create materialized view desk.kept as select 1 as one; alter materialized view desk.kept owner to clerk;
         create type desk.mood as enum ('well'); alter type desk.mood owner to clerk;
         create function desk.one() returns int language sql as 'select 1'; alter function desk.one() owner to clerk;
         create statistics public.both on id, note from public.orders; alter statistics public.both owner to clerk;
         create schema lent authorization shop_owner; grant create on schema lent to clerk;
         create sequence lent.numbers; alter sequence lent.numbers owner to clerk",
    );
    let detour = by_a_role_of_its_own(detour.on_target("create role clerk"));
    let detour = detour.run("check").exits(0);
    assert!(
        !detour.last().at("/warnings").to_string().contains("lent.numbers"),
        "{}",
        detour.last().describe()
    );
    // What is set when traffic comes home.
    let detour = detour.on_source("revoke all on sequence lent.numbers from detour").run("check").exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("may not set sequence \\\"lent.numbers\\\""), "{warnings}");
    let detour =
        detour.on_source("grant select, update on sequence lent.numbers to detour").run("mirror").exits(0);
    let owners = "select string_agg(name || ' ' || owner::regrole, ', ' order by name) from (
        select relname::text, relowner from pg_class
        where relkind <> 'i' and relnamespace::regnamespace::text in ('app', 'desk', 'lent')
        union all select proname, proowner from pg_proc where pronamespace = 'desk'::regnamespace
        union all select typname, typowner from pg_type where typname = 'mood'
        union all select stxname, stxowner from pg_statistic_ext) as x (name, owner)";
    let wanted = "both clerk, kept clerk, mood clerk, numbers clerk, one clerk, ours shop_owner, plain clerk";
    assert_eq!(detour.target.value::<String>(owners), wanted);
    // Whoever may create there is as it was on the source.
    let creators = "select string_agg(nspname || ' ' || rolname, ', ' order by nspname, rolname)
        from pg_namespace, pg_roles where nspname in ('app', 'desk', 'lent') and rolname in ('clerk', 'shop_owner')
        and has_schema_privilege(pg_roles.oid, pg_namespace.oid, 'create')";
    for server in [&detour.source, &detour.target] {
        assert_eq!(server.value::<String>(creators), "desk shop_owner, lent clerk, lent shop_owner");
    }
    detour.run("check").exits(0).run("clean").exits(0);
}

#[test]
fn a_schema_that_our_role_may_not_take_over_is_named_before_the_mirror_runs_into_it() {
    // As where superusers alone make extensions: nothing of this schema is to be made by us.
    let extended = "create schema \"ext ensions\"; create extension pg_trgm schema \"ext ensions\";
         grant usage on schema \"ext ensions\" to detour";
    let detour = by_a_role_of_its_own(
        Detour::new()
            .without_router()
            .on_source(
                "create schema desk authorization shop_owner;
                 create table desk.orders (id int primary key, note text);
                 alter table desk.orders owner to shop_owner",
            )
            .on_target("create schema desk"),
    );
    let detour = detour
        .on_source(extended)
        .on_source(
            "grant usage on schema \"ext ensions\" to shop_app;
             create index on desk.orders using gin (note \"ext ensions\".gin_trgm_ops);
             create table \"ext ensions\".own (id int primary key)",
        )
        .on_target(extended)
        .run("check")
        .exits(3)
        .finding("ext ensions", "may not take over", "OWNER TO \"detour\"")
        .on_source("drop table \"ext ensions\".own");
    let detour =
        detour.run("check").exits(3).finding("desk", "may not take over", "ALTER SCHEMA \"desk\" OWNER");
    assert_eq!(detour.last().at("/error/failures").as_array().map(Vec::len), Some(1));
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("has other privileges on the source than on the target"), "{warnings}");
    let statement = remedy(&detour);
    let mut detour = detour.on_target(&statement).run("check").exits(0);

    // Who gives a schema away and inherits nothing from whom he gives it to could make nothing in it.
    let may_choose =
        detour.target.value::<i32>("select current_setting('server_version_num')::int") >= 160_000;
    let disinherit = if may_choose {
        "revoke shop_owner from detour; grant shop_owner to detour with inherit false, set true"
    } else {
        "alter role detour noinherit"
    };
    detour = detour.on_target(disinherit).run("check").exits(3);
    detour = detour.finding("shop_owner", "does not inherit", "INHERIT");
    let failures = detour.last().at("/error/failures").as_array().cloned().unwrap_or_default();
    let hint = failures.iter().find(|it| it["object"] == "shop_owner").and_then(|it| it["hint"].as_str());
    let hint = hint.expect("it was found").trim_start_matches("Run ").to_owned();
    let statement = hint.split(';').next().expect("a statement");
    detour = detour.on_target(statement).run("check").exits(0).run("mirror").exits(0).run("check").exits(0);
    let acl = "select nspacl::text from pg_namespace where nspname = 'ext ensions'";
    assert_eq!(detour.target.value::<String>(acl), "{dba=UC/dba,detour=U/dba}");
    detour.run("clean").with(&["--drop-data"]).exits(0);
}

/// What our own role is told tells nothing of the application's.
#[test]
fn a_setting_of_our_own_role_is_not_taken_for_the_configuration() {
    let set = "alter system set search_path = desk, public";
    let placed = "search_path is \"desk, public\" for it on the source";
    let detour = Detour::new()
        .table("orders")
        .without_router()
        .on_source("alter role shop_app set search_path = desk, public")
        .on_target("alter role dba set search_path = desk, public")
        .run("check")
        .exits(3)
        .finding("shop_app", placed, "search_path")
        .on_target(set)
        .run("check")
        .exits(0)
        .on_target("alter system reset search_path")
        // What one server's configuration tells everybody, the other's has to tell, too.
        .on_source("alter role shop_app reset search_path; alter role dba set search_path = public")
        .on_source(set)
        .run("check")
        .exits(3)
        .finding("shop_app", placed, "ALTER ROLE");
    let statement = remedy(&detour);
    detour.on_target(&statement).run("check").exits(0);
}

#[test]
fn a_role_setting_that_our_role_may_not_copy_is_written_by_grants_and_missed_by_check() {
    let detour = Detour::new().without_router().table("orders").on_source(
        "alter table public.orders owner to shop_owner;
         alter role shop_app in database shop set search_path = desk, public;
         alter database shop set log_min_duration_statement = '1h'",
    );
    let detour = by_a_role_of_its_own(detour).run("check").exits(0);
    let settings =
        "select string_agg(array_to_string(setconfig, ' '), ' ' order by setrole) from pg_db_role_setting";
    let both = "log_min_duration_statement=1h search_path=desk, public";
    assert_eq!(detour.target.value::<String>(settings), both);
    let detour = detour.on_target("alter role shop_app in database shop reset search_path");
    let detour = detour.run("check").exits(3).finding("shop_app", "may not set it there", "in database");
    // The rest is copied all the same, and what is missing is told as long as it is.
    let mut detour = detour.run("mirror").exits(0);
    for command in ["check", "cutover"] {
        detour = detour.run(command).exits(3).finding("shop_app", "search_path", "alter role");
        assert_eq!(detour.last().at("/error/failures").as_array().map(Vec::len), Some(1), "{command}");
    }
    let statement = remedy(&detour);
    let detour = detour.on_target(&statement).run("check").exits(0);
    assert_eq!(detour.target.value::<String>(settings), both);
}

#[test]
fn a_table_of_the_source_that_our_role_may_not_write_is_named_before_replay() {
    let detour = Detour::new()
        .without_router()
        .table("orders")
        .on_source("alter table public.orders owner to shop_owner");
    let mut detour = by_a_role_of_its_own(detour).mirrored().run("cutover").exits(0);
    // Maintenance by a superuser, who makes the table anew in a schema of his.
    detour = detour
        .on_source(
            "create schema closed; create table closed.orders (like public.orders including all);
             insert into closed.orders select * from public.orders; drop table public.orders;
             revoke pg_read_all_data from detour; grant usage on schema closed to shop_app; grant all on closed.orders to shop_app",
        )
        .configured("[[map]]\nfrom = \"public.orders\"\nto = \"closed.orders\"")
        .on_target("insert into public.orders (note) values ('new')");
    detour = detour.run("replay").with(&["--lint"]).exits(3).changed(false);
    let refused = detour.last().at("/report/lint").to_string();
    assert!(refused.contains("INSERT, UPDATE, DELETE, TRUNCATE"), "{refused}");
    for (statement, message) in [
        ("GRANT USAGE ON SCHEMA \"closed\"", "may not use schema"),
        ("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLE", "\"closed.orders\""),
    ] {
        for command in ["check", "replay"] {
            detour = detour.run(command).exits(3).finding("public.orders", message, statement);
        }
        let statement = remedy(&detour);
        detour = detour.on_source(&statement);
    }
    detour = detour.run("check").exits(0).run("replay").exits(0);
    let arrived = "select count(*) from closed.orders where note = 'new'";
    assert_eq!(detour.source.value::<i64>(arrived), 1);
    // Rows that policies hide are not found, either.
    detour = detour.on_source("alter table closed.orders enable row level security").run("check").exits(3);
    detour.finding("public.orders", "binds role", "BYPASSRLS");
}

#[test]
fn a_table_is_not_emptied_for_a_new_copy_where_foreign_keys_would_reach_into_others() {
    let detour = Detour::new().table("orders").on_source(
        "create table public.parts (id int primary key, order_id bigint references public.orders on delete cascade);
         insert into public.parts select n, n from generate_series(1, 10) as n;
         create table public.items (id int primary key, order_id bigint references public.orders, above int references public.items);
         insert into public.items values (9, 1, null), (10, 2, 9);
         alter table public.orders owner to shop_owner; alter table public.parts owner to shop_owner;
         alter table public.items owner to shop_owner",
    );
    let detour = without_the_replica_role(detour)
        .run("mirror")
        .exits(0)
        .run("mirror")
        .with(&["--table", "public.orders", "--again"])
        .exits(3)
        .kind("referenced")
        .hint("session_replication_role TO \"detour\"")
        .changed(false)
        .phase("mirrored")
        .run("mirror")
        .with(&["--table", "public.parts", "--again"])
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
    assert_eq!(detour.target.value::<i64>("select count(*) from public.parts"), 10);
    // Rows come after those that they refer to, and go before them, in whichever order tables and rows are looked at.
    let detour = detour
        .on_target("delete from public.items; delete from public.orders where id < 3")
        .on_target(
            "insert into public.orders (id) values (7000); insert into public.parts values (7000, 7000)",
        )
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .reports("/equal", true)
        .reconfigured("[mirror]", "[mirror]\nexclude = [\"public.another\"]")
        .on_target("create table public.another (id bigint references public.orders)")
        .on_target("insert into public.orders (id) values (7000); insert into public.another values (7000)");
    let detour = detour.run("verify").with(&["--repair"]).exits(8).kind("foreign_key");
    detour
        .hint("Rows of table \"public.another\" on target refer to it")
        .on_target("drop table public.another")
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .reports("/equal", true);
}

#[test]
fn rules_that_act_on_the_target_again_are_named() {
    let detour = Detour::new().table("orders").on_source(
        "create table public.history (id bigint, note text); alter table public.history replica identity full;
         create rule keep as on update to public.orders do also insert into public.history values (old.id, old.note);
         create rule off as on delete to public.orders do instead nothing;
         alter table public.orders disable rule off;
         alter table public.orders owner to shop_owner; alter table public.history owner to shop_owner",
    );
    let told = |detour: &Detour| {
        let warnings = detour.last().at("/warnings").to_string();
        assert!(!warnings.contains("\\\"off\\\" acts"), "{warnings}");
        warnings.contains("rule \\\"keep\\\" acts on the target")
    };
    let mut detour = without_the_replica_role(detour.without_router());
    for command in ["check", "mirror", "check"] {
        detour = detour.run(command).exits(0);
        assert!(told(&detour), "{}", detour.last().describe());
    }
    let superuser = detour.target.conninfo("dba");
    detour = detour.target_is(&superuser).run("check").exits(0);
    assert!(!told(&detour), "{}", detour.last().describe());
    let always = "alter table public.orders enable always rule keep";
    detour = detour.on_target(always).run("check").exits(0);
    assert!(told(&detour), "{}", detour.last().describe());
}

/// What a server gives by default to whoever is there is nothing that the source has granted.
#[test]
fn default_privileges_of_the_target_open_and_close_nothing_that_the_mirror_makes() {
    let detour = Detour::new()
        .table("orders")
        .on_source(
            "create table public.secret (id int primary key);
             create sequence public.numbers;
             create function public.price(integer) returns integer language sql return $1;
             create aggregate public.counted(*) (sfunc = int8inc, stype = bigint, initcond = 0);
             create type public.mood as enum ('good');
             create schema desk;
             create view desk.glance as select id from public.secret",
        )
        .on_target(
            "alter default privileges grant select, insert on tables to public;
             alter default privileges grant usage on sequences to shop_app with grant option;
             alter default privileges revoke execute on functions from public;
             alter default privileges revoke usage on types from public;
             alter default privileges grant usage on schemas to shop_limited",
        )
        .mirrored();
    let may = "select has_table_privilege('shop_app', 'public.secret', 'select')::text
        || ' ' || has_table_privilege('shop_app', 'desk.glance', 'insert')
        || ' ' || has_sequence_privilege('shop_app', 'public.numbers', 'usage')
        || ' ' || has_schema_privilege('shop_limited', 'desk', 'usage')
        || ' ' || has_function_privilege('shop_app', 'public.price(integer)', 'execute')
        || ' ' || has_function_privilege('shop_app', 'public.counted()', 'execute')
        || ' ' || has_type_privilege('shop_app', 'public.mood', 'usage')";
    for server in [&detour.source, &detour.target] {
        assert_eq!(server.value::<String>(may), "false false false false true true true");
    }
    detour.run("cutover").exits(0).run("replay").exits(0).run("cutback").exits(0);
}

#[test]
fn what_the_source_takes_from_a_general_role_is_to_be_taken_from_it_on_the_target() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source(
            "create table public.pay (id int primary key);
             grant select on public.pay to shop_app, public;
             create function public.price(integer) returns integer language sql return $1",
        )
        .mirrored()
        .run("check")
        .exits(0)
        .on_source(
            "revoke all on public.pay from shop_app, public;
             revoke all on function public.price(integer) from public",
        );
    let more = "on the source it may not: SELECT on \"public.pay\"; EXECUTE of \"public.price(integer)\"";
    for command in ["check", "cutover"] {
        detour = detour.run(command).exits(3).changed(false).finding("shop_app", more, "FROM PUBLIC;");
    }
    let hint = detour.last().text_at("/error/failures/0/hint").to_owned();
    let statements = hint.strip_prefix("Run on the target: ").expect("it says what to run");
    detour = detour.on_target(statements).run("check").exits(0);
    detour = detour.on_target("grant pg_read_all_data to shop_app").run("check").exits(3).finding(
        "shop_app",
        "on the source it may not",
        "REVOKE \"pg_read_all_data\" FROM \"shop_app\";",
    );
    detour = detour.on_target("revoke pg_read_all_data from shop_app").run("cutover").exits(0);
    // The source may be what it is to be: nothing has it opened again.
    let take = "revoke select on public.orders from shop_app";
    detour
        .on_source(take)
        .run("cutback")
        .exits(3)
        .finding("shop_app", "SELECT on \"public.orders\"", "REVOKE it on the target, too")
        .on_target(take)
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0);
}
