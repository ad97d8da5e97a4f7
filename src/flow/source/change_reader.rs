//! Reads the change table that triggers fill, transaction by transaction, while the applier works.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::Row as SqlRow;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{PgLsn, ToSql};
use serde::Deserialize;

use super::change::{Change, Relation, RelationColumn, Row, RowChange, Value};
use super::reader::{Item, Outlet, Reader, marker};
use super::slot::MISSED;
use super::{change_table, record_text};
use crate::error::{Error, Result};
use crate::flow::Xid;
use crate::pg::{Server, Session};
use crate::sql;

/// Pause when there is nothing new, while something was new a moment ago and later.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// How long a moment is.
const MOMENT: Duration = Duration::from_secs(2);
/// Transactions read by one statement, whose snapshot holds back the publisher's vacuum.
const TRANSACTIONS_AT_ONCE: i64 = 2000;
/// How long removing what is applied may take between two readings.
const PURGE_BUDGET: Duration = Duration::from_millis(100);
/// How often removing is due.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// Begins to read behind `start`.
pub fn start(publisher: &Server, start: PgLsn) -> Result<Reader> {
    let mut session = publisher.connect()?;
    let on = publisher.place.name();
    session
        .client()
        .batch_execute(
            "set jit = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_seqscan = off",
        )
        .map_err(|error| Error::sql("prepare the session that reads changes", on, &error))?;
    change_table::require_described(&mut session)?;
    change_table::cover_partitions(&mut session)?;
    let descriptions = Descriptions { publisher: publisher.clone(), tables: HashMap::new(), newest: -1 };
    Reader::spawn(move |outlet| {
        let mut reading = Reading { session, outlet, position: start, descriptions, open: None };
        reading.read()
    })
}

/// One column in a description.
#[derive(Deserialize)]
struct DescribedColumn {
    name: String,
    #[serde(rename = "type")]
    type_oid: u32,
    generated: bool,
    key: bool,
}

/// What the fields of a table's rows are from an ordinal on.
struct Description {
    since: i64,
    relation: Arc<Relation>,
    /// Which fields are columns that are written.
    written: Vec<bool>,
}

/// What is known of the tables, and where to ask for more.
struct Descriptions {
    publisher: Server,
    /// By table, oldest first.
    tables: HashMap<u32, Vec<Description>>,
    /// Ordinal of the newest that is known.
    newest: i64,
}

impl Descriptions {
    /// Takes in what is new.
    fn learn(&mut self, session: &mut Session) -> Result<()> {
        for row in session.query(&sql::capture::LIST_DESCRIPTIONS, &[&self.newest])? {
            self.newest = row.get("ordinal");
            let columns: Vec<DescribedColumn> = serde_json::from_value(row.get("columns"))
                .map_err(|error| malformed(&format!("a description: {error}")))?;
            let id: u32 = row.get("relation");
            let written = columns.iter().map(|column| !column.generated).collect();
            let columns = columns.into_iter().filter(|column| !column.generated);
            let column = |column: DescribedColumn| RelationColumn {
                name: column.name,
                type_oid: column.type_oid,
                key: column.key,
            };
            let relation = Arc::new(Relation {
                id,
                schema: row.get("schema_name"),
                name: row.get("table_name"),
                full: row.get("whole_row"),
                columns: columns.map(column).collect(),
            });
            self.tables.entry(id).or_default().push(Description { since: self.newest, relation, written });
        }
        Ok(())
    }

    /// What a change of this table and ordinal is made of.
    fn of(&mut self, table: u32, ordinal: i64) -> Result<&Description> {
        if !self.tables.contains_key(&table) {
            // A partition made since, where no event trigger could describe it. The other session is busy with rows.
            let mut session = self.publisher.connect()?;
            change_table::describe(&mut session, table)?;
            change_table::cover_partitions(&mut session)?;
            self.learn(&mut session)?;
        }
        let known = self.tables.get(&table).map_or(&[][..], Vec::as_slice);
        let latest = known.iter().rev().find(|description| description.since < ordinal);
        latest.or(known.first()).ok_or_else(|| Error::Conflict {
            kind: "table_unknown",
            sqlstate: None,
            message: format!("changes of a table are recorded that does not exist any more, oid {table}"),
            detail: Some("It was made and dropped while nobody watched: only a superuser can create the event trigger.".to_owned()),
            hint: format!("Give them up: DELETE FROM pgdetour.change WHERE relation = {table};"),
        })
    }
}

/// The transaction that is being read.
struct Open {
    position: i64,
    ordinal: i64,
    /// Tables emptied by neighbouring records: by one statement, for all that can be told.
    truncated: Vec<Arc<Relation>>,
}

struct Reading<'a> {
    session: Session,
    outlet: &'a mut Outlet,
    position: PgLsn,
    descriptions: Descriptions,
    open: Option<Open>,
}

