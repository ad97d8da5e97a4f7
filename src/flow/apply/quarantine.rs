//! Changes that did not fit, kept on the subscriber in their order, and the rows that wait behind them.

mod again;
mod targets;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postgres::types::PgLsn;
use serde_json::{Map, Value as Json};

pub use self::again::{not_quarantined, retry};
use self::targets::{Stored, Targets};
use super::batch::Work;
use super::conflict::Misfit;
use crate::error::{Doing as _, Result};
use crate::flow::mapping::bound::Bound;
use crate::flow::mapping::{Mapping, TableName};
use crate::flow::source::change::{RelationColumn, Row, RowChange, Value};
use crate::pg::Session;
use crate::pg::parameter::Parameter;
use crate::sql;

/// How many changes are written to the quarantine at once.
const WRITTEN_AT_ONCE: usize = 500;

/// Which rows later changes must not touch, since an earlier one of theirs is set aside.
#[derive(Debug, Default)]
pub struct Quarantine {
    held: HashMap<TableName, Held>,
    /// The same rows where they are on the subscriber.
    targets: Targets,
    loaded: bool,
    /// What does not fit stops the flow; but what comes behind something that is set aside already waits as well.
    stops: bool,
    /// Nothing was set aside when it was read. Where the flow stops, nothing has come since.
    was_empty: bool,
    /// In committed transactions, and in the open one.
    conflicts: u64,
    open_conflicts: u64,
    /// Changes of the open transaction that went, or go, there, those that wait behind an earlier one included.
    open_aside: u64,
    /// Decided, and not written yet: a rollback to a savepoint does not touch them.
    pending: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Held {
    /// Its rows are not told apart, or one could not be: everything waits.
    whole: bool,
    /// As stored, until it is known where the key's columns are in a row.
    unread: Vec<Map<String, Json>>,
    keys: HashSet<Box<[u8]>>,
}

/// Keys of the rows before and after; `None` when one cannot be told.
fn keys_of(table: &Bound, change: &RowChange) -> Option<Vec<Box<[u8]>>> {
    let rows: Vec<&Row> = match change {
        RowChange::Insert { new } | RowChange::Update { old: None, new } => vec![new],
        RowChange::Update { old: Some(old), new } => vec![old, new],
        RowChange::Delete { old } => vec![old],
    };
    rows.into_iter().map(|row| table.key_of(row)).collect()
}

impl Quarantine {
    /// One that reads what is set aside already when it begins.
    pub fn new(mapping: &Mapping) -> Quarantine {
        let mut quarantine = Quarantine::default();
        quarantine.targets.learn(mapping);
        quarantine
    }

    /// One that takes in nothing but what comes behind what is set aside already.
    pub fn stopping(mapping: &Mapping) -> Quarantine {
        Quarantine { stops: true, ..Quarantine::new(mapping) }
    }

    /// Whether a change that does not fit stops the flow.
    pub fn stops(&self) -> bool {
        self.stops
    }

    /// One that does not know what is set aside already: for trying that again from the beginning.
    pub fn anew(mapping: &Mapping) -> Quarantine {
        Quarantine { loaded: true, ..Quarantine::new(mapping) }
    }

    /// Takes in a mapping that knows more tables. None of what is held was in these.
    pub fn learn(&mut self, mapping: &Mapping) {
        self.targets.learn(mapping);
    }

    /// Changes set aside in committed transactions.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Whether it is known that no row is held.
    pub fn holds_nothing(&self) -> bool {
        self.loaded && self.held.is_empty()
    }

    /// Reads which rows are held, unless that is known.
    pub fn load(&mut self, session: &mut Session) -> Result<()> {
        if self.loaded {
            return Ok(());
        }
        self.held.clear();
        self.targets.clear();
        for row in session.query(&sql::flow::LIST_HELD_KEYS, &[]).doing(|| "read the quarantine".into())? {
            let name = TableName::in_row(&row);
            let key = match row.get("key") {
                Some(Json::Object(key)) => Some(key),
                _ => None,
            };
            let stored = Stored { table: &name, emptied: row.get("emptied"), keys: vec![key.as_ref()] };
            let marks = self.targets.marks_of_stored(&stored);
            self.targets.hold(marks);
            match key {
                Some(key) => self.held.entry(name).or_default().unread.push(key),
                None if stored.emptied => self.hold_emptied(&name),
                None => self.held.entry(name).or_default().whole = true,
            }
        }
        self.loaded = true;
        self.was_empty = self.held.is_empty();
        Ok(())
    }

