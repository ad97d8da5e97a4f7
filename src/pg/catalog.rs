//! What a database holds: tables, columns, identities.

pub mod collations;
pub mod definitions;
pub mod emptiness;
pub mod facts;
pub mod inventory;
pub mod objects;
pub mod origin;

use crate::error::Result;
use crate::pg::Session;
use crate::sql;

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a column of pg_attribute")]
pub struct Column {
    /// Name, unquoted.
    pub name: String,
    /// `pg_attribute.attnum`: stays with it whatever it is called, and is never given again.
    pub number: i16,
    /// As `format_type` writes it with an empty `search_path`: `character varying(40)`, `public.mood`.
    pub type_name: String,
    /// `pg_type.oid`; below 16384 a built-in, the same on every server.
    pub type_oid: u32,
    /// Of a domain over a built-in type: that type, as `format_type` writes it.
    pub base_type: Option<String>,
    /// NOT NULL.
    pub not_null: bool,
    /// GENERATED ALWAYS AS: its expression, over the table's other columns. Such a column is never written, and no change carries it.
    pub generation: Option<String>,
    /// GENERATED … AS IDENTITY.
    pub identity: bool,
    /// May be stored out of line, and so be absent from a change that did not touch it.
    pub toastable: bool,
    /// Of an enum, or an array of one: its values, in their order.
    pub labels: Vec<String>,
    /// `operator(public.=)`: what its unique index finds equal values by, where that is none of `pg_catalog`.
    pub equality: Option<String>,
}

impl Column {
    /// Whether it holds any number of values of a type.
    pub fn is_array(&self) -> bool {
        self.type_name.ends_with("[]")
    }

    /// Whether its values are computed from the row's others.
    pub fn is_generated(&self) -> bool {
        self.generation.is_some()
    }
}

/// What an UPDATE or DELETE carries of the old row (`pg_class.relreplident`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The primary key, if there is one.
    Default,
    /// The columns of a named unique index.
    Index,
    /// The whole row.
    Full,
    /// Nothing.
    Nothing,
}

/// One ordinary or partitioned table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Has partitions and no rows of its own.
    pub partitioned: bool,
    /// Schema and name of the topmost table that this is a partition of.
    pub root: Option<(String, String)>,
    /// Columns by which it is partitioned, or a table that it is a partition of.
    pub partition_key: Vec<String>,
    /// UNLOGGED: never decoded.
    pub unlogged: bool,
    /// Replica identity.
    pub identity: Identity,
    /// Columns of the replica identity; all columns for FULL; empty when there is no usable one.
    pub key: Vec<String>,
    /// Columns of the primary key; empty without one.
    pub primary_key: Vec<String>,
    /// Size of the main fork in bytes: what has its pages.
    pub bytes: i64,
    /// Size in bytes of the main fork and of the values that are stored out of line.
    pub data_bytes: i64,
    /// The planner's estimate.
    pub rows_estimate: f64,
    /// In the table's order; dropped ones left out.
    pub columns: Vec<Column>,
    /// What of the table takes part; all of it, as far as the catalog knows.
    pub part: Part,
}

/// The part of a table that is copied and followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// SQL over a row's columns; only rows for which it is true take part.
    pub filter: Option<String>,
    /// The columns that take part; all when absent.
    pub columns: Option<Vec<String>>,
    /// A partitioned table that goes over as one, since the other side is partitioned in another way or not at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub through_root: bool,
}

impl Table {
    /// `public.orders`, unquoted, for messages and patterns.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Schema and name, unquoted.
    pub fn full_name(&self) -> objects::Name {
        (self.schema.clone(), self.name.clone())
    }

    /// `"public"."orders"`, for statements.
    pub fn quoted(&self) -> String {
        sql::quote_qualified(&self.schema, &self.name)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// All ordinary and partitioned tables, partitions included, largest first; not the system's, extensions' or ours.
pub fn list_tables(session: &mut Session) -> Result<Vec<Table>> {
    let rows = session.query(&sql::catalog::LIST_TABLES, &[])?;
    let tables = rows.iter().map(|row| {
        let names: Vec<String> = row.get("column_names");
        let numbers: Vec<i16> = row.get("column_numbers");
        let types: Vec<String> = row.get("column_types");
        let oids: Vec<u32> = row.get("column_type_oids");
        let flags = |name: &str| -> Vec<bool> { row.get(name) };
        let not_null = flags("column_not_null");
        let identity = flags("column_identity");
        let toastable = flags("column_toastable");
        let mut base_types: Vec<Option<String>> = row.get("column_base_types");
        let mut generations: Vec<Option<String>> = row.get("column_generations");
        let labels: Vec<Option<String>> = row.get("column_labels");
        let mut equalities: Vec<Option<String>> = row.get("column_equalities");
        let columns = names.into_iter().zip(types).enumerate().map(|(at, (name, type_name))| Column {
            name,
            number: numbers[at],
            type_name,
            type_oid: oids[at],
            base_type: base_types[at].take(),
            not_null: not_null[at],
            generation: generations[at].take(),
            identity: identity[at],
            toastable: toastable[at],
            labels: labels[at].as_deref().map_or_else(Vec::new, read_labels),
            equality: equalities[at].take(),
        });
        Table {
            oid: row.get("oid"),
            schema: row.get("schema_name"),
            name: row.get("table_name"),
            partitioned: row.get("partitioned"),
            root: row.get::<_, Option<Vec<String>>>("root").map(|parts| (parts[0].clone(), parts[1].clone())),
            partition_key: row.get("partition_key"),
            unlogged: row.get("unlogged"),
            identity: match row.get::<_, &str>("identity") {
                "i" => Identity::Index,
                "f" => Identity::Full,
                "n" => Identity::Nothing,
                _ => Identity::Default,
            },
            key: row.get("key"),
            primary_key: row.get("primary_key"),
            bytes: row.get("bytes"),
            data_bytes: row.get("data_bytes"),
            rows_estimate: row.get("rows_estimate"),
            columns: columns.collect(),
            part: Part::default(),
        }
    });
    Ok(tables.collect())
}

/// Whether a table, or a partition of it, has any row.
pub fn has_rows(session: &mut Session, table: &Table) -> Result<bool> {
    let only = if table.partitioned { "" } else { "only " };
    let rows = session.query_text(&format!("select 1 from {only}{} limit 1", table.quoted()), &[])?;
    Ok(!rows.is_empty())
}

/// The values of an enum from a JSON list of them.
fn read_labels(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}
