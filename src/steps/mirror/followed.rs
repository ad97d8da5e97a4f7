//! What the mirror's flow has lost. A table that was dropped and made again is another one, of which no flow knows, and no stream
//! carries the values that an ALTER gives to a column: neither has to show in how the table is defined.

use std::collections::{BTreeMap, HashSet};

use crate::error::Result;
use crate::flow::mapping::TableName;
use crate::flow::source::change_table;
use crate::flow::source::publication::{self, Altered};
use crate::flow::{ChangeSource, copy, subscription};
use crate::pg::catalog::Table;
use crate::pg::catalog::objects::Name;
use crate::pg::catalog::origin::{Change, End, Origin, list_origins};
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
    let altered = match &source {
        ChangeSource::Slot { publication, .. } => {
            publication::find_altered(run.session(publisher), publication)?
        }
        ChangeSource::Triggers => Altered::default(),
    };
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
        let altered_as = altered.of(&table.root.as_ref().map_or_else(
            || told.clone(),
            |(schema, name)| TableName { schema: schema.clone(), name: name.clone() },
        ));
        let is_applied = table.partitioned || applied.as_ref().is_none_or(|all| all.contains(&told));
        let known = copy.image_origin.as_ref();
        let change = copy.origin.as_ref().and_then(|origin| origin.change(now, known, image));
        let since = "since its copy was made";
        let place = |end: &End| match end {
            End::Publisher => publisher,
            End::Subscriber => subscriber,
        };
        let replaced = |end: &End| {
            format!("was dropped or renamed on the {} {since}, and another one is in its place", place(end))
        };
        let doubt = |why| Doubt { why, now: now.clone(), root: table.root.clone(), copy: subscriber };
        let why = match &change {
            Some(Change::Replaced(end)) => replaced(end),
            _ if copy.image.is_some_and(|known| known != image.relation) => replaced(&End::Subscriber),
            _ if !is_recorded => {
                format!(
                    "is not among what is recorded on the {publisher} any more: changes of it were missed"
                )
            }
            _ if !is_applied => format!(
                "is not in the mirror's subscription on the {subscriber} any more: changes of it were missed"
            ),
            _ if altered_as.is_some() => format!(
                "may be without changes that were missed: publication \"{}\" on the {publisher} was altered, and {}",
                names::MIRROR_PUBLICATION,
                altered_as.unwrap_or_default()
            ),
            Some(Change::ColumnReplaced(end, column)) => format!(
                "has another column \"{column}\" on the {} than it had: that was dropped {since}",
                place(end)
            ),
            Some(Change::FilledOtherwise(column)) => format!(
                "got column \"{column}\" {since}, in which older rows may have other values on the {subscriber}: each server has given \
                 them its own"
            ),
            Some(Change::MaybeFilledOtherwise(column)) => {
                let why = format!(
                    "may have other values in column \"{column}\", which it got {since}: the table was rewritten, and nothing tells any \
                     more what older rows were given"
                );
                found.doubtful.insert(name, doubt(why));
                continue;
            }
            Some(Change::MaybeRewritten(end, column)) => {
                let why = format!(
                    "may have other values in column \"{column}\": an ALTER may have rewritten them on the {} {since}",
                    place(end)
                );
                found.doubtful.insert(name, doubt(why));
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
