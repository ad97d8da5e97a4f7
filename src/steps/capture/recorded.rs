//! What of the target's tables recording does not see: tables and partitions that came or went since it began, as changes are
//! recorded by rows, and none was written for that; and what replay has passed over.

use std::collections::HashSet;

use crate::error::{Checked, Finding, Result};
use crate::flow::ChangeSource;
use crate::flow::mapping::TableName;
use crate::flow::source::change_table::list_recorded;
use crate::flow::source::publication::list_published;
use crate::flow::source::recorded::{Moved, Why, list_moved, list_unrecorded};
use crate::output::plural;
use crate::pattern::Selection;
use crate::pg::Session;
use crate::phase::Side;
use crate::steps::Run;

/// How many partitions are named.
const NAMED: usize = 5;

/// What is to be recorded, by the configuration.
pub struct Recorded {
    publication: Option<String>,
    selection: Selection,
    scratch: Vec<Selection>,
}

impl Recorded {
    /// Of this run.
    pub fn of(run: &mut Run) -> Result<Recorded> {
        let publication = match run.recording() {
            ChangeSource::Slot { publication, .. } => Some(publication),
            ChangeSource::Triggers => None,
        };
        Ok(Recorded {
            publication,
            selection: run.config.mirror.selection()?,
            scratch: run.scratch_selections()?,
        })
    }

    /// Tables of the target that are not recorded and are to be, or were.
    fn list(&self, target: &mut Session) -> Result<Vec<(TableName, Why)>> {
        let mut unrecorded = list_unrecorded(target, self.publication.as_deref())?;
        unrecorded.retain(|(table, _)| {
            let is_scratch =
                self.scratch.iter().any(|selection| selection.matches(&table.schema, &table.name));
            self.selection.matches(&table.schema, &table.name) && !is_scratch
        });
        Ok(unrecorded)
    }

    /// Those of them whose rows stay on the target alone.
    pub fn list_missed(&self, target: &mut Session) -> Result<Vec<Finding>> {
        let unrecorded = self.list(target)?;
        let there = unrecorded.iter().filter(|(_, why)| *why != Why::Dropped);
        Ok(there.map(|(table, why)| missed(table, *why)).collect())
    }
}

/// All of it: what is lost for the source if nobody acts, and what may be.
pub fn find(run: &mut Run) -> Result<Checked> {
    let mut checked = Checked::default();
    let recorded = Recorded::of(run)?;
    let source = run.recording();
    let passed_over =
        if run.answering(Side::Target).is_some() { run.passed_over()? } else { HashSet::default() };
    let Some(target) = run.answering(Side::Target) else { return Ok(checked) };
    checked.warnings.extend(list_moved(target)?.into_iter().map(moved));
    let listed = match &source {
        ChangeSource::Slot { publication, .. } => list_published(target, publication)?,
        ChangeSource::Triggers => list_recorded(target)?,
    };
    for table in listed.into_iter().flatten().filter(|table| passed_over.contains(table)) {
        let message = format!(
            "changes of table \"{table}\" are recorded and passed over, since [mirror] leaves it out: should it be selected again, only \
             pgdetour capture --anew brings its rows home"
        );
        checked.warn(
            "passed_over",
            &table.to_string(),
            message,
            source.hint_to_leave_out(&table.schema, &table.name),
        );
    }
    for (table, why) in recorded.list(target)? {
        if why != Why::Dropped || has_image(run, &table)? {
            checked.failures.push(missed(&table, why));
        }
    }
    Ok(checked)
}

/// Whether the source has a table for its rows, as far as it answers.
fn has_image(run: &mut Run, table: &TableName) -> Result<bool> {
    if run.answering(Side::Source).is_none() {
        return Ok(false);
    }
    let maps = run.config.map.iter().filter(|map| map.from.to_string() == table.to_string());
    let mut images: Vec<String> = maps.map(|map| map.to.to_string()).collect();
    if images.is_empty() {
        images.push(table.to_string());
    }
    Ok(run.list_tables(Side::Source)?.iter().any(|table| images.contains(&table.display())))
}

fn missed(table: &TableName, why: Why) -> Finding {
    const ANEW: &str = "Run pgdetour capture --anew, which records it from then on and makes the source equal; or add it to \
                        mirror.exclude.";
    let (message, hint) = match why {
        Why::New => ("was made on the target since recording began: its rows are not recorded", ANEW),
        Why::Replaced => (
            "was dropped or renamed on the target since recording began, and another one made in its place: its rows are not recorded",
            ANEW,
        ),
        Why::Misnamed => (
            "was renamed on the target since recording began, and another one was recorded under the name that it has now: changes of \
             both would be taken for each other's",
            "Rename it back; or run pgdetour capture --anew, which records it by this name from then on and makes the source equal.",
        ),
        Why::Unpublished => ("was taken out of what is recorded: changes of it were missed since", ANEW),
        Why::PassedOver => (
            "was left out by [mirror] for a while, and replay has passed over changes of it: the source lacks them, and nothing that is \
             recorded has them any more",
            ANEW,
        ),
        Why::Dropped => (
            "was dropped on the target since recording began, which is not recorded: its rows are still on the source",
            "Drop it on the source, too, or add it to mirror.exclude to keep its rows there; then run the same command again.",
        ),
    };
    Finding::new("unrecorded", table.to_string(), format!("table \"{table}\" {message}"), hint)
}

fn moved(moved: Moved) -> Finding {
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
