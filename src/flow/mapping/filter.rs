//! The mirror's row filters after the maintenance: written over a table's old columns, read over its new ones.

use super::{TableName, TableRule, is_column_name};
use crate::pg::catalog::{Column, Table};
use crate::sql::{quote_identifier, quote_qualified};

/// Types that hold what those before them in the same row hold, and compare in the same way.
const WIDENED: [&[&str]; 2] = [&["smallint", "integer", "bigint", "numeric"], &["character varying", "text"]];

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
