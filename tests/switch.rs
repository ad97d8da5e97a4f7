//! What cutover and cutback promise beside the move itself: bounds, rehearsals, what moves along, and what is said before.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::detour::{Detour, Serving};
use crate::support::hold::Watch;
use crate::support::postgres::{Postgres, Shutdown};
use crate::support::wait::until;

/// Grants on the database, as the catalog has them.
fn grants(server: &Postgres) -> String {
    // Their order means nothing.
    server.value(
        "select coalesce((select array_agg(a::text order by a::text) from unnest(datacl) as a)::text, '')
           from pg_database where datname = current_database()",
    )
}

#[test]
fn a_switch_over_its_bound_names_who_is_in_the_way_and_is_tried_again() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let before = grants(&detour.source);
    let mut busy = detour.application_client();
    busy.batch_execute("begin; insert into public.orders (note) values ('slow')").expect("it may");
    detour = detour
        .run("cutover")
        .with(&["--max-pause", "400ms", "--retries", "1"])
        .exits(6)
        .kind("timed_out")
        .phase("mirrored")
        .changed(false)
        .reports("/blockers/0/role", "shop_app")
        .reports("/blockers/0/state", "idle in transaction")
        .serving(Serving::Source);
    let answer = detour.last().clone();
    let detail = detour.answer_of("cutover").text_at("/error/detail").to_owned();
    assert!(detail.contains("of \"shop_app\"") && detail.contains("insert into public.orders"), "{detail}");
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(warnings.contains("attempt 1 was taken back"), "{warnings}\n{}", answer.describe());
    assert!(warnings.contains("it is open for longer than clients may be held for it"), "{warnings}");
    assert_eq!(grants(&detour.source), before);

    let detour = detour
        .run("cutover")
        .with(&["--max-pause", "20s", "--terminate-after", "100ms"])
        .exits(0)
        .phase("detoured")
        .serving(Serving::Target);
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(warnings.contains("1 open transactions of general roles were ended"), "{warnings}");
    assert!(busy.batch_execute("commit").is_err(), "its session was ended");
    let slow = "select count(*) from public.orders where note = 'slow'";
    assert_eq!(detour.target.value::<i64>(slow), 0);
    detour.application_goes_on().no_row_lost();
}

#[test]
fn of_many_sessions_that_are_in_the_way_some_are_named_and_the_others_counted() {
    const CLIENTS: usize = 12;
    let detour = Detour::new().table("orders").mirrored();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = postgres::Client::connect(&detour.source.conninfo("shop_app"), postgres::NoTls)
            .expect("the server lets it in");
        client.batch_execute("begin; select from public.orders").expect("it may");
        clients.push(client);
    }
    let young = "select count(*) from pg_stat_activity
                  where usename = 'shop_app' and clock_timestamp() - xact_start < '5 s'";
    until("they are open for long", Duration::from_secs(60), || {
        (detour.source.value::<i64>(young) == 0).then_some(())
    });
    let detour = detour.run("check").exits(0);
    let told = detour.last().at("/report/checks").to_string();
    let times = |part: &str| told.matches(part).count();
    assert_eq!(times("it is open for longer than clients may be held"), 5, "{told}");
    assert_eq!(times("7 more transactions are open for that long"), 1, "{told}");
    assert_eq!(times(" without the router"), 5 + 1, "{told}");
    assert_eq!(times("7 more sessions are connected without the router"), 1, "{told}");
}

