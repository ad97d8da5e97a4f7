//! Rows that came to a table by a change of their key and could not be made: a large value was not in the stream, and the
//! publisher, asked for it, had the row no more.
//!
//! A later change in the stream takes such a row away, so that nothing is lost. Until then it is missing, and that must not
//! be taken for a conflict. They are noted in the transaction that applies the change, and are so known after a restart.

use super::Applier;
use super::conflict::Failure;
use crate::error::{Error, Result};
use crate::flow::mapping::bound::BoundRule;
use crate::flow::source::change::Row;
use crate::sql;

fn identities(rule: &BoundRule, rows: &[Row]) -> Result<Vec<Vec<u8>>> {
    let identities: Option<Vec<Vec<u8>>> =
        rows.iter().map(|row| rule.identity_of(row).map(Vec::from)).collect();
    identities.ok_or_else(|| Error::Internal {
        message: format!("a row of table \"{}\" came without its identity", rule.rule.from),
    })
}

impl Applier {
    /// Notes that a row is not there.
    pub(super) fn note_unmade(&mut self, rule: &BoundRule, row: &Row) -> std::result::Result<(), Failure> {
        let identities = identities(rule, std::slice::from_ref(row))?;
        let (from, to) = (rule.rule.from.to_string(), rule.rule.to.to_string());
        self.session.change(sql::flow::INSERT_UNMADE.text, &[&from, &to, &identities])?;
        Ok(())
    }

    /// Which of these rows could not be made.
    pub(super) fn find_unmade(
        &mut self,
        rule: &BoundRule,
        rows: &[Row],
    ) -> std::result::Result<Vec<Row>, Failure> {
        let identities = identities(rule, rows)?;
        let (from, to) = (rule.rule.from.to_string(), rule.rule.to.to_string());
        let found = self.session.query(&sql::flow::FIND_UNMADE, &[&from, &to, &identities])?;
        Ok(found.iter().map(|found| rows[found.get::<_, i64>(0) as usize - 1].clone()).collect())
    }

    /// These rows are made by now, or were taken away; how many could not be made.
    pub(super) fn forget_unmade(
        &mut self,
        rule: &BoundRule,
        rows: &[Row],
    ) -> std::result::Result<u64, Failure> {
        let identities = identities(rule, rows)?;
        let (from, to) = (rule.rule.from.to_string(), rule.rule.to.to_string());
        Ok(self.session.change(sql::flow::DELETE_UNMADE.text, &[&from, &to, &identities])?)
    }

    /// The table that they come from was emptied.
    pub(super) fn forget_all_unmade(&mut self, rule: &BoundRule) -> std::result::Result<(), Failure> {
        let (from, to) = (rule.rule.from.to_string(), rule.rule.to.to_string());
        self.session.change(sql::flow::DELETE_ALL_UNMADE.text, &[&from, &to])?;
        Ok(())
    }
}
