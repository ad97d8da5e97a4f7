//! What is wrong with a rule once it is known what its expressions read: columns that go nowhere, keys that find no row.

use std::collections::BTreeSet;

use super::lint::{quoted_where_needed, toml_key, toml_table, toml_text};
use super::{Facts, MapRule, MappedColumn, TableName, TableRule, finding, is_column_name};
use crate::error::Finding;
use crate::pg::catalog::{Identity, Table};
use crate::sql;

/// Whether a rule leads from a table of the flow to one that is there.
pub(super) fn check_places(rule: &MapRule, publisher: &[Table], subscriber: &[Table]) -> Vec<Finding> {
    let has = |tables: &[Table], name: &str| tables.iter().any(|table| table.display() == name);
    let mut findings = Vec::new();
    if !has(publisher, &rule.from) {
        findings.push(finding(
            &rule.from,
            format!("[[map]] is from \"{}\", which is not a table of the flow", rule.from),
            "Name a mirrored table as schema.table in \"from\".",
        ));
    }
    if !has(subscriber, &rule.to) {
        findings.push(finding(
            &rule.from,
            format!("[[map]] is to \"{}\", which does not exist", rule.to),
            "Create the table, or name one that exists as schema.table in \"to\".",
        ));
    }
    findings
}

/// What can be said only when it is known which old columns the expressions read.
pub(super) fn check_reads(
    rule: &TableRule,
    map: Option<&MapRule>,
    siblings: &[&TableRule],
    rules: &[MapRule],
    findings: &mut Vec<Finding>,
) {
    let object = map.map_or_else(|| rule.from.to_string(), |map| map.from.clone());
    // Where a table is split, what one part leaves out another may hold.
    let reads: BTreeSet<usize> = siblings
        .iter()
        .flat_map(|sibling| &sibling.columns)
        .flat_map(|column| column.reads.iter().copied())
        .collect();
    let is_dropped = |name: &String| {
        siblings.iter().filter_map(|sibling| sibling.rule).any(|at| rules[at].drop.contains(name))
    };
    for (at, column) in rule.old_columns.iter().enumerate() {
        let name = &column.name;
        if reads.contains(&at) || is_dropped(name) {
            continue;
        }
        findings.push(mapped_nowhere(&object, name, map.is_some()));
    }
}

/// A column of which nothing says where its values go.
pub(super) fn mapped_nowhere(table: &str, column: &str, has_rule: bool) -> Finding {
    let drop = format!("drop = [{}]", toml_text(column));
    let hint = if has_rule {
        format!("Use it in an expression of the [[map]], or add it to its \"drop\": {drop}.")
    } else {
        let name = toml_table(table);
        format!("Add a [[map]] with from = {name}, to = {name} that uses it in an expression, or has {drop}.")
    };
    finding(table, format!("column \"{column}\" of \"{table}\" is mapped nowhere"), hint)
}

/// Whether the rows of a rule with a condition can be told from those that other rules make in the same table: a change does not say
/// where its row was, so that it is taken out, or put in, by its key alone.
pub(super) fn check_apart(drafts: &[TableRule], rules: &[MapRule], findings: &mut Vec<Finding>) {
    for rule in drafts.iter().filter(|rule| rule.condition.is_some()) {
        let Some(map) = rule.rule.map(|at| &rules[at]) else { continue };
        // Partitions have the rule of their root.
        let may_meet = |other: &&TableRule| {
            let is_within = other.to_partitioned || rule.to_partitioned;
            (other.to == rule.to || is_within && other.place() == rule.place())
                && other.rule != rule.rule
                && other.fills.is_none()
                && !rule.is_apart_from(other)
        };
        let Some(other) = drafts.iter().find(may_meet) else { continue };
        let from = other.rule.map_or_else(|| other.from.to_string(), |at| rules[at].from.clone());
        let to = &map.to;
        let hint = if from == map.from {
            format!(
                "Write one [[map]] from \"{from}\" to \"{to}\", with a \"where\" for all of its rows and CASE in \"columns\" \
                 where they differ."
            )
        } else {
            let key = |table: &str, rule: &TableRule| {
                let name = table.rsplit('.').next().unwrap_or(table).replace('\'', "''");
                let part = |column: &MappedColumn| {
                    let mut old = rule.old_columns.iter();
                    let text = match old.find(|old| is_column_name(&column.expression, &old.name)) {
                        Some(old) => quoted_where_needed(&old.name),
                        None => column.expression.trim().to_owned(),
                    };
                    format!(", {} = {}", toml_key(&column.name), toml_text(&text))
                };
                let parts: String = rule.key.iter().map(part).collect();
                format!("key = {{ origin = {}{parts} }}", toml_text(&format!("'{name}'")))
            };
            format!(
                "Tell them apart by a constant in the key of each [[map]] to \"{to}\", in a column of its primary key, such as \
                 {} and {}; or let them go to a table of their own.",
                key(&map.from, rule),
                key(&from, other)
            )
        };
        findings.push(finding(
            &map.from,
            format!(
                "the [[map]] from \"{}\" has \"where\", and rows of \"{from}\" go to \"{to}\" too: a change of a row that is not \
                 there would hit one of theirs that has its key",
                map.from
            ),
            hint,
        ));
    }
}

