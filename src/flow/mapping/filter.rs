//! The mirror's row filters after the maintenance: written over a table's old columns, read over its new ones.

use std::collections::HashMap;

use super::{TableName, TableRule, is_column_name};
use crate::pg::catalog::{Column, Table};
use crate::sql::{quote_identifier, quote_qualified};

/// Types that hold what those before them in the same row hold, and compare in the same way.
const WIDENED: [&[&str]; 2] = [&["smallint", "integer", "bigint", "numeric"], &["character varying", "text"]];

/// What the filters have left out: rows of the subscriber that are the image of none of the publisher's.
#[derive(Debug, Clone, Default)]
pub struct LeftOut(HashMap<TableName, HashMap<TableName, String>>);

impl LeftOut {
    /// Takes in a table of the publisher that has a filter, and SQL by the tables of the subscriber that its rows go to: what is
    /// true of those rows of a table which the filter lets through, where anything tells.
    pub fn add(&mut self, from: TableName, mirrored: HashMap<TableName, String>) {
        self.0.insert(from, mirrored);
    }

    /// Whether rows of this table of the publisher were left out.
    pub fn is_of(&self, from: &TableName) -> bool {
        self.0.contains_key(from)
    }

    /// SQL that is true of the rows of `to` which the filter of `from` lets through; none where nothing tells which they are.
    pub fn mirrored(&self, from: &TableName, to: &TableName) -> Option<&str> {
        self.0.get(from)?.get(to).map(String::as_str)
    }
}

/// A filter over the columns `reads` of the table `old`, as SQL that is true of the same rows of `new`, which `rule` makes of
/// it; none where nothing on `new` tells which those are, since a column went, or is another one now.
pub fn over_new(
    rule: &TableRule,
    filter: &str,
    reads: &[String],
    old: &Table,
    new: &Table,
) -> Option<String> {
    let mut columns = Vec::new();
    for name in reads {
        let column = old.column(name)?;
        let there = new_column(rule, column, new)?;
        columns.push((there.name.as_str(), name.as_str()));
    }
    let is_renamed = rule.from.name != rule.to.name || columns.iter().any(|(new, old)| new != old);
    if !is_renamed {
        return Some(filter.to_owned());
    }
    // What the filter may read has its old name in there, and hides columns which have that name now.
    let list: Vec<String> = columns
        .iter()
        .map(|(new, old)| {
            let of = quote_qualified(&rule.to.name, new);
            format!("{of} as {}", quote_identifier(old))
        })
        .collect();
    let called = quote_identifier(&rule.from.name);
    Some(format!("exists (select from (select {}) as {called} where ({filter}\n))", list.join(", ")))
}

/// Where the value of an old column is, as it was.
fn new_column<'a>(rule: &TableRule, old: &Column, new: &'a Table) -> Option<&'a Column> {
    let is_streamed = rule.old_columns.iter().any(|column| column.name == old.name);
    let name = if is_streamed {
        let mut mapped = rule.columns.iter().chain(&rule.key);
        &mapped.find(|column| is_column_name(&column.expression, &old.name))?.name
    } else {
        &old.name
    };
    let column = new.column(name)?;
    (column.is_generated() != is_streamed && holds(&column.type_name, &old.type_name)).then_some(column)
}

/// Whether values of a type `old` are the same values in the type `new`.
fn holds(new: &str, old: &str) -> bool {
    let at = |types: &[&str], name: &str| types.iter().position(|known| *known == base(name));
    new == old
        || WIDENED
            .iter()
            .any(|types| matches!((at(types, old), at(types, new)), (Some(old), Some(new)) if old < new))
}

/// Without a length or a precision.
fn base(type_name: &str) -> &str {
    type_name.split_once('(').map_or(type_name, |(name, _)| name)
}

/// The table of that name.
pub fn named<'a>(tables: &'a [Table], name: &TableName) -> Option<&'a Table> {
    tables.iter().find(|table| table.schema == name.schema && table.name == name.name)
}
