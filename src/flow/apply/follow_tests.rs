//! Flows between two databases of a real server, checked by SQL of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::error::SqlState;

use super::test_pair::{BUDGET, Pair, drain, rule};
use crate::error::Error;
use crate::flow::source::slot;
use crate::flow::test_stop::StopAtEnd;
use crate::flow::{Applied, Flow, Origins, Snapshot, Until, apply_until, marker};
use crate::pg::record;
use crate::phase::Side;

pub(in crate::flow) const TABLES: &str = "
    create type public.mood as enum ('good', 'bad');
    create table public.acc (id int primary key, v text, n numeric, m public.mood, t timestamptz default now());
    create table public.big (id int primary key, doc text, note text);
    alter table public.big alter column doc set storage external;
    create table public.log (at timestamptz, line text);
    create table public.bag (a int, j json, d float8);
    alter table public.bag replica identity full;
    create table public.bigfull (id int primary key, doc text, note text);
    alter table public.bigfull alter column doc set storage external;
    alter table public.bigfull replica identity full;
    create table public.ident (id int generated always as identity primary key, g int generated always as (v * 2) stored, v int);
    create table public.part (id int, k text, v text, primary key (id, k)) partition by list (k);
    create table public.part_a partition of public.part for values in ('a');
    create table public.part_b partition of public.part for values in ('b');
    create table public.uniq (id int primary key, u int unique);
    create table public.\"Od d\"\"name\" (\"Key 1\" int primary key, \"select\" text, \"a'b\\c\" bytea);
    create table public.nothing ();";

const ALL: &[&str] = &[
    "public.acc",
    "public.big",
    "public.log",
    "public.bag",
    "public.bigfull",
    "public.ident",
    "public.part_a",
    "public.part_b",
    "public.uniq",
    "public.\"Od d\"\"name\"",
    "public.nothing",
];

/// Changes of every kind come from `source` to the target of `pair`, which has [`TABLES`] on both sides.
pub(in crate::flow) fn change_in_every_way(pair: &Pair, flow: &mut Flow) -> Applied {
    pair.source(
        "insert into acc select g, 'v' || g, g / 7.0, 'good' from generate_series(1, 100) g;
         insert into big select g, repeat(md5(g::text), 200), 'n' from generate_series(1, 10) g;
         insert into bigfull select g, repeat(md5(g::text), 200), 'n' from generate_series(1, 10) g;
         insert into log select now(), 'line ' || g from generate_series(1, 10) g;
         insert into log select * from log;
         insert into bag select g % 3, json_build_object('b', 1, 'a', g % 2), 'nan' from generate_series(1, 10) g;
         insert into ident (v) select g from generate_series(1, 5) g;
         insert into part select g, case when g % 2 = 0 then 'a' else 'b' end, 'x' from generate_series(1, 10) g;
         insert into uniq select g, g from generate_series(1, 10) g;
         insert into \"Od d\"\"name\" values (1, E'tab\\t nl\\n \\\\ {\"}', '\\x00ff'), (2, '', null), (3, 'NULL', '');
         insert into nothing default values;
         insert into nothing default values;",
    );
    drain(flow).unwrap();
    for table in ALL {
        pair.assert_equal(&format!("select * from {table}"));
    }
    flow.batch_bytes = 2000;
    pair.source(
        "update acc set id = id + 1000 where id <= 10;
         update acc set n = 'NaN', m = 'bad', t = '-infinity' where id between 20 and 30;
         delete from acc where id between 40 and 50;
         update big set note = 'changed';
         update big set note = 'twice', id = id + 100 where id < 3;
         update big set doc = repeat('x', 5000) where id = 5;
         update bigfull set note = 'changed';
         update bigfull set id = id + 100;
         delete from bag where ctid in (select min(ctid) from bag group by a);
         update bag set d = 2 where a = 1;
         update bag set a = null where ctid in (select min(ctid) from bag);
         update ident set v = v + 1;
         update ident set id = default where v = 3;
         update part set k = case k when 'a' then 'b' else 'a' end where id < 6;
         update part set v = 'y' where k = 'a';
         begin; update uniq set u = -u where id in (1, 2); update uniq set u = 3 - id where id in (1, 2); commit;
         update uniq set u = null where id = 9; update uniq set u = 9 where id = 10;
         update \"Od d\"\"name\" set \"select\" = 'z' where \"Key 1\" = 1;
         begin; insert into acc values (5000, 'gone'); savepoint s; delete from acc; insert into acc values (5001, 'never');
         rollback to s; update acc set id = 5002 where id = 5000; commit;
         begin; truncate log, part_b; insert into log values (now(), 'after'); commit;
         insert into acc select g, repeat('long', 20) from generate_series(10000, 11000) g;",
    );
    let applied = drain(flow).unwrap();
    for table in ALL {
        pair.assert_equal(&format!("select * from {table}"));
    }
    applied
}

