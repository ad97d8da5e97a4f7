//! A difference of any kind is found, named by its row and column, and mended from the side that serves.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::detour::Detour;
use crate::support::wait::until;

/// Generous: the machine may have much else to do.
const LIMIT: Duration = Duration::from_secs(600);

const KINDS: &str = "
create collation public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
create table public.kinds (
    id int primary key, place int unique, note text, at timestamptz, number float8, amount numeric, whole jsonb,
    label text collate public.loose, clock timetz
);
insert into public.kinds
select n, n, 'n' || n, '2020-01-01 00:00+00'::timestamptz + n * '1 hour'::interval, 0, 1.0, '{}', 'label', '12:00+00'
from generate_series(1, 2000) as n;
update public.kinds set note = null where id = 8;
update public.kinds set note = E'caf\u{e9}' where id = 6;
create table public.keyless (a int, b text);
alter table public.keyless replica identity full;
insert into public.keyless values (1, 'x'), (1, 'x'), (2, 'y'), (null, null);
";

/// Each with the row that it damages and the column that must be named.
const DAMAGE: [(&str, i64, &str, &str); 13] = [
    ("update public.kinds set note = 'changed' where id = 1", 1, "different", "note"),
    ("delete from public.kinds where id = 2", 2, "missing_on_target", ""),
    ("insert into public.kinds (id, note) values (3000, 'extra')", 3000, "missing_on_source", ""),
    (
        "update public.kinds set place = -place where id in (3, 4); update public.kinds set place = case place when -3 then 4 else 3 end where place < 0",
        3,
        "different",
        "place",
    ),
    ("update public.kinds set note = note || ' ' where id = 5", 5, "different", "note"),
    ("update public.kinds set note = E'cafe\u{301}' where id = 6", 6, "different", "note"),
    ("update public.kinds set at = at - '1 hour'::interval where id = 7", 7, "different", "at"),
    ("update public.kinds set note = '' where id = 8", 8, "different", "note"),
    ("update public.kinds set number = '-0' where id = 9", 9, "different", "number"),
    ("update public.kinds set amount = 1.00 where id = 10", 10, "different", "amount"),
    ("update public.kinds set note = 'null' where id = 11", 11, "different", "note"),
    // Equal by its collation, and the same moment in another zone.
    ("update public.kinds set label = 'LABEL' where id = 12", 12, "different", "label"),
    ("update public.kinds set clock = '13:00+01' where id = 13", 13, "different", "clock"),
];

