//! The lint against catalogs of a real server.

use super::MapRule;
use super::doubts::Keys;
use super::lint::{Fate, TableLint, add_doubts, add_refusals, lint};
use crate::error::Error;
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
    if let Err(Error::ChecksFailed { findings }) = pair.mapping(rules) {
        add_refusals(&mut found, &publisher, &findings);
    }
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
            "[[map]]\nfrom = \"public.a\"\nto = \"public.a\"\ncolumns = { full_name = \"name\" }\n\
             # drop = [\"fax\", \"at\"] would lose these values, while \"must\", \"has\" get none: say in columns what becomes of them\n\
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
fn leaving_values_out_is_not_proposed_while_a_new_column_gets_none() {
    let pair = Pair::new(
        "create table retyped (id int primary key, amt numeric, note text);
         create table shorter (id int primary key, fax text, a int, b int generated always as (a) stored)",
        "create table retyped (id int primary key, note text, cents bigint);
         create table shorter (id int primary key, a int, b int generated always as (a) stored,
             c int generated always as (a) stored)",
    );
    let proposal = |table: &str, rules: &[MapRule]| {
        let lints = lint_of(&pair, rules);
        let (_, proposal, refused) = told(&lints, table);
        (proposal.map(str::to_owned), refused.len())
    };
    let (text, refused) = proposal("public.retyped", &[]);
    let text = text.unwrap();
    assert_eq!(
        text.lines().skip(3).collect::<Vec<_>>(),
        [
            "# drop = [\"amt\"] would lose these values, while \"cents\" gets none: say in columns what becomes of them"
        ]
    );
    assert_eq!(refused, 1);
    let pasted: toml::Table = text.parse().unwrap();
    assert!(!pasted["map"][0].as_table().unwrap().contains_key("drop"));
    let pasted = [rule("public.retyped", "public.retyped", &[], &[], &[])];
    assert_eq!(proposal("public.retyped", &pasted).1, 1, "pasted as it is, it is refused as before");

    // What the table computes itself is not in want of a value.
    let (text, _) = proposal("public.shorter", &[]);
    assert!(text.unwrap().ends_with("\ndrop = [\"fax\"]\n"));
}

#[test]
fn a_new_name_is_proposed_where_the_place_of_the_column_tells() {
    let old =
        "create table t (id int primary key, lvl_code text, name_first text, price_cents int, flag text);
        create table later (id int primary key, a text, b text, c text, d int)";
    let pair = Pair::new(
        old,
        // One that had lost a column before has other numbers.
        &format!(
            "{old}; drop table later; create table later (id int primary key, lost int, a text, b text, c text, d int);
             alter table later drop lost;
             alter table t drop lvl_code, drop price_cents, drop flag; alter table t rename name_first to title;
             alter table later rename b to bb"
        ),
    );
    let proposals = |pair: &Pair| -> Vec<String> {
        lint_of(pair, &[]).into_iter().filter_map(|table| table.proposal).collect()
    };
    let found = proposals(&pair);
    assert!(found[0].contains("columns = { bb = \"b\" }"), "{}", found[0]);
    assert!(found[1].contains("columns = { title = \"name_first\" }"), "{}", found[1]);
    assert!(found[1].contains("drop = [\"lvl_code\", \"price_cents\", \"flag\"]"), "{}", found[1]);
    pair.target("alter table later drop a");
    let found = proposals(&pair);
    assert!(!found[0].contains("columns ="), "{}", found[0]);
    assert!(found[0].contains("\"bb\" gets none: say in columns"), "{}", found[0]);
}

#[test]
fn what_is_proposed_can_be_pasted_whatever_the_names_are() {
    let pair = Pair::new(
        "create table \"Parents\" (id int primary key, \"It's\" text, plain text)",
        "create table \"Parents\" (id int primary key, \"New \"\"one\"\"\" text, plain_too text)",
    );
    let found = lint_of(&pair, &[]);
    let text = found[0].proposal.as_deref().unwrap();
    assert!(text.starts_with("[[map]]\nfrom = 'public.\"Parents\"'\nto = 'public.\"Parents\"'\n"), "{text}");
    let pasted: toml::Table = text.parse().unwrap();
    for end in ["from", "to"] {
        let name = crate::pattern::TableName::parse(pasted["map"][0][end].as_str().unwrap()).unwrap();
        assert_eq!((name.schema.as_str(), name.name.as_str()), ("public", "Parents"));
    }
    let columns = pasted["map"][0]["columns"].as_table().unwrap();
    assert_eq!(columns["New \"one\""].as_str(), Some("\"It's\""));
    assert_eq!(columns["plain_too"].as_str(), Some("plain"));
    let hints = refused(&pair, &[]);
    assert!(hints.iter().any(|(_, hint)| hint.contains("from = 'public.\"Parents\"'")), "{hints:?}");
}

