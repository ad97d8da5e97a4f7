//! Two tables that become one by their columns: one rule makes the rows, the others fill columns of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, MappedColumn, Mapping, TableName, TableRule, finding};
use crate::error::{Error, Finding, Result};
use crate::flow::mapping::foreign_key::{ForeignKey, list_foreign_keys};
use crate::pg::Session;
use crate::sql;

/// A column that a rule fills in rows of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Name, unquoted.
    pub name: String,
    /// SQL for what it holds where there is nothing to fill in; `None`: null.
    pub default: Option<String>,
}

impl TableRule {
    /// SQL that is true of a row in which it has filled something, from SQL for the value of each column; `None` for a rule
    /// that makes its rows.
    pub fn is_filled(&self, value: impl Fn(&str) -> String) -> Option<String> {
        let filled = self.fills.as_ref()?;
        let test = |column: &Filled| match (value(&column.name), &column.default) {
            (value, None) => format!("{value} is distinct from null"),
            // Not every type has an operator that says so.
            (value, Some(default)) => format!("({value})::text is distinct from ({default})::text"),
        };
        let tests: Vec<String> = filled.iter().map(test).collect();
        Some(if tests.is_empty() { "false".to_owned() } else { tests.join(" or ") })
    }
}

/// The columns that a rule fills, beside the key.
pub(super) fn filled(
    to: &TableName,
    columns: &[MappedColumn],
    key: &[MappedColumn],
    facts: &Facts,
) -> Vec<Filled> {
    let is_filled =
        |column: &&MappedColumn| column.updatable && key.iter().all(|part| part.name != column.name);
    let fill = |column: &MappedColumn| {
        let default = facts.constants.get(&(to.clone(), column.name.clone())).cloned();
        Filled { name: column.name.clone(), default }
    };
    columns.iter().filter(is_filled).map(fill).collect()
}

/// Whether the rules that lead to one table fit each other.
pub(super) fn check(rules: &[TableRule], facts: &Facts, findings: &mut Vec<Finding>) {
    for rule in rules.iter().filter(|rule| rule.fills.is_some()) {
        let others: Vec<&TableRule> =
            rules.iter().filter(|other| other.to == rule.to && other.from != rule.from).collect();
        check_maker(rule, &others, findings);
        check_columns(rule, &others, facts, findings);
    }
}

fn names(columns: &[MappedColumn]) -> BTreeSet<String> {
    columns.iter().map(|column| column.name.clone()).collect()
}

/// There is one rule that makes the rows, and each of them has one.
fn check_maker(rule: &TableRule, others: &[&TableRule], findings: &mut Vec<Finding>) {
    let (from, to) = (rule.from.to_string(), &rule.to);
    let mut say = |message: String, hint: String| findings.push(finding(&from, message, hint));
    let makers: Vec<&&TableRule> = others.iter().filter(|other| other.fills.is_none()).collect();
    let [maker] = makers.as_slice() else {
        let made = match makers.len() {
            0 => "no other [[map]] makes".to_owned(),
            count => format!("{count} [[map]] make"),
        };
        say(
            format!("it joins rows of \"{to}\", which {made}"),
            format!(
                "Write one [[map]] to \"{to}\" without \"joins\": from the table that has a row for each row there."
            ),
        );
        return;
    };
    let is_partitioned = |rule: &TableRule| rule.from_partitioned || rule.from_root.is_some();
    if is_partitioned(rule) || is_partitioned(maker) {
        say(
            format!("\"{from}\" and \"{}\" cannot be joined: one of them is partitioned", maker.from),
            "Keep it as a table of its own on the source, or leave it out of the mirrored tables.".into(),
        );
    }
    if maker.condition.is_some() {
        say(
            format!(
                "the [[map]] from \"{}\" has \"where\", so rows of \"{from}\" may find none to join",
                maker.from
            ),
            "Leave \"where\" out.".into(),
        );
    }
    if rule.key.is_empty() || names(&rule.key) != names(&maker.key) {
        let list = |rule: &TableRule| Vec::from_iter(names(&rule.key)).join(", ");
        say(
            format!(
                "\"{from}\" and \"{}\" find rows of \"{to}\" by different keys: ({}) and ({})",
                maker.from,
                list(rule),
                list(maker)
            ),
            "Give both the same columns in \"key\".".into(),
        );
    }
}

