//! A backup database between source and target: both stages of the mirror, and the copy beside the target while that serves.

use std::time::Duration;

use serde_json::json;

use crate::support::detour::{Detour, Serving};
use crate::support::extent::pick;
use crate::support::postgres::{DBA_PASSWORD, Postgres, Shutdown};
use crate::support::wait::until;

const ACCOUNTS: &str = "
create type public.mood as enum ('calm', 'Busy');
create table public.accounts (
    id bigint generated always as identity primary key, name text not null unique, mood public.mood, whole jsonb, at timestamptz
);
insert into public.accounts (name, mood, whole, at)
select 'n' || n, 'Busy', jsonb_build_object('n', n), now() from generate_series(1, 500) as n;
create table public.entries (account bigint references public.accounts, number int, primary key (account, number));
insert into public.entries select n, n from generate_series(1, 500) as n;
create view public.busy as select * from public.accounts where mood = 'Busy';
create table public.keyless (a int, b text);
alter table public.keyless replica identity full;
insert into public.keyless values (1, 'x'), (1, 'x'), (null, null);
grant select, insert, update, delete on public.accounts, public.entries, public.keyless to shop_app;
grant usage on all sequences in schema public to shop_app";

fn shop() -> Detour {
    Detour::new().table("orders").on_source(ACCOUNTS).with_backup().writing()
}

/// Every row of every table, in one text.
fn rows(server: &Postgres) -> String {
    server.value(
        "select string_agg(t.name || ' ' || (xpath('/row/h/text()', query_to_xml(format(
             'select count(*) || '' '' || coalesce(sum(hashtextextended(r::text, 0)), 0) as h from %s as r', t.name), false, true, '')))[1]::text,
             E'\\n' order by t.name)
         from (select oid::regclass::text as name from pg_class
               where relkind = 'r' and relnamespace = 'public'::regnamespace) as t",
    )
}

impl Detour {
    /// The backup has every row of the target, and nothing else, once it has heard of the last one.
    fn backup_equals_target(self) -> Detour {
        self.at_rest(|mut detour| {
            let wanted = rows(&detour.target);
            assert!(wanted.lines().count() >= 6, "{wanted}");
            let backup = detour.backup();
            let mut found = String::new();
            until("the backup equals the target", Duration::from_secs(30), || {
                found = rows(backup);
                (found == wanted).then_some(())
            });
            detour
        })
    }

    /// What the backup needs is made before clients are held, and begins after they go on.
    fn held_for_nothing_of_the_backup(self) -> Detour {
        let steps = self.answer_of("cutover").at("/report/steps").as_array().expect("steps");
        let place = |name: &str| {
            let found = steps.iter().position(|step| step["name"] == name);
            found.unwrap_or_else(|| panic!("no step {name}: {steps:?}"))
        };
        assert!(place("arm the backup") < place("hold clients"), "{steps:?}");
        assert!(place("let the backup follow") > place("resume clients"), "{steps:?}");
        self
    }

    fn stages(&mut self) -> serde_json::Value {
        let status = self.ask("status", &[]);
        assert_eq!(status.code(), Some(0), "{}", status.describe());
        status.at("/report/stages").clone()
    }
}

/// Objects of ours, by their names.
fn traces(server: &Postgres) -> i64 {
    server.value(
        "select (select count(*) from pg_replication_slots where slot_name like 'pgdetour%')
              + (select count(*) from pg_publication where pubname like 'pgdetour%')
              + (select count(*) from pg_subscription where subname like 'pgdetour%')
              + (select count(*) from pg_replication_origin)
              + (select count(*) from pg_namespace where nspname like 'pgdetour%')",
    )
}