/// Whether the key finds one row, and can be told from what a DELETE carries.
pub(super) fn check_key(rule: &TableRule, publisher: &[Table], facts: &Facts, findings: &mut Vec<Finding>) {
    let object = rule.from.to_string();
    if rule.key.is_empty() {
        if rule.condition.is_some() {
            findings.push(finding(
                &object,
                format!("rows of \"{object}\" have no key, which a [[map]] with \"where\" needs"),
                "Give the table a primary key, or leave \"where\" out.",
            ));
        }
        return;
    }
    if rule.key_reads().is_empty() {
        findings.push(finding(
            &object,
            "the key reads no column".to_owned(),
            "Say in \"key\" how the new key follows from the old one's columns.",
        ));
    }
    let full =
        publisher.iter().any(|table| TableName::of(table) == rule.from && table.identity == Identity::Full);
    for at in rule.key_reads() {
        if !full && !rule.identity.as_ref().is_some_and(|identity| identity.contains(&at)) {
            let name = &rule.old_columns[at].name;
            findings.push(finding(
                &object,
                format!("the key reads column \"{name}\", which is not part of the replica identity of \"{object}\""),
                "Use columns of the replica identity only in \"key\": a DELETE carries no others.",
            ));
        }
    }
    let names: Vec<&str> = rule.key.iter().map(|column| column.name.as_str()).collect();
    let covered = facts
        .unique_keys
        .get(&rule.to)
        .is_some_and(|keys| keys.iter().any(|key| key.iter().all(|column| names.contains(&column.as_str()))));
    // A partitioned table's unique keys hold its partition key too. Such a row is found by the first columns of an index,
    // and if two are found after all, that is a conflict.
    let leads = |key: &&Vec<String>| {
        key.len() >= names.len() && key[..names.len()].iter().all(|column| names.contains(&column.as_str()))
    };
    let is_found = rule.to_partitioned
        && facts.indexed_keys.get(&rule.to).is_some_and(|keys| keys.iter().any(|key| leads(&key)));
    if !covered && !is_found {
        let list: Vec<String> = names.iter().map(|name| sql::quote_identifier(name)).collect();
        let (message, create) = if rule.to_partitioned {
            ("no index of \"{}\" begins with", "CREATE INDEX")
        } else {
            ("no unique index of \"{}\" covers", "CREATE UNIQUE INDEX CONCURRENTLY")
        };
        let message = message.replace("{}", &rule.to.to_string());
        findings.push(finding(
            &object,
            format!("{message} the key ({})", names.join(", ")),
            format!("Run: {create} ON {} ({});", rule.to.quoted(), list.join(", ")),
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::flow::apply::test_pair::{Pair, rule};
    use crate::flow::mapping::MapRule;

    fn refusals(pair: &Pair, rules: &[MapRule]) -> Vec<(String, String)> {
        let Err(refused) = pair.mapping(rules) else { return Vec::new() };
        let Error::ChecksFailed { findings } = refused else { panic!("{refused:?}") };
        findings.into_iter().map(|finding| (finding.message, finding.hint)).collect()
    }

    #[test]
    fn a_condition_is_refused_where_nothing_tells_its_rows_from_those_of_another_rule() {
        let pair = Pair::new(
            "create table orders (id int primary key, active bool, note text);
             create table archive (id int primary key, note text);
             create table parts (id int, k int, note text, primary key (id, k)) partition by list (k);
             create table parts_1 partition of parts for values in (1);
             create table parts_2 partition of parts for values in (2);",
            "create table all_orders (id int primary key, note text);
             create table orders (id int primary key, active bool, note text);
             create table archive (id int primary key, note text);
             create table apart (origin text, id int, note text, primary key (origin, id));
             create table parts (id int, k int, note text, primary key (id, k));",
        );
        let from = |name: &str, to: &str, drop: &[&str]| rule(&format!("public.{name}"), to, &[], &[], drop);
        let some = |rule: MapRule, condition: &str| MapRule { condition: Some(condition.into()), ..rule };
        let parts = || some(from("parts", "public.parts", &[]), "note is not null");
        let active = |to: &str| some(from("orders", to, &["active"]), "active");

        // Tables that no rule names have those of their names.
        let hidden = |from: &str, to: &str| {
            format!(
                "the [[map]] from \"public.orders\" has \"where\", and rows of \"{from}\" go to \"{to}\" too: a change of a row \
                 that is not there would hit one of theirs that has its key"
            )
        };
        let both = [active("public.all_orders"), from("archive", "public.all_orders", &[]), parts()];
        assert_eq!(
            refusals(&pair, &both),
            [(
                hidden("public.archive", "public.all_orders"),
                "Tell them apart by a constant in the key of each [[map]] to \"public.all_orders\", in a column of its primary key, \
                 such as key = { origin = \"'orders'\", id = \"id\" } and key = { origin = \"'archive'\", id = \"id\" }; or let them \
                 go to a table of their own."
                    .to_owned()
            )]
        );
        let named = refusals(&pair, &[active("public.archive"), parts()]);
        assert_eq!(named[0].0, hidden("public.archive", "public.archive"));
        let twice =
            refusals(&pair, &[active("public.orders"), some(from("orders", "public.orders", &[]), "id > 5")]);
        assert_eq!(twice[0].0, hidden("public.orders", "public.orders"));
        assert!(twice[0].1.starts_with("Write one [[map]] from \"public.orders\""), "{twice:?}");

        let keyed = |origin: &str, rule: MapRule| {
            let key = vec![("origin".into(), format!("'{origin}'")), ("id".into(), "id".into())];
            MapRule { key, ..rule }
        };
        let apart = [
            keyed("orders", active("public.apart")),
            keyed("archive", from("archive", "public.apart", &[])),
            parts(),
        ];
        assert_eq!(refusals(&pair, &apart), []);
    }
}