    /// The open transaction was rolled back: what it held is read again.
    pub fn forget(&mut self) {
        self.loaded = self.stops && self.was_empty;
        self.open_conflicts = 0;
        self.open_aside = 0;
        self.pending.clear();
    }

    /// The open transaction is committed.
    pub fn keep(&mut self) {
        self.conflicts += std::mem::take(&mut self.open_conflicts);
        self.open_aside = 0;
    }

    /// How many changes of the open transaction are not applied, but set aside.
    pub fn open_aside(&self) -> u64 {
        self.open_aside
    }

    /// So many more changes of the open transaction are set aside.
    pub fn count_aside(&mut self, changes: usize) {
        self.open_aside += changes as u64;
    }

    /// One more change was set aside.
    pub fn count_conflict(&mut self) {
        self.open_conflicts += 1;
    }

    /// Notes what is to be written, in order; whether there is enough of it to do so.
    pub fn note(&mut self, entries: Vec<Entry>) -> bool {
        self.pending.extend(entries);
        self.pending.len() >= WRITTEN_AT_ONCE
    }

    /// What is to be written.
    pub fn take_pending(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.pending)
    }

    /// Whether the change is of a row that is held.
    pub fn holds(&mut self, table: &Bound, change: &RowChange) -> bool {
        if self.held.is_empty() {
            return false;
        }
        self.holds_identity(table, change) || self.targets.holds(&self.targets.marks_of(table, change))
    }

    /// Whether it is of a row that is held by what identifies it on the publisher.
    fn holds_identity(&mut self, table: &Bound, change: &RowChange) -> bool {
        let Some(held) = self.held.get_mut(&table.relation.table_name()) else { return false };
        for key in std::mem::take(&mut held.unread) {
            match stored_key(table, &key) {
                Some(key) => {
                    held.keys.insert(key);
                }
                None => held.whole = true,
            }
        }
        held.whole || keys_of(table, change).is_none_or(|keys| keys.iter().any(|key| held.keys.contains(key)))
    }

    /// Later changes of the same row wait.
    pub fn hold(&mut self, table: &Bound, change: &RowChange) {
        let marks = self.targets.marks_of(table, change);
        self.targets.hold(marks);
        let held = self.held.entry(table.relation.table_name()).or_default();
        match keys_of(table, change) {
            Some(keys) => held.keys.extend(keys),
            None => held.whole = true,
        }
    }

    /// Whether a TRUNCATE of these has to wait: behind all rows of one of them, or behind a row that goes to another partition, which
    /// may be in this one before or after. Emptied with all the others, it is in none.
    pub fn holds_truncate(&self, tables: &[Arc<Bound>]) -> bool {
        let emptied = self.emptied_by(tables);
        let held = |name: &TableName| self.held.get(name);
        emptied.iter().any(|name| {
            let root = self.targets.root_of(name).and_then(|root| held(root).map(|held| (root, held)));
            held(name).is_some_and(|held| held.whole)
                || root.is_some_and(|(root, held)| held.whole || !emptied.contains(root))
        })
    }

    /// Later changes of these wait.
    pub fn hold_truncate(&mut self, tables: &[Arc<Bound>]) {
        for table in tables {
            self.hold_emptied(&table.relation.table_name());
        }
    }

    /// Likewise of one, and rows that come to it from another partition.
    fn hold_emptied(&mut self, table: &TableName) {
        for name in [Some(table), self.targets.root_of(table)].into_iter().flatten() {
            self.held.entry(name.clone()).or_default().whole = true;
        }
    }

    /// Tables that are empty after a TRUNCATE of these, a partitioned one with its partitions.
    pub fn emptied_by(&self, tables: &[Arc<Bound>]) -> HashSet<TableName> {
        let mut emptied: HashSet<TableName> =
            tables.iter().map(|table| table.relation.table_name()).collect();
        let roots: HashSet<TableName> =
            emptied.iter().filter_map(|name| self.targets.root_of(name)).cloned().collect();
        let is_emptied =
            |root: &TableName| self.targets.partitions_of(root).all(|name| emptied.contains(name));
        let roots: Vec<TableName> = roots.into_iter().filter(is_emptied).collect();
        emptied.extend(roots);
        emptied
    }

