//! Every precondition of every later step, all findings in one run; changes nothing.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::phase::Phase;
use crate::steps::{Needs, Run, preconditions};

/// Runs the command; its report.
pub fn run(run: &mut Run) -> Result<Value> {
    run.connect(Needs::Both)?;
    let phase = run.phase();
    let checked = run.check_all(preconditions::ahead_of(phase))?;
    for warning in &checked.warnings {
        run.warn(format!("{}: {}. {}", warning.object, warning.message, warning.hint));
    }
    let lint = match phase {
        Phase::Mirrored | Phase::Detoured => run.lint()?,
        _ => Vec::new(),
    };
    let report = json!({
        "phase": phase,
        "next": phase.next(),
        "failures": checked.failures,
        "remarks": checked.warnings,
        "lint": lint,
    });
    if !checked.failures.is_empty() {
        // Where a mapping is missing, what it could be is needed most.
        run.report = Some(report);
        return Err(Error::ChecksFailed { findings: checked.failures });
    }
    Ok(report)
}
