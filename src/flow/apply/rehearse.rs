//! The rows of the publisher as they are now, taken through the mapping into copies of the subscriber's tables: the same
//! types, checks, unique and foreign keys, in a transaction that is rolled back.

use std::collections::HashMap;

use postgres::error::SqlState;
use postgres::types::ToSql;
use serde::Serialize;

use super::conditional;
use super::statement::{self, From, Statement};
use crate::error::{Doing as _, Error, Result, ServerError};
use crate::flow::mapping::foreign_key::{ForeignKey, list_foreign_keys};
use crate::flow::mapping::{Mapping, TableName, TableRule};
use crate::flow::verify::carried::{Sample, Texts, read_old_rows};
use crate::pg::Session;
use crate::pg::parameter::Parameter;
use crate::sql;

/// How many failures of one rule are looked for: more of the same tell nothing new.
const FAILURES_A_TABLE: u64 = 200;
/// How many of them are told by row.
const TOLD_A_TABLE: usize = 20;

/// What came of one table on its way to another.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsed {
    /// On the publisher.
    pub table: String,
    /// On the subscriber.
    pub to: String,
    /// Rows that were tried.
    pub rows: u64,
    /// Rows that do not fit.
    pub failed: u64,
    /// False when so many did not fit that the rest was not tried.
    pub whole: bool,
}

/// One row that does not fit.
#[derive(Debug, Clone, Serialize)]
pub struct RowFailure {
    /// On the publisher.
    pub table: String,
    /// On the subscriber.
    pub to: String,
    /// `(id)=(5)`; of a foreign key's row, the key on the subscriber.
    pub key: String,
    /// The column that does not take its value, as far as the server says.
    pub column: Option<String>,
    /// The constraint in the way.
    pub constraint: Option<String>,
    /// What the server said.
    pub sqlstate: String,
    /// What the server said, without the row's other values.
    pub message: String,
    /// What mends it, where that is more than to correct the mapping or the rows.
    #[serde(skip)]
    pub hint: Option<String>,
}

/// What came of all.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Rehearsal {
    /// Each table of the publisher, on its way to each table of the subscriber.
    pub tables: Vec<Rehearsed>,
    /// The first rows that do not fit.
    pub failures: Vec<RowFailure>,
}

impl Rehearsal {
    /// Rows that were tried.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Rows that do not fit.
    pub fn failed(&self) -> u64 {
        self.tables.iter().map(|table| table.failed).sum()
    }
}

/// A session on the subscriber with copies of its tables.
struct Stage<'a> {
    session: &'a mut Session,
    copies: HashMap<TableName, TableName>,
    /// Real names of the copies' unique indexes.
    names: HashMap<String, String>,
    heed: &'a dyn Fn() -> Result<()>,
    rehearsal: Rehearsal,
}

/// Tries all rows, or some `sample` of each table, and rolls back. `subscriber` is a session of its own; `heed` fails when
/// somebody asked us to end. Needs room on the subscriber for temporary copies of what is tried; locks nothing but
/// the tables' definitions.
pub fn rehearse(
    publisher: &mut Session,
    subscriber: &mut Session,
    mapping: &Mapping,
    sample: Option<u64>,
    estimates: &dyn Fn(&TableName) -> f64,
    heed: &dyn Fn() -> Result<()>,
) -> Result<Rehearsal> {
    let mut stage = Stage {
        session: subscriber,
        copies: HashMap::new(),
        names: HashMap::new(),
        heed,
        rehearsal: Rehearsal::default(),
    };
    stage.execute("begin; set constraints all immediate")?;
    for (at, rules) in mapping.by_target().iter().enumerate() {
        let copy = stage
            .copy_table(rules[0], at)
            .doing(|| format!("copy the definition of table \"{}\" to rehearse the mapping", rules[0].to))?;
        for rule in rules {
            let sample = sample.map(|rows| Sample { rows, of: estimates(&rule.from) });
            stage.try_rows(publisher, rule, &copy, (sample, &mapping.list_partitions_elsewhere(rule)))?;
        }
    }
    stage.check_foreign_keys(mapping, sample.is_some())?;
    stage.execute("rollback")?;
    Ok(stage.rehearsal)
}

