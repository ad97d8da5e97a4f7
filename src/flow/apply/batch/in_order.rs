//! Changes in the order in which they were committed.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Planned, Step, Work, alone};
use crate::flow::source::change::{Row, RowChange, Value};

/// The same effect in commit order: neighbours that do the same to different rows of one table share a step,
/// at most `longest` of them. Rows of a table that looks up its own rows stay alone: none would see those that share its step.
pub fn in_order<'a>(work: impl Iterator<Item = &'a Work>, longest: usize) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    let mut keys_in_step: HashSet<Box<[u8]>> = HashSet::new();
    for item in work {
        let (table, change) = match item {
            Work::Truncate { tables } => {
                plan.push(Planned::Truncate { tables: tables.clone() });
                continue;
            }
            Work::Row { table, change } => (table, change),
        };
        let (row, step) = match change {
            RowChange::Update { old: Some(old), new }
                if table.key.is_some() && table.key_of(old) == table.key_of(new) =>
            {
                (new, Step::Update(vec![new.clone()]))
            }
            RowChange::Insert { new: row }
            | RowChange::Update { new: row, .. }
            | RowChange::Delete { old: row } => (row, alone(change)),
        };
        let key = table.key_of(row);
        let before = match change {
            RowChange::Update { old: Some(old), .. } => table.key_of(old),
            _ => key.clone(),
        };
        let is_keyed = key.is_some() && before.is_some();
        let joined = match plan.last_mut() {
            Some(Planned::Rows { table: last, step: into })
                if Arc::ptr_eq(last, table) && !table.looks_up(table) =>
            {
                [&key, &before].into_iter().flatten().all(|key| !keys_in_step.contains(key))
                    && join(into, &step, longest, is_keyed)
            }
            _ => false,
        };
        if !joined {
            keys_in_step.clear();
            plan.push(Planned::Rows { table: Arc::clone(table), step });
        }
        keys_in_step.extend([key, before].into_iter().flatten());
    }
    plan
}

/// Adds the row of `step` to `into` where one statement can do both.
fn join(into: &mut Step, step: &Step, longest: usize, keyed: bool) -> bool {
    let same_columns = |a: &Row, b: &Row| {
        a.values().zip(b.values()).all(|(a, b)| (a == Value::Unchanged) == (b == Value::Unchanged))
    };
    match (into, step) {
        (Step::Insert(rows), Step::Insert(more)) if rows.len() < longest => rows.extend_from_slice(more),
        (Step::Delete(rows), Step::Delete(more)) if keyed && rows.len() < longest => {
            rows.extend_from_slice(more);
        }
        (Step::Update(rows), Step::Update(more))
            if keyed && rows.len() < longest && same_columns(&rows[0], &more[0]) =>
        {
            rows.extend_from_slice(more);
        }
        (Step::Move { old, new }, Step::Move { old: more_old, new: more_new })
            if keyed && new.len() < longest && !new.iter().chain(more_new).any(Row::has_unchanged) =>
        {
            old.extend_from_slice(more_old);
            new.extend_from_slice(more_new);
        }
        _ => return false,
    }
    true
}
