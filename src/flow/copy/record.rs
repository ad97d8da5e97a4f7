//! Which tables are copied, as the record on the target has it.

use std::collections::BTreeMap;

use crate::error::{Doing as _, Result};
use crate::pg::catalog::Table;
use crate::pg::catalog::objects::{Name, split_names};
use crate::pg::catalog::origin::{Origin, list_origins};
use crate::pg::{Session, record};
use crate::sql;

/// How far a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing of it has been copied.
    Waiting,
    /// A copy was begun; what it left is removed before the next one.
    Copying,
    /// All rows of its snapshot are there.
    Copied,
}

/// One table of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCopy {
    /// Schema and name.
    pub name: Name,
    /// How far it is.
    pub state: State,
    /// `pg_current_snapshot()` of the publisher under which it was read: a streamed transaction that is visible in
    /// it is in the copy already. None for partitioned tables, which have no rows of their own.
    pub snapshot: Option<String>,
    /// Rows copied.
    pub rows: u64,
    /// Bytes of data copied.
    pub bytes: u64,
    /// Its statistics are there.
    pub analyzed: bool,
    /// What its definition on the publisher hashed to when its copy was made.
    pub fingerprint: Option<String>,
    /// What it was on the publisher before it was read; none in a record of an earlier version.
    pub origin: Option<Origin>,
    /// The subscriber's table that took the rows.
    pub image: Option<u32>,
    /// What that was when it had taken them; none in a record of an earlier version.
    pub image_origin: Option<Origin>,
}

/// The tables of a copy; none when none was begun.
pub fn list_tables(session: &mut Session) -> Result<Vec<TableCopy>> {
    if !record::has_table(session, "table_copy")? {
        return Ok(Vec::new());
    }
    let rows = session.query(&sql::flow::LIST_TABLE_COPIES, &[])?;
    let origin = |row: &postgres::Row, column: &str| {
        let value: Option<serde_json::Value> = row.get(column);
        value.and_then(|value| serde_json::from_value(value).ok())
    };
    let table = |row: &postgres::Row| TableCopy {
        name: (row.get("schema_name"), row.get("table_name")),
        state: match row.get("state") {
            "copied" => State::Copied,
            "copying" => State::Copying,
            _ => State::Waiting,
        },
        snapshot: row.get("snapshot"),
        rows: row.get::<_, Option<i64>>("row_count").unwrap_or(0).cast_unsigned(),
        bytes: row.get::<_, Option<i64>>("byte_count").unwrap_or(0).cast_unsigned(),
        analyzed: row.get("analyzed"),
        fingerprint: row.get("fingerprint"),
        origin: origin(row, "origin"),
        image: row.get("image"),
        image_origin: origin(row, "image_origin"),
    };
    Ok(rows.iter().map(table).collect())
}

/// Notes tables that are to be copied; those that are noted already stay as they are.
pub fn insert_tables(
    session: &mut Session,
    tables: &[Table],
    fingerprints: &BTreeMap<Name, String>,
) -> Result<()> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let partitioned: Vec<bool> = tables.iter().map(|table| table.partitioned).collect();
    let fingerprint = |table: &Table| fingerprints.get(&table.full_name()).cloned();
    let fingerprints: Vec<Option<String>> = tables.iter().map(fingerprint).collect();
    session
        .change(sql::flow::INSERT_TABLE_COPIES.text, &[&schemas, &names, &partitioned, &fingerprints])
        .doing(|| "record the tables to copy".into())?;
    Ok(())
}

/// Notes that tables are to be copied anew.
pub fn repeat_tables(session: &mut Session, tables: &[Name]) -> Result<()> {
    let (schemas, names) = split_names(tables);
    session
        .change(sql::flow::REPEAT_TABLE_COPIES.text, &[&schemas, &names])
        .doing(|| "record the tables to copy again".into())?;
    Ok(())
}

/// Notes other definitions of tables as those that were copied.
pub fn update_fingerprints(session: &mut Session, fingerprints: &[(Name, String)]) -> Result<()> {
    let part = |pick: fn(&(Name, String)) -> &str| fingerprints.iter().map(pick).collect::<Vec<&str>>();
    let (schemas, names) = (part(|(name, _)| &name.0), part(|(name, _)| &name.1));
    let hashes = part(|(_, hash)| hash);
    session.change(sql::flow::UPDATE_FINGERPRINTS.text, &[&schemas, &names, &hashes]).map(drop)
}

/// Notes what tables are on the publisher before they are read, or by now where their copies are as good, and what they are here.
pub fn note_origins(session: &mut Session, origins: &BTreeMap<Name, Origin>) -> Result<()> {
    let (schemas, names) = split_names(origins.keys());
    let wanted: Vec<Name> = origins.keys().cloned().collect();
    let images = list_origins(session, &wanted)?;
    let noted = origins.iter().map(|(name, origin)| {
        let mut noted = serde_json::json!(origin);
        noted["image"] = serde_json::json!(images.get(name));
        noted
    });
    let noted: Vec<serde_json::Value> = noted.collect();
    session
        .change(sql::flow::NOTE_ORIGINS.text, &[&schemas, &names, &noted])
        .doing(|| "record what the tables to copy are".into())
        .map(drop)
}

/// The statement that notes under which snapshot a table is being copied.
pub fn start_statement(table: &Table, snapshot: &str) -> String {
    sql::flow::START_TABLE_COPY.with(&[
        ("schema", &table.schema),
        ("table", &table.name),
        ("snapshot", snapshot),
    ])
}

/// The statement that notes that a table is copied.
pub fn finish_statement(table: &Table, rows: u64, bytes: u64) -> String {
    sql::flow::FINISH_TABLE_COPY.with(&[
        ("schema", &table.schema),
        ("table", &table.name),
        ("rows", &rows.to_string()),
        ("bytes", &bytes.to_string()),
    ])
}
