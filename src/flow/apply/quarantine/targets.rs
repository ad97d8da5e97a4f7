//! Which rows of the subscriber are those of changes that are set aside. Two rows of the publisher may be one there, one after the
//! other: in two partitions, in two tables that became one, or under a key that says less than theirs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::value_of;
use crate::flow::mapping::bound::{Bound, bytes_of};
use crate::flow::mapping::{MappedColumn, Mapping, TableName, TableRule, is_column};
use crate::flow::source::change::{RowChange, Value};

/// A row of a table of the subscriber, by a rule's key; all of its rows where that does not tell them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    from: TableName,
    to: TableName,
    key: Option<Box<[u8]>>,
}

#[derive(Debug, Default)]
struct Held {
    whole: bool,
    keys: HashSet<Box<[u8]>>,
}

/// A set-aside change as it is stored: its table, whether it emptied that, and its keys before and after.
pub(super) struct Stored<'a> {
    pub(super) table: &'a TableName,
    pub(super) emptied: bool,
    pub(super) keys: Vec<Option<&'a Map<String, Json>>>,
}

/// Rows of the subscriber that later changes must not touch.
#[derive(Debug, Default)]
pub(super) struct Targets {
    rules: HashMap<TableName, Vec<Arc<TableRule>>>,
    /// Tables whose rows come from rules with keys of different forms, so that only the server could tell if two are the same.
    mixed: HashSet<TableName>,
    /// By table of the subscriber, and by that of the publisher whose changes these are.
    held: HashMap<TableName, HashMap<TableName, Held>>,
}

impl Targets {
    pub(super) fn learn(&mut self, mapping: &Mapping) {
        self.rules.clear();
        let mut forms: HashMap<&TableName, HashMap<Box<[u8]>, &TableRule>> = HashMap::new();
        for rule in mapping.pairs() {
            self.rules.entry(rule.from.clone()).or_default().push(Arc::clone(rule));
            forms.entry(rule.place()).or_default().entry(bytes_of(form_of(rule))).or_insert(rule);
        }
        let is_mixed = |forms: &HashMap<Box<[u8]>, &TableRule>| {
            let rules: Vec<&&TableRule> = forms.values().collect();
            let mut firsts = rules.iter().enumerate();
            firsts.any(|(at, one)| rules[at + 1..].iter().any(|other| !one.is_apart_from(other)))
        };
        self.mixed =
            forms.into_iter().filter(|(_, forms)| is_mixed(forms)).map(|(to, _)| to.clone()).collect();
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// The rows that a change is of.
    pub(super) fn marks_of(&self, table: &Bound, change: &RowChange) -> Vec<Mark> {
        let rows = match change {
            RowChange::Insert { new } | RowChange::Update { old: None, new } => vec![new],
            RowChange::Update { old: Some(old), new } => vec![old, new],
            RowChange::Delete { old } => vec![old],
        };
        let mut marks = Vec::with_capacity(table.rules.len());
        for bound in &table.rules {
            for row in &rows {
                let key = self.key_of(&bound.rule, |at| Some(bound.value(row, at)));
                marks.push(mark(&bound.rule, key));
            }
        }
        marks
    }

    /// The rows that a stored change is of. What emptied a table is of no row that is there.
    pub(super) fn marks_of_stored(&self, stored: &Stored<'_>) -> Vec<Mark> {
        let rules = self.rules.get(stored.table).map_or(&[][..], Vec::as_slice);
        let mut marks = Vec::new();
        for rule in rules.iter().filter(|_| !stored.emptied) {
            for key in &stored.keys {
                let value = |at: usize| Some(value_of(key.as_ref()?.get(&rule.old_columns[at].name)?));
                marks.push(mark(rule, self.key_of(rule, value)));
            }
        }
        marks
    }

    pub(super) fn hold(&mut self, marks: Vec<Mark>) {
        for Mark { from, to, key } in marks {
            let held = self.held.entry(to).or_default().entry(from).or_default();
            match key {
                Some(key) => {
                    held.keys.insert(key);
                }
                None => held.whole = true,
            }
        }
    }

    pub(super) fn holds(&self, marks: &[Mark]) -> bool {
        marks.iter().any(|mark| {
            let held = self.held.get(&mark.to).into_iter().flatten();
            let mut meeting = held.filter(|(from, _)| self.may_meet(from, mark));
            meeting.any(|(_, held)| held.whole || mark.key.as_ref().is_none_or(|key| held.keys.contains(key)))
        })
    }

    /// Whether one of these is a row of the others.
    pub(super) fn meet(&self, marks: &[Mark], others: &[Mark]) -> bool {
        let is_same = |mark: &Mark, other: &Mark| {
            let may_be = mark.to == other.to && self.may_meet(&other.from, mark);
            may_be && (mark.key.is_none() || other.key.is_none() || mark.key == other.key)
        };
        marks.iter().any(|mark| others.iter().any(|other| is_same(mark, other)))
    }

    /// The topmost table by whose name the flow has rows of a partition that go to another one, where it may have them so.
    pub(super) fn root_of(&self, partition: &TableName) -> Option<&TableName> {
        self.rules.get(partition)?.first()?.from_root.as_ref()
    }

    /// The partitions that hold the rows of a topmost table.
    pub(super) fn partitions_of(&self, root: &TableName) -> impl Iterator<Item = &TableName> {
        let is_its = |rule: &&Arc<TableRule>| !rule.from_partitioned && rule.from_root.as_ref() == Some(root);
        self.rules.values().filter_map(|rules| rules.first()).filter(is_its).map(|rule| &rule.from)
    }

    /// Nothing in this table of the publisher waits any more.
    pub(super) fn free(&mut self, from: &TableName) {
        for held in self.held.values_mut() {
            held.remove(from);
        }
    }

    /// Whether a row from this table may be the marked one: not where a constant of the key tells the tables apart.
    fn may_meet(&self, from: &TableName, mark: &Mark) -> bool {
        let rules = |from: &TableName| {
            let rules = self.rules.get(from).into_iter().flatten();
            rules.filter(|rule| *rule.place() == mark.to).collect::<Vec<_>>()
        };
        let (its, own) = (rules(from), rules(&mark.from));
        *from == mark.from || its.iter().any(|it| own.iter().any(|own| !it.is_apart_from(own)))
    }

    /// What identifies the row, from the values of the rule's old columns; the same for all rules of the table.
    fn key_of<'a>(
        &self,
        rule: &'a TableRule,
        value: impl Fn(usize) -> Option<Value<'a>>,
    ) -> Option<Box<[u8]>> {
        if rule.key.is_empty() || self.mixed.contains(rule.place()) {
            return None;
        }
        let mut values = form_of(rule);
        for column in sorted(rule) {
            for at in sorted_reads(rule, column) {
                values.push(value(at).filter(|value| *value != Value::Unchanged)?);
            }
        }
        Some(bytes_of(values))
    }
}

