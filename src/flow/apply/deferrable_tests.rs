//! What the subscriber looks at when a transaction ends holds for what is applied, however that is done.

use super::quarantine;
use super::test_pair::{Pair, drain, rule};
use crate::flow::mapping::MapRule;
use crate::flow::{Flow, FlowName};
use crate::phase::Side;
use crate::sql;

const OLD: &str = "
    create table seat (id int primary key, place int, note text);
    create table stay (id int primary key, days int4range);
    create table bag (name text, n int); alter table bag replica identity full;
    create table part (id int primary key, v text)";
const NEW: &str = r#"
    create table seat (id int primary key, place int constraint one_place unique deferrable, note text);
    create table stay (id int primary key, "from 0" int4range,
        constraint apart exclude using gist ((int4range(lower("from 0"), upper("from 0"))) with &&) where ("from 0" <> 'empty') deferrable);
    create table bag (name text constraint one_name unique deferrable initially deferred, n int);
    create table part (id int, v text, primary key (id), constraint one_v unique (id, v) deferrable) partition by range (id);
    create table part_1 partition of part (constraint alone unique (v) deferrable) for values from (0) to (1000);
    create table part_2 partition of part for values from (1000) to (2000)"#;

fn homeward(pair: &Pair, is_hasty: bool) -> Flow {
    let days = rule("public.stay", "public.stay", &[], &[("from 0", "days")], &[]);
    let rules: [MapRule; 1] = [days];
    let mut flow = pair.flow(&rules);
    flow.name = FlowName::Replay;
    flow.backlog = is_hasty.then_some(0);
    pair.target(sql::record::CREATE_SOURCE.text);
    pair.begins(&flow);
    flow
}

const CONTENT: [&str; 4] =
    ["select * from seat", "select * from stay", "select * from bag", "select * from part"];

fn assert_arrived(pair: &Pair) {
    for query in CONTENT {
        assert_eq!(pair.rows(Side::Source, query), pair.rows(Side::Target, query), "{query}");
    }
}

#[test]
fn rows_that_meet_at_the_end_of_a_transaction_stop_the_flow_and_those_that_make_room_do_not() {
    for is_hasty in [true, false] {
        let pair = Pair::new(OLD, NEW);
        let flow = homeward(&pair, is_hasty);
        pair.source(
            "insert into seat select g, g, 'x' from generate_series(1, 500) g; insert into bag select 'n' || g, g from generate_series(1, 500) g;
             insert into stay select g, int4range(10 * g, 10 * g + 5) from generate_series(1, 300) g; insert into stay values (0, 'empty'), (-1, 'empty');
             insert into part select g, g::text from generate_series(500, 1500) g;
             insert into seat values (1000, null, 'x'), (1001, null, 'x')",
        );
        drain(&flow).unwrap();
        // They trade places, within a transaction and from one to the next.
        pair.source(
            "begin; update seat set place = 501 - place; insert into seat values (501, 501, 'x'); commit;
             update seat set place = -1 where id = 1; update seat set place = 500 where id = 2; update seat set place = 499 where id = 1;
             begin; update stay set days = int4range(3010 - 10 * id, 3015 - 10 * id) where id > 0; commit;
             begin; update bag set name = 'n' || 501 - n; commit; begin; update part set v = (2000 - id)::text; commit;
             begin; insert into bag values ('n1', 1001); delete from bag where n = 500; commit; update seat set note = 'y'",
        );
        drain(&flow).unwrap();
        assert_arrived(&pair);
        let refused = [
            (
                "seat values (9000, 9000, 'own')",
                "delete from seat",
                "seat values (700, 9000, 'n')",
                "one_place",
                "(id)=(700)",
            ),
            (
                "stay values (9000, '[50000,50010)')",
                "delete from stay",
                "stay values (700, '[50009,50011)')",
                "apart",
                "(id)=(700)",
            ),
            (
                "bag values ('own', 9000)",
                "delete from bag",
                "bag values ('own', 1)",
                "one_name",
                "(whole row)",
            ),
            ("part values (1, 'own')", "delete from part", "part values (2, 'own')", "alone", "(id)=(2)"),
        ];
        for (own, mend, change, constraint, key) in refused {
            pair.target(&format!("insert into {own}"));
            let rows = pair.rows(Side::Target, CONTENT.iter().find(|q| mend.ends_with(&q[14..])).unwrap());
            pair.source(&format!(
                "begin; update seat set note = 'z' where id = 3; insert into {change}; commit"
            ));
            let refused = drain(&flow).unwrap_err();
            let told = format!("{refused} {:?}", refused.detail());
            assert!(told.contains(constraint) && told.contains(key), "{told}");
            let kind = if constraint == "apart" { "exclusion" } else { "unique" };
            assert_eq!(refused.kind(), kind, "{told}");
            assert_eq!(refused.sqlstate(), Some(if kind == "unique" { "23505" } else { "23P01" }));
            assert_eq!(
                pair.rows(Side::Target, CONTENT.iter().find(|q| mend.ends_with(&q[14..])).unwrap()),
                rows
            );
            let (table, values) = own.split_once(" values ").unwrap();
            pair.target(&format!("delete from {table} as t where t = row{values}::{table}"));
            drain(&flow).unwrap();
            assert_arrived(&pair);
        }
    }
}

