//! What `clean` leaves: nothing of ours, whatever happened before, or a target that has become the new home.

use crate::support::detour::{Detour, Serving};
use crate::support::postgres::{Postgres, Shutdown};

/// Everything on a server that bears one of our names, whatever database or catalog it is in.
fn ours(server: &Postgres) -> Vec<String> {
    let rows = server.client("dba").query(
        "select 'slot ' || slot_name from pg_replication_slots where slot_name like 'pgdetour%'
         union all select 'publication ' || pubname from pg_publication where pubname like 'pgdetour%'
         union all select 'subscription ' || subname from pg_subscription where subname like 'pgdetour%'
         union all select 'schema ' || nspname from pg_namespace where nspname like 'pgdetour%'
         union all select 'trigger ' || tgname from pg_trigger where tgname like '%pgdetour%'
         union all select 'event trigger ' || evtname from pg_event_trigger where evtname like 'pgdetour%'
         union all select 'origin ' || roname from pg_replication_origin",
        &[],
    );
    rows.expect("the catalog can be read").iter().map(|row| row.get(0)).collect()
}

fn nothing_is_left(detour: &Detour) {
    for server in [&detour.source, &detour.target] {
        assert_eq!(ours(server), [""; 0]);
    }
}

const RESTRICTED: &str = "[[restrict]]\ntables = [\"public.users\"]";

#[test]
fn the_target_becomes_the_new_home() {
    let detour = Detour::new()
        .table("orders")
        .table("users")
        .configured(RESTRICTED)
        .writing()
        .mirrored()
        .run("restrict")
        .exits(0)
        .run("cutover")
        .exits(0)
        .application_is_refused("delete from public.users where id = 1", "25006")
        // Somebody who brought rows along without the sequence.
        .on_target(
            "insert into public.orders (id, note) overriding system value values (5000, 'brought along')",
        )
        .run("clean")
        .with(&["--stay"])
        .exits(0)
        .changed(true)
        .phase("absent");
    nothing_is_left(&detour);
    assert_eq!(detour.last().text_at("/serving"), "target");
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("public.orders_id_seq") && warnings.contains("setval"), "{warnings}");
    assert!(warnings.contains("the source stays closed"), "{warnings}");
    let grant = "GRANT CONNECT ON DATABASE \\\"shop\\\" TO \\\"shop_app\\\"; there ends that";
    assert!(warnings.contains(grant), "{warnings}");
    assert_eq!(detour.who_really_serves(), Serving::Target);
    let detour = detour
        .application("delete from public.users where id = 1; insert into public.users (note) values ('new')")
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
    // The source was left behind: nobody writes there by mistake.
    detour.source.try_client("shop_app").map(drop).expect_err("general roles are kept out");
    // Without a record, the routers know who serves.
    let mut detour = detour.run("status").with(&["--check"]).exits(0);
    for (command, arguments, code) in [
        ("status", &[][..], 0),
        ("clean", &[], 0),
        ("clean", &["--stay"], 0),
        ("restrict", &["--lift"], 0),
        ("check", &[], 3),
        ("cutback", &[], 3),
    ] {
        detour = detour.run(command).with(arguments).exits(code).changed(false).phase("absent");
        assert_eq!(detour.last().text_at("/serving"), "target", "{}", detour.last().describe());
    }
}

/// Without a router only the fences tell who serves, and nothing may advise to open what was left behind.
#[test]
fn the_target_that_has_become_the_new_home_is_known_to_serve_without_a_router() {
    let detour = Detour::new().table("orders").without_router().writing().mirrored();
    let detour = detour.run("cutover").exits(0).application_goes_on();
    let mut detour = detour.run("clean").with(&["--stay"]).exits(0).phase("absent");
    for (command, arguments, code) in [
        ("status", &["--check"][..], 0),
        ("clean", &[], 0),
        ("restrict", &["--lift"], 0),
        ("cutback", &[], 3),
    ] {
        detour = detour.run(command).with(arguments).exits(code).changed(false).phase("absent");
        assert_eq!(detour.last().text_at("/serving"), "target", "{}", detour.last().describe());
    }
    detour = detour.application_goes_on();
    // Its clients are not served then, and would not be by the source.
    detour.target.stop(Shutdown::Immediate);
    detour = detour.run("status").with(&["--check"]).exits(8).reports("/serving", "target");
    assert!(!detour.last().describe().contains("GRANT"), "{}", detour.last().describe());
    detour.target.start();
    detour = detour.run("status").with(&["--check"]).exits(0);
    // Kept out of both, they are served nowhere.
    detour.target.exec("revoke connect on database shop from public, shop_app");
    detour = detour.run("status").with(&["--check"]).exits(8).reports("/attention/0/check", "fence");
    detour.target.exec("grant connect on database shop to shop_app");
    detour.application_goes_on().no_row_lost();
}

