//! A table of the stream joined to the mapping: where each of its columns goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{OldColumn, Order, TableRule};
use crate::error::{Error, Result};
use crate::flow::source::change::{Relation, RelationColumn, Row, Value};

/// A [`Relation`] and the rules for its rows.
#[derive(Debug)]
pub struct Bound {
    /// As the stream describes it.
    pub relation: Arc<Relation>,
    /// Where its rows go: more than one when a table is split.
    pub rules: Vec<BoundRule>,
    /// Positions, in a row, of what identifies it on the publisher and on every subscriber's table;
    /// `None`: rows are not told apart, and their changes must keep their order.
    pub key: Option<Vec<usize>>,
    /// No column of any subscriber's table is left unwritten.
    pub complete: bool,
    /// In which order rows may be written, by all rules.
    pub order: Order,
    /// The stream has its rows under other names, too, so that only the order of changes tells what comes of them.
    pub is_one_of_several: bool,
}

/// One rule, with positions in the relation's rows.
#[derive(Debug)]
pub struct BoundRule {
    /// The rule.
    pub rule: Arc<TableRule>,
    /// For each of the rule's old columns, its position in a row.
    pub positions: Vec<usize>,
}

impl BoundRule {
    /// What identifies the row on the publisher, as one string of bytes; `None` when nothing does or a part is missing.
    pub fn identity_of(&self, row: &Row) -> Option<Box<[u8]>> {
        let identity = self.rule.identity.as_ref()?;
        let is_whole = identity.iter().all(|column| self.is_present(row, *column));
        is_whole.then(|| bytes_of(identity.iter().map(|column| self.value(row, *column))))
    }

    /// The value of an old column.
    pub fn value<'a>(&self, row: &'a Row, column: usize) -> Value<'a> {
        row.value(self.positions[column])
    }

    /// Whether the stream has the value of an old column.
    pub fn is_present(&self, row: &Row, column: usize) -> bool {
        self.value(row, column) != Value::Unchanged
    }
}

impl Bound {
    /// Joins a relation to its rules; a conflict when its columns are no longer those that the rules were made for.
    pub fn new(relation: Arc<Relation>, rules: &[Arc<TableRule>]) -> Result<Bound> {
        let mut bound = Vec::with_capacity(rules.len());
        let mut key = Some(BTreeSet::new());
        for rule in rules {
            let positions = rule
                .old_columns
                .iter()
                .map(|old| position(&relation, old))
                .collect::<Result<Vec<usize>>>()?;
            if let Some(new) =
                relation.columns.iter().find(|c| rule.old_columns.iter().all(|old| old.name != c.name))
            {
                return Err(columns_changed(&relation, &format!("has a new column \"{}\"", new.name)));
            }
            match (&rule.identity, &mut key) {
                (Some(identity), Some(key)) if !rule.key.is_empty() => {
                    key.extend(identity.iter().copied().chain(rule.key_reads()).map(|at| positions[at]));
                }
                _ => key = None,
            }
            bound.push(BoundRule { rule: Arc::clone(rule), positions });
        }
        let complete = rules.iter().all(|rule| rule.complete);
        let key = key.map(|key| key.into_iter().collect());
        let is_any = rules.iter().all(|rule| rule.order == Order::Any);
        let order = if is_any { Order::Any } else { Order::AsTheyCame };
        Ok(Bound { relation, rules: bound, key, complete, order, is_one_of_several: false })
    }

    /// Whether rows are known only as a whole, and each that is written is written whole: then it is enough how many there are of each.
    pub fn is_countable(&self) -> bool {
        self.relation.full && self.complete && self.rules.iter().all(|rule| rule.rule.key.is_empty())
    }

    /// Whether an expression for its rows reads a table that rows of `other` go to: then it is seen which of two changes comes first.
    pub fn looks_up(&self, other: &Bound) -> bool {
        let mut looking = self.rules.iter().filter(|rule| !rule.rule.looks_up.is_empty());
        looking.any(|rule| other.rules.iter().any(|other| rule.rule.looks_up.contains(&other.rule.to)))
    }

    /// What identifies the row, as one string of bytes; `None` when rows are not told apart or a part is missing.
    pub fn key_of(&self, row: &Row) -> Option<Box<[u8]>> {
        let mut bytes = Vec::with_capacity(24);
        self.put_key(row, &mut bytes).then(|| bytes.into_boxed_slice())
    }

