//! Items of pgoutput's messages, with the relations that their rows are of.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;
use postgres::types::PgLsn;

use super::binary::{self, Portable};
use super::change::{Change, Relation, RelationColumn, RowChange};
use super::pgoutput::{self, Message, Tuple};
use super::reader::{Item, Outlet, marker};
use crate::error::{Error, Result};
use crate::flow::Xid;

/// A logical message of this prefix makes its transaction temporary: nothing of it is applied.
pub const SCRATCH_PREFIX: &str = "pgdetour.scratch";

/// Makes items of pgoutput's messages.
#[derive(Default)]
pub(super) struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
    last_end: u64,
    /// Values come in binary, of which these may.
    portable: Option<Portable>,
}

impl Decoder {
    /// Whether values come in binary from now on, and which may then.
    pub(super) fn expect_binary(&mut self, portable: Option<Portable>) {
        self.portable = portable;
    }

    /// The end of the last commit.
    pub(super) fn last_end(&self) -> PgLsn {
        self.last_end.into()
    }

    /// Puts what a message says into the outlet.
    pub(super) fn take(&mut self, body: &Bytes, outlet: &mut Outlet) -> Result<()> {
        let message = pgoutput::decode(body).map_err(|bad| malformed(&bad.to_string()))?;
        let item = match message {
            Message::Begin { final_lsn, xid } => {
                Item::Begin { xid: Xid::Low(xid), commit_lsn: final_lsn.into() }
            }
            Message::Commit { end_lsn, committed_at } => {
                outlet.note_time(committed_at);
                self.last_end = end_lsn;
                Item::Commit { end_lsn: end_lsn.into() }
            }
            Message::Origin { name } => Item::Origin { name: name.to_owned() },
            Message::Logical { transactional: true, prefix: SCRATCH_PREFIX } => Item::Scratch,
            Message::Type | Message::Logical { .. } => return Ok(()),
            Message::Relation(relation) => {
                if let Some(portable) = &self.portable {
                    let is_portable = |column: &RelationColumn| portable.has(column.type_oid);
                    if !relation.columns.iter().all(is_portable) {
                        return Err(binary::misfit());
                    }
                }
                // The same description again keeps its identity, and with it what the applier knows about it.
                if self.relations.get(&relation.id).is_none_or(|known| **known != relation) {
                    self.relations.insert(relation.id, Arc::new(relation));
                }
                return Ok(());
            }
            Message::Insert { relation, new } => {
                let relation = self.relation(relation, &[Some(&new)])?;
                let new = new.to_row(body);
                if relation.schema == "pgdetour" {
                    match marker(&relation, &new) {
                        Some(item) => item,
                        None => return Ok(()),
                    }
                } else {
                    Item::Change(Change::Row { relation, change: RowChange::Insert { new } })
                }
            }
            Message::Update { relation, old, new } => {
                let relation = self.relation(relation, &[old.as_ref(), Some(&new)])?;
                let change =
                    RowChange::Update { old: old.map(|old| old.to_row(body)), new: new.to_row(body) };
                Item::Change(Change::Row { relation, change })
            }
            Message::Delete { relation, old } => {
                let relation = self.relation(relation, &[Some(&old)])?;
                Item::Change(Change::Row { relation, change: RowChange::Delete { old: old.to_row(body) } })
            }
            Message::Truncate { relations } => {
                let relations = relations.into_iter().map(|id| self.relation(id, &[]));
                Item::Change(Change::Truncate { relations: relations.collect::<Result<_>>()? })
            }
        };
        outlet.push(item);
        Ok(())
    }

    /// The relation of this oid, whose columns the rows must have.
    fn relation(&self, id: u32, rows: &[Option<&Tuple<'_>>]) -> Result<Arc<Relation>> {
        let relation =
            self.relations.get(&id).ok_or_else(|| malformed(&format!("relation {id} was not described")))?;
        for row in rows.iter().flatten() {
            if row.columns() != relation.columns.len() {
                let (found, expected) = (row.columns(), relation.columns.len());
                let message =
                    format!("a row of \"{}\" has {found} columns, not {expected}", relation.display());
                return Err(malformed(&message));
            }
        }
        Ok(Arc::clone(relation))
    }
}

fn malformed(message: &str) -> Error {
    Error::Internal { message: format!("the stream of changes is malformed: {message}") }
}
