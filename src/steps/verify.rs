//! Compares both sides row by row, through the mapping.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::compare::{self, Comparison};
use crate::flow::mapping::TableRule;
use crate::flow::{FlowName, TableName, marker};
use crate::pattern::Selection;
use crate::pg::{Session, catalog, record};
use crate::phase::Phase;
use crate::steps::{Needs, Run};

/// How long a marker may take while rows that differ are read again.
const MARKER_BUDGET: Duration = Duration::from_secs(60);

/// Runs the command; its report. A difference is [`Error::Conflict`], with the report kept for the document.
pub fn run(run: &mut Run, patterns: &[String]) -> Result<Value> {
    run.open(Needs::Both)?;
    let mapping = match run.phase() {
        Phase::Mirrored => run.identity_mapping()?,
        _ => run.replay_mapping()?,
    };
    let wanted = if patterns.is_empty() { None } else { Some(Selection::parse(patterns, &[""; 0])?) };
    let estimates = catalog::list_tables(run.target())?;
    let live = run.phase() == Phase::Mirrored && !run.plan.is_dry();
    let mut tables = Vec::new();
    for rules in mapping.by_target() {
        let chosen =
            |name: &TableName| wanted.as_ref().is_none_or(|wanted| wanted.matches(&name.schema, &name.name));
        if !rules.iter().any(|rule| chosen(&rule.from) || chosen(&rule.to)) {
            continue;
        }
        run.heed_signals()?;
        let rules: Vec<&TableRule> = rules.into_iter().map(AsRef::as_ref).collect();
        let leads_there = |table: &&catalog::Table| {
            rules.iter().any(|rule| {
                let is_it = table.schema == rule.from.schema && table.name == rule.from.name;
                is_it
                    || table
                        .root
                        .as_ref()
                        .is_some_and(|(schema, name)| *schema == rule.from.schema && *name == rule.from.name)
            })
        };
        let estimate: f64 = estimates.iter().filter(leads_there).map(|table| table.rows_estimate).sum();
        let (source, target) = run.both();
        let mut settle = |source: &mut _, target: &mut _| settle(live, source, target);
        tables.push(compare::compare_table(source, target, &rules, estimate, &mut settle)?);
    }
    tables.sort_by(|one: &Comparison, other| one.table.cmp(&other.table));
    for table in tables.iter().filter(|table| table.changing > 0) {
        run.warn(format!(
            "{} rows of table \"{}\" kept changing while they were compared",
            table.changing, table.table
        ));
    }
    let unequal: Vec<String> = tables.iter().filter(|table| !table.equal).map(describe).collect();
    let report = json!({ "tables": tables, "equal": unequal.is_empty() });
    if unequal.is_empty() {
        return Ok(report);
    }
    run.report = Some(report);
    Err(Error::Conflict {
        kind: "differs",
        message: format!("{} tables differ", unequal.len()),
        detail: Some(unequal.join("; ")),
        hint: match run.phase() {
            Phase::Detoured => {
                "Changes that were not replayed yet differ too: run pgdetour replay, then verify again."
            }
            Phase::Returned => "Since cutback, traffic changes the source alone: the target stays as it was.",
            _ => "Find out who changed rows of the target before cutting over.",
        }
        .into(),
    })
}

/// Waits until what the source has committed up to now is on the target.
fn settle(live: bool, source: &mut Session, target: &mut Session) -> Result<()> {
    if !live {
        return Ok(());
    }
    let id = record::new_id(source)?;
    marker::write_marker(source, FlowName::Mirror, &id)?;
    marker::wait_for_marker(target, &id, MARKER_BUDGET)?;
    marker::remove_marker(source, target, &id)
}

fn describe(table: &Comparison) -> String {
    let mut parts = Vec::new();
    for (count, what) in [
        (table.missing_on_source, "only on the target"),
        (table.missing_on_target, "only on the source"),
        (table.different, "different"),
    ] {
        if count > 0 {
            parts.push(format!("{count} rows {what}"));
        }
    }
    format!("{}: {}", table.table, parts.join(", "))
}
