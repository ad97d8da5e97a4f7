//! The schema's way to the subscriber: dumped, fitted, made in one transaction, the rest noted for later.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::AtomicBool;

use postgres::error::SqlState;

use super::ownership::lending_create;
use super::post_data::{self, PostStatement, Sorter};
use super::{CopyJob, record};
use crate::error::{Doing as _, Error, Finding, Result, ServerError};
use crate::pg::Server;
use crate::pg::Session;
use crate::pg::catalog::emptiness::{Droppable, Emptiness, list_all_come, list_come, restore_emptiness};
use crate::pg::catalog::objects::{self, ConstraintIndex, Dependent, Name};
use crate::pg::catalog::{self, Table};
use crate::pg::dump::{self, Abilities, Entry, Schema, fit};
use crate::sql;

/// Entries that go to the server in one message.
const BATCH: usize = 50;

/// More entries than this are not made in one transaction: each takes some of the server's lock table, which has room
/// for a few thousand.
pub(super) const MOST_IN_ONE_TRANSACTION: usize = 1000;

/// The server that a schema is for.
pub struct Receiver {
    pub(super) version: i32,
    pub(super) abilities: Abilities,
}

impl Receiver {
    /// Asks what it has and what our role may do there.
    pub fn ask(subscriber: &mut Session) -> Result<Receiver> {
        Ok(Receiver { version: subscriber.version, abilities: fit::list_abilities(subscriber)? })
    }
}

/// A schema as it is on the publisher, fitted to the subscriber; nothing is made yet.
pub struct Draft {
    /// Of the publisher's server.
    version: i32,
    tables: Vec<(u32, Name)>,
    fingerprints: BTreeMap<Name, String>,
    schema: Schema,
    views: Vec<Name>,
    constraints: BTreeMap<(Name, String), ConstraintIndex>,
}

impl Draft {
    /// Reads the publisher's schema of `tables`, and of `left_empty`, for a subscriber. Ends early when `stop` is set.
    pub fn read(
        publisher: &Server,
        subscriber: Receiver,
        tables: &[Table],
        left_empty: &[Table],
        stop: &AtomicBool,
    ) -> Result<Draft> {
        let mut source = publisher.connect()?;
        let of_publisher = source.version;
        let Receiver { version, mut abilities } = subscriber;
        leave_out(&mut source, tables.iter().chain(left_empty), &mut abilities)?;
        // Before the dump: a change in between is seen as one, at worst where there is none.
        let fingerprints = objects::fingerprint_tables(&mut source, tables)?;
        let constraints = objects::list_constraint_indexes(&mut source)?;
        let mut views = objects::list_materialized_views(&mut source)?;
        views.retain(|view| !abilities.absent.contains(view));
        let schema = dump::dump_schema(publisher, source, version, &abilities, &[], stop)?;
        Ok(Draft {
            version: of_publisher,
            tables: named(tables, left_empty),
            fingerprints,
            schema,
            views,
            constraints,
        })
    }

    /// Makes it on the subscriber and takes that back; a large one, whose locks there is no room for, is not tried.
    pub fn try_out(&self, subscriber: &mut Session) -> Result<()> {
        let entries = &self.schema.pre_data;
        if entries.len() > MOST_IN_ONE_TRANSACTION {
            return Ok(());
        }
        subscriber.change_script("begin")?;
        let made = run_part(subscriber, entries, &mut BTreeMap::new(), None);
        let ended = subscriber.change_script("rollback");
        made.map_err(|error| too_old(error, self.version, subscriber)).and(ended)
    }

    /// Whether it is of exactly these tables.
    fn is_of(&self, tables: &[Table], left_empty: &[Table]) -> bool {
        self.tables == named(tables, left_empty)
    }
}

fn named(tables: &[Table], left_empty: &[Table]) -> Vec<(u32, Name)> {
    let all = tables.iter().chain(left_empty);
    let mut named: Vec<(u32, Name)> = all.map(|table| (table.oid, table.full_name())).collect();
    named.sort();
    named
}