#[test]
fn a_transaction_larger_than_a_batch_is_looked_at_when_it_is_whole() {
    let pair = Pair::new(OLD, NEW);
    let mut flow = homeward(&pair, false);
    flow.batch_bytes = 2000;
    pair.source("insert into seat select g, g, 'x' from generate_series(1, 500) g");
    drain(&flow).unwrap();
    pair.source("update seat set place = place + 1");
    drain(&flow).unwrap();
    assert_arrived(&pair);
    pair.target("insert into seat values (9000, 9000, 'own')");
    pair.source(
        "begin; update seat set place = place + 1; update seat set place = 9000 where id = 1; commit",
    );
    let refused = drain(&flow).unwrap_err();
    assert_eq!((refused.kind(), refused.sqlstate()), ("unique", Some("23505")), "{refused}");
    pair.target("delete from seat where id = 9000");
    drain(&flow).unwrap();
    assert_arrived(&pair);
}

#[test]
fn rows_that_meet_are_set_aside_and_the_rest_of_their_transaction_makes_room_for_itself() {
    let pair = Pair::new(OLD, NEW);
    let mut flow = homeward(&pair, true);
    flow.quarantine = true;
    pair.source("insert into seat select g, g, 'x' from generate_series(1, 10) g; insert into stay values (1, '[1,5)')");
    drain(&flow).unwrap();
    pair.target("insert into seat values (100, 100, 'own')");
    pair.source(
        "begin; update seat set place = 3 - place where id in (1, 2); insert into seat values (11, 100, 'x');
         update seat set place = 100 - id where id in (3, 4); update seat set note = 'later' where id = 11; commit;
         insert into seat values (12, 12, 'x');
         begin; truncate bag; insert into stay values (2, '[6,7)'); insert into seat values (13, 100, 'x'); commit",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!(applied.conflicts, 2);
    let told = |pair: &Pair| -> Vec<String> {
        let entries = quarantine::list(&mut pair.session(Side::Target), 0, None, 100).unwrap();
        let tell = |e: &quarantine::Quarantined| {
            let (constraint, state) =
                (e.constraint.clone().unwrap_or_default(), e.sqlstate.clone().unwrap_or_default());
            format!("{} {} {constraint} {state} {}", e.operation, e.kind, e.key.as_ref().unwrap())
        };
        entries.iter().map(tell).collect()
    };
    assert_eq!(
        told(&pair),
        [
            r#"insert unique one_place 23505 {"id":"11"}"#,
            r#"update follows   {"id":"11"}"#,
            r#"insert unique one_place 23505 {"id":"13"}"#,
        ]
    );
    let arrived = "select id, place from seat where id <= 4 or id = 12";
    assert_eq!(pair.rows(Side::Target, arrived), ["(1,2)", "(12,12)", "(2,1)", "(3,97)", "(4,96)"]);
    assert_eq!(pair.rows(Side::Target, "select id from stay"), ["(1)", "(2)"]);
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 0);
    pair.target("delete from seat where id = 100");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 2, "both have the place");
    assert_eq!(told(&pair), [r#"insert unique one_place 23505 {"id":"13"}"#]);
}
