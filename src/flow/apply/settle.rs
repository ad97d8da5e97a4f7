//! Changes applied as far as they fit: what does not is set aside, and so is what comes later for the same row.

use std::collections::HashSet;
use std::sync::Arc;

use postgres::types::PgLsn;

use super::batch::{self, Planned, Step, Transaction, Work};
use super::conflict::{self, Apart, Failure, Misfit};
use super::quarantine::{self, Entry, Quarantine};
use super::{Applier, LONGEST_RUN, statement};
use crate::error::Result;
use crate::flow::mapping::TableName;
use crate::flow::mapping::bound::Bound;
use crate::flow::source::change::{Row, RowChange};
use crate::sql;

/// One change, with what the quarantine has to know of it.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// End of its transaction on the publisher.
    pub lsn: PgLsn,
    /// Which transaction of the batch it belongs to.
    pub transaction: usize,
    /// What to do.
    pub work: &'a Work,
    /// Its place in the quarantine, when it comes from there.
    pub ordinal: Option<i64>,
}

/// All changes of these transactions.
pub fn items_of<'a>(transactions: &'a [Transaction]) -> Vec<Item<'a>> {
    let of_one = |(at, transaction): (usize, &'a Transaction)| {
        let item = |work| Item { lsn: transaction.end_lsn, transaction: at, work, ordinal: None };
        transaction.work.iter().map(item).collect::<Vec<_>>()
    };
    transactions.iter().enumerate().flat_map(of_one).collect()
}

