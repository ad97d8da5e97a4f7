//! What is set aside, tried again.

use std::collections::HashMap;
use std::sync::Arc;

use postgres::types::PgLsn;
use serde_json::Value as Json;

use super::{Quarantine, Stored, Targets, list, value_of};
use crate::error::{Error, Result};
use crate::flow::apply::Applier;
use crate::flow::apply::batch::Work;
use crate::flow::apply::follow::Flow;
use crate::flow::apply::settle::Item;
use crate::flow::mapping::bound::Bound;
use crate::flow::mapping::{Mapping, TableName};
use crate::flow::source::change::{Relation, RelationColumn, Row, RowChange, Value};
use crate::pg::Session;
use crate::sql;

/// How many changes are tried in one transaction.
const CHUNK: i64 = 500;

/// Tries again what is set aside, in its order, or one change: how many now fit. What does not stays.
pub fn retry(flow: &Flow, only: Option<i64>) -> Result<u64> {
    let mut applier =
        Applier::connect(&flow.subscriber, &flow.publisher, flow.name.name(), &flow.detour, &flow.mapping)?;
    if let Some(id) = only {
        refuse_out_of_order(applier.session(), &flow.mapping, id)?;
    }
    // Each is tried as a transaction of its own.
    applier.references.is_strict = true;
    let mut fitted = 0;
    loop {
        // One that fits may be what an earlier one has waited for.
        let more = retry_in_order(&mut applier, flow, only)?;
        fitted += more;
        if more == 0 || only.is_some() {
            return Ok(fitted);
        }
    }
}

fn retry_in_order(applier: &mut Applier, flow: &Flow, only: Option<i64>) -> Result<u64> {
    applier.set_aside(Quarantine::anew(&flow.mapping));
    let (mut after, mut fitted) = (0_i64, 0);
    let mut bounds = HashMap::new();
    loop {
        let entries = read_works(applier, flow, after, only, &mut bounds)?;
        let Some((last, ..)) = entries.last() else { return Ok(fitted) };
        after = *last;
        let items: Vec<Item<'_>> = entries
            .iter()
            .map(|(ordinal, lsn, work)| Item {
                lsn: *lsn,
                transaction: *ordinal as usize,
                work,
                ordinal: Some(*ordinal),
            })
            .collect();
        let ordinals: Vec<i64> = items.iter().filter_map(|item| item.ordinal).collect();
        applier.begin()?;
        let last = items.last().map_or(PgLsn::from(0), |item| item.lsn);
        let settled = applier.settle(&items).and_then(|()| {
            applier.check_pending_references(last)?;
            let left = applier.session().query_text(
                "select ordinal from pgdetour.quarantine where ordinal = any($1)",
                &[&ordinals],
            )?;
            applier.finish("commit")?;
            Ok(ordinals.len() - left.len())
        });
        if settled.is_err() {
            applier.roll_back();
        }
        fitted += settled? as u64;
    }
}

/// There is no such change.
pub fn not_quarantined(id: i64) -> Error {
    Error::Refused {
        kind: "not_quarantined",
        message: format!("there is no change {id} in quarantine"),
        detail: None,
        hint: "See \"pgdetour replay --quarantine list\".".into(),
    }
}

/// Changes of one row keep their order.
fn refuse_out_of_order(session: &mut Session, mapping: &Mapping, id: i64) -> Result<()> {
    if list(session, 0, Some(id), 1)?.is_empty() {
        return Err(not_quarantined(id));
    }
    match find_earlier(session, mapping, id)? {
        None => Ok(()),
        Some(earlier) => Err(Error::Refused {
            kind: "quarantine_order",
            message: format!("change {id} waits behind change {earlier} of the same row"),
            detail: None,
            hint: format!("Retry or skip change {earlier} first, or retry all."),
        }),
    }
}

/// The first change that was set aside before another one of the same row, here or on the publisher.
fn find_earlier(session: &mut Session, mapping: &Mapping, id: i64) -> Result<Option<i64>> {
    let mut targets = Targets::default();
    targets.learn(mapping);
    let rows = session.query(&sql::flow::LIST_KEYS_UP_TO, &[&id])?;
    let changes: Vec<(i64, TableName, bool, [Option<Json>; 2])> = rows
        .iter()
        .map(|row| {
            let table = TableName::in_row(row);
            (row.get("ordinal"), table, row.get("emptied"), [row.get("key"), row.get("key_after")])
        })
        .collect();
    let stored = |change: &'_ (i64, TableName, bool, [Option<Json>; 2])| {
        let (_, table, emptied, [before, after]) = change;
        let mut keys = vec![before.as_ref().and_then(Json::as_object)];
        keys.extend(after.as_ref().map(Json::as_object));
        targets.marks_of_stored(&Stored { table, emptied: *emptied, keys })
    };
    let Some((one, earlier)) = changes.split_last() else { return Ok(None) };
    let marks = stored(one);
    let is_same_row = |other: &&(i64, TableName, bool, [Option<Json>; 2])| {
        let (known, its) = (one.3.iter().flatten(), &other.3);
        let is_same_there = one.1 == other.1
            && (one.3[0].is_none()
                || its[0].is_none()
                || known.clone().any(|key| its.contains(&Some(key.clone()))));
        let is_emptied =
            |emptied: bool, table, other| emptied && targets.root_of(table).is_some_and(|root| root == other);
        is_same_there
            || is_emptied(one.2, &one.1, &other.1)
            || is_emptied(other.2, &other.1, &one.1)
            || targets.meet(&marks, &stored(other))
    };
    Ok(earlier.iter().find(is_same_row).map(|(ordinal, ..)| *ordinal))
}

