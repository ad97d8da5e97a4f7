//! Restrictions: the limited role, counting first, exactness, and many tables.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use postgres::error::SqlState;

use super::restrict_paths::SHOP;
use super::support::detour::{Detour, Serving};
use super::support::extent;
use super::support::postgres::{Postgres, Shutdown};
use super::support::wait::until;

#[test]
fn what_a_limited_role_could_undo_is_refused_at_check() {
    Detour::new()
        .table("users")
        .on_source("create role boss superuser; create role chief")
        .on_target("create role boss superuser login; create role chief; grant boss to chief; grant chief to shop_app")
        .configured("[[restrict]]\ntables = [\"public.users\"]\nroles = [\"shop_app\", \"boss\", \"nobody\"]")
        .run("check")
        .exits(3)
        .finding("role \"boss\"", "is a superuser", "ALTER ROLE \"boss\" NOSUPERUSER")
        .finding("role \"shop_app\"", "may act as boss", "REVOKE boss")
        .finding("role \"nobody\"", "does not exist", "CREATE ROLE \"nobody\"")
        .mirrored()
        .run("check")
        .exits(3)
        .finding("role \"shop_app\"", "may act as boss", "REVOKE boss")
        .run("restrict")
        .exits(3)
        .finding("role \"boss\"", "is a superuser", "[restrict_role]");
}

/// The catalog as `pg_dump` and `pg_dumpall` write it.
fn dump(server: &Postgres) -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(server.program(program))
            .args(arguments)
            .args(["--host", server.directory().to_str().expect("temporary paths are UTF-8")])
            .args(["--port", &server.port().to_string(), "--username=dba"])
            .output()
            .expect("PostgreSQL's programs are there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Newer versions write a key of their own into each dump.
        text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    };
    run("pg_dump", &["--schema-only", "shop"]) + &run("pg_dumpall", &["--roles-only"])
}

const ROLE: &str = "
[restrict_role]
name = \"shop_guest\"
password_env = \"GUEST_PASSWORD\"
";

#[test]
fn only_what_differs_is_changed_and_lifting_leaves_the_catalog_as_it_was() {
    let detour = Detour::new()
        .on_source("create role support; create role staff")
        .on_target("create role support; create role staff")
        .on_source(&SHOP.replace("create role support login;", ""))
        .writing()
        .mirrored();
    let before = dump(&detour.target);
    let one = |message: &str| {
        format!("[[restrict]]\ntables = [\"public.users\", \"public.part*\"]\nmessage = \"{message}\"\n")
    };
    let notes =
        "[[restrict]]\ntables = [\"public.notes\"]\nwhere = \"id > 10\"\nmessage = \"No new notes.\"\n";
    let detour = detour.configured(&(one("first") + ROLE));
    let detour = detour
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .fault("after:make the limited role")
        .dies()
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .fault("after:restrict tables")
        .dies()
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .exits(0)
        .changed(false)
        .configured(notes)
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .exits(0)
        .changed(true);
    let marks = "select string_agg(oid::text, ',' order by oid) from pg_trigger
                  where tgname like '%pgdetour%' and tgrelid <> 'public.notes'::regclass";
    let kept: String = detour.target.value(marks);
    let verifier = "select rolpassword from pg_authid where rolname = 'shop_guest'";
    let password: String = detour.target.value(verifier);
    let detour =
        detour.run("restrict").with_environment("GUEST_PASSWORD", "never seen 2").exits(0).changed(true);
    assert_eq!(detour.target.value::<String>(marks), kept, "triggers that were right are the same ones");
    assert_ne!(detour.target.value::<String>(verifier), password, "only the password was another");
    let detour = detour.run("restrict").with(&["--lift"]).exits(0).changed(true);
    let after = dump(&detour.target);
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let come: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    assert_eq!((gone, come), (vec![], vec![]));
    assert_eq!(before, after);
    detour.run("restrict").with(&["--lift"]).exits(0).changed(false).no_client_error().no_row_lost();
}

