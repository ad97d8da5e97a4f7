//! Every precondition of every later step, all findings in one run; changes nothing.

pub mod grants;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Checked, Error, Finding, Result};
use crate::phase::{Command, Phase, Place};
use crate::steps::preconditions::Precondition;
use crate::steps::{Needs, Run, preconditions};

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Question {
    /// Whether all preconditions hold.
    Preconditions,
    /// The statements that give a role what it needs.
    Grants {
        /// The role, when it is not the one that connects.
        role: Option<String>,
        /// Only on this side.
        side: Option<Place>,
    },
}

/// One precondition of one step, and what was found: a line of the table.
#[derive(Debug, Serialize)]
struct Line {
    step: Command,
    check: String,
    state: State,
    #[serde(skip_serializing_if = "String::is_empty")]
    object: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Holds,
    Warns,
    Fails,
}

/// Runs the command; its report.
pub fn run(run: &mut Run, question: &Question) -> Result<Value> {
    if let Question::Grants { role: Some(role), .. } = question {
        run.reach_backup_without(role);
    }
    run.connect(Needs::Both)?;
    if let Question::Grants { role, side } = question {
        if *side == Some(Place::Backup) && !run.has_backup() {
            return Err(Error::Usage {
                message: "there is no backup".into(),
                hint: "Name it in target.backup_conninfo.".into(),
            });
        }
        let mut grants = grants::list(run, role.as_deref())?;
        grants.retain(|grants| side.is_none_or(|side| side == grants.side));
        return Ok(json!({ "grants": grants }));
    }
    let phase = run.phase();
    let (lines, failures, lint) = run.looking_once(|run| {
        let (lines, failures) = check_ahead(run, phase)?;
        let lint = match phase {
            Phase::Mirrored | Phase::Detoured => run.lint(&failures)?,
            _ => Vec::new(),
        };
        Ok((lines, failures, lint))
    })?;
    let report = json!({ "phase": phase, "next": phase.next(), "checks": lines, "lint": lint });
    if !failures.is_empty() {
        // Where a mapping is missing, what it could be is needed most.
        run.report = Some(report);
        return Err(Error::ChecksFailed { findings: failures });
    }
    Ok(report)
}

/// Every precondition of every step ahead, each once; a warning is told as one.
fn check_ahead(run: &mut Run, phase: Phase) -> Result<(Vec<Line>, Vec<Finding>)> {
    let mut done: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for (step, group) in preconditions::ahead_of(phase) {
        for (path, check) in *group {
            if done.contains(path) {
                continue;
            }
            done.push(path);
            let checked = found(run, &(path, *check))?;
            for warning in &checked.warnings {
                run.warn(format!("{}: {}. {}", warning.object, warning.message, warning.hint));
            }
            let line = |state, finding: Option<&Finding>| Line {
                step: *step,
                check: name_of(path),
                state,
                object: finding.map(|finding| finding.object.clone()).unwrap_or_default(),
                message: finding.map(|finding| finding.message.clone()).unwrap_or_default(),
                fix: finding.map(|finding| finding.hint.clone()).unwrap_or_default(),
            };
            lines.extend(checked.failures.iter().map(|finding| line(State::Fails, Some(finding))));
            lines.extend(checked.warnings.iter().map(|finding| line(State::Warns, Some(finding))));
            if checked.failures.is_empty() && checked.warnings.is_empty() {
                lines.push(line(State::Holds, None));
            }
            // Two steps may need the same, and one mends it for both.
            let fresh = checked.failures.into_iter().filter(|finding| !failures.contains(finding));
            let fresh: Vec<Finding> = fresh.collect();
            failures.extend(fresh);
        }
    }
    Ok((lines, failures))
}

/// What one check finds; a statement that its role may not run is a finding, too, and the others go on.
fn found(run: &mut Run, (path, check): &Precondition) -> Result<Checked> {
    let mut checked = Checked::default();
    match check(run, &mut checked) {
        Err(error) if !error.is_connection_lost() && error.server_error().is_some() => {
            let hint = error.hint().unwrap_or_else(|| "The server's log tells more.".into());
            checked.fail("check_failed", &name_of(path), error.with_cause(), hint);
            Ok(checked)
        }
        outcome => outcome.map(|()| checked),
    }
}

/// `source wal level` of `servers::source_wal_level`, `privileges of capture` of `privileges::capture`.
fn name_of(path: &str) -> String {
    let name = path.rsplit("::").next().unwrap_or(path).replace('_', " ");
    if path.starts_with("privileges::") { format!("privileges of {name}") } else { name }
}
