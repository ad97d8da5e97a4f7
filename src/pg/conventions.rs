//! How a session writes and reads values where their text leaves a choice.

use crate::error::Result;
use crate::pg::Session;
use crate::sql::{self, quote_literal};

/// Settings that decide what a cast or an expression makes of a value. Dates are written in ISO's form in any case: only the order in
/// which others are read is a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conventions {
    /// `TimeZone`.
    pub time_zone: String,
    /// The second half of `DateStyle`: MDY, DMY or YMD.
    pub date_order: String,
    /// `IntervalStyle`.
    pub interval_style: String,
    /// `bytea_output`.
    pub bytea_output: String,
}

impl Default for Conventions {
    /// Those of sessions that evaluate nothing of the users'.
    fn default() -> Self {
        Conventions {
            time_zone: "UTC".into(),
            date_order: "MDY".into(),
            interval_style: "postgres".into(),
            bytea_output: "hex".into(),
        }
    }
}

impl Conventions {
    /// Those of sessions in the database that were told no others: the database's, our role's or the server's.
    pub fn of_database(session: &mut Session) -> Result<Conventions> {
        let row = session.query_one(&sql::catalog::READ_CONVENTIONS, &[])?;
        Ok(Conventions {
            time_zone: row.get("time_zone"),
            date_order: row.get("date_order"),
            interval_style: row.get("interval_style"),
            bytea_output: row.get("bytea_output"),
        })
    }

    /// Names and values of the settings, in the order in which `pin_session.sql` takes them.
    pub(super) fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("TimeZone", self.time_zone.clone()),
            ("DateStyle", format!("ISO, {}", self.date_order)),
            ("IntervalStyle", self.interval_style.clone()),
            ("bytea_output", self.bytea_output.clone()),
        ]
    }

    /// The statement that gives them to the session that runs it.
    pub fn statement(&self) -> String {
        let rows = self.settings().map(|(name, value)| format!("('{name}', {})", quote_literal(&value)));
        let rows = rows.join(", ");
        format!(
            "select pg_catalog.set_config(v.name, v.value, false) from (values {rows}) as v (name, value)"
        )
    }

    /// Gives them to a session that is open.
    pub fn adopt(&self, session: &mut Session) -> Result<()> {
        session.query_text(&self.statement(), &[]).map(drop)
    }
}
