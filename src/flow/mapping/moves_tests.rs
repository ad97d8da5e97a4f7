//! Rows that go from one partition of the publisher to another keep what the subscriber has beside the mapped columns.

use crate::flow::Flow;
use crate::flow::apply::test_pair::{Pair, drain, rule};
use crate::flow::mapping::Mapping;
use crate::phase::Side;

const PARTS: &str = "
    create table p (id int not null, k int not null, v text, primary key (id, k)) partition by list (k);
    create table p1 partition of p for values in (1);
    create table p2 (v text, k int not null, id int not null);
    alter table p attach partition p2 for values in (2);
    create table p3 partition of p for values in (3, 4) partition by range (id);
    create table p3_low partition of p3 for values from (minvalue) to (100);
    create table p3_high partition of p3 for values from (100) to (maxvalue);
    create table log (n int generated always as identity primary key, id int);";
const FLAT: &str = "
    create table p (id int not null, k int not null, v text, extra text default 'lost', primary key (id));
    create table log (n int primary key, id int);";

#[test]
fn a_row_that_goes_to_another_partition_keeps_what_nothing_is_mapped_to() {
    let to_flat = [rule("public.p", "public.p", &[("id", "id")], &[], &[])];
    let same = format!("{PARTS} alter table p add extra text default 'lost'");
    for (new, rules) in [(same.as_str(), &[][..]), (FLAT, &to_flat[..])] {
        let pair = Pair::new(PARTS, new);
        let flow = pair.flow(rules);
        pair.source("insert into p select n, 1, 'old' from generate_series(1, 40) as n");
        drain(&flow).unwrap();
        pair.target("update p set extra = 'kept ' || id");
        // Something else comes between the two.
        let noted = "create function noted() returns trigger language plpgsql as
                'begin insert into log (id) values (new.id); return new; end';
            create trigger noted before insert on p2 for each row execute function noted()";
        pair.client(Side::Source).batch_execute(noted).unwrap();
        let ways = [
            flow.clone(),
            Flow { backlog: Some(0), ..flow.clone() },
            Flow { batch_bytes: 50, ..flow.clone() },
            Flow { batch_bytes: 50, backlog: Some(0), ..flow.clone() },
        ];
        for (way, flow) in ways.iter().enumerate() {
            let of = |from: usize| way * 10 + from;
            pair.source(&format!("update p set k = 2 where id = {}", of(1)));
            pair.source(&format!("update p set k = k + 1, v = 'new' where id in ({}, {})", of(2), of(3)));
            // There and back, on to a third one, changed before and behind; and by its own key's other column, too.
            pair.source(&format!(
                "begin; update p set k = 2 where id = {0}; update p set k = 1, v = 'back' where id = {0}; commit;
                 begin; update p set v = 'before' where id = {1}; update p set k = 3 where id = {1}; update p set v = 'behind' where id = {1}; commit;
                 update p set k = 3 where id = {2}; update p set k = 4 where id = {2}",
                of(4),
                of(5),
                of(6)
            ));
            // No more than a row that goes, and another one that comes.
            pair.source(&format!(
                "begin; delete from p where id = {}; insert into p values ({}, 2, 'comes'); commit;
                 begin; insert into p values ({2}, 1, 'new'); update p set k = 2 where id = {2}; commit",
                of(7),
                of(107),
                of(1007)
            ));
            pair.source(&format!(
                "begin; update p set k = 2 where id = {}; delete from p where id = {0}; commit; delete from p where id = {}",
                of(8),
                of(9)
            ));
            drain(flow).unwrap();
            pair.assert_equal("select id, k, v from p");
        }
        // Many at once, each to another one.
        for flow in ways {
            pair.source("update p set k = 1 + (k + id) % 4, v = v || '!'");
            drain(&flow).unwrap();
            pair.assert_equal("select id, k, v from p");
        }
        let lost = pair.rows(Side::Target, "select id from p where extra <> 'kept ' || id and id < 100");
        assert_eq!(lost, [""; 0], "{rules:?}");
        assert_eq!(pair.rows(Side::Target, "select count(*) from p where extra = 'lost'"), ["(8)"]);
    }
}

fn told(pair: &Pair, rules: &[crate::flow::mapping::MapRule]) -> Vec<String> {
    let mapping: Mapping = pair.mapping(rules).unwrap();
    mapping.list_lost_by_moves().into_iter().map(|(from, message)| format!("{from}: {message}")).collect()
}

#[test]
fn it_is_told_where_nothing_tells_that_it_is_the_same_row() {
    let parts = "
        create table hashed (id int primary key, v text) partition by hash (id);
        create table hashed_0 partition of hashed for values with (modulus 2, remainder 0);
        create table hashed_1 partition of hashed for values with (modulus 2, remainder 1);
        create table listed (id int, k int, v text, primary key (id, k)) partition by list (k);
        create table listed_1 partition of listed for values in (1);
        create table listed_2 partition of listed for values in (2);
        create table below (id int, k int, v text, primary key (id, k)) partition by list (k);
        create table below_1 partition of below for values in (1);
        create table below_2 partition of below for values in (2) partition by range (id);
        create table below_2_low partition of below_2 for values from (0) to (10);
        create table deep (id int, k int, v text, primary key (id, k)) partition by list (k);
        create table deep_1 partition of deep for values in (1) partition by range (id);
        create table deep_1_low partition of deep_1 for values from (0) to (10);
        create table deep_1_high partition of deep_1 for values from (10) to (20);
        create table alone (id int primary key, v text) partition by range (id);
        create table alone_0 partition of alone default;
        create table computed (id int not null, v text) partition by range (abs(id));
        create table computed_0 partition of computed (primary key (id)) for values from (0) to (10);
        create table computed_1 partition of computed (primary key (id)) for values from (10) to (20);";
    let pair = Pair::new(parts, parts);
    assert_eq!(told(&pair, &[]), [""; 0]);
    for table in ["hashed", "listed", "below", "deep", "alone", "computed"] {
        pair.target(&format!("alter table {table} add \"More\" text"));
    }
    let lost = |table: &str| {
        format!(
            "public.{table}: a row that an UPDATE moves to another partition of \"public.{table}\" is deleted and inserted: it loses \
             what it has in \"More\" of \"public.{table}\", to which nothing is mapped"
        )
    };
    assert_eq!(told(&pair, &[]), [lost("computed"), lost("deep"), lost("hashed")]);
}
