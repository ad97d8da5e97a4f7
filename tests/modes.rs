//! A mirror that no subscription carries: followed in the foreground, caught up now and then, or copied once.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::detour::{Detour, Serving};
use crate::support::extent::pick;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);
const CARRIED_BY_US: &str = "[mirror]\ncarrier = \"pgdetour\"";

fn subscriptions(detour: &Detour) -> i64 {
    detour.target.value("select count(*) from pg_subscription")
}

/// A change of the source arrives on the target with no command being run.
fn until_a_change_arrives(detour: &Detour, note: &str) {
    detour.source.exec(&format!("insert into public.orders (note) values ('{note}')"));
    until("the change arrives", LIMIT, || {
        let arrived: i64 =
            detour.target.value(&format!("select count(*) from public.orders where note = '{note}'"));
        (arrived == 1).then_some(())
    });
}

fn until_mirrored(detour: &Detour) {
    until("the mirror is followed", LIMIT, || {
        let exists: bool = detour.target.value("select to_regclass('pgdetour.event') is not null");
        let follows = exists
            && detour
                .target
                .value::<i64>("select count(*) from pgdetour.event where message = 'follows the source'")
                > 0;
        follows.then_some(())
    });
}

#[test]
fn a_mirror_is_followed_until_a_signal_and_cutover_takes_over_from_a_run_that_follows() {
    let detour = Detour::new().table("orders").writing();
    let follower = detour.start("mirror", &["--follow", "-v"]);
    until_mirrored(&detour);
    until_a_change_arrives(&detour, "followed");
    assert_eq!(subscriptions(&detour), 0);
    // Other commands run beside it, but no second one follows.
    let detour = detour
        .run("mirror")
        .exits(4)
        .hint("It follows until it is stopped: send it SIGTERM")
        .hint("pgdetour mirror --stop")
        .run("restrict")
        .exits(0)
        .run("capture")
        .exits(0)
        .run("status")
        .exits(0)
        .reports("/mirror/carried_by", "pgdetour")
        .reports("/mirror/running", true);
    assert!(detour.last().at("/report/mirror/lag_bytes").is_u64(), "{}", detour.last().describe());
    follower.signal(Signal::TERM);
    let detour = detour.ended(follower, 0).changed(true).phase("mirrored").reports("/carrier", "pgdetour");
    let answer = detour.last();
    assert!(answer.at("/report/lag_bytes").is_u64(), "{}", answer.describe());
    let is_lag =
        |line: &str| line.contains(" transactions applied, ") && line.ends_with(" bytes of WAL behind");
    assert!(answer.stderr.lines().any(is_lag), "{}", answer.describe());

    let follower = detour.start("mirror", &["--follow"]);
    until_a_change_arrives(&detour, "followed again");
    let detour = detour
        .run("cutover")
        .exits(0)
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .ended(follower, 0)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .run("cutback")
        .exits(0)
        .run("clean")
        .exits(0);
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn a_mirror_whose_slot_is_gone_is_not_called_current() {
    let mut detour = Detour::new().table("orders").mirrored();
    detour.target.exec("alter subscription pgdetour_mirror disable");
    until("nobody reads the slot", Duration::from_secs(30), || {
        let is_read = "select active from pg_replication_slots where slot_name = 'pgdetour_mirror'";
        (!detour.source.value::<bool>(is_read)).then_some(())
    });
    detour.source.exec("select pg_drop_replication_slot('pgdetour_mirror')");
    for more in [&[][..], &["--follow"]] {
        detour = detour.run("mirror").with(more).exits(3).finding(
            "pgdetour_mirror",
            "the mirror's slot on the source is missing",
            "pgdetour clean",
        );
    }
}

#[test]
fn mirror_run_again_catches_up_and_cutover_drains_what_is_left() {
    let detour = Detour::new().table("orders").configured(CARRIED_BY_US).writing().mirrored();
    assert_eq!(subscriptions(&detour), 0);
    let detour = detour
        .application_goes_on()
        .run("mirror")
        .exits(0)
        .changed(true)
        .reports("/carrier", "pgdetour")
        .at_rest(|detour| {
            detour
                .run("mirror")
                .exits(0)
                .run("mirror")
                .exits(0)
                .changed(false)
                .run("verify")
                .exits(0)
                .reports("/equal", true)
        })
        .application_goes_on()
        .run("cutover")
        .exits(0)
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .serving(Serving::Source);
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn cutover_of_a_mirror_that_we_carry_killed_at_every_step_goes_on() {
    let mut detour = Detour::new().table("orders").configured(CARRIED_BY_US).writing().mirrored();
    let plan = detour.ask("cutover", &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let steps = plan.at("/report/steps").as_array().expect("a list of steps");
    let names: Vec<String> =
        steps.iter().map(|step| step["name"].as_str().expect("a step has a name").to_owned()).collect();
    // The steps at which it is another flow than a subscription; the others are killed with one, too.
    let ours = [
        "take the mirror flow over",
        "wait until the lag is small",
        "hold clients",
        "drain to the marker",
        "drop the mirror flow",
    ];
    assert!(ours.iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
    let names = pick(ours.map(str::to_owned).to_vec(), names);
    for name in names {
        detour = detour.run("cutover").fault(&format!("after:{name}")).dies();
        detour.status_tells_the_truth();
    }
    detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn a_batch_mirror_is_one_copy_and_cutover_loses_nothing_that_was_written_after_it() {
    let detour = Detour::new().table("orders").configured("[mirror]\nmode = \"batch\"").writing();
    let detour = detour.run("mirror").with(&["--follow"]).exits(2).mirrored().reports("/mode", "batch");
    assert_eq!(subscriptions(&detour), 0);
    detour.source.exec("insert into public.orders (note) values ('after the copy')");
    let detour = detour
        .application_goes_on()
        .run("cutover")
        .exits(0)
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on();
    let count: i64 = detour.target.value("select count(*) from public.orders where note = 'after the copy'");
    assert_eq!(count, 1);
    detour.no_client_error().no_row_lost();
}

#[test]
fn a_target_that_cannot_reach_the_source_is_mirrored_without_a_subscription() {
    let detour = Detour::new().table("orders");
    let unreachable = "host=127.0.0.1 port=1 dbname=shop user=nobody connect_timeout=2";
    let detour = detour.target_reaches_source_by(unreachable).run("mirror").exits(0).phase("mirrored");
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("cannot subscribe") && warnings.contains("mirror --follow"), "{warnings}");
    let detour = detour.reports("/carrier", "pgdetour");
    assert_eq!(subscriptions(&detour), 0);
    detour.source.exec("insert into public.orders (note) values ('later')");
    let detour = detour.run("mirror").exits(0).changed(true);
    let count: i64 = detour.target.value("select count(*) from public.orders where note = 'later'");
    assert_eq!(count, 1);
    // Where a subscription is asked for by name, it is that or nothing.
    detour
        .configured("[mirror]\ncarrier = \"subscription\"")
        .run("mirror")
        .exits(1)
        .message("subscription \"pgdetour_mirror\"")
        .phase("mirrored");
}

#[test]
fn stop_ends_whatever_carries_the_mirror_and_mirror_goes_on_from_there() {
    let detour = Detour::new().table("orders").run("mirror").with(&["--stop"]).exits(3).kind("no_mirror");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    let detour = detour
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .reports("/stopped", "flow")
        .ended(follower, 0)
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .changed(false)
        .run("clean")
        .exits(0);

    let detour =
        detour.mirrored().run("mirror").with(&["--stop"]).exits(0).reports("/stopped", "subscription");
    detour.source.exec("insert into public.orders (note) values ('while stopped')");
    let enabled: bool = detour.target.value("select subenabled from pg_subscription");
    assert!(!enabled);
    let detour = detour
        .run("cutover")
        .exits(3)
        .finding("pgdetour_mirror", "disabled", "pgdetour mirror")
        .run("mirror")
        .exits(0)
        .changed(true);
    until_a_change_arrives(&detour, "going on");
    let count: i64 = detour.target.value("select count(*) from public.orders where note = 'while stopped'");
    assert_eq!(count, 1);
}

#[test]
fn a_run_that_follows_survives_the_loss_of_either_server() {
    let mut detour = Detour::new().table("orders");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    detour.source.restart(crate::support::postgres::Shutdown::Immediate);
    until_a_change_arrives(&detour, "after the source came back");
    detour.target.restart(crate::support::postgres::Shutdown::Immediate);
    until_a_change_arrives(&detour, "after the target came back");
    follower.signal(Signal::INT);
    detour.ended(follower, 0).phase("mirrored").run("mirror").exits(0);
}

#[test]
fn a_run_that_follows_ends_well_while_the_source_is_away() {
    let mut detour = Detour::new().table("orders");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    until_a_change_arrives(&detour, "before");
    detour.source.stop(crate::support::postgres::Shutdown::Immediate);
    follower.signal(Signal::TERM);
    let mut detour = detour.ended(follower, 0);
    detour.source.start();
    is_equal(detour.run("mirror").exits(0));
}

fn is_equal(detour: Detour) -> Detour {
    detour.run("verify").exits(0).reports("/equal", true)
}

#[test]
fn one_table_is_copied_again_and_a_table_is_added_to_a_mirror_that_stands() {
    let detour = Detour::new()
        .table("orders")
        .table("users")
        .on_source(
            "create table public.parts (id int primary key, order_id bigint references public.orders);
             create table public.badges (id int primary key, user_id bigint references public.users);
             create view public.names as select id, note from public.users;
             create materialized view public.counted as select count(*) as n from public.names",
        )
        .configured("[mirror]\nexclude = [\"public.users\"]")
        .writing()
        .mirrored();
    // A foreign key refers to it, and what is damaged is mended by the copy.
    detour.target.exec("set session_replication_role = replica; delete from public.orders where id < 100");
    let again = ["--table", "public.orders", "--again"];
    let detour = detour
        .run("mirror")
        .with(&["--table", "public.nothing", "--again"])
        .exits(2)
        .run("mirror")
        .with(&again)
        .fault("after:take the mirror flow back")
        .dies()
        .run("mirror")
        .exits(0)
        .changed(true)
        .phase("mirrored")
        .at_rest(is_equal);
    let detour = detour
        .run("mirror")
        .exits(0)
        .changed(false)
        .configured_anew("[mirror]\nexclude = [\"public.parts\"]");
    detour.source.exec("insert into public.users (note) values ('before it was added')");
    let detour = detour.run("mirror").exits(0).changed(true).phase("mirrored");
    assert_eq!(subscriptions(&detour), 1);
    // What was left out for want of the table has come with it.
    let keys = "select count(*) from pg_constraint where conrelid = 'public.badges'::regclass and contype = 'f' and convalidated";
    assert_eq!(detour.target.value::<i64>(keys), 1);
    assert_eq!(detour.target.value::<i64>("select n from public.counted"), 1001);
    detour.source.exec("insert into public.users (note) values ('after it was added')");
    // What was left out meanwhile has missed changes.
    let detour = detour
        .configured_anew("")
        .run("cutover")
        .exits(3)
        .finding("public.parts", "changes of it were missed", "which copies it again")
        .run("mirror")
        .exits(0)
        .changed(true)
        .at_rest(is_equal)
        .run("cutover")
        .exits(0)
        .serving(Serving::Target);
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(
        warnings.contains("public.counted: its rows on the target are those of the last REFRESH"),
        "{warnings}"
    );
    let count: i64 = detour.target.value("select count(*) from public.users");
    assert_eq!(count, 1002);
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn a_partition_that_is_made_later_gets_its_keys_indexes_and_triggers_and_is_attached_once_it_is_caught_up() {
    let detour = Detour::new()
        .on_source(
            "create table public.owners (id int primary key); insert into public.owners values (1);
             create table public.days (id int, day int, owner int references public.owners, primary key (id, day)) partition by list (day);
             create index days_owner on public.days (owner);
             create function public.pass() returns trigger language plpgsql as $$ begin return new; end $$;
             create trigger pass before insert on public.days for each row execute function public.pass();
             create table public.days_1 partition of public.days for values in (1);
             insert into public.days values (1, 1, 1)",
        )
        .mirrored()
        .on_source(
            "create table public.days_2 partition of public.days for values in (2);
             alter table public.days_2 disable trigger pass;
             create table public.days_rest partition of public.days for values in (3, 4) partition by list (day);
             create table public.days_3 partition of public.days_rest for values in (3);
             insert into public.owners values (2); insert into public.days values (2, 2, 2), (3, 3, 2)",
        )
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_source("insert into public.owners values (4); insert into public.days values (4, 2, 4), (5, 3, 4)")
        .run("mirror")
        .exits(0)
        .phase("mirrored")
        .on_source("update public.days set day = 2 where id = 1; insert into public.days values (6, 3, 1)");
    let detour = is_equal(detour);
    // Made by hand, it is taken as it is.
    let by_hand = "create table public.days_5 partition of public.days for values in (5)";
    let detour = detour
        .on_source(by_hand)
        .on_target(by_hand)
        .on_source("insert into public.days values (7, 5, 1)")
        .run("mirror")
        .exits(0);
    let detour = is_equal(detour);
    let attached = "select string_agg(inhrelid::regclass || ' of ' || inhparent::regclass, ', ' order by inhrelid::regclass::text)
                    from pg_inherits";
    assert_eq!(detour.target.value::<String>(attached), detour.source.value::<String>(attached));
    let enabled = "select string_agg(tgrelid::regclass || ' ' || tgenabled::text, ', ' order by tgrelid::regclass::text) from pg_trigger
                   where tgname = 'pass'";
    assert_eq!(detour.target.value::<String>(enabled), detour.source.value::<String>(enabled));
    detour.run("cutover").exits(0).serving(Serving::Target);
}

#[test]
fn a_table_that_is_logged_from_now_on_is_mirrored_with_its_rows() {
    let detour = Detour::new()
        .on_source("create unlogged table public.cache (id int primary key, note text); insert into public.cache values (1, 'a')")
        .mirrored()
        .on_source("alter table public.cache set logged")
        .run("mirror")
        .exits(0)
        .on_source("insert into public.cache values (2, 'b')");
    let detour = is_equal(detour);
    assert_eq!(detour.target.value::<i64>("select count(*) from public.cache"), 2);
}

#[test]
fn a_mirror_goes_on_where_a_new_table_cannot_be_added() {
    let detour = Detour::new()
        .table("orders")
        .mirrored()
        .on_source("create table public.log (n int)")
        .run("mirror")
        .exits(3)
        .finding("public.log", "no replica identity", "REPLICA IDENTITY FULL")
        .changed(false)
        .phase("mirrored")
        .on_source(
            "drop table public.log; create type public.mood as enum ('good');
             create table public.moods (id int primary key, mood public.mood)",
        )
        .run("mirror")
        .exits(3)
        .kind("cannot_add")
        .hint("by the statement that made it on the source")
        .changed(false)
        .phase("mirrored")
        .on_target("create type public.mood as enum ('good'); create table public.moods (id int)")
        .run("mirror")
        .exits(3)
        .kind("table_in_the_way")
        .message("with another definition")
        .changed(false)
        .phase("mirrored");
    until_a_change_arrives(&detour, "after what was refused");
    let detour = detour
        .on_target(
            "drop table public.moods; alter default privileges grant usage on schemas to shop_limited;
             alter default privileges grant select on tables to shop_limited",
        )
        .on_source(
            "create role of_the_source_alone;
             create schema \"later on\" authorization shop_owner; comment on schema \"later on\" is 'it''s new';
             grant usage on schema \"later on\" to shop_app, of_the_source_alone;
             create table \"later on\".notes (id int primary key); insert into \"later on\".notes values (1);
             create table \"later on\".left_out (a int, \"b c\" text)",
        )
        .configured("[mirror]\nexclude = [\"*.left_out\"]");
    let detour = detour
        .run("check")
        .exits(3)
        .finding("\"later on\"", "is not on the target", "Run pgdetour mirror, which makes it")
        .run("mirror")
        .exits(0)
        .phase("mirrored");
    // Its schema is as it is on the source.
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("role \\\"of_the_source_alone\\\" does not exist"), "{warnings}");
    let is_as_there = "select concat_ws(' ', nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace'))
                       from pg_namespace where nspname = 'later on'";
    let there: String = detour.target.value(is_as_there);
    assert_eq!(there, "shop_owner {shop_owner=UC/shop_owner,shop_app=U/shop_owner} it's new");
    assert!(
        !detour
            .target
            .value::<bool>("select has_table_privilege('shop_limited', '\"later on\".notes', 'select')")
    );
    is_equal(detour);
}

/// A table whose trigger calls a function that the target does not have.
const STAMPED: &str = "
create function public.stamp() returns trigger language plpgsql as $$ begin return new; end $$;
create table public.stamped (id int primary key, n bigint references public.orders);
create trigger stamp before insert on public.stamped for each row execute function public.stamp();
insert into public.stamped values (1)";

#[test]
fn a_mirror_goes_on_where_a_new_table_could_not_be_completed() {
    let detour = Detour::new()
        .table("orders")
        .mirrored()
        .on_source(STAMPED)
        .run("mirror")
        .exits(3)
        .kind("cannot_add")
        .message("CREATE TRIGGER")
        .hint("by the statement that made it on the source")
        .changed(false)
        .phase("mirrored");
    until_a_change_arrives(&detour, "after what was refused");
    let function =
        "create function public.stamp() returns trigger language plpgsql as $$ begin return new; end $$";
    is_equal(detour.on_target(function).run("mirror").exits(0).phase("mirrored"));
}

#[test]
fn a_table_that_cannot_be_completed_any_more_can_be_left_out() {
    let detour = Detour::new()
        .table("orders")
        .mirrored()
        .on_target("create function public.stamp() returns trigger language plpgsql as $$ begin return new; end $$")
        .on_source(STAMPED)
        .on_source(
            "create table public.kept (id int primary key, n int references public.stamped); insert into public.kept values (1, 1)",
        )
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_target("drop function public.stamp()")
        .run("mirror")
        .exits(7)
        .kind("cannot_complete")
        .hint("mirror.exclude")
        .configured_anew("[mirror]\nexclude = [\"public.stamped\"]")
        .run("mirror")
        .exits(0)
        .phase("mirrored");
    until_a_change_arrives(&detour, "without what was left out");
    is_equal(detour);
}

#[test]
fn a_table_that_is_added_has_the_privileges_of_the_source_and_not_those_that_the_target_gives_by_default() {
    let detour = Detour::new()
        .table("orders")
        .on_source(
            "alter default privileges in schema public grant select on tables to shop_app;
             alter default privileges in schema public grant usage on sequences to shop_app",
        )
        .mirrored()
        .on_source(
            "create table public.secrets (id int generated by default as identity primary key, note text);
             revoke all on public.secrets from shop_app; grant insert on public.secrets to shop_app;
             revoke all on sequence public.secrets_id_seq from shop_app",
        )
        .run("mirror")
        .exits(0);
    let granted = "select has_table_privilege('shop_app', 'public.secrets', 'select') || ' '
                       || has_table_privilege('shop_app', 'public.secrets', 'insert') || ' '
                       || has_sequence_privilege('shop_app', 'public.secrets_id_seq', 'usage')";
    assert_eq!(detour.source.value::<String>(granted), "false true false");
    assert_eq!(detour.target.value::<String>(granted), "false true false");
}

#[test]
fn a_table_that_is_copied_again_is_emptied_once_nobody_reads_it() {
    let mut detour = Detour::new().table("orders").mirrored();
    let mut reader = detour.target.client("dba");
    reader.batch_execute("begin; select from public.orders").expect("the target answers");
    let copying = detour.start("mirror", &["--table", "public.orders", "--again"]);
    let timeout = "lock timeout";
    until("the table could not be emptied at once", LIMIT, || {
        detour.target.log().contains(timeout).then_some(())
    });
    reader.batch_execute("commit").expect("the target answers");
    detour = detour.ended(copying, 0).phase("mirrored");
    is_equal(detour);
}

#[test]
fn a_table_that_changes_on_the_source_stops_the_mirror_by_name() {
    let detour = Detour::new().table("orders").table("users").configured(CARRIED_BY_US);
    let detour = detour.run("mirror").fault("after:copy schema").dies();
    detour.source.exec("alter table public.users add column email text");
    let detour = detour.run("mirror").exits(3).finding("public.users", "changed on the source", "target");
    detour.target.exec("alter table public.users add column email text");
    // Keys are not there yet, so that it is not the same definition until the copy is complete.
    detour.source.exec("alter table public.users drop column email");
    detour.target.exec("alter table public.users drop column email");
    let detour = detour.run("mirror").exits(0).phase("mirrored");
    detour.source.exec("alter table public.users add column email text");
    let detour = detour.run("mirror").exits(3).finding("public.users", "changed on the source", "target");
    detour.target.exec("alter table public.users add column email text");
    detour.source.exec("update public.users set email = 'x' where id = 1");
    let detour = detour.run("mirror").exits(0).changed(true);
    let email: String = detour.target.value("select email from public.users where id = 1");
    assert_eq!(email, "x");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    // A change of before would be found as one that the mirror was begun with.
    until("the slot is read", LIMIT, || {
        let read = "select count(*) from pg_replication_slots where active";
        (detour.source.value::<i64>(read) > 0).then_some(())
    });
    // The stream tells of the column before anybody looks at the table.
    detour.source.exec("alter table public.orders add column more int; update public.orders set more = 1");
    let detour = detour
        .ended(follower, 8)
        .kind("schema_changed")
        .message("public.orders")
        .hint("Make the same change on the target");
    detour.target.exec("alter table public.orders add column more int; delete from pgdetour.event");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    until("the slot is read", LIMIT, || {
        let read = "select count(*) from pg_replication_slots where active";
        (detour.source.value::<i64>(read) > 0).then_some(())
    });
    let renamed = "alter table public.orders rename to former; create table public.orders (like public.former including all)";
    detour.source.exec(renamed);
    detour
        .ended(follower, 8)
        .kind("schema_changed")
        .message("\"public.orders\" was dropped or renamed on the source")
        .hint("it copies the table again");
}

#[test]
fn a_table_that_changes_while_others_are_copied_is_named_and_what_is_copied_is_kept() {
    let detour = Detour::new().table("orders").table("users").on_source(
        "create table public.big (id int primary key, filler text);
         insert into public.big select n, repeat('x', 100) from generate_series(1, 20000) as n",
    );
    let copying = detour.start("mirror", &["--jobs", "2", "--max-rate", "500kB/s"]);
    until("a small table is copied beside the large one", LIMIT, || {
        let exists: bool = detour.target.value("select to_regclass('pgdetour.table_copy') is not null");
        let states = "select coalesce(string_agg(table_name || ' ' || state, ',' order by table_name)
                               filter (where table_name in ('big', 'users')), '') from pgdetour.table_copy";
        (exists && detour.target.value::<String>(states) == "big copying,users copied").then_some(())
    });
    let detour = detour
        .on_source("alter table public.users add column email text")
        .ended(copying, 8)
        .kind("schema_changed")
        .message("table \"public.users\" was changed on the source since its copy was made")
        .phase("mirroring")
        .on_source("alter table public.users drop column email");
    let detour = is_equal(detour.run("mirror").exits(0).phase("mirrored"));
    let told = &detour.answer_of("mirror").stderr;
    assert!(told.contains("6 tables are copied already and kept, 0 were not begun"), "{told}");
    assert!(!told.contains("copied again"), "{told}");
}

#[test]
fn what_a_mirror_will_cost_its_source_and_what_it_carries_otherwise_is_told_before() {
    let detour = Detour::new()
        .table("orders")
        .on_source(
            "insert into public.orders (note) select repeat('x', 1000) from generate_series(1, 4000);
             analyze public.orders",
        )
        .on_source("alter system set max_slot_wal_keep_size = '1MB'")
        .on_source("select pg_reload_conf()")
        .on_source(
            "create function public.again() returns trigger language plpgsql as $$ begin return new; end $$;
             create trigger again before insert on public.orders for each row execute function public.again();
             alter table public.orders enable always trigger again;
             create extension citext; create table public.of_extension (id int primary key);
             alter extension citext add table public.of_extension;
             update pg_extension set extconfig = array['public.of_extension'::regclass], extcondition = array['']
              where extname = 'citext'",
        );
    until("the limit is there", LIMIT, || {
        (detour.source.value::<String>("show max_slot_wal_keep_size") == "1MB").then_some(())
    });
    let warns = |detour: &Detour, told: &str| {
        let warnings = detour.last().at("/warnings").to_string();
        assert!(warnings.contains(told), "{told}: {warnings}");
    };
    let detour = detour.run("check").exits(0);
    warns(&detour, "max_slot_wal_keep_size is 1 MB, less than the ");
    warns(&detour, "trigger that always fires again on public.orders: ");
    warns(&detour, "fires on the target again for each mirrored change");
    warns(&detour, "extension table public.of_extension: it belongs to an extension");
    let detour = detour.configured("[mirror]\nmethod = \"trigger\"").run("check").exits(0);
    warns(&detour, "mirror.method = \\\"trigger\\\" writes every change on the source a second time");
    warns(&detour, "a half to a fifth of the speed in bulk writes");
    let kept = detour.last().at("/warnings").to_string();
    assert!(!kept.contains("max_slot_wal_keep_size"), "triggers keep no WAL: {kept}");
}

#[test]
fn a_busy_source_pauses_the_copy_and_a_stop_keeps_what_is_copied() {
    let detour = Detour::new().table("orders").on_source(
        "create table public.big (id int primary key, filler text);
                    insert into public.big select n, repeat('x', 100) from generate_series(1, 20000) as n",
    );
    let slow = ["--jobs", "1", "--max-rate", "64kB/s"];
    let copying = detour.start("mirror", &slow);
    until("the large table is being copied", LIMIT, || {
        let exists: bool = detour.target.value("select to_regclass('pgdetour.table_copy') is not null");
        let copying =
            "select count(*) from pgdetour.table_copy where state = 'copying' and table_name = 'big'";
        (exists && detour.target.value::<i64>(copying) == 1).then_some(())
    });
    let locks = "select string_agg(distinct l.mode, ',') from pg_locks as l join pg_stat_activity as a using (pid)
                  where a.application_name = 'pgdetour mirror' and l.relation = any (array['public.big', 'public.orders']::regclass[])";
    assert_eq!(detour.source.value::<String>(locks), "AccessShareLock");
    let detour = detour
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .reports("/stopped", "copy")
        .phase("mirroring")
        .ended(copying, 7)
        .kind("stopped");

    let mut busy = detour.source.client("dba");
    let copying = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Ended by the test, once the copy has been seen to pause.
            let _ = busy.batch_execute("select pg_sleep(600)");
        });
        let limits = ["--jobs", "1", "--max-rate", "1MB/s", "--max-load", "active=0"];
        let copying = detour.start("mirror", &limits);
        until("the load has been looked at", LIMIT, || {
            let looked = "select count(*) from pg_stat_activity where application_name = 'pgdetour mirror'
                             and state = 'idle' and query like '%pg_stat_replication as r%'";
            (detour.source.value::<i64>(looked) > 0).then_some(())
        });
        detour.source.exec(
            "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(600)' and pid <> pg_backend_pid()",
        );
        copying
    });
    let detour = is_equal(detour.ended(copying, 0).phase("mirrored"));
    let told = &detour.answer_of("mirror").stderr;
    assert!(told.contains("copied again from their beginning: public.big"), "{told}");
    let pause = told.find("the copy pauses: ").unwrap_or_else(|| panic!("{told}"));
    assert!(told[pause..].contains(" sessions are active, 0 are allowed"), "{told}");
    assert!(told[pause..].contains("the copy goes on"), "{told}");
}

