//! One change of a stream, owned: what a transaction did to a row.

use std::sync::Arc;

pub use super::row::{Row, Value};

use crate::flow::mapping::TableName;

/// A table as a stream describes it: partitions under their own names, generated columns left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its oid on the publisher.
    pub id: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// REPLICA IDENTITY FULL: old rows are whole.
    pub full: bool,
    /// In the order of every row that follows.
    pub columns: Vec<RelationColumn>,
}

impl Relation {
    /// `public.orders`, for messages.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether it is the same table, by whatever name and description; rows that were stored have no oid.
    pub fn is_same_table(&self, other: &Relation) -> bool {
        let by_name = (&self.schema, &self.name) == (&other.schema, &other.name);
        by_name || self.id != 0 && self.id == other.id
    }

    /// Its name.
    pub fn table_name(&self) -> TableName {
        TableName { schema: self.schema.clone(), name: self.name.clone() }
    }
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Name, unquoted.
    pub name: String,
    /// `pg_type.oid` on the publisher.
    pub type_oid: u32,
    /// Part of the replica identity.
    pub key: bool,
}

/// What one row change says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// A new row; never holds [`Value::Unchanged`].
    Insert {
        /// The row.
        new: Row,
    },
    /// `old` is there when the identity changed (its columns only), or always under FULL (the whole row).
    Update {
        /// The row before.
        old: Option<Row>,
        /// The row after.
        new: Row,
    },
    /// The row is gone.
    Delete {
        /// The identity's columns, or the whole row under FULL.
        old: Row,
    },
}

/// What a row takes beside its values, in bytes: the rest of the message that it came in, its place in the transaction and in the
/// plan, and what folding a batch by key notes of it. Of small rows it is most.
const ROW_OVERHEAD: usize = 384;

impl RowChange {
    /// Rough size in memory until it is applied, in bytes.
    pub fn bytes(&self) -> usize {
        let row = |row: &Row| ROW_OVERHEAD + row.size();
        match self {
            RowChange::Insert { new } => row(new),
            RowChange::Update { old, new } => old.as_ref().map_or(0, row) + row(new),
            RowChange::Delete { old } => row(old),
        }
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Of one row.
    Row {
        /// The table.
        relation: Arc<Relation>,
        /// What happened to it.
        change: RowChange,
    },
    /// All rows of these tables are gone, in one statement.
    Truncate {
        /// The tables, those that it cascaded to included.
        relations: Vec<Arc<Relation>>,
    },
}
