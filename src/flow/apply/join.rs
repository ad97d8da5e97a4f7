//! Rows that fill columns of rows that another rule makes: they are filled in, changed and emptied, never inserted or deleted.
//!
//! A foreign key of the publisher, checked with each statement, makes sure that the row is there as long as it is filled:
//! what fills comes behind what makes, and when the row is gone there is nothing to empty.

use super::Applier;
use super::batch::Step;
use super::conflict::Failure;
use super::statement;
use crate::flow::mapping::bound::{Bound, BoundRule};
use crate::flow::source::change::Row;

impl Applier {
    /// [`Step`] for a rule that fills.
    pub(super) fn apply_filling(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        step: &Step,
    ) -> std::result::Result<(), Failure> {
        match step {
            Step::Insert(rows) => self.execute_set(rule, rows, statement::fill),
            Step::Update(rows) => self.update(table, rule, rows),
            Step::Delete(rows) => self.empty(rule, rows),
            Step::Move { old, new } => {
                old.iter().zip(new).try_for_each(|(old, new)| self.fill_another(table, rule, old, new))
            }
        }
    }

    /// Fills columns of another row than before.
    fn fill_another(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        old: &Row,
        new: &Row,
    ) -> std::result::Result<(), Failure> {
        let mut missing = rule.rule.all_reads();
        missing.retain(|column| !rule.is_present(new, *column));
        let mut rows = vec![new.clone()];
        if !missing.is_empty() {
            // What the stream left out is in the row that was filled before. Where the publisher has it no more, a
            // later change empties this one, too.
            let (found, gone) = self.fetch(table, rule, &missing, &rows)?;
            rows = if found.is_empty() { gone } else { found };
        }
        self.empty(rule, std::slice::from_ref(old))?;
        let is_present = |column| rows.iter().all(|row| rule.is_present(row, column));
        self.execute_set(rule, &rows, |rule, from| statement::update(rule, from, is_present))
    }

    fn empty(&mut self, rule: &BoundRule, rows: &[Row]) -> std::result::Result<(), Failure> {
        match self.execute_set(rule, rows, statement::empty) {
            // The row itself is gone already.
            Err(Failure::Rows { found, expected }) if found < expected => Ok(()),
            other => other,
        }
    }
}