    /// The table is empty: nothing in it waits any more. Whether anything did.
    pub fn free(&mut self, table: &TableName) -> bool {
        self.targets.free(table);
        self.held.remove(table).is_some()
    }
}

/// A stored key in the form of [`Bound::key_of`]; `None` when the table's key has other columns now.
fn stored_key(table: &Bound, key: &Map<String, Json>) -> Option<Box<[u8]>> {
    let positions = table.key.as_ref()?;
    let mut row = vec![Value::Null; table.relation.columns.len()];
    for at in positions {
        row[*at] = value_of(key.get(&table.relation.columns[*at].name)?);
    }
    table.key_of(&row.into_iter().collect())
}

fn value_of(json: &Json) -> Value<'_> {
    match json {
        Json::String(text) => Value::Text(text.as_bytes()),
        _ => Value::Null,
    }
}

fn json_of(value: Value<'_>) -> Option<Json> {
    match value {
        Value::Null => Some(Json::Null),
        // What is set aside comes as text.
        Value::Unchanged | Value::Binary(_) => None,
        Value::Text(text) => Some(Json::String(String::from_utf8_lossy(text).into_owned())),
    }
}

/// One row of the quarantine, to be written.
#[derive(Debug)]
pub struct Entry {
    lsn: PgLsn,
    table: TableName,
    key: Option<String>,
    key_after: Option<String>,
    operation: &'static str,
    kind: &'static str,
    old_row: Option<String>,
    new_row: Option<String>,
    mapped: Option<String>,
    sqlstate: Option<String>,
    constraint: Option<String>,
    message: String,
}

impl Entry {
    /// Whether it is of a change of this table.
    pub fn is_of(&self, table: &TableName) -> bool {
        self.table == *table
    }
}

/// What to keep of a change; without a `misfit` it waits behind an earlier one. A TRUNCATE has an entry for each table.
pub fn entries(lsn: PgLsn, work: &Work, misfit: Option<&Misfit>, mapped: Option<&str>) -> Vec<Entry> {
    let entry = |table: &Bound, operation| Entry {
        lsn,
        table: table.relation.table_name(),
        key: None,
        key_after: None,
        operation,
        kind: misfit.map_or("follows", |misfit| misfit.kind),
        old_row: None,
        new_row: None,
        mapped: mapped.map(str::to_owned),
        sqlstate: misfit.and_then(|misfit| misfit.sqlstate.clone()),
        constraint: misfit.and_then(|misfit| misfit.constraint.clone()),
        message: misfit.map_or_else(
            || "an earlier change of the same row is in quarantine".to_owned(),
            |misfit| misfit.message.clone(),
        ),
    };
    match work {
        Work::Truncate { tables } => tables.iter().map(|table| entry(table, "truncate")).collect(),
        Work::Row { table, change } => {
            let (operation, old, new) = match change {
                RowChange::Insert { new } => ("insert", None, Some(new)),
                RowChange::Update { old, new } => ("update", old.as_ref(), Some(new)),
                RowChange::Delete { old } => ("delete", Some(old), None),
            };
            let before = old.or(new).and_then(|row| key_json(table, row));
            let after = old.and(new).and_then(|row| key_json(table, row)).filter(|after| {
                // A key that does not change is named once.
                before.as_ref() != Some(after)
            });
            vec![Entry {
                key: before,
                key_after: after,
                old_row: old.map(|row| row_json(table, row, true)),
                new_row: new.map(|row| row_json(table, row, false)),
                ..entry(table, operation)
            }]
        }
    }
}

fn key_json(table: &Bound, row: &Row) -> Option<String> {
    table.key_of(row)?;
    let positions = table.key.as_ref()?;
    let part = |at: &usize| Some((table.relation.columns[*at].name.clone(), json_of(row.value(*at))?));
    let key: Option<Map<String, Json>> = positions.iter().map(part).collect();
    key.map(|key| Json::Object(key).to_string())
}

/// The row's values by column; of a row before only those that the stream carries.
fn row_json(table: &Bound, row: &Row, before: bool) -> String {
    let is_carried = |column: &RelationColumn| !before || table.relation.full || column.key;
    let values = table.relation.columns.iter().zip(row.values()).filter(|(column, _)| is_carried(column));
    let values: Map<String, Json> =
        values.filter_map(|(column, value)| Some((column.name.clone(), json_of(value)?))).collect();
    Json::Object(values).to_string()
}

