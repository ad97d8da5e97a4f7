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
use crate::pg::catalog::emptiness::restore_emptiness;
use crate::pg::catalog::objects::{self, ConstraintIndex, Name};
use crate::pg::catalog::{self, Table};
use crate::pg::dump::{self, Abilities, Entry, Schema, fit};
use crate::sql;

/// Entries that go to the server in one message.
const BATCH: usize = 50;

/// More entries than this are not made in one transaction: each takes some of the server's lock table, which has room
/// for a few thousand.
const MOST_IN_ONE_TRANSACTION: usize = 1000;

/// The server that a schema is for.
pub struct Receiver {
    version: i32,
    abilities: Abilities,
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
        abilities.absent = list_absent(&mut source, tables.iter().chain(left_empty))?;
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
        let made = run_part(subscriber, entries, &mut BTreeMap::new());
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
    let mut named: Vec<(u32, Name)> =
        all.map(|table| (table.oid, (table.schema.clone(), table.name.clone()))).collect();
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
    let statements = Sorter::new(tables, constraints).sort(&schema.post_data, &views);
    if let Some(before) = job.before
        && !subscriber.is_dry()
        && !objects::list_user_objects(subscriber)?.is_empty()
    {
        restore_emptiness(subscriber, before)?;
    }
    let mut parts: Vec<&[Entry]> = schema.pre_data.chunks(MOST_IN_ONE_TRANSACTION).collect();
    let last = parts.pop().unwrap_or_default();
    let mut settings = BTreeMap::new();
    for part in parts {
        let made = subscriber.atomically(|subscriber| run_part(subscriber, part, &mut settings));
        made.map_err(|error| too_old(error, version, subscriber))?;
    }
    let made = subscriber.atomically(|subscriber| {
        run_part(subscriber, last, &mut settings)?;
        record::insert_tables(subscriber, tables, &fingerprints)?;
        post_data::insert(subscriber, &statements)
    });
    made.map_err(|error| too_old(error, version, subscriber))?;
    Ok((statements, schema.warnings))
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
fn run_part(session: &mut Session, entries: &[Entry], settings: &mut BTreeMap<String, String>) -> Result<()> {
    for statement in settings.values() {
        session.change_script(statement)?;
    }
    make(session, entries)?;
    // `SET LOCAL name = value` ends with its transaction.
    for statement in entries.iter().flat_map(|entry| &entry.statements) {
        if let Some((name, _)) = statement.strip_prefix("SET LOCAL ").and_then(|rest| rest.split_once(' ')) {
            settings.insert(name.to_owned(), statement.clone());
        }
    }
    Ok(())
}

/// Makes schemas, and what is in them; then comes who may do what there.
fn make(session: &mut Session, entries: &[Entry]) -> Result<()> {
    let schemas = entries.iter().rposition(|entry| entry.kind == "SCHEMA").map_or(0, |last| last + 1);
    let (schemas, rest) = entries.split_at(schemas);
    let objects = rest.iter().position(Entry::is_privilege).unwrap_or(rest.len());
    let (objects, privileges) = rest.split_at(objects);
    run_entries(session, schemas)?;
    let statements = objects.iter().flat_map(|entry| &entry.statements).map(String::as_str);
    lending_create(session, statements, |session| run_entries(session, objects))?;
    run_entries(session, privileges)
}

/// Makes the tables `added` among the selected `tables`, which were not selected when the rest was made, and what was left
/// out for want of them: the views that read them, and the foreign keys that refer to them.
pub fn load_added(
    publisher: &Server,
    subscriber: &mut Session,
    tables: &[Table],
    added: &[Table],
    stop: &AtomicBool,
) -> Result<Vec<String>> {
    let mut source = publisher.connect()?;
    let Receiver { version, mut abilities } = Receiver::ask(subscriber)?;
    abilities.absent = list_absent(&mut source, tables.iter())?;
    let fingerprints = objects::fingerprint_tables(&mut source, added)?;
    let constraints = objects::list_constraint_indexes(&mut source)?;
    let mut only: Vec<Name> = added.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
    let oids: Vec<u32> = added.iter().map(|table| table.oid).collect();
    let readers = objects::list_dependent_views(&mut source, &oids)?;
    only.extend(readers.into_iter().filter(|view| !abilities.absent.contains(view)));
    let mut views = objects::list_materialized_views(&mut source)?;
    views.retain(|view| only.contains(view));
    let keys = list_keys_into(&mut source, tables, &oids)?;
    let mut schema = dump::dump_schema(publisher, source, version, &abilities, &only, stop)?;
    schema.post_data.extend(keys);
    let statements = Sorter::new(tables, constraints).sort(&schema.post_data, &views);
    let schemas: BTreeSet<&String> = only.iter().map(|(schema, _)| schema).collect();
    subscriber.atomically(|subscriber| {
        for schema in schemas {
            let name = sql::quote_identifier(schema);
            subscriber.change_script(&format!("create schema if not exists {name}"))?;
        }
        make(subscriber, &schema.pre_data)?;
        record::insert_tables(subscriber, added, &fingerprints)?;
        post_data::insert(subscriber, &statements)
    })?;
    Ok(schema.warnings)
}

/// Foreign keys of the other selected tables that refer to the added ones, as a dump has them.
fn list_keys_into(source: &mut Session, tables: &[Table], added: &[u32]) -> Result<Vec<Entry>> {
    let rows = source.query(&sql::catalog::LIST_KEYS_INTO, &[&added])?;
    let entry = |row: &postgres::Row| {
        let table = tables.iter().find(|table| table.oid == row.get::<_, u32>("table_oid"))?;
        let (name, definition): (String, String) = (row.get("constraint_name"), row.get("definition"));
        let only = if row.get("partitioned") { "" } else { "ONLY " };
        let (on, constraint) = (table.quoted(), sql::quote_identifier(&name));
        let statement = format!("ALTER TABLE {only}{on} ADD CONSTRAINT {constraint} {definition}");
        Some(Entry { kind: "FK CONSTRAINT".into(), name, statements: vec![statement] })
    };
    Ok(rows.iter().filter_map(entry).collect())
}

/// Tables that were not selected, and the views that read them.
fn list_absent<'a>(source: &mut Session, selected: impl Iterator<Item = &'a Table>) -> Result<HashSet<Name>> {
    let name = |table: &Table| (table.schema.clone(), table.name.clone());
    let selected: HashSet<Name> = selected.map(name).collect();
    let mut tables = catalog::list_tables(source)?;
    tables.retain(|table| !selected.contains(&name(table)));
    let mut absent: HashSet<Name> = tables.iter().map(name).collect();
    if !absent.is_empty() {
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        absent.extend(objects::list_dependent_views(source, &oids)?);
    }
    Ok(absent)
}

/// Runs a dump's entries, many in one message; a failure names the entry.
fn run_entries(session: &mut Session, entries: &[Entry]) -> Result<()> {
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
