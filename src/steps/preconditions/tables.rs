//! What the tables have to be like: decodable, identifiable, fitting the other side.

use std::collections::{BTreeSet, HashSet};

use crate::config::{CaptureMethod, SchemaMode};
use crate::error::{Checked, Error, Result};
use crate::flow::mapping::triggers::{list_always_triggers, list_ordinary_triggers};
use crate::flow::mapping::{Mapping, Unsteady};
use crate::flow::sequences::Untold;
use crate::flow::{TableName, copy};
use crate::output::plural_is;
use crate::pg::Session;
use crate::pg::catalog::facts::{may_set_replica_role, read_own_role};
use crate::pg::catalog::objects::{
    Dependent, Name, fingerprint_named, fingerprint_tables, list_dependents, list_user_objects,
};
use crate::pg::catalog::{Identity, Table};
use crate::pg::record;
use crate::phase::{Phase, Place, Side};
use crate::sql;
use crate::steps::Run;
use crate::steps::capture::recorded;
use crate::steps::replay::quarantine;

/// How many objects of a target that is not empty are named.
const NAMED: usize = 20;

/// The patterns select something.
pub fn selected(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.selected_tables(Side::Source)?.is_empty() {
        let patterns = run.config.mirror.tables.join(", ");
        let message = format!("no table of the source matches {patterns}");
        checked.fail("tables", "source", message, "Correct mirror.tables and mirror.exclude.");
    }
    Ok(())
}

/// Updates and deletes on the source can name their row.
pub fn replica_identity(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let tables = run.selected_tables(Side::Source)?;
    identity(&tables, checked);
    Ok(())
}

/// Updates and deletes on the target can name their row.
pub fn captured_identity(run: &mut Run, checked: &mut Checked) -> Result<()> {
    // The target's tables are the source's copies; while they are being made, the source's are checked.
    if matches!(run.phase(), Phase::Absent | Phase::Mirroring) {
        return Ok(());
    }
    let tables = run.selected_tables(Side::Target)?;
    identity(&tables, checked);
    Ok(())
}

fn identity(tables: &[Table], checked: &mut Checked) {
    let identified = |table: &&Table| !table.key.is_empty() || table.identity == Identity::Full;
    for table in tables.iter().filter(|table| !table.partitioned && !identified(table)) {
        let name = table.display();
        // Publishing it anyway would make the application's own UPDATE fail at once.
        let message = format!(
            "table \"{name}\" has no replica identity, so its updates and deletes cannot be followed"
        );
        let hint = format!(
            "Give it a primary key, or run ALTER TABLE {} REPLICA IDENTITY FULL; or add it to mirror.exclude.",
            table.quoted()
        );
        checked.fail("replica_identity", &name, message, hint);
    }
}

/// What is to be filled holds nothing that a copy could run into.
pub fn target_is_empty(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.schema == SchemaMode::Existing {
        return Ok(());
    }
    match run.phase() {
        Phase::Absent => {}
        Phase::Mirroring => return nothing_made_meanwhile(run, checked),
        _ => return Ok(()),
    }
    for place in run.stages().iter().map(|stage| stage.subscriber()) {
        let objects = list_user_objects(run.session(place))?;
        let hint = match place {
            Place::Backup => "Give an empty database as the backup.",
            _ => {
                "Give an empty database as the target, or set mirror.schema = \"existing\" to fill its tables."
            }
        };
        for object in objects.iter().take(NAMED) {
            let name = format!("{}.{}", object.schema, object.name);
            let message = format!("the {place} is not empty: it holds {} \"{name}\"", object.kind);
            checked.fail("target_empty", &name, message, hint);
        }
        if objects.len() > NAMED {
            let message =
                format!("the {place} is not empty: it holds {} more objects", objects.len() - NAMED);
            checked.fail("target_empty", place.name(), message, hint);
        }
    }
    Ok(())
}

/// A copy that begins anew removes what it finds, which has to be ours.
fn nothing_made_meanwhile(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let facts = run.facts()?;
    for (place, before) in [(Place::Backup, facts.backup_before), (Place::Target, facts.target_before)] {
        if let (Some(session), Some(before)) = (run.answering(place), before) {
            checked.failures.extend(copy::list_strange(session, &before)?);
        }
    }
    Ok(())
}