#[test]
fn every_kind_of_change_arrives() {
    let pair = Pair::new(TABLES, TABLES);
    let mut flow = pair.flow(&[]);
    let applied = change_in_every_way(&pair, &mut flow);
    assert!(applied.reached && applied.replica_role, "{applied:?}");
    let found = slot::find_slot(&mut pair.session(Side::Source), "pgdetour_mirror").unwrap().unwrap();
    assert!(found.confirmed_flush >= Some(applied.applied_lsn) && found.active_pid.is_none(), "{found:?}");
    let again = apply_until(
        &flow,
        &Until::Marker(
            pair.rows(Side::Target, "select id::text from pgdetour.arrived")
                .remove(0)
                .replace(['(', ')'], ""),
        ),
        &AtomicBool::new(false),
        Some(BUDGET),
        &mut |_| (),
    );
    assert_eq!(again.unwrap().changes, 0, "a marker that is there already ends at once");
}

#[test]
fn a_chain_of_key_changes_keeps_each_row_apart() {
    let pair = Pair::new(CHAINED, CHAINED);
    let flow = pair.flow(&[]);
    change_keys_in_chains(&pair, &flow);
}

pub(in crate::flow) const CHAINED: &str = "create table t (id int primary key, v text);
                  create table d (id int primary key deferrable initially deferred, v text);
                  alter table d replica identity full";

pub(in crate::flow) fn change_keys_in_chains(pair: &Pair, flow: &Flow) {
    pair.source(
        "insert into t select g, g::text from generate_series(1, 5) g; insert into d select * from t",
    );
    drain(flow).unwrap();
    pair.source(
        "begin; update t set id = 100 where id = 1; update t set id = 1 where id = 2; update t set id = 2 where id = 100; commit;
         begin; delete from t where id = 3; insert into t values (3, 'new'); update t set id = 33 where id = 3;
         insert into t values (3, 'newer'); commit;
         begin; update d set id = 3 - id where id in (1, 2); commit;
         begin; insert into d values (5, 'second'); delete from d where v = '5'; commit",
    );
    drain(flow).unwrap();
    pair.assert_equal("select * from t");
    pair.assert_equal("select * from d");
}

