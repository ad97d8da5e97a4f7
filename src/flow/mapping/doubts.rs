//! What the schemas do not settle about a mapping, so that the data have to: unique keys that may merge rows, columns that may
//! be null, foreign keys whose rows may be missing.

use std::collections::HashMap;

use serde::Serialize;

use super::facts::read_facts;
use super::lossless::keeps_values;
use super::{MapRule, TableName, is_column_name};
use crate::error::Result;
use crate::flow::mapping::foreign_key::{ForeignKey, list_foreign_keys};
use crate::pg::Session;
use crate::pg::catalog::Table;

/// Something that a rehearsal finds out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// `unique`, `not_null` or `foreign_key`: the kind of conflict that may come of it; `trigger`: what may change the rows;
    /// `volatile`: what is another value each time; `moved_row`: what a row loses that goes to another partition.
    pub kind: &'static str,
    /// What may happen, and why.
    pub message: String,
}

/// Keys of one side.
#[derive(Debug, Default)]
pub struct Keys {
    unique: HashMap<TableName, Vec<Vec<String>>>,
    /// Over some rows or over expressions: name and definition.
    partial: HashMap<TableName, Vec<(String, String)>>,
    foreign: Vec<ForeignKey>,
}

impl Keys {
    /// All of the database.
    pub fn read(session: &mut Session) -> Result<Keys> {
        let facts = read_facts(session, &[])?;
        let foreign = list_foreign_keys(session)?;
        Ok(Keys { unique: facts.unique_keys, partial: facts.partial_keys, foreign })
    }
}

/// One table on its way to another.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// On the publisher.
    pub from: &'a Table,
    /// On the subscriber.
    pub to: &'a Table,
    /// What says so; `None`: their names.
    pub rule: Option<&'a MapRule>,
}

/// The doubts about one way, among all ways.
pub fn list_doubts(way: Way<'_>, all: &[Way<'_>], publisher: &Keys, subscriber: &Keys) -> Vec<Doubt> {
    let mut doubts = doubts_about_nulls(way);
    let to = TableName::of(way.to);
    let from = TableName::of(way.from);
    let makes = |way: &Way<'_>| way.rule.is_none_or(|rule| !rule.joins);
    let shares = makes(&way)
        && all
            .iter()
            .any(|other| other.to.oid == way.to.oid && other.from.oid != way.from.oid && makes(other));
    for key in subscriber.unique.get(&to).into_iter().flatten() {
        let names = key.join(", ");
        let old: Option<Vec<&str>> = key.iter().map(|column| way.traced(column)).collect();
        let is_kept = old.as_ref().is_some_and(|old| {
            let kept = publisher.unique.get(&from).into_iter().flatten();
            kept.clone().any(|kept| kept.iter().all(|column| old.contains(&column.as_str())))
        });
        let is_apart = key.iter().any(|column| way.is_literal(column));
        let message = match old {
            _ if shares && !is_apart => format!(
                "rows of \"{from}\" and of other tables may meet in ({names}) of \"{to}\", which is unique"
            ),
            _ if is_kept => continue,
            _ if is_apart
                && key
                    .iter()
                    .all(|column| way.is_literal(column) || way.is_kept_apart(column, publisher)) =>
            {
                continue;
            }
            Some(_) => format!("({names}) of \"{to}\" is unique, and nothing keeps it so in \"{from}\""),
            None => format!(
                "({names}) of \"{to}\" is unique, and an expression may give two rows of \"{from}\" the same value"
            ),
        };
        doubts.push(Doubt { kind: "unique", message });
    }
    for (name, definition) in subscriber.partial.get(&to).into_iter().flatten() {
        let is_kept = publisher.partial.get(&from).into_iter().flatten().any(|(_, kept)| kept == definition);
        if !is_kept || shares {
            let message = format!(
                "\"{name}\" of \"{to}\" is unique over some rows or an expression, and nothing keeps it so in \"{from}\""
            );
            doubts.push(Doubt { kind: "unique", message });
        }
    }
    for key in subscriber.foreign.iter().filter(|key| key.table == to) {
        if let Some(why) = doubt_about_parent(way, key, all, publisher) {
            let ForeignKey { name, referenced, .. } = key;
            doubts.push(Doubt {
                kind: "foreign_key",
                message: format!("\"{name}\" of \"{to}\" needs a row of \"{referenced}\", {why}"),
            });
        }
    }
    doubts
}