/// Makes the tables and what they need on the subscriber, and notes the rest: in one transaction, or, where that would
/// hold too many locks, in several, of which the last makes the note. What a run that was interrupted between them has
/// left is removed first. A `draft` that was read before saves reading it now.
pub fn load(
    job: &CopyJob,
    subscriber: &mut Session,
    draft: Option<Draft>,
) -> Result<(Vec<PostStatement>, Vec<String>)> {
    let CopyJob { publisher, tables, left_empty, stop, .. } = *job;
    let draft = if let Some(draft) = draft.filter(|draft| draft.is_of(tables, left_empty)) {
        draft
    } else {
        Draft::read(publisher, Receiver::ask(subscriber)?, tables, left_empty, stop)?
    };
    let Draft { version, fingerprints, schema, views, constraints, .. } = draft;
    let statements = Sorter::new(tables, constraints).sort(&schema.post_data, &[], &views);
    if let Some(before) = job.before
        && !subscriber.is_dry()
    {
        remove_made(subscriber, before)?;
    }
    let mut parts: Vec<&[Entry]> = schema.pre_data.chunks(MOST_IN_ONE_TRANSACTION).collect();
    let last = parts.pop().unwrap_or_default();
    let mut settings = BTreeMap::new();
    for part in parts {
        let made = subscriber.atomically(|subscriber| {
            run_part(subscriber, part, &mut settings, job.before)?;
            job.before.map_or(Ok(()), |before| note_made(subscriber, before))
        });
        made.map_err(|error| too_old(error, version, subscriber))?;
    }
    let made = subscriber.atomically(|subscriber| {
        run_part(subscriber, last, &mut settings, job.before)?;
        job.before.map_or(Ok(()), |before| note_made(subscriber, before))?;
        record::insert_tables(subscriber, tables, &fingerprints)?;
        post_data::insert(subscriber, &statements)
    });
    made.map_err(|error| too_old(error, version, subscriber))?;
    Ok((statements, schema.warnings))
}

/// Notes what is there as made by us.
fn note_made(subscriber: &mut Session, before: &Emptiness) -> Result<()> {
    if subscriber.is_dry() {
        return Ok(());
    }
    let made = list_all_come(subscriber, before)?;
    note(subscriber, made.into_iter().map(|(oids, _)| oids))
}

fn note(subscriber: &mut Session, made: impl Iterator<Item = (u32, u32)>) -> Result<()> {
    let (classes, objects): (Vec<u32>, Vec<u32>) = made.unzip();
    subscriber.change(sql::flow::NOTE_MADE.text, &[&classes, &objects]).map(drop)
}

/// Does `work`, and notes what has come by it as made by us, beside what others have made.
pub(super) fn noting<T>(
    subscriber: &mut Session,
    before: Option<&Emptiness>,
    work: impl FnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let Some(before) = before.filter(|_| !subscriber.is_dry()) else { return work(subscriber) };
    // A record of an earlier version has no place for it.
    if !crate::pg::record::has_table(subscriber, "made")? {
        return work(subscriber);
    }
    let there: HashSet<(u32, u32)> =
        list_all_come(subscriber, before)?.into_iter().map(|(oids, _)| oids).collect();
    let outcome = work(subscriber)?;
    let now = list_all_come(subscriber, before)?;
    note(subscriber, now.into_iter().map(|(oids, _)| oids).filter(|oids| !there.contains(oids)))?;
    Ok(outcome)
}

fn list_made(subscriber: &mut Session) -> Result<HashSet<(u32, u32)>> {
    if !crate::pg::record::has_table(subscriber, "made")? {
        return Ok(HashSet::new());
    }
    let rows = subscriber.query(&sql::flow::LIST_MADE, &[])?;
    Ok(rows.iter().map(|row| (row.get("class"), row.get("object"))).collect())
}

/// What has come to a subscriber since `before` that no load has made: neither noted as made, nor, since a record of an earlier version
/// has no such notes, and people make what a subscription does not carry, of the name of something that is on the source.
pub fn list_foreign(
    subscriber: &mut Session,
    before: &Emptiness,
    source: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let made = list_made(subscriber)?;
    let came = list_all_come(subscriber, before)?.into_iter();
    let foreign = came.filter(|(oids, name)| !made.contains(oids) && !source.contains(name));
    Ok(foreign.map(|(_, name)| name).collect())
}

/// What has come to a subscriber since `before` and was not made by a load that was interrupted, while nothing is copied yet: the
/// next load begins anew, and would remove it with what that has made.
pub fn list_strange(subscriber: &mut Session, before: &Emptiness) -> Result<Vec<Finding>> {
    if !record::list_tables(subscriber)?.is_empty() {
        return Ok(Vec::new());
    }
    let there = list_come(subscriber, before)?;
    let ours = list_made(subscriber)?;
    let place = subscriber.place;
    let finding = |object: &Droppable| {
        let message = format!("the {place} holds {}, which is not ours", object.name);
        let hint =
            "The schema is made anew, as it was not copied before: move this elsewhere, or drop it yourself.";
        Finding::new("target_empty", object.name.clone(), message, hint)
    };
    Ok(there.iter().filter(|object| !ours.contains(&object.oids)).map(finding).collect())
}