#[test]
fn a_stop_behind_the_first_table_is_told_as_part_way_and_the_same_command_goes_on() {
    Detour::new()
        .table("users")
        .table("orders")
        .mirrored()
        .configured("[[restrict]]\ntables = [\"public.users\", \"public.orders\"]")
        .on_target(
            "create function public.only_one() returns event_trigger language plpgsql as $$ begin
                 if (select count(distinct tgrelid) > 1 from pg_trigger where tgname = 'pgdetour_restrict') then
                     raise 'one is enough';
                 end if;
             end $$;
             create event trigger only_one on ddl_command_end when tag in ('CREATE TRIGGER')
                 execute function public.only_one();
             alter event trigger only_one enable always",
        )
        .run("restrict")
        .exits(7)
        .changed(true)
        .message("could not restrict table public.")
        .on_target("drop event trigger only_one; drop function public.only_one()")
        .run("restrict")
        .exits(0)
        .changed(true)
        .run("restrict")
        .exits(0)
        .changed(false);
}

#[test]
fn an_owner_makes_partitions_of_a_table_that_is_recorded_and_restricted() {
    let detour = Detour::new()
        .on_source(
            "grant create on schema public to shop_app;
             create table public.events (id int, at date, primary key (id, at)) partition by range (at);
             create table public.events_a partition of public.events for values from ('2024-01-01') to ('2025-01-01');
             alter table public.events owner to shop_app; alter table public.events_a owner to shop_app",
        )
        .configured(
            "[capture]\nmethod = \"trigger\"\n[[restrict]]\ntables = [\"public.events\"]\nwhere = \"id = 7\"",
        )
        // What defaults give is taken back from our functions, and not what owners need.
        .on_target("alter default privileges for role dba grant execute on functions to shop_app")
        .mirrored()
        .run("restrict")
        .exits(0)
        .run("cutover")
        .exits(0)
        .run("capture")
        .exits(0)
        .application(
            "create table public.events_b partition of public.events for values from ('2025-01-01') to ('2026-01-01')",
        )
        .application("insert into public.events values (1, '2025-01-01')")
        .application_is_refused("insert into public.events values (7, '2025-01-01')", "25006")
        .application_is_refused("alter table public.events add extra int", "25006");
    let triggers = "select string_agg(distinct tgenabled::text, '') || count(*) filter (where tgname like '!%') || ' '
        || count(*) filter (where tgname like '%restrict%') from pg_trigger where tgrelid = 'public.events_b'::regclass";
    assert_eq!(detour.target.value::<String>(triggers), "A5 4");
}

