//! What comparing one table has come to.

use std::collections::BTreeMap;

use super::pair::Share;
use super::{Differences, LISTED};
use crate::error::{Error, Result};

/// What was found out about one table.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// `schema.table` on the source.
    pub table: String,
    /// Rows counted on the source; of a sample, those in it.
    pub rows_source: i64,
    /// Rows counted on the target; of a sample, those in it.
    pub rows_target: i64,
    /// No row differs.
    pub equal: bool,
    /// Rows that are on the target alone.
    pub missing_on_source: usize,
    /// Rows that are on the source alone.
    pub missing_on_target: usize,
    /// Rows whose values differ.
    pub different: usize,
    /// Keys of the first differing rows.
    pub keys: Vec<String>,
    /// The first differing rows, and where each differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<DifferentRow>,
    /// Why its rows could not be compared; it counts as not equal, and none of its rows are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Rows that kept changing while they were compared: neither equal nor different can be said of them.
    pub changing: usize,
    /// Rows that were made equal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repaired: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An expression of the mapping, or a function that it calls, fails at a row; or the table is not there.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The side whose server refused: one evaluates what the other cannot.
    pub on: String,
    /// What the server said.
    pub sqlstate: String,
    /// What the server said, without the row's values.
    pub message: String,
    /// What mends it, where the server's words tell.
    #[serde(skip)]
    pub hint: Option<String>,
}

/// A row that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DifferentRow {
    /// The columns of its key, as text; of a table without one, the beginning of the row.
    pub key: BTreeMap<String, Option<String>>,
    /// `different`, `missing_on_source` or `missing_on_target`.
    pub state: String,
    /// Columns whose values differ, by their names on the source.
    pub columns: Vec<String>,
}

impl Comparison {
    /// Of a table whose rows could not be compared because of what its expressions come to; any other error as it is.
    pub(super) fn failed(table: String, error: Error) -> Result<Comparison> {
        let (on, cause) = match error {
            Error::Sql { on, cause, .. } if cause.is_of_evaluation() => (on, cause),
            other => return Err(other),
        };
        let failure = Failure {
            on,
            sqlstate: cause.sqlstate.clone().unwrap_or_default(),
            message: cause.without_value().to_owned(),
            hint: cause.search_path_hint(),
        };
        Ok(Comparison { table, failure: Some(failure), ..Comparison::default() })
    }

    /// Counts further differences.
    pub(super) fn add(&mut self, lasting: &Differences) {
        let missing_on_source = lasting.values().filter(|row| row.source.is_none()).count();
        let missing_on_target = lasting.values().filter(|row| row.target.is_none()).count();
        self.missing_on_source += missing_on_source;
        self.missing_on_target += missing_on_target;
        self.different += lasting.len() - missing_on_source - missing_on_target;
        let room = LISTED.saturating_sub(self.keys.len());
        self.keys.extend(lasting.keys().take(room).cloned());
        self.equal &= lasting.is_empty();
    }

    /// Takes in what was found out about columns that another rule fills in the same rows, or about other rows.
    pub fn merge(&mut self, share: Share, filled: Comparison) {
        if share != Share::Filled {
            self.rows_source += filled.rows_source;
            self.rows_target += filled.rows_target;
        }
        self.equal &= filled.equal;
        self.failure = self.failure.take().or(filled.failure);
        self.missing_on_source += filled.missing_on_source;
        self.missing_on_target += filled.missing_on_target;
        self.different += filled.different;
        self.changing += filled.changing;
        self.keys.extend(filled.keys);
        self.keys.truncate(LISTED);
        self.rows.extend(filled.rows);
        self.rows.truncate(LISTED);
    }
}
