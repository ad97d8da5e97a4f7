//! Objects beside the tables' columns: what else a database holds, who is in the way, what has changed.

use std::collections::{BTreeMap, HashSet};

use crate::error::Result;
use crate::pg::Session;
use crate::pg::catalog::Table;
use crate::sql;

/// Schema and name, unquoted.
pub type Name = (String, String);

/// Schemas, and names in the same order, as statements take them.
pub fn split_names<'a>(names: impl IntoIterator<Item = &'a Name>) -> (Vec<&'a str>, Vec<&'a str>) {
    names.into_iter().map(|(schema, name)| (schema.as_str(), name.as_str())).unzip()
}

/// One object that a user made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserObject {
    /// `table`, `view`, `function`, `type`, …
    pub kind: String,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
}

/// Everything that makes a database not empty: relations, routines and types, without the system's, extensions' and ours.
pub fn list_user_objects(session: &mut Session) -> Result<Vec<UserObject>> {
    let rows = session.query(&sql::catalog::LIST_USER_OBJECTS, &[])?;
    let object = |row: &postgres::Row| UserObject {
        kind: row.get("kind"),
        schema: row.get("schema_name"),
        name: row.get("name"),
    };
    Ok(rows.iter().map(object).collect())
}

/// Views and materialized views that read any of `relations`, at any depth.
pub fn list_dependent_views(session: &mut Session, relations: &[u32]) -> Result<Vec<Name>> {
    let rows = session.query(&sql::catalog::LIST_DEPENDENT_VIEWS, &[&relations])?;
    Ok(rows.iter().map(|row| (row.get("schema_name"), row.get("view_name"))).collect())
}

/// What cannot be without relations that are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependent {
    /// A view, to be left out, too.
    View(Name),
    /// A function, a rule or a trigger, to be left out, too: schema and names of its entries in a dump, those of its comment and
    /// privileges among them.
    LeftOut(Vec<(String, String)>),
    /// Part of what is mirrored, that would not be what it is without.
    Lacking {
        /// What it is, for messages.
        identity: String,
        /// What it needs.
        needs: String,
    },
}

/// What depends on any of `relations`, at any depth, without foreign keys and partitions.
pub fn list_dependents(session: &mut Session, relations: &[u32]) -> Result<Vec<Dependent>> {
    if relations.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.query(&sql::catalog::LIST_DEPENDENTS, &[&relations])?;
    let dependent = |row: &postgres::Row| {
        let schema: String = row.get("schema_name");
        match row.get("kind") {
            "view" => Dependent::View((schema, row.get::<_, Vec<String>>("tags").concat())),
            "other" => Dependent::Lacking { identity: row.get("identity"), needs: row.get("needs") },
            _ => {
                let tags: Vec<String> = row.get("tags");
                Dependent::LeftOut(tags.into_iter().map(|tag| (schema.clone(), tag)).collect())
            }
        }
    };
    Ok(rows.iter().map(dependent).collect())
}

/// Materialized views that hold data, those first that others read.
pub fn list_materialized_views(session: &mut Session) -> Result<Vec<Name>> {
    let rows = session.query(&sql::catalog::LIST_MATERIALIZED_VIEWS, &[])?;
    Ok(rows.iter().map(|row| (row.get("schema_name"), row.get("view_name"))).collect())
}

/// Whether intervals are the same bytes on servers of these versions: since 17 some of those bytes are infinite ones, which are
/// other values before.
pub fn are_intervals_alike(one: i32, other: i32) -> bool {
    (one < 170_000) == (other < 170_000)
}

/// OIDs of the types whose binary form means the same here and on a server of the `other` version.
pub fn list_portable_types(session: &mut Session, other: i32) -> Result<HashSet<u32>> {
    let intervals = are_intervals_alike(session.version, other);
    let row = session.query_one(&sql::catalog::LIST_PORTABLE_TYPES, &[&intervals])?;
    Ok(row.get::<_, Vec<u32>>("oids").into_iter().collect())
}

/// A key or unique constraint whose index can be built on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintIndex {
    /// `primary key` or `unique`.
    pub kind: String,
    /// `CREATE UNIQUE INDEX …`.
    pub definition: String,
    /// `deferrable …`, or empty.
    pub deferral: String,
}

/// Such constraints by table and constraint name.
pub fn list_constraint_indexes(session: &mut Session) -> Result<BTreeMap<(Name, String), ConstraintIndex>> {
    let rows = session.query(&sql::catalog::LIST_CONSTRAINT_INDEXES, &[])?;
    let entry = |row: &postgres::Row| {
        let table = (row.get("schema_name"), row.get("table_name"));
        let index = ConstraintIndex {
            kind: row.get("kind"),
            definition: row.get("definition"),
            deferral: row.get("deferral"),
        };
        ((table, row.get("constraint_name")), index)
    };
    Ok(rows.iter().map(entry).collect())
}

/// A session that holds or waits for a lock on a table.
#[derive(Debug, Clone, PartialEq)]
pub struct LockHolder {
    /// Its backend.
    pub pid: i32,
    /// Its role.
    pub role: Option<String>,
    /// Age of its transaction in seconds.
    pub age_seconds: Option<f64>,
    /// Its query, cut short.
    pub query: String,
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = self.role.as_deref().unwrap_or("unknown");
        write!(f, "pid {} (role \"{role}\"", self.pid)?;
        if let Some(age) = self.age_seconds {
            write!(f, ", for {age:.0} s")?;
        }
        write!(f, "): {}", self.query)
    }
}

/// Who keeps readers from the table, or, with `readers_too`, who uses it at all; the session's own transaction left out.
pub fn list_lock_holders(session: &mut Session, table: &Table, readers_too: bool) -> Result<Vec<LockHolder>> {
    let rows = session.query(&sql::catalog::LIST_LOCK_HOLDERS, &[&table.quoted(), &readers_too])?;
    let holder = |row: &postgres::Row| LockHolder {
        pid: row.get("pid"),
        role: row.get("role"),
        age_seconds: row.get("age_seconds"),
        query: row.get("query"),
    };
    Ok(rows.iter().map(holder).collect())
}

/// A hash of each table's definition, by name; tables that are gone are left out. It changes with columns, types,
/// identity, keys, partitioning, and is the same on both sides when these are.
pub fn fingerprint_tables(session: &mut Session, tables: &[Table]) -> Result<BTreeMap<Name, String>> {
    let names: Vec<Name> = tables.iter().map(Table::full_name).collect();
    fingerprint_named(session, &names)
}

/// The same for tables that need not be there, which then have none.
pub fn fingerprint_named(session: &mut Session, tables: &[Name]) -> Result<BTreeMap<Name, String>> {
    let found = identify_named(session, tables)?.into_iter();
    Ok(found.map(|(name, (fingerprint, _))| (name, fingerprint)).collect())
}

/// The same, and the oid of each.
pub fn identify_named(session: &mut Session, tables: &[Name]) -> Result<BTreeMap<Name, (String, u32)>> {
    let (schemas, names) = split_names(tables);
    let rows = session.query(&sql::catalog::FINGERPRINT_TABLES, &[&schemas, &names])?;
    let entry = |row: &postgres::Row| {
        let name = (row.get("schema_name"), row.get("table_name"));
        (name, (row.get("fingerprint"), row.get("relation")))
    };
    Ok(rows.iter().map(entry).collect())
}
