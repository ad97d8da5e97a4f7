//! The subscriber's transaction: begun, saved, committed with how far the flow is, or given up.

use std::time::Instant;

use postgres::error::SqlState;
use postgres::types::PgLsn;

use super::Applier;
use super::batch::{self, Transaction};
use super::quarantine::Quarantine;
use crate::error::{ALTERED, Error, Result};
use crate::sql;

impl Applier {
    /// Gives up the open transaction, if there is one.
    pub fn roll_back(&mut self) {
        self.roll_back_express();
        if self.open {
            // On failure the session is lost, which rolls back as well.
            let _ = self.session.client().batch_execute("rollback");
            self.open = false;
            self.open_changes = 0;
            self.written.clear();
            self.references.forget();
            self.stages.undo();
            if let Some(quarantine) = &mut self.quarantine {
                quarantine.forget();
            }
        }
    }

    pub(super) fn batch_execute(&mut self, text: &str, doing: &str) -> Result<()> {
        let on = self.session.place.name();
        self.round_trips += 1;
        self.session.client().batch_execute(text).map_err(|error| Error::sql(doing, on, &error))
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        if !self.open {
            let text = "begin; set constraints all deferred; savepoint pgdetour";
            let began = Instant::now();
            self.batch_execute(text, "begin to apply changes")?;
            self.round_trip = self.round_trip.min(began.elapsed());
            self.open = true;
            if let Some(quarantine) = &mut self.quarantine {
                quarantine.load(&mut self.session)?;
            }
        }
        Ok(())
    }

    /// Keeps what was applied since the savepoint whatever happens to what follows.
    pub(super) fn save(&mut self) -> Result<()> {
        self.batch_execute("release savepoint pgdetour; savepoint pgdetour", "set a savepoint")
    }

    pub(super) fn commit(&mut self, transactions: &[Transaction]) -> Result<()> {
        self.commit_behind("", transactions)
    }

    /// Commits transactions in which nothing is to be applied, such as a marker's, for which clients may be waiting: in one round
    /// trip, with no transaction open before.
    pub(super) fn commit_alone(&mut self, transactions: &[Transaction]) -> Result<()> {
        self.open = !transactions.is_empty();
        self.commit_behind("begin;\n", transactions)
    }

    fn commit_behind(&mut self, before: &str, transactions: &[Transaction]) -> Result<()> {
        let Some(last) = transactions.last() else { return Ok(()) };
        let (script, changes) = self.commit_script(transactions);
        self.finish(&format!("{before}{script}"))?;
        self.changes += changes;
        self.applied = Some(last.end_lsn);
        Ok(())
    }

    /// What commits transactions that are applied, and notes that they are; how many changes there were.
    pub(super) fn commit_script(&self, transactions: &[Transaction]) -> (String, u64) {
        let end = transactions.last().map_or(PgLsn::from(0), |last| last.end_lsn);
        let mut script = String::new();
        for marker in transactions.iter().flat_map(|transaction| &transaction.markers) {
            let variables =
                [("id", marker.id.as_str()), ("flow", self.flow), ("written_at", &marker.written_at)];
            script.push_str(&sql::flow::STORE_MARKER.with(&variables));
            script.push_str(";\n");
        }
        let aside = self.quarantine.as_ref().map_or(0, Quarantine::open_aside);
        let changes = self.open_changes
            + transactions.iter().map(|transaction| transaction.work.len() as u64).sum::<u64>()
            - aside;
        let mut written = self.written.clone();
        written
            .extend(transactions.iter().flat_map(|transaction| batch::targets(&transaction.work)).cloned());
        if let Some(guard) = self.definitions.refuse_altered(written.iter()) {
            script.push_str(&guard);
            script.push_str(";\n");
        }
        script.push_str(&sql::flow::RECORD_PROGRESS.with(&[
            ("flow", self.flow),
            ("detour", &self.detour),
            ("lsn", &end.to_string()),
            ("transactions", &transactions.len().to_string()),
            ("changes", &changes.to_string()),
        ]));
        script.push_str(";\ncommit");
        (script, changes)
    }

    /// Ends the open transaction with a script that commits it.
    pub(super) fn finish(&mut self, script: &str) -> Result<()> {
        let committed = self.batch_execute(script, "commit applied changes").map_err(altered);
        if committed.is_err() {
            self.roll_back();
        }
        committed?;
        self.open = false;
        self.open_changes = 0;
        self.written.clear();
        self.stages.commit();
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.keep();
        }
        Ok(())
    }
}

/// What [`ALTERED`] says.
fn altered(error: Error) -> Error {
    match error {
        Error::Sql { on, cause, .. }
            if cause.is(&SqlState::INVALID_TEXT_REPRESENTATION) && cause.message.contains(" was altered") =>
        Error::Refused {
            kind: ALTERED,
            message: format!("a table of the {on} was altered while changes were applied to it"),
            detail: Some(cause.message),
            hint: "Nothing of them was kept. Run the same command again, which maps them to the table as it is now.".into(),
        },
        other => other,
    }
}
