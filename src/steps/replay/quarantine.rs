//! Changes that replay has set aside: shown, tried again, given up.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::apply::quarantine;
use crate::output::plural_is;
use crate::pg::record;
use crate::steps::{Run, preconditions, replay};

/// How many changes are shown at once; the report says how many are left.
const SHOWN: i64 = 1000;

/// What is set aside behind number `after`, each with why.
pub fn list(run: &mut Run, id: Option<i64>, after: i64) -> Result<Value> {
    if !record::has_table(run.source(), "quarantine")? {
        return Ok(json!({ "quarantined": 0, "entries": [], "left": 0 }));
    }
    let entries = quarantine::list(run.source(), after, id, SHOWN)?;
    let quarantined = record::count_quarantined(run.source())?;
    let last = entries.last().map_or(after, |entry| entry.id);
    let left = if id.is_some() { 0 } else { quarantine::count_behind(run.source(), last)? };
    if left > 0 {
        run.warn(format!(
            "{} of {quarantined} changes in quarantine are shown; {left} more with pgdetour replay --quarantine list --after {last}",
            entries.len()
        ));
    }
    Ok(json!({ "quarantined": quarantined, "entries": entries, "left": left }))
}

/// Applies what fits by now.
pub fn retry(run: &mut Run, id: Option<i64>) -> Result<Value> {
    run.step("check preconditions", |run| run.require(&[preconditions::REPLAY]))?;
    let retried = record::count_quarantined(run.source())?;
    let applied = run.step("try quarantined changes again", |run| {
        if run.plan.is_dry() {
            run.source().note("apply the changes in quarantine that fit by now");
            return Ok(0);
        }
        let flow = replay::mapped_flow(run)?;
        quarantine::retry(&flow, id)
    })?;
    run.changed = applied > 0;
    let quarantined = record::count_quarantined(run.source())?;
    Ok(json!({
        "retried": if id.is_some() { 1 } else { retried },
        "applied": applied,
        "quarantined": quarantined,
    }))
}

/// Gives changes up, once that is confirmed.
pub fn skip(run: &mut Run, id: Option<i64>) -> Result<Value> {
    let count = record::count_quarantined(run.source())?;
    if let Some(id) = id
        && quarantine::list(run.source(), 0, Some(id), 1)?.is_empty()
    {
        return Err(quarantine::not_quarantined(id));
    }
    if count > 0 {
        run.confirm(&match id {
            Some(id) => format!("give up change {id}: the source never gets it"),
            None => format!("give up all {count} changes in quarantine: the source never gets them"),
        })?;
    }
    let skipped = run.step("give up quarantined changes", |run| quarantine::skip(run.source(), id))?;
    run.changed = skipped > 0;
    let quarantined = record::count_quarantined(run.source())?;
    Ok(json!({ "skipped": skipped, "quarantined": quarantined }))
}

impl Run {
    /// Refuses unless exactly as many changes are set aside as were accepted.
    pub fn refuse_quarantined(&mut self) -> Result<()> {
        let count = record::count_quarantined(self.source())?;
        if count == self.accept_quarantined {
            return Ok(());
        }
        Err(Error::Refused {
            kind: "quarantine",
            message: format!("{} in quarantine", plural_is(count as u64, "change")),
            detail: (self.accept_quarantined > 0)
                .then(|| format!("{} were accepted", self.accept_quarantined)),
            hint: preconditions::QUARANTINE_HINT.into(),
        })
    }
}
