//! Changes that go in the binary form of their types.

use super::follow_tests::{TABLES, break_again_and_again, change_in_every_way};
use super::test_pair::{Pair, drain};
use crate::error::Error;
use crate::phase::Side;

/// One column of each type that goes in binary, and values at the edges of what they hold.
const ALL_TYPES: &[(&str, &str, &str)] = &[
    ("boolean", "true", "false"),
    ("bytea", "'\\x00ff5c'", "''"),
    ("\"char\"", "'x'", "'y'"),
    ("name", "'a name'", "'b'"),
    ("bigint", "9223372036854775807", "-9223372036854775808"),
    ("smallint", "32767", "-32768"),
    ("integer", "2147483647", "-1"),
    ("text", "E'tab\\t line\\n \\\\N ä'", "''"),
    ("oid", "4294967295", "0"),
    ("json", "'{\"a\": [1, null]}'", "'1'"),
    ("real", "'NaN'", "-0.1"),
    ("double precision", "'-Infinity'", "1e-300"),
    ("inet", "'10.1.2.3/8'", "'::1'"),
    ("smallint[]", "'{1,null,-3}'", "'{}'"),
    ("integer[]", "'{{1,2},{3,4}}'", "'[2:3]={5,6}'"),
    ("text[]", "array['a,b', null, '']", "'{}'"),
    ("bigint[]", "'{1}'", "null"),
    ("character(5)", "'ab'", "'abcde'"),
    ("character varying(9)", "'ab '", "''"),
    ("date", "'infinity'", "'4713-01-01 BC'"),
    ("time", "'24:00'", "'00:00:00.000001'"),
    ("timestamp(3)", "'1969-12-31 23:59:59.999'", "'-infinity'"),
    ("timestamptz", "'2024-02-29 12:00:00.123456+02'", "'294276-12-31 00:00+00'"),
    ("interval", "'-1 mon 2 days -00:00:01'", "'0'"),
    ("numeric", "'NaN'", "-12345678901234567890.000012300"),
    ("numeric(12,2)", "0.10", "-9999999999.99"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "null"),
    ("uuid[]", "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", "null"),
    ("jsonb[]", "array['{\"a\": 1}'::jsonb, null]", "'{}'"),
    ("json[]", "array['{\"a\": 1}'::json]", "'{}'"),
    ("point", "'(1.5,-0)'", "'(Infinity,1e-300)'"),
    ("lseg", "'[(1,2),(3,4)]'", "null"),
    ("path", "'[(1,2),(3,4)]'", "'((1,2),(3,4))'"),
    ("box", "'(3,4),(1,2)'", "null"),
    ("polygon", "'((1,2),(3,4),(5,6))'", "null"),
    ("line", "'{1,-1,0}'", "null"),
    ("circle", "'<(1,2),3>'", "null"),
    ("cidr", "'10.1.0.0/16'", "'::/0'"),
    ("cidr[]", "'{10.1.0.0/16}'", "null"),
    ("macaddr", "'08:00:2b:01:02:03'", "null"),
    ("macaddr8", "'08:00:2b:01:02:03:04:05'", "null"),
    ("money", "'-92233720368547758.08'", "1"),
    ("boolean[]", "'{t,null}'", "'{}'"),
    ("bytea[]", "array['\\x00ff'::bytea]", "'{}'"),
    ("character(3)[]", "'{ab}'", "'{}'"),
    ("character varying(9)[]", "'{ab ,\"c,d\"}'", "'{}'"),
    ("real[]", "'{NaN,-0}'", "'{}'"),
    ("double precision[]", "'{1e300}'", "'{}'"),
    ("oid[]", "'{4294967295}'", "'{}'"),
    ("inet[]", "'{::1,10.0.0.1/8}'", "'{}'"),
    ("timestamp(3)[]", "'{1969-12-31 23:59:59.999}'", "'{}'"),
    ("date[]", "'{infinity,4713-01-01 BC}'", "'{}'"),
    ("timestamptz[]", "'{2024-02-29 12:00:00.123456+02}'", "'{}'"),
    ("interval[]", "'{-1 mon 2 days}'", "'{}'"),
    ("numeric(9,2)[]", "'{1.10,NaN}'", "'{}'"),
    ("timetz", "'24:00:00-15:59'", "'00:00+05:30'"),
    ("bit(5)", "B'10110'", "B'00000'"),
    ("bit varying(9)", "B'101'", "B''"),
    ("pg_lsn", "'FFFFFFFF/FFFFFFFF'", "'0/0'"),
    ("tsvector", "'a:1A,3 ''b c'':2'", "''"),
    ("int4range", "'[1,5)'", "'empty'"),
    ("numrange", "'(1.50,]'", "'(,)'"),
    ("tsrange", "'[2024-01-01,infinity]'", "null"),
    ("tstzrange", "'(,2024-01-01 00:00+01]'", "null"),
    ("daterange", "'[2024-01-01,2024-02-01]'", "null"),
    ("int8range", "'[9223372036854775806,]'", "null"),
    ("int4multirange", "'{[1,2),[5,9)}'", "'{}'"),
    ("nummultirange", "'{(,1.5)}'", "null"),
    ("tsmultirange", "'{[2024-01-01,2024-01-02)}'", "null"),
    ("tstzmultirange", "'{[2024-01-01 00:00+00,)}'", "null"),
    ("datemultirange", "'{[2024-01-01,2024-01-03)}'", "null"),
    ("int8multirange", "'{(,)}'", "null"),
    ("jsonb", "'{\"b\": 1.50, \"a\": \"\\u00e4\"}'", "'[]'"),
];