#[test]
fn the_serving_side_always_has_a_copy_beside_it() {
    let mut detour = shop().mirrored().reports("/backup/tables", json!(7));
    let stages = detour.stages();
    let of =
        |key: &str| -> Vec<_> { stages.as_array().expect("stages").iter().map(|s| s[key].clone()).collect() };
    assert_eq!(of("from"), ["source", "backup"], "{stages}");
    assert_eq!(of("to"), ["backup", "target"], "{stages}");
    assert_eq!(of("running"), [true, true], "{stages}");
    let mut detour = detour
        .application_goes_on()
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true))
        .backup_equals_target()
        .run("cutover")
        .exits(0)
        .phase("detoured")
        .serving(Serving::Target)
        .held_for_nothing_of_the_backup()
        .application("insert into public.accounts (name) values ('during'); update public.keyless set b = 'z' where a = 1; delete from public.entries where number < 20")
        .application_goes_on()
        .backup_equals_target();
    let stages = detour.stages();
    assert_eq!(
        (&stages[0]["from"], &stages[0]["to"], &stages[0]["running"]),
        (&json!("target"), &json!("backup"), &json!(true)),
        "{stages}"
    );
    assert_eq!(stages.as_array().map(Vec::len), Some(1));
    // Sequences are where the target's were when it began to serve.
    let behind: i64 = detour.backup().value(
        "select count(*) from public.accounts, public.accounts_id_seq as s where id > s.last_value + 1",
    );
    assert_eq!(behind, 0);
    detour = detour.run("cutover").exits(0).changed(false).run("replay").exits(0);
    let mut detour = detour.run("cutback").exits(0).phase("returned").serving(Serving::Source);
    assert_eq!(detour.stages(), json!([]));
    let mut detour = detour.run("clean").with(&["--drop-data"]).exits(0).phase("absent");
    for server in [&detour.source, &detour.target] {
        assert_eq!(traces(server), 0);
    }
    assert_eq!(traces(detour.backup()), 0);
    let left: i64 =
        detour.backup().value("select count(*) from pg_class where relnamespace = 'public'::regnamespace");
    assert_eq!(left, 0);
    detour.application_goes_on().no_client_error().no_row_lost();
}

/// Kills `command` before its first step and after those of `steps`, or in the long extent after each.
fn killed(mut detour: Detour, command: &str, steps: &[&str]) -> Detour {
    let plan = detour.ask(command, &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let all: Vec<String> = plan
        .at("/report/steps")
        .as_array()
        .expect("a list of steps")
        .iter()
        .map(|step| step["name"].as_str().expect("a step has a name").to_owned())
        .collect();
    for step in steps {
        assert!(all.iter().any(|name| name == step), "{command} has no step {step:?}: {all:?}");
    }
    for step in all.iter().filter(|name| pick(steps.contains(&name.as_str()), true)) {
        detour = detour.run(command).fault(&format!("after:{step}")).dies();
        detour.status_tells_the_truth();
    }
    detour.run(command).exits(0)
}

#[test]
fn each_command_killed_at_a_step_that_concerns_the_backup_goes_on() {
    let detour = killed(
        shop(),
        "mirror",
        &["backup: copy tables", "backup: hand over to a subscription", "copy schema"],
    );
    let detour = detour
        .phase("mirrored")
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true))
        .backup_equals_target();
    let detour = killed(
        detour,
        "cutover",
        &["arm the backup", "stop the mirror", "decide", "drop the mirror flow", "let the backup follow"],
    );
    let detour =
        detour.phase("detoured").serving(Serving::Target).application_goes_on().backup_equals_target();
    let detour = detour.run("replay").exits(0);
    let detour = killed(detour, "cutback", &["drop capture", "drop the backup's flow"]);
    let detour = detour.phase("returned").serving(Serving::Source).application_goes_on();
    let mut detour = killed(
        detour,
        "clean",
        &["drop the backup's flow", "drop the record on the source", "drop the record on the backup"],
    );
    assert_eq!(traces(detour.backup()), 0);
    detour.phase("absent").no_client_error().no_row_lost();
}