/// Each column has one rule that writes it, and it can be told whether it is filled.
fn check_columns(rule: &TableRule, others: &[&TableRule], facts: &Facts, findings: &mut Vec<Finding>) {
    let (from, to) = (rule.from.to_string(), &rule.to);
    let own = |rule: &TableRule| -> BTreeSet<String> {
        names(&rule.columns).difference(&names(&rule.key)).cloned().collect()
    };
    for other in others {
        for column in own(rule).intersection(&own(other)) {
            findings.push(finding(
                &from,
                format!(
                    "column \"{column}\" of \"{to}\" is written from \"{from}\" and from \"{}\"",
                    other.from
                ),
                "Write it from one of them: name it in the other's \"drop\", or give it another place in \"columns\".",
            ));
        }
    }
    for column in rule.fills.iter().flatten() {
        let place = (to.clone(), column.name.clone());
        if facts.defaulted.contains(&place) && !facts.constants.contains_key(&place) {
            findings.push(finding(
                &from,
                format!(
                    "column \"{}\" of \"{to}\" has a default that is no constant, so nobody can tell whether it is filled",
                    column.name
                ),
                format!(
                    "Run: ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT;",
                    to.quoted(),
                    sql::quote_identifier(&column.name)
                ),
            ));
        }
    }
}

/// Refuses a join of rows that may be there without the row that they are joined to: only a foreign key of the publisher
/// rules it out.
pub fn require_parents(mapping: &Mapping, publisher: &mut Session) -> Result<()> {
    if mapping.pairs().all(|rule| rule.fills.is_none()) {
        return Ok(());
    }
    let keys = list_foreign_keys(publisher)?;
    let mut findings = Vec::new();
    for rule in mapping.pairs().filter(|rule| rule.fills.is_some()) {
        let makers = mapping.pairs().filter(|other| other.to == rule.to && other.fills.is_none());
        for maker in makers.filter(|maker| !keys.iter().any(|key| ties(key, rule, maker))) {
            let list = |rule: &TableRule| {
                let names = reads_of_key(rule).into_iter().map(|name| sql::quote_identifier(&name));
                names.collect::<Vec<_>>().join(", ")
            };
            findings.push(finding(
                &rule.from.to_string(),
                format!(
                    "a row of \"{}\" may be there without the row of \"{}\" that it joins",
                    rule.from, maker.from
                ),
                format!(
                    "Run on the target: ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE CASCADE;",
                    rule.from.quoted(),
                    list(rule),
                    maker.from.quoted(),
                    list(maker)
                ),
            ));
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(Error::ChecksFailed { findings }) }
}

fn reads_of_key(rule: &TableRule) -> BTreeSet<String> {
    rule.key_reads().into_iter().map(|at| rule.old_columns[at].name.clone()).collect()
}

/// Whether a foreign key, checked with each statement, ties what one rule's key is made of to what the other's is.
fn ties(key: &ForeignKey, rule: &TableRule, maker: &TableRule) -> bool {
    let columns = key.columns.iter().zip(&key.referenced_columns);
    let parents: BTreeMap<&String, &String> = columns.collect();
    let tied: Option<BTreeSet<String>> =
        reads_of_key(rule).iter().map(|name| parents.get(name).map(|parent| (*parent).clone())).collect();
    key.table == rule.from
        && key.referenced == maker.from
        && !key.deferrable
        && tied.is_some_and(|tied| tied == reads_of_key(maker))
}