#[test]
fn the_hint_for_a_key_that_is_not_mapped_shows_what_finds_a_row() {
    let pair = Pair::new(
        "create table t (id int primary key); create table renamed (id int primary key)",
        "create table t (id text primary key); create table renamed (number int primary key)",
    );
    let hint = |table: &str, columns: &[(&str, &str)], drop: &[&str]| {
        let found = refused(&pair, &[rule(table, table, &[], columns, drop)]);
        let key =
            found.into_iter().find(|(message, _)| message.contains(&format!("of the key of \"{table}\"")));
        key.map(|(_, hint)| hint.trim_start_matches("Say in the [[map]] how to find a row: ").to_owned())
    };
    assert_eq!(
        hint("public.t", &[("id", "'n' || id")], &[]).as_deref(),
        Some("key = { id = \"'n' || id\" }.")
    );
    assert_eq!(hint("public.t", &[], &["id"]).as_deref(), Some("key = { id = \"id::text\" }."));
    assert_eq!(hint("public.renamed", &[], &["id"]).as_deref(), Some("key = { new_column = \"id\" }."));
}

/// What replay is refused for, as the message and the hint say it.
fn refused(pair: &Pair, rules: &[MapRule]) -> Vec<(String, String)> {
    match pair.mapping(rules) {
        Ok(_) => Vec::new(),
        Err(Error::ChecksFailed { findings }) => {
            findings.into_iter().map(|finding| (finding.message, finding.hint)).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

/// The fates of a table's columns, its proposal and what it is refused for.
fn told<'a>(lints: &'a [TableLint], table: &str) -> (Vec<(&'a str, Fate)>, Option<&'a str>, Vec<&'a str>) {
    let lint = lints.iter().find(|lint| lint.from == table).unwrap();
    (
        lint.columns.iter().map(|column| (column.column.as_str(), column.fate)).collect(),
        lint.proposal.as_deref(),
        lint.refused.iter().map(|refusal| refusal.message.as_str()).collect(),
    )
}

#[test]
fn what_one_side_generates_and_the_other_does_not_is_never_left_out_unsaid() {
    let pair = Pair::new(
        r#"create table g (id int primary key, a int, "the Name" text, s int generated always as (a * 2) stored,
               t text generated always as (case when a > 1 then "the Name" || E'\n' else '\' end) stored,
               same int generated always as (a + 1) stored, gone int generated always as (a + 2) stored)"#,
        r#"create table g (id int primary key, a int, "the Name" text, s bigint not null, t text,
               same int generated always as (a + 1) stored, dbl int)"#,
    );
    let unsaid = lint_of(&pair, &[]);
    let (fates, proposal, messages) = told(&unsaid, "public.g");
    let (kept, impossible) = (Fate::Kept, Fate::Impossible);
    assert_eq!(
        fates,
        [("id", kept), ("a", kept), ("the Name", kept), ("s", impossible), ("t", impossible)],
        "what is generated on both sides, or dropped, needs no word"
    );
    let generated = |column: &str| {
        format!(
            "column \"{column}\" of \"public.g\" is generated, so that its values are not recorded, and \"public.g\" on the \
             other side does not generate it"
        )
    };
    assert!(messages.contains(&generated("s").as_str()) && messages.contains(&generated("t").as_str()));
    let hints: Vec<String> = refused(&pair, &[]).into_iter().map(|(_, hint)| hint).collect();
    assert!(
        hints[0].ends_with(
            r#"how to compute it: columns = { s = "(a * 2)" }; drop = ["s"] leaves it as it is there."#
        ),
        "{hints:#?}"
    );

    // What is proposed can be copied into the configuration, and then goes.
    let proposed: toml::Table = proposal.unwrap().parse().unwrap();
    let columns = proposed["map"][0]["columns"].as_table().unwrap();
    let columns: Vec<(&str, &str)> =
        columns.iter().map(|(name, sql)| (name.as_str(), sql.as_str().unwrap())).collect();
    assert!(!proposal.unwrap().contains('#'), "s is NOT NULL, and gets its values");
    let with = |columns: &[(&str, &str)], drop: &[&str]| [rule("public.g", "public.g", &[], columns, drop)];
    let all = with(&columns, &[]);
    assert_eq!(refused(&pair, &all), []);
    let converted = Fate::Converted;
    assert_eq!(told(&lint_of(&pair, &all), "public.g").0[3..], [("s", converted), ("t", converted)]);
    let one = with(&columns[..1], &["t"]);
    assert_eq!(refused(&pair, &one), []);
    assert_eq!(told(&lint_of(&pair, &one), "public.g").0[3..], [("s", converted), ("t", Fate::Dropped)]);

    // A map of the table's own that says nothing of it does not make it silent.
    let silent = with(&[("dbl", "a * 2")], &[]);
    let lint = lint_of(&pair, &silent);
    let (fates, _, messages) = told(&lint, "public.g");
    assert_eq!(fates[3..], [("s", impossible), ("t", impossible)]);
    assert!(messages.contains(&generated("s").as_str()), "{messages:#?}");

    let read = MapRule {
        condition: Some("old.s > 0".into()),
        ..with(&[("s", "a * 2"), ("dbl", "S / 2")], &["t"])[0].clone()
    };
    let why = "column \"s\" of \"public.g\" is generated, so that its values are not recorded";
    let hint = "Write in its place what it is generated from: (a * 2).".to_owned();
    assert_eq!(
        refused(&pair, &[read]),
        [
            (format!("column \"dbl\" of \"public.g\" cannot be written: {why}"), hint.clone()),
            (format!("where = \"old.s > 0\" cannot be evaluated: {why}"), hint)
        ]
    );
}

#[test]
fn what_only_the_other_side_generates_is_mapped_nowhere() {
    let pair = Pair::new(
        "create table g (id int primary key, a int, s int)",
        "create table g (id int primary key, a int, s int generated always as (a * 2) stored)",
    );
    assert_eq!(refused(&pair, &[])[0].0, "column \"s\" of \"public.g\" is mapped nowhere");
    assert_eq!(told(&lint_of(&pair, &[]), "public.g").0[2], ("s", Fate::Impossible));
}

#[test]
fn the_lint_finds_what_replay_is_refused_for() {
    let pair = Pair::new(
        "create type mood as enum ('good'); create domain positive as int check (value > 0);
         create domain tiny as positive check (value < 100);
         create table t (id int primary key, c text, d tiny, l positive[], m mood);
         create table parts (id int primary key, v text) partition by range (id);
         create table part partition of parts for values from (0) to (10)",
        "create type colour as enum ('red');
         create table t (id int primary key, c colour, d bigint, l bigint[], m text);
         create table parts (id int primary key, v int) partition by range (id);
         create table part partition of parts for values from (0) to (10)",
    );
    let map = |c: &str| [rule("public.t", "public.t", &[], &[("c", c)], &[])];
    let unqualified = lint_of(&pair, &map("c::colour"));
    let (fates, _, messages) = told(&unqualified, "public.t");
    assert_eq!(
        fates[1..],
        [("c", Fate::Impossible), ("d", Fate::Converted), ("l", Fate::Impossible), ("m", Fate::Converted)]
    );
    assert_eq!(
        messages[..2],
        [
            "column \"c\" of \"public.t\" cannot be written: type \"colour\" does not exist (SQLSTATE 42704)",
            "column \"l\" of \"public.t\" cannot be written: column \"l\" is of type bigint[] but expression is of type text[] \
             (SQLSTATE 42804)",
        ]
    );
    let column = |name: &str| {
        unqualified
            .iter()
            .find(|lint| lint.from == "public.t")
            .unwrap()
            .columns
            .iter()
            .find(|column| column.column == name)
            .unwrap()
    };
    assert_eq!(
        column("d").lossless,
        Some(true),
        "a domain that is gone holds what the type does that it is over"
    );
    assert_eq!(
        told(&lint_of(&pair, &map("c::public.colour")), "public.t").2.len(),
        1,
        "qualified it is found"
    );
    let (fates, _, messages) = told(&unqualified, "public.parts");
    assert_eq!(fates[1], ("v", Fate::Impossible));
    assert!(
        messages.iter().any(|message| message.starts_with("column \"v\" of \"public.part\" cannot")),
        "{messages:#?}"
    );
}

#[test]
fn a_renamed_type_and_an_odd_name_are_written_as_the_file_takes_them() {
    let pair = Pair::new(
        "create type mood as enum ('good'); create table t (id int primary key, m mood, \"Weird \"\"col\" text)",
        "create schema ext; create type ext.humour as enum ('good'); create table t (id int primary key, m ext.humour)",
    );
    let found = refused(&pair, &[]);
    let hints: Vec<&str> = found.iter().map(|(_, hint)| hint.as_str()).collect();
    assert!(hints.iter().any(|hint| hint.ends_with(r#"columns = { m = "m::ext.humour" }."#)), "{found:#?}");
    assert!(hints.iter().any(|hint| hint.ends_with("drop = ['Weird \"col'].")), "{found:#?}");
    let map = rule("public.t", "public.t", &[], &[("m", "m::ext.humour")], &["Weird \"col"]);
    assert!(pair.mapping(&[map]).is_ok());
}

#[test]
fn a_unique_index_over_some_rows_is_a_doubt_where_the_other_side_has_none() {
    let table =
        "create table t (id int primary key, v text); create unique index old on t (lower(v)) where id > 5;";
    let new = format!("{table} create unique index new on t (v) where id > 10");
    let pair = Pair::new(table, &new);
    let mut lints = lint_of(&pair, &[]);
    let [mut old, mut new] = [Side::Source, Side::Target].map(|side| pair.session(side));
    let tables = (catalog::list_tables(&mut old).unwrap(), catalog::list_tables(&mut new).unwrap());
    let keys = (Keys::read(&mut old).unwrap(), Keys::read(&mut new).unwrap());
    add_doubts(&mut lints, (&tables.0, &tables.1), &[], (&keys.0, &keys.1));
    let doubts: Vec<&str> =
        lints.iter().flat_map(|lint| &lint.doubts).map(|doubt| doubt.message.as_str()).collect();
    assert_eq!(
        doubts,
        [
            "\"new\" of \"public.t\" is unique over some rows or an expression, and nothing keeps it so in \"public.t\""
        ]
    );
}