#[test]
fn every_kind_of_damage_is_found_named_and_mended_under_traffic() {
    // Settings that change what values look like, and not what they are.
    let mut detour = Detour::new()
        .on_target("alter database shop set timezone = 'Asia/Kathmandu'; alter database shop set datestyle = 'SQL, DMY'")
        .on_source(KINDS)
        .writing()
        .mirrored()
        .run("verify")
        .exits(0);
    for (statement, ..) in DAMAGE {
        detour = detour.on_target(statement);
    }
    detour = detour
        .on_target(
            "delete from public.keyless where ctid = (select min(ctid) from public.keyless where a = 1)",
        )
        .on_target("insert into public.keyless values (9, 'extra')")
        .run("verify")
        .exits(8)
        .kind("differs");
    let tables = detour.last().at("/report/tables").as_array().expect("tables").clone();
    let of = |name: &str| -> Value {
        tables
            .iter()
            .find(|table| table["table"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("no {name}: {tables:?}"))
    };
    let kinds = of("public.kinds");
    assert_eq!(
        (&kinds["different"], &kinds["missing_on_source"], &kinds["missing_on_target"]),
        (&json!(12), &json!(1), &json!(1)),
        "{kinds}"
    );
    for (statement, id, state, column) in DAMAGE {
        let rows = kinds["rows"].as_array().expect("rows");
        let found = rows.iter().find(|row| row["key"]["id"] == json!(id.to_string()));
        let found = found.unwrap_or_else(|| panic!("row {id} is not named: {kinds}"));
        assert_eq!(found["state"], state, "{statement}");
        let columns = if column.is_empty() { json!([]) } else { json!([column]) };
        assert_eq!(found["columns"], columns, "{statement}");
    }
    let keyless = of("public.keyless");
    assert_eq!(
        (&keyless["equal"], &keyless["missing_on_source"], &keyless["different"]),
        (&json!(false), &json!(1), &json!(1))
    );
    assert!(
        tables.iter().filter(|table| table["equal"] == true).count() >= 2,
        "the others are equal: {tables:?}"
    );

    let source = |detour: &Detour| -> String {
        detour
            .source
            .value("select md5(string_agg(k::text || xmin::text, ',' order by id)) from public.kinds as k")
    };
    let before = source(&detour);
    let detour = detour.run("verify").with(&["--repair", "--dry-run"]).exits(8).changed(false);
    let planned = detour.last().at("/report/steps/0/actions").to_string();
    assert!(planned.contains("public.kinds: ") && planned.contains("as on the source"), "{planned}");
    let detour = detour
        .run("verify")
        .with(&["--repair"])
        .unconfirmed()
        .exits(2)
        .kind("usage")
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .changed(true)
        .reports("/equal", true);
    let repaired = |name: &str| {
        let tables = detour.last().at("/report/tables").as_array().expect("tables");
        tables.iter().find(|table| table["table"] == name).map(|table| table["repaired"].clone())
    };
    assert_eq!(repaired("public.kinds"), Some(json!(14)));
    assert_eq!(source(&detour), before, "the serving side is as it was");
    detour
        .run("verify")
        .exits(0)
        .changed(false)
        .on_target("alter database shop reset timezone; alter database shop reset datestyle")
        .holds_the_same_at_rest()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn while_detoured_the_source_is_mended_through_the_mapping() {
    let detour = Detour::new()
        .table("orders")
        .on_source(KINDS)
        .writing()
        .detoured()
        .on_source(
            "alter table public.kinds rename note to remark; alter table public.kinds alter amount type text",
        )
        .configured(
            "[[map]]\nfrom = \"public.kinds\"\nto = \"public.kinds\"\n\
             columns = { remark = \"upper(note)\", amount = \"amount::text\" }\ndrop = [\"note\"]",
        )
        .on_source("update public.kinds set remark = upper(remark)")
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .on_source(
            "update public.kinds set remark = 'x' where id = 1; delete from public.kinds where id = 2;
             insert into public.kinds (id, remark) values (3000, 'extra');
             update public.orders set note = 'damaged' where id between 5 and 8",
        )
        .on_target("update public.kinds set note = 'newer' where id = 1")
        .run("verify")
        .exits(8)
        .at_rest(|detour| {
            detour
                .run("verify")
                .with(&["--repair"])
                .exits(0)
                .reports("/equal", true)
                .run("replay")
                .exits(0)
                .run("verify")
                .exits(0)
        });
    let remark: String = detour.source.value("select remark from public.kinds where id = 1");
    assert_eq!(remark, "NEWER");
    assert_eq!(detour.source.value::<String>("select amount from public.kinds where id = 2"), "1.0");
    detour.run("cutback").exits(0).no_client_error().no_row_lost();
}

#[test]
fn a_sample_reads_a_part_and_an_interrupted_comparison_goes_on() {
    let detour = Detour::new().table("orders").table("users").mirrored();
    let detour = detour
        .on_target("update public.users set note = note || '!'")
        .run("verify")
        .with(&["--table", "public.orders"])
        .exits(0);
    let detour = detour.run("verify").with(&["--table", "public.users", "--sample", "50%"]).exits(8);
    let rows = detour.last().at("/report/tables/0/rows_source").as_i64().expect("a count");
    assert!(rows > 350 && rows < 650, "about half of 1000: {rows}");
    let different = detour.last().at("/report/tables/0/different").as_i64();
    assert_eq!(different, Some(rows), "all that were read differ");
    // A comparison that has come to its end is over: what is damaged since is found.
    let detour = detour
        .run("verify")
        .with(&["--table", "public.orders"])
        .exits(0)
        .on_target("update public.orders set note = 'x' where id = 1")
        .run("verify")
        .with(&["--resume"])
        .exits(8)
        .message("2 tables differ");
    detour.run("verify").with(&["--repair"]).exits(0);
}

const MAPPED: &str = "
create table public.accounts (id int primary key, kind text, name text not null);
insert into public.accounts
select n, case n % 3 when 0 then 'company' when 1 then 'person' end, 'Account ' || n from generate_series(1, 900) as n;
create table public.cats (id int primary key, name text not null, lives int);
insert into public.cats select n, 'Cat ' || n, 9 from generate_series(1, 300) as n;
create table public.dogs (id int primary key, name text not null, tricks text);
insert into public.dogs select n, 'Dog ' || n, 'sit' from generate_series(1, 300) as n;
create table public.sales (id int primary key, country text not null, amount numeric not null);
insert into public.sales select n, 'Germany', n from generate_series(1, 300) as n";

/// A table split by a condition, two united, and one whose values a function of the source gives.
const MAINTENANCE: &str = "
create table public.companies as select id, name from public.accounts where kind = 'company';
create table public.persons as select id, upper(name) as name from public.accounts where kind = 'person';
alter table public.companies add primary key (id);
alter table public.persons add primary key (id);
drop table public.accounts;
create table public.pets (kind text, id int, name text not null, lives int, tricks text, primary key (kind, id));
insert into public.pets (kind, id, name, lives) select 'cat', id, name, lives from public.cats;
insert into public.pets (kind, id, name, tricks) select 'dog', id, name, tricks from public.dogs;
drop table public.cats, public.dogs;
create function public.with_tax(amount numeric, country text) returns numeric language sql immutable
    return amount * case country when 'Germany' then 1.19 else 1.2 end;
alter table public.sales add gross numeric;
update public.sales set gross = public.with_tax(amount, country);
alter table public.sales drop country";

const MAPS: &str = r#"
[[map]]
from = "public.accounts"
to = "public.companies"
where = "kind = 'company'"
drop = ["kind"]
[[map]]
from = "public.accounts"
to = "public.persons"
where = "kind = 'person'"
columns = { name = "upper(name)" }
[[map]]
from = "public.cats"
to = "public.pets"
key = { kind = "'cat'", id = "id" }
columns = { tricks = "null" }
[[map]]
from = "public.dogs"
to = "public.pets"
key = { kind = "'dog'", id = "id" }
columns = { lives = "null" }
[[map]]
from = "public.sales"
to = "public.sales"
columns = { gross = "public.with_tax(amount, country)" }
"#;

#[test]
fn tables_that_come_by_conditions_from_several_or_through_functions_are_sampled_and_mended() {
    let detour = Detour::new()
        .on_source(MAPPED)
        .detoured()
        .on_source(MAINTENANCE)
        .configured(MAPS)
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .on_source(
            "update public.companies set name = 'x' where id = 3; delete from public.companies where id = 6;
             insert into public.companies values (5000, 'extra');
             delete from public.persons where id = 1; update public.persons set name = lower(name) where id = 4;
             update public.pets set lives = 1 where kind = 'cat' and id = 1;
             delete from public.pets where kind = 'dog' and id = 2; insert into public.pets values ('cow', 1, 'Cow');
             update public.sales set gross = 0 where id = 1; delete from public.sales where id = 2;
             insert into public.sales values (5000, 1, 1)",
        )
        .run("verify")
        .exits(8)
        .message("4 tables differ");
    for (table, key, state, columns) in [
        ("public.companies", json!({"id": "3"}), "different", json!(["name"])),
        ("public.companies", json!({"id": "5000"}), "missing_on_target", json!([])),
        ("public.persons", json!({"id": "1"}), "missing_on_source", json!([])),
        ("public.persons", json!({"id": "4"}), "different", json!(["name"])),
        ("public.pets", json!({"kind": "cat", "id": "1"}), "different", json!(["lives"])),
        ("public.pets", json!({"kind": "dog", "id": "2"}), "missing_on_source", json!([])),
        ("public.sales", json!({"id": "1"}), "different", json!(["gross"])),
        ("public.sales", json!({"id": "2"}), "missing_on_source", json!([])),
    ] {
        let tables = detour.last().at("/report/tables").as_array().expect("tables");
        let of = tables.iter().find(|found| found["table"] == table).expect("it is compared");
        let rows = of["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["key"] == key);
        let row = row.unwrap_or_else(|| panic!("{table} {key} is not named: {of}"));
        assert_eq!((&row["state"], &row["columns"]), (&json!(state), &columns), "{table} {key}");
    }
    let detour = detour.run("verify").with(&["--repair"]).exits(0).reports("/equal", true);
    let repaired: u64 = detour
        .last()
        .at("/report/tables")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|table| table["repaired"].as_u64())
        .sum();
    assert_eq!(repaired, 11);
    let mended: String = detour.source.value(
        "select concat_ws(' ', (select name from public.companies where id = 3), (select count(*) from public.companies),
             (select name from public.persons where id = 4), (select count(*) from public.persons),
             (select lives from public.pets where kind = 'cat' and id = 1), (select tricks from public.pets where kind = 'dog' and id = 2),
             (select count(*) from public.pets), (select gross from public.sales where id = 1), (select amount from public.sales where id = 2),
             (select count(*) from public.sales))",
    );
    assert_eq!(mended, "Account 3 300 ACCOUNT 4 300 9 sit 600 1.19 2 300");
    let detour = detour.run("verify").with(&["--sample", "50%"]).exits(0).reports("/equal", true);
    for table in detour.last().at("/report/tables").as_array().expect("tables") {
        let all = if table["table"] == "public.pets" { 600 } else { 300 };
        let (source, target) = (table["rows_source"].as_i64(), table["rows_target"].as_i64());
        assert_eq!(source, target, "{table}");
        if ["public.companies", "public.persons", "public.pets", "public.sales"]
            .iter()
            .any(|name| table["table"] == *name)
        {
            let read = source.expect("a count");
            assert!(read > all / 4 && read < all * 3 / 4, "about half of {all}: {table}");
        }
    }
    detour.run("cutback").exits(0);
}

const JOINED: &str = "
create table public.users (id int primary key, name text not null);
insert into public.users select n, 'User ' || n from generate_series(1, 400) as n;
create table public.profiles (
    user_id int primary key references public.users on delete cascade, bio text, kind text not null
);
insert into public.profiles select n, 'Bio ' || n, 'plain' from generate_series(1, 200) as n;
create table public.phones (user_id int primary key references public.users on delete cascade, phone text);
insert into public.phones select n, '0' || n from generate_series(101, 300) as n";

/// Three tables become one. Whether a profile is there is told by a default, which the source alone knows.
const JOIN: &str = "
create table public.people (id int primary key, name text not null, bio text, kind text not null default 'none', phone text);
insert into public.people
select id, name, bio, coalesce(kind, 'none'), phone
from public.users as u left join public.profiles as p on p.user_id = u.id left join public.phones as f on f.user_id = u.id;
drop table public.phones, public.profiles, public.users";

const JOINS: &str = r#"
[[map]]
from = "public.users"
to = "public.people"
[[map]]
from = "public.profiles"
to = "public.people"
joins = true
key = { id = "user_id" }
[[map]]
from = "public.phones"
to = "public.people"
joins = true
key = { id = "user_id" }
"#;

#[test]
fn joined_rows_are_compared_with_each_table_that_fills_them_and_repaired_by_nobody() {
    let of_people = ["--table", "public.people"];
    let detour = Detour::new()
        .on_source(JOINED)
        .detoured()
        .on_source(JOIN)
        .configured(JOINS)
        .run("replay")
        .exits(0)
        .run("verify")
        .with(&of_people)
        .exits(0)
        .reports("/tables/0/rows_source", 400)
        .reports("/tables/0/rows_target", 400)
        .run("verify")
        .with(&["--table", "public.people", "--sample", "50%"])
        .exits(0)
        .on_source(
            "update public.people set name = 'x' where id = 1; update public.people set bio = 'x' where id = 2;
             update public.people set kind = 'x' where id = 400; update public.people set phone = null where id = 300",
        )
        .run("verify")
        .with(&of_people)
        .exits(8);
    let found = |detour: &Detour| -> Vec<(String, String, String)> {
        let rows = detour.last().at("/report/tables/0/rows").as_array().expect("rows");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.iter()
            .map(|row| (text(&row["key"]["id"]), text(&row["state"]), row["columns"].to_string()))
            .collect()
    };
    let row = |id: &str, state: &str, columns: &str| (id.to_owned(), state.to_owned(), columns.to_owned());
    let expected = [
        row("1", "different", "[\"name\"]"),
        row("300", "missing_on_source", "[]"),
        row("2", "different", "[\"bio\"]"),
        row("400", "missing_on_target", "[]"),
    ];
    assert_eq!(found(&detour), expected);
    let detour = detour.run("verify").with(&["--table", "public.people", "--repair"]).exits(8);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("its rows are joined from several tables"), "{warnings}");
    assert_eq!(found(&detour), expected, "nothing was changed");
    // Before anything is given up of what was recorded.
    let detour = detour.run("capture").with(&["--anew"]).exits(3).kind("cannot_repair").changed(false);
    assert!(detour.last().text_at("/error/message").contains("public.people"));
    detour.on_target("update public.users set name = 'recorded' where id = 3").run("replay").exits(0);
}