/// Removes what an interrupted load has made.
fn remove_made(subscriber: &mut Session, before: &Emptiness) -> Result<()> {
    if list_come(subscriber, before)?.is_empty() {
        return Ok(());
    }
    // The checks have looked: this came since.
    let findings = list_strange(subscriber, before)?;
    if !findings.is_empty() {
        return Err(Error::ChecksFailed { findings });
    }
    restore_emptiness(subscriber, before).map(drop)
}

/// What a server says of a statement that it does not understand, and that a newer one has written: no run again mends that.
fn too_old(error: Error, publisher: i32, subscriber: &Session) -> Error {
    let (majors, place) = ((publisher / 10_000, subscriber.version / 10_000), subscriber.place);
    match error {
        Error::Sql { action, cause, .. } if majors.1 < majors.0 && is_misunderstood(&cause) => {
            let message = format!(
                "PostgreSQL {} of the {place} could not {action} as PostgreSQL {} has it",
                majors.1, majors.0
            );
            let hint = format!(
                "Take a {place} of PostgreSQL {} or later, change it on the source, or leave its table out with mirror.exclude.",
                majors.0
            );
            Error::Refused { kind: "newer_feature", message, detail: Some(cause.to_string()), hint }
        }
        other => other,
    }
}

/// Its grammar, or what there is by a name, is in the way.
fn is_misunderstood(cause: &ServerError) -> bool {
    let codes = [
        SqlState::SYNTAX_ERROR,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_PARAMETER_VALUE,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    codes.iter().any(|code| cause.is(code))
}

/// Runs entries in the transaction that is open, under the settings of the dump as they are at this place of it.
fn run_part(
    session: &mut Session,
    entries: &[Entry],
    settings: &mut BTreeMap<String, String>,
    before: Option<&Emptiness>,
) -> Result<()> {
    for statement in settings.values() {
        session.change_script(statement)?;
    }
    make(session, entries, before)?;
    // `SET LOCAL name = value` ends with its transaction.
    for statement in entries.iter().flat_map(|entry| &entry.statements) {
        if let Some((name, _)) = statement.strip_prefix("SET LOCAL ").and_then(|rest| rest.split_once(' ')) {
            settings.insert(name.to_owned(), statement.clone());
        }
    }
    Ok(())
}

/// Makes what a dump makes; then comes who may do what there. The dump grants beside what is built in: what the subscriber gives by
/// default comes before, and is none of it. Of what was there `before` nothing is taken.
fn make(session: &mut Session, entries: &[Entry], before: Option<&Emptiness>) -> Result<()> {
    let (objects, privileges) = part_privileges(entries);
    make_objects(session, objects)?;
    if let (false, Some(before)) = (objects.is_empty(), before) {
        take_back_defaults(session, &before.schemas)?;
    }
    run_entries(session, privileges)
}

/// Gives all that was made the privileges that are built in, whatever default privileges have made of them.
fn take_back_defaults(session: &mut Session, schemas_before: &[String]) -> Result<()> {
    let mut statements = Vec::new();
    for row in session.query(&sql::catalog::LIST_DEFAULT_CHANGES, &[&schemas_before])? {
        let (verb, kind, identity): (&str, &str, &str) =
            (row.get("verb"), row.get("kind"), row.get("identity"));
        let grantee: Option<&str> = row.get("grantee");
        let grantee = grantee.map_or_else(|| "public".to_owned(), sql::quote_identifier);
        let privileges: &str = row.get("privileges");
        let end = if verb == "grant" { format!("to {grantee}") } else { format!("from {grantee} cascade") };
        statements.push(format!("{verb} {privileges} on {kind} {identity} {end}"));
    }
    if session.is_dry() {
        return statements.iter().try_for_each(|statement| session.change_script(statement));
    }
    let mut batches = statements.chunks(BATCH);
    batches
        .try_for_each(|batch| session.change_script(&batch.join(";\n")))
        .doing(|| "take back what default privileges have given".into())
}

/// What a dump makes, and who may do what with it.
pub(super) fn part_privileges(entries: &[Entry]) -> (&[Entry], &[Entry]) {
    entries.split_at(entries.iter().position(Entry::is_privilege).unwrap_or(entries.len()))
}

/// Makes schemas, and what is in them.
pub(super) fn make_objects(session: &mut Session, entries: &[Entry]) -> Result<()> {
    let schemas = entries.iter().rposition(|entry| entry.kind == "SCHEMA").map_or(0, |last| last + 1);
    let (schemas, objects) = entries.split_at(schemas);
    run_entries(session, schemas)?;
    let statements = objects.iter().flat_map(|entry| &entry.statements).map(String::as_str);
    lending_create(session, statements, |session| run_entries(session, objects))
}

/// Notes tables that were not selected, and what cannot be without them.
pub(super) fn leave_out<'a>(
    source: &mut Session,
    selected: impl Iterator<Item = &'a Table>,
    abilities: &mut Abilities,
) -> Result<()> {
    let selected: HashSet<Name> = selected.map(Table::full_name).collect();
    let mut tables = catalog::list_tables(source)?;
    tables.retain(|table| !selected.contains(&table.full_name()));
    abilities.absent = tables.iter().map(Table::full_name).collect();
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for dependent in objects::list_dependents(source, &oids)? {
        match dependent {
            Dependent::View(name) => {
                abilities.absent.insert(name);
            }
            Dependent::LeftOut(entries) => abilities.dependent.extend(entries),
            // The checks have refused it.
            Dependent::Lacking { .. } => {}
        }
    }
    Ok(())
}

