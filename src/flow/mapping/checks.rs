//! What is wrong with a rule once it is known what its expressions read: columns that go nowhere, keys that find no row.

use std::collections::BTreeSet;

use super::lint::toml_text;
use super::{Facts, MapRule, TableName, TableRule, finding};
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
        let name = toml_text(table);
        format!("Add a [[map]] with from = {name}, to = {name} that uses it in an expression, or has {drop}.")
    };
    finding(table, format!("column \"{column}\" of \"{table}\" is mapped nowhere"), hint)
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