fn mark(rule: &TableRule, key: Option<Box<[u8]>>) -> Mark {
    Mark { from: rule.from.clone(), to: rule.place().clone(), key }
}

fn sorted(rule: &TableRule) -> Vec<&MappedColumn> {
    let mut columns: Vec<&MappedColumn> = rule.key.iter().collect();
    columns.sort_by_key(|column| &column.name);
    columns
}

fn sorted_reads(rule: &TableRule, column: &MappedColumn) -> Vec<usize> {
    let mut reads = column.reads.clone();
    reads.sort_by_key(|at| &rule.old_columns[*at].name);
    reads
}

/// How a rule's key comes from the old row, whatever is in that: equal for rules that make the same key of the same values.
fn form_of(rule: &TableRule) -> Vec<Value<'_>> {
    let mut form = Vec::with_capacity(2 * rule.key.len());
    for column in sorted(rule) {
        form.push(Value::Text(column.name.as_bytes()));
        if takes_value(rule, column) {
            form.push(Value::Null);
            continue;
        }
        form.push(Value::Text(column.expression.trim().as_bytes()));
        let names = sorted_reads(rule, column).into_iter().map(|at| rule.old_columns[at].name.as_bytes());
        form.extend(names.map(Value::Text));
    }
    form
}

/// Whether the key's column has the old column's value, written the same.
fn takes_value(rule: &TableRule, column: &MappedColumn) -> bool {
    const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];
    let [at] = column.reads.as_slice() else { return false };
    let old = &rule.old_columns[*at];
    let (from, to) = (old.publisher_type.as_str(), column.type_name.as_str());
    let is_written_alike = from == to || (INTEGERS.contains(&from) && INTEGERS.contains(&to));
    is_written_alike && is_column(&column.expression, &old.name)
}
