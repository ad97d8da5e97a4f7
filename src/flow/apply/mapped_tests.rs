//! Rows on their way into another schema, checked by SQL of their own.

use super::test_pair::{Pair, drain, rule};
use crate::error::Error;
use crate::flow::mapping::MapRule;
use crate::flow::{Flow, FlowName};
use crate::phase::Side;
use crate::sql;

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

/// The publisher's trigger notes what the expression has to find, row by row.
#[test]
fn an_expression_looks_up_what_was_there_when_the_row_was_written() {
    let old = "
        create table country (cc text primary key, cid int) partition by list (cc);
        create table country_de partition of country for values in ('DE');
        create table country_other partition of country default;
        create table customer (id int primary key, cc text, noted int);
        create table node (id int primary key, up int, noted int);
        create function note() returns trigger language plpgsql as $$ begin
            if tg_table_name = 'customer' then
                new.noted := (select cid from country where cc = new.cc);
            else
                new.noted := coalesce((select noted from node where id = new.up), 0) + 1;
            end if;
            return new;
        end $$;
        create trigger note before insert or update on customer for each row execute function note();
        create trigger note before insert or update on node for each row execute function note();";
    let new = "
        create table country (cc text primary key, cid int);
        create view known as select * from country;
        create table customer (id int primary key, cid int, noted int);
        create table node (id int primary key, up int, depth int, noted int);";
    let pair = Pair::new(old, new);
    let rules = [
        rule(
            "public.customer",
            "public.customer",
            &[],
            &[("cid", "(select k.cid from public.known as k where k.cc = old.cc)")],
            &[],
        ),
        rule(
            "public.node",
            "public.node",
            &[],
            &[("depth", "coalesce((select n.depth from public.node as n where n.id = old.up), 0) + 1")],
            &[],
        ),
    ];
    let flow = Flow { name: FlowName::Replay, ..pair.flow(&rules) };
    pair.begins(&flow);
    pair.target(sql::record::CREATE_SOURCE.text);
    let ways = [
        ("statement by statement", flow.clone()),
        ("in one go", Flow { backlog: Some(0), ..flow.clone() }),
        ("parts of transactions", Flow { batch_bytes: 50, backlog: Some(0), ..flow.clone() }),
        ("set aside", Flow { quarantine: true, ..flow.clone() }),
    ];
    for (way, flow) in ways {
        pair.source(
            "truncate country, customer, node; insert into country values ('DE', 49);
             insert into customer select g, 'DE' from generate_series(1, 9) g",
        );
        drain(&flow).unwrap();
        pair.source(
            "insert into country values ('FR', 33); update customer set cc = 'FR' where id = 1;
             begin; insert into country values ('IT', 39); update customer set cc = 'IT' where id = 2;
             insert into customer values (10, 'IT'); commit;
             update customer set cc = 'DE' where id = 3; update country set cid = 490 where cc = 'DE';
             update customer set cc = 'DE' where id = 4; insert into customer values (11, 'FR');
             delete from country where cc = 'FR'; update customer set cc = 'FR' where id = 5;
             update country set cc = 'ES' where cc = 'IT'; update customer set cc = 'ES' where id in (6, 7);
             insert into node select g, g - 1 from generate_series(1, 12) g;
             begin; update node set up = 12 where id = 1; update node set up = 1 where id = 3; commit",
        );
        drain(&flow).unwrap();
        // More often than what goes in one go may come back to a table.
        let again = |id| {
            format!("update country set cid = {id} where cc = 'DE'; insert into customer values ({id}, 'DE')")
        };
        let again: Vec<String> = (100..200).map(again).collect();
        pair.source(&format!("begin; {}; commit", again.join("; ")));
        drain(&flow).unwrap();
        assert_eq!(
            pair.rows(Side::Source, "select id, noted, noted as stored from customer"),
            pair.rows(Side::Target, "select id, noted, cid as stored from customer"),
            "{way}"
        );
        assert_eq!(
            pair.rows(Side::Source, "select id, noted, noted as stored from node"),
            pair.rows(Side::Target, "select id, noted, depth as stored from node"),
            "{way}"
        );
    }
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

/// Types of extensions are compared by operators that no empty `search_path` finds.
#[test]
fn keys_are_found_by_the_operator_of_their_index() {
    let tables = "create extension ltree; create extension citext; create extension isn;
        create table tree (id ltree primary key, v text, big text);
        alter table tree alter big set storage external;
        create table book (id isbn13 primary key, v text);
        create table named (id citext primary key, v text);
        create table part (id ltree, n int, v text, primary key (id, n)) partition by hash (n);
        create table part_0 partition of part for values with (modulus 1, remainder 0)";
    let pair = Pair::new(tables, tables);
    let rules = [rule("public.tree", "public.tree", &[], &[("v", "v || left(big, 3)")], &[])];
    let flow = pair.flow(&rules);
    pair.source(
        "insert into tree select ('a.b' || g)::ltree, 'x', repeat('b', 3000) from generate_series(1, 9) g;
         insert into book values ('978-0-393-04002-9', 'x'), ('978-0-11-000222-4', 'x');
         insert into named values ('Abc', 'x'), ('d', 'x');
         insert into part select ('a.b' || g)::ltree, g, 'x' from generate_series(1, 9) g",
    );
    drain(&flow).unwrap();
    // What is equal to it is the row, whatever it looks like.
    pair.target("update named set id = 'ABC' where id = 'abc'");
    pair.source(
        "update tree set v = 'y' where id <> 'a.b3'; delete from tree where id = 'a.b1'; update tree set id = 'c' where id = 'a.b2';
         update book set v = 'y'; delete from book where id = '978-0-11-000222-4';
         update named set v = 'y'; delete from named where id = 'd'; update named set id = 'ABC';
         update part set v = 'y'; delete from part where n = 1; update part set id = 'c' where n = 2",
    );
    drain(&flow).unwrap();
    pair.assert_equal("select * from book");
    pair.assert_equal("select * from named");
    pair.assert_equal("select * from part");
    assert_eq!(
        pair.rows(Side::Source, "select id, v || left(big, 3) as v, big from tree"),
        pair.rows(Side::Target, "select * from tree")
    );
}

#[test]
fn foreign_keys_are_held_to_what_the_server_holds_them_to() {
    let tables = "create extension citext;
        create table a (id citext primary key); create table b (n int primary key, a citext references a on update cascade);
        create collation de (provider = icu, locale = 'de'); create collation en (provider = icu, locale = 'en');
        create table c (id text collate de primary key); create table d (n int primary key, c text collate en references c);
        create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table e (id text collate loose primary key); create table f (n int primary key, e text references e)";
    let pair = Pair::new(tables, tables);
    let flow = Flow { name: FlowName::Replay, ..pair.flow(&[]) };
    pair.target(sql::record::CREATE_SOURCE.text);
    pair.begins(&flow);
    pair.source(
        "insert into a values ('Abc'); insert into b values (1, 'aBC'); insert into b values (2, 'ABC'); update a set id = 'ABC';
         insert into c values ('x'), ('y'); insert into d values (1, 'x'); update d set c = 'y'; delete from c where id = 'x';
         insert into e values ('Abc'), ('d'); insert into f values (1, 'aBC'); delete from e where id = 'd'",
    );
    drain(&flow).unwrap();
    for table in ["a", "b", "c", "d", "e", "f"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

#[test]
fn rows_of_a_table_that_is_altered_meanwhile_keep_their_order() {
    let pair = Pair::new(
        "create table acc (id int primary key, status varchar(10), v int)",
        "create table acc_a (id int primary key, status varchar(10), v int); create table acc_b (like acc_a including all)",
    );
    let part = |to: &str, condition: &str| MapRule {
        condition: Some(condition.to_owned()),
        ..rule("public.acc", to, &[], &[], &[])
    };
    let flow = pair.flow(&[part("public.acc_a", "status = 'a'"), part("public.acc_b", "status <> 'a'")]);
    pair.source(
        "insert into acc values (1, 'a', 1), (2, 'a', 1), (50, 'a', 1), (51, 'b', 1); update acc set status = 'b' where id = 1;
         alter table acc alter status type text;
         delete from acc where id in (50, 51, 2); update acc set status = 'a', v = 2 where id = 1",
    );
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select * from acc_a union all select * from acc_b"), ["(1,a,2)"]);
}