#[test]
fn traffic_reaches_the_target_as_a_limited_role_like_the_applications() {
    let rules = "[[restrict]]\ntables = [\"public.users\"]\nmessage = \"Closed.\"\n";
    let detour = Detour::new()
        .table("orders")
        .table("users")
        .on_source(
            "create role staff; grant staff to shop_app; create table public.hidden (id int primary key, who text);
             alter table public.users owner to shop_app; alter table public.hidden enable row level security;
             create policy p on public.hidden to shop_app using (true) with check (true);
             grant select (id), insert on public.hidden to shop_app; insert into public.hidden values (1, 'x');
             create function public.secret() returns int language sql as 'select 7';
             revoke all on function public.secret() from public; grant execute on function public.secret() to shop_app",
        )
        .on_target(
            "create role staff; grant staff to shop_app; alter role shop_app set search_path = public, pg_catalog;
             alter role shop_app in database shop set app.tenant = 'a''b'; alter role shop_app connection limit 40",
        )
        .configured(&(rules.to_owned() + ROLE))
        .logging_in_as("shop_app", "shop_guest")
        .mirrored();
    let dry = detour
        .run("restrict")
        .with(&["--dry-run"])
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .exits(0);
    let planned = dry.last().stdout.clone();
    assert!(
        planned.contains("create role \\\"shop_guest\\\"") && planned.contains("password '***'"),
        "{planned}"
    );
    assert!(!planned.contains("never seen") && !planned.contains("SCRAM-SHA-256$"), "{planned}");
    let detour = dry
        .run("cutover")
        .exits(3)
        .finding("shop_guest", "does not exist on the target", "pgdetour restrict")
        .run("restrict")
        .exits(2)
        .message("GUEST_PASSWORD")
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .exits(0)
        .changed(true)
        .reports("/role", "shop_guest")
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .exits(0)
        .changed(false);
    let answer = detour.last();
    assert!(!answer.stdout.contains("never seen") && !answer.stderr.contains("never seen"));
    assert!(!detour.target.log().contains("never seen"));
    let mut guest = detour.target.client("shop_guest");
    let row = guest
        .query_one(
            "select current_setting('pgdetour.limited'), current_setting('search_path'), current_setting('app.tenant'),
                    (select count(*) from hidden), secret(), pg_has_role('staff', 'usage'), pg_has_role('shop_app', 'member')",
            &[],
        )
        .expect("it may do what the application may");
    let texts: Vec<&str> = (0..3).map(|at| row.get(at)).collect();
    assert_eq!(texts, ["on", "public, pg_catalog", "a'b"]);
    assert_eq!((row.get::<_, i64>(3), row.get::<_, i32>(4)), (1, 7));
    assert_eq!((row.get(5), row.get(6)), (true, false));
    let error = guest.query("select who from hidden", &[]).expect_err("the application may not either");
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error}");
    guest
        .batch_execute("create temporary table t (id int); set role staff; reset role")
        .expect("as the application");
    let mine = guest.batch_execute("alter table users add extra int").expect_err("it owns nothing");
    assert_eq!(mine.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{mine}");
    drop(guest);
    let detour = detour
        .writing()
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application("insert into public.orders (note) values ('as a guest')")
        .application_is_refused("insert into public.users (note) values ('x')", "25006")
        .application_goes_on();
    // Not prepared: the pooler may give each message another session of the server.
    let told = detour
        .application_client()
        .simple_query("select session_user || ' ' || current_setting('pgdetour.limited')")
        .expect("it answers");
    let who = told.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(who, Some("shop_guest on"));
    let detour = detour
        .run("restrict")
        .with(&["--lift"])
        .exits(0)
        .application("insert into public.users (note) values ('free')")
        .run("restrict")
        .with_environment("GUEST_PASSWORD", "never seen 1")
        .exits(0)
        .run("replay")
        .exits(0);
    // At the target it is a general role like the others: seen beside the router, and ended in time.
    let _direct = postgres::Client::connect(&detour.target.conninfo("shop_guest"), postgres::NoTls)
        .expect("the server lets it in");
    let mut busy = detour.application_client();
    busy.batch_execute("begin; insert into public.orders (note) values ('busy')").expect("it may");
    let detour = detour.run("cutback").with(&["--max-pause", "20s", "--terminate-after", "100ms"]).exits(0);
    let answer = detour.answer_of("cutback");
    for warning in
        ["role \\\"shop_guest\\\" is connected from", "1 open transactions of general roles were ended"]
    {
        assert!(answer.at("/warnings").to_string().contains(warning), "{}", answer.describe());
    }
    assert!(busy.batch_execute("commit").is_err(), "its session was ended");
    let detour = detour.serving(Serving::Source).application_goes_on().run("clean").exits(0);
    let left = "select count(*) from pg_roles where rolname = 'shop_guest'";
    assert_eq!(detour.target.value::<i64>(left), 0, "clean removes the role that was made");
    detour.no_client_error().no_row_lost();
}

const PASSWORD: &str = "never seen 1";

/// Runs `restrict` with the limited role's password.
fn restricted(detour: Detour) -> Detour {
    detour.run("restrict").with_environment("GUEST_PASSWORD", PASSWORD).exits(0)
}

const IS_THERE: &str = "select count(*) from pg_roles where rolname = 'shop_guest'";

