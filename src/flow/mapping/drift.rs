//! Tables that were altered or dropped on the publisher after changes of them were recorded: those changes are mapped by
//! the columns that the table had then.

use super::{MapRule, Mapping, TableName};
use crate::error::{Error, Result};
use crate::flow::source::change::Relation;
use crate::pg::catalog::{self, Column, Identity, Table};
use crate::pg::{Server, Session};
use crate::sql;

/// The rules for a table as its changes describe it, with the name that it has by now, and nothing when it is on neither side any
/// more. What has no place on the subscriber is a conflict, which `hint` mends where the table is gone.
pub fn map_as_recorded(
    relation: &Relation,
    rules: &[MapRule],
    publisher: &mut Session,
    subscriber: &Server,
    hint: &str,
) -> Result<Option<(Mapping, TableName)>> {
    let recorded = relation.table_name();
    let now = catalog::list_tables(publisher)?;
    let mut found = now.iter().find(|table| TableName::of(table) == recorded);
    if found.is_none() && rules.iter().all(|rule| rule.from != recorded.to_string()) {
        let there = catalog::list_tables(&mut subscriber.connect()?)?;
        if !there.iter().any(|table| TableName::of(table) == recorded) {
            // Nobody knows the name any more. One that was renamed, perhaps for a moment only, is the table that it was.
            found = now.iter().find(|table| table.oid == relation.id);
            if found.is_none() && is_recorded_table(relation, publisher)? {
                return Ok(None);
            }
        }
    }
    let is_gone = found.is_none();
    let found = found.cloned();
    let table = table_as_recorded(relation, found, publisher)?;
    let name = TableName::of(&table);
    let names = [Some(table.display()), table.root.as_ref().map(|(schema, name)| format!("{schema}.{name}"))];
    let mut rules = rules.to_vec();
    for rule in rules.iter_mut().filter(|rule| names.contains(&Some(rule.from.clone()))) {
        rule.drop.retain(|name| table.column(name).is_some());
    }
    // Outside of the applier's transaction, which may be open.
    let mut session = subscriber.connect()?;
    let mapping = Mapping::build_of(&[table], &rules, &mut session, false).map_err(|error| match error {
        Error::ChecksFailed { findings } => {
            let messages: Vec<String> = findings.iter().map(|finding| finding.message.clone()).collect();
            Error::Conflict {
                kind: "columns_changed",
                sqlstate: None,
                message: format!(
                    "table \"{}\" was altered, and a change of it no longer fits",
                    relation.display()
                ),
                detail: Some(format!("{}.", messages.join("; "))),
                hint: if is_gone {
                    hint.to_owned()
                } else {
                    "Alter the table back, or say in a [[map]] where its columns go, and run the same command again."
                        .to_owned()
                },
            }
        }
        other => other,
    })?;
    Ok(Some((mapping, name)))
}

/// Whether it is a whole table whose recording was noted; rows of a partition may be in another one by now.
fn is_recorded_table(relation: &Relation, publisher: &mut Session) -> Result<bool> {
    if !notes_tables(publisher)? {
        return Ok(false);
    }
    let row = publisher.query_one(&sql::capture::HAS_RECORDED_TABLE, &[&relation.id])?;
    Ok(row.get("recorded"))
}

/// Whether the publisher notes what it records.
fn notes_tables(publisher: &mut Session) -> Result<bool> {
    let rows = publisher.query_text("select pg_catalog.to_regclass('pgdetour.recorded') is not null", &[])?;
    Ok(rows[0].get(0))
}

/// The table as it is now, or as good as can be told when it is gone, with the columns that a change has.
fn table_as_recorded(relation: &Relation, found: Option<Table>, publisher: &mut Session) -> Result<Table> {
    let key: Vec<String> =
        relation.columns.iter().filter(|column| column.key).map(|column| column.name.clone()).collect();
    let mut table = found.unwrap_or_else(|| Table {
        oid: relation.id,
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        partitioned: false,
        root: None,
        partition_key: Vec::new(),
        unlogged: false,
        identity: if relation.full { Identity::Full } else { Identity::Default },
        key: key.clone(),
        primary_key: key.clone(),
        bytes: 0,
        data_bytes: 0,
        rows_estimate: 0.0,
        columns: Vec::new(),
        part: crate::pg::catalog::Part::default(),
    });
    let mut columns = Vec::with_capacity(relation.columns.len());
    for column in &relation.columns {
        let known = table.column(&column.name).filter(|known| known.type_oid == column.type_oid);
        columns.push(match known {
            Some(known) => known.clone(),
            None => Column {
                name: column.name.clone(),
                number: 0,
                type_name: name_type(publisher, column.type_oid)?,
                type_oid: column.type_oid,
                base_type: None,
                not_null: false,
                generation: None,
                identity: false,
                toastable: true,
                labels: Vec::new(),
                equality: None,
            },
        });
    }
    table.columns = columns;
    table.key = key;
    Ok(table)
}

/// A type's name, as `format_type` writes it. Of one that is gone, as a column goes with its type, there are values as text.
fn name_type(publisher: &mut Session, oid: u32) -> Result<String> {
    let text = "select pg_catalog.format_type(t.oid, null) from pg_catalog.pg_type as t where t.oid = $1";
    let rows = publisher.query_text(text, &[&oid])?;
    Ok(rows.first().map_or_else(|| "text".to_owned(), |row| row.get(0)))
}
