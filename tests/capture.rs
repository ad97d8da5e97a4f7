//! Changes recorded on the serving side, by its WAL and by triggers: hard histories, and servers that come and go.

use std::time::Duration;

use serde_json::Value;

use crate::support::detour::{Detour, Serving};
use crate::support::extent;
use crate::support::postgres::{DBA_PASSWORD, Postgres, Shutdown};
use crate::support::template;
use crate::support::wait::until;

const BY_TRIGGERS: &str = "[capture]\nmethod = \"trigger\"";

/// A server that cannot decode its WAL has the changes of the whole trip recorded by triggers.
#[test]
fn triggers_bring_every_change_home_from_a_server_without_logical_wal() {
    let mut detour = Detour::new().table("orders").configured(BY_TRIGGERS);
    detour.target.set("wal_level", "replica");
    let detour = detour
        .writing()
        .run("check")
        .exits(0)
        .mirrored()
        .run("capture")
        .exits(0)
        .reports("/method", "trigger")
        .run("cutover")
        .exits(0)
        .phase("detoured")
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("capture")
        .exits(0)
        .run("replay")
        .exits(0)
        .reports("/caught_up", true)
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .application_goes_on()
        .run("cutback")
        .exits(0)
        .phase("returned")
        .reports("/late_writes", 0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error();
    let left = "select count(*) from pg_trigger where tgname like '!pgdetour%'";
    assert_eq!(detour.target.value::<i64>(left), 0, "no trigger is left");
    detour.run("clean").exits(0).no_row_lost();
}

/// No server decodes its WAL: the mirror is caught up by its own runs, and drained by cutover.
#[test]
fn triggers_carry_the_mirror_from_a_server_without_logical_wal() {
    let mut detour =
        Detour::new().table("orders").configured("[mirror]\nmethod = \"trigger\"").configured(BY_TRIGGERS);
    for server in [&mut detour.source, &mut detour.target] {
        server.set("wal_level", "replica");
    }
    detour
        .writing()
        .run("check")
        .exits(0)
        .mirrored()
        .application_goes_on()
        .at_rest(|detour| detour.run("mirror").exits(0).run("verify").exits(0).reports("/equal", true))
        .application_goes_on()
        .run("cutover")
        .exits(0)
        .phase("detoured")
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error()
        .run("clean")
        .exits(0)
        .no_row_lost();
}

/// One table for each way to tell rows apart, and for each kind of column that is special.
const TABLES: &str = "
create table public.plain (id int primary key, v text, n numeric, f float8, t timestamptz, i interval, b bytea, a text[]);
create table public.wide (id int primary key, doc text, note text);
alter table public.wide alter column doc set storage external;
create table public.whole (a int, j jsonb, note text);
alter table public.whole replica identity full;
create table public.by_index (id int primary key, code text not null, v int);
create unique index by_index_code on public.by_index (code);
alter table public.by_index replica identity using index by_index_code;
create table public.filled (id int generated always as identity primary key, v int, twice int generated always as (v * 2) stored);
create table public.parted (id int, k int, v text, primary key (id, k)) partition by list (k);
create table public.parted_1 partition of public.parted for values in (1);
create table public.parted_2 (v text, k int not null, id int not null, primary key (id, k));
alter table public.parted attach partition public.parted_2 for values in (2);
create table public.parent (id int primary key, v text);
create table public.child (id int primary key, parent int references public.parent on update cascade on delete cascade);
create table public.bulk (id int primary key, v int);
insert into public.plain select n, 'old ' || n from generate_series(1, 100) as n;
insert into public.wide select n, repeat(md5(n::text), 200), 'n' from generate_series(1, 20) as n;
insert into public.by_index select n, 'code ' || n, n from generate_series(1, 20) as n;
insert into public.parent select n, 'p' from generate_series(1, 20) as n;
insert into public.child select n, n from generate_series(1, 20) as n;";

const COPIED: [&str; 9] =
    ["plain", "wide", "whole", "by_index", "filled", "parted", "parent", "child", "bulk"];

/// Statements that are hard to record; those between two empty lines are one transaction.
const HISTORY: &str = "
update public.plain set n = 'NaN', f = '-0', t = 'infinity', i = '1 year -3 days', b = '\\x00ff', a = '{{\"a,b\",NULL},{\"\",\"\\\"\"}}' where id < 10;

update public.plain set v = E'tab\\t \\\\ \"quoted\", (row)\\n' where id = 11; update public.plain set v = '' where id = 12; update public.plain set v = null where id = 13;

savepoint a; delete from public.plain; rollback to a; insert into public.plain values (1001, 'kept');
savepoint b; insert into public.plain values (1002, 'kept too'); release b; savepoint c; truncate public.plain; rollback to c;

update public.plain set id = -id where id in (20, 21); update public.plain set id = 41 + id where id in (-20, -21);

delete from public.plain where id = 30; insert into public.plain values (30, 'again'); update public.plain set id = 3000 where id = 30;

update public.wide set note = 'changed'; update public.wide set id = id + 100 where id < 5;

update public.wide set doc = repeat('x', 5000) where id = 10; update public.wide set note = 'twice' where id = 10;

insert into public.whole select n % 3, jsonb_build_object('n', n % 2), 'x' from generate_series(1, 30) as n;

delete from public.whole where ctid in (select min(ctid) from public.whole group by a); update public.whole set a = null where a = 1;

update public.by_index set code = 'new ' || code where id < 5; update public.by_index set v = v + 1; delete from public.by_index where id = 20;

insert into public.filled (v) select n from generate_series(1, 10) as n; update public.filled set v = v + 1; update public.filled set id = default where v = 5;

insert into public.parted select n, 1 + n % 2, 'x' from generate_series(1, 40) as n; update public.parted set k = 3 - k where id < 10; update public.parted_2 set v = 'leaf';

insert into public.parted_1 values (1001, 1, 'into the leaf'); delete from public.parted_2 where id = 20;

update public.parent set id = id + 1000 where id < 5; delete from public.parent where id = 10;

merge into public.plain as p using (values (50, 'merged'), (5000, 'merged in'), (51, null)) as m (id, v) on p.id = m.id
when matched and m.v is null then delete when matched then update set v = m.v when not matched then insert (id, v) values (m.id, m.v);

insert into public.plain (id, v) values (52, 'upserted'), (5001, 'upserted') on conflict (id) do update set v = excluded.v;

select pgdetour.scratch(); delete from public.parent;

truncate public.parted_2; insert into public.parted values (2001, 2, 'after');

truncate public.filled, public.whole restart identity; insert into public.filled (v) values (7);

truncate public.parent cascade; insert into public.parent values (1, 'after'); insert into public.child values (1, 1);

truncate public.parted; insert into public.parted values (3001, 1, 'the last');

insert into public.parent values (2, 'gone'); truncate public.child, public.parent; insert into public.parent values (3, 'the last')
";

/// The history, some of it larger than memory should be, on the server that serves.
fn write_history(target: &Postgres) {
    let mut client = target.client("dba");
    for transaction in HISTORY.split("\n\n") {
        let done = client.batch_execute(&format!("begin; {transaction}; commit"));
        done.unwrap_or_else(|error| panic!("{error:?}\n{transaction}"));
    }
    let subtransactions = extent::pick(2_000, 100_000);
    client
        .batch_execute(&format!(
            "do $$ begin for i in 1..{subtransactions} loop begin insert into public.bulk values (-i, i);
             if i % 3 = 0 then raise exception 'back'; end if; exception when raise_exception then null; end; end loop; end $$"
        ))
        .expect("a transaction of many subtransactions");
    client
        .batch_execute("begin; insert into public.plain values (7001, 'prepared'); prepare transaction 'two'")
        .expect("it is prepared");
    client.batch_execute("insert into public.plain values (7002, 'meanwhile')").expect("a row");
    client.batch_execute("commit prepared 'two'").expect("it is committed");
    client
        .batch_execute("begin; update public.plain set v = 'never'; prepare transaction 'none'")
        .expect("it is prepared");
    client.batch_execute("rollback prepared 'none'").expect("it is rolled back");
    let rows = extent::pick(50_000, 5_000_000);
    client
        .batch_execute(&format!("insert into public.bulk select n, n from generate_series(1, {rows}) as n; update public.bulk set v = v + 1"))
        .expect("large transactions");
    let mut copy = client.copy_in("copy public.bulk from stdin").expect("rows can be sent");
    std::io::Write::write_all(&mut copy, b"-200001\t1\n-200002\t2\n").expect("rows can be sent");
    copy.finish().expect("rows were sent");
}

/// The same rows on both sides, asked of the servers themselves.
fn assert_same_rows(detour: &Detour) {
    for table in COPIED {
        let query = format!(
            "select count(*) || ' ' || coalesce(md5(string_agg(r.t, ',' order by r.t collate \"C\")), '')
             from (select x::text as t from public.{table} as x) as r"
        );
        let query = match table {
            // Its partitions have their columns in another order; rows are compared as the root has them.
            "parted" => query.replace("x::text", "row(x.id, x.k, x.v)::text"),
            _ => query,
        };
        let (source, target) = (detour.source.value::<String>(&query), detour.target.value::<String>(&query));
        assert_eq!(source, target, "table {table}");
    }
}

/// Waits until a run of replay has something open on the source.
fn replay_has_begun(detour: &Detour) {
    let query = "select count(*) from pg_stat_activity where application_name = 'pgdetour replay' and xact_start is not null";
    until("replay applies something", Duration::from_secs(60), || {
        (detour.source.value::<i64>(query) > 0).then_some(())
    });
}

/// The history comes home while everything breaks: our process, both servers, connections.
fn bring_home_a_hard_history(method: &str) {
    let mut detour =
        Detour::new().on_source(TABLES).configured(&format!("[capture]\nmethod = \"{method}\"")).detoured();
    write_history(&detour.target);
    let running = detour.start("replay", &["--yes"]);
    replay_has_begun(&detour);
    // Which is kill -9.
    drop(running);
    detour.target.restart(Shutdown::Immediate);
    let running = detour.start("replay", &["--yes"]);
    replay_has_begun(&detour);
    detour.source.restart(Shutdown::Immediate);
    // It goes on by itself, or says that it was stopped and goes on when it is run again.
    let answer = running.end();
    assert!(matches!(answer.code(), Some(0 | 5 | 7)), "{}", answer.describe());
    let running = detour.start("replay", &["--yes"]);
    let end =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgdetour replay'";
    let _ = detour.target.client("dba").query(end, &[]);
    let answer = running.end();
    assert!(matches!(answer.code(), Some(0 | 5 | 7)), "{}", answer.describe());
    detour.target.restart(Shutdown::Fast);
    let detour = detour.run("replay").exits(0).reports("/caught_up", true).reports("/conflicts", 0);
    assert_same_rows(&detour);
    assert_eq!(
        detour.source.value::<i64>("select count(*) from public.parent"),
        1,
        "what was scratch is not there"
    );
    detour.run("cutback").exits(0).phase("returned");
}

#[test]
fn a_hard_history_comes_home_from_wal_whatever_breaks() {
    bring_home_a_hard_history("wal");
}

#[test]
fn a_hard_history_comes_home_from_triggers_whatever_breaks() {
    bring_home_a_hard_history("trigger");
}

/// Lines of an export.
fn exported(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("the file is there");
    assert!(!text.contains(DBA_PASSWORD), "no secret is in {file}");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn recorded_changes_are_exported_and_stay_recorded() {
    for method in ["wal", "trigger"] {
        let mut detour = Detour::new()
            .on_source(TABLES)
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .run("capture")
            .with(&["--export", "-"])
            .exits(2)
            .run("capture")
            .with(&["--export", "none.ndjson"])
            .exits(3)
            .kind("wrong_phase")
            .mirrored()
            .run("capture")
            .with(&["--export", "none.ndjson"])
            .exits(3)
            .kind("not_armed")
            .detoured()
            .on_target(
                "update public.plain set v = 'x' where id = 1; insert into public.by_index values (99, 'c', 1);
                 truncate public.whole, public.filled; delete from public.plain where id = 2",
            );
        let file = detour.configuration().with_file_name("changes.ndjson");
        let file = file.to_str().expect("temporary paths are UTF-8").to_owned();
        detour = detour.run("capture").exits(0);
        let told =
            ["method", "slot", "start_lsn"].map(|key| detour.last().at(&format!("/report/{key}")).clone());
        assert_ne!(told[2], Value::Null, "{}", detour.last().describe());
        detour = detour.run("capture").with(&["--export", &file]).exits(0).reports("/exported/changes", 4);
        for (key, value) in ["/method", "/slot", "/start_lsn"].into_iter().zip(told) {
            detour = detour.reports(key, value);
        }
        let lines = exported(&file);
        let of = |operation: &str| {
            lines
                .iter()
                .find(|line| line["operation"] == operation)
                .unwrap_or_else(|| panic!("{operation} in {lines:?}"))
        };
        assert_eq!(of("insert")["new"]["code"], "c");
        assert_eq!(of("update")["new"]["v"], "x");
        assert_eq!(of("delete")["old"]["id"], "2");
        let mut tables: Vec<&str> =
            of("truncate")["tables"].as_array().expect("tables").iter().filter_map(Value::as_str).collect();
        tables.sort_unstable();
        assert_eq!(tables, ["public.filled", "public.whole"]);
        assert_eq!(of("commit")["scratch"], false);
        let detour = detour
            .run("capture")
            .with(&["--export", &file])
            .exits(3)
            .kind("file_exists")
            .run("capture")
            .with(&["--export", &file, "--force"])
            .exits(0)
            .reports("/exported/changes", 4)
            .run("capture")
            .with(&["--export", "-"])
            .exits(2)
            .run("replay")
            .exits(0)
            .reports("/changes", 4);
        assert_same_rows(&detour);
        // What is applied waits no more, removed or not; and an export that fails leaves what was there.
        let detour = detour
            .run("capture")
            .with(&["--export", &file, "--force"])
            .exits(0)
            .reports("/exported/changes", 0);
        std::fs::write(&file, "mine").expect("ours");
        let folder = std::path::Path::new(&file).parent().expect("it is in one");
        let before = std::fs::read_dir(folder).expect("it is there").count();
        let _running =
            lose_changes(detour, method).run("capture").with(&["--export", &file, "--force"]).exits(8);
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "mine");
        assert_eq!(
            std::fs::read_dir(folder).expect("it is there").count(),
            before,
            "nothing is left beside it"
        );
    }
}

#[test]
fn an_altered_schema_stops_replay_with_its_name_and_loses_nothing() {
    for method in ["wal", "trigger"] {
        let detour = Detour::new()
            .on_source("create type public.mood as enum ('good'); create table public.m (id int primary key, m public.mood)")
            .on_source(TABLES)
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .detoured()
            .on_target("insert into public.plain (id, v) values (501, 'before')")
            .on_target("alter table public.plain add column more int")
            .on_target("insert into public.plain (id, v, more) values (502, 'after', 1)")
            .run("replay")
            .ends();
        assert!(matches!(detour.last().code(), Some(3 | 8)), "{}", detour.last().describe());
        assert!(detour.last().describe().contains("more"), "{}", detour.last().describe());
        let detour = detour.run("status").with(&["--check"]).exits(3);
        let told = detour.last().at("/report/attention").to_string();
        assert!(told.contains("column \\\"more\\\""), "{told}");
        let detour = detour
            .configured("[[map]]\nfrom = \"public.plain\"\nto = \"public.plain\"\ndrop = [\"more\"]")
            .run("replay")
            .exits(0);
        assert_eq!(detour.source.value::<i64>("select count(*) from public.plain where id in (501, 502)"), 2);
        // An enum value that the source does not know.
        let detour = detour
            .on_target("alter type public.mood add value 'bad'")
            .on_target("insert into public.m values (1, 'bad'); insert into public.m values (2, 'good')")
            .run("replay")
            .exits(8)
            .on_source("alter type public.mood add value 'bad'")
            .run("replay")
            .exits(0);
        assert_eq!(detour.source.value::<i64>("select count(*) from public.m"), 2);
        // A table that is gone on the source comes back.
        let detour = detour
            .on_target("insert into public.bulk values (1, 1)")
            .on_source("alter table public.bulk rename to was_bulk")
            .run("replay")
            .ends();
        assert!(matches!(detour.last().code(), Some(3 | 8)), "{}", detour.last().describe());
        assert!(detour.last().describe().contains("bulk"), "{}", detour.last().describe());
        let detour = detour.on_source("alter table public.was_bulk rename to bulk").run("replay").exits(0);
        assert_eq!(detour.source.value::<i64>("select count(*) from public.bulk"), 1);
        // Columns of the source that come and go beside a run that follows.
        let running = detour.start("replay", &["--follow", "--yes"]);
        detour.target.exec("insert into public.parent values (101, 'followed')");
        until("the change has arrived", Duration::from_secs(60), || {
            let arrived = "select count(*) from public.parent where id = 101";
            (detour.source.value::<i64>(arrived) == 1).then_some(())
        });
        detour.source.exec("alter table public.parent rename v to w");
        detour.target.exec("insert into public.parent values (102, 'meanwhile')");
        let detour = detour.ended(running, 8);
        assert!(detour.last().describe().contains("parent"), "{}", detour.last().describe());
        let detour = detour
            .configured("[[map]]\nfrom = \"public.parent\"\nto = \"public.parent\"\ncolumns = { w = \"v\" }")
            .run("replay")
            .exits(0);
        assert_eq!(
            detour.source.value::<i64>("select count(*) from public.parent where id in (101, 102)"),
            2
        );
        // A table that is gone on the target: what was recorded of it has its place, though two others are mapped.
        let detour = detour
            .on_target("insert into public.by_index values (501, 'the last', 1)")
            .on_target("drop table public.by_index")
            .run("replay")
            .exits(3)
            .finding("public.by_index", "was dropped on the target", "mirror.exclude")
            .configured("[mirror]\nexclude = [\"public.by_index\"]")
            .run("replay")
            .exits(0)
            .reports("/caught_up", true);
        assert_eq!(detour.source.value::<i64>("select count(*) from public.by_index where id = 501"), 1);
    }
}

/// Makes what is recorded incomplete: the slot is dropped, or triggers are, and what is written then goes unrecorded.
fn lose_changes(detour: Detour, method: &str) -> Detour {
    let lose = if method == "wal" {
        "select pg_drop_replication_slot('pgdetour_capture')"
    } else {
        "drop trigger if exists \"!pgdetour_capture_update\" on public.plain; drop trigger if exists \"!pgdetour_capture_insert\" on public.plain;
         drop trigger if exists \"!pgdetour_capture_delete\" on public.plain; drop trigger if exists \"!pgdetour_capture_update\" on public.wide"
    };
    detour
        .on_target(lose)
        .on_target("update public.plain set v = 'unrecorded' where id <= 20; delete from public.plain where id = 21")
        .on_target("insert into public.plain (id, v) select max(id) + 1, 'unrecorded' from public.plain; update public.wide set note = 'unrecorded' where id = 1")
}

#[test]
fn a_recording_that_was_lost_is_begun_anew_and_everything_comes_home() {
    for method in ["wal", "trigger"] {
        let mut detour = Detour::new()
            .on_source(TABLES)
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .writing()
            .mirrored()
            .run("capture")
            .with(&["--anew"])
            .exits(3)
            .kind("not_detoured")
            .detoured()
            .application_goes_on()
            .on_target("update public.plain set v = 'recorded' where id = 50");
        detour = lose_changes(detour, method).run("replay").ends();
        assert!(matches!(detour.last().code(), Some(3 | 8)), "{}", detour.last().describe());
        assert!(detour.last().describe().contains("capture --anew"), "{}", detour.last().describe());
        // Killed at each of its steps, with the application at work: what is between is refused, and the next run ends it.
        let steps = [
            "before:hold replay",
            "after:hold replay",
            "after:begin to record anew",
            "after:make the source equal to the target",
            "after:let replay go on",
        ];
        for (at, step) in steps.into_iter().enumerate() {
            if extent::pick(at != usize::from(method == "wal") + 1, false) {
                continue;
            }
            detour = detour.run("capture").with(&["--anew"]).fault(step).dies().application_goes_on();
            // A key change and back, of a row whose large value the stream leaves out.
            detour.target.exec("update public.wide set id = id + 1000 where id = 2");
            detour.target.exec("update public.wide set id = 2 where id = 1002");
            if step != "after:let replay go on" {
                detour = detour.run("cutback").ends();
                assert!(matches!(detour.last().code(), Some(3 | 8)), "{}", detour.last().describe());
            }
        }
        detour = lose_changes(detour, method).run("capture").with(&["--anew"]).exits(0).changed(true);
        assert!(
            detour.last().at("/report/repaired/rows").as_i64() >= Some(1),
            "{}",
            detour.last().describe()
        );
        detour = detour
            .on_target("update public.plain set v = 'recorded again' where id in (20, 501, 601)")
            .on_target(
                "update public.wide set id = id + 100 where id = 1; delete from public.by_index where id = 1",
            )
            .run("replay")
            .exits(0)
            .application_goes_on()
            .run("cutback")
            .exits(0)
            .phase("returned")
            .application_goes_on();
        assert_same_rows(&detour);
        detour.no_client_error().no_row_lost();
    }
}

/// What a restore or a loader of fixtures does so that other triggers do not fire.
#[test]
fn what_is_loaded_without_other_triggers_comes_home_from_triggers_or_is_refused() {
    let detour = Detour::new()
        .on_source(TABLES)
        .configured(BY_TRIGGERS)
        .detoured()
        .on_target("set session_replication_role = replica; insert into public.child values (901, 901); insert into public.parent values (901); truncate public.bulk");
    let load = "begin; alter table public.plain disable trigger all; insert into public.plain values (901); \
                alter table public.plain enable trigger all; commit";
    let error = detour.target.client("dba").batch_execute(load).expect_err("it would go unrecorded");
    let error = error.as_db_error().expect("the server says so");
    assert!(error.message().contains("table public.plain cannot be disabled"), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("session_replication_role")), "{error:?}");
    let detour = detour
        .on_target("alter table public.plain enable trigger all; insert into public.plain (id) values (902)")
        .run("status")
        .with(&["--check"])
        .ends();
    assert_ne!(detour.last().code(), Some(2), "nothing is broken: {}", detour.last().describe());
    let detour = detour.run("capture").exits(0).run("replay").exits(0).reports("/conflicts", 0);
    assert_same_rows(&detour);
    detour.run("cutback").exits(0).phase("returned");
}