/// Nothing of what is mirrored needs what is not: it would be made without, as a table that a policy does not guard.
pub fn nothing_lacking(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.schema == SchemaMode::Existing
        || !matches!(run.phase(), Phase::Absent | Phase::Mirroring)
    {
        return Ok(());
    }
    let selected: HashSet<u32> = run.matching_tables(Side::Source)?.iter().map(|table| table.oid).collect();
    let left_out: Vec<u32> = run.list_tables(Side::Source)?.iter().map(|table| table.oid).collect();
    let left_out: Vec<u32> = left_out.into_iter().filter(|oid| !selected.contains(oid)).collect();
    for dependent in list_dependents(run.source(), &left_out)? {
        if let Dependent::Lacking { identity, needs } = dependent {
            let message = format!("it needs {needs}, which is not mirrored");
            let hint =
                "Mirror that, too (mirror.tables, mirror.exclude), or change this so that it does without.";
            checked.fail("needs_excluded", &identity, message, hint);
        }
    }
    Ok(())
}

/// With `schema = "existing"`: every selected table has its image on the target, and it is empty.
pub fn existing_schema_fits(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.schema != SchemaMode::Existing || run.phase() != Phase::Absent {
        return Ok(());
    }
    let publisher = run.selected_tables(Side::Source)?;
    let subscriber = run.list_tables(Side::Target)?;
    collect(Mapping::build(&publisher, &[], run.target()), checked)?;
    for table in &publisher {
        let Some(image) = subscriber.iter().find(|t| t.schema == table.schema && t.name == table.name) else {
            continue;
        };
        if has_rows(run.target(), image)? {
            let name = table.display();
            let hint = format!("Run TRUNCATE {}; on the target, if its rows are not needed.", table.quoted());
            checked.fail("target_empty", &name, format!("table \"{name}\" of the target is not empty"), hint);
        }
    }
    Ok(())
}

/// A TRUNCATE of one partition reaches the target: it is not in the stream of a publication that has the changes of partitions under the
/// names of their roots. Triggers record it.
pub fn emptied_partitions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.method == CaptureMethod::Trigger {
        return Ok(());
    }
    for table in run.selected_tables(Side::Source)?.iter().filter(|table| table.part.through_root) {
        let name = table.display();
        let message = format!(
            "table \"{name}\" is mirrored as one, since the target lacks partitions of the source: a TRUNCATE of one of its \
             partitions does not reach the target"
        );
        let hint = "Until cutover, empty a partition by DELETE; after a TRUNCATE of one, run pgdetour verify --repair.";
        checked.warn("partition_truncate", &name, message, hint);
    }
    Ok(())
}