#[test]
fn an_interrupted_comparison_of_a_large_table_goes_on_range_by_range() {
    let detour = Detour::new()
        .on_source(
            "create table public.large (id int primary key, filler text);
             insert into public.large select n, repeat(md5(n::text), 20) from generate_series(1, 60000) as n",
        )
        .configured("[mirror]\njobs = 2")
        .mirrored()
        .run("verify")
        .with(&["--table", "public.large"])
        .fault("after:note what is compared")
        .dies()
        // In the range that was noted, be it the source's or the target's.
        .on_source("delete from public.large where id = 1");
    until("the deletion arrives", Duration::from_secs(30), || {
        let left: i64 = detour.target.value("select count(*) from public.large where id = 1");
        (left == 0).then_some(())
    });
    let detour = detour
        .run("verify")
        .with(&["--table", "public.large", "--resume"])
        .exits(0)
        .reports("/tables/0/equal", true);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("all or a part of 1 table, counts as it was then"), "{warnings}");
    let count = |side: &str| detour.last().at(&format!("/report/tables/0/rows_{side}")).as_i64();
    let mut counts = [count("source"), count("target")];
    counts.sort_unstable();
    assert_eq!(counts, [Some(59999), Some(60000)], "one range was not read again");
    // A new comparison reads all of it.
    let detour = detour
        .run("verify")
        .with(&["--table", "public.large"])
        .exits(0)
        .reports("/equal", true)
        .reports("/tables/0/rows_source", 59999)
        .reports("/tables/0/rows_target", 59999);
    let waiting = detour.start_until("verify", &["--table", "public.large"], "after:note what is compared");
    for server in [&detour.source, &detour.target] {
        server.exec(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'pgdetour verify' and state = 'idle in transaction'",
        );
    }
    detour.ended(waiting.let_go(), 5).message("keep the snapshot under which tables are compared");
}

