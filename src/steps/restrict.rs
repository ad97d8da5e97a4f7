//! Limits access to designated tables on the target: exactly as the configuration says, no more and no less.

use serde_json::{Value, json};

use crate::config::Deny;
use crate::error::{Checked, Error, Result};
use crate::flow::{change_table, publication};
use crate::pattern::Pattern;
use crate::pg::catalog::{self, Table};
use crate::pg::restriction::{self, Restricted, Rule, Verb};
use crate::steps::selection::is_designated;
use crate::steps::{Needs, Run, names};

/// What the application reads when the configuration gives no message.
const MESSAGE: &str = "This table is read-only during maintenance.";

/// Runs the command; its report.
pub fn run(run: &mut Run, lift: bool) -> Result<Value> {
    run.open(Needs::Target)?;
    let (rules, scratch) = if lift { (Vec::new(), Vec::new()) } else { rules(run)? };
    run.step("check the limited roles", |run| {
        let checked = restriction::check(run.target(), &rules)?;
        refuse(run, checked)
    })?;
    let name = if lift { "lift restrictions" } else { "restrict tables" };
    let outcome = run.step(name, |run| restriction::install(run.target(), &rules))?;
    run.changed = !outcome.changed.is_empty() || outcome.guard_changed;
    if run.changed {
        run.note_event(name);
    }
    warn_of_late_scratch(run, &scratch)?;
    let restricted: Vec<Restricted> = outcome.restricted.into_iter().chain(scratch).collect();
    Ok(json!({ "restricted": restricted }))
}

/// Every precondition of the configured limits.
pub fn check(run: &mut Run) -> Result<Checked> {
    let (rules, _) = rules(run)?;
    restriction::check(run.target(), &rules)
}

/// What is recorded is fixed when capture is armed; a table that becomes scratch later is still skipped by replay.
fn warn_of_late_scratch(run: &mut Run, scratch: &[Restricted]) -> Result<()> {
    let mut published =
        publication::list_published(run.target(), names::CAPTURE_PUBLICATION)?.unwrap_or_default();
    published.extend(change_table::list_recorded(run.target())?.unwrap_or_default());
    for table in scratch {
        if published.iter().any(|name| name.to_string() == table.table) {
            run.warn(format!(
                "changes of scratch table {} are recorded since capture was armed before, though not replayed; before \
                 cutover, pgdetour capture leaves them out",
                table.table
            ));
        }
    }
    Ok(())
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

/// One rule for each `[[restrict]]`, its patterns resolved against the tables that there are; and the scratch tables.
fn rules(run: &mut Run) -> Result<(Vec<Rule>, Vec<Restricted>)> {
    let tables = catalog::list_tables(run.target())?;
    let restrictions = run.config.restrict.clone();
    let mut checked = Checked::default();
    let (mut rules, mut scratch) = (Vec::new(), Vec::new());
    for restrict in &restrictions {
        let selection = restrict.selection()?;
        let designated: Vec<&Table> =
            tables.iter().filter(|table| is_designated(&selection, table)).collect();
        if designated.is_empty() {
            let patterns = restrict.tables.join(", ");
            let message = format!("no table of the target matches {patterns}");
            checked.fail("restrict", &patterns, message, "Correct the tables of this [[restrict]].");
        }
        if restrict.scratch {
            scratch.extend(designated.iter().map(|table| Restricted::scratch(table.display())));
            continue;
        }
        rules.push(Rule {
            tables: designated.iter().map(|table| (table.schema.clone(), table.name.clone())).collect(),
            patterns: selection.include.iter().map(Pattern::regexes).collect(),
            except: selection.exclude.iter().map(Pattern::regexes).collect(),
            deny: restrict.deny.iter().map(|deny| verb(*deny)).collect(),
            columns: restrict.columns.clone(),
            condition: restrict.condition.clone(),
            roles: restrict.roles.clone().unwrap_or_else(|| run.config.traffic.roles.clone()),
            message: restrict.message.clone().unwrap_or_else(|| MESSAGE.into()),
        });
    }
    refuse(run, checked)?;
    scratch.sort_by(|one, other| one.table.cmp(&other.table));
    Ok((rules, scratch))
}
