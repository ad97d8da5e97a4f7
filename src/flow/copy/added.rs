//! Tables that are selected later than the rest: made, or taken as they are, beside those that stand.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use postgres::error::SqlState;

use super::completion::describe;
use super::ownership::lending_create;
use super::post_data::{self, Kind, PostStatement, Sorter};
use super::schema::{self, MOST_IN_ONE_TRANSACTION, Receiver};
use super::{CopyJob, record};
use crate::error::{Doing as _, Error, Result, ServerError};
use crate::pg::Session;
use crate::pg::catalog::emptiness::Emptiness;
use crate::pg::catalog::objects::{self, Name};
use crate::pg::catalog::{self, Table};
use crate::pg::dump::{self, Entry, Schema, lexer};
use crate::sql;

/// How long what is only tried waits for a lock.
const LOCK_BUDGET: Duration = Duration::from_millis(500);

/// Tables that were not selected when the rest was made, and what was left out for want of them: the views that read them,
/// and the foreign keys that refer to them. Nothing is made yet.
pub struct Addition<'a> {
    tables: &'a [Table],
    fingerprints: BTreeMap<Name, String>,
    /// Those of the tables that are on the subscriber, with what makes them logged.
    standing: Vec<(&'a Table, Option<String>)>,
    /// What is to be made.
    made: Vec<Name>,
    /// The schemas of it that are to be made, too.
    schemas: Vec<String>,
    schema: Schema,
    statements: Vec<PostStatement>,
}