#[test]
fn a_mirror_that_is_kept_from_applying_is_waited_for_while_clients_are_served_and_who_keeps_it_is_named() {
    let detour = Detour::new().table("orders").writing().mirrored();
    let mut admin = detour.target.client("dba");
    admin.batch_execute("begin; select from public.orders where id = 1 for update").expect("it may");
    let detour = detour
        .application("update public.orders set note = 'of the application' where id = 1")
        .run("cutover")
        .with(&["--max-lag", "1kB", "--drain-timeout", "2s"])
        .exits(6)
        .kind("timed_out")
        .phase("mirrored")
        .reports("/blockers/0/role", "dba")
        .serving(Serving::Source)
        .no_client_error();
    let answer = detour.answer_of("cutover");
    let detail = answer.text_at("/error/detail");
    assert!(detail.contains("of \"dba\"") && detail.contains("for update"), "{detail}");
    assert!(!answer.stderr.contains("hold clients"), "clients were held for it");
    admin.batch_execute("rollback").expect("it stands");
    detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

/// Every kind of sequence, where it stands.
const SEQUENCES: &str = "
create table public.numbered (id serial primary key, other bigint generated always as identity);
create sequence public.free;
create sequence public.shared;
create table public.one (id bigint primary key default nextval('public.shared'));
create table public.two (id bigint primary key default nextval('public.shared'));
create sequence public.down increment -2 minvalue -1000 maxvalue 1000 start 500;
create sequence public.round maxvalue 5 cycle;
create sequence public.cached cache 20;
create sequence public.far minvalue 1 maxvalue 9223372036854775807;
create sequence public.untouched start 77;
select setval('public.far', 9223372036854775800), setval('public.free', 41, false);
grant usage on all sequences in schema public to shop_app;
grant select, insert on public.numbered, public.one, public.two to shop_app;
";

/// The next value of each; each is used only once a side, for the cache.
const NEXT: &str = "select string_agg(nextval('public.' || name)::text, ' ' order by place)
    from unnest(array['free', 'shared', 'down', 'round', 'cached', 'far', 'untouched']) with ordinality as s (name, place)";

#[test]
fn a_rehearsal_tells_the_pause_and_all_that_moves_with_traffic_moves() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source(SEQUENCES)
        .on_source("revoke connect on database shop from public; grant connect on database shop to shop_app, shop_limited")
        .writing()
        .mirrored();
    // A server that was not told otherwise starts the mirror's worker anew only seconds after a rehearsal has stopped it.
    detour.target.exec("alter system set wal_retrieve_retry_interval = '5s'");
    detour.target.exec("select pg_reload_conf()");
    let before = grants(&detour.source);
    let mut direct = detour.source.client("shop_app");
    direct
        .batch_execute("select pg_advisory_lock(7); create temporary table mine (n int)")
        .expect("the application may");
    direct.batch_execute("listen news").expect("the application may");
    let mut preparing = detour.source.client("shop_app");
    preparing.batch_execute("prepare one as select 1").expect("the application may");
    let mut holding = detour.source.client("shop_app");
    holding.batch_execute("declare c cursor with hold for select 1").expect("the application may");
    let away = detour.source.conninfo("shop_app");
    let mut bypassing = postgres::Client::connect(&away, postgres::NoTls).expect("there is no fence yet");

    detour = detour.run("cutover").with(&["--rehearse", "--no-hold"]).exits(0).reports("/rehearsal", true);
    detour = detour
        .run("cutover")
        .with(&["--rehearse"])
        .exits(0)
        .phase("mirrored")
        .changed(false)
        .reports("/rehearsal", true)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error();
    let rehearsed = detour.answer_of("cutover").clone();
    assert!(
        rehearsed.at("/report/pause_ms").as_f64().is_some_and(|pause| pause > 0.0),
        "{}",
        rehearsed.describe()
    );
    let warnings = rehearsed.at("/warnings").to_string();
    let held = ["advisory locks", "temporary tables", "LISTEN", "prepared statements", "WITH HOLD cursors"];
    for part in held.into_iter().chain(["without the router", "127.0.0.1:"]) {
        assert!(warnings.contains(part), "no warning of {part}\n{}", rehearsed.describe());
    }
    assert_eq!(grants(&detour.source), before);
    assert!(bypassing.batch_execute("select 1").is_ok(), "a rehearsal ends no session");
    let planned = detour.ask("cutover", &["--dry-run"]).clone();
    assert_eq!(planned.at("/report/rehearsal/pause_ms"), rehearsed.at("/report/pause_ms"));

    // What the statistics were is gone on the target, and nobody has looked at its tables since.
    detour.target.exec("delete from pg_statistic; select pg_stat_reset()");
    let numbers = |detour: &Detour, server: &Postgres| -> String {
        assert!(detour.client_errors().is_empty(), "{}", detour.client_errors()[0]);
        server.value(NEXT)
    };
    assert_eq!(numbers(&detour, &detour.source), "41 1 500 1 1 9223372036854775801 77");
    detour = detour.run("cutover").with(&["--prewarm"]).exits(0).serving(Serving::Target).no_client_error();
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(warnings.contains("extension pg_prewarm is not installed on the target"), "{warnings}");
    assert!(bypassing.batch_execute("select 1").is_err(), "who does not wait at the router is ended");
    assert!(detour.source.try_client("shop_app").is_err(), "and kept out");
    assert!(detour.source.try_client("dba").is_ok());
    let known = "select count(*) > 0 from pg_stats where schemaname = 'public' and tablename = 'orders'";
    assert!(detour.target.value::<bool>(known), "the target has no statistics");
    // A cache is given up whole: what follows is further on, never twice.
    assert_eq!(numbers(&detour, &detour.target), "42 2 498 2 21 9223372036854775802 78");

    detour = detour
        .application("insert into public.numbered default values; insert into public.one default values")
        .run("replay")
        .exits(0)
        .run("cutback")
        .with(&["--rehearse"])
        .exits(0)
        // What it has replayed stays.
        .changed(true)
        .phase("detoured")
        .serving(Serving::Target)
        .run("cutback")
        .exits(0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error();
    assert_eq!(detour.answer_of("cutback").at("/report/late_writes"), 0);
    assert_eq!(grants(&detour.source), before, "the grants are as they were");
    assert_eq!(numbers(&detour, &detour.source), "43 4 496 3 41 9223372036854775803 79");
    detour
        .application("insert into public.numbered default values; insert into public.two default values")
        .run("clean")
        .exits(0)
        .no_row_lost();
}

#[test]
fn a_way_back_that_does_not_work_is_found_before_clients_are_held() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    // No room for the marker that is to prove it. The recording has begun by then, which is more than a refusal may leave.
    detour.target.exec(
        "create function public.is_full() returns trigger language plpgsql as
         $$ begin raise exception using errcode = 'disk_full', message = 'no room'; end $$;
         create trigger is_full before insert on pgdetour.marker execute function public.is_full();
         alter table pgdetour.marker enable always trigger is_full",
    );
    detour = detour.run("cutover").exits(7).changed(true).phase("mirrored").serving(Serving::Source);
    detour.target.exec("drop trigger is_full on pgdetour.marker; drop function public.is_full()");
    detour.source.exec("alter table pgdetour.arrived add constraint broken check (false) not valid");
    detour = detour.run("cutover").ends();
    let answer = detour.last();
    assert!(answer.code() != Some(0) && !answer.was_killed(), "{}", answer.describe());
    assert!(!answer.stderr.contains("hold clients"), "{}", answer.describe());
    detour = detour.phase("mirrored").serving(Serving::Source).no_client_error();
    detour.source.exec("alter table pgdetour.arrived drop constraint broken");
    detour.run("cutover").exits(0).serving(Serving::Target).no_client_error().no_row_lost();
}