/// Writes entries, in their order.
pub fn insert(session: &mut Session, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let column = |pick: &dyn Fn(&Entry) -> Option<String>| -> Vec<Option<String>> {
        entries.iter().map(pick).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    let columns = [
        column(&|entry| Some(entry.lsn.to_string())),
        column(&|entry| some(&entry.table.schema)),
        column(&|entry| some(&entry.table.name)),
        column(&|entry| entry.key.clone()),
        column(&|entry| entry.key_after.clone()),
        column(&|entry| some(entry.operation)),
        column(&|entry| some(entry.kind)),
        column(&|entry| entry.old_row.clone()),
        column(&|entry| entry.new_row.clone()),
        column(&|entry| entry.mapped.clone()),
        column(&|entry| entry.sqlstate.clone()),
        column(&|entry| entry.constraint.clone()),
        column(&|entry| some(&entry.message)),
    ];
    let params: Vec<&dyn Parameter> = columns.iter().map(|column| column as &dyn Parameter).collect();
    session
        .change(sql::flow::INSERT_QUARANTINED.text, &params)
        .doing(|| "set changes aside in quarantine".into())
        .map(drop)
}

/// One row of the quarantine, for people and scripts.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Quarantined {
    /// Its place, by which it is named.
    pub id: i64,
    /// `schema.table` on the publisher.
    pub table: String,
    /// What the publisher did.
    pub operation: String,
    /// Why it is here: `update_missing`, `insert_exists`, `check`, …; `follows`: behind an earlier change of its row.
    pub kind: String,
    /// What identifies the row; none when the whole table is held.
    pub key: Option<Json>,
    /// The same after the change, where it differs.
    pub key_after: Option<Json>,
    /// Values before, as far as the stream carries them.
    pub old_row: Option<Json>,
    /// Values after.
    pub new_row: Option<Json>,
    /// What was to be written, by table.
    pub mapped: Option<Json>,
    /// What the server said.
    pub sqlstate: Option<String>,
    /// The constraint in the way.
    pub constraint: Option<String>,
    /// What does not fit where.
    pub message: String,
    /// How often it was tried.
    pub attempts: i32,
    /// End of its transaction on the publisher.
    pub commit_lsn: String,
    /// When, by the subscriber's clock.
    #[serde(rename = "quarantined_at")]
    pub since: String,
}

/// The first `count` changes that are set aside behind `after`, or `only` one.
pub fn list(session: &mut Session, after: i64, only: Option<i64>, count: i64) -> Result<Vec<Quarantined>> {
    let rows = session
        .query(&sql::flow::LIST_QUARANTINED, &[&after, &only, &count])
        .doing(|| "read the quarantine".into())?;
    let entry = |row: &postgres::Row| Quarantined {
        id: row.get("ordinal"),
        table: format!("{}.{}", row.get::<_, &str>("schema_name"), row.get::<_, &str>("table_name")),
        operation: row.get("operation"),
        kind: row.get("kind"),
        key: row.get("key"),
        key_after: row.get("key_after"),
        old_row: row.get("old_row"),
        new_row: row.get("new_row"),
        mapped: row.get("mapped"),
        sqlstate: row.get("sqlstate"),
        constraint: row.get("constraint_name"),
        message: row.get("message"),
        attempts: row.get("attempts"),
        commit_lsn: row.get::<_, PgLsn>("commit_lsn").to_string(),
        since: row.get("quarantined_at"),
    };
    Ok(rows.iter().map(entry).collect())
}

/// How many changes are set aside behind `after`.
pub fn count_behind(session: &mut Session, after: i64) -> Result<i64> {
    let text = "select count(*) from pgdetour.quarantine where ordinal > $1";
    let rows = session.query_text(text, &[&after]).doing(|| "count the changes in quarantine".into())?;
    Ok(rows[0].get(0))
}

/// Gives up changes that are set aside: all, or one. How many.
pub fn skip(session: &mut Session, only: Option<i64>) -> Result<u64> {
    let text = "delete from pgdetour.quarantine where $1::pg_catalog.int8 is null or ordinal = $1";
    session.change(text, &[&only]).doing(|| "give up changes in quarantine".into())
}
