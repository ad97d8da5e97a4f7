//! Slots and publications are made once, waited for within bounds, and removed.

use std::time::Duration;

use postgres::types::PgLsn;

use super::publication::{self, Published};
use super::slot;
use crate::error::Error;
use crate::flow::TableName;
use crate::flow::apply::test_pair::{BUDGET, Pair};
use crate::phase::Side;

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
    // One that inherits comes and goes by itself, whatever becomes of the other.
    pair.source("create table kid () inherits (a)");
    assert!(!publish(&[name("a")]));
    assert!(publish(&[name("a"), name("kid")]));
    assert!(publish(&[name("kid")]));
    assert!(publish(&[name("a"), name("kid")]));
    assert!(publish(&[name("a")]));
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
    // Another database's is none of ours: neither found nor dropped nor moved.
    assert_eq!(slot::find_slot(&mut elsewhere, "s").unwrap(), None);
    assert!(!slot::drop_slot(&mut elsewhere, "s", BUDGET).unwrap());
    let foreign = slot::find_foreign_slot(&mut elsewhere, "s").unwrap().unwrap();
    assert!(foreign.message().contains("exists for another database"), "{}", foreign.message());
    assert_eq!(slot::find_foreign_slot(&mut session, "s").unwrap(), None);
    slot::wait_for_horizon(&mut session, BUDGET).unwrap();
    assert!(slot::drop_slot(&mut session, "s", BUDGET).unwrap());
}