#[test]
fn the_owner_of_the_database_cannot_be_a_general_role() {
    let mut detour = Detour::new().table("orders");
    detour.source.exec("alter database shop owner to shop_app");
    let answer = detour.ask("check", &[]);
    assert_eq!(answer.code(), Some(3), "{}", answer.describe());
    detour.finding("role \"shop_app\"", "owns database", "ALTER DATABASE");
}

#[test]
fn caches_are_warmed_where_pg_prewarm_is_installed() {
    let detour = Detour::new().table("orders").mirrored();
    detour.target.exec("create schema tools; create extension pg_prewarm schema tools");
    detour.target.exec("create extension pg_buffercache schema tools");
    // Its pages leave the cache with a restart.
    let mut detour = detour;
    detour.target.restart(Shutdown::Fast);
    let cached = "select count(*) from tools.pg_buffercache as b
        where b.relfilenode in (pg_relation_filenode('public.orders'), pg_relation_filenode('public.orders_pkey'))
          and b.reldatabase = (select oid from pg_database where datname = current_database())";
    let before: i64 = detour.target.value(cached);
    detour = detour.run("cutover").with(&["--prewarm"]).exits(0).phase("detoured");
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(!warnings.contains("pg_prewarm"), "{warnings}");
    let pages = "select sum(pg_relation_size(name) / 8192)::bigint
        from unnest(array['public.orders', 'public.orders_pkey']::regclass[]) as t (name)";
    let (after, all): (i64, i64) = (detour.target.value(cached), detour.target.value(pages));
    assert!(after >= all && after > before, "{before} pages before, {after} after, of {all}");
}