impl Detour {
    fn holds_the_same_at_rest(self) -> Detour {
        self.at_rest(Detour::holds_the_same)
    }
}

/// A row that the mapping's expression fails at, and functions that find nothing on an empty path.
#[test]
fn a_table_whose_expressions_fail_is_named_and_the_others_are_compared() {
    let detour = Detour::new()
        .on_source(
            "create table public.low (id int primary key, f text);
             create table public.country (cc text primary key, cid int);
             insert into public.country values ('DE', 49);
             create table public.cust (id int primary key, cc text);
             create table public.checked (id int primary key, cc text);
             grant all on all tables in schema public to shop_app",
        )
        .table("orders")
        .detoured()
        .on_source(
            "alter table public.low alter f type int using f::int;
             create function public.cid_of(text) returns int language plpgsql stable as
                 $$ begin return (select cid from country where cc = $1); end $$;
             create function public.known(text) returns boolean language plpgsql stable as
                 $$ begin return exists (select from country where cc = $1); end $$;
             alter table public.cust add cid int;
             alter table public.cust drop cc;
             alter table public.checked add check (public.known(cc))",
        )
        .configured(
            "[[map]]\nfrom = \"public.low\"\nto = \"public.low\"\ncolumns = { f = \"f::int\" }\n\
             [[map]]\nfrom = \"public.cust\"\nto = \"public.cust\"\ncolumns = { cid = \"public.cid_of(cc)\" }",
        )
        .application("insert into public.cust values (1, 'DE'); insert into public.low values (1, '1')")
        .run("verify")
        .exits(8)
        .kind("not_compared")
        .message("1 table differs, 1 table could not be compared")
        .hint("Let function public.cid_of(text) name what it uses with its schema");
    assert_eq!(table(&detour, "public.cust")["failure"]["on"], "source");
    assert_eq!(table(&detour, "public.low")["missing_on_source"], json!(1));
    assert_eq!(table(&detour, "public.orders")["equal"], json!(true));

    let detour = detour
        .application("insert into public.checked values (1, 'DE')")
        .run("replay")
        .with(&["--rehearse"])
        .exits(8)
        .kind("rehearsal")
        .changed(false)
        .hint("sessions of pgdetour have an empty one");
    let failed = detour.last().at("/report/failures").as_array().cloned().unwrap_or_default();
    let mut named: Vec<&str> = failed.iter().filter_map(|failure| failure["table"].as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ["public.checked", "public.cust"], "{}", detour.last().describe());

    let detour = detour.run("replay").exits(8).hint("Let function public.cid_of(text) name");
    assert_eq!(detour.last().text_at("/error/sqlstate"), "42P01", "{}", detour.last().describe());
    let detour = detour
        .on_source(
            "alter function public.cid_of(text) set search_path = public;
             alter function public.known(text) set search_path = public",
        )
        .run("replay")
        .with(&["--rehearse"])
        .exits(0)
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .application("insert into public.low values (2, 'secret'), (3, '3')")
        .run("verify")
        .exits(8)
        .kind("not_compared")
        .message("1 table could not be compared")
        .hint("pgdetour replay --rehearse, which names the rows");
    assert_eq!(detour.last().text_at("/error/sqlstate"), "22P02", "{}", detour.last().describe());
    assert_eq!(table(&detour, "public.low")["failure"]["sqlstate"], "22P02");
    assert_eq!(table(&detour, "public.cust")["equal"], json!(true));
    assert!(!detour.last().describe().contains("secret"), "{}", detour.last().describe());
}