#[test]
fn a_limited_role_that_serves_on_a_target_that_stays_is_dropped_by_nobody() {
    let detour = Detour::new()
        .table("orders")
        .table("users")
        .configured(&("[[restrict]]\ntables = [\"public.users\"]\n".to_owned() + ROLE))
        .logging_in_as("shop_app", "shop_guest")
        .writing()
        .mirrored();
    let mut detour = restricted(detour).run("cutover").exits(0).application_goes_on();
    detour.source.stop(Shutdown::Immediate);
    detour = detour.run("clean").with(&["--stay"]).exits(0).phase("absent");
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("role \\\"shop_guest\\\" stays"), "{warnings}");
    let traces = "select count(*) from pg_db_role_setting where 'pgdetour.limited=on' = any (setconfig)";
    assert_eq!(detour.target.value::<i64>(traces), 0, "it is told no more that it is limited");
    detour.source.start();
    // What status advises then removes the rest, and neither that nor another command the role.
    detour = detour.run("status").with(&["--check"]).exits(3).run("clean").exits(0).changed(true);
    detour = detour.run("restrict").with(&["--lift"]).exits(0).application_goes_on();
    assert_eq!(detour.target.value::<i64>(IS_THERE), 1);
    let detour = detour.application("insert into public.users (note) values ('as a guest')");
    // One that still bears our mark without a record is in use for all that anybody knows.
    detour
        .target
        .exec("comment on role shop_guest is 'Limited role that pgdetour made for database \"shop\".'");
    let detour = detour.run("restrict").with(&["--lift"]).exits(0).changed(false).application_goes_on();
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("role \\\"shop_guest\\\" stays: it has sessions"), "{warnings}");
    assert_eq!(detour.target.value::<i64>(IS_THERE), 1);
    detour.no_client_error().no_row_lost();
}

#[test]
fn without_a_record_a_limited_role_stays_for_as_long_as_the_router_leads_to_the_target_or_it_has_sessions() {
    let detour = Detour::new()
        .on_target("create table public.users (id int primary key)")
        .configured(&("[[restrict]]\ntables = [\"public.users\"]\n".to_owned() + ROLE))
        .logging_in_as("shop_app", "shop_guest");
    let mut detour = restricted(detour);
    assert_eq!(detour.target.value::<i64>(IS_THERE), 1);
    let (source, target) = (detour.source.port(), detour.target.port());
    detour.pooler().log_in_as(target, "shop_guest");
    detour = detour.run("restrict").with(&["--lift"]).exits(0).changed(true);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("stays: the target serves"), "{warnings}");
    assert_eq!(detour.target.value::<i64>(IS_THERE), 1);
    detour.pooler().log_in_as(source, "shop_app");
    let session = detour.target.client("shop_guest");
    detour = detour.run("restrict").with(&["--lift"]).exits(0).changed(false);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("stays: it has sessions"), "{warnings}");
    drop(session);
    until("the session has ended", Duration::from_secs(60), || {
        let sessions = "select count(*) from pg_stat_activity where usename = 'shop_guest'";
        (detour.target.value::<i64>(sessions) == 0).then_some(())
    });
    detour = detour.run("restrict").with(&["--lift"]).exits(0).changed(true);
    assert_eq!(detour.target.value::<i64>(IS_THERE), 0);
}

#[test]
fn a_limited_role_that_another_database_knows_of_is_named_with_what_lets_it_go() {
    let detour = Detour::new()
        .table("users")
        .configured(&("[[restrict]]\ntables = [\"public.users\"]\n".to_owned() + ROLE))
        .mirrored();
    let detour = restricted(detour).on_target("create database aside");
    let aside = detour.target.conninfo("dba").replace("dbname=shop", "dbname=aside");
    let mut aside = postgres::Client::connect(&aside, postgres::NoTls).expect("it takes connections");
    aside
        .batch_execute(
            "create table granted (); grant select on granted to shop_guest;
             create table owned (); alter table owned owner to shop_guest",
        )
        .expect("it may");
    let owned = "REASSIGN OWNED BY \"shop_guest\" TO \"shop_app\"; DROP OWNED BY \"shop_guest\";";
    let detour = detour
        .run("restrict")
        .with(&["--lift"])
        .exits(7)
        .kind("role_needed")
        .message("in database \"aside\"")
        .hint(&format!("in database \"aside\" {owned}"))
        .run("clean")
        .exits(7)
        .kind("role_needed")
        .hint(owned);
    aside.batch_execute(owned).expect("the statements are right");
    let detour = detour.run("clean").exits(0).changed(true).phase("absent");
    assert_eq!(detour.target.value::<i64>(IS_THERE), 0);
    let heir = "select tableowner::text from pg_tables where tablename = 'owned'";
    assert_eq!(aside.query_one(heir, &[]).expect("it is there").get::<_, String>(0), "shop_app");
}