/// Where to cut: between two transactions, as close to the middle as can be; in the middle of a single one.
fn middle(items: &[Item<'_>]) -> usize {
    let half = items.len() / 2;
    let is_border = |at: &usize| items[at - 1].transaction != items[*at].transaction;
    let before = (1..=half).rev().find(is_border);
    let after = (half + 1..items.len()).find(is_border);
    match (before, after) {
        (Some(before), Some(after)) if after - half < half - before => after,
        (Some(before), _) => before,
        (None, Some(after)) => after,
        (None, None) => half,
    }
}

/// Tables of the subscriber whose rows these changes take away, or change.
fn touched(items: &[Item<'_>]) -> HashSet<TableName> {
    let tables = items.iter().filter_map(|item| match item.work {
        Work::Row { change: RowChange::Insert { .. }, .. } | Work::Truncate { .. } => None,
        Work::Row { table, .. } => Some(table),
    });
    tables.flat_map(|table| &table.rules).map(|rule| rule.rule.to.clone()).collect()
}

fn is_one_transaction(items: &[Item<'_>]) -> bool {
    let mut transactions = items.iter().map(|item| item.transaction);
    let first = transactions.next();
    items.len() > 1 && transactions.all(|transaction| Some(transaction) == first)
}

/// Of each of these rows of a table the first change, by its place.
fn first_of_rows(items: &[Item<'_>], table: &Arc<Bound>, rows: &[Row]) -> Vec<usize> {
    let mut keys: HashSet<Box<[u8]>> = rows.iter().filter_map(|row| table.key_of(row)).collect();
    let mut places = Vec::with_capacity(keys.len());
    for (at, item) in items.iter().enumerate() {
        let Work::Row { table: its, change } = item.work else { continue };
        let (RowChange::Insert { new } | RowChange::Update { new, .. }) = change else { continue };
        if Arc::ptr_eq(its, table) && its.key_of(new).is_some_and(|key| keys.remove(&key)) {
            places.push(at);
        }
    }
    places
}

impl Applier {
    /// Applies what fits, in halves where something does not, so that the cost of a conflict is the logarithm of the batch.
    /// What does not fit is in the quarantine afterwards, in the same transaction. Fails only for what is not about data.
    pub(super) fn settle(&mut self, items: &[Item<'_>]) -> Result<()> {
        let is_truncate = |item: &Item<'_>| matches!(item.work, Work::Truncate { .. });
        let is_part = self.references.is_part;
        let mut rest = items;
        while let Some(first) = rest.first() {
            let length =
                if is_truncate(first) { 1 } else { rest.iter().position(is_truncate).unwrap_or(rest.len()) };
            let (run, others) = rest.split_at(length);
            match first.work {
                Work::Truncate { tables } => self.settle_truncate(first, tables)?,
                Work::Row { .. } => {
                    self.references.is_part = is_part || run.len() < items.len();
                    let settled = self.settle_rows(run);
                    self.references.is_part = is_part;
                    settled?;
                }
            }
            rest = others;
        }
        self.write_pending()
    }

    fn settle_rows(&mut self, items: &[Item<'_>]) -> Result<()> {
        let mut fit = Vec::with_capacity(items.len());
        let mut held = Vec::new();
        if let Some(quarantine) = &mut self.quarantine {
            // A change that joins takes its other key along, so that later ones in this very run wait as well;
            // should the run fail and be cut, the same ones are found held again.
            for item in items {
                match item.work {
                    Work::Row { table, change } if quarantine.holds(table, change) => {
                        quarantine.hold(table, change);
                        held.push(*item);
                    }
                    _ => fit.push(*item),
                }
            }
        }
        if !fit.is_empty() {
            let work: Vec<&Work> = fit.iter().map(|item| item.work).collect();
            let in_order = || batch::in_order(work.iter().copied(), LONGEST_RUN);
            // A single change is to be told as what it was.
            let plan = if work.len() == 1 { None } else { self.plan(&work).ok() }.unwrap_or_else(in_order);
            let outcome = self.run(&plan);
            if let Err((at, failure)) = outcome {
                let on = self.session.place.name();
                if failure.is_fatal() {
                    return Err(failure.into_error(on));
                }
                self.undo()?;
                if let Failure::Meeting { apart, rows } = &failure
                    && is_one_transaction(items)
                    && let Some(Planned::Rows { table, .. }) = plan.get(at)
                {
                    let meeting = first_of_rows(&fit, table, rows);
                    if !meeting.is_empty() {
                        drop((plan, work, held));
                        return self.settle_without(items, &fit, &meeting, apart);
                    }
                }
                let is_done = items.len() > 1 && self.run_otherwise(&work, Some(&failure))?;
                if items.len() > 1 && !is_done {
                    // What is held does not take away anything.
                    let touched = touched(&fit);
                    drop((plan, work, fit, held));
                    let (first, second) = items.split_at(middle(items));
                    // Cut within a transaction, neither half is what the foreign keys hold for.
                    let is_cut = first.last().map(|item| item.transaction)
                        == second.first().map(|item| item.transaction);
                    if !is_cut || self.references.is_part {
                        self.settle_rows(first)?;
                        return self.settle_rows(second);
                    }
                    self.references.is_part = true;
                    self.references.touched = Some(touched);
                    let settled = self.settle_rows(first).and_then(|()| self.settle_rows(second));
                    self.references.is_part = false;
                    self.references.touched = None;
                    return settled;
                }
                if !is_done {
                    let item = items[0];
                    let is_of_data = failure.is_of_data();
                    let violated = self.violated_columns(&failure)?;
                    let misfit =
                        conflict::describe(plan.get(at), failure, violated.as_deref(), item.lsn, on)?;
                    if !is_of_data {
                        return Err(misfit.into_error());
                    }
                    return self.set_item_aside(&item, &misfit, plan.get(at));
                }
            }
            self.remove_settled(&fit)?;
        }
        self.save()?;
        let joined: Vec<&Item<'_>> = held.iter().filter(|item| item.ordinal.is_none()).collect();
        let entries =
            joined.iter().flat_map(|item| quarantine::entries(item.lsn, item.work, None, None)).collect();
        self.note_entries(joined.len(), entries)
    }

    /// Sets changes aside that are known not to fit, and settles the others of the transaction, which need not be cut for it: they may
    /// make room for each other. `meeting` are places in `fit`.
    fn settle_without(
        &mut self,
        items: &[Item<'_>],
        fit: &[Item<'_>],
        meeting: &[usize],
        apart: &Apart,
    ) -> Result<()> {
        let on = self.session.place.name();
        for item in meeting.iter().map(|at| &fit[*at]) {
            let plan = batch::in_order(std::iter::once(item.work), 1);
            let failure = Failure::Meeting { apart: apart.clone(), rows: Vec::new() };
            let misfit = conflict::describe(plan.first(), failure, None, item.lsn, on)?;
            self.set_item_aside(item, &misfit, plan.first())?;
        }
        let is_meeting = |item: &Item<'_>| meeting.iter().any(|at| std::ptr::eq(fit[*at].work, item.work));
        let rest: Vec<Item<'_>> = items.iter().filter(|item| !is_meeting(item)).copied().collect();
        self.settle_rows(&rest)
    }

    fn settle_truncate(&mut self, item: &Item<'_>, tables: &[Arc<Bound>]) -> Result<()> {
        let Some(quarantine) = &mut self.quarantine else { return Ok(()) };
        if quarantine.holds_truncate(tables) {
            quarantine.hold_truncate(tables);
            if item.ordinal.is_none() {
                self.note_entries(1, quarantine::entries(item.lsn, item.work, None, None))?;
            }
            return Ok(());
        }
        let plan = batch::in_order(std::iter::once(item.work), 1);
        if let Err((at, failure)) = self.run(&plan) {
            let on = self.session.place.name();
            if failure.is_fatal() {
                return Err(failure.into_error(on));
            }
            self.undo()?;
            let is_of_data = failure.is_of_data();
            let violated = self.violated_columns(&failure)?;
            let misfit = conflict::describe(plan.get(at), failure, violated.as_deref(), item.lsn, on)?;
            if !is_of_data {
                return Err(misfit.into_error());
            }
            return self.set_item_aside(item, &misfit, None);
        }
        self.write_pending()?;
        let emptied = self.quarantine.as_ref().map(|quarantine| quarantine.emptied_by(tables));
        for table in emptied.into_iter().flatten() {
            let freed = self.quarantine.as_mut().is_some_and(|quarantine| quarantine.free(&table));
            if freed || item.ordinal.is_some() {
                let before = item.ordinal.unwrap_or(i64::MAX);
                self.session.change(
                    sql::flow::DELETE_QUARANTINED_OF_TABLE.text,
                    &[&table.schema, &table.name, &before],
                )?;
            }
        }
        self.remove_settled(std::slice::from_ref(item))?;
        self.save()
    }

    /// The change that does not fit goes into the quarantine, or stays there, and its row is held.
    fn set_item_aside(&mut self, item: &Item<'_>, misfit: &Misfit, planned: Option<&Planned>) -> Result<()> {
        let mapped = match planned {
            Some(Planned::Rows { table, step }) => self.mapped_values(table, step)?,
            _ => None,
        };
        if let Some(quarantine) = &mut self.quarantine {
            match item.work {
                Work::Row { table, change } => quarantine.hold(table, change),
                Work::Truncate { tables } => quarantine.hold_truncate(tables),
            }
            quarantine.count_conflict();
        }
        match item.ordinal {
            None => {
                let entries = quarantine::entries(item.lsn, item.work, Some(misfit), mapped.as_deref());
                self.note_entries(1, entries)
            }
            Some(ordinal) => {
                let Misfit { kind, sqlstate, constraint, message, .. } = misfit;
                self.session.change(
                    sql::flow::UPDATE_QUARANTINED.text,
                    &[&ordinal, kind, sqlstate, constraint, message, &mapped],
                )?;
                self.save()
            }
        }
    }

    /// What was to be written, by table and column, as far as the expressions can be evaluated.
    fn mapped_values(&mut self, table: &Bound, step: &Step) -> Result<Option<String>> {
        let (Step::Insert(rows) | Step::Update(rows) | Step::Move { new: rows, .. }) = step else {
            return Ok(None);
        };
        match rows.first() {
            Some(row) => self.mapped_row(table, row),
            None => Ok(None),
        }
    }

    fn mapped_row(&mut self, table: &Bound, row: &Row) -> Result<Option<String>> {
        let mut mapped = serde_json::Map::new();
        for rule in &table.rules {
            let asked = statement::values(&rule.rule, |column| rule.is_present(row, column));
            match self.query_value(rule, &asked, row) {
                Ok(Some(values)) => {
                    mapped.insert(rule.rule.to.to_string(), values);
                }
                Ok(None) => {}
                // An expression that fails has no value to show; that it fails is in the message.
                Err(failure) if !failure.is_fatal() => self.undo()?,
                Err(failure) => return Err(failure.into_error(self.session.place.name())),
            }
        }
        Ok((!mapped.is_empty()).then(|| serde_json::Value::Object(mapped).to_string()))
    }

    /// What so many changes are to be kept as. Only where nothing that may still be rolled back lies behind the savepoint.
    fn note_entries(&mut self, changes: usize, entries: Vec<Entry>) -> Result<()> {
        let enough = self.quarantine.as_mut().is_some_and(|quarantine| {
            quarantine.count_aside(changes);
            quarantine.note(entries)
        });
        if enough { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> Result<()> {
        let pending = self.quarantine.as_mut().map(Quarantine::take_pending);
        match pending {
            Some(pending) if !pending.is_empty() => {
                quarantine::insert(&mut self.session, &pending)?;
                self.save()
            }
            _ => Ok(()),
        }
    }

    /// Those that came from the quarantine are applied now.
    fn remove_settled(&mut self, items: &[Item<'_>]) -> Result<()> {
        let ordinals: Vec<i64> = items.iter().filter_map(|item| item.ordinal).collect();
        if !ordinals.is_empty() {
            self.session.change(sql::flow::DELETE_QUARANTINED.text, &[&ordinals])?;
        }
        Ok(())
    }
}
