//! What comes behind something that is set aside waits there, too, though the flow is to stop at what does not fit: tried again later,
//! the older change would else undo the newer one.

use super::Applier;
use super::batch::{Transaction, Work};
use super::quarantine::{self, Entry};
use crate::error::Result;
use crate::flow::mapping::TableName;
use crate::sql;

/// What is to be noted once the other changes are applied.
#[derive(Default)]
pub(super) struct Waiting {
    entries: Vec<Entry>,
    /// Tables that were emptied: what waits of them is past.
    emptied: Vec<TableName>,
}

impl Applier {
    /// The changes of these transactions, without those of rows that are held, which are to wait.
    pub(super) fn without_waiting<'a>(
        &mut self,
        transactions: &'a [Transaction],
    ) -> (Vec<&'a Work>, Waiting) {
        let all = transactions.iter().flat_map(|one| one.work.iter().map(move |work| (one.end_lsn, work)));
        let mut waiting = Waiting::default();
        let Some(quarantine) = self.quarantine.as_mut().filter(|quarantine| !quarantine.holds_nothing())
        else {
            return (all.map(|(_, work)| work).collect(), waiting);
        };
        let mut rest = Vec::new();
        for (lsn, work) in all {
            match work {
                Work::Row { table, change } if quarantine.holds(table, change) => {
                    quarantine.hold(table, change);
                    waiting.entries.extend(quarantine::entries(lsn, work, None, None));
                }
                Work::Truncate { tables } if quarantine.holds_truncate(tables) => {
                    quarantine.hold_truncate(tables);
                    waiting.entries.extend(quarantine::entries(lsn, work, None, None));
                }
                Work::Truncate { tables } => {
                    for table in quarantine.emptied_by(tables) {
                        if quarantine.free(&table) {
                            waiting.entries.retain(|entry| !entry.is_of(&table));
                            waiting.emptied.push(table);
                        }
                    }
                    rest.push(work);
                }
                Work::Row { .. } => rest.push(work),
            }
        }
        (rest, waiting)
    }

    /// The other changes are applied.
    pub(super) fn note_waiting(&mut self, waiting: Waiting) -> Result<()> {
        for table in waiting.emptied {
            self.session.change(
                sql::flow::DELETE_QUARANTINED_OF_TABLE.text,
                &[&table.schema, &table.name, &i64::MAX],
            )?;
        }
        quarantine::insert(&mut self.session, &waiting.entries)
    }

    /// They are not, and are tried in smaller sets.
    pub(super) fn look_again_who_waits(&mut self) -> Result<()> {
        let Some(quarantine) = self.quarantine.as_mut().filter(|quarantine| !quarantine.holds_nothing())
        else {
            return Ok(());
        };
        quarantine.forget();
        quarantine.load(&mut self.session)
    }
}