impl<'a> Addition<'a> {
    /// Reads what the publisher has of `tables`, which are among those of the job.
    pub fn read(job: &CopyJob, subscriber: &mut Session, tables: &'a [Table]) -> Result<Addition<'a>> {
        let mut source = job.publisher.connect()?;
        let Receiver { version, mut abilities } = Receiver::ask(subscriber)?;
        schema::leave_out(&mut source, job.tables.iter(), &mut abilities)?;
        let fingerprints = objects::fingerprint_tables(&mut source, tables)?;
        let (standing, new) = part(subscriber, tables)?;
        let oids: Vec<u32> = new.iter().map(|table| table.oid).collect();
        let mut made: Vec<Name> = new.iter().map(|table| table.full_name()).collect();
        let readers = objects::list_dependent_views(&mut source, &oids)?;
        made.extend(readers.into_iter().filter(|view| !abilities.absent.contains(view)));
        let mut addition = Addition {
            tables,
            fingerprints,
            standing,
            made,
            schemas: Vec::new(),
            schema: Schema::default(),
            statements: Vec::new(),
        };
        if addition.made.is_empty() {
            return Ok(addition);
        }
        let missing: BTreeSet<&str> = addition.made.iter().map(|(schema, _)| schema.as_str()).collect();
        let missing: Vec<&str> =
            missing.into_iter().filter(|schema| !abilities.schemas.contains(*schema)).collect();
        let schemas = if missing.is_empty() {
            Schema::default()
        } else {
            let newest = source.version.max(version);
            dump::dump_bare_schemas(job.publisher, newest, &abilities, &missing, job.stop)?
        };
        addition.schemas = missing.into_iter().map(str::to_owned).collect();
        let constraints = objects::list_constraint_indexes(&mut source)?;
        let mut views = objects::list_materialized_views(&mut source)?;
        views.retain(|view| addition.made.contains(view));
        let keys = list_keys_into(&mut source, job.tables, &oids)?;
        let indexes = source.query(&sql::catalog::LIST_INDEXES, &[&oids])?;
        let indexes = indexes.iter().map(|row| (row.get("schema_name"), row.get("index_name"))).collect();
        let mut schema =
            dump::dump_schema(job.publisher, source, version, &abilities, &addition.made, job.stop)?;
        let late = take_late(&mut schema, &addition.made, &indexes);
        put_before(&mut schema, schemas);
        schema.post_data.extend(keys);
        addition.statements = Sorter::new(job.tables, constraints).sort(&schema.post_data, &late, &views);
        addition.schema = schema;
        Ok(addition)
    }

    /// Makes it and takes that back.
    pub fn try_out(&self, subscriber: &mut Session) -> Result<()> {
        subscriber.change_script("begin")?;
        let made = self.make_relations(subscriber).and_then(|()| self.complete_empty(subscriber));
        let ended = subscriber.change_script("rollback");
        made.map_err(|error| refused("cannot_add", error)).and(ended)
    }

    /// Runs what completes it, which takes no time as long as nothing is in it. What is about tables that stand, or is nothing
    /// without rows, is left.
    fn complete_empty(&self, subscriber: &mut Session) -> Result<()> {
        if self.statements.len() > MOST_IN_ONE_TRANSACTION {
            return Ok(());
        }
        subscriber.change_script(&format!(
            "set local check_function_bodies = off; set local xmloption = content; set local lock_timeout = {}",
            LOCK_BUDGET.as_millis()
        ))?;
        for statement in &self.statements {
            let is_made = statement.table.as_ref().is_some_and(|table| self.made.contains(table));
            let is_tried = match statement.kind {
                Kind::Index | Kind::Constraint | Kind::Other => true,
                Kind::ForeignKey => is_made,
                Kind::Validate | Kind::Refresh | Kind::Last => false,
            };
            if !is_tried {
                continue;
            }
            let script = &statement.statement;
            let done =
                lending_create(subscriber, script.split(";\n"), |session| session.change_script(script));
            match done {
                // The table that a foreign key refers to is written to: what is tried is not worth the wait.
                Err(error)
                    if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
                        || error.is_sqlstate(&SqlState::T_R_DEADLOCK_DETECTED) =>
                {
                    return Ok(());
                }
                done => done.doing(|| describe(statement))?,
            }
        }
        Ok(())
    }

    /// Makes it, and notes what is to be copied and what completes it; what could not be taken over.
    pub fn make(self, subscriber: &mut Session, before: Option<&Emptiness>) -> Result<Vec<String>> {
        subscriber.atomically(|subscriber| {
            schema::noting(subscriber, before, |subscriber| self.make_relations(subscriber))?;
            record::insert_tables(subscriber, self.tables, &self.fingerprints)?;
            post_data::insert(subscriber, &self.statements)
        })?;
        Ok(self.schema.warnings)
    }

    fn make_relations(&self, subscriber: &mut Session) -> Result<()> {
        self.adopt(subscriber)?;
        // The dump grants beside what the owner has; what the subscriber gives by default comes first, and is none of it.
        let (relations, grants) = schema::part_privileges(&self.schema.pre_data);
        schema::make_objects(subscriber, relations)?;
        revoke_defaults(subscriber, &self.made, &self.schemas)?;
        schema::run_entries(subscriber, grants)
    }

    /// Takes tables that are there as those that are to be filled, where they are what would be made, and empty.
    fn adopt(&self, subscriber: &mut Session) -> Result<()> {
        for (table, logging) in &self.standing {
            if let Some(statement) = logging {
                subscriber
                    .change_script(statement)
                    .doing(|| format!("make table \"{}\" a logged one", table.display()))?;
            }
        }
        let names: Vec<Name> = self.standing.iter().map(|(table, _)| table.full_name()).collect();
        if names.is_empty() || subscriber.is_dry() {
            return Ok(());
        }
        let found = objects::fingerprint_named(subscriber, &names)?;
        for (table, _) in &self.standing {
            let key = table.full_name();
            let what = if found.get(&key) != self.fingerprints.get(&key) {
                "with another definition"
            } else if catalog::has_rows(subscriber, table)? {
                "with rows"
            } else {
                continue;
            };
            return Err(Error::Refused {
                kind: "table_in_the_way",
                message: format!(
                    "table \"{}\" is on the {} already, {what}",
                    table.display(),
                    subscriber.place
                ),
                detail: None,
                hint: format!(
                    "Run DROP TABLE {}; there, so that mirror makes it, or make it the source's definition and empty; then run \
                     the same command again.",
                    table.quoted()
                ),
            });
        }
        Ok(())
    }
}

type Standing<'a> = Vec<(&'a Table, Option<String>)>;

/// Which of the tables the subscriber has, and which not.
fn part<'a>(subscriber: &mut Session, tables: &'a [Table]) -> Result<(Standing<'a>, Vec<&'a Table>)> {
    let there = catalog::list_tables(subscriber)?;
    let (mut standing, mut new) = (Vec::new(), Vec::new());
    for table in tables {
        match there.iter().find(|other| other.full_name() == table.full_name()) {
            Some(other) => {
                let is_to_be_logged = other.unlogged && !table.unlogged;
                let logging = is_to_be_logged.then(|| format!("alter table {} set logged", table.quoted()));
                standing.push((table, logging));
            }
            None => new.push(table),
        }
    }
    Ok((standing, new))
}