#[test]
fn a_replay_that_is_kept_from_applying_is_waited_for_no_longer_than_allowed_and_who_keeps_it_is_named() {
    let detour = Detour::new().table("orders").writing().detoured().application_goes_on();
    let detour = detour.run("replay").exits(0);
    let lock = "begin; lock table public.entry in share mode";
    let mut admin = detour.source.client("dba");
    admin.batch_execute(lock).expect("it may");
    // Clients are served while it waits.
    let mut detour = detour
        .application_goes_on()
        .run("cutback")
        .with(&["--drain-timeout", "1s"])
        .exits(6)
        .kind("timed_out")
        .phase("detoured")
        .changed(false)
        .reports("/blockers/0/role", "dba")
        .serving(Serving::Target)
        .no_client_error();
    let answer = detour.answer_of("cutback");
    let detail = answer.text_at("/error/detail");
    assert!(detail.contains("of \"dba\"") && detail.contains("share mode"), "{detail}");
    assert!(!answer.stderr.contains("hold clients"), "clients were held for it");
    admin.batch_execute("rollback").expect("it stands");

    // No session has a transaction that was prepared.
    let changed =
        detour.target.value::<i64>("insert into public.orders (note) values ('first') returning id");
    detour = detour.run("replay").exits(0);
    detour.source.exec(&format!(
        "begin; select from public.orders where id = {changed} for update; prepare transaction 'left'"
    ));
    detour.target.exec(&format!("update public.orders set note = 'second' where id = {changed}"));
    detour = detour.run("cutback").with(&["--drain-timeout", "2s"]).exits(6).phase("detoured");
    detour = detour.reports("/blockers/0/gid", "left").reports("/blockers/0/role", "dba");
    detour = detour.hint("ROLLBACK PREPARED 'left'");
    detour.source.exec("rollback prepared 'left'");

    // The lock comes when nothing else can be in the way any more.
    let run = detour.start_until("cutback", &["--yes", "--max-pause", "2s"], "after:prepare the router");
    assert!(run.is_there());
    admin.batch_execute(lock).expect("it may");
    detour = detour.application_goes_on();
    let watch = Watch::begin(&detour);
    let answer = run.go_on();
    let held = watch.end();
    assert_eq!(answer.code(), Some(6), "{}", answer.describe());
    assert_eq!(answer.text_at("/report/blockers/0/role"), "dba");
    assert!(held < Duration::from_secs(4), "held for {held:?}\n{}", answer.describe());
    detour.keep(answer);
    detour = detour.phase("detoured").serving(Serving::Target).application_goes_on().no_client_error();
    admin.batch_execute("rollback").expect("it stands");
    detour
        .run("cutback")
        .exits(0)
        .phase("returned")
        .reports("/late_writes", 0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn a_mirror_that_fails_again_and_again_is_named_while_it_is_waited_for() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let arguments = ["--yes", "--drain-timeout", "12s"];
    let run = detour.start_until("cutover", &arguments, "after:check preconditions");
    assert!(run.is_there());
    let row = "insert into public.orders (id, note) values (900000, 'in the way')";
    detour.target.exec(row);
    detour.source.exec(row);
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(6), "{}", answer.describe());
    let failed = "the mirror's apply worker on the target has failed";
    assert!(answer.text_at("/error/detail").starts_with(failed), "{}", answer.describe());
    assert!(answer.at("/warnings").to_string().contains(failed), "{}", answer.describe());
    detour.keep(answer);
    assert_eq!(detour.status_tells_the_truth(), Serving::Source);
    detour.target.exec("delete from public.orders where id = 900000");
    detour.run("cutover").exits(0).serving(Serving::Target).run("cutback").exits(0).no_row_lost();
}