/// What the log tells of rows that were copied.
fn copies(pair: &Pair) -> Vec<String> {
    let log = pair.server.log();
    let is_copy = |line: &&str| line.contains("copy pg_temp.") || line.contains("copy \"public\".");
    log.lines().filter(is_copy).map(str::to_owned).collect()
}

#[test]
fn values_of_all_types_of_every_server_go_in_binary() {
    let list = |texts: Vec<String>| texts.join(", ");
    let all = || ALL_TYPES.iter().enumerate();
    let columns = list(all().map(|(at, (name, ..))| format!("c{at} {name}")).collect());
    let tables = format!("create table t (id int primary key, {columns}); create table keyless ({columns})");
    let pair = Pair::new(&tables, &tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.target("alter database target set log_statement = 'all'");
    let first = list(all().map(|(_, (_, value, _))| (*value).to_owned()).collect());
    let second = list(all().map(|(_, (.., value))| (*value).to_owned()).collect());
    let assign = list(all().map(|(at, (.., value))| format!("c{at} = {value}")).collect());
    let none = list(all().map(|_| "null".to_owned()).collect());
    let mut writer = pair.client(Side::Source);
    let rows = format!(
        "insert into t values (1, {first}), (2, {second}), (3, {none}), (4, {first});
         insert into keyless values ({first}), ({second}), ({none})"
    );
    writer.batch_execute(&rows).unwrap();
    drain(&flow).unwrap();
    writer.batch_execute(&format!("update t set {assign} where id = 1; delete from t where id = 4")).unwrap();
    drain(&flow).unwrap();
    pair.assert_equal("select * from t");
    pair.assert_equal("select * from keyless");
    let copies = copies(&pair);
    assert!(copies.len() >= 4 && copies.iter().all(|copy| copy.contains("(format binary)")), "{copies:?}");
}

#[test]
fn what_has_no_binary_form_of_its_own_goes_as_text_from_there_on() {
    let tables = "create table a (id int primary key, v int); create domain place as point;
                  create table p (id int primary key, v place)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.source(
        "insert into a select g, g from generate_series(1, 300) g; insert into p select g, '(1,2)' from generate_series(1, 300) g;
         update a set v = v + 1; update p set v = '(3,4)' where id < 100",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!(applied.changes, 300 + 300 + 300 + 99, "each once");
    pair.assert_equal("select * from a");
    pair.assert_equal("select id, v::text from p");
}

#[test]
fn enums_go_in_binary_beside_other_types() {
    let source = "create type mood as enum ('sad', 'glad', 'ünsure'); create type size as enum ('s', 'it''s l');
                  create table m (id int primary key, v mood, w mood); create table s (id int primary key, v size, m mood)";
    // The target's type lacks a value, its other column is none of that type, and oids differ.
    let target = "create type other as enum ('x'); create type mood as enum ('glad', 'sad', 'ünsure'); create type size as enum ('s');
                  create table m (id int primary key, v mood, w mood); create table s (id int primary key, v text, m mood)";
    let pair = Pair::new(source, target);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.target("alter database target set log_statement = 'all'");
    pair.source(
        "insert into m select g, 'glad', null from generate_series(1, 300) g;
         insert into s select g, 'it''s l', 'ünsure' from generate_series(1, 300) g",
    );
    assert_eq!(drain(&flow).unwrap().changes, 300 + 300, "each once");
    pair.source(
        "update m set v = 'ünsure', w = 'sad' where id < 100; update s set v = 's' where id < 100; delete from m where id = 7",
    );
    assert_eq!(drain(&flow).unwrap().changes, 99 + 99 + 1, "each once");
    for table in ["m", "s"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
    let copies = copies(&pair);
    assert!(copies.len() >= 5 && copies.iter().all(|copy| copy.contains("(format binary)")), "{copies:?}");
}

#[test]
fn a_column_that_had_another_type_when_it_was_written_is_not_misread() {
    let tables = "create table t (id int primary key, v bigint)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.source("insert into t select g, g from generate_series(1, 300) g");
    let alter = "alter table t alter v type timestamptz using to_timestamp(v)";
    pair.source(alter);
    pair.target(alter);
    flow.mapping = pair.mapping(&[]).unwrap();
    // A bigint has as many bytes: taken for a time, it would be some time or other.
    let error = drain(&flow).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    assert_eq!(pair.rows(Side::Target, "select * from t"), Vec::<String>::new());
}

#[test]
fn parts_of_a_large_transaction_go_in_binary_or_not_at_all() {
    let tables = "create table t (id int primary key, v int)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    (flow.backlog, flow.batch_bytes) = (Some(0), 20_000);
    pair.target("alter database target set log_statement = 'all'");
    pair.source("insert into t select g, g from generate_series(1, 1000) g; update t set v = v + 1");
    drain(&flow).unwrap();
    pair.assert_equal("select * from t");
    let copies = copies(&pair);
    // Where the subscriber is slow to answer, parts grow.
    assert!(copies.len() > 2 && copies.iter().all(|copy| copy.contains("(format binary)")), "{copies:?}");
    // What is temporary leaves nothing behind, though parts of it were applied.
    pair.source(
        "begin; insert into t select g, g from generate_series(5001, 6000) g;
         select pg_logical_emit_message(true, 'pgdetour.scratch', ''); commit; update t set v = v + 1 where id < 5",
    );
    assert_eq!(drain(&flow).unwrap().skipped, 1);
    pair.target("insert into t select g, g from generate_series(5001, 6000) g");
    pair.assert_equal("select * from t");
    // The last part meets a row that is in its way.
    pair.target("insert into t values (2000, 0)");
    pair.source("insert into t select g, g from generate_series(1001, 2000) g");
    let conflict = drain(&flow).unwrap_err();
    assert_eq!(conflict.kind(), "insert_exists", "{conflict:?}");
    assert_eq!(pair.rows(Side::Target, "select count(*) from t"), ["(2001)"], "nothing of it is there");
    pair.target("delete from t where id = 2000");
    assert_eq!(drain(&flow).unwrap().changes, 1000);
    pair.assert_equal("select * from t");
}

#[test]
fn a_part_that_holds_no_value_is_committed_with_its_transaction() {
    let tables = "create table t (id int primary key, v text);
                  create table nothing (a int, b text); alter table nothing replica identity full";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    (flow.backlog, flow.batch_bytes) = (Some(0), 20_000);
    let values =
        |from: u32| format!("insert into t select g, 'v' from generate_series({from}, {}) g", from + 999);
    let nulls = "insert into nothing select null, null from generate_series(1, 3000)";
    // Neither form can be told of NULL alone: behind values, before them, and between them.
    let (first, second, third, fourth) = (values(1), values(1001), values(2001), values(3001));
    for parts in
        [format!("{first}; {nulls}"), format!("{nulls}; {second}"), format!("{third}; {nulls}; {fourth}")]
    {
        pair.source(&format!("begin; {parts}; commit"));
        pair.source("insert into nothing values (1, null)");
        drain(&flow).unwrap();
        pair.assert_equal("select * from t");
        pair.assert_equal("select a, b, count(*) from nothing group by 1, 2");
    }
}

#[test]
fn every_kind_of_change_arrives_in_binary() {
    let pair = Pair::new(TABLES, TABLES);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.target("alter database target set log_statement = 'all'");
    assert!(change_in_every_way(&pair, &mut flow).reached);
    let copies = copies(&pair);
    assert!(copies.iter().any(|copy| copy.contains("(format binary)")), "{copies:?}");
}

#[test]
fn a_flow_that_goes_in_binary_and_is_broken_again_and_again_is_exact() {
    let pair = Pair::new(TABLES, TABLES);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    break_again_and_again(&pair, &mut flow, "client backend");
}
