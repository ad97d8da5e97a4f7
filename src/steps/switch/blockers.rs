//! Who is in the way of a switch that was over its budget.

use postgres::error::SqlState;
use serde_json::json;

use crate::error::{Error, ServerError};
use crate::pg::server::LOCK_TIMEOUT;
use crate::pg::sessions::{self, GeneralSession};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::switch::Switch;
use crate::steps::switch::lookout::Lookout;

impl Run {
    /// Adds to a wait that was over its budget which open transactions of general roles are older than the hold.
    pub fn name_blockers(&mut self, side: Side, error: Error) -> Error {
        if !matches!(error, Error::TimedOut { .. }) {
            return error;
        }
        let held = self.held_since.map_or(0.0, |held| held.elapsed().as_secs_f64());
        let roles = self.config.general_roles(side);
        // Without an answer the error stays as it is.
        let mut blockers = sessions::list_sessions(self.session(side), &roles).unwrap_or_default();
        blockers.retain(|session| session.transaction_seconds.is_some_and(|seconds| seconds >= held));
        self.blame(error, &blockers)
    }

    /// Adds to it who keeps the changes from being applied on the side that takes over: an administrator's lock, say. A
    /// statement there that has waited for as long as it may was over a bound as well.
    pub fn name_apply_blockers(&mut self, switch: Switch, error: Error) -> Error {
        let to = switch.to();
        let error = match error {
            Error::Sql { action, on, cause } if on == to.name() && is_of_waiting(&cause) => Error::TimedOut {
                what: format!("waiting for a lock to {action} on {on}"),
                budget: LOCK_TIMEOUT,
                detail: Some(cause.to_string()),
                hint: "Have the other session end its transaction, then run the same command again.".into(),
            },
            other => other,
        };
        if !matches!(error, Error::TimedOut { .. }) || self.report.is_some() {
            return error;
        }
        let mut blockers = self.lookout.as_ref().map(Lookout::blockers).unwrap_or_default();
        // Clients may be waiting: a server that takes long to answer is not asked.
        if blockers.is_empty() && self.answers.is_quick(to) {
            let asked = self.answering(to).map(sessions::list_apply_blockers);
            blockers = asked.and_then(Result::ok).unwrap_or_default();
        }
        self.blame(error, &blockers)
    }

    /// Adds to a wait that was over its budget who is to blame.
    pub fn blame(&mut self, error: Error, blockers: &[GeneralSession]) -> Error {
        let Error::TimedOut { what, budget, detail, hint } = error else { return error };
        let named: Vec<String> = blockers.iter().map(ToString::to_string).collect();
        let detail: Vec<String> =
            Some(named.join("; ")).filter(|named| !named.is_empty()).into_iter().chain(detail).collect();
        if !blockers.is_empty() {
            self.report = Some(json!({ "blockers": blockers }));
        }
        let detail = Some(detail.join("; ")).filter(|text| !text.is_empty());
        // No session can end it.
        let prepared = blockers.iter().find_map(GeneralSession::ended_by);
        let hint =
            prepared.map_or(hint, |statements| format!("Run {statements}, then run the same command again."));
        Error::TimedOut { what, budget, detail, hint }
    }
}

/// It waited for a lock until it had to give up.
fn is_of_waiting(cause: &ServerError) -> bool {
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].iter().any(|code| cause.is(code))
}