impl Stage<'_> {
    fn execute(&mut self, text: &str) -> Result<()> {
        let on = self.session.place.name();
        self.session
            .client()
            .batch_execute(text)
            .map_err(|error| Error::sql("rehearse the mapping", on, &error))
    }

    /// A temporary table with everything of the real one that a row can fail at, and nothing that outlives a rollback.
    fn copy_table(&mut self, rule: &TableRule, at: usize) -> Result<TableName> {
        let copy = TableName { schema: "pg_temp".into(), name: format!("pgdetour_rehearsal_{at}") };
        let quoted = copy.quoted();
        self.execute(&format!(
            "create temporary table {} (like {} including all excluding indexes excluding comments excluding statistics)",
            sql::quote_identifier(&copy.name),
            rule.to.quoted()
        ))?;
        let place: [&dyn Parameter; 2] = [&rule.to.schema, &rule.to.name];
        // Numbers of the real sequences are not to be used up for rows that nobody keeps.
        let columns = self.session.query(&sql::flow::LIST_SEQUENCE_DEFAULTS, &place)?;
        let columns: Vec<String> = columns.iter().map(|row| row.get("column_name")).collect();
        if !columns.is_empty() {
            let sequence = format!("{}_numbers", copy.name);
            self.execute(&format!("create temporary sequence {sequence}"))?;
            for column in columns {
                let column = sql::quote_identifier(&column);
                self.execute(&format!(
                    "alter table {quoted} alter {column} set default pg_catalog.nextval('pg_temp.{sequence}')"
                ))?;
            }
        }
        for row in self.session.query(&sql::flow::LIST_UNIQUE_DEFINITIONS, &place)? {
            // Copies share a schema, and so cannot have the real names of all.
            let name = format!("pgdetour_unique_{}", self.names.len());
            self.names.insert(name.clone(), row.get("index_name"));
            let definition: &str = row.get("definition");
            self.execute(&if row.get("is_constraint") {
                format!("alter table {quoted} add constraint {name} {definition}")
            } else {
                format!("create unique index {name} on {quoted} {definition}")
            })?;
        }
        if rule.to_partitioned {
            let rows = self.session.query(&sql::flow::LIST_PARTITION_CONSTRAINTS, &place)?;
            let conditions: Vec<Option<String>> = rows.iter().map(|row| row.get("condition")).collect();
            let all: Option<Vec<String>> = conditions.into_iter().collect();
            let condition = match all {
                Some(all) if all.is_empty() => Some("false".to_owned()),
                Some(all) => Some(format!("({})", all.join(") or ("))),
                None => None,
            };
            if let Some(condition) = condition {
                self.execute(&format!(
                    "alter table {quoted} add constraint has_a_partition check ({condition})"
                ))?;
            }
        }
        self.copies.insert(rule.to.clone(), copy.clone());
        Ok(copy)
    }

    fn try_rows(
        &mut self,
        publisher: &mut Session,
        rule: &TableRule,
        copy: &TableName,
        (sample, elsewhere): (Option<Sample>, &[&TableName]),
    ) -> Result<()> {
        let into = TableRule { to: copy.clone(), to_partitioned: false, ..rule.clone() };
        let insert = match (&rule.condition, &rule.fills) {
            (Some(_), _) => conditional::insert(&into, false),
            (None, Some(_)) => statement::fill(&into, From::Parameters),
            (None, None) => statement::insert(&into, From::Parameters),
        };
        // Of a sample the row that is joined may not be there.
        let must_find = rule.fills.is_some() && sample.is_none();
        let mut columns = rule.all_reads();
        columns.extend(rule.identity.iter().flatten().copied());
        columns.sort_unstable();
        columns.dedup();
        self.rehearsal.tables.push(Rehearsed {
            table: rule.from.to_string(),
            to: rule.to.to_string(),
            rows: 0,
            failed: 0,
            whole: true,
        });
        read_old_rows(publisher, rule, &columns, sample, (None, elsewhere), &mut |chunk, rows| {
            (self.heed)()?;
            self.insert(rule, (&insert, must_find), &columns, chunk, 0..rows)?;
            let told = self.told();
            told.rows += rows as u64;
            told.whole &= told.failed < FAILURES_A_TABLE;
            Ok(told.whole)
        })
    }

    fn told(&mut self) -> &mut Rehearsed {
        self.rehearsal.tables.last_mut().expect("a table is noted before its rows are tried")
    }

    /// Inserts these rows of a chunk, or fills them in, for which each has to find a row if it `must_find` one; where that
    /// fails, each half, in the end row by row.
    fn insert(
        &mut self,
        rule: &TableRule,
        (insert, must_find): (&Statement, bool),
        columns: &[usize],
        chunk: &[Texts],
        rows: std::ops::Range<usize>,
    ) -> Result<()> {
        if self.told().failed >= FAILURES_A_TABLE {
            return Ok(());
        }
        self.execute("savepoint pgdetour_rehearsal")?;
        let part = |at: &usize| -> Option<&[Option<String>]> {
            columns.iter().position(|column| column == at).map(|at| &chunk[at][rows.clone()])
        };
        let parts: Vec<&[Option<String>]> = insert.columns.iter().filter_map(part).collect();
        let count = rows.len() as i64;
        let mut params: Vec<&(dyn ToSql + Sync)> =
            parts.iter().map(|part| part as &(dyn ToSql + Sync)).collect();
        if insert.takes_count {
            params.insert(0, &count);
        }
        let done = self.session.client().execute(&*insert.text, &params);
        let failure = match done {
            Ok(found) if !must_find || found == rows.len() as u64 => {
                return self.execute("release savepoint pgdetour_rehearsal");
            }
            Ok(_) => None,
            // Also what no row of the table would pass, such as a function that fails, is told by its rows.
            Err(error) if ServerError::from(&error).is_of_evaluation() => Some(error),
            Err(error) => return Err(Error::sql("rehearse the mapping", self.session.place.name(), &error)),
        };
        self.execute("rollback to savepoint pgdetour_rehearsal; release savepoint pgdetour_rehearsal")?;
        if rows.len() > 1 {
            let middle = rows.start + rows.len() / 2;
            self.insert(rule, (insert, must_find), columns, chunk, rows.start..middle)?;
            return self.insert(rule, (insert, must_find), columns, chunk, middle..rows.end);
        }
        let key = key_text(rule, columns, chunk, rows.start);
        match failure {
            Some(error) => self.note_refused(rule, key, &error),
            None => self.note(RowFailure {
                table: rule.from.to_string(),
                to: rule.to.to_string(),
                key,
                column: None,
                constraint: None,
                sqlstate: SqlState::NO_DATA.code().to_owned(),
                message: format!("the row of \"{}\" that it joins would not be there", rule.to),
                hint: None,
            }),
        }
        Ok(())
    }

    fn note(&mut self, failure: RowFailure) {
        let table = self.told();
        table.failed += 1;
        if table.failed <= TOLD_A_TABLE as u64 {
            self.rehearsal.failures.push(failure);
        }
    }

    fn note_refused(&mut self, rule: &TableRule, key: String, error: &postgres::Error) {
        let said = ServerError::from(error);
        let database = error.as_db_error();
        let named = database.and_then(|error| error.constraint());
        let real = named.map(|name| self.names.get(name).map_or(name, String::as_str));
        let mut message = said.without_value().replace(&self.copies[&rule.to].name, &rule.to.name);
        if let (Some(named), Some(real)) = (named, real) {
            message = message.replace(named, real);
        }
        let failure = RowFailure {
            table: rule.from.to_string(),
            to: rule.to.to_string(),
            key,
            column: database.and_then(|error| error.column()).map(str::to_owned),
            constraint: real.map(str::to_owned),
            sqlstate: said.sqlstate.clone().unwrap_or_default(),
            message,
            hint: said.search_path_hint(),
        };
        self.note(failure);
    }

    /// Rows whose parent would not be there. In a sample a parent may just not be among the rows.
    fn check_foreign_keys(&mut self, mapping: &Mapping, is_sample: bool) -> Result<()> {
        for key in list_foreign_keys(self.session)? {
            (self.heed)()?;
            let (child, parent) = (self.copies.get(&key.table), self.copies.get(&key.referenced));
            if child.is_none() && parent.is_none() || is_sample && parent.is_some() {
                continue;
            }
            let names: Vec<String> =
                mapping.pairs().find(|rule| rule.to == key.table && !rule.key.is_empty()).map_or_else(
                    || key.columns.clone(),
                    |rule| rule.key.iter().map(|part| part.name.clone()).collect(),
                );
            let text =
                find_orphans(&key, child.unwrap_or(&key.table), parent.unwrap_or(&key.referenced), &names);
            let rows = self.session.query_text(&text, &[])?;
            let Some(first) = rows.first() else { continue };
            let failed = first.get::<_, i64>(1) as u64;
            let table = mapping.pairs().find(|rule| rule.to == key.table).map(|rule| rule.from.to_string());
            let to = key.table.to_string();
            let entry = self.rehearsal.tables.iter_mut().find(|entry| entry.to == to);
            match entry {
                Some(entry) => entry.failed += failed,
                // Its rows are the subscriber's own; what they refer to would not be there any more.
                None => self.rehearsal.tables.push(Rehearsed {
                    table: to.clone(),
                    to: to.clone(),
                    rows: 0,
                    failed,
                    whole: true,
                }),
            }
            for row in &rows {
                self.rehearsal.failures.push(RowFailure {
                    table: table.clone().unwrap_or_else(|| to.clone()),
                    to: to.clone(),
                    key: format!("({})={}", names.join(", "), row.get::<_, String>(0)),
                    column: (key.columns.len() == 1).then(|| key.columns[0].clone()),
                    constraint: Some(key.name.clone()),
                    sqlstate: SqlState::FOREIGN_KEY_VIOLATION.code().to_owned(),
                    message: format!(
                        "the row of \"{}\" that it refers to would not be there",
                        key.referenced
                    ),
                    hint: None,
                });
            }
        }
        Ok(())
    }
}

/// Key and number of the rows of `child` whose parent is missing.
fn find_orphans(key: &ForeignKey, child: &TableName, parent: &TableName, names: &[String]) -> String {
    let parts: Vec<String> = names.iter().map(|name| format!("t.{}", sql::quote_identifier(name))).collect();
    format!(
        "select row({})::text, count(*) over () from {} as t where {} and {} limit {TOLD_A_TABLE}",
        parts.join(", "),
        child.quoted(),
        key.concerns("t"),
        key.has_no_parent_in(parent, "t"),
    )
}

/// `(id)=(5)`: what identifies the row on the publisher, never its other values.
fn key_text(rule: &TableRule, columns: &[usize], chunk: &[Texts], row: usize) -> String {
    let Some(identity) = &rule.identity else { return "(whole row)".to_owned() };
    let names: Vec<&str> = identity.iter().map(|at| rule.old_columns[*at].name.as_str()).collect();
    let values = identity.iter().map(|at| {
        let position = columns.iter().position(|column| column == at);
        position.and_then(|at| chunk[at][row].as_deref()).unwrap_or("null")
    });
    format!("({})=({})", names.join(", "), values.collect::<Vec<_>>().join(", "))
}
