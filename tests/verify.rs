//! A difference of any kind is found, named by its row and column, and mended from the side that serves.

use serde_json::{Value, json};

use crate::support::detour::Detour;

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
    // Found equal before: not read again, though it has been damaged since.
    let detour = detour
        .run("verify")
        .with(&["--table", "public.orders"])
        .exits(0)
        .on_target("update public.orders set note = 'x' where id = 1")
        .run("verify")
        .with(&["--resume"])
        .exits(8);
    let tables = detour.last().at("/report/tables").to_string();
    assert!(
        tables
            .contains("\"table\":\"public.orders\",\"rows_source\":1000,\"rows_target\":1000,\"equal\":true"),
        "{tables}"
    );
    detour.run("verify").exits(8).message("2 tables differ").run("verify").with(&["--repair"]).exits(0);
}

impl Detour {
    fn holds_the_same_at_rest(self) -> Detour {
        self.at_rest(Detour::holds_the_same)
    }
}
