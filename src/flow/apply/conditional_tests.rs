//! Rows that go to a table as long as a condition holds, beside rows of that table that are nobody's on the publisher.

use super::test_pair::{Pair, drain, rule};
use crate::error::Error;
use crate::flow::mapping::MapRule;
use crate::phase::Side;

#[test]
fn a_condition_on_the_key_tells_which_rows_are_not_its_own() {
    let pair = Pair::new(
        "create table a (id int primary key, v text)",
        "create table t (id int primary key, v text, extra text)",
    );
    let some = MapRule { condition: Some("id < 1000".into()), ..rule("public.a", "public.t", &[], &[], &[]) };
    let flow = pair.flow(&[some]);
    pair.source("insert into a select n, 'a' from generate_series(1, 5) as n");
    pair.source("insert into a select n, 'a' from generate_series(1500, 1504) as n");
    drain(&flow).unwrap();
    let own = "select * from t where id >= 1000";
    pair.target("insert into t select n, 'own', 'own' from generate_series(1500, 1504) as n");
    let before = pair.rows(Side::Target, own);
    // One by one, and all in one go.
    pair.source("update a set id = 1600 where id = 1500");
    drain(&flow).unwrap();
    pair.source("update a set id = 10 where id = 1501");
    drain(&flow).unwrap();
    pair.source("delete from a where id = 1502");
    drain(&flow).unwrap();
    pair.source(
        "update a set id = 1700 where id = 1; update a set v = 'b' where id > 2; delete from a where id = 5",
    );
    pair.source("update a set id = 20 where id = 1700; delete from a where id in (2, 1503)");
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, own), before);
    assert_eq!(
        pair.rows(Side::Source, "select id, v from a where id < 1000"),
        pair.rows(Side::Target, "select id, v from t where id < 1000")
    );

    // What comes in by its new key meets a row that is there.
    pair.target("insert into t values (11, 'own', 'own')");
    pair.source("update a set id = 11 where id = 1504");
    let error = drain(&flow).unwrap_err();
    assert!(matches!(error, Error::Conflict { kind: "unique", .. }), "{error:?}");
}