#[test]
fn the_target_stays_without_a_source_that_never_comes_back() {
    let mut detour = Detour::new().table("orders").table("users").configured(RESTRICTED).writing().detoured();
    detour.source.stop(Shutdown::Immediate);
    detour = detour.run("clean").exits(5).kind("unreachable").changed(false);
    detour = detour.run("clean").with(&["--stay"]).exits(0).changed(true);
    assert_eq!(ours(&detour.target), [""; 0]);
    detour = detour.application_goes_on();
    // It comes back after all: what is left there is found by its names.
    detour.source.start();
    assert!(!ours(&detour.source).is_empty());
    detour = detour.run("status").with(&["--check"]).exits(3);
    // What the new home restricts is no detour whose record is lost.
    detour = detour.run("restrict").exits(0).run("status").with(&["--check"]).exits(3).phase("absent");
    detour = detour.run("clean").exits(0).changed(true);
    nothing_is_left(&detour);
    detour.no_client_error().no_row_lost();
}

#[test]
fn the_detour_of_another_database_on_the_same_servers_keeps_its_slots() {
    let detour = Detour::new().table("orders").detoured();
    let aside = |server: &Postgres| server.conninfo("dba").replace("dbname=shop", "dbname=aside");
    for server in [&detour.source, &detour.target] {
        server.exec("create database aside");
    }
    let (source, target) = (aside(&detour.source), aside(&detour.target));
    let there = ["--source", &source, "--target", &target];
    // What an earlier detour of that database has left.
    let mut left =
        postgres::Client::connect(&target, postgres::NoTls).expect("the database takes connections");
    left.batch_execute("create schema pgdetour").expect("it has none");
    let detour = detour
        .application("insert into public.orders (note) values ('while detoured')")
        .run("check")
        .with(&there)
        .exits(3)
        .finding("target", "exists for another database, \"shop\"", "wait until that of \"shop\" is over")
        .run("mirror")
        .with(&there)
        .exits(3)
        .finding("target", "exists for another database, \"shop\"", "don't drop it")
        .run("status")
        .with(&there)
        .exits(0);
    assert!(
        !detour.last().at("/report/orphans").to_string().contains("slot"),
        "{}",
        detour.last().describe()
    );
    let detour = detour.run("clean").with(&there).exits(0).changed(true);
    let slots = "select string_agg(slot_name, ', ') from pg_replication_slots";
    assert_eq!(detour.target.value::<Option<String>>(slots).as_deref(), Some("pgdetour_capture"));
    let detour = detour.run("replay").exits(0).reports("/changes", 1).run("cutback").exits(0);
    let detour = detour.run("clean").exits(0);
    nothing_is_left(&detour);
}

#[test]
fn orphans_are_found_by_their_names_when_no_record_is_left() {
    let detour = Detour::new().table("orders").table("users").configured(RESTRICTED).mirrored();
    let detour = detour.run("restrict").exits(0).run("capture").exits(0);
    // The records are lost, and with them every knowledge of the detour.
    let detour = detour
        .on_source("drop schema pgdetour cascade")
        .on_target("drop schema pgdetour cascade")
        .run("status")
        .with(&["--check"])
        .exits(3)
        .phase("absent");
    let orphans = detour.last().at("/report/orphans").to_string();
    for kind in ["replication slot", "publication", "subscription"] {
        assert!(orphans.contains(kind), "{orphans}");
    }
    let detour = detour.run("clean").exits(0).changed(true);
    nothing_is_left(&detour);
    assert_eq!(
        detour.target.value::<i64>("select count(*) from public.orders"),
        1000,
        "not known to be ours"
    );
    detour.run("clean").exits(0).changed(false);
}