#[test]
fn tables_that_a_mirror_gets_later_are_restricted_like_the_others_and_the_limited_role_may_use_them() {
    let rules = "[[restrict]]\ntables = [\"public.u*\"]\nexcept = [\"public.unheard\"]\n\
                 [[restrict]]\ntables = [\"public.parts\"]\n\
                 [[restrict]]\ntables = [\"public.events\"]\nwhere = \"id = 7\"\n";
    let parted = |name: &str| {
        format!(
            "create table public.{name} (id int, at date, primary key (id, at)) partition by range (at);
             create table public.{name}_a partition of public.{name} for values from ('2024-01-01') to ('2025-01-01');
             grant select, insert, update, delete on public.{name}, public.{name}_a to shop_app;"
        )
    };
    let added = |name: &str| {
        format!(
            "create table public.{name}_b partition of public.{name} for values from ('2025-01-01') to ('2026-01-01');
             grant select, insert, update, delete on public.{name}_b to shop_app;"
        )
    };
    let detour = Detour::new()
        .table("users")
        .on_source(&(parted("parts") + &parted("events")))
        .configured(&(rules.to_owned() + ROLE))
        .logging_in_as("shop_app", "shop_guest")
        .writing()
        .mirrored();
    let detour = restricted(detour).run("check").exits(0);
    let kept = "select string_agg(oid::text, ',' order by oid) from pg_trigger
                 where tgname like '%pgdetour%' and tgrelid = 'public.users'::regclass";
    let before: String = detour.target.value(kept);
    let detour = detour
        .on_source(&(added("parts") + &added("events")))
        .table("ulater")
        .table("unheard")
        .run("mirror")
        .exits(0)
        .phase("mirrored");
    assert_eq!(detour.target.value::<String>(kept), before, "what was right is as it was");
    let detour = restricted(detour).changed(false).run("check").exits(0).run("cutover").exits(0);
    let mut detour = detour
        .application("insert into public.unheard (note) values ('as a guest')")
        .application("insert into public.events values (1, '2025-05-05'); select from public.ulater");
    for refused in [
        "insert into public.ulater (note) values ('x')",
        "insert into public.parts values (1, '2025-05-05')",
        "insert into public.parts_b values (1, '2025-05-05')",
        "delete from public.parts_b",
        "insert into public.events values (7, '2025-05-05')",
        "insert into public.events_b values (7, '2025-05-05')",
    ] {
        detour = detour.application_is_refused(refused, "25006");
    }
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn restrictions_that_are_not_what_the_configuration_says_keep_traffic_from_moving() {
    const AGAIN: &str = "Run pgdetour restrict";
    let first = "[[restrict]]\ntables = [\"public.a\"]\ndeny = [\"delete\"]\n";
    let mut detour = Detour::new()
        .table("a")
        .table("b")
        .on_source("create role other")
        .on_target("create role other")
        .configured(first)
        .mirrored()
        .run("restrict")
        .exits(0)
        .run("check")
        .exits(0);
    for (rules, tables) in [
        ("[[restrict]]\ntables = [\"public.a\", \"public.b\"]\n", "public.a, public.b"),
        ("[[restrict]]\ntables = [\"public.b\"]\n", "public.a, public.b"),
        ("[[restrict]]\ntables = [\"public.a\"]\ndeny = [\"delete\"]\nroles = [\"other\"]\n", "public.a"),
        (
            "[[restrict]]\ntables = [\"public.a\", \"public.z*\"]\ndeny = [\"delete\"]\n",
            "tables that come later",
        ),
    ] {
        detour = detour.configured_anew(rules);
        for command in ["check", "cutover"] {
            detour = detour.run(command).exits(3).phase("mirrored").finding("[[restrict]]", tables, AGAIN);
        }
    }
    // Somebody has switched one off.
    detour = detour.configured_anew(first).run("check").exits(0);
    detour = detour.on_target("alter table public.a disable trigger pgdetour_restrict");
    detour = detour.run("cutover").exits(3).finding("[[restrict]]", "public.a", AGAIN);
    detour.run("restrict").exits(0).run("cutover").exits(0).phase("detoured");
}

#[test]
fn a_limited_role_that_may_less_than_the_applications_keeps_traffic_from_moving() {
    let detour = Detour::new()
        .table("orders")
        .table("users")
        .configured(&("[[restrict]]\ntables = [\"public.users\"]\n".to_owned() + ROLE))
        .logging_in_as("shop_app", "shop_guest")
        .mirrored();
    let detour = restricted(detour).run("check").exits(0).on_target(
        "revoke insert on public.orders from shop_guest; revoke all on public.users from shop_guest",
    );
    let detour = detour
        .run("check")
        .exits(3)
        .finding("shop_guest", "insert on \"public.orders\"", "Run pgdetour restrict")
        .run("cutover")
        .exits(3)
        .finding("shop_guest", "on \"public.users\"", "GRANT")
        .phase("mirrored");
    restricted(detour)
        .changed(true)
        .run("cutover")
        .exits(0)
        .application("insert into public.orders (note) values ('as a guest')");
}

#[test]
fn a_counting_left_on_the_source_ends_with_the_cutover_and_its_counts_stay() {
    let detour = Detour::new()
        .table("orders")
        .configured("[[restrict]]\ntables = [\"public.orders\"]\nwhere = \"note <> 'free'\"")
        .writing()
        .mirrored()
        .run("restrict")
        .with(&["--observe"])
        .exits(0)
        .application("update public.orders set note = 'x' where id < 10")
        .run("cutover")
        .exits(0);
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(warnings.contains("statements on public.orders are counted no more"), "{warnings}");
    detour.source.exec("alter table public.orders drop column note");
    detour
        .run("restrict")
        .with(&["--report"])
        .exits(0)
        .reports("/side", "source")
        .reports("/observed/0/statement", "update")
        .reports("/observed/0/count", 1)
        .reports("/observed/0/role", "shop_app")
        .configured("[[map]]\nfrom = \"public.orders\"\nto = \"public.orders\"\ndrop = [\"note\"]")
        .application_goes_on()
        .run("cutback")
        .exits(0)
        .application_goes_on()
        .run("clean")
        .exits(0)
        .no_client_error()
        .no_row_lost();
}

#[test]
fn what_would_be_refused_is_counted_before_anybody_is_refused() {
    let rules = "[[restrict]]\ntables = [\"public.users\"]\nmessage = \"Closed.\"\n\
                 [[restrict]]\ntables = [\"public.orders\"]\nwhere = \"id > 500\"\n";
    let detour = Detour::new()
        .table("users")
        .table("orders")
        .configured(rules)
        .run("restrict")
        .with(&["--report"])
        .exits(3)
        .kind("not_observed");
    let before = dump(&detour.source);
    let detour = detour
        .run("restrict")
        .with(&["--observe"])
        .exits(0)
        .changed(true)
        .reports("/side", "source")
        .run("restrict")
        .with(&["--observe"])
        .exits(0)
        .changed(false);
    let mut shop = detour.source.client("shop_app");
    shop.batch_execute(
        "set application_name = 'web'; update users set note = 'x' where id = 1; delete from users where id = 2;
         set application_name = 'cron'; insert into users (note) select 'y' from generate_series(1, 100);
         update users set note = 'z'; update orders set note = 'x' where id < 500;
         update orders set note = 'x'",
    )
    .expect("nothing is refused");
    shop.batch_execute("begin; update users set note = 'gone'; rollback").expect("nothing is refused");
    detour.source.exec("update public.users set note = 'by an administrator'");
    let mut copied = shop.copy_in("copy orders (id, note) from stdin").expect("nothing is refused");
    copied.write_all(b"5001\tx\n5002\ty\n").expect("it takes rows");
    assert_eq!(copied.finish().expect("nothing is refused"), 2);
    assert_eq!(detour.source.value::<i64>("select count(*) from public.orders where id > 5000"), 2);
    assert_eq!(shop.execute("delete from orders where id = 5001", &[]).expect("nothing is refused"), 1);
    let counted = |detour: &Detour| -> Vec<(String, String, String, i64)> {
        let observed = detour.last().at("/report/observed").as_array().expect("a list").clone();
        let text = |line: &serde_json::Value, key: &str| line[key].as_str().expect("a text").to_owned();
        let mut lines: Vec<(String, String, String, i64)> = observed
            .iter()
            .map(|line| {
                assert_eq!(line["role"], "shop_app");
                assert!(text(line, "first") <= text(line, "last"), "{line}");
                let count = line["count"].as_i64().expect("a number");
                (text(line, "table"), text(line, "statement"), text(line, "application_name"), count)
            })
            .collect();
        lines.sort();
        lines
    };
    let line = |table: &str, verb: &str, application: &str, count: i64| {
        (format!("public.{table}"), verb.to_owned(), application.to_owned(), count)
    };
    let expected = vec![
        line("orders", "delete", "cron", 1),
        line("orders", "insert", "cron", 1),
        line("orders", "update", "cron", 1),
        line("users", "delete", "web", 1),
        line("users", "insert", "cron", 1),
        // One of them was rolled back: it would have been refused all the same.
        line("users", "update", "cron", 2),
        line("users", "update", "web", 1),
    ];
    let detour = detour.run("restrict").with(&["--report"]).exits(0).changed(false);
    assert_eq!(counted(&detour), expected, "{}", detour.last().describe());
    // Sums are the same as what they are made of, and what comes later is added.
    let many = "insert into pgdetour.observation select 'public.users'::regclass, 'shop_app', 'batch', 'UPDATE', now()
                from generate_series(1, 150000)";
    detour.source.exec(many);
    let detour = detour.run("restrict").with(&["--report"]).exits(0);
    let mut with_batch = expected.clone();
    with_batch.push(line("users", "update", "batch", 150_000));
    with_batch.sort();
    assert_eq!(counted(&detour), with_batch);
    assert_eq!(
        detour.source.value::<i64>("select count(*) from pgdetour.observation"),
        0,
        "it was summed up"
    );
    // What comes when every counter is taken is counted too, and a failure of the counting is no failure of the write.
    detour.source.exec(
        "select setval('pgdetour.observed_next', 64);
         alter table pgdetour.observation add check (application_name <> 'unlucky')",
    );
    shop.batch_execute("set application_name = 'late'; update users set note = 'x' where id = 1;
         update users set note = 'y' where id = 1;
         set application_name = 'unlucky'; update users set note = 'x' where id = 1; set application_name = 'web'")
        .expect("the write passes");
    let detour = detour.run("restrict").with(&["--report"]).exits(0);
    let mut with_late = with_batch.clone();
    with_late.push(line("users", "update", "late", 2));
    with_late.sort();
    assert_eq!(counted(&detour), with_late);
    // A counting that was ended and begun again has other counters, whatever a session remembers of the first.
    let detour = detour
        .run("restrict")
        .with(&["--observe", "--lift"])
        .exits(0)
        .run("restrict")
        .with(&["--observe"])
        .exits(0);
    shop.batch_execute("update users set note = 'again' where id = 1").expect("nothing is refused");
    let detour = detour.run("restrict").with(&["--report"]).exits(0);
    assert_eq!(counted(&detour), [line("users", "update", "web", 1)]);
    // The mirror, capture and replay go on as if nothing were observed.
    let detour = detour.writing().mirrored();
    let ours = "select count(*) from pg_trigger where tgname like '%pgdetour%'";
    assert_eq!(detour.target.value::<i64>(ours), 0, "the target has none of the source's triggers");
    shop.batch_execute("update users set note = 'while mirrored' where id = 3").expect("nothing is refused");
    drop(shop);
    let detour = detour
        .run("restrict")
        .exits(0)
        .run("cutover")
        .exits(0)
        .application_is_refused("update public.users set note = 'y' where id = 3", "25006")
        .on_target("update public.users set note = 'by an administrator of the target' where id = 3")
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("restrict")
        .with(&["--observe"])
        .exits(0)
        .reports("/side", "target")
        .run("cutback")
        .exits(0);
    let note = "select note from public.users where id = 3";
    assert_eq!(detour.source.value::<String>(note), "by an administrator of the target");
    let detour = detour.run("restrict").with(&["--report"]).exits(0).reports("/side", "target");
    let detour = detour.run("restrict").with(&["--observe", "--lift"]).exits(0).changed(true);
    assert_eq!(detour.source.value::<i64>(ours), 0);
    assert!(detour.target.value::<i64>(ours) > 0, "the restrictions stay");
    let detour = detour.application_goes_on().run("clean").exits(0).no_client_error();
    assert_eq!(dump(&detour.source).replace("5002", ""), before.replace("5002", ""));
    detour.no_row_lost();
}

#[test]
fn the_mirror_flow_passes_what_the_application_may_not_write() {
    let detour = Detour::new()
        .table("users")
        .configured(
            "[[restrict]]\ntables = [\"public.users\"]\n[[restrict]]\ntables = [\"public.users\"]\nwhere = \"id > 0\"\n",
        )
        .mirrored()
        .run("restrict")
        .exits(0)
        .on_source("update public.users set note = 'new'; delete from public.users where id = 7; truncate public.tally");
    let arrived = "select count(*) from public.users where note = 'new'";
    until("the changes arrive on the target", Duration::from_secs(60), || {
        (detour.target.value::<i64>(arrived) == 999).then_some(())
    });
    let error = detour
        .target
        .client("shop_app")
        .batch_execute("delete from public.users")
        .expect_err("it is restricted");
    assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{error}");
}

#[test]
fn thousands_of_tables_are_restricted_each_under_its_own_short_lock() {
    let tables = extent::pick(300, 5000);
    let detour = Detour::new().on_source("create table public.one (id int primary key)").mirrored();
    detour.target.exec(&format!(
        "do $$ begin for n in 1..{tables} loop
             execute format('create table public.many_%s (id int primary key)', n);
             if n % 500 = 0 then commit; end if;
         end loop; end $$"
    ));
    let mut detour = detour.configured("[[restrict]]\ntables = [\"public.many_*\"]\n");
    // Somebody holds one of the tables for as long as a statement takes; and how many locks are held is looked at.
    let mut watcher = detour.target.client("dba");
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let watching = std::thread::spawn(move || {
        let held = "select count(distinct relation) from pg_locks
            where mode = 'ShareRowExclusiveLock' and granted and pid <> pg_backend_pid()
              and relation in (select oid from pg_class where relname like 'many\\_%' and relkind = 'r')";
        let mut most = 0_i64;
        while stop.try_recv().is_err() {
            most = most.max(watcher.query_one(held, &[]).expect("it answers").get(0));
        }
        most
    });
    let begun = std::time::Instant::now();
    detour = detour.run("restrict").exits(0).changed(true);
    let took = begun.elapsed();
    done.send(()).expect("the watcher waits");
    let most = watching.join().expect("no panic");
    assert!(most <= 1, "{most} tables were locked at once");
    let restricted = detour.last().at("/report/restricted").as_array().expect("a list").len();
    assert_eq!(restricted, tables);
    eprintln!("restricted {tables} tables in {took:?}");
    // Changed words are a change of every table, and go no slower for what is there already.
    let detour = detour.run("restrict").exits(0).changed(false);
    let error = detour.target.client("shop_app").batch_execute("delete from public.many_77");
    assert!(error.is_err());
    let detour = detour.run("restrict").with(&["--lift"]).exits(0).changed(true);
    assert_eq!(
        detour.target.value::<i64>("select count(*) from pg_trigger where tgname like '%pgdetour%'"),
        0
    );
}
