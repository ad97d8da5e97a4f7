//! Publications: which tables' changes a slot carries.

use std::collections::BTreeSet;

use super::mapping::TableName;
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql;

/// Makes publication `name` publish all changes of exactly `tables` and of our markers, each partition under its own name;
/// whether anything had to be changed.
pub fn create_publication(session: &mut Session, name: &str, tables: &[TableName]) -> Result<bool> {
    let mut wanted: BTreeSet<(String, String)> =
        tables.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
    wanted.insert(("pgdetour".to_owned(), "marker".to_owned()));
    let quoted = sql::quote_identifier(name);
    let Some(found) = session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])? else {
        let statement = format!("create publication {quoted} for table {}", list(wanted.iter()));
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
    if found.get("via_root") || !found.get::<_, bool>("all_operations") {
        statements.push(format!(
            "alter publication {quoted} set (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
        ));
    }
    let rows = session.query(&sql::flow::LIST_PUBLICATION_TABLES, &[&name])?;
    let table_in = |row: &postgres::Row| (row.get("schema_name"), row.get("table_name"));
    let present: BTreeSet<(String, String)> = rows.iter().map(table_in).collect();
    // One that publishes some rows or columns only is named anew.
    let whole: BTreeSet<(String, String)> =
        rows.iter().filter(|row| !row.get::<_, bool>("partial")).map(table_in).collect();
    let surplus: Vec<_> =
        present.iter().filter(|table| !wanted.contains(*table) || !whole.contains(*table)).collect();
    let missing: Vec<_> = wanted.difference(&whole).collect();
    if !surplus.is_empty() {
        statements.push(format!("alter publication {quoted} drop table {}", list(surplus.into_iter())));
    }
    if !missing.is_empty() {
        statements.push(format!("alter publication {quoted} add table {}", list(missing.into_iter())));
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

fn list<'a>(tables: impl Iterator<Item = &'a (String, String)>) -> String {
    tables.map(|(schema, name)| sql::quote_qualified(schema, name)).collect::<Vec<_>>().join(", ")
}
