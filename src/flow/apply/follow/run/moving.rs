//! A row that an UPDATE moves from one partition to another, put together again: a stream has it as a DELETE and an INSERT.

use std::sync::Arc;

use foldhash::HashMap;

use super::Run;
use crate::flow::apply::batch::{Ranks, Work};
use crate::flow::mapping::TableName;
use crate::flow::mapping::bound::{Bound, BoundRule};
use crate::flow::source::change::{Relation, Row, RowChange, Value};

/// How many changes of other tables, made by triggers, may stand between the two.
const MOST_BETWEEN: usize = 16;

/// Tables by which moved rows are written, by the address of the partition that they come to; none where they can't be.
pub(super) type Moves = HashMap<*const Bound, Option<Arc<Bound>>>;

/// A DELETE from a partition in the open transaction.
pub(super) struct Leaving {
    /// Its place there.
    at: usize,
    table: Arc<Bound>,
    old: Row,
}

impl Leaving {
    /// Takes it, and what came since, out of `work`, to be put into an empty one; nothing where that is too much to wait for the row.
    pub(super) fn split_off(&mut self, work: &mut Vec<Work>) -> Option<Vec<Work>> {
        if work.len() - self.at > MOST_BETWEEN {
            return None;
        }
        let rest = work.split_off(self.at);
        self.at = 0;
        Some(rest)
    }

    /// Whether the row is the same in another partition: the server writes both changes behind each other, and what identifies the row
    /// is the same but for what decides in which partition it is.
    fn is_same_row(&self, table: &Bound, new: &Row) -> bool {
        let (Some(ours), Some(its)) = (self.table.rules.first(), table.rules.first()) else { return false };
        let place = |bound: &BoundRule, name: &str| {
            let at = bound.rule.old_columns.iter().position(|column| column.name == name)?;
            Some(bound.positions[at])
        };
        let is_same = |name: &&str| {
            let (Some(old), Some(there)) = (place(ours, name), place(its, name)) else { return false };
            let old = self.old.value(old);
            old == new.value(there) && old != Value::Unchanged
        };
        let known_by = ours.rule.same_when_moved(&its.rule);
        self.table.relation.full == table.relation.full
            && self.table.relation.table_name() != table.relation.table_name()
            && !known_by.is_empty()
            && known_by.iter().all(is_same)
    }

    /// Whether changes that came since may take away what the row refers to: where foreign keys fire, it has to be gone by then.
    fn has_to_be_gone(&self, ranks: &Ranks, work: &[Work]) -> bool {
        let takes_away = |work: &Work| {
            let Work::Row { change, .. } = work else { return true };
            matches!(change, RowChange::Delete { .. } | RowChange::Update { old: Some(_), .. })
        };
        let refers =
            |rule: &BoundRule| [&rule.rule.to, rule.rule.place()].iter().any(|to| ranks.contains_key(*to));
        self.table.rules.iter().any(refers) && work[self.at + 1..].iter().any(takes_away)
    }

    /// The row before, in the columns of the partition that it comes to.
    fn row_of(&self, relation: &Relation) -> Option<Row> {
        let value = |name: &str| {
            let at = self.table.relation.columns.iter().position(|column| column.name == name)?;
            Some(self.old.value(at))
        };
        relation.columns.iter().map(|column| value(&column.name)).collect()
    }
}

fn root_of(table: &Bound) -> Option<&TableName> {
    table.rules.first().and_then(|bound| bound.rule.from_root.as_ref())
}

impl Run<'_> {
    /// The change as it is; or, where it brings a row back that the one before it has taken out of another partition, both as one, so
    /// that the subscriber's row keeps what it has beside. The one before is taken out of the open transaction then.
    pub(super) fn rejoin(&mut self, work: Work) -> Work {
        let Work::Row { table, change } = &work else {
            // No row comes back from behind that.
            if let Some(open) = &mut self.open {
                open.leaving = None;
            }
            return work;
        };
        // Where a row has nothing beside it, and nothing that goes with it, it may as well be made anew.
        if table.complete && self.ranks.is_empty() {
            return work;
        }
        let Some(root) = root_of(table) else { return work };
        let Some(open) = &mut self.open else { return work };
        let before = open.leaving.take_if(|leaving| root_of(&leaving.table) == Some(root));
        match change {
            RowChange::Delete { old } => {
                let at = open.transaction.work.len();
                open.leaving = Some(Leaving { at, table: Arc::clone(table), old: old.clone() });
                work
            }
            RowChange::Insert { new } => {
                let fits = |leaving: &Leaving| {
                    leaving.is_same_row(table, new)
                        && !leaving.has_to_be_gone(&self.ranks, &open.transaction.work)
                };
                let Some(leaving) = before.filter(fits) else { return work };
                let (table, new) = (Arc::clone(table), new.clone());
                let (Some(moved), Some(old)) =
                    (self.moved(&leaving.table, &table), leaving.row_of(&table.relation))
                else {
                    return work;
                };
                if let Some(open) = &mut self.open {
                    open.transaction.work.remove(leaving.at);
                }
                Work::Row { table: moved, change: RowChange::Update { old: Some(old), new } }
            }
            RowChange::Update { .. } => work,
        }
    }

    /// The topmost table, with the columns of the partition `into`, where a row that comes there `from` another one is written by the
    /// rules of both.
    fn moved(&mut self, from: &Arc<Bound>, into: &Arc<Bound>) -> Option<Arc<Bound>> {
        self.mapping.rules_for_moves(&from.relation.table_name())?;
        if let Some(known) = self.moves.get(&Arc::as_ptr(into)) {
            return known.clone();
        }
        let bound = self.mapping.rules_for_moves(&into.relation.table_name()).and_then(|rules| {
            let root = root_of(into)?;
            let relation =
                Relation { schema: root.schema.clone(), name: root.name.clone(), ..(*into.relation).clone() };
            // Partitions with the same columns share one: what goes to them is written together.
            let is_same = |known: &&Arc<Bound>| {
                let Bound { relation: its, rules: bound, .. } = &***known;
                its.table_name() == *root
                    && (its.full, &its.columns) == (relation.full, &relation.columns)
                    && bound.len() == rules.len()
                    && bound.iter().zip(rules).all(|(bound, rule)| Arc::ptr_eq(&bound.rule, rule))
            };
            if let Some(known) = self.moves.values().flatten().find(is_same) {
                return Some(Arc::clone(known));
            }
            // The rules were made for other columns.
            let bound = Bound::new(Arc::new(relation), rules).ok()?;
            Some(Arc::new(Bound { is_one_of_several: true, ..bound }))
        });
        self.moves.insert(Arc::as_ptr(into), bound.clone());
        bound
    }
}