#[test]
fn a_backup_that_is_down_stops_the_cutover_and_never_traffic() {
    let mut detour = shop().mirrored();
    detour.backup().stop(Shutdown::Fast);
    let mut detour = detour
        .run("cutover")
        .exits(5)
        .kind("unreachable")
        .message("could not connect to backup")
        .serving(Serving::Source)
        .run("status")
        .with(&["--check"])
        .exits(3);
    let attention = detour.last().at("/report/attention").to_string();
    assert!(attention.contains("nothing new reaches the target"), "{attention}");
    detour.backup().start();

    // Lost while clients are held: they go on where they were.
    let run = detour.start_until("cutover", &["--yes", "--max-pause", "3s"], "after:fence source");
    assert!(run.is_there());
    detour.backup().stop(Shutdown::Immediate);
    let answer = run.go_on();
    assert!(matches!(answer.code(), Some(5..=7)), "{}", answer.describe());
    detour.keep(answer);
    let mut detour = detour.phase("mirrored").serving(Serving::Source).application_goes_on();
    detour.backup().start();
    let detour = detour.run("mirror").exits(0).phase("mirrored");

    // Lost after the decision: the cutover ends, and is run again to let it follow.
    let mut detour = detour.run("cutover").fault("after:decide").dies();
    detour.backup().stop(Shutdown::Immediate);
    let mut detour = detour.run("cutover").exits(0).phase("detoured").serving(Serving::Target);
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(warnings.contains("the backup does not follow the target yet"), "{warnings}");
    detour = detour.application_goes_on().run("status").with(&["--check"]).exits(3);
    detour.backup().start();
    let mut detour = detour
        .run("cutover")
        .exits(0)
        .changed(true)
        .application_goes_on()
        .backup_equals_target()
        .run("status")
        .with(&["--check"])
        .exits(0);

    // Lost while the target serves: a warning, and it catches up by itself.
    detour.backup().stop(Shutdown::Fast);
    let mut detour = detour
        .run("status")
        .with(&["--check"])
        .exits(3)
        .kind("attention")
        .application_goes_on()
        .run("replay")
        .exits(0)
        .serving(Serving::Target);
    detour.backup().start();
    let mut detour = detour.backup_equals_target();
    detour.backup().stop(Shutdown::Fast);
    let detour = detour.run("cutback").exits(0).phase("returned").serving(Serving::Source);
    assert_eq!(detour.target.value::<i64>("select count(*) from pg_replication_slots"), 0);
    detour
        .run("clean")
        .exits(5)
        .message("could not connect to backup")
        .given_up_backup()
        .run("clean")
        .exits(0)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn the_backup_is_compared_with_the_side_that_it_follows() {
    const ALTERED: &str = "alter table public.keyless alter a type int using a * 2";
    let backup = &["--backup"];
    let mut detour = shop()
        .mirrored()
        .run("verify")
        .with(backup)
        .exits(0)
        .changed(false)
        .reports("/equal", true)
        .reports("/backup_in_place_of", "target");
    detour
        .backup()
        .exec("delete from public.entries where number = 9; insert into public.entries values (1, 1000)");
    let detour = detour
        .run("verify")
        .with(&["--backup", "--table", "public.entries"])
        .exits(8)
        .message("1 table differs");
    let found = detour.last().at("/error/detail").clone();
    assert_eq!(found, "public.entries: 1 row only on the backup, 1 row only on the source");
    let mut detour = detour
        .run("verify")
        .with(&["--backup", "--repair"])
        .exits(2)
        .run("mirror")
        .with(&["--table", "public.entries", "--again"])
        .exits(0)
        .run("verify")
        .with(backup)
        .exits(0)
        .on_source(ALTERED)
        .on_target(ALTERED);
    detour.backup().exec(ALTERED);
    // Each of the two copies is doubted until it was compared.
    let mut detour = detour
        .doubts("public.keyless", true)
        .run("verify")
        .with(backup)
        .exits(0)
        .doubts("public.keyless", true)
        .run("verify")
        .exits(0)
        .doubts("public.keyless", false)
        .run("cutover")
        .exits(0)
        .application_goes_on();
    // The source is down for the maintenance.
    detour.source.stop(Shutdown::Fast);
    detour.backup().exec("insert into public.entries values (2, 1000)");
    let mut detour = detour.run("verify").with(backup).exits(8).reports("/backup_in_place_of", "source");
    let found = detour.last().at("/error/detail").clone();
    assert_eq!(found, "public.entries: 1 row only on the backup");
    detour.backup().exec("delete from public.entries where number = 1000");
    let mut detour = detour.run("verify").with(backup).exits(0).reports("/equal", true);
    detour.backup().exec("alter subscription pgdetour_backup disable");
    let mut detour = detour.run("verify").with(backup).exits(3).kind("backup_not_followed");
    detour.backup().exec("alter subscription pgdetour_backup enable");
    detour.source.start();
    detour
        .run("cutback")
        .exits(0)
        .run("verify")
        .with(backup)
        .exits(3)
        .kind("backup_not_followed")
        .message("since cutback the backup follows nothing")
        .given_up_backup()
        .run("verify")
        .with(backup)
        .exits(3)
        .kind("no_backup")
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn tables_are_added_and_copied_again_through_both_stages() {
    let mut detour = Detour::new()
        .table("orders")
        .with_backup()
        .writing()
        .mirrored()
        .on_source("create table public.later (id int primary key); insert into public.later select generate_series(1, 300)");
    detour.backup().exec("set session_replication_role = replica; update public.orders set note = 'damaged'");
    let mut detour = detour
        .run("mirror")
        .with(&["--table", "public.orders", "--again"])
        .fault("after:backup: copy tables")
        .dies()
        .run("mirror")
        .exits(0)
        .phase("mirrored")
        .application_goes_on()
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true));
    for server in [
        detour.backup().value::<i64>("select count(*) from public.later"),
        detour.target.value("select count(*) from public.later"),
    ] {
        assert_eq!(server, 300);
    }
    let damaged: i64 = detour.backup().value("select count(*) from public.orders where note = 'damaged'");
    assert_eq!(damaged, 0);
    detour
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .run("cutover")
        .exits(3)
        .finding("pgdetour_mirror", "disabled", "Run pgdetour mirror")
        .run("mirror")
        .exits(0)
        .changed(true)
        .run("cutover")
        .exits(0)
        .run("clean")
        .with(&["--stay"])
        .exits(0)
        .phase("absent")
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn a_backup_that_cannot_be_one_is_refused_and_nothing_is_changed() {
    let mut detour = Detour::new().table("orders").with_backup();
    detour.backup().set("wal_level", "replica");
    detour.backup().exec("create table public.orders (id int)");
    let before = detour.fingerprint();
    let detour = detour
        .run("check")
        .exits(3)
        .finding("backup", "wal_level is \"replica\" on the backup", "ALTER SYSTEM")
        .finding("public.orders", "the backup is not empty", "empty database")
        .run("mirror")
        .exits(3)
        .configured("[mirror]\nmode = \"batch\"")
        .run("mirror")
        .exits(2)
        .message("contradicts target.backup_conninfo")
        .configured_anew("")
        .run("mirror")
        .with(&["--follow"])
        .exits(2)
        .unchanged_since(&before)
        .run("check")
        .with(&["--grants", "--role", "detour", "--side", "backup"])
        .exits(0)
        .reports("/grants/0/side", "backup");
    // Of two detours, each knows its own.
    let mut detour = detour;
    detour.backup().exec("drop table public.orders");
    detour.backup().set("wal_level", "logical");
    let mut detour = detour.mirrored().given_up_backup().run("cutover").exits(3).finding(
        "target.backup_conninfo",
        "by way of a backup",
        "Write it as it was",
    );
    let other = detour.source.conninfo("dba");
    detour.backup_is(&other);
    detour.run("mirror").exits(3).kind("same_database");
}

#[test]
fn a_role_of_its_own_on_the_backup_takes_the_trip_or_is_told_what_it_lacks() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source("alter table public.orders owner to shop_owner")
        .with_backup()
        .writing();
    // The file names the role that is to be made already; no option says as whom to reach the backup until then.
    let conninfo = detour.backup().conninfo("dba").replace("user=dba", "user=detour");
    detour.backup_is(&conninfo);
    let output = detour.as_text("check", &["--grants", "--role", "detour", "--side", "backup"]);
    let sql = String::from_utf8(output.stdout).expect("SQL is text");
    assert!(output.status.success(), "{sql}{}", String::from_utf8_lossy(&output.stderr));
    detour.backup().exec(&sql);
    detour.backup().exec(&format!("alter role detour password '{DBA_PASSWORD}'"));
    let has_subscriptions =
        detour.backup().value::<i32>("select current_setting('server_version_num')::int") >= 160_000;
    if !has_subscriptions {
        let detour = detour.run("check").exits(3).finding(
            "backup",
            "role \"detour\" may not create subscriptions on the backup",
            "take target.backup_conninfo out",
        );
        let failures = detour.last().at("/error/failures").as_array().map(Vec::len);
        assert_eq!(failures, Some(1), "{}", detour.last().describe());
        let mut detour = detour.run("mirror").exits(3).phase("absent");
        assert_eq!(traces(detour.backup()), 0);
        return;
    }
    let mut detour = detour
        .mirrored()
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true))
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on();
    let same = "select count(*) || ' ' || coalesce(sum(id), 0) from public.orders";
    detour = detour.at_rest(|mut detour| {
        let wanted: String = detour.target.value(same);
        let backup = detour.backup();
        until("the backup equals the target", Duration::from_secs(30), || {
            (backup.value::<String>(same) == wanted).then_some(())
        });
        detour
    });
    let mut detour = detour.run("replay").exits(0).run("cutback").exits(0).run("clean").exits(0);
    assert_eq!(traces(detour.backup()), 0);
    detour.no_client_error().no_row_lost();
}