/// The record on the target is lost while that serves: what was not replayed is nowhere else, and the source knows where it should be.
#[test]
fn a_detour_that_the_source_alone_knows_of_is_not_cleaned_away() {
    let mut detour = Detour::new()
        .table("orders")
        .detoured()
        .application("insert into public.orders (note) values ('on the target alone')")
        .on_target("drop schema pgdetour cascade")
        .run("status")
        .with(&["--check"])
        .exits(8)
        .phase("detoured")
        .reports("/serving", "target")
        .reports("/next", serde_json::json!(["clean"]))
        .reports("/attention/0/check", "record_lost");
    for command in ["clean", "check", "mirror", "replay"] {
        detour = detour.run(command).exits(3).kind("record_lost").hint("clean --stay").changed(false);
    }
    let slots = "select count(*) from pg_replication_slots where slot_name = 'pgdetour_capture'";
    assert_eq!(detour.target.value::<i64>(slots), 1);
    let detour = detour.run("clean").with(&["--stay"]).exits(0).changed(true).phase("absent");
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("GRANT CONNECT ON DATABASE \\\"shop\\\" TO \\\"shop_app\\\";"), "{warnings}");
    nothing_is_left(&detour);
    detour.serving(Serving::Target);
}

/// The copies go with an abort; what somebody has made beside them is not ours to drop.
#[test]
fn what_others_have_made_on_the_target_goes_only_when_that_is_said() {
    let mut detour = Detour::new()
        .table("orders")
        .table("users")
        .table("gone")
        .configured("[mirror]\nexclude = [\"public.users\"]")
        .on_source(
            "create extension citext; create schema old; create table old.moved (id int primary key);
             create function old.audit() returns event_trigger language plpgsql as 'begin end';
             create event trigger audit on ddl_command_end execute function old.audit()",
        )
        .mirrored()
        // A table that is added is ours as well, and what the source has no more; what it has, too, was made as we have asked for.
        .configured_anew("")
        .run("mirror")
        .exits(0)
        .on_source(
            "drop event trigger audit; drop extension citext; alter schema old rename to older;
             drop table public.users, public.gone; create view public.later as select 1 as one",
        )
        .on_target(
            "create view public.later as select 1 as one;
             create table public.notes (id int); insert into public.notes values (1);
             create function public.mine() returns integer language sql return 1;
             create schema aside; create extension hstore",
        );
    for arguments in [&[][..], &["--dry-run"]] {
        detour = detour.run("clean").with(arguments).exits(3).changed(false).phase("mirrored");
        for name in
            ["table public.notes", "function public.mine()", "schema \"aside\"", "extension \"hstore\""]
        {
            detour = detour.finding(name, "which pgdetour has not made", "--drop-data");
        }
        assert_eq!(detour.last().at("/error/failures").as_array().map(Vec::len), Some(4));
    }
    let detour = detour.run("clean").with(&["--drop-data"]).exits(0).changed(true);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("goes with the copies: ") && warnings.contains("public.notes"), "{warnings}");
    nothing_is_left(&detour);
    let held = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(detour.target.value::<i64>(held), 0);
}

/// Without a router nothing but the source's fence tells that the target has stayed, and nobody can ask for it.
#[test]
fn nobody_knows_who_serves_while_the_source_that_was_left_is_down() {
    let detour = Detour::new().table("orders").without_router().writing().mirrored();
    let mut detour = detour.run("cutover").exits(0).application_goes_on();
    detour = detour.run("clean").with(&["--stay"]).exits(0).phase("absent");
    detour.source.stop(Shutdown::Immediate);
    detour = detour
        .run("status")
        .exits(0)
        .phase("absent")
        .reports("/serving", serde_json::Value::Null)
        .reports("/wrong_side", serde_json::json!([]));
    assert_eq!(detour.last().at("/serving"), &serde_json::Value::Null);
    let told = detour.as_text("status", &[]).stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("Phase \"absent\"; nobody knows who serves."), "{told}");
    detour = detour.run("status").with(&["--check"]).exits(8);
    detour.source.start();
    detour.run("status").exits(0).reports("/serving", "target").application_goes_on().no_row_lost();
}
