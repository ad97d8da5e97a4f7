//! Batches that go in as few round trips as can be.

use super::resume::{lock_applier, second_lock};
use super::test_pair::{Pair, drain, rule};
use crate::error::Error;
use crate::flow::{Flow, FlowName};
use crate::pg::Conventions;
use crate::phase::Side;
use crate::sql;

/// What the target's log tells of the one batch that it has got since it logs, in two messages.
fn batch_of_two_messages(pair: &Pair) -> String {
    let log = pair.server.log();
    let (_, batch) = log.split_once("statement: begin;").expect("a batch begins");
    // The end of the run is noted.
    let messages = batch.lines().filter(|line| {
        (line.contains("LOG:  statement:") || line.contains("LOG:  execute"))
            && !line.contains("what the publisher has noted as applied")
    });
    assert_eq!(messages.count(), 1, "one message more, which commits:\n{batch}");
    batch.to_owned()
}

#[test]
fn a_batch_takes_two_messages_whatever_is_in_it() {
    let tables = "create table a (id int primary key, v int); create table b (id int primary key, t text);
                  create table c (id int primary key, v int); create table d (at int, line text)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.source(
        "insert into a select g, g from generate_series(1, 500) g; insert into b select g, 't' from generate_series(1, 5) g;
         insert into c select g, g from generate_series(1, 300) g",
    );
    drain(&flow).unwrap();
    pair.target("alter database target set log_statement = 'all'");
    pair.source(
        "update a set v = v + 1; update b set t = E'tab\\tline\\n' where id < 3; delete from c where id > 20;
         insert into c values (1000, 1); insert into d select g, 'line' from generate_series(1, 300) g; delete from a where id = 7",
    );
    drain(&flow).unwrap();
    batch_of_two_messages(&pair);
    for table in ["a", "b", "c", "d"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

#[test]
fn a_batch_takes_two_messages_though_some_of_it_looks_up_what_another_part_writes() {
    let old = "create table a (id int primary key, v int); create table b (id int primary key, a int)";
    let new = "create table a (id int primary key, v int); create table b (id int primary key, v int)";
    let pair = Pair::new(old, new);
    let looked_up = [("v", "(select a.v from public.a where a.id = old.a)")];
    let mut flow = pair.flow(&[rule("public.b", "public.b", &[], &looked_up, &[])]);
    flow.backlog = Some(0);
    pair.source("insert into b select g, g from generate_series(1, 300) g");
    drain(&flow).unwrap();
    pair.target("alter database target set log_statement = 'all'");
    pair.source(
        "insert into a select g, g from generate_series(1, 200) g; update b set a = a;
         update a set v = -v where id > 100; update b set a = a where id > 150",
    );
    drain(&flow).unwrap();
    batch_of_two_messages(&pair);
    let of_then =
        "select b.id, case when b.id > 150 then a.v else abs(a.v) end as v from b left join a on a.id = b.a";
    assert_eq!(pair.rows(Side::Source, of_then), pair.rows(Side::Target, "select id, v from b"));
}

#[test]
fn a_batch_that_goes_at_once_reads_and_writes_values_as_the_subscriber_does() {
    let old = "create table t (id int primary key, at timestamp, written text, lasts interval, marked bytea)";
    let new =
        "create table t (id int primary key, at timestamptz, written date, lasts text, marked text, v int)";
    let pair = Pair::new(old, new);
    pair.target(
        "alter database target set timezone = 'America/New_York'; alter database target set datestyle = 'ISO, DMY';
         alter database target set intervalstyle = 'sql_standard'; alter database target set bytea_output = 'escape'",
    );
    let columns = [
        ("at", "at::timestamptz"),
        ("written", "written::date"),
        ("lasts", "lasts::text"),
        ("marked", "marked::text"),
        ("v", "id"),
    ];
    let conventions = Conventions::of_database(&mut pair.session(Side::Target)).unwrap();
    for backlog in [None, Some(0)] {
        pair.target("truncate t");
        let mut flow = pair.flow(&[rule("public.t", "public.t", &[], &columns, &[])]);
        flow.backlog = backlog;
        flow.publisher.conventions = conventions.clone();
        flow.subscriber.conventions = conventions.clone();
        pair.source("insert into t values (0)");
        drain(&flow).unwrap();
        if backlog.is_some() {
            pair.target("alter database target set log_statement = 'all'");
        }
        pair.source(
            "insert into t select g, '2024-06-01 12:00', '03/04/2024', '-1 day 02:00', 'a' from generate_series(1, 300) g;
             update t set lasts = '1 day' where id > 150; insert into t values (1000, '2024-01-01', '01/12/2024', '-1 day', 'b')",
        );
        drain(&flow).unwrap();
        if backlog.is_some() {
            batch_of_two_messages(&pair);
        }
        let found = "select at at time zone 'UTC', written, lasts, marked, count(*), max(id) from t where id > 0 group by 1, 2, 3, 4";
        let expected = [
            r#"("2024-01-01 05:00:00",2024-12-01,"-1 0:00:00",b,1,1000)"#,
            r#"("2024-06-01 16:00:00",2024-04-03,"+0-0 -1 +2:00:00",a,150,150)"#,
            r#"("2024-06-01 16:00:00",2024-04-03,"1 0:00:00",a,150,300)"#,
        ];
        assert_eq!(pair.rows(Side::Target, found), expected, "{backlog:?}");
        pair.source("truncate t; select pg_drop_replication_slot('pgdetour_mirror'); drop publication pgdetour_mirror");
    }
}

#[test]
fn values_are_read_as_they_were_sent_whatever_a_database_sets() {
    let tables = "create table t (id int primary key, words text[], page xml, price money, kind regclass, nested text[][])";
    let pair = Pair::new(tables, tables);
    pair.target(
        "alter database target set array_nulls = off; alter database target set xmloption = document",
    );
    pair.source("alter database source set quote_all_identifiers = on");
    for backlog in [None, Some(0)] {
        let mut flow = pair.flow(&[]);
        flow.backlog = backlog;
        pair.source(
            "insert into t values (1, array['a', null, 'NULL'], xmlparse(content 'one <b>two</b>'), '-1234.56', 'pg_class', array[[null], ['b']]);
             update t set words = array[null]::text[] || words; insert into t select g, '{x,NULL}' from generate_series(2, 300) g",
        );
        drain(&flow).unwrap();
        pair.assert_equal("select id, words, page::text, price, kind::oid, nested, words[1] is null as null_is_first from t");
        pair.source("truncate t");
        drain(&flow).unwrap();
        pair.source("select pg_drop_replication_slot('pgdetour_mirror'); drop publication pgdetour_mirror");
    }
}

#[test]
fn what_does_not_go_at_once_is_applied_in_its_order() {
    let tables =
        "create table u (id int primary key, v int unique); create table n (id int primary key, v int)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.source("insert into u select g, g from generate_series(1, 300) g; insert into n select g, g from generate_series(1, 300) g");
    drain(&flow).unwrap();
    // Values wander: no statement for all rows passes by the others' values.
    pair.source(
        "begin; update u set v = -v; update u set v = 301 + v; commit; update n set v = v + 1;
         begin; truncate n; insert into n values (1, 1); commit; update u set id = id + 1000 where id = 5",
    );
    drain(&flow).unwrap();
    for table in ["u", "n"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
    let sessions = "select count(*) from pg_stat_activity where application_name = 'pgdetour test'";
    assert_eq!(pair.rows(Side::Target, sessions), ["(0)"], "both sessions have ended");
}

#[test]
fn an_applier_waits_until_the_second_session_of_the_one_before_has_ended() {
    let pair = Pair::new("", "");
    let mut before = pair.client(Side::Target);
    before.batch_execute(&second_lock(FlowName::Replay)).unwrap();
    let mut session = pair.session(Side::Target);
    session.client().batch_execute("set lock_timeout = '50ms'").unwrap();
    let refused = lock_applier(&mut session, FlowName::Replay).unwrap_err();
    assert!(matches!(refused, Error::Busy { .. }), "{refused:?}");
    lock_applier(&mut session, FlowName::Mirror).unwrap();
    drop(before);
    session.client().batch_execute("set lock_timeout = '20s'").unwrap();
    lock_applier(&mut session, FlowName::Replay).unwrap();
    // The first session's own second may take it now.
    pair.client(Side::Target).batch_execute(&second_lock(FlowName::Replay)).unwrap();
}

/// A flow that looks at the target's foreign keys, as the way home does.
fn homeward(pair: &Pair) -> Flow {
    let mut flow = pair.flow(&[]);
    flow.name = FlowName::Replay;
    flow.backlog = Some(0);
    pair.target(sql::record::CREATE_SOURCE.text);
    pair.begins(&flow);
    flow
}

#[test]
fn a_batch_takes_two_messages_though_its_rows_must_not_meet() {
    let tables = "create table u (id int primary key, v int unique deferrable, note text);
                  create table k (name text unique deferrable initially deferred);";
    let pair = Pair::new(tables, tables);
    let flow = homeward(&pair);
    pair.source("insert into u select g, g from generate_series(1, 500) g; insert into k values ('a')");
    drain(&flow).unwrap();
    pair.target("alter database target set log_statement = 'all'");
    pair.source(
        "begin; update u set v = v + 1, note = 'x' where id > 100; insert into u values (1000, 101); commit; delete from u where id = 7;
         insert into u values (1001, 7); insert into k select g::text from generate_series(1, 300) g; update u set note = 'y' where id < 5",
    );
    drain(&flow).unwrap();
    let batch = batch_of_two_messages(&pair);
    assert!(
        batch.contains("\"public\".\"u\" as u where") && batch.contains("\"public\".\"k\" as u where"),
        "{batch}"
    );
    for table in ["u", "k"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

/// Tables that refer to each other by their keys, by another unique value, to themselves, and where maintenance made a value anew.
const REFERRING: &str = "
    create table town (id int primary key, code text not null unique, v int);
    create table house (id int primary key, town int references town, code text references town (code) on update cascade, v int);
    create table node (id int primary key, up int references node deferrable initially deferred, v int)";

const REFERRING_ROWS: &str = "
    insert into town select g, 'code ' || g, 0 from generate_series(1, 300) g;
    insert into house select g, 1 + g % 300, 'code ' || 1 + g % 300, 0 from generate_series(1, 900) g;
    insert into node select g, nullif(g / 2, 0), 0 from generate_series(1, 300) g";

const REFERRING_CHANGES: &str = "
    begin; insert into town select g, 'code ' || g, 0 from generate_series(301, 400) g;
    insert into house select g, 301 + g % 100, null, 1 from generate_series(1001, 1200) g;
    update house set town = 400, code = 'code 399', v = v + 1 where id < 300; delete from house where town < 100 or code < 'code 2';
    delete from town where id in (select id from town except (select town from house where town is not null
        union select t.id from house join town as t using (code))); commit;
    begin; set constraints all deferred; insert into node select g, g + 1, 0 from generate_series(401, 600) g;
    insert into node values (601, null, 0); update node set up = null where up < 50; delete from node where id < 25; commit;
    update town set v = v + 1, code = code || ' anew' where code not in (select code from house where code is not null)";

#[test]
fn tables_that_refer_to_each_other_take_two_messages_too_in_binary() {
    let pair = Pair::new(REFERRING, REFERRING);
    let flow = homeward(&pair);
    pair.source(REFERRING_ROWS);
    drain(&flow).unwrap();
    pair.target("alter database target set log_statement = 'all'");
    let mut writer = pair.client(Side::Source);
    writer.batch_execute(REFERRING_CHANGES).unwrap();
    drain(&flow).unwrap();
    let batch = batch_of_two_messages(&pair);
    assert!(batch.contains("(format binary)") && !batch.contains("rollback"), "{batch}");
    for table in ["town", "house", "node"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

#[test]
fn a_part_of_a_transaction_may_lack_what_its_rest_brings() {
    let pair = Pair::new(REFERRING, REFERRING);
    let mut flow = homeward(&pair);
    flow.batch_bytes = 10_000;
    pair.source(REFERRING_ROWS);
    drain(&flow).unwrap();
    let mut writer = pair.client(Side::Source);
    let changes = "begin; set constraints all deferred; insert into node select g, g + 1, 0 from generate_series(1001, 3000) g;
         insert into node values (3001, 3000, 0); delete from house; delete from town where id > 5;
         insert into town select g, 'code ' || g, 7 from generate_series(6, 900) g;
         insert into house select g, g, 'code ' || g, 0 from generate_series(1, 900) g; commit";
    writer.batch_execute(changes).unwrap();
    drain(&flow).unwrap();
    for table in ["town", "house", "node"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
    // The maintenance took the last one's parent away.
    pair.target("alter table node disable trigger all; delete from node where id = 100; alter table node enable trigger all");
    let late = "begin; insert into node select g, g + 1, 0 from generate_series(4001, 6000) g;
         insert into node values (6001, 100, 0); commit";
    writer.batch_execute(late).unwrap();
    let conflict = drain(&flow).unwrap_err();
    assert_eq!(conflict.kind(), "foreign_key", "{conflict:?}");
    assert_eq!(pair.rows(Side::Target, "select 1 from node where id > 4000"), Vec::<String>::new());
}

#[test]
fn a_row_without_its_parent_is_found_in_a_batch_that_goes_in_one() {
    // What maintenance did to the target, and what was written meanwhile.
    let cases = [
        (
            "delete from house where town = 5; delete from town where id = 5",
            "insert into house values (5000, 5, null, 0)",
        ),
        (
            "delete from house where town = 5; delete from town where id = 5",
            "update house set town = 5 where id = 40",
        ),
        (
            "delete from house where town = 5; update town set code = 'x' where id = 5",
            "insert into house values (5000, 6, 'code 5', 0)",
        ),
        (
            "insert into house values (5000, 5, null, 0)",
            "delete from house where town = 5; delete from town where id = 5",
        ),
        (
            "insert into house values (5000, 6, 'code 5', 0)",
            "delete from house where town = 5; update town set code = 'another' where id = 5",
        ),
        (
            "insert into house values (5000, 6, 'code 5', 0)",
            "delete from house where town = 5; delete from town where id = 5",
        ),
        (
            "insert into node values (5000, 200, 0)",
            "update node set up = null where up = 200; delete from node where id = 200",
        ),
        (
            "alter table town add unique (id, code);
             alter table house add foreign key (town, code) references town (id, code) match full not valid",
            "insert into house values (5000, 5, null, 0)",
        ),
    ];
    let tables = ["town", "house", "node"];
    find_rows_without_parents(REFERRING, REFERRING_ROWS, &tables, &cases);
}

#[test]
fn partitions_are_held_to_the_foreign_keys_of_their_tables() {
    let definitions = "create table town (id int primary key); create table owner (id int primary key);
        create table street (id int primary key, town int references town, owner int) partition by range (id);
        create table street_1 partition of street for values from (0) to (1000);
        create table street_2 partition of street for values from (1000) to (3000);
        alter table street_2 add foreign key (owner) references owner;
        create table corner (id int primary key, street int references street);
        create table garden (id int primary key, street int references street_2)";
    let rows =
        "insert into town select generate_series(1, 300); insert into owner select generate_series(1, 300);
        insert into street select g * 10, g, 1000 - g * 10 from generate_series(1, 99) g;
        insert into street select g * 10, g, g from generate_series(100, 199) g;
        insert into corner select g, g * 10 from generate_series(1, 100) g";
    let cases = [
        ("delete from town where id = 250", "insert into street values (1005, 250)"),
        ("delete from town where id = 250", "update street set id = 2007, town = 250 where id = 1500"),
        ("delete from street where id = 1500", "insert into corner values (1500, 1500)"),
        ("insert into corner values (1500, 1500)", "delete from street where id = 1500"),
        ("insert into street values (2000, 250)", "delete from town where id = 250"),
        ("delete from owner where id = 250", "insert into street values (5, 7, 250), (1005, 7, 250)"),
        ("delete from owner where id = 250", "update street set owner = 250 where id in (500, 1500)"),
        ("insert into street values (2000, 7, 250)", "delete from owner where id = 250"),
        ("insert into garden values (1, 1500)", "delete from street where id in (1500, 1600)"),
    ];
    let tables = ["town", "street", "corner", "owner", "garden"];
    find_rows_without_parents(definitions, rows, &tables, &cases);
    // Only one partition is held to it.
    let pair = Pair::new(definitions, definitions);
    let flow = homeward(&pair);
    pair.source(rows);
    pair.source("insert into street values (5, 7, 9999); update street set owner = 9999 where id < 1000; update street set owner = 7 where id > 1000");
    drain(&flow).unwrap();
    for table in tables {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

#[test]
fn rows_without_a_key_are_held_to_foreign_keys() {
    let definitions = "create table town (id int primary key, code text unique);
        create table visit (town int references town, code text references town (code), v int);
        alter table visit replica identity full;
        create table lodge (code text unique); alter table lodge replica identity full;
        create table stay (id int primary key, lodge text references lodge (code))";
    let rows = "insert into town select g, 'code ' || g from generate_series(1, 300) g;
        insert into visit select g, 'code ' || g, g from generate_series(1, 200) g;
        insert into lodge select 'lodge ' || g from generate_series(1, 300) g; insert into stay select g, 'lodge ' || g from generate_series(1, 100) g";
    let cases = [
        ("delete from town where id = 250", "insert into visit values (250, null, 0)"),
        (
            "delete from town where id = 250",
            "insert into visit select 250, null, g from generate_series(1, 300) g",
        ),
        ("delete from town where id = 250", "update visit set code = 'code 250' where town = 7"),
        ("insert into visit values (250, null, 0)", "delete from town where id = 250"),
        ("insert into stay values (250, 'lodge 250')", "delete from lodge where code = 'lodge 250'"),
        (
            "insert into stay values (250, 'lodge 250')",
            "update lodge set code = 'inn' where code = 'lodge 250'",
        ),
        ("delete from lodge where code = 'lodge 250'", "insert into stay values (250, 'lodge 250')"),
    ];
    let tables = ["town", "visit", "lodge", "stay"];
    find_rows_without_parents(definitions, rows, &tables, &cases);
    // A row that is gone again needs no parent.
    let pair = Pair::new(definitions, definitions);
    let flow = homeward(&pair);
    pair.source(rows);
    drain(&flow).unwrap();
    pair.source(
        "begin; insert into visit values (250, null, 0); update visit set v = 1 where town = 250; delete from visit where town = 250;
         delete from town where id = 250; insert into visit values (251, 'code 252', 0); commit;
         begin; insert into lodge values ('new'); insert into stay values (101, 'new'); commit;
         begin; delete from stay where id = 101; update lodge set code = 'newer' where code = 'new'; commit",
    );
    drain(&flow).unwrap();
    for table in tables {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

/// What maintenance did to the target leaves no place for what was written meanwhile: each is found, and nothing of it applied.
fn find_rows_without_parents(definitions: &str, rows: &str, tables: &[&str], cases: &[(&str, &str)]) {
    let each: Vec<String> =
        tables.iter().map(|table| format!("select '{table}', t::text from {table} as t")).collect();
    let everything = each.join(" union all ");
    let pair = Pair::new(definitions, definitions);
    for (maintenance, changes) in cases {
        for side in [Side::Source, Side::Target] {
            pair.client(side).batch_execute(&format!("truncate {}; {rows}", tables.join(", "))).unwrap();
        }
        let flow = homeward(&pair);
        pair.target(maintenance);
        let before = pair.rows(Side::Target, &everything);
        pair.client(Side::Source).batch_execute(&format!("begin; {changes}; commit")).unwrap();
        let conflict = drain(&flow).unwrap_err();
        assert_eq!(conflict.kind(), "foreign_key", "{maintenance}; then {changes}: {conflict:?}");
        assert_eq!(pair.rows(Side::Target, &everything), before, "nothing of it is there");
        pair.source("select pg_drop_replication_slot('pgdetour_mirror'); drop publication pgdetour_mirror");
    }
}

#[test]
fn as_long_as_nothing_is_set_aside_a_flow_that_may_goes_in_one_too() {
    let pair = Pair::new(REFERRING, REFERRING);
    let mut flow = homeward(&pair);
    flow.quarantine = true;
    pair.source(REFERRING_ROWS);
    pair.target("alter database target set log_statement = 'all'");
    assert_eq!(drain(&flow).unwrap().conflicts, 0);
    let log = pair.server.log();
    assert!(log.contains("(format binary)") && !log.contains("rollback"), "{log}");
    // One of a batch does not fit, nor does what comes behind it; the others arrive.
    pair.target("delete from house where town = 5; delete from town where id = 5");
    pair.source("insert into house values (5000, 5, null, 0); insert into house values (5001, 6, null, 0); update house set v = 7 where id >= 5000");
    let applied = drain(&flow).unwrap();
    assert_eq!(applied.conflicts, 1, "{applied:?}");
    assert_eq!(pair.rows(Side::Target, "select id, v from house where id >= 5000"), ["(5001,7)"]);
    assert_eq!(pair.rows(Side::Target, "select key->>'id' from pgdetour.quarantine"), ["(5000)", "(5000)"]);
    pair.source("update house set v = 8 where id >= 5000; update town set v = 8 where id between 11 and 20");
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select id, v from house where id >= 5000"), ["(5001,8)"]);
    assert_eq!(pair.rows(Side::Target, "select count(*) from pgdetour.quarantine"), ["(3)"]);
    assert_eq!(pair.rows(Side::Target, "select count(*) from town where v = 8"), ["(10)"]);
}
