//! Flows between two databases of a real server, checked by SQL of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::types::PgLsn;

use super::follow::BATCH_BYTES;
use crate::error::{Error, Result};
use crate::flow::mapping::{MapRule, Mapping};
use crate::flow::source::publication::Published;
use crate::flow::source::{publication, slot};
use crate::flow::{Applied, ChangeSource, Flow, FlowName, Snapshot, TableName, Until, apply_until, marker};
use crate::pg::test_server::TestServer;
use crate::pg::{Conninfo, Server, Session, catalog, record};
use crate::phase::Side;
use crate::plan::Plan;
use crate::sql;

pub(in crate::flow) const BUDGET: Duration = Duration::from_secs(60);
const DETOUR: &str = "11111111-2222-3333-4444-555555555555";

/// Two databases of one server, with our own tables in both.
pub(in crate::flow) struct Pair {
    pub(in crate::flow) server: TestServer,
    pub(in crate::flow) subscriber_role: &'static str,
}

impl Pair {
    pub(in crate::flow) fn new(source: &str, target: &str) -> Pair {
        Pair::with_settings("", source, target)
    }

    pub(in crate::flow) fn with_settings(settings: &str, source: &str, target: &str) -> Pair {
        let pair = Pair { server: TestServer::start(settings), subscriber_role: "postgres" };
        for statement in ["create role writer login", "create database source", "create database target"] {
            pair.server.client().batch_execute(statement).unwrap();
        }
        for (side, tables) in [(Side::Source, source), (Side::Target, target)] {
            let mut client = pair.client(side);
            client.batch_execute(sql::record::CREATE_COMMON.text).unwrap();
            client.batch_execute(tables).unwrap();
        }
        pair
    }

    fn conninfo(&self, side: Side, user: &str) -> Conninfo {
        let port = self.server.port;
        Conninfo::parse(&format!("host=127.0.0.1 port={port} dbname={side} user={user}")).unwrap()
    }

    pub(in crate::flow) fn client(&self, side: Side) -> postgres::Client {
        self.conninfo(side, "postgres").connect("test").unwrap()
    }

    pub(in crate::flow) fn on(&self, side: Side) -> Server {
        let user = if side == Side::Target { self.subscriber_role } else { "postgres" };
        Server {
            place: side.into(),
            conninfo: self.conninfo(side, user),
            application_name: "pgdetour test".to_owned(),
            plan: Plan::real(),
        }
    }

    pub(in crate::flow) fn session(&self, side: Side) -> Session {
        self.on(side).connect().unwrap()
    }

    fn tables(&self, side: Side) -> Vec<catalog::Table> {
        catalog::list_tables(&mut self.session(side)).unwrap()
    }

    pub(in crate::flow) fn mapping(&self, rules: &[MapRule]) -> Result<Mapping> {
        let (source, target) = (self.tables(Side::Source), self.tables(Side::Target));
        Mapping::build(&source, &target, rules, &mut self.session(Side::Target))
    }

    /// Publication, slot, mapping: the source's changes from here on go to the target.
    pub(in crate::flow) fn flow(&self, rules: &[MapRule]) -> Flow {
        let mut session = self.session(Side::Source);
        let tables: Vec<Published> = self
            .tables(Side::Source)
            .iter()
            .filter(|t| t.root.is_none())
            .map(|t| Published::whole(TableName::of(t)))
            .collect();
        publication::create_publication(&mut session, "pgdetour_mirror", &tables).unwrap();
        slot::create_slot(&mut session, "pgdetour_mirror", BUDGET).unwrap();
        Flow {
            name: FlowName::Mirror,
            detour: DETOUR.to_owned(),
            publisher: self.on(Side::Source),
            subscriber: self.on(Side::Target),
            source: ChangeSource::Slot {
                slot: "pgdetour_mirror".to_owned(),
                publication: "pgdetour_mirror".to_owned(),
            },
            mapping: self.mapping(rules).unwrap(),
            snapshots: HashMap::new(),
            skip_origins: false,
            batch_bytes: BATCH_BYTES,
            backlog: None,
            quarantine: false,
        }
    }

    /// Runs statements one by one, so that each is a transaction unless it says otherwise.
    pub(in crate::flow) fn source(&self, script: &str) {
        let mut client = self.client(Side::Source);
        script.split(';').for_each(|statement| client.batch_execute(statement).unwrap());
    }