/// The schema is still what was mirrored: a change of the source's tables since is not on the target.
pub fn schema_unchanged(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.facts()?.target_before.is_none() {
        return Ok(());
    }
    let source = run.selected_tables(Side::Source)?;
    let wanted = fingerprint_tables(run.source(), &source)?;
    let copies = copy::list_table_copies(run.target())?;
    let known: HashSet<&Name> = copies.iter().map(|copy| &copy.name).collect();
    for place in run.places().into_iter().filter(|place| *place != Place::Source) {
        let tables = run.selected_tables(place)?;
        let found = fingerprint_tables(run.session(place), &tables)?;
        let hint = format!("Make the same change on the {place}, or run pgdetour clean and mirror again.");
        for (name, fingerprint) in &wanted {
            let table = format!("{}.{}", name.0, name.1);
            match found.get(name) {
                None if known.contains(name) => {
                    let message = format!("table \"{table}\" is not on the {place} any more");
                    checked.fail("schema", &table, message, "Run pgdetour clean and mirror again.");
                }
                None => {
                    let hint = "Run pgdetour mirror, which adds it, or leave it out with mirror.exclude.";
                    checked.fail("schema", &table, format!("table \"{table}\" is not on the {place}"), hint);
                }
                Some(other) if other != fingerprint => {
                    let message =
                        format!("table \"{table}\" has another definition on the source than on the {place}");
                    checked.fail("schema", &table, message, &hint);
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// What was mirrored is still on the source: replay would have no place for the rows of a table that is not.
pub fn still_on_the_source(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let source: HashSet<Name> = named(run.list_tables(Side::Source)?).collect();
    let mirrored: HashSet<Name> = named(run.selected_tables(Side::Target)?).collect();
    for copy in copy::list_table_copies(run.target())? {
        if source.contains(&copy.name) || !mirrored.contains(&copy.name) {
            continue;
        }
        let table = format!("{}.{}", copy.name.0, copy.name.1);
        let message = format!("table \"{table}\" is not on the source any more");
        let hint = format!(
            "Add it to mirror.exclude, where it may stay on the target, or run DROP TABLE {}; there.",
            sql::quote_qualified(&copy.name.0, &copy.name.1)
        );
        checked.fail("schema", &table, message, hint);
    }
    Ok(())
}

fn named(tables: Vec<Table>) -> impl Iterator<Item = Name> {
    tables.into_iter().map(|table| (table.schema, table.name))
}

/// The source's tables are still those that were, or are being, copied. A change that was made on the copy too is
/// noted as the new state.
pub fn schema_as_mirrored(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let there = run.places();
    let holders = run.stages().iter().map(|stage| stage.subscriber()).filter(|place| there.contains(place));
    holders.collect::<Vec<_>>().into_iter().try_for_each(|place| as_mirrored_to(run, place, checked))
}

fn as_mirrored_to(run: &mut Run, place: Place, checked: &mut Checked) -> Result<()> {
    let copies = copy::list_table_copies(run.session(place))?;
    let selection = run.config.mirror.selection()?;
    let known: Vec<(Name, String)> =
        copies.into_iter().filter_map(|copy| Some((copy.name, copy.fingerprint?))).collect();
    if known.is_empty() {
        return Ok(());
    }
    let names: Vec<Name> = known.iter().map(|(name, _)| name.clone()).collect();
    let found = fingerprint_named(run.source(), &names)?;
    let differing: Vec<Name> = known
        .into_iter()
        .filter(|(name, fingerprint)| found.get(name) != Some(fingerprint))
        .map(|(name, _)| name)
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let images = fingerprint_named(run.session(place), &differing)?;
    let mut adopted = Vec::new();
    for name in differing {
        let table = format!("{}.{}", name.0, name.1);
        match found.get(&name) {
            Some(fingerprint) if images.get(&name) == Some(fingerprint) => {
                adopted.push((name, fingerprint.clone()));
            }
            Some(_) => checked.fail(
                "schema",
                &table,
                format!("table \"{table}\" was changed on the source since its copy was made"),
                format!(
                    "Make the same change on the {place}, then run the same command again; or run pgdetour clean and \
                     mirror again."
                ),
            ),
            None if selection.matches(&name.0, &name.1) => checked.fail(
                "schema",
                &table,
                format!("table \"{table}\" is not on the source any more"),
                format!("Add it to mirror.exclude and run the same command again; its copy stays on the {place}."),
            ),
            None => {}
        }
    }
    if !adopted.is_empty() {
        copy::update_fingerprints(run.session(place), &adopted)?;
    }
    Ok(())
}

fn has_rows(session: &mut Session, table: &Table) -> Result<bool> {
    let only = if table.partitioned { "" } else { "only " };
    let rows = session.query_text(&format!("select 1 from {only}{} limit 1", table.quoted()), &[])?;
    Ok(!rows.is_empty())
}

/// Every captured column has a place on the source as it is now.
pub fn mapping(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let built = run.replay_mapping();
    if let Ok(mapping) = &built {
        // Partitions have the rule of their root.
        let told: BTreeSet<(String, String)> = mapping
            .pairs()
            .flat_map(|rule| {
                let from = rule.from_root.as_ref().unwrap_or(&rule.from);
                rule.unsteady.iter().map(|one| (from.to_string(), one.message(&rule.to)))
            })
            .collect();
        for (from, message) in told {
            checked.warn("mapping", &from, message, Unsteady::HINT);
        }
    }
    collect(built.map(|mapping| run.checked_mapping = Some(mapping)), checked)
}

/// No trigger of the source makes other rows of those that replay writes; without a mapping nobody knows yet which tables these are.
pub fn source_triggers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let Some(mapping) = &run.checked_mapping else { return Ok(()) };
    let written: HashSet<TableName> = mapping.pairs().map(|rule| rule.to.clone()).collect();
    for trigger in list_always_triggers(run.source())? {
        if !trigger.is_on(|table| written.contains(table)) {
            continue;
        }
        let message = format!(
            "trigger \"{}\" is ENABLE ALWAYS or REPLICA, and fires on replayed rows, which it may change",
            trigger.name
        );
        let hint = format!(
            "Unless that is wanted, run ALTER TABLE {} ENABLE TRIGGER {}; on the source, and make it as it was after cutback.",
            trigger.table.quoted(),
            sql::quote_identifier(&trigger.name)
        );
        checked.warn("source_trigger", &trigger.table.to_string(), message, hint);
    }
    Ok(())
}

/// No trigger makes other rows of those that are mirrored, where what we write fires them.
pub fn mirror_triggers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    // Those of the source come with its schema, before anything is caught up.
    let comes_from_source = run.config.mirror.schema == SchemaMode::Dump
        && matches!(run.phase(), Phase::Absent | Phase::Mirroring);
    let there = run.places();
    let subscribers = run.stages().iter().map(|stage| stage.subscriber());
    for place in subscribers.filter(|place| there.contains(place)).collect::<Vec<_>>() {
        if may_set_replica_role(run.session(place))? {
            continue;
        }
        let written: HashSet<TableName> =
            run.selected_tables(Side::Source)?.iter().map(TableName::of).collect();
        let holder = if comes_from_source { Place::Source } else { place };
        let role = sql::quote_identifier(&read_own_role(run.session(place))?.name);
        let remedy = if run.session(place).version >= 150_000 {
            format!("Run GRANT SET ON PARAMETER session_replication_role TO {role}; on the {place}")
        } else {
            format!("Connect to the {place} as a superuser")
        };
        for trigger in list_ordinary_triggers(run.session(holder))? {
            if !trigger.is_on(|table| written.contains(table)) {
                continue;
            }
            let message = format!(
                "trigger \"{}\" fires on the {place} again for mirrored rows, which it may change: our role may not set \
                 session_replication_role there",
                trigger.name
            );
            let hint = format!(
                "{remedy}; or, as soon as the table is there, run ALTER TABLE {} DISABLE TRIGGER {}; and enable it again \
                 right after cutover. What it has changed by then, pgdetour verify names.",
                trigger.table.quoted(),
                sql::quote_identifier(&trigger.name)
            );
            checked.warn("target_trigger", &trigger.table.to_string(), message, hint);
        }
    }
    Ok(())
}

/// Every sequence has one on the source that takes its value, and those there are known to give none twice.
pub fn sequences(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let (missing, untold) = run.unfit_sequences()?;
    for sequence in missing {
        let message = match &sequence.owner {
            Some((schema, table, column)) => format!(
                "nothing on the source takes its value, which numbers column \"{column}\" of \"{schema}.{table}\""
            ),
            None => "nothing on the source takes its value: there is none of its name".to_owned(),
        };
        let hint = "Give the source a sequence of that name, or let the one that numbers the new column be owned by it (ALTER SEQUENCE \
                    ... OWNED BY); else set it by hand before clients insert there.";
        checked.warn("sequence", &sequence.display(), message, hint);
    }
    for Untold { sequence, table, column } in untold {
        let message = format!(
            "it may be behind column \"{column}\" of \"{table}\": what it gives next cannot be told while clients are held"
        );
        let hint = "Create an index on the source that begins with the column, where it is a number that the sequence alone gives; else set \
                    it by hand before clients insert there.";
        checked.warn("sequence", &sequence, message, hint);
    }
    Ok(())
}

/// No table or partition came or went since recording began.
pub fn all_recorded(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.phase() == Phase::Detoured {
        checked.append(recorded::find(run)?);
    }
    Ok(())
}

/// Findings become findings of the check; what else fails, fails.
fn collect<T>(outcome: Result<T>, checked: &mut Checked) -> Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(Error::ChecksFailed { findings }) => {
            checked.failures.extend(findings);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Nothing was set aside that nobody has looked at.
pub fn quarantine_is_empty(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let count = record::count_quarantined(run.source())?;
    if count != run.accept_quarantined {
        let message = if run.accept_quarantined == 0 {
            format!("{} in quarantine", plural_is(count as u64, "change"))
        } else {
            format!(
                "{} in quarantine, and {} accepted",
                plural_is(count as u64, "change"),
                run.accept_quarantined
            )
        };
        checked.fail("quarantine", "source", message, quarantine::HINT);
    }
    Ok(())
}

/// Tables among these that our role does not own, as `schema.name`.
pub fn not_owned(session: &mut Session, tables: &[u32]) -> Result<Vec<String>> {
    let rows = session.query(&sql::catalog::LIST_NOT_OWNED, &[&tables])?;
    Ok(rows.iter().map(|row| format!("{}.{}", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect())
}
