//! Partitions that came to a table with rows of their own, or left it with them: no row was written for that.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg::Session;
use crate::sql;

/// A partitioned table, or a partition at any depth below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: u32,
    /// That of the topmost table.
    pub root: u32,
    /// `schema.name`, unquoted.
    pub name: String,
}

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

/// These tables, where they are partitioned, and all partitions below them.
pub fn list_partitions(session: &mut Session, tables: &[u32]) -> Result<Vec<Partition>> {
    let rows = session.query(&sql::catalog::LIST_PARTITIONS, &[&tables])?;
    let partition =
        |row: &postgres::Row| Partition { oid: row.get("oid"), root: row.get("root"), name: row.get("name") };
    Ok(rows.iter().map(partition).collect())
}

/// What moved since these were listed. One that was made where it is, or holds nothing, is not counted.
pub fn list_moved(session: &mut Session, known: &[Partition]) -> Result<Vec<Moved>> {
    let oids: Vec<u32> = known.iter().map(|partition| partition.oid).collect();
    let roots: Vec<u32> = known.iter().map(|partition| partition.root).collect();
    let names: Vec<&str> = known.iter().map(|partition| partition.name.as_str()).collect();
    let rows = session.query(&sql::catalog::LIST_MOVED_PARTITIONS, &[&oids, &roots, &names])?;
    let moved = |row: &postgres::Row| Moved {
        table: row.get("table_name"),
        attached: row.get("attached"),
        partitions: row.get("partitions"),
    };
    Ok(rows.iter().map(moved).collect())
}