#[test]
fn a_signal_ends_the_wait_for_a_mirror_that_is_kept_from_applying() {
    // Its slot would wait for the transaction that keeps the mirror.
    let mut detour = Detour::new().table("orders").mirrored().run("capture").exits(0);
    let mut holder = detour.target.client("dba");
    let row = "insert into public.orders (id, note) values (900000, 'not to be applied yet')";
    holder.batch_execute(&format!("begin; {row}")).expect("the mirror waits for it");
    detour.source.exec(row);
    // A marker of the run's own that is on its way tells that it waits.
    let waits = "select exists (select from pgdetour.marker where flow = 'mirror' and written_at > now() - interval '1 minute')";
    for command in ["cutover", "verify"] {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            detour.source.exec("delete from pgdetour.marker");
            let run = detour.start(command, &["--yes"]);
            until("it waits", Duration::from_secs(60), || detour.source.value::<bool>(waits).then_some(()));
            run.signal(signal);
            let signalled = Instant::now();
            detour = detour.ended(run, code).phase("mirrored");
            assert!(
                signalled.elapsed() < Duration::from_secs(5),
                "{command} went on for {:?}",
                signalled.elapsed()
            );
        }
    }
    holder.batch_execute("rollback").expect("it is let go");
    detour.run("cutover").exits(0);
}

#[test]
fn a_cutback_that_is_stopped_while_it_replays_has_begun_nothing() {
    let mut detour = Detour::new().table("orders").writing().detoured();
    let stopped = |detour: &mut Detour, signal: Signal, at: &str| {
        let run = detour.start_until("cutback", &["--yes"], at);
        assert!(run.is_there());
        run.signal(signal);
        let answer = run.go_on();
        assert_eq!(answer.code(), Some(128 + signal.as_raw()), "{}", answer.describe());
        assert_eq!(answer.text_at("/phase"), "detoured", "{}", answer.describe());
        detour.keep(answer);
    };
    for signal in [Signal::INT, Signal::TERM] {
        stopped(&mut detour, signal, "before:replay what is captured");
    }
    detour = detour.changed(false).serving(Serving::Target);
    // What it has applied by then stays.
    stopped(&mut detour, Signal::TERM, "after:replay what is captured");
    detour = detour.changed(true).serving(Serving::Target);
    // The same of one that waits for a lock with the changes in hand.
    detour = detour.application_goes_on();
    let mut admin = detour.source.client("dba");
    admin.batch_execute("begin; lock table public.orders in share mode").expect("it may");
    detour = detour.application("insert into public.orders (note) values ('waits')");
    let running = detour.start("cutback", &["--yes"]);
    until("it waits for the lock", Duration::from_secs(30), || {
        let waits =
            "select exists (select from pg_locks where not granted and relation = 'public.orders'::regclass)";
        detour.source.value::<bool>(waits).then_some(())
    });
    running.signal(Signal::INT);
    admin.batch_execute("commit").expect("it is open");
    detour = detour.ended(running, 130).phase("detoured").changed(true).serving(Serving::Target);
    // An attempt of before that is taken back leaves nothing of it either.
    detour = detour.run("cutback").fault("after:hold clients").dies();
    stopped(&mut detour, Signal::TERM, "before:replay what is captured");
    detour = detour.changed(true).serving(Serving::Target).application_goes_on().no_client_error();
    detour.run("cutback").exits(0).serving(Serving::Source).no_row_lost();
}

