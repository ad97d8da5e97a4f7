//! The snapshots under which a table is read in pieces: a row that an UPDATE moves while they are read, from what is left into
//! what is done, is in one of them, once.

use std::sync::{Mutex, PoisonError};

use super::Job;
use crate::error::{Doing as _, Error, Result};
use crate::pg::dump::export_snapshot;
use crate::pg::{Server, Session};
use crate::sql::quote_literal;

/// Those of a pair: of its source, and of its target. A side that is read in one piece needs none.
///
/// They are kept from the first piece to the last one, and hold back vacuum as long as the copy of the table does. No lock is kept
/// with them: an ALTER that waited for it would have all others wait behind it.
pub(super) struct Snapshots {
    source: Option<Snapshot>,
    target: Option<Snapshot>,
}

impl Snapshots {
    /// Takes them for as many pieces of each side, at about the same time: what is written between makes buckets differ.
    pub(super) fn take(job: &Job, (of_source, of_target): (usize, usize)) -> Result<Snapshots> {
        let keep = |server: &Server, pieces| (pieces > 1).then(|| server.connect()).transpose();
        let (source, target) = (keep(job.source, of_source)?, keep(job.target, of_target)?);
        Ok(Snapshots {
            source: source.map(Snapshot::of).transpose()?,
            target: target.map(Snapshot::of).transpose()?,
        })
    }

    /// The one under which a part is read, of which 0 is the source's table.
    pub(super) fn of(&self, part: usize) -> Option<&Snapshot> {
        if part == 0 { self.source.as_ref() } else { self.target.as_ref() }
    }
}

/// Reads several times under one snapshot of the session's own.
pub(super) fn read_at_once<T>(
    session: &mut Session,
    work: impl FnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    // Not read-only: a filter or an expression may call what writes.
    session.ask_script("begin isolation level repeatable read")?;
    match work(session) {
        Ok(found) => session.ask_script("commit").map(|_| found),
        Err(error) => {
            // The first failure is the one to report; a lost session has rolled back by itself.
            let _ = session.ask_script("rollback");
            Err(error)
        }
    }
}

/// One that other sessions of its server read under as long as it is kept.
pub(super) struct Snapshot {
    keeper: Mutex<Session>,
    name: String,
}

impl Snapshot {
    fn of(mut keeper: Session) -> Result<Snapshot> {
        let name = export_snapshot(&mut keeper)?;
        Ok(Snapshot { keeper: Mutex::new(keeper), name })
    }

    /// The statement that has a transaction read under it.
    pub(super) fn adoption(&self) -> String {
        format!("set transaction snapshot {}", quote_literal(&self.name))
    }

    /// Reads under it.
    pub(super) fn read<T>(
        &self,
        session: &mut Session,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        read_at_once(session, |session| {
            session.ask_script(&self.adoption())?;
            work(session)
        })
    }

    /// Why the session that keeps it is gone, if it is: others are only told that there is no such snapshot.
    pub(super) fn loss(&self) -> Option<Error> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let there = keeper.query_text("select", &[]);
        there.doing(|| "keep the snapshot under which tables are compared".to_owned()).err()
    }
}
