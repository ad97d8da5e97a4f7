//! Limits access to designated tables on the target: exactly as the configuration says, no more and no less.

use serde_json::{Value, json};

use crate::config::{Deny, Restrict};
use crate::error::{Checked, Error, Result};
use crate::pg::catalog::{self, Table};
use crate::pg::restriction::{self, Rule, Verb};
use crate::steps::{Needs, Run};

/// What the application reads when the configuration gives no message.
const MESSAGE: &str = "This table is read-only during maintenance.";

/// Runs the command; its report.
pub fn run(run: &mut Run, lift: bool) -> Result<Value> {
    run.open(Needs::Target)?;
    let rules = if lift { Vec::new() } else { rules(run)? };
    run.step("check the limited roles", |run| {
        let checked = restriction::check(run.target(), &rules)?;
        refuse(run, checked)
    })?;
    let name = if lift { "lift restrictions" } else { "restrict tables" };
    let outcome = run.step(name, |run| restriction::install(run.target(), &rules))?;
    run.changed = !outcome.changed.is_empty();
    if run.changed {
        run.note_event(name);
    }
    Ok(json!({ "restricted": outcome.restricted }))
}

fn refuse(run: &mut Run, checked: Checked) -> Result<()> {
    for warning in &checked.warnings {
        run.warn(format!("{}: {}. {}", warning.object, warning.message, warning.hint));
    }
    if checked.failures.is_empty() { Ok(()) } else { Err(Error::ChecksFailed { findings: checked.failures }) }
}

fn verb(deny: Deny) -> Verb {
    match deny {
        Deny::Insert => Verb::Insert,
        Deny::Update => Verb::Update,
        Deny::Delete => Verb::Delete,
        Deny::Truncate => Verb::Truncate,
    }
}

/// One rule for each `[[restrict]]`, its patterns resolved against the tables that there are.
fn rules(run: &mut Run) -> Result<Vec<Rule>> {
    let tables = catalog::list_tables(run.target())?;
    let restrictions = run.config.restrict.clone();
    let mut checked = Checked::default();
    let mut rules = Vec::new();
    for restrict in &restrictions {
        let designated = designated(restrict, &tables)?;
        if designated.is_empty() {
            let patterns = restrict.tables.join(", ");
            let message = format!("no table of the target matches {patterns}");
            checked.fail("restrict", &patterns, message, "Correct the tables of this [[restrict]].");
        }
        rules.push(Rule {
            tables: designated,
            deny: restrict.deny.iter().map(|deny| verb(*deny)).collect(),
            roles: restrict.roles.clone().unwrap_or_else(|| run.config.traffic.roles.clone()),
            message: restrict.message.clone().unwrap_or_else(|| MESSAGE.into()),
        });
    }
    refuse(run, checked)?;
    Ok(rules)
}

/// Tables that match, and the partitions of those that do.
fn designated(restrict: &Restrict, tables: &[Table]) -> Result<Vec<(String, String)>> {
    let selection = restrict.selection()?;
    let matching = tables.iter().filter(|table| {
        let root = table.root.as_ref().is_some_and(|(schema, name)| selection.matches(schema, name));
        root || selection.matches(&table.schema, &table.name)
    });
    Ok(matching.map(|table| (table.schema.clone(), table.name.clone())).collect())
}
