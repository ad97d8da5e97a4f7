//! The lint against catalogs of a real server.

use super::MapRule;
use super::lint::{Fate, TableLint, is_lossless, lint};
use crate::flow::apply::test_pair::{Pair, rule};
use crate::pg::catalog;
use crate::phase::Side;

fn lint_of(pair: &Pair, rules: &[MapRule]) -> Vec<TableLint> {
    let publisher = catalog::list_tables(&mut pair.session(Side::Source)).unwrap();
    let mut session = pair.session(Side::Target);
    let subscriber = catalog::list_tables(&mut session).unwrap();
    let defaulted = super::list_defaulted(&mut session).unwrap();
    let has_default = |table: &catalog::Table, column: &catalog::Column| {
        defaulted.contains(&(crate::flow::TableName::of(table), column.name.clone()))
    };
    let mut found = lint(&publisher, &subscriber, rules, &has_default);
    found.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    found
}

#[test]
fn each_column_is_told_and_a_mapping_is_proposed() {
    let pair = Pair::new(
        "create table a (id int primary key, n int, name text, fax text, price numeric, at timestamp);
         create table b (id int primary key, first text, last text);
         create table same (id int primary key);
         create table gone (x uuid, y xml, z point)",
        "create table a (id bigint primary key, n smallint, full_name text, must int not null, price numeric(8,2), has int not null default 1);
         create table people (id int primary key, first text, last text);
         create table same (id int primary key)",
    );
    let found = lint_of(&pair, &[]);
    let names: Vec<(&str, Option<&str>)> =
        found.iter().map(|table| (table.from.as_str(), table.to.as_deref())).collect();
    assert_eq!(
        names,
        [
            ("public.a", Some("public.a")),
            ("public.b", None),
            ("public.gone", None),
            ("public.same", Some("public.same"))
        ]
    );
    let told: Vec<(&str, Fate, Option<bool>)> = found[0]
        .columns
        .iter()
        .map(|column| (column.column.as_str(), column.fate, column.lossless))
        .collect();
    assert_eq!(
        told,
        [
            ("id", Fate::Converted, Some(true)),
            ("n", Fate::Converted, Some(false)),
            ("name", Fate::Impossible, None),
            ("fax", Fate::Impossible, None),
            ("price", Fate::Converted, Some(false)),
            ("at", Fate::Impossible, None),
        ]
    );
    assert_eq!(found[0].without_value, ["must"]);
    assert_eq!(
        found[0].proposal.as_deref(),
        Some(
            "[[map]]\nfrom = \"public.a\"\nto = \"public.a\"\ncolumns = { full_name = \"name\" }\ndrop = [\"fax\", \"at\"]\n\
             # must is NOT NULL and needs an expression in columns\n"
        )
    );
    assert_eq!(
        found[1].proposal.as_deref(),
        Some("[[map]]\nfrom = \"public.b\"\nto = \"public.people\"\n"),
        "proposed, but it has no place until somebody says so"
    );
    assert_eq!((found[2].proposal.as_deref(), found[3].proposal.as_deref()), (None, None));

    let map = [rule(
        "public.a",
        "public.a",
        &[],
        &[("full_name", "upper(name)"), ("must", "1"), ("n", "n / 2")],
        &["fax", "at"],
    )];
    let found = lint_of(&pair, &map);
    let fates: Vec<Fate> = found[0].columns.iter().map(|column| column.fate).collect();
    let (converted, dropped) = (Fate::Converted, Fate::Dropped);
    assert_eq!(fates, [converted, converted, converted, dropped, converted, dropped]);
    assert_eq!(found[0].columns[2].lossless, None, "an expression decides");
    assert!(found[0].without_value.is_empty() && found[0].proposal.is_none(), "{:?}", found[0]);
}

#[test]
fn types_lose_values_or_do_not() {
    for (from, to, lossless) in [
        ("integer", "bigint", true),
        ("bigint", "integer", false),
        ("character varying(40)", "character varying(50)", true),
        ("character varying(40)", "character varying(9)", false),
        ("character varying", "character varying(9)", false),
        ("character varying(9)", "text", true),
        ("character(9)", "text", false),
        ("json", "jsonb", false),
        ("timestamp without time zone", "timestamp with time zone", false),
        ("bigint", "double precision", false),
        ("integer", "numeric", true),
        ("integer", "numeric(3,0)", false),
        ("integer", "numeric(10,0)", true),
        ("bigint", "numeric(20,2)", false),
        ("numeric(10,2)", "numeric(12,3)", true),
        ("numeric(10,2)", "numeric(10,3)", false),
        ("numeric(12,3)", "numeric(12,2)", false),
        ("numeric", "numeric(12,3)", false),
        ("public.mood", "text", true),
    ] {
        assert_eq!(is_lossless(from, to), lossless, "{from} to {to}");
    }
}