/// Where there is no third server, the copy is safe from the application at least, and from what the maintenance does.
#[test]
fn the_backup_may_be_another_database_of_the_targets_server() {
    let mut detour = Detour::new().table("orders").on_source(ACCOUNTS);
    detour.target.exec("create database spare");
    let conninfo = detour.target.conninfo("dba").replace("dbname=shop", "dbname=spare");
    detour.backup_is(&conninfo);
    let backup = |query: &str| -> String {
        let client = postgres::Client::connect(&conninfo, postgres::NoTls);
        let mut client = client.expect("the backup can be reached");
        client.query_one(query, &[]).expect("the backup answers").get(0)
    };
    let same = "select (select count(*) || ' ' || coalesce(sum(id), 0) from public.orders) || ' '
                    || (select count(*) || ' ' || count(name) from public.accounts) || ' ' || (select count(*) from public.keyless)";
    let equals_target = |detour: Detour| {
        let wanted: String = detour.target.value(same);
        until("the backup equals the target", Duration::from_secs(30), || {
            (backup(same) == wanted).then_some(())
        });
        detour
    };
    let detour = detour
        .writing()
        .mirrored()
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true))
        .at_rest(equals_target)
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .held_for_nothing_of_the_backup()
        .application(
            "insert into public.accounts (name) values ('during'); delete from public.keyless where a = 1",
        )
        .application_goes_on()
        .at_rest(equals_target)
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .phase("returned")
        .serving(Serving::Source)
        .run("clean")
        .with(&["--drop-data"])
        .exits(0)
        .phase("absent");
    for server in [&detour.source, &detour.target] {
        assert_eq!(traces(server), 0);
    }
    let left = "select count(*)::text from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(backup(left), "0");
    detour.application_goes_on().no_client_error().no_row_lost();
}
