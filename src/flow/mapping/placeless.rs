//! Columns and tables of the publisher of which neither the names nor the rules say what becomes of them, as far as that can be told
//! while maintenance may have its schema still to make.

use super::checks::mapped_nowhere;
use super::lint::{has_place, toml_table};
use super::{MapRule, TableName, finding};
use crate::error::Finding;
use crate::pg::catalog::Table;

/// A table of which nothing says where its rows go.
pub fn not_on_the_other_side(table: &Table) -> Finding {
    finding(
        &table.display(),
        format!("table \"{}\" does not exist on the other side", table.display()),
        "Say in a [[map]] where its rows go, or add it to mirror.exclude, which leaves out its changes.",
    )
}

/// A table that has a place by the name that it had as recording began. To leave it out would lose what is recorded of it.
pub fn renamed(table: &Table, before: &TableName) -> Finding {
    let (name, before) = (table.display(), before.to_string());
    finding(&name, was_renamed(&name, &before), format!("{}.", where_renamed(&name, &before)))
}

pub(in crate::flow) fn was_renamed(name: &str, before: &str) -> String {
    format!("table \"{name}\" was recorded as \"{before}\" and has been renamed since")
}

pub(in crate::flow) fn where_renamed(name: &str, before: &str) -> String {
    format!("Say in a [[map]] where its rows go: from = {}, to = {}", toml_table(name), toml_table(before))
}

/// What replay would have no place for on the subscriber as it is now. Of a table that a rule leads to another one, which is not
/// there yet, nothing can be said.
pub fn list_placeless(publisher: &[Table], subscriber: &[Table], rules: &[MapRule]) -> Vec<Finding> {
    let find = |name: &str| subscriber.iter().find(|table| table.display() == name);
    let mut findings = Vec::new();
    for table in publisher.iter().filter(|table| table.root.is_none()) {
        let name = table.display();
        let by_name = MapRule { from: name.clone(), to: name.clone(), ..MapRule::default() };
        let own: Vec<&MapRule> = rules.iter().filter(|rule| rule.from == name).collect();
        let has_rule = !own.is_empty();
        let own = if has_rule { own } else { vec![&by_name] };
        let places: Option<Vec<(&MapRule, &Table)>> =
            own.iter().map(|rule| Some((*rule, find(&rule.to)?))).collect();
        let Some(places) = places else {
            if !has_rule {
                findings.push(not_on_the_other_side(table));
            }
            continue;
        };
        let is_placeless = |column: &str| {
            let is_dropped = own.iter().any(|rule| rule.drop.iter().any(|dropped| dropped == column));
            !is_dropped && !places.iter().any(|(rule, to)| has_place(column, rule, to))
        };
        let written = table.columns.iter().filter(|column| !column.is_generated());
        let placeless = written.filter(|column| is_placeless(&column.name));
        findings.extend(placeless.map(|column| mapped_nowhere(&name, &column.name, has_rule)));
    }
    findings
}
