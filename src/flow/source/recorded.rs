//! Which tables are recorded, noted as recording begins: rows that come or go with a table, or into one that is made later, are in
//! no slot and pass no trigger.

use postgres::error::SqlState;

use crate::error::{Doing as _, Result};
use crate::flow::mapping::TableName;
use crate::pg::Session;
use crate::pg::catalog::Table;
use crate::pg::parameter::Parameter;
use crate::sql::{self, Sql};

/// Partitions of one table that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The topmost table's `schema.name`.
    pub table: String,
    /// They came with what they held; else they were detached or dropped.
    pub attached: bool,
    /// Their `schema.name`.
    pub partitions: Vec<String>,
}

/// Why a table is not recorded as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was made since.
    New,
    /// It was made since, and one of its name was recorded.
    Replaced,
    /// It was recorded, and there is none of its name any more.
    Dropped,
    /// It was recorded under another name than this one, under which another one was.
    Misnamed,
    /// The publication leaves it out, or some of what happens to it.
    Unpublished,
    /// Replay has let go of changes of it.
    PassedOver,
}

/// Notes that these tables, partitions among them, are recorded, and no others.
pub fn note(session: &mut Session, tables: &[Table]) -> Result<()> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    change(session, &sql::capture::NOTE_RECORDED, &oids).doing(|| "note which tables are recorded".to_owned())
}

/// Notes that changes of a table are let go, though the source does not get them: they are in nothing that is recorded any more
/// then, and it has to be made equal before it can be replayed again.
pub fn note_passed_over(session: &mut Session, relation: u32) -> Result<()> {
    change(session, &sql::capture::NOTE_PASSED_OVER, &relation)
        .doing(|| "note whose changes are passed over".to_owned())
}

fn change(session: &mut Session, statement: &Sql, parameter: &dyn Parameter) -> Result<()> {
    let mut changed = session.change(statement.text, &[parameter]);
    if changed.as_ref().is_err_and(|error| error.is_sqlstate(&SqlState::UNDEFINED_COLUMN)) {
        // An earlier version made the record.
        session.change_script(
            "alter table pgdetour.recorded add column if not exists passed_over boolean not null default false",
        )?;
        changed = session.change(statement.text, &[parameter]);
    }
    changed.map(drop)
}

/// The name that a table had as recording began; none where nothing was noted of it.
pub fn find_name(session: &mut Session, relation: u32) -> Result<Option<TableName>> {
    let is_noted = "select pg_catalog.to_regclass('pgdetour.recorded') is not null";
    if !session.query_text(is_noted, &[])?[0].get::<_, bool>(0) {
        return Ok(None);
    }
    let row = session.query_opt(&sql::capture::FIND_RECORDED_NAME, &[&relation])?;
    Ok(row.as_ref().map(TableName::in_row))
}

/// The name that a table has by now; none where it is gone.
pub fn find_present_name(session: &mut Session, relation: u32) -> Result<Option<TableName>> {
    let row = session.query_opt(&sql::capture::FIND_PRESENT_NAME, &[&relation])?;
    Ok(row.as_ref().map(TableName::in_row))
}

/// Partitions that moved since. One that was made where it is, or holds nothing, is not counted.
pub fn list_moved(session: &mut Session) -> Result<Vec<Moved>> {
    let rows = session.query(&sql::capture::LIST_MOVED_PARTITIONS, &[])?;
    let moved = |row: &postgres::Row| Moved {
        table: row.get("table_name"),
        attached: row.get("attached"),
        partitions: row.get("partitions"),
    };
    Ok(rows.iter().map(moved).collect())
}

/// Tables of the whole database that are not recorded, or no longer, whether they are to be or not. `publication` is what records
/// them, where triggers do not.
pub fn list_unrecorded(session: &mut Session, publication: Option<&str>) -> Result<Vec<(TableName, Why)>> {
    let rows = session.query(&sql::capture::LIST_UNRECORDED, &[&publication])?;
    let unrecorded = |row: &postgres::Row| {
        let why = match row.get("what") {
            "replaced" => Why::Replaced,
            "dropped" => Why::Dropped,
            "misnamed" => Why::Misnamed,
            "unpublished" => Why::Unpublished,
            "passed over" => Why::PassedOver,
            _ => Why::New,
        };
        (TableName::in_row(row), why)
    };
    Ok(rows.iter().map(unrecorded).collect())
}