impl Way<'_> {
    fn expression(&self, column: &str) -> Option<&str> {
        let map = self.rule?;
        let named = map.columns.iter().chain(&map.key).find(|(name, _)| name == column);
        named.map(|(_, expression)| expression.as_str())
    }

    /// The old column that a new one has its value of as it is, in a type that keeps values apart.
    fn traced(&self, column: &str) -> Option<&str> {
        let is_dropped = |name: &String| self.rule.is_some_and(|rule| rule.drop.contains(name));
        let old = match self.expression(column) {
            Some(expression) => self.from.columns.iter().find(|old| is_column_name(expression, &old.name))?,
            None => self.from.column(column).filter(|old| !is_dropped(&old.name))?,
        };
        let new = self.to.column(column)?;
        keeps_values(old, new).then_some(old.name.as_str())
    }

    /// Whether a new column has one value in all rows.
    fn is_literal(&self, column: &str) -> bool {
        self.expression(column).is_some_and(|expression| {
            let text = expression.trim();
            text.parse::<f64>().is_ok()
                || text.starts_with('\'') && text.ends_with('\'') && text.matches('\'').count() == 2
        })
    }

    /// Whether a column that another one stands beside is unique by itself.
    fn is_kept_apart(&self, column: &str, publisher: &Keys) -> bool {
        let from = TableName::of(self.from);
        self.traced(column).is_some_and(|old| {
            publisher.unique.get(&from).into_iter().flatten().any(|key| key.len() == 1 && key[0] == old)
        })
    }
}

/// Columns that take no null and are given what may be one.
fn doubts_about_nulls(way: Way<'_>) -> Vec<Doubt> {
    let may_be_null = |column: &&crate::pg::catalog::Column| {
        let old = way.traced(&column.name).and_then(|name| way.from.column(name));
        column.not_null && !column.is_generated() && old.is_some_and(|old| !old.not_null)
    };
    let doubt = |column: &crate::pg::catalog::Column| Doubt {
        kind: "not_null",
        message: format!(
            "\"{}\" of \"{}\" is NOT NULL, and the column of \"{}\" that it is given may be null",
            column.name,
            way.to.display(),
            way.from.display()
        ),
    };
    way.to.columns.iter().filter(may_be_null).map(doubt).collect()
}

/// Why the parent of a row may be missing.
fn doubt_about_parent(
    way: Way<'_>,
    key: &ForeignKey,
    all: &[Way<'_>],
    publisher: &Keys,
) -> Option<&'static str> {
    let old: Option<Vec<&str>> = key.columns.iter().map(|column| way.traced(column)).collect();
    let is_unwritten =
        |column: &String| way.expression(column).is_none() && way.from.column(column).is_none();
    if key.columns.iter().all(is_unwritten) {
        return None;
    }
    let Some(old) = old else { return Some("which an expression names") };
    let mut parents = all.iter().filter(|parent| TableName::of(parent.to) == key.referenced).peekable();
    if parents.peek().is_none() {
        return Some("which no captured table writes");
    }
    let has_key = |parent: &Way<'_>| {
        let referenced: Option<Vec<&str>> =
            key.referenced_columns.iter().map(|column| parent.traced(column)).collect();
        let (child, parent) = (TableName::of(way.from), TableName::of(parent.from));
        referenced.is_some_and(|referenced| {
            publisher.foreign.iter().any(|key| {
                let mut pairs: Vec<(&str, &str)> = key
                    .columns
                    .iter()
                    .map(String::as_str)
                    .zip(key.referenced_columns.iter().map(String::as_str))
                    .collect();
                let mut wanted: Vec<(&str, &str)> =
                    old.iter().copied().zip(referenced.iter().copied()).collect();
                pairs.sort_unstable();
                wanted.sort_unstable();
                // Where a part has a condition, a parent may be in the other one.
                key.table == child && key.referenced == parent && pairs == wanted
            })
        })
    };
    let is_whole = |parent: &Way<'_>| parent.rule.is_none_or(|rule| rule.condition.is_none());
    // A part of a table that was split refers to its other part: the same row.
    let is_same_row = |parent: &Way<'_>| {
        let referenced: Option<Vec<&str>> =
            key.referenced_columns.iter().map(|column| parent.traced(column)).collect();
        parent.from.oid == way.from.oid && referenced.is_some_and(|referenced| referenced == old)
    };
    let is_sure = parents.any(|parent| is_whole(parent) && (has_key(parent) || is_same_row(parent)));
    if is_sure { None } else { Some("and nothing on the other side makes sure that there is one") }
}