type Numbered = (i64, PgLsn, Work);

fn read_works(
    applier: &mut Applier,
    flow: &Flow,
    after: i64,
    only: Option<i64>,
    bounds: &mut HashMap<TableName, Arc<Bound>>,
) -> Result<Vec<Numbered>> {
    let rows = applier.session().query(&sql::flow::LIST_QUARANTINED, &[&after, &only, &CHUNK])?;
    let mut works = Vec::with_capacity(rows.len());
    for row in &rows {
        let name = TableName::in_row(row);
        let table = if let Some(table) = bounds.get(&name) {
            Arc::clone(table)
        } else {
            let table = Arc::new(bind(&flow.mapping, &name)?);
            bounds.insert(name, Arc::clone(&table));
            table
        };
        let (old, new): (Option<Json>, Option<Json>) = (row.get("old_row"), row.get("new_row"));
        let work = match row.get("operation") {
            "truncate" => Work::Truncate { tables: vec![table] },
            operation => {
                let old = old.map(|row| stored_row(&table, row, Value::Null)).transpose()?;
                let new = new.map(|row| stored_row(&table, row, Value::Unchanged)).transpose()?;
                let change = match (operation, old, new) {
                    ("insert", _, Some(new)) => RowChange::Insert { new },
                    ("update", old, Some(new)) => RowChange::Update { old, new },
                    ("delete", Some(old), _) => RowChange::Delete { old },
                    _ => {
                        let ordinal: i64 = row.get("ordinal");
                        let message = format!("change {ordinal} in quarantine has no row");
                        return Err(Error::Internal { message });
                    }
                };
                Work::Row { table, change }
            }
        };
        works.push((row.get("ordinal"), row.get("commit_lsn"), work));
    }
    Ok(works)
}

/// The table as the mapping knows it, in place of what a stream would say.
fn bind(mapping: &Mapping, name: &TableName) -> Result<Bound> {
    let rules = mapping.rules_for(&name.schema, &name.name);
    let Some(rule) = rules.first() else {
        return Err(Error::Conflict {
            kind: "table_unknown",
            sqlstate: None,
            message: format!("table \"{name}\" of a change in quarantine is not part of the flow"),
            detail: None,
            hint: "Say in a [[map]] where its rows go, or skip the change.".into(),
        });
    };
    let is_key = |at: usize| rule.identity.as_ref().is_some_and(|identity| identity.contains(&at));
    let columns = rule.old_columns.iter().enumerate().map(|(at, column)| RelationColumn {
        name: column.name.clone(),
        type_oid: 0,
        key: is_key(at),
    });
    let relation = Relation {
        id: 0,
        schema: name.schema.clone(),
        name: name.name.clone(),
        full: rule.identity.is_none(),
        columns: columns.collect(),
    };
    // Rows that go to another partition are stored under the topmost table's name.
    let is_one_of_several = rule.from_partitioned;
    Ok(Bound { is_one_of_several, ..Bound::new(Arc::new(relation), rules)? })
}

fn stored_row(table: &Bound, stored: Json, absent: Value<'_>) -> Result<Row> {
    let Json::Object(stored) = stored else {
        return Err(Error::Internal { message: "a row in quarantine is no object".into() });
    };
    let columns = &table.relation.columns;
    if let Some(name) = stored.keys().find(|name| columns.iter().all(|column| column.name != **name)) {
        return Err(Error::Conflict {
            kind: "columns_changed",
            sqlstate: None,
            message: format!(
                "table \"{}\" has no column \"{name}\", which a change in quarantine carries",
                table.relation.display()
            ),
            detail: None,
            hint: "Add the column again on the target, or skip the change.".into(),
        });
    }
    let value = |column: &RelationColumn| stored.get(&column.name).map_or(absent, value_of);
    Ok(columns.iter().map(value).collect())
}