/// A partition that comes with its rows, or goes with them, is no row change.
#[test]
fn partitions_that_come_and_go_with_their_rows_are_told_until_recording_begins_anew() {
    let detour = Detour::new()
        .on_source(TABLES)
        .on_source("insert into public.parted values (50, 1, 'a'), (51, 2, 'b')")
        .detoured()
        .on_source("create table public.parted_rest partition of public.parted default")
        // These take nothing along.
        .on_target("create table public.parted_3 partition of public.parted for values in (3) partition by list (id)")
        .on_target("create table public.parted_3a partition of public.parted_3 default")
        .on_target("create table public.parted_4 (like public.parted); alter table public.parted attach partition public.parted_4 for values in (4)")
        .on_target("insert into public.parted values (53, 3, 'c')")
        .run("status")
        .with(&["--check"])
        .exits(0);
    let mut detour = detour
        .on_target("create table public.parted_6 (like public.parted); insert into public.parted_6 values (56, 6, 'e');
                    alter table public.parted attach partition public.parted_6 for values in (6)")
        .on_target("drop table public.parted_2");
    for command in ["status", "replay"] {
        detour = detour.run(command).exits(0);
        let said =
            detour.last().at(if command == "status" { "/report/attention" } else { "/warnings" }).to_string();
        for part in [
            "1 partition attached on the target since recording began (public.parted_6)",
            "1 partition detached or dropped on the target since recording began (public.parted_2)",
            "capture --anew",
        ] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
    }
    detour = detour.run("verify").exits(8).run("capture").with(&["--anew"]).exits(0);
    let rows: String = detour.source.value("select string_agg(id::text, ' ' order by id) from public.parted");
    assert_eq!(rows, "50 53 56", "as on the target");
    detour.run("status").with(&["--check"]).exits(0).run("cutback").exits(0).phase("returned");
}

/// What is written to a table that was made since is in no slot and passes no trigger.
#[test]
fn tables_that_come_and_go_on_the_target_stop_replay_until_recording_begins_anew() {
    for method in ["wal", "trigger"] {
        let mut detour = Detour::new()
            .on_source(TABLES)
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .detoured()
            .on_target("create table public.fresh (id int primary key); insert into public.fresh values (1)")
            .on_target("create table public.heir (primary key (id)) inherits (public.plain); insert into public.heir values (901, 'h')")
            .on_target("drop table public.by_index; create table public.by_index (id int primary key, code text not null, v int);
                        insert into public.by_index values (901, 'new', 1)")
            .on_target("drop table public.bulk");
        if method == "wal" {
            detour = detour
                .on_target("alter publication pgdetour_capture drop table public.wide; delete from public.wide where id = 3");
        }
        // They are named as long as the source has no such tables, and when it has.
        detour = detour.run("replay").exits(3).on_source(
            "create table public.fresh (id int primary key); create table public.heir (primary key (id)) inherits (public.plain)",
        );
        for command in ["replay", "cutback", "capture"] {
            detour = detour
                .run(command)
                .exits(3)
                .finding("public.fresh", "was made on the target", "capture --anew")
                .finding("public.heir", "was made on the target", "capture --anew")
                .finding("public.by_index", "another one made in its place", "capture --anew");
            if command != "capture" {
                detour =
                    detour.finding("public.bulk", "was dropped on the target", "Drop it on the source, too");
            }
            if method == "wal" {
                detour = detour.finding("public.wide", "taken out of what is recorded", "capture --anew");
            }
        }
        detour
            .run("status")
            .with(&["--check"])
            .exits(8)
            .on_source("drop table public.bulk")
            .run("capture")
            .with(&["--anew"])
            .exits(0)
            .run("status")
            .with(&["--check"])
            .exits(0)
            .on_target("insert into public.fresh values (2); update public.by_index set v = 2; delete from public.wide where id = 4")
            .run("replay")
            .exits(0)
            .run("verify")
            .exits(0)
            .run("cutback")
            .exits(0)
            .phase("returned");
    }
}

/// The source is down, is dumped into another cluster at another place, and goes back in time.
#[test]
fn capture_goes_on_while_the_source_is_maintained() {
    let mut detour = Detour::new().on_source(TABLES).writing().detoured().run("replay").exits(0);
    let dump = |server: &Postgres, file: &str| {
        let run = std::process::Command::new(server.client_program("pg_dump"))
            .args(["--format=custom", "--file", file, "--dbname", &server.conninfo("dba")])
            .output()
            .expect("pg_dump runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    let folder = detour.configuration().parent().expect("it is in a folder").to_owned();
    let path = |name: &str| folder.join(name).to_str().expect("temporary paths are UTF-8").to_owned();
    dump(&detour.source, &path("old.dump"));
    detour = detour.application_goes_on().run("replay").exits(0);
    detour.source.stop(Shutdown::Fast);
    detour =
        detour.application_goes_on().run("capture").exits(0).run("status").exits(0).run("replay").exits(5);
    detour.source.start();
    detour = detour.run("replay").exits(0);
    dump(&detour.source, &path("new.dump"));
    let restored = |name: &str, file: &str| {
        let server = Postgres::start_new(&folder, name, &template::of_source());
        let run = std::process::Command::new(server.client_program("pg_restore"))
            .args(["--dbname", &server.conninfo("dba"), file])
            .output()
            .expect("pg_restore runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        server
    };
    let old = restored("old", &path("old.dump"));
    detour = detour.source_is(&old.conninfo("dba")).run("replay").exits(8).kind("progress_behind");
    assert!(detour.last().describe().contains("capture --anew"), "{}", detour.last().describe());
    let new = restored("new", &path("new.dump"));
    detour = detour.source_is(&new.conninfo("dba")).application_goes_on().run("replay").exits(0);
    detour =
        detour.at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true));
    new.exec("update pgdetour.progress set detour = gen_random_uuid()");
    detour = detour.run("replay").exits(8).kind("progress_missing");
    assert!(
        detour.last().text_at("/error/detail").contains("another detour"),
        "{}",
        detour.last().describe()
    );
    new.exec("delete from pgdetour.progress");
    detour = detour.run("replay").exits(8).kind("progress_missing");
    detour.no_client_error().no_row_lost();
}

/// No trigger fires for what makes the source equal, and so no foreign key either.
#[test]
fn rows_made_equal_that_the_constraints_of_the_source_refuse_are_conflicts() {
    const LOSE: &str = "select pg_drop_replication_slot('pgdetour_capture')";
    let is_told = |detour: Detour, details: &[&str]| {
        for detail in details {
            assert!(detour.last().text_at("/error/detail").contains(detail), "{}", detour.last().describe());
        }
        detour
    };
    let mut detour = Detour::new()
        .on_source(
            "create table public.par (id int primary key, v text);
             create table public.chi (id int primary key, country text);
             create table public.t (id int primary key, v text);
             insert into public.par values (1, 'a'), (2, 'b'); insert into public.chi values (1, 'de'), (2, 'fr');
             insert into public.t values (1, 'x'), (2, 'y'), (3, 'z');
             grant all on public.par, public.chi, public.t to shop_app",
        )
        .detoured()
        .on_source(
            "create table public.country (code text primary key); insert into public.country values ('de'), ('fr');
             alter table public.chi add foreign key (country) references public.country;
             create table public.srconly (n int primary key, pid int references public.par);
             insert into public.srconly values (1, 2);
             alter table public.t add constraint nobad check (v <> 'bad'),
                 add constraint one unique (v) deferrable initially deferred",
        )
        // A row that is copied back lacks its parent, and does so when it is equal already.
        .on_source("delete from public.chi where id = 1; delete from public.country where code = 'de'");
    for _ in 0..2 {
        detour = detour.run("verify").with(&["--repair"]).exits(8).kind("foreign_key");
        detour = is_told(detour, &["SQLSTATE 23503, constraint \"chi_country_fkey\" of \"public.chi\""]);
    }
    detour = detour
        .on_source("insert into public.country values ('de')")
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .on_target(LOSE)
        .on_target("insert into public.chi values (3, 'xx'); delete from public.par where id = 2");
    for _ in 0..2 {
        detour = detour.run("capture").with(&["--anew"]).exits(8).kind("foreign_key");
        detour = is_told(
            detour,
            &["\"chi_country_fkey\" of \"public.chi\"", "\"srconly_pid_fkey\" of \"public.srconly\""],
        );
    }
    detour = detour
        .run("replay")
        .exits(8)
        .kind("progress_missing")
        .on_source("insert into public.country values ('xx'); delete from public.srconly")
        .run("capture")
        .with(&["--anew"])
        .exits(0)
        .on_target(LOSE)
        .on_target("update public.t set v = 'bad' where id = 1; update public.t set v = 'y' where id = 3")
        .run("capture")
        .with(&["--anew"])
        .exits(8)
        .kind("check");
    detour = is_told(detour, &["Table \"public.t\", key (id)=(1), SQLSTATE 23514, constraint \"nobad\""]);
    detour = detour
        .on_target("update public.t set v = 'good' where id = 1")
        .run("capture")
        .with(&["--anew"])
        .exits(8)
        .kind("unique");
    detour = is_told(detour, &["SQLSTATE 23505, constraint \"one\" of \"public.t\""]);
    detour
        .on_target("update public.t set v = 'z' where id = 3")
        .run("capture")
        .with(&["--anew"])
        .exits(0)
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .run("cutback")
        .exits(0);
}

/// A dump of the tables alone, restored: what pgdetour kept in the source is gone, and some rows are those of another time.
#[test]
fn a_source_that_was_restored_without_our_schema_is_taken_on_when_somebody_says_so() {
    let mut detour = Detour::new().table("orders").writing().detoured().application_goes_on();
    detour.source.exec("drop schema pgdetour cascade; delete from public.orders where id % 3 = 0");
    detour.source.exec("update public.orders set note = 'older' where id % 3 = 1");
    detour.source.exec("grant connect on database shop to public");
    for command in ["replay", "cutback"] {
        detour = detour.run(command).exits(3).kind("stamp_missing").changed(false);
        assert!(
            detour.last().text_at("/error/hint").contains("--adopt-source"),
            "{}",
            detour.last().describe()
        );
    }
    let detour = detour
        .run("capture")
        .with(&["--anew"])
        .exits(3)
        .kind("stamp_missing")
        .run("capture")
        .with(&["--anew", "--adopt-source"])
        .unconfirmed()
        .exits(2)
        .run("capture")
        .with(&["--anew", "--adopt-source"])
        .fault("after:adopt the source")
        .dies()
        .run("replay")
        .exits(8)
        .kind("progress_missing")
        .run("capture")
        .with(&["--anew", "--adopt-source"])
        .exits(0)
        .changed(true)
        .application_goes_on()
        .run("status")
        .with(&["--check"])
        .exits(0)
        .run("replay")
        .exits(0);
    let detour =
        detour.at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true));
    let detour = detour.run("cutback").exits(0).serving(Serving::Source).application_goes_on();
    detour.no_client_error().no_row_lost().run("clean").exits(0).phase("absent");
}

#[test]
fn a_publication_that_somebody_has_altered_is_a_recording_with_gaps() {
    let detour = Detour::new()
        .table("orders")
        .detoured()
        .run("check")
        .exits(0)
        .on_target("alter publication pgdetour_capture set (publish = 'insert, delete, truncate')")
        .on_target("update public.orders set note = 'missed'")
        .run("status")
        .with(&["--check"])
        .exits(8)
        .run("replay")
        .exits(3)
        .finding("pgdetour_capture", "not complete", "capture --anew")
        .run("cutback")
        .exits(3)
        .finding("pgdetour_capture", "not complete", "capture --anew")
        .run("capture")
        .exits(8)
        .kind("capture_altered")
        .run("capture")
        .with(&["--anew"])
        .exits(0)
        .run("check")
        .exits(0)
        .on_target("update public.orders set note = 'seen' where id = 1")
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
    // What was taken out for a while is known, too.
    let detour = detour
        .on_target("alter publication pgdetour_capture drop table only public.orders")
        .on_target("alter publication pgdetour_capture add table only public.orders")
        .run("replay")
        .exits(3)
        .finding("pgdetour_capture", "not complete", "capture --anew")
        .run("capture")
        .with(&["--anew"])
        .exits(0)
        .run("check")
        .exits(0);
    // So are settings that were others for a while, though they are as they were.
    detour
        .on_target("alter publication pgdetour_capture set (publish = 'insert')")
        .on_target("delete from public.orders where id = 1")
        .on_target("alter publication pgdetour_capture set (publish = 'insert, update, delete, truncate')")
        .run("status")
        .with(&["--check"])
        .exits(8)
        .run("replay")
        .exits(3)
        .finding("pgdetour_capture", "for a while", "capture --anew")
        .run("capture")
        .with(&["--anew"])
        .exits(0)
        .on_target("create role keeper superuser; alter publication pgdetour_capture owner to keeper")
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
}