    pub(in crate::flow) fn target(&self, script: &str) {
        self.client(Side::Target).batch_execute(script).unwrap();
    }

    /// All rows of a query as text, in order of their bytes.
    pub(in crate::flow) fn rows(&self, side: Side, query: &str) -> Vec<String> {
        let query = format!("select t::text from ({query}) as t order by t::text collate \"C\"");
        self.client(side).query(&query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub(in crate::flow) fn assert_equal(&self, query: &str) {
        let (source, target) = (self.rows(Side::Source, query), self.rows(Side::Target, query));
        assert_eq!(source.len(), target.len(), "rows of {query}");
        assert!(source == target, "{query} differs");
    }
}

/// Applies everything that was written up to now.
pub(in crate::flow) fn drain(flow: &Flow) -> Result<Applied> {
    let mut publisher = flow.publisher.connect()?;
    let id = record::new_id(&mut publisher)?;
    marker::write_marker(&mut publisher, flow.name, &id)?;
    apply_until(flow, &Until::Marker(id), &AtomicBool::new(false), Some(BUDGET), &mut |_| ())
}

pub(in crate::flow) fn rule(
    from: &str,
    to: &str,
    key: &[(&str, &str)],
    columns: &[(&str, &str)],
    drop: &[&str],
) -> MapRule {
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    MapRule {
        from: from.to_owned(),
        to: to.to_owned(),
        key: pairs(key),
        columns: pairs(columns),
        drop: drop.iter().map(|name| (*name).to_owned()).collect(),
        condition: None,
        joins: false,
    }
}

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
        for seed in 1..=3 {
            let (pair, stop) = (&pair, &stop_writers);
            scope.spawn(move || write_until(pair, stop, seed));
        }
        while breaks < 12 {
            let (stop, flow) = (AtomicBool::new(false), &*flow);
            std::thread::scope(|scope| {
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
        stop_writers.store(true, Ordering::Relaxed);
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
fn rows_are_mapped_to_the_new_schema() {
    let old = "
        create type public.mood as enum ('good', 'bad');
        create table public.customers (id int primary key, first_name text, last_name text, fax text, bio text,
            born text, created timestamp, mood public.mood, full_address text);
        alter table public.customers alter column bio set storage external;
        create table public.events (tenant int, id int, note varchar(5), payload text, primary key (tenant, id)) partition by hash (id);
        create table public.events_0 partition of public.events for values with (modulus 2, remainder 0);
        create table public.events_1 partition of public.events for values with (modulus 2, remainder 1);";
    let new = "
        create table public.people (id bigint primary key, full_name text not null, bio_and_name text, bio text, born timestamptz,
            created timestamptz, mood text, city text generated always as (upper(street)) stored, street text,
            score int not null default 7);
        create table public.addresses (person bigint primary key, town text);
        create table public.events (id bigint primary key, note text, payload text, seen bool default false);";
    let pair = Pair::new(old, new);
    let rules = [
        rule(
            "public.customers",
            "public.people",
            &[],
            &[
                ("id", "id"),
                ("full_name", "first_name || ' ' || old.last_name"),
                ("bio_and_name", "left(bio, 3) || first_name || length(bio)"),
                ("born", "born::timestamptz"),
                ("mood", "upper(mood::text)"),
                ("street", "split_part(full_address, ',', 1)"),
            ],
            &["fax"],
        ),
        rule(
            "public.customers",
            "public.addresses",
            &[("person", "id")],
            &[("town", "split_part(full_address, ',', 2)")],
            &["fax", "first_name", "last_name", "bio", "born", "created", "mood"],
        ),
        rule("public.events", "public.events", &[("id", "id")], &[], &["tenant"]),
    ];
    let flow = pair.flow(&rules);
    let customers = flow.mapping.rules_for("public", "customers");
    let reads = |column: &str| {
        let column = customers[0].columns.iter().find(|c| c.name == column).unwrap();
        column.reads.iter().map(|at| customers[0].old_columns[*at].name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(reads("full_name"), ["first_name", "last_name"]);
    assert_eq!(reads("bio_and_name"), ["first_name", "bio"]);
    pair.source(
        "insert into customers select g, 'f' || g, 'l' || g, 'fax', repeat(md5(g::text), 200), '2001-02-03 04:05+02', '2020-01-02 03:04:05.6',
            'good', 'street ' || g || ',town ' || g from generate_series(1, 50) g;
         insert into events select 1, g, 'n', repeat('p', 10) from generate_series(1, 20) g;",
    );
    drain(&flow).unwrap();
    pair.target("update people set score = 9; update events set seen = true");
    pair.source(
        "update customers set first_name = 'F' where id < 10;
         update customers set id = id + 1000 where id between 20 and 25;
         update customers set bio = repeat('b', 3000) where id between 5 and 7;
         update customers set mood = 'bad', fax = null where id = 30;
         delete from customers where id = 31;
         begin; update customers set first_name = 'later' where id = 40; delete from customers where id = 40; commit;
         update customers set first_name = 'gone' where id = 41; delete from customers where id = 41;
         update events set note = 'm', id = id + 100 where id < 4; delete from events where id = 20;",
    );
    drain(&flow).unwrap();
    let mapped = "select id::bigint, first_name || ' ' || last_name as full_name,
        left(bio, 3) || first_name || length(bio) as bio_and_name, bio, born::timestamptz as born, created::timestamptz as created,
        upper(mood::text) as mood, upper(split_part(full_address, ',', 1)) as city, split_part(full_address, ',', 1) as street
        from customers";
    let stored = "select id, full_name, bio_and_name, bio, born, created, mood, city, street from people";
    assert_eq!(pair.rows(Side::Source, mapped), pair.rows(Side::Target, stored));
    assert_eq!(
        pair.rows(Side::Source, "select id::bigint, split_part(full_address, ',', 2) from customers"),
        pair.rows(Side::Target, "select * from addresses")
    );
    assert_eq!(
        pair.rows(Side::Source, "select id::bigint, note::text, payload from events"),
        pair.rows(Side::Target, "select id, note, payload from events")
    );
    assert_eq!(
        pair.rows(Side::Target, "select count(*) from people where score = 9"),
        ["(47)"],
        "a change of key keeps what is the new table's own"
    );
    assert_eq!(pair.rows(Side::Target, "select count(*) from events where seen"), ["(19)"]);
    let error = {
        pair.source("truncate events_0");
        drain(&flow).unwrap_err()
    };
    assert_eq!(error.kind(), "truncate", "{error:?}");
}

/// A value that a key change leaves out of the stream is asked for where it was; a row that is gone there by then has none.
#[test]
fn a_row_that_crosses_into_a_table_and_is_gone_by_then_is_no_conflict() {
    let old = "create table public.docs (id int primary key, body text, n int);
        alter table public.docs alter column body set storage external;";
    let new = "create table public.low (id int primary key, body text, n int);
        create table public.high (id int primary key, body text, n int);";
    let pair = Pair::new(old, new);
    pair.target(sql::record::CREATE_SOURCE.text);
    let part = |to, condition: &str| MapRule {
        condition: Some(condition.to_owned()),
        ..rule("public.docs", to, &[], &[], &[])
    };
    let rules = [part("public.low", "id < 1000"), part("public.high", "id >= 1000")];
    // Each transaction by itself, so that none makes up for what another lacks.
    let flow = Flow { batch_bytes: 1, ..pair.flow(&rules) };
    pair.source("insert into docs select g, repeat(md5(g::text), 200), g from generate_series(1, 8) g");
    drain(&flow).unwrap();
    pair.source(
        "update docs set id = id + 1000 where id <= 6;
         update docs set n = -n where id > 1000;
         update docs set id = id + 1000 where id in (1002, 1003);
         update docs set n = 7 where id in (1001, 2002);
         update docs set id = 3 where id = 2003;
         update docs set body = 'whole again' where id = 1005;
         delete from docs where id in (1001, 2002, 3, 1004);
         insert into docs values (1001, 'another', 1), (1004, 'another', 4);
         update docs set n = n + 100;
         delete from docs where id = 1004;
         update docs set id = 3006, body = 'new' where id = 1006;
         delete from docs where id in (1001, 1005)",
    );
    drain(&flow).unwrap();
    for (table, condition) in [("low", "id < 1000"), ("high", "id >= 1000")] {
        assert_eq!(
            pair.rows(Side::Source, &format!("select * from docs where {condition}")),
            pair.rows(Side::Target, &format!("select * from {table}")),
            "{table}"
        );
    }
    assert!(pair.rows(Side::Target, "select * from pgdetour.unmade_rows").is_empty());
    pair.target("delete from low where id = 7");
    pair.source("update docs set n = 0 where id = 7");
    assert_eq!(drain(&flow).unwrap_err().kind(), "update_missing", "nothing but such a row may be missing");
}

#[test]
fn all_findings_of_a_mapping_come_at_once() {
    let old = "create table a (id int primary key, x text, y text, z int, fax text);
               create table b (id int primary key); create table lonely (id int primary key, v text);";
    let new = "create table n (id int primary key, x int, must text not null, g int generated always as (x) stored, dflt text not null default 'd');
               create table b (other int); create table k (id int, v text)";
    let pair = Pair::new(old, new);
    let rules = [
        rule(
            "public.a",
            "public.n",
            &[("id", "id + z")],
            &[("x", "upper(y)"), ("g", "1"), ("nope", "1"), ("dflt", "count(*)::text")],
            &["fax", "fux"],
        ),
        rule("public.lonely", "public.k", &[], &[("v", "no_such || 'x'")], &[]),
        rule("public.none", "public.nowhere", &[], &[], &[]),
    ];
    let Err(Error::ChecksFailed { findings }) = pair.mapping(&rules) else { panic!("nothing was found") };
    let said: Vec<String> =
        findings.iter().map(|finding| format!("{}: {}", finding.object, finding.message)).collect();
    for expected in [
        "public.none: [[map]] is from \"public.none\", which is not a table of the flow",
        "public.none: [[map]] is to \"public.nowhere\", which does not exist",
        "public.a: column \"nope\" does not exist in \"public.n\"",
        "public.a: column \"g\" of \"public.n\" is generated and cannot be written",
        "public.a: column \"fux\", named in \"drop\", does not exist in \"public.a\"",
        "public.a: column \"must\" of \"public.n\" is NOT NULL, has no default, and nothing is mapped to it",
        "public.a: column \"x\" of \"public.n\" cannot be written: column \"x\" is of type integer but expression is of type text (SQLSTATE 42804)",
        "public.a: column \"dflt\" of \"public.n\" cannot be written: aggregate functions are not allowed in WHERE (SQLSTATE 42803)",
        "public.a: the key reads column \"z\", which is not part of the replica identity of \"public.a\"",
        "public.b: column \"id\" of the key of \"public.b\" is not mapped",
        "public.b: column \"id\" of \"public.b\" is mapped nowhere",
        "public.lonely: column \"v\" of \"public.k\" cannot be written: column \"no_such\" does not exist (SQLSTATE 42703)",
        "public.lonely: no unique index of \"public.k\" covers the key (id)",
    ] {
        assert!(said.iter().any(|message| message == expected), "{expected}\nnot in {said:#?}");
    }
    assert!(
        findings.iter().all(|finding| finding.hint.ends_with('.') || finding.hint.ends_with(';')),
        "{findings:#?}"
    );
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
        stop.store(true, Ordering::Relaxed);
    });
    drain(&flow).unwrap();
    pair.assert_equal("select * from a");
    pair.assert_equal("select * from b");
}

#[test]
fn without_the_replica_role_changes_keep_their_order() {
    let tables = "create table parent (id int primary key, v int);
        create table child (id int primary key, parent int references parent on delete cascade);
        create table node (id int primary key, up int references node)";
    let grants =
        "grant all on all tables in schema public to writer; grant usage on schema pgdetour to writer;
        grant all on all tables in schema pgdetour to writer";
    let mut pair = Pair::new(tables, &format!("{tables}; {grants}"));
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
}

#[test]
fn a_marker_follows_within_milliseconds() {
    let tables = "create table t (id int primary key, v int)";
    let pair = Pair::new(tables, tables);
    let flow = pair.flow(&[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| apply_until(&flow, &Until::Stopped, &stop, Some(BUDGET), &mut |_| ()));
        let (mut source, mut target) = (pair.session(Side::Source), pair.session(Side::Target));
        let mut waits = Vec::new();
        for id in 0..20_i32 {
            source.change("insert into public.t values ($1, 1)", &[&id]).unwrap();
            let marker = record::new_id(&mut source).unwrap();
            marker::write_marker(&mut source, flow.name, &marker).unwrap();
            waits.push(marker::wait_for_marker(&mut target, &marker, BUDGET).unwrap());
        }
        waits.sort();
        println!("marker round trip: median {:?}, longest {:?}", waits[10], waits[19]);
        assert!(waits[10] < Duration::from_millis(200), "{waits:?}");
        stop.store(true, Ordering::Relaxed);
        let applied = run.join().unwrap().unwrap();
        assert_eq!((applied.changes, applied.reached), (20, false));
    });
    pair.assert_equal("select * from t");
}

#[test]
fn temporary_transactions_and_other_origins_are_left_out() {
    let tables = "create table t (id int primary key)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.skip_origins = true;
    flow.batch_bytes = 1000;
    pair.source(
        "insert into t values (1);
         begin; insert into t select g from generate_series(100, 400) g; select pg_logical_emit_message(true, 'pgdetour.scratch', ''); insert into t values (2); commit;
         begin; select pg_logical_emit_message(true, 'other', 'x'); insert into t values (3); commit;
         select pg_logical_emit_message(false, 'pgdetour.scratch', '');
         select pg_replication_origin_create('elsewhere'); select pg_replication_origin_session_setup('elsewhere');
         begin; select pg_replication_origin_xact_setup('0/1', now()); insert into t values (4); commit;
         select pg_replication_origin_session_reset();
         insert into t values (5)",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select * from t"), ["(1)", "(3)", "(5)"]);
    assert_eq!(applied.skipped, 2);
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

#[test]
fn slots_and_publications_are_made_once_and_removed() {
    let pair = Pair::new("create table a (id int primary key); create table b (id int primary key)", "");
    let mut session = pair.session(Side::Source);
    let name = |name: &str| TableName { schema: "public".to_owned(), name: name.to_owned() };
    let mut publish = |tables: &[TableName]| {
        let whole: Vec<Published> = tables.iter().cloned().map(Published::whole).collect();
        let changed = publication::create_publication(&mut session, "p", &whole).unwrap();
        let mut listed = publication::list_published(&mut session, "p").unwrap().unwrap();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(listed, tables);
        changed
    };
    assert!(publish(&[name("a")]));
    assert!(!publish(&[name("a")]));
    assert!(publish(&[name("a"), name("b")]));
    assert!(publish(&[name("b")]));
    pair.source("alter publication p set table a where (id > 5), pgdetour.marker; alter publication p set (publish = 'insert', publish_via_partition_root)");
    assert!(publish(&[name("a")]));
    assert!(!publish(&[name("a")]));
    assert!(publication::drop_publication(&mut session, "p").unwrap());
    assert!(!publication::drop_publication(&mut session, "p").unwrap());

    let mut blocker = pair.server.client();
    blocker.batch_execute("begin; create table x (a int) /* holds    the slot up */").unwrap();
    let short = Duration::from_millis(300);
    for error in [
        slot::create_slot(&mut session, "s", short).map(|_| ()).unwrap_err(),
        slot::wait_for_horizon(&mut session, short).unwrap_err(),
    ] {
        let Error::TimedOut { detail: Some(detail), .. } = &error else { panic!("{error:?}") };
        assert!(
            detail.contains("holds the slot up")
                && detail.contains("role \"postgres\" in database \"postgres\""),
            "{detail}"
        );
    }
    assert_eq!(slot::find_slot(&mut session, "s").unwrap(), None);
    assert!(!slot::drop_slot(&mut session, "s", short).unwrap());
    blocker.batch_execute("rollback").unwrap();
    let (position, new) = slot::create_slot(&mut session, "s", BUDGET).unwrap();
    assert!(new && position > PgLsn::from(0));
    assert_eq!(slot::create_slot(&mut session, "s", BUDGET).unwrap(), (position, false));
    let mut elsewhere = pair.session(Side::Target);
    assert_eq!(slot::create_slot(&mut elsewhere, "s", BUDGET).unwrap_err().kind(), "slot_mismatch");
    slot::wait_for_horizon(&mut session, BUDGET).unwrap();
    assert!(slot::drop_slot(&mut session, "s", BUDGET).unwrap());
}
