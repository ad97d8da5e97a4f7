//! What the tables have to be like: decodable, identifiable, fitting the other side.

use std::collections::{BTreeSet, HashSet};

use crate::config::{CaptureMethod, SchemaMode};
use crate::error::{Checked, Error, Result};
use crate::flow::copy;
use crate::flow::mapping::lossless::depends_on_settings;
use crate::flow::mapping::{Mapping, Unsteady, moves};
use crate::flow::sequences::Untold;
use crate::output::plural_is;
use crate::pg::Session;
use crate::pg::catalog::emptiness::read_emptiness;
use crate::pg::catalog::facts::read_own_role;
use crate::pg::catalog::objects::{
    Dependent, Name, fingerprint_named, fingerprint_tables, list_dependents, list_materialized_views,
    list_user_objects,
};
use crate::pg::catalog::origin::list_origins;
use crate::pg::catalog::{self, Identity, Table};
use crate::pg::record;
use crate::phase::{Phase, Place, Side};
use crate::sql;
use crate::steps::Run;
use crate::steps::capture::recorded;
use crate::steps::mirror::carrier::Choice;
use crate::steps::mirror::followed;
use crate::steps::mirror::inventory::left_out_tables;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::Carrier;

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

/// What `exclude` names can be left out: a partition goes with its root, whatever its own name is.
pub fn excluded_partitions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let selection = run.config.mirror.selection()?;
    let tables = run.list_tables(Side::Source)?;
    for pattern in &selection.exclude {
        let (of_roots, others): (Vec<&Table>, Vec<&Table>) =
            tables.iter().filter(|table| pattern.matches(&table.schema, &table.name)).partition(|table| {
                table.root.as_ref().is_some_and(|(schema, name)| selection.matches(schema, name))
            });
        let Some((schema, name)) = of_roots.first().and_then(|table| table.root.as_ref()) else { continue };
        let names: Vec<String> = of_roots.iter().take(NAMED).map(|table| table.display()).collect();
        let message = format!(
            "it leaves out no partition, and matches {} of \"{schema}.{name}\", which is mirrored with all that it has",
            names.join(", ")
        );
        let hint = format!(
            "Exclude \"{schema}.{name}\" itself, or detach first what is to be left out (ALTER TABLE ... DETACH PARTITION), or name in \
             the pattern no partition."
        );
        let object = format!("mirror.exclude \"{pattern}\"");
        // Whoever means other tables by it gets them left out.
        if others.is_empty() {
            checked.fail("tables", &object, message, hint);
        } else {
            checked.warn("tables", &object, message, hint);
        }
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
        schemas_can_be_taken_over(run, place, checked)?;
    }
    Ok(())
}