/// Random changes from several sessions, some of them rolled back, until told to stop.
fn write_until(pair: &Pair, stop: &AtomicBool, seed: i32) {
    let mut client = pair.client(Side::Source);
    client.execute("select setseed($1::float8 / 100)", &[&f64::from(seed)]).unwrap();
    let script = "
        do $$ declare i int := (random() * 200)::int; begin
            case (random() * 9)::int
            when 0 then insert into acc values (i, 'new') on conflict (id) do update set v = 'again';
            when 1 then delete from acc where id = i;
            when 2 then update acc set id = (random() * 1000)::int where id = i;
            when 3 then insert into big values (i, repeat(md5(i::text), 300), 'n') on conflict (id) do update set note = random()::text;
            when 4 then update big set note = random()::text where id < i;
            when 5 then update big set doc = repeat(random()::text, 200) where id = i;
            when 6 then insert into part values (i, 'a', 'x') on conflict do nothing; update part set k = 'b' where id = i and k = 'a' and not exists (select from part p where p.id = i and p.k = 'b');
            when 7 then
                begin delete from acc where id > 100; insert into acc values (-1, 'x'); raise exception 'back';
                exception when raise_exception then null; end;
            when 8 then if random() < 0.05 then truncate log; else insert into log values (now(), i::text); end if;
            else update uniq set u = u + 1000 where id = i; insert into uniq values (i, i) on conflict do nothing; delete from uniq where id = i - 1;
            end case;
        end $$";
    while !stop.load(Ordering::Relaxed) {
        // A unique violation or a deadlock of the writers is their own affair.
        let _ = client.batch_execute(script);
        // Not as fast as they can: what they write while a busy machine breaks and begins anew has to be applied in the end.
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_flow_that_is_broken_again_and_again_is_exact() {
    let pair = Pair::new(TABLES, TABLES);
    let mut flow = pair.flow(&[]);
    break_again_and_again(&pair, &mut flow, "walsender");
}

/// Writers go on while connections of the flow are ended and it is begun anew.
pub(in crate::flow) fn break_again_and_again(pair: &Pair, flow: &mut Flow, reader: &'static str) {
    flow.batch_bytes = 50_000;
    let stop_writers = AtomicBool::new(false);
    let mut breaks = 0;
    std::thread::scope(|scope| {
        let _writers = StopAtEnd(&stop_writers);
        for seed in 1..=3 {
            let (pair, stop) = (&pair, &stop_writers);
            scope.spawn(move || write_until(pair, stop, seed));
        }
        while breaks < 12 {
            let (stop, flow) = (AtomicBool::new(false), &*flow);
            std::thread::scope(|scope| {
                let _flowing = StopAtEnd(&stop);
                let run =
                    scope.spawn(|| apply_until(flow, &Until::Stopped, &stop, Some(BUDGET), &mut |_| ()));
                std::thread::sleep(Duration::from_millis(200 + breaks * 37 % 300));
                breaks += 1;
                if breaks % 3 == 0 {
                    stop.store(true, Ordering::Relaxed);
                    run.join().unwrap().unwrap();
                    return;
                }
                // Either the session that reads or the one that applies.
                let what = if breaks % 3 == 1 { reader } else { "client backend" };
                let mut client = pair.server.client();
                let end = "select pg_terminate_backend(pid) from pg_stat_activity
                            where application_name = 'pgdetour test' and backend_type = $1";
                // On a busy machine it may not be there yet.
                while client.execute(end, &[&what]).unwrap() == 0 && !run.is_finished() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // It goes on by itself.
                stop.store(breaks % 2 == 0, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
                match run.join().unwrap() {
                    Ok(_) => {}
                    Err(error) => assert!(error.is_connection_lost(), "{error:?}"),
                }
            });
        }
    });
    let applied = drain(flow).unwrap();
    for table in ALL {
        pair.assert_equal(&format!("select * from {table}"));
    }
    assert!(applied.reached);
    let noted = pair.rows(Side::Target, "select changes > 1000 as many from pgdetour.progress");
    assert_eq!(noted, ["(t)"]);
}

#[test]
fn a_conflict_stops_the_flow_and_keeps_what_was_before() {
    let tables = "create table t (id int primary key, v int unique); create table other (id int primary key)";
    let pair = Pair::new(tables, &format!("{tables}; alter table t add constraint small check (v < 1000)"));
    let flow = pair.flow(&[]);
    pair.source("insert into t select g, g from generate_series(1, 10) g");
    drain(&flow).unwrap();
    let stops = |spoil: &str, change: &str, mend: &str, kind: &str, says: &str| {
        pair.target(spoil);
        pair.source("insert into other select coalesce(max(id), 0) + 1 from other");
        pair.source(change);
        pair.source("insert into other select max(id) + 1 from other");
        let before = pair.rows(Side::Source, "select max(id) - 1 as last from other");
        for _ in 0..2 {
            let error = drain(&flow).unwrap_err();
            let Error::Conflict { detail, .. } = &error else { panic!("{error:?}") };
            let detail = detail.clone().unwrap_or_default();
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(detail.contains(says), "{detail}");
            assert_eq!(
                pair.rows(Side::Target, "select max(id) as last from other"),
                before,
                "transactions before are kept, later ones are not"
            );
        }
        pair.target(mend);
        drain(&flow).unwrap();
        pair.assert_equal("select * from other");
        pair.assert_equal("select * from t");
    };
    stops(
        "delete from t where id = 3",
        "update t set v = 33 where id = 3",
        "insert into t values (3, 3)",
        "update_missing",
        "key (id)=(3)",
    );
    stops(
        "delete from t where id = 4",
        "delete from t where id = 4",
        "insert into t values (4, 4)",
        "delete_missing",
        "key (id)=(4)",
    );
    stops(
        "insert into t values (50, 500)",
        "insert into t values (50, 50)",
        "delete from t where id = 50",
        "insert_exists",
        "constraint \"t_pkey\"",
    );
    stops(
        "insert into t values (999, 60)",
        "begin; insert into t values (60, 60); insert into t values (61, 61); commit",
        "delete from t where id = 999",
        "unique",
        "constraint \"t_v_key\"",
    );
    stops(
        "select 1",
        "update t set v = 2000 where id = 1",
        "alter table t drop constraint small",
        "check",
        "constraint \"small\"",
    );
}

#[test]
fn what_a_copy_shows_is_not_applied_again() {
    let tables = "create table a (id int primary key, v int); create table b (id int primary key, v int)";
    let pair = Pair::new(tables, tables);
    pair.source("insert into a select g, 0 from generate_series(1, 500) g; insert into b select * from a");
    let mut flow = pair.flow(&[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _writers = StopAtEnd(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = pair.client(Side::Source);
                while !stop.load(Ordering::Relaxed) {
                    let _ = client.batch_execute(
                        "begin; update a set v = v + 1 where id = (random() * 500)::int; insert into a select max(id) + 1 from a;
                         update b set v = v + 1 where id = (random() * 500)::int; delete from b where id = (random() * 500)::int; commit",
                    );
                }
            });
        }
        let mut session = pair.session(Side::Source);
        slot::wait_for_horizon(&mut session, BUDGET).unwrap();
        for table in ["a", "b"] {
            std::thread::sleep(Duration::from_millis(300));
            let mut source = pair.client(Side::Source);
            let mut snapshot = source
                .build_transaction()
                .isolation_level(postgres::IsolationLevel::RepeatableRead)
                .start()
                .unwrap();
            let text: String = snapshot.query_one("select pg_current_snapshot()::text", &[]).unwrap().get(0);
            let mut target = pair.client(Side::Target);
            for row in snapshot.query(&format!("select id, v from {table}"), &[]).unwrap() {
                let (id, v): (i32, Option<i32>) = (row.get(0), row.get(1));
                target.execute(&format!("insert into {table} values ($1, $2)"), &[&id, &v]).unwrap();
            }
            flow.snapshots.insert(("public".to_owned(), table.to_owned()), Snapshot::parse(&text).unwrap());
        }
        std::thread::sleep(Duration::from_millis(300));
    });
    drain(&flow).unwrap();
    pair.assert_equal("select * from a");
    pair.assert_equal("select * from b");
}

#[test]
fn what_is_written_long_after_a_copy_is_applied() {
    let pair = Pair::new("create table t (id int primary key)", "create table t (id int primary key)");
    pair.server.enter_next_epoch();
    let mut flow = pair.flow(&[]);
    let now = slot::read_next_xid(&mut pair.session(Side::Source)).unwrap();
    for (id, age) in [(1, 1000), (2, (1 << 31) - 1000), (3, (1 << 31) + 1000), (4, 3 << 30)] {
        let copied_at = now - age;
        let snapshot = Snapshot::parse(&format!("{copied_at}:{copied_at}:")).unwrap();
        flow.snapshots.insert(("public".to_owned(), "t".to_owned()), snapshot);
        pair.source(&format!("insert into t values ({id})"));
        drain(&flow).unwrap();
        let there = pair.rows(Side::Target, "select max(id) from t");
        assert_eq!(there, [format!("({id})")], "{age} transactions after the copy");
    }
}

#[test]
fn without_the_replica_role_changes_keep_their_order() {
    let tables = "create table parent (id int primary key, v int);
        create table child (id int primary key, parent int references parent on delete cascade);
        create table node (id int primary key, up int references node);
        create table part (id int, k int, parent int references parent, primary key (id, k)) partition by list (k);
        create table part_1 partition of part for values in (1); create table part_2 partition of part for values in (2)";
    let grants =
        "grant all on all tables in schema public to writer; grant usage on schema pgdetour to writer;
        grant all on all tables in schema pgdetour to writer";
    let mut pair = Pair::new(tables, &format!("{tables}; alter table part add beside text; {grants}"));
    pair.subscriber_role = "writer";
    let flow = pair.flow(&[]);
    pair.source(
        "insert into parent select g, 0 from generate_series(1, 20) g; insert into child select g, g % 20 + 1 from generate_series(1, 60) g;
         insert into node values (1, null), (2, 1), (3, 2);
         delete from parent where id < 5;
         begin; insert into parent values (100, 1); insert into child values (100, 100); update parent set v = 5; delete from child where id = 100;
         delete from parent where id = 100; commit;
         delete from node where id = 3; delete from node where id = 2;
         begin; delete from parent where id = 10; insert into parent values (10, 10); insert into child values (1000, 10); commit",
    );
    let applied = drain(&flow).unwrap();
    assert!(!applied.replica_role);
    for table in ["parent", "child", "node"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
    // A row that goes to another partition is one row, unless what it refers to goes with it.
    pair.source(
        "insert into parent select g, 0 from generate_series(201, 209) g; insert into part select g, 1, 200 + g from generate_series(1, 9) g",
    );
    drain(&flow).unwrap();
    pair.target("update part set beside = 'kept'");
    pair.source(
        "update part set k = 2, parent = 205 where id in (2, 3, 4);
         begin; delete from part where id = 6; insert into parent values (300, 0); insert into part values (6, 2, 300); delete from parent where id = 206; commit;
         begin; delete from part where id = 1; delete from parent where id = 201; insert into part values (1, 2, 202); insert into node values (9, null);
         update node set id = 10 where id = 9; commit",
    );
    drain(&flow).unwrap();
    pair.assert_equal("select * from parent");
    pair.assert_equal("select id, k, parent from part");
    assert_eq!(pair.rows(Side::Target, "select id from part where beside is null"), ["(1)"]);
}

#[test]
fn a_marker_follows_what_was_committed_before_it() {
    let tables = "create table t (id int primary key, v int)";
    let pair = Pair::new(tables, tables);
    let flow = pair.flow(&[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flowing = StopAtEnd(&stop);
        let run = scope.spawn(|| apply_until(&flow, &Until::Stopped, &stop, Some(BUDGET), &mut |_| ()));
        let (mut source, mut target) = (pair.session(Side::Source), pair.session(Side::Target));
        for id in 0..20_i32 {
            source.change("insert into public.t values ($1, 1)", &[&id]).unwrap();
            let marker = record::new_id(&mut source).unwrap();
            marker::write_marker(&mut source, flow.name, &marker).unwrap();
            marker::wait_for_marker(&mut target, &marker, BUDGET).unwrap();
            assert_eq!(pair.rows(Side::Target, "select count(*) from t"), [format!("({})", id + 1)]);
        }
        drop(flowing);
        let applied = run.join().unwrap().unwrap();
        assert_eq!((applied.changes, applied.reached), (20, false));
    });
    pair.assert_equal("select * from t");
}

#[test]
fn temporary_transactions_and_those_of_an_origin_are_left_out() {
    let tables = "create table t (id int primary key)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.left_out = Origins::Named("mirrors".to_owned());
    flow.batch_bytes = 1000;
    pair.source(
        "insert into t values (1);
         begin; insert into t select g from generate_series(100, 400) g; select pg_logical_emit_message(true, 'pgdetour.scratch', ''); insert into t values (2); commit;
         begin; select pg_logical_emit_message(true, 'other', 'x'); insert into t values (3); commit;
         select pg_logical_emit_message(false, 'pgdetour.scratch', '');
         select pg_replication_origin_create('mirrors'); select pg_replication_origin_create('elsewhere');
         select pg_replication_origin_session_setup('mirrors');
         begin; select pg_replication_origin_xact_setup('0/1', now()); insert into t values (4); commit;
         select pg_replication_origin_session_reset(); select pg_replication_origin_session_setup('elsewhere');
         begin; select pg_replication_origin_xact_setup('0/1', now()); insert into t values (5); commit;
         insert into t values (6);
         select pg_replication_origin_session_reset();
         insert into t values (7)",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select * from t"), ["(1)", "(3)", "(5)", "(6)", "(7)"]);
    assert_eq!(applied.skipped, 2);
}

#[test]
fn a_temporary_transaction_takes_nothing_back_of_a_large_one_before_it() {
    let tables = "create table t (id int primary key)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.batch_bytes = 1000;
    pair.source(
        "insert into t select g from generate_series(1, 302) g;
         begin; select pg_logical_emit_message(true, 'pgdetour.scratch', ''); insert into t values (1000); commit;
         insert into t values (303)",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!((applied.changes, applied.skipped), (303, 1));
    assert_eq!(pair.rows(Side::Target, "select count(*), max(id) from t"), ["(303,303)"]);
}

#[test]
fn of_a_transaction_that_an_error_stops_nothing_is_committed_with_those_before_it() {
    let small =
        "create table x (id int primary key); create table y (id int primary key); insert into y values (1);";
    let old = "create table docs (id int primary key, title text, body text); alter table docs alter body set storage external;
               insert into docs values (1, 't', repeat('b', 50000))";
    let new = "create table docs (id int primary key, whole text); insert into docs values (1, 't')";
    let pair = Pair::new(&format!("{small} insert into x values (9); {old}"), &format!("{small} {new}"));
    let flow = pair.flow(&[rule("public.docs", "public.docs", &[], &[("whole", "title || body")], &[])]);
    // The last does not fit, so that they are tried in halves; the one before it needs a value that cannot be asked for.
    pair.source(
        "insert into x values (1);
         insert into x values (2);
         begin; delete from y; update docs set title = 'T'; commit;
         delete from x where id = 9;
         alter table docs rename to away",
    );
    let error = drain(&flow).unwrap_err();
    assert!(error.is_sqlstate(&SqlState::UNDEFINED_TABLE), "{error:?}");
    assert_eq!(pair.rows(Side::Target, "select * from x"), ["(1)", "(2)"]);
    assert_eq!(pair.rows(Side::Target, "select * from y"), ["(1)"], "its deletion has not come alone");
    pair.source("alter table away rename to docs");
    pair.target("insert into x values (9)");
    drain(&flow).unwrap();
    pair.assert_equal("select * from x");
    pair.assert_equal("select * from y");
    assert_eq!(pair.rows(Side::Target, "select left(whole, 2) from docs"), ["(Tb)"]);
}

#[test]
fn partitions_that_are_new_go_where_their_root_goes() {
    let old = "create table p (id int primary key) partition by range (id); create table p0 partition of p for values from (0) to (10)";
    let pair = Pair::new(old, "create table p (id int primary key)");
    let flow = pair.flow(&[]);
    pair.source("insert into p values (1); create table p1 partition of p for values from (10) to (20); insert into p values (11); truncate p; insert into p values (2), (12)");
    drain(&flow).unwrap();
    pair.assert_equal("select * from p");
    pair.source("create table stray (id int primary key); alter publication pgdetour_mirror add table stray; insert into stray values (1)");
    assert_eq!(drain(&flow).unwrap_err().kind(), "table_unknown");
}
