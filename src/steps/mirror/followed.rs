//! What the mirror's flow has lost. A table that was dropped and made again is another one, of which no flow knows, and no stream
//! carries the values that an ALTER gives to a column: neither has to show in how the table is defined.

use std::collections::{BTreeMap, HashSet};

use crate::error::Result;
use crate::flow::mapping::TableName;
use crate::flow::source::{change_table, publication};
use crate::flow::{ChangeSource, copy, subscription};
use crate::pg::catalog::Table;
use crate::pg::catalog::objects::Name;
use crate::pg::catalog::origin::{Change, Origin, list_origins};
use crate::phase::Place;
use crate::steps::Run;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::names;

/// Tables that were copied and may not be what their copies are any more, each with what has become of it.
#[derive(Default)]
pub struct Found {
    /// They have to be copied again.
    pub lost: BTreeMap<Name, String>,
    /// Only a look at their rows tells.
    pub doubtful: BTreeMap<Name, Doubt>,
}

/// Values of a table may have been rewritten.
pub struct Doubt {
    /// What has become of it.
    pub why: String,
    /// What the table is by now.
    pub now: Origin,
    /// The partitioned table that it is a part of.
    pub root: Option<Name>,
    /// Where its copy is.
    pub copy: Place,
}

/// Tables of a stage of which only a look at their rows tells whether their copies are the same.
pub fn list_doubtful(run: &mut Run, stage: Stage) -> Result<BTreeMap<Name, Doubt>> {
    let mut found = Found::default();
    look_at(run, stage, &mut found)?;
    Ok(found.doubtful)
}

/// Looks at every stage of which both ends are there.
pub fn find(run: &mut Run) -> Result<Found> {
    let mut found = Found::default();
    let there = run.places();
    for stage in run.stages() {
        if there.contains(&stage.publisher()) && there.contains(&stage.subscriber()) {
            look_at(run, *stage, &mut found)?;
        }
    }
    Ok(found)
}

fn look_at(run: &mut Run, stage: Stage, found: &mut Found) -> Result<()> {
    let (publisher, subscriber) = (stage.publisher(), stage.subscriber());
    let copies = copy::list_table_copies(run.session(subscriber))?.into_iter();
    let copies: BTreeMap<Name, copy::TableCopy> = copies
        .filter(|copy| copy.state == copy::State::Copied)
        .map(|copy| (copy.name.clone(), copy))
        .collect();
    if copies.is_empty() {
        return Ok(());
    }
    let mut tables = run.selected_tables(publisher)?;
    tables.retain(|table| copies.contains_key(&table.full_name()));
    let wanted: Vec<Name> = tables.iter().map(Table::full_name).collect();
    let origins = list_origins(run.session(publisher), &wanted)?;
    let images = list_origins(run.session(subscriber), &wanted)?;
    let source = stage.changes(run.config.mirror.method);
    let recorded = list_recorded(run, stage, &source)?;
    let applied = subscription::list_subscribed(run.session(subscriber), names::MIRROR_SUBSCRIPTION)?;
    for table in &tables {
        let name = table.full_name();
        // One that is on one side only is a finding of its own.
        let (copy, Some(now), Some(image)) = (&copies[&name], origins.get(&name), images.get(&name)) else {
            continue;
        };
        let told = TableName::of(table);
        // A publication has a root's partitions with it.
        let goes_with_root = table.root.is_some() && source != ChangeSource::Triggers;
        let is_recorded = recorded.as_ref().is_none_or(|all| goes_with_root || all.contains(&told));
        let is_applied = table.partitioned || applied.as_ref().is_none_or(|all| all.contains(&told));
        let change = copy.origin.as_ref().and_then(|origin| origin.change(now, image));
        let since = "since its copy was made";
        let replaced =
            |place| format!("was dropped or renamed on the {place} {since}, and another one is in its place");
        let why = match change {
            Some(Change::Replaced) => replaced(publisher),
            _ if copy.image.is_some_and(|known| known != image.relation) => replaced(subscriber),
            _ if !is_recorded => {
                format!(
                    "is not among what is recorded on the {publisher} any more: changes of it were missed"
                )
            }
            _ if !is_applied => format!(
                "is not in the mirror's subscription on the {subscriber} any more: changes of it were missed"
            ),
            Some(Change::ColumnReplaced(column)) => format!(
                "has another column \"{column}\" on the {publisher} than it had: that was dropped {since}"
            ),
            Some(Change::FilledOtherwise(column)) => format!(
                "got column \"{column}\" {since}, in which older rows may have other values on the {subscriber}: each server has given \
                 them its own"
            ),
            Some(Change::MaybeRewritten(column)) => {
                let why = format!(
                    "may have other values in column \"{column}\": an ALTER may have rewritten them on the {publisher} {since}"
                );
                let (now, root) = (now.clone(), table.root.clone());
                found.doubtful.insert(name, Doubt { why, now, root, copy: subscriber });
                continue;
            }
            None => continue,
        };
        found.lost.insert(name, why);
    }
    Ok(())
}

/// Tables whose changes are recorded; none where nothing can be, which is a finding of its own.
fn list_recorded(run: &mut Run, stage: Stage, source: &ChangeSource) -> Result<Option<HashSet<TableName>>> {
    let publisher = run.session(stage.publisher());
    let recorded = match source {
        ChangeSource::Slot { publication, .. } => publication::list_published(publisher, publication)?,
        ChangeSource::Triggers => change_table::list_recorded(publisher)?,
    };
    Ok(recorded.map(|tables| tables.into_iter().collect()))
}