/// Takes out of a dump what has to wait for a partition's rows, indexes and keys: that it is attached to a table that stands,
/// and the triggers that it has of that one. A standing table's index takes the partition's by itself then, and would
/// refuse it before.
fn take_late(schema: &mut Schema, made: &[Name], indexes: &HashSet<Name>) -> Vec<Entry> {
    let stands = |entry: &Entry, made: &dyn Fn(&Name) -> bool| {
        entry.statements.first().and_then(|text| altered(text)).is_some_and(|relation| !made(&relation))
    };
    let is_attached =
        |entry: &Entry| entry.kind == "TABLE ATTACH" && stands(entry, &|relation| made.contains(relation));
    let (mut late, pre_data): (Vec<_>, Vec<_>) =
        std::mem::take(&mut schema.pre_data).into_iter().partition(is_attached);
    schema.pre_data = pre_data;
    let is_inherited = |entry: &Entry| {
        entry.kind == "TRIGGER" && entry.statements.first().is_some_and(|text| altered(text).is_some())
    };
    for entry in std::mem::take(&mut schema.post_data) {
        if entry.kind == "INDEX ATTACH" && stands(&entry, &|index| indexes.contains(index)) {
            continue;
        }
        if is_inherited(&entry) { late.push(entry) } else { schema.post_data.push(entry) }
    }
    late
}

/// Puts schemas before what is made in them, and who may use them before who may do what there.
fn put_before(schema: &mut Schema, schemas: Schema) {
    let (objects, grants) = schema::part_privileges(&schema.pre_data);
    let (made, granted) = schema::part_privileges(&schemas.pre_data);
    schema.pre_data = [made, objects, granted, grants].concat();
    schema.warnings.extend(schemas.warnings);
}

/// The relation of `ALTER TABLE [ONLY] relation …` or `ALTER INDEX relation …`.
fn altered(statement: &str) -> Option<Name> {
    let tokens = lexer::tokens(statement);
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(statement, word));
    if !(is(0, "alter") && (is(1, "table") || is(1, "index"))) {
        return None;
    }
    let (parts, _) = lexer::qualified_name(statement, &tokens, 2 + usize::from(is(2, "only")))?;
    let [schema, name] = <[String; 2]>::try_from(parts).ok()?;
    Some((schema, name))
}

/// Leaves nobody but their owners any privilege on relations and schemas that were just made.
fn revoke_defaults(subscriber: &mut Session, relations: &[Name], made: &[String]) -> Result<()> {
    let (schemas, names) = objects::split_names(relations);
    for row in subscriber.query(&sql::catalog::LIST_DEFAULT_GRANTEES, &[&schemas, &names, &made])? {
        let (kind, schema): (&str, &str) = (row.get("kind"), row.get("schema_name"));
        let name = match row.get("relation_name") {
            Some(relation) => sql::quote_qualified(schema, relation),
            None => sql::quote_identifier(schema),
        };
        let grantee: Option<String> = row.get("grantee");
        let grantee = grantee.map_or_else(|| "public".to_owned(), |role| sql::quote_identifier(&role));
        subscriber.change_script(&format!("revoke all on {kind} {name} from {grantee} cascade"))?;
    }
    Ok(())
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
        Some(Entry {
            kind: "FK CONSTRAINT".into(),
            schema: table.schema.clone(),
            name,
            statements: vec![statement],
        })
    };
    Ok(rows.iter().filter_map(entry).collect())
}

/// What the subscriber lacks, or is too old for, only a person can mend.
pub(super) fn refused(kind: &'static str, error: Error) -> Error {
    match error {
        Error::Sql { action, on, cause } if is_of_a_lack(&cause) => Error::Refused {
            kind,
            message: format!("could not {action} on {on}"),
            detail: Some(cause.to_string()),
            hint: "Make on the other side what it lacks, by the statement that made it on the source, or leave the table out with \
                   mirror.exclude; then run the same command again."
                .into(),
        },
        other => other,
    }
}

fn is_of_a_lack(cause: &ServerError) -> bool {
    let is_missing = cause.is(&SqlState::INVALID_SCHEMA_NAME) || cause.is(&SqlState::SYNTAX_ERROR);
    !cause.connection_lost && (is_missing || cause.is_of_evaluation())
}