/// Whatever maintenance has made of the tables: what the application inserts next at home meets no row that it wrote on the target.
#[test]
fn numbers_go_on_where_maintenance_has_moved_rebuilt_split_or_united_their_tables() {
    let maps = [
        ("moved", "elsewhere.moved", ""),
        ("rebuilt", "public.rebuilt_anew", ""),
        ("split", "public.even", "where = \"id % 2 = 0\""),
        ("split", "public.odd", "where = \"id % 2 = 1\""),
        ("one", "public.both", "columns = { kind = \"'one'\" }\nkey = { kind = \"'one'\", id = \"id\" }"),
        ("two", "public.both", "columns = { kind = \"'two'\" }\nkey = { kind = \"'two'\", id = \"id\" }"),
        (
            "counted",
            "public.counted_anew",
            "key = { number = \"number + 1000\" }\ncolumns = { number = \"number + 1000\" }",
        ),
        (
            "kept",
            "public.kept",
            "key = { id = \"id::bigint + 1000\" }\ncolumns = { id = \"id::bigint + 1000\" }",
        ),
        ("down", "public.down", "key = { id = \"id * 10\" }\ncolumns = { id = \"id * 10\" }"),
        ("listed", "public.unindexed", "columns = { number = \"number + 1000\" }"),
    ];
    let maps =
        maps.map(|(from, to, more)| format!("[[map]]\nfrom = \"public.{from}\"\nto = \"{to}\"\n{more}\n"));
    let tables = ["moved", "rebuilt", "split", "one", "two", "kept"];
    let make = |table: &str| {
        format!("create table public.{table} (id int generated by default as identity primary key, v text);")
    };
    let make = tables.map(make).concat();
    let grants = "grant all on all tables in schema public to shop_app; grant all on all sequences in schema public to shop_app;";
    let mut detour = Detour::new()
        .on_source(&format!(
            "{make} create table public.counted (number serial primary key);
             create sequence public.downwards increment -1 maxvalue -1;
             create table public.down (id int primary key default nextval('public.downwards'), v text);
             alter sequence public.downwards owned by public.down.id;
             create table public.listed (id int primary key, number int generated always as identity, v text); {grants}"
        ))
        .detoured()
        .on_source(&format!(
            "create schema elsewhere; grant usage on schema elsewhere to shop_app; alter table public.moved set schema elsewhere;
             drop table public.rebuilt, public.split, public.one, public.two, public.counted;
             create table public.rebuilt_anew (id bigint generated by default as identity primary key, v text);
             create table public.even (id bigint generated by default as identity primary key, v text);
             create table public.odd (id bigint generated by default as identity primary key, v text);
             create table public.both (kind text default 'new', id bigint generated by default as identity, v text, primary key (kind, id));
             create table public.counted_anew (number bigint generated by default as identity primary key);
             update public.kept set id = id + 1000; alter table public.kept alter id restart with 1001;
             alter sequence public.downwards increment -10 restart with -10;
             drop table public.listed; create table public.unindexed (id int primary key, number int generated by default as identity, v text);
             {grants}"
        ))
        .configured(&maps.concat());
    for (table, rows) in
        [("moved", 5), ("rebuilt", 6), ("split", 7), ("one", 8), ("two", 9), ("kept", 10), ("down", 11)]
    {
        detour = detour.application(&format!(
            "insert into public.{table} (v) select 'x' from generate_series(1, {rows})"
        ));
    }
    detour = detour
        .application("insert into public.counted select from generate_series(1, 3)")
        .run("check")
        .exits(0);
    // The furthest value of an expression's column tells what comes next, if an index gives it.
    let said = detour.last().describe();
    assert!(!said.contains("public.counted_number_seq"), "{said}");
    assert!(said.contains("it may be behind column \"number\" of \"public.unindexed\""), "{said}");
    let detour = detour
        .run("replay")
        .exits(0)
        // The last ones arrive while clients are held.
        .application("insert into public.kept (v) values ('x'); insert into public.down (v) values ('x')")
        .run("cutback")
        .exits(0)
        .serving(Serving::Source);
    let next = |table: &str| -> i64 {
        detour.source.value(&format!("insert into {table} (v) values ('home') returning id::int8"))
    };
    let tables = [
        "elsewhere.moved",
        "public.rebuilt_anew",
        "public.even",
        "public.odd",
        "public.both",
        "public.kept",
        "public.down",
    ];
    assert_eq!(tables.map(next), [6, 7, 8, 8, 10, 1012, -130]);
    assert_eq!(
        detour.source.value::<i64>("insert into public.counted_anew default values returning number"),
        1004
    );
}

