//! Publications: which tables' changes a slot carries.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Doing as _, Error, Result};
use crate::flow::mapping::TableName;
use crate::pg::Session;
use crate::pg::catalog::Part;
use crate::sql;

/// A table of a publication: the whole of it, or a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The table.
    pub table: TableName,
    /// What of it is published. Parts need PostgreSQL 15.
    pub part: Part,
}

impl Published {
    /// All of `table`.
    pub fn whole(table: TableName) -> Published {
        Published { table, part: Part::default() }
    }

    /// `only "public"."orders" ("id", "note") where (note <> '')`
    fn clause(&self) -> String {
        let mut text = member(&self.table.schema, &self.table.name);
        if let Some(columns) = &self.part.columns {
            let columns: Vec<String> = columns.iter().map(|column| sql::quote_identifier(column)).collect();
            text = format!("{text} ({})", columns.join(", "));
        }
        match &self.part.filter {
            Some(filter) => format!("{text} where ({filter})"),
            None => text,
        }
    }
}

/// Makes publication `name` publish all changes of exactly `tables`, or their parts, and of our markers, each partition
/// under its own name unless they go over as one; whether anything had to be changed.
pub fn create_publication(session: &mut Session, name: &str, tables: &[Published]) -> Result<bool> {
    let mut wanted: BTreeMap<(String, String), Published> = tables
        .iter()
        .map(|published| ((published.table.schema.clone(), published.table.name.clone()), published.clone()))
        .collect();
    let marker = TableName { schema: "pgdetour".to_owned(), name: "marker".to_owned() };
    wanted.insert((marker.schema.clone(), marker.name.clone()), Published::whole(marker));
    let quoted = sql::quote_identifier(name);
    let via_root = tables.iter().any(|published| published.part.through_root);
    let Some(found) = session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])? else {
        let with = if via_root { " with (publish_via_partition_root = true)" } else { "" };
        let statement = format!("create publication {quoted} for table {}{with}", clauses(wanted.values()));
        session.change(&statement, &[]).doing(|| format!("create publication {quoted}"))?;
        return Ok(true);
    };
    if found.get("all_tables") {
        return Err(Error::Refused {
            kind: "publication_mismatch",
            message: format!("publication {quoted} exists and is FOR ALL TABLES"),
            detail: None,
            hint: format!("If nobody uses it, run: DROP PUBLICATION {quoted};"),
        });
    }
    let mut statements = Vec::new();
    if found.get::<_, bool>("via_root") != via_root || !found.get::<_, bool>("all_operations") {
        statements.push(format!(
            "alter publication {quoted} set (publish = 'insert, update, delete, truncate', publish_via_partition_root = {via_root})"
        ));
    }
    let rows = session.query(&sql::flow::LIST_PUBLICATION_TABLES, &[&name])?;
    let table_in = |row: &postgres::Row| (row.get("schema_name"), row.get("table_name"));
    let present: BTreeSet<(String, String)> = rows.iter().map(table_in).collect();
    // One that publishes other columns, or rows where it should not, is named anew. The server keeps a filter in words
    // of its own: who changes the filter of a publication that stands is refused before.
    let fitting: BTreeSet<(String, String)> = rows
        .iter()
        .filter(|row| {
            wanted.get(&table_in(row)).is_some_and(|published| {
                let mut columns = published.part.columns.clone();
                if let Some(columns) = &mut columns {
                    columns.sort();
                }
                row.get::<_, bool>("filtered") == published.part.filter.is_some()
                    && row.get::<_, Option<Vec<String>>>("columns") == columns
            })
        })
        .map(table_in)
        .collect();
    let surplus: Vec<_> = present.iter().filter(|table| !fitting.contains(*table)).collect();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(table, _)| !fitting.contains(*table))
        .map(|(_, published)| published)
        .collect();
    if !surplus.is_empty() {
        statements.push(format!("alter publication {quoted} drop table {}", list(surplus.into_iter())));
    }
    if !missing.is_empty() {
        statements.push(format!("alter publication {quoted} add table {}", clauses(missing.into_iter())));
    }
    if statements.is_empty() {
        return Ok(false);
    }
    session
        .atomically(|session| {
            statements.iter().try_for_each(|statement| session.change(statement, &[]).map(|_| ()))
        })
        .doing(|| format!("alter publication {quoted}"))?;
    Ok(true)
}

/// Drops publication `name`; whether there was one.
pub fn drop_publication(session: &mut Session, name: &str) -> Result<bool> {
    if session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])?.is_none() {
        return Ok(false);
    }
    let quoted = sql::quote_identifier(name);
    session
        .change(&format!("drop publication if exists {quoted}"), &[])
        .doing(|| format!("drop publication {quoted}"))?;
    Ok(true)
}

/// Tables that publication `name` names, our markers left out; none when it does not exist.
pub fn list_published(session: &mut Session, name: &str) -> Result<Option<Vec<TableName>>> {
    if session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])?.is_none() {
        return Ok(None);
    }
    let rows = session.query(&sql::flow::LIST_PUBLICATION_TABLES, &[&name])?;
    let tables = rows
        .iter()
        .map(|row| TableName { schema: row.get("schema_name"), name: row.get("table_name") })
        .filter(|table| table.schema != "pgdetour");
    Ok(Some(tables.collect()))
}

/// `only "public"."orders"`: tables that inherit from it are members where they are named themselves. Partitions always go with theirs.
fn member(schema: &str, name: &str) -> String {
    format!("only {}", sql::quote_qualified(schema, name))
}

fn list<'a>(tables: impl Iterator<Item = &'a (String, String)>) -> String {
    tables.map(|(schema, name)| member(schema, name)).collect::<Vec<_>>().join(", ")
}

fn clauses<'a>(tables: impl Iterator<Item = &'a Published>) -> String {
    tables.map(Published::clause).collect::<Vec<_>>().join(", ")
}