/// What the latest answer has of a table.
fn table(detour: &Detour, name: &str) -> Value {
    let tables = detour.last().at("/report/tables").as_array().cloned().unwrap_or_default();
    let found = tables.into_iter().find(|table| table["table"] == *name);
    found.unwrap_or_else(|| panic!("no {name}: {}", detour.last().describe()))
}

/// Two keys that a collation takes for the same are two keys all the same.
#[test]
fn a_key_that_differs_only_within_its_collation_is_repaired() {
    let detour = Detour::new()
        .on_source(
            "create collation public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
             create table public.codes (code text collate public.loose primary key, v text);
             insert into public.codes values ('abc', 'first'), ('x', 'second')",
        )
        .mirrored()
        .on_target("update public.codes set code = 'ABC' where code = 'abc'")
        .run("verify")
        .exits(8)
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .reports("/equal", true);
    let there = |detour: &Detour| {
        detour.target.value::<String>("select string_agg(code, ',' order by v) from public.codes")
    };
    assert_eq!(there(&detour), "abc,x");
}

#[test]
fn xml_is_compared_as_its_output_shows_it() {
    let detour = Detour::new()
        .on_source(
            r#"create table public.docs (id int primary key, x xml);
               insert into public.docs values (1, '<?xml version="1.0"?><b/>'),
                   (2, '<?xml version="1.0" encoding="UTF-8"?><b/>'), (3, '<?xml version="1.0" standalone="yes"?><b/>'), (4, null)"#,
        )
        .mirrored()
        .run("verify")
        .exits(0)
        .on_target("update public.docs set x = '<c/>' where id = 3")
        .run("verify")
        .exits(8);
    assert_eq!(table(&detour, "public.docs")["rows"].as_array().map(Vec::len), Some(1));
    detour.run("verify").with(&["--repair"]).exits(0).reports("/equal", true);
}