/// Runs a dump's entries, many in one message; a failure names the entry.
pub(super) fn run_entries(session: &mut Session, entries: &[Entry]) -> Result<()> {
    let script = |entries: &[Entry]| -> String {
        let statements = entries.iter().flat_map(|entry| &entry.statements);
        statements.flat_map(|statement| [statement.as_str(), ";\n"]).collect()
    };
    if session.is_dry() {
        let statements = entries.iter().flat_map(|entry| &entry.statements);
        return statements.map(String::as_str).try_for_each(|statement| session.change_script(statement));
    }
    for batch in entries.chunks(BATCH) {
        session.change_script("savepoint pgdetour")?;
        if let Err(error) = session.change_script(&script(batch)) {
            if error.is_connection_lost() {
                return Err(error);
            }
            session.change_script("rollback to savepoint pgdetour")?;
            for entry in batch {
                let one = script(std::slice::from_ref(entry));
                session.change_script(&one).doing(|| format!("create {}", entry.display()))?;
            }
            return Err(error);
        }
        session.change_script("release savepoint pgdetour")?;
    }
    Ok(())
}

/// What keeps the publisher's rows from fitting into tables that exist on the subscriber already.
pub fn check_existing(publisher: &[Table], subscriber: &[Table]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in publisher {
        let mut found = |message: String, hint: String| {
            findings.push(Finding::new("existing_schema", table.display(), message, hint));
        };
        let same = |other: &&Table| other.schema == table.schema && other.name == table.name;
        let Some(there) = subscriber.iter().find(same) else {
            found(
                "table does not exist on the other side".into(),
                "Create it, or leave it out of mirror.tables.".into(),
            );
            continue;
        };
        for column in &table.columns {
            match there.column(&column.name) {
                Some(other) if column.is_generated() && !other.is_generated() => found(
                    format!("column \"{}\" is generated, and an ordinary one on the other side", column.name),
                    "The values of a generated column are not copied: make it a generated one there.".into(),
                ),
                _ if column.is_generated() => {}
                None => found(
                    format!("column \"{}\" does not exist on the other side", column.name),
                    format!("Run \"ALTER TABLE {} ADD COLUMN …\" there.", there.quoted()),
                ),
                Some(other) if other.is_generated() => found(
                    format!("column \"{}\" is generated on the other side", column.name),
                    "A generated column cannot be written: make it an ordinary one there.".into(),
                ),
                Some(_) => {}
            }
        }
    }
    findings
}

/// Refuses tables that do not exist on the subscriber, or lack columns.
pub fn require_existing(publisher: &[Table], subscriber: &mut Session) -> Result<()> {
    let there = catalog::list_tables(subscriber)?;
    let findings = check_existing(publisher, &there);
    if findings.is_empty() { Ok(()) } else { Err(Error::ChecksFailed { findings }) }
}