/// Whoever is not general traffic is not fenced, and what he commits behind the last change would stay where it is.
#[test]
fn what_somebody_else_has_written_and_not_committed_is_waited_for_or_named() {
    for method in ["wal", "trigger"] {
        let mut detour = Detour::new()
            .table("orders")
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .writing()
            .mirrored();
        for (command, phase) in [("cutover", "mirrored"), ("cutback", "detoured")] {
            let serving = detour.serving_server();
            let mut admin = serving.client("dba");
            admin
                .batch_execute("begin; insert into public.orders (note) values ('of the admin')")
                .expect("an admin may");
            detour =
                detour.run(command).with(&["--drain-timeout", "1s"]).exits(6).kind("timed_out").phase(phase);
            let said = detour.last().text_at("/error/detail").to_owned();
            assert!(said.contains("of \"dba\"") && said.contains("insert into public.orders"), "{said}");
            assert!(!detour.last().stderr.contains("hold clients"), "{}", detour.last().describe());
            admin.batch_execute("prepare transaction 'of the admin'").expect("it may");
            detour = detour.run(command).with(&["--drain-timeout", "1s"]).exits(6).phase(phase);
            let hint = detour.last().text_at("/error/hint").to_owned();
            assert!(hint.contains("COMMIT PREPARED or ROLLBACK PREPARED 'of the admin'"), "{hint}");
            admin.batch_execute("commit prepared 'of the admin'").expect("it may");

            // One that begins too late for that is waited for while clients are.
            let run =
                detour.start_until(command, &["--yes", "--max-pause", "3s"], "after:wait for other writers");
            admin
                .batch_execute("begin; insert into public.orders (note) values ('of the admin')")
                .expect("an admin may");
            let answer = run.go_on();
            assert_eq!(answer.code(), Some(6), "{}", answer.describe());
            assert!(answer.text_at("/error/detail").contains("of \"dba\""), "{}", answer.describe());
            detour.keep(answer);
            admin.batch_execute("commit").expect("it stands");
            detour = detour.application_goes_on().run(command).exits(0).reports("/late_writes", 0);
            let rows = "select count(*) from public.orders where note = 'of the admin'";
            let all = if command == "cutover" { 2 } else { 4 };
            assert_eq!(detour.serving_server().value::<i64>(rows), all, "{method} {command}");
        }
        detour.no_client_error().no_row_lost();
    }
}

/// What holds them up may be a session that does not come through the router, and that only the switch can end.
#[test]
fn who_waits_for_a_general_session_is_waited_for_once_that_is_ended() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let mut direct = detour.source.client("shop_app");
    direct
        .batch_execute("begin; update public.orders set note = 'of the application' where id = 1")
        .expect("it may");
    let bounds = ["--yes", "--max-pause", "10s", "--terminate-after", "100ms"];
    let run = detour.start_until("cutover", &bounds, "after:wait for other writers");
    let mut admin = detour.source.client("dba");
    let waiting = std::thread::spawn(move || {
        let rows = "insert into public.orders (note) values ('of the admin');
            update public.orders set note = 'of the admin' where id = 1";
        admin.batch_execute(rows).map(|()| admin)
    });
    until("the admin waits for the application", Duration::from_secs(60), || {
        let waits = "select exists (select from pg_stat_activity
            where usename = 'dba' and wait_event_type = 'Lock' and backend_xid is not null)";
        detour.source.value::<bool>(waits).then_some(())
    });
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    detour.keep(answer);
    waiting.join().expect("it does not panic").expect("nobody has ended it");
    let rows = "select count(*) from public.orders where note = 'of the admin'";
    assert_eq!(detour.target.value::<i64>(rows), 2);
    detour.serving(Serving::Target).application_goes_on().no_client_error().no_row_lost();
}