/// An empty schema that is there is taken over, and gets the owner and the privileges of the source's. One that extensions alone
/// have put something into, on the source, may stay whose it is on both sides: nothing is to be made in it.
fn schemas_can_be_taken_over(run: &mut Run, place: Place, checked: &mut Checked) -> Result<()> {
    let mut schemas = read_emptiness(run.source())?.schemas;
    schemas.retain(|schema| schema != "public");
    let unowned = run.session(place).query(&sql::catalog::LIST_UNOWNED_SCHEMAS, &[&schemas])?;
    if unowned.is_empty() {
        return Ok(());
    }
    let plain = run.source().query(&sql::catalog::LIST_PLAIN_SCHEMAS, &[&schemas])?;
    for row in unowned {
        let (name, owner): (&str, &str) = (row.get("name"), row.get("owner"));
        let comment = |row: &postgres::Row| row.get::<_, Option<String>>("comment");
        let is_same = |other: &&postgres::Row| {
            let is_commented_alike = comment(other).is_none() || comment(other) == comment(&row);
            other.get::<_, &str>("name") == name
                && other.get::<_, &str>("owner") == owner
                && is_commented_alike
        };
        if let Some(same) = plain.iter().find(is_same) {
            let privileges = |row: &postgres::Row| row.get::<_, Vec<String>>("privileges");
            if privileges(same) != privileges(&row) {
                let message = format!(
                    "schema \"{name}\" of role \"{owner}\" has other privileges on the source than on the {place}, where our role \
                     may not give them"
                );
                let hint = format!(
                    "See them with \\dn+ {0} of psql on both sides, and grant the same on the {place} as {1}.",
                    sql::quote_identifier(name),
                    sql::quote_identifier(owner)
                );
                checked.warn("schema_privileges", name, message, hint);
            }
            continue;
        }
        let message = format!(
            "the {place} holds schema \"{name}\" of role \"{owner}\", which our role may not take over"
        );
        let role = read_own_role(run.session(place))?.name;
        let hint = format!(
            "Run ALTER SCHEMA {} OWNER TO {}; on the {place}, or drop it there.",
            sql::quote_identifier(name),
            sql::quote_identifier(&role)
        );
        checked.fail("target_empty", name, message, hint);
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
    let left_out: Vec<u32> = left_out_tables(run)?.iter().map(|table| table.oid).collect();
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
    collect(Mapping::build_to(&publisher, &subscriber, &[], run.target()), checked)?;
    for table in &publisher {
        let Some(image) = subscriber.iter().find(|t| t.schema == table.schema && t.name == table.name) else {
            continue;
        };
        if run.choice != Choice::Only(Carrier::Pgdetour) {
            means_the_same(table, image, checked);
        }
        if catalog::has_rows(run.target(), image)? {
            let name = table.display();
            let hint = format!("Run TRUNCATE {}; on the target, if its rows are not needed.", table.quoted());
            checked.fail("target_empty", &name, format!("table \"{name}\" of the target is not empty"), hint);
        }
    }
    Ok(())
}

/// Every column of a table that is there gets the same values from a subscription as from the copy.
fn means_the_same(table: &Table, image: &Table, checked: &mut Checked) {
    for column in &table.columns {
        let Some(other) = image.column(&column.name).filter(|other| depends_on_settings(column, other))
        else {
            continue;
        };
        let (name, from, to) = (table.display(), &column.type_name, &other.type_name);
        let message = format!(
            "column \"{}\" of \"{name}\" is {from} on the source and {to} on the target: a subscription would make its values by the \
             settings of the databases, and so others than the copy does",
            column.name
        );
        let hint = "Give both the same type, or set mirror.carrier = \"pgdetour\".";
        checked.fail("existing_schema", &name, message, hint);
    }
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

/// On a target whose tables are not of our making: all that replay would carry home has a place on the source, or a `[[map]]` says
/// what becomes of it. Elsewhere the definitions are the same.
pub fn all_have_a_place(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.facts()?.target_before.is_none() {
        checked.failures.extend(run.list_placeless()?);
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
    let mut stages = run.stages().iter().filter(|stage| there.contains(&stage.subscriber()));
    stages.try_for_each(|stage| as_mirrored_by(run, *stage, checked))
}

/// The flow carries each table that was copied, and the source's is still that one, with the values that were copied or streamed.
pub fn followed(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let found = followed::find(run)?;
    for ((schema, name), why) in found.lost {
        let table = format!("{schema}.{name}");
        let message = format!("table \"{table}\" {why}");
        checked.fail("mirror", &table, message, "Run pgdetour mirror, which copies it again.");
    }
    for ((schema, name), doubt) in found.doubtful {
        let table = format!("{schema}.{name}");
        let pattern = format!("'{}'", sql::quote_qualified(&schema, &name));
        let of = if doubt.copy == Place::Backup { "--backup " } else { "" };
        let hint = format!(
            "See with pgdetour verify {of}--table {pattern} whether it has: where the rows are equal, that ends this warning; \
             pgdetour mirror --table {pattern} --again copies it again."
        );
        checked.warn("mirror", &table, format!("table \"{table}\" {}", doubt.why), hint);
    }
    Ok(())
}

fn as_mirrored_by(run: &mut Run, stage: Stage, checked: &mut Checked) -> Result<()> {
    let place = stage.subscriber();
    let copies = copy::list_table_copies(run.session(place))?;
    let has_origins = copies.iter().any(|copy| copy.origin.is_some());
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
        // What the change has lost is to be seen until it is copied again.
        let found = followed::find(run)?;
        adopted.retain(|(name, _)| !found.lost.contains_key(name));
        copy::update_fingerprints(run.session(place), &adopted)?;
        if has_origins {
            // Nor does the same definition tell that the same values are in it.
            adopted.retain(|(name, _)| !found.doubtful.contains_key(name));
            let names: Vec<Name> = adopted.into_iter().map(|(name, _)| name).collect();
            let origins = list_origins(run.session(stage.publisher()), &names)?;
            copy::note_origins(run.session(place), &origins)?;
        }
    }
    Ok(())
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
        for (from, message) in mapping.list_lost_by_moves() {
            checked.warn("mapping", &from, message, moves::HINT);
        }
    }
    collect(built.map(|mapping| run.checked_mapping = Some(mapping)), checked)
}

/// What of the target's materialized views nobody keeps current: no flow carries what REFRESH makes.
pub fn materialized_views(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for (schema, name) in list_materialized_views(run.target())? {
        let message = "its rows on the target are those of the last REFRESH there: no flow carries what is refreshed on the source";
        let hint = format!(
            "Run REFRESH MATERIALIZED VIEW {}; on the target shortly before cutover, as its user.",
            sql::quote_qualified(&schema, &name)
        );
        checked.warn("materialized_view", &format!("{schema}.{name}"), message, hint);
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

/// What to do about changes that are set aside.
pub const QUARANTINE_HINT: &str = "See \"pgdetour replay --quarantine list\"; retry or skip them there, or accept that the source \
                        does not get them: --accept-quarantined with their exact number.";

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
        checked.fail("quarantine", "source", message, QUARANTINE_HINT);
    }
    Ok(())
}

/// Tables among these that our role does not own, as `schema.name`.
pub fn not_owned(session: &mut Session, tables: &[u32]) -> Result<Vec<String>> {
    let rows = session.query(&sql::catalog::LIST_NOT_OWNED, &[&tables])?;
    Ok(rows.iter().map(|row| format!("{}.{}", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect())
}