impl Reading<'_> {
    /// Reads until it is to stop.
    fn read(&mut self) -> Result<()> {
        let (mut busy, mut purged) = (Instant::now(), Instant::now());
        while !self.outlet.is_stopped() {
            let end = change_table::order_changes(&mut self.session)?;
            let before = self.position;
            // Behind the end, up to which is read: a change committed later may be of a table that is not described here.
            self.descriptions.learn(&mut self.session)?;
            self.read_some(end)?;
            if purged.elapsed() >= PURGE_EVERY {
                change_table::purge(&mut self.session, self.outlet.confirmed(), PURGE_BUDGET)?;
                purged = Instant::now();
            }
            if self.position > before {
                busy = Instant::now();
                if self.position < end {
                    continue;
                }
            }
            self.position = self.position.max(end);
            self.outlet.note_position(self.position.into());
            self.outlet.send(true, |_| {});
            let pause = if busy.elapsed() < MOMENT { PAUSE.0 } else { PAUSE.1 };
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Hands on the next transactions up to `end`, as many as one statement reads; rows are fetched as they are taken.
    fn read_some(&mut self, end: PgLsn) -> Result<()> {
        let on = self.session.place.name();
        let failed = |error: &postgres::Error| Error::sql("read recorded changes", on, error);
        let (position, end) = (change_table::ordinal(self.position), change_table::ordinal(end));
        let params: [&(dyn ToSql + Sync); 3] = [&position, &end, &TRANSACTIONS_AT_ONCE];
        let mut rows = self
            .session
            .client()
            .query_raw(sql::capture::READ_CHANGES.text, params.iter().map(|param| *param as &dyn ToSql))
            .map_err(|error| failed(&error))?;
        while let Some(row) = rows.next().map_err(|error| failed(&error))? {
            take(&mut self.open, self.outlet, &mut self.descriptions, &row)?;
            if self.outlet.is_full() {
                self.outlet.send(false, |_| {});
                if self.outlet.is_stopped() {
                    return Ok(());
                }
            }
        }
        if let Some(open) = &self.open {
            self.position = PgLsn::from(open.position.cast_unsigned());
        }
        close(&mut self.open, self.outlet);
        Ok(())
    }
}

/// Hands on one record.
fn take(
    open: &mut Option<Open>,
    outlet: &mut Outlet,
    descriptions: &mut Descriptions,
    record: &SqlRow,
) -> Result<()> {
    let (position, ordinal): (i64, i64) = (record.get("position"), record.get("ordinal"));
    if open.as_ref().is_none_or(|open| open.position != position) {
        if open.as_ref().is_some_and(|open| open.position > position) {
            return Err(malformed("transactions come out of their order"));
        }
        close(open, outlet);
        let xid: &str = record.get("xid");
        let xid: u64 = xid.parse().map_err(|_| malformed("an xid is no number"))?;
        let commit_lsn = PgLsn::from((position - 1).cast_unsigned());
        outlet.push(Item::Begin { xid: Xid::Whole(xid), commit_lsn });
        outlet.note_time(record.get("placed_at"));
        *open = Some(Open { position, ordinal: 0, truncated: Vec::new() });
    }
    let Some(open) = open else { return Ok(()) };
    if ordinal <= open.ordinal {
        return Err(malformed("changes come out of their order"));
    }
    open.ordinal = ordinal;
    let operation: &str = record.get("operation");
    if operation == "S" {
        outlet.push(Item::Scratch);
        return Ok(());
    }
    let description = descriptions.of(record.get("relation"), ordinal)?;
    let relation = Arc::clone(&description.relation);
    if operation == "T" {
        if open.truncated.iter().all(|other| other.id != relation.id) {
            open.truncated.push(relation);
        }
        return Ok(());
    }
    open.empty_tables(outlet);
    let mut row = |column: &str| -> Result<Option<Row>> {
        let Some(text) = record.get::<_, Option<&str>>(column) else { return Ok(None) };
        outlet.count(text.len());
        fields(description, text).map(Some)
    };
    let (old, new) = (row("old_row")?, row("new_row")?);
    let change = match (operation, old, new) {
        ("I", None, Some(new)) if relation.schema == "pgdetour" => {
            if let Some(item) = marker(&relation, &new) {
                outlet.push(item);
            }
            return Ok(());
        }
        ("I", None, Some(new)) => RowChange::Insert { new },
        ("U", old, Some(new)) => RowChange::Update { old, new },
        ("D", Some(old), None) => RowChange::Delete { old },
        _ => return Err(malformed(&format!("a record of operation \"{operation}\""))),
    };
    outlet.push(Item::Change(Change::Row { relation, change }));
    Ok(())
}

/// The written columns of a row's text form.
fn fields(description: &Description, text: &str) -> Result<Row> {
    let relation = &description.relation;
    let mut fields = record_text::split(text)
        .ok_or_else(|| malformed(&format!("a row of \"{}\" cannot be read", relation.display())))?;
    if description.written.is_empty() {
        fields.clear();
    }
    if fields.len() != description.written.len() {
        return Err(Error::Conflict {
            kind: "columns_changed",
            sqlstate: None,
            message: format!(
                "a change of table \"{}\" has {} columns, not {}",
                relation.display(),
                fields.len(),
                description.written.len()
            ),
            detail: Some("Its definition was altered after its changes began to be recorded.".to_owned()),
            hint: MISSED.to_owned(),
        });
    }
    let written = fields.iter().zip(&description.written).filter(|(_, is_written)| **is_written);
    Ok(written.map(|(field, _)| field.as_deref().map_or(Value::Null, Value::Text)).collect())
}

/// Ends the open transaction.
fn close(open: &mut Option<Open>, outlet: &mut Outlet) {
    if let Some(mut open) = open.take() {
        open.empty_tables(outlet);
        outlet.push(Item::Commit { end_lsn: PgLsn::from(open.position.cast_unsigned()) });
    }
}

impl Open {
    /// Hands on the tables that were emptied, as one change.
    fn empty_tables(&mut self, outlet: &mut Outlet) {
        if !self.truncated.is_empty() {
            let relations = std::mem::take(&mut self.truncated);
            outlet.push(Item::Change(Change::Truncate { relations }));
        }
    }
}

fn malformed(message: &str) -> Error {
    Error::Internal { message: format!("the record of changes is malformed: {message}") }
}
