//! Counting what restrictions would refuse, on the side that serves, before anybody is refused anything.

use super::{Purpose, RestrictionOutcome, Rule, TriggerPlan, drop_idle_schema};
use crate::error::{Doing as _, Result};
use crate::pg::{Session, record};
use crate::sql;

/// From this size on, what was observed is summed up when somebody asks for it. The counting ends at 64 MB.
const SUM_UP_BYTES: i64 = 8 << 20;

/// Statements of one kind, on one table, by one role and application, that a restriction would have refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Observed {
    /// `public.users`, unquoted.
    pub table: String,
    /// `insert`, `update`, `delete`, `truncate`.
    pub statement: String,
    /// Login role.
    pub role: String,
    /// As the client calls itself; may be empty.
    pub application_name: String,
    /// How many.
    pub count: i64,
    /// When the first was, in UTC (ISO 8601).
    pub first: String,
    /// When the last was.
    pub last: String,
}

/// Makes the counting exactly what `rules` say; tables whose triggers were changed, and all that is observed now.
/// `changed` becomes true with the first table, so that it is known after a failure, too.
pub fn observe(session: &mut Session, rules: &[Rule], changed: &mut bool) -> Result<RestrictionOutcome> {
    let plan = TriggerPlan::new(session, rules)?;
    if !plan.is_empty() && !session.query_one(&sql::restrict::HAS_OBSERVATION, &[])?.get::<_, bool>("whole") {
        session
            .atomically(|session| record::make_objects(session, &[&sql::restrict::CREATE_OBSERVATION]))
            .doing(|| "create function pgdetour.observe".into())?;
    }
    let generation = session.query_one(&sql::restrict::HAS_OBSERVATION, &[])?.get("generation");
    plan.carry_out(session, Purpose::Observe { generation }, changed)
}

/// Counts no more, and keeps what was counted; the tables that were observed. `changed` as for [`observe`].
pub fn end_counting(session: &mut Session, changed: &mut bool) -> Result<Vec<String>> {
    let plan = TriggerPlan::new(session, &[])?;
    Ok(plan.carry_out(session, Purpose::Observe { generation: 0 }, changed)?.changed)
}

/// Takes the counting away, and what was counted; the tables that were observed. `changed` as for [`observe`].
pub fn stop_observing(session: &mut Session, changed: &mut bool) -> Result<Vec<String>> {
    let stopped = end_counting(session, changed)?;
    if session.query_one(&sql::restrict::HAS_OBSERVATION, &[])?.get("present") {
        session
            .atomically(|session| session.change_script(sql::restrict::DROP_OBSERVATION.text))
            .doing(|| "drop function pgdetour.observe".into())?;
    }
    drop_idle_schema(session)?;
    Ok(stopped)
}

/// Whether statements are counted here, or were.
pub fn is_observed(session: &mut Session) -> Result<bool> {
    Ok(session.query_one(&sql::restrict::HAS_OBSERVATION, &[])?.get("present"))
}

/// What was counted until now; none when nothing is observed here.
pub fn list_observed(session: &mut Session) -> Result<Option<Vec<Observed>>> {
    let row = session.query_one(&sql::restrict::HAS_OBSERVATION, &[])?;
    if !row.get::<_, bool>("whole") {
        return Ok(None);
    }
    if row.get::<_, i64>("bytes") > SUM_UP_BYTES && !session.is_dry() {
        session.change(sql::restrict::SUM_OBSERVATIONS.text, &[])?;
        session.change_script("vacuum pgdetour.observation")?;
    }
    let rows = session.query(&sql::restrict::LIST_OBSERVED, &[])?;
    let observed = rows.iter().map(|row| Observed {
        table: row.get("table_name"),
        statement: row.get("verb"),
        role: row.get("role_name"),
        application_name: row.get("application_name"),
        count: row.get("statements"),
        first: row.get("first_at"),
        last: row.get("last_at"),
    });
    Ok(Some(observed.collect()))
}
