//! Unique and exclusion constraints that are looked at when a transaction ends: by a trigger, which does not fire either.

use std::collections::{BTreeMap, HashMap};

use crate::error::Result;
use crate::flow::apply::conflict::{Apart, Failure};
use crate::flow::apply::statement::{self, From, Statement};
use crate::flow::mapping::foreign_key::Owner;
use crate::flow::mapping::{MappedColumn, Mapping, TableName, TableRule};
use crate::flow::source::change::Row;
use crate::pg::Session;
use crate::sql;

/// One constraint.
#[derive(Debug, Clone)]
pub(in crate::flow) struct DeferrableKey {
    name: String,
    table: TableName,
    is_partitioned: bool,
    is_exclusion: bool,
    /// Columns or expressions, as they are written where the table's columns have no other names.
    parts: Vec<String>,
    /// By which two rows meet in a part.
    operators: Vec<String>,
    /// Its columns, where it has nothing else.
    columns: Option<Vec<String>>,
    predicate: Option<String>,
    nulls_meet: bool,
    owner: Owner,
}

/// Those of the tables that a flow writes.
#[derive(Debug, Default)]
pub(in crate::flow) struct DeferrableKeys {
    of: HashMap<TableName, Vec<DeferrableKey>>,
    /// To be looked at when the transaction is complete.
    pending: BTreeMap<String, DeferrableKey>,
}

fn list_deferrable_keys(session: &mut Session) -> Result<Vec<DeferrableKey>> {
    let rows = session.query(&sql::flow::LIST_DEFERRABLE_KEYS, &[])?;
    let key = |row: &postgres::Row| DeferrableKey {
        name: row.get("constraint_name"),
        table: TableName::in_row(row),
        is_partitioned: row.get("is_partitioned"),
        is_exclusion: row.get("is_exclusion"),
        parts: row.get("parts"),
        operators: row.get("operators"),
        columns: row.get("columns"),
        predicate: row.get("predicate"),
        nulls_meet: row.get("nulls_meet"),
        owner: Owner::Table,
    };
    Ok(rows.iter().map(key).collect())
}

impl DeferrableKeys {
    /// `ancestors` are the tables above partitions.
    pub(super) fn read(
        session: &mut Session,
        mapping: &Mapping,
        ancestors: impl FnOnce(&mut Session) -> Result<HashMap<TableName, Vec<TableName>>>,
    ) -> Result<DeferrableKeys> {
        let mut keys = DeferrableKeys::default();
        let all = list_deferrable_keys(session)?;
        if all.is_empty() {
            return Ok(keys);
        }
        let ancestors = ancestors(session)?;
        let is_below = |table: &TableName, above: &TableName| {
            ancestors.get(table).is_some_and(|known| known.contains(above))
        };
        for rule in mapping.pairs() {
            if keys.of.contains_key(&rule.to) {
                continue;
            }
            let of_table = |key: &DeferrableKey| {
                if key.table == rule.to || is_below(&rule.to, &key.table) {
                    return Some(key.clone());
                }
                let of_partition = is_below(&key.table, &rule.to);
                of_partition.then(|| DeferrableKey { owner: Owner::Partition, ..key.clone() })
            };
            let found: Vec<DeferrableKey> = all.iter().filter_map(of_table).collect();
            if !found.is_empty() {
                keys.of.insert(rule.to.clone(), found);
            }
        }
        Ok(keys)
    }

    pub(super) fn concern(&self, table: &TableName) -> bool {
        self.of.contains_key(table)
    }

    /// Those for which rows that are written to this table are to be looked at: now, or when the transaction is complete.
    /// `writes` tells whether one of these columns is written.
    pub(super) fn concerning(
        &mut self,
        table: &TableName,
        is_postponed: bool,
        writes: impl Fn(&[String]) -> bool,
    ) -> Vec<DeferrableKey> {
        let Some(keys) = self.of.get(table) else { return Vec::new() };
        let is_written = |key: &&DeferrableKey| key.columns.as_ref().is_none_or(|columns| writes(columns));
        let keys: Vec<DeferrableKey> = keys.iter().filter(is_written).cloned().collect();
        if !is_postponed {
            return keys;
        }
        self.pending.extend(keys.into_iter().map(|key| (format!("{} {}", key.table, key.name), key)));
        Vec::new()
    }

    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// All those of these tables, by a name of their own.
    pub(super) fn of_all<'a>(
        &'a self,
        is_one: &'a dyn Fn(&TableName) -> bool,
    ) -> impl Iterator<Item = (String, &'a DeferrableKey)> {
        let its = self.of.iter().filter(|(table, _)| is_one(table)).flat_map(|(_, keys)| keys);
        its.map(|key| (format!("{} {}", key.table, key.name), key))
    }

    pub(super) fn take_pending(&mut self) -> impl Iterator<Item = DeferrableKey> + use<> {
        std::mem::take(&mut self.pending).into_values()
    }
}