    /// The same, behind what `bytes` holds; false for none.
    pub fn put_key(&self, row: &Row, bytes: &mut Vec<u8>) -> bool {
        let Some(key) = &self.key else { return false };
        if key.iter().any(|at| row.value(*at) == Value::Unchanged) {
            return false;
        }
        put_bytes(bytes, key.iter().map(|at| row.value(*at)));
        true
    }

    /// The new row of an update, completed by what its old row holds; none where it lacks nothing.
    pub fn filled(&self, old: &Row, new: &Row) -> Option<Row> {
        let fill = |(column, (old, new)): (&RelationColumn, _)| match new {
            Value::Unchanged if self.relation.full || column.key => old,
            new => new,
        };
        let values = self.relation.columns.iter().zip(old.values().zip(new.values()));
        new.has_unchanged().then(|| values.map(fill).collect())
    }

    /// `(id)=(5)`: the row's identity, for people; never its other values.
    pub fn describe_key(&self, row: &Row) -> String {
        let positions: Vec<usize> = match &self.key {
            Some(key) => key.clone(),
            None if self.relation.full => return "(whole row)".to_owned(),
            None => (0..self.relation.columns.len()).filter(|at| self.relation.columns[*at].key).collect(),
        };
        let names: Vec<&str> = positions.iter().map(|at| self.relation.columns[*at].name.as_str()).collect();
        let values = positions.iter().map(|at| match row.value(*at) {
            Value::Null => "null".into(),
            Value::Unchanged => "(unchanged)".into(),
            Value::Text(text) => String::from_utf8_lossy(text),
            Value::Binary(_) => "(binary)".into(),
        });
        format!("({})=({})", names.join(", "), values.collect::<Vec<_>>().join(", "))
    }

    /// Columns of an enum that hold `label` in the row.
    pub fn enums_with(&self, row: &Row, label: &str) -> Vec<&str> {
        let is_enum = |name: &str| {
            let mut old = self.rules.iter().flat_map(|rule| &rule.rule.old_columns);
            old.any(|old| old.name == name && old.enum_oid.is_some())
        };
        let mut columns = self.columns_with(row, label);
        columns.retain(|name| is_enum(name));
        columns
    }

    /// Columns that hold `text` in the row.
    pub fn columns_with(&self, row: &Row, text: &str) -> Vec<&str> {
        let holds = |value: Value<'_>| match value {
            Value::Text(bytes) | Value::Binary(bytes) => bytes == text.as_bytes(),
            Value::Null | Value::Unchanged => false,
        };
        let columns = self.relation.columns.iter().zip(row.values());
        columns.filter(|(_, value)| holds(*value)).map(|(column, _)| column.name.as_str()).collect()
    }
}

/// Values as one string of bytes that no other values give.
pub fn bytes_of<'a>(values: impl IntoIterator<Item = Value<'a>>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(24);
    put_bytes(&mut bytes, values);
    bytes.into_boxed_slice()
}

fn put_bytes<'a>(bytes: &mut Vec<u8>, values: impl IntoIterator<Item = Value<'a>>) {
    for value in values {
        match value {
            Value::Text(known) | Value::Binary(known) => {
                bytes.extend((known.len() as u64).to_be_bytes());
                bytes.extend_from_slice(known);
            }
            Value::Null => bytes.extend(u64::MAX.to_be_bytes()),
            Value::Unchanged => bytes.extend((u64::MAX - 1).to_be_bytes()),
        }
    }
}

fn position(relation: &Relation, old: &OldColumn) -> Result<usize> {
    relation
        .columns
        .iter()
        .position(|column| column.name == old.name)
        .ok_or_else(|| columns_changed(relation, &format!("has no column \"{}\" any more", old.name)))
}

fn columns_changed(relation: &Relation, what: &str) -> Error {
    Error::Conflict {
        kind: "columns_changed",
        sqlstate: None,
        message: format!("table \"{}\" {what}", relation.display()),
        detail: Some("Its definition was altered after its changes began to be recorded.".to_owned()),
        hint:
            "Alter the table back, or say in a [[map]] where its columns go, and run the same command again."
                .to_owned(),
    }
}