#[test]
fn a_standby_of_the_source_that_falls_behind_pauses_the_copy_until_it_has_caught_up() {
    let mut detour = Detour::new().on_source(
        "create table public.big (id int primary key, filler text);
         insert into public.big select n, repeat('x', 100) from generate_series(1, 20000) as n",
    );
    let standby = detour.source.start_standby("standby", Duration::from_secs(8));
    until("the standby streams", LIMIT, || {
        let streams = "select count(*) from pg_stat_replication where state = 'streaming'";
        (detour.source.value::<i64>(streams) == 1).then_some(())
    });
    let detour = detour
        .run("mirror")
        .with(&["--jobs", "1", "--max-rate", "500kB/s", "--max-load", "standby-lag=200ms", "-v"])
        .exits(0)
        .phase("mirrored");
    let told = &detour.answer_of("mirror").stderr;
    let pause = told.find("the copy pauses: a standby is ").unwrap_or_else(|| panic!("{told}"));
    assert!(told[pause..].contains("the copy goes on"), "{told}");
    let seconds = detour.last().at("/report/seconds").as_f64().expect("it took its time");
    assert!(seconds > 2_200_000.0 / 500_000.0, "2.2 MB at 500 kB/s in {seconds} s");
    assert!(
        told.contains("public.big: 20000 rows") && !told.contains("xxxx"),
        "rows are counted, and not shown: {told}"
    );
    drop(standby);
}