/// A subscription's worker does what its owner may, and no fence ends it: pools of connections are not all that writes as the
/// application.
#[test]
fn what_a_worker_has_written_as_a_general_role_and_not_committed_is_waited_for_or_named() {
    let mut detour = Detour::new().table("orders").configured("[mirror]\nexclude = [\"public.gate\"]");
    let source = &detour.source;
    source.exec("create database feed");
    let feed = format!("host={} port={} dbname=feed user=dba", source.directory().display(), source.port());
    let mut publisher = postgres::Client::connect(&feed, postgres::NoTls).expect("it lets an admin in");
    let tables =
        "create table public.fed (id int primary key); create table public.gate (id int primary key);";
    let offer = "create publication feed for table public.fed, public.gate;";
    publisher.batch_execute(&format!("{tables}{offer}")).expect("it is new");
    publisher
        .batch_execute("select pg_create_logical_replication_slot('feed', 'pgoutput')")
        .expect("one is free");
    source.exec(&format!(
        "{tables}
         alter table public.fed owner to shop_app;
         alter table public.gate owner to shop_app;
         create subscription feed connection '{feed}' publication feed
           with (create_slot = false, slot_name = 'feed', copy_data = false);
         do $$ begin
           if current_setting('server_version_num')::int >= 160000 then
             alter subscription feed set (password_required = false);
           end if;
         end $$;
         -- Who is given one has to be a superuser at that moment, up to PostgreSQL 15.
         alter role shop_app superuser;
         alter subscription feed owner to shop_app;
         alter role shop_app nosuperuser;"
    ));
    detour = detour.writing().mirrored();

    // What stops at the gate has written to the other table, and is open.
    let mut admin = detour.source.client("dba");
    let mut number = 0;
    let mut feed_and_wait = |source: &Postgres| {
        number += 1;
        let rows = ["fed", "gate"].map(|table| format!("insert into public.{table} values ({number});"));
        publisher.batch_execute(&rows.concat()).expect("it is another database");
        until("the worker waits at the gate", Duration::from_secs(60), || {
            let at_the_gate = "select exists (select from pg_stat_activity where usename = 'shop_app'
                and backend_type <> 'client backend' and backend_xid is not null and wait_event_type = 'Lock')";
            source.value::<bool>(at_the_gate).then_some(())
        });
    };
    let close = "begin; lock table public.gate in exclusive mode";
    let is_named = |said: &str| said.contains("of \"shop_app\", logical replication");

    admin.batch_execute(close).expect("it may");
    feed_and_wait(&detour.source);
    detour = detour
        .run("cutover")
        .with(&["--drain-timeout", "1s"])
        .exits(6)
        .kind("timed_out")
        .phase("mirrored")
        .serving(Serving::Source);
    let answer = detour.answer_of("cutover");
    assert!(is_named(answer.text_at("/error/detail")), "{}", answer.describe());
    assert!(!answer.stderr.contains("hold clients"), "{}", answer.describe());
    admin.batch_execute("rollback").expect("it stands");

    let run = detour.start_until("cutover", &["--yes", "--max-pause", "3s"], "after:wait for other writers");
    admin.batch_execute(close).expect("it may");
    feed_and_wait(&detour.source);
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(6), "{}", answer.describe());
    assert!(is_named(answer.text_at("/error/detail")), "{}", answer.describe());
    detour.keep(answer);
    admin.batch_execute("rollback").expect("it stands");
    detour = detour.application_goes_on();

    let run = detour.start_until("cutover", &["--yes"], "after:decide");
    admin.batch_execute(close).expect("it may");
    feed_and_wait(&detour.source);
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    let warnings = answer.at("/warnings").to_string();
    assert!(warnings.contains("is not carried over when it commits"), "{}", answer.describe());
    assert!(warnings.contains("logical replication"), "{}", answer.describe());
    detour.keep(answer);
    assert_eq!(detour.target.value::<i64>("select count(*) from public.fed"), 2);
    detour.serving(Serving::Target).application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn what_is_decided_is_no_longer_rehearsed() {
    let mut detour = Detour::new().table("orders").mirrored().run("cutover").fault("after:decide").dies();
    for arguments in [&["--rehearse"][..], &["--rehearse", "--dry-run"]] {
        detour = detour.run("cutover").with(arguments).exits(3).kind("decided").changed(false);
    }
    detour.phase("cutting_over").run("cutover").exits(0).phase("detoured");
}