impl DeferrableKey {
    /// What it is that these rows meet others.
    pub(super) fn violated_by(&self, rows: Vec<Row>) -> Failure {
        let (constraint, of) = (self.name.clone(), self.table.to_string());
        Failure::Meeting { apart: Apart { constraint, of, is_exclusion: self.is_exclusion }, rows }
    }

    /// Whether a row that was written meets another one. It is found by its key; one without a key by the values that it was given.
    pub(in crate::flow::apply) fn find_meeting(&self, rule: &TableRule, from: From<'_>) -> Statement {
        let table = match self.owner {
            Owner::Table => rule.target(),
            Owner::Partition => self.rows(),
        };
        if rule.key.is_empty() {
            return self.find_meeting_made(rule, &table, from);
        }
        let columns = statement::columns_read(rule.key.iter());
        let keys = statement::evaluated(&[], &rule.key, &statement::stage_from(rule, &columns, 1, from));
        let written = format!("({keys}) as w, {table} as t");
        let text = self.meeting(&written, &statement::key_condition(rule, "w"));
        Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
    }

    fn find_meeting_made(&self, rule: &TableRule, table: &str, from: From<'_>) -> Statement {
        let made: Option<Vec<&MappedColumn>> = self.columns.as_ref().and_then(|names| {
            names.iter().map(|name| rule.columns.iter().find(|column| column.name == *name)).collect()
        });
        let Some(made) = made else {
            // Not what it was given tells, but a default or an expression.
            let text = self.find_any_meeting();
            return Statement { text, takes_count: false, columns: Vec::new(), old_columns: Vec::new() };
        };
        let columns = statement::columns_read(made.iter().copied());
        let values = statement::evaluated(&made, &[], &statement::stage_from(rule, &columns, 1, from));
        let typed = |(at, column): (usize, &&MappedColumn)| format!("w.v{at}::{}", column.type_name);
        let typed: Vec<String> = made.iter().enumerate().map(typed).collect();
        let own = |column: &&MappedColumn| format!("t.{}", sql::quote_identifier(&column.name));
        let own: Vec<String> = made.iter().map(own).collect();
        let pairs = own.iter().zip(&self.operators).zip(&typed);
        let mut conditions: Vec<String> =
            pairs.map(|((own, operator), value)| self.meets(own, operator, value)).collect();
        // Two that meet need not be the same.
        let (own, typed) = (own.join(", "), typed.join(", "));
        conditions.push(format!("row({own})::record operator(pg_catalog.*=) row({typed})::record"));
        let text = self.meeting(&format!("({values}) as w, {table} as t"), &conditions.join(" and "));
        Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
    }

    /// Any row that meets another one.
    pub(in crate::flow::apply) fn find_any_meeting(&self) -> String {
        self.meeting(&format!("{} as t", self.rows()), "true")
    }

    /// Whether a row `t` meets another one.
    fn meeting(&self, written: &str, condition: &str) -> String {
        let parts = |suffix: &dyn Fn(usize) -> String| -> Vec<String> {
            self.parts.iter().enumerate().map(|(at, part)| format!("({part}){}", suffix(at))).collect()
        };
        let named = parts(&|at| format!(" as e{at}"));
        let met: Vec<String> = parts(&|_| String::new())
            .iter()
            .zip(&self.operators)
            .enumerate()
            .map(|(at, (part, operator))| self.meets(part, operator, &format!("x.e{at}")))
            .collect();
        let predicate = self.predicate.as_ref().map_or_else(String::new, |held| format!(" and ({held})"));
        let own = self.predicate.as_ref().map_or_else(String::new, |held| format!(" where ({held})"));
        format!(
            "select 1::int8 from {written} cross join lateral (select {} from (select t.*) as r{own}) as x \
             where {condition} and exists (select from {} as u where {}{predicate} \
             and (u.tableoid, u.ctid) is distinct from (t.tableoid, t.ctid)) limit 1",
            named.join(", "),
            self.rows(),
            met.join(" and "),
        )
    }

    fn meets(&self, one: &str, operator: &str, other: &str) -> String {
        if self.nulls_meet {
            format!("({one} {operator} {other} or ({one} is null and {other} is null))")
        } else {
            format!("{one} {operator} {other}")
        }
    }

    fn rows(&self) -> String {
        let only = if self.is_partitioned { "" } else { "only " };
        format!("{only}{}", self.table.quoted())
    }
}
