//! Whether the mapping would take the rows that the target has now: found out, and nothing kept.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::TableName;
use crate::flow::apply::rehearse::{self, Rehearsal, RowFailure};
use crate::output::plural;
use crate::pg::catalog;
use crate::phase::Side;
use crate::steps::{Run, preconditions};

/// How many rows the message names; the report has more.
const NAMED: usize = 5;

/// Tries all rows, or `sample` of each table; its report. A row that does not fit is [`Error::Conflict`].
pub fn run(run: &mut Run, sample: Option<u64>) -> Result<Value> {
    run.step("check preconditions", |run| run.require(&[preconditions::REPLAY]))?;
    let rehearsal = run.step("rehearse the mapping", |run| try_rows(run, sample))?;
    let (rows, failed) = (rehearsal.rows(), rehearsal.failed());
    let report = json!({
        "rows": rows,
        "failed": failed,
        "rehearsed": rehearsal.tables,
        "failures": rehearsal.failures,
    });
    if failed == 0 {
        return Ok(report);
    }
    run.report = Some(report);
    let first = rehearsal.failures.first();
    let advice = rehearsal.failures.iter().find_map(|failure| failure.hint.as_deref());
    let named: Vec<String> = rehearsal.failures.iter().take(NAMED).map(describe).collect();
    Err(Error::Conflict {
        kind: "rehearsal",
        sqlstate: first.map(|failure| failure.sqlstate.clone()),
        message: format!("{} would not fit on the source", plural(failed, "row")),
        detail: Some(named.join("; ")),
        hint: format!(
            "{}run pgdetour replay --rehearse again.",
            advice.map_or_else(
                || "Correct the [[map]], or the source's tables or rows, and ".to_owned(),
                |advice| format!("{advice} Then ")
            )
        ),
    })
}

fn try_rows(run: &mut Run, sample: Option<u64>) -> Result<Rehearsal> {
    if run.plan.is_dry() {
        run.source().note("try the mapping in temporary tables, and roll back");
        return Ok(Rehearsal::default());
    }
    let mapping = run.replay_mapping()?;
    let tables = catalog::list_tables(run.target())?;
    let estimates = |name: &TableName| {
        let is_it = |table: &&catalog::Table| table.schema == name.schema && table.name == name.name;
        tables.iter().find(is_it).map_or(0.0, |table| table.rows_estimate)
    };
    let (mut source, mut target) = (run.server(Side::Source).connect()?, run.server(Side::Target).connect()?);
    let heed = || run.heed_signals();
    rehearse::rehearse(&mut target, &mut source, &mapping, sample, &estimates, &heed)
}

fn describe(failure: &RowFailure) -> String {
    let RowFailure { table, key, sqlstate, message, .. } = failure;
    format!("table \"{table}\", key {key}: {message} (SQLSTATE {sqlstate})")
}
