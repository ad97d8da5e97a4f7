//! Partitions that came or went on the target while it served. Changes are recorded by rows, and none was written for that.

use crate::error::{Finding, Result};
use crate::output::plural;
use crate::pg::catalog::Table;
use crate::pg::catalog::partitions::{Moved, list_moved, list_partitions};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::facts::Facts;

/// How many of them are named.
const NAMED: usize = 5;

/// Notes which there are, as recording begins.
pub fn note(run: &mut Run, tables: &[Table]) -> Result<()> {
    let roots: Vec<u32> = tables
        .iter()
        .filter(|table| table.partitioned && table.root.is_none())
        .map(|table| table.oid)
        .collect();
    let partitions = if roots.is_empty() { Vec::new() } else { list_partitions(run.target(), &roots)? };
    run.add_facts(&Facts { partitions: Some(partitions), ..Facts::default() })
}

/// What moved since, so that the source lacks rows or has too many.
pub fn find(run: &mut Run) -> Result<Vec<Finding>> {
    let known = run.facts()?.partitions.unwrap_or_default();
    let Some(target) = run.answering(Side::Target).filter(|_| !known.is_empty()) else {
        return Ok(Vec::new());
    };
    Ok(list_moved(target, &known)?.into_iter().map(finding).collect())
}

fn finding(moved: Moved) -> Finding {
    let mut names = moved.partitions[..moved.partitions.len().min(NAMED)].join(", ");
    if moved.partitions.len() > NAMED {
        names = format!("{names} and {} more", moved.partitions.len() - NAMED);
    }
    let count = plural(moved.partitions.len() as u64, "partition");
    let message = if moved.attached {
        format!(
            "{count} attached on the target since recording began ({names}): rows that were in there by then are not recorded"
        )
    } else {
        format!(
            "{count} detached or dropped on the target since recording began ({names}), which is not recorded: the rows stay on the source"
        )
    };
    let hint = "See with pgdetour verify whether the source differs. Do the same there by hand, or run pgdetour capture --anew, \
                which makes it equal.";
    Finding::new("moved_partitions", moved.table, message, hint)
}