#[test]
fn a_char_beyond_ascii_is_read_as_its_octal_form() {
    let detour = Detour::new()
        .on_source(
            r#"create table public.codes (id int primary key, c "char");
               insert into public.codes values (1, 'x'), (2, (-1)::int::"char"), (3, null)"#,
        )
        .mirrored()
        .run("verify")
        .exits(0)
        .on_target(r#"update public.codes set c = (-2)::int::"char" where id = 2"#)
        .run("verify")
        .exits(8);
    assert_eq!(table(&detour, "public.codes")["rows"][0]["key"]["id"], "2");
}

#[test]
fn what_no_run_carries_yet_is_told_from_what_somebody_changed() {
    Detour::new()
        .on_source("create table public.orders (id int primary key)")
        .configured("[mirror]\ncarrier = \"pgdetour\"")
        .mirrored()
        .on_source("insert into public.orders values (1)")
        .run("verify")
        .exits(8)
        .hint("run pgdetour mirror, then verify again")
        .run("mirror")
        .exits(0)
        .run("verify")
        .exits(0);
}

#[test]
fn a_row_without_a_key_is_named_by_itself() {
    let detour = Detour::new()
        .on_source(
            "create table public.loose (a int, b text); alter table public.loose replica identity full;
             insert into public.loose values (1, 'one')",
        )
        .mirrored()
        .on_target("insert into public.loose values (9, 'there'), (10, repeat('x', 1000))")
        .run("verify")
        .exits(8);
    let rows = table(&detour, "public.loose")["rows"].clone();
    let named: Vec<&str> =
        rows.as_array().expect("rows").iter().filter_map(|row| row["key"]["row"].as_str()).collect();
    assert!(named.contains(&"(9,there)"), "{rows}");
    assert!(named.iter().any(|row| row.starts_with("(10,xxx") && row.ends_with("x…")), "{rows}");
}

#[test]
fn a_pattern_that_no_table_matches_is_named_and_so_is_a_table_that_is_missing() {
    let mut detour = Detour::new().table("orders").table("users").mirrored();
    for tables in [&["--table", "public.order"][..], &["--table", "public.orders", "--table", "public.order"]]
    {
        detour = detour.run("verify").with(tables).exits(2).message("matches \"public.order\"");
    }
    detour = detour
        .run("verify")
        .with(&["--table", "public.o*"])
        .exits(0)
        .reports("/tables/0/table", "public.orders")
        .on_target("drop table public.orders cascade");
    for more in [&[][..], &["--repair"], &["--table", "public.orders"]] {
        detour = detour
            .run("verify")
            .with(more)
            .exits(8)
            .kind("not_compared")
            .hint("run pgdetour clean and mirror again");
        let said = detour.last().text_at("/error/detail");
        assert!(said.contains("public.orders: the table is not there any more (SQLSTATE 42P01"), "{said}");
        assert_eq!(table(&detour, "public.orders")["equal"], false);
    }
    let detour = detour.run("verify").with(&["--table", "public.users"]).exits(0);
    // Gone on both sides, nothing differs.
    detour.on_source("drop table public.orders cascade").run("verify").exits(0);
}

/// What is on its way home is no difference, and what somebody has changed there is one, while users write.
#[test]
fn beside_a_replay_that_follows_what_users_write_is_no_difference() {
    let detour = Detour::new()
        .table("orders")
        .on_source(
            "create table public.kept (id int primary key, v text); grant all on public.kept to shop_app;
             insert into public.kept select n, 'v' from generate_series(1, 100) as n",
        )
        .detoured()
        .writing();
    let follower = detour.start("replay", &["--follow"]);
    detour.target.exec("update public.kept set v = 'home' where id = 1");
    let arrives = |detour: &Detour, query: &str| {
        until("the change has arrived", LIMIT, || detour.source.value::<bool>(query).then_some(()));
    };
    arrives(&detour, "select exists (select from public.kept where v = 'home')");
    let detour = detour
        .application_goes_on()
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .on_source("update public.kept set v = 'damaged' where id = 5")
        .application_goes_on()
        .run("verify")
        .exits(8)
        .kind("differs")
        .message("1 table differs")
        .hint("end pgdetour replay --follow")
        .run("verify")
        .with(&["--repair"])
        .exits(4);
    follower.signal(Signal::TERM);
    let mut detour = detour
        .ended(follower, 0)
        .at_rest(|detour| detour.run("verify").with(&["--repair"]).exits(0).reports("/equal", true));

    // It comes to a stand, and to an end, with changes that have not come home.
    let follower = detour.start("replay", &["--follow"]);
    detour.target.exec("update public.kept set v = 'home' where id = 2");
    arrives(&detour, "select count(*) = 2 from public.kept where v = 'home'");
    follower.signal(Signal::STOP);
    detour.target.exec("update public.kept set v = 'on its way' where id = 3");
    let verify = detour.start("verify", &[]);
    until("a marker waits", LIMIT, || {
        detour
            .target
            .value::<bool>("select exists (select from pgdetour.marker where flow = 'replay')")
            .then_some(())
    });
    follower.signal(Signal::KILL);
    let killed = follower.end();
    assert!(killed.was_killed(), "{}", killed.describe());
    detour = detour.ended(verify, 3).kind("replay_ended");
    detour
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .no_client_error()
        .no_row_lost();
}
