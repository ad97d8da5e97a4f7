//! Sequences: their values go with traffic, never backwards.

use crate::error::{Doing as _, Result};
use crate::pg::Session;
use crate::sql::{self, quote_qualified};

/// How many sequences are read in one statement.
const CHUNK: usize = 400;

/// The sequences that are to be carried, listed before clients are held.
#[derive(Debug, Clone, Default)]
pub struct SequencePlan {
    both: Vec<(String, String)>,
    missing: Vec<String>,
}

/// What became of each.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    missing: Vec<String>,
}

impl Carried {
    /// Sequences that the other side lacks.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

fn list(session: &mut Session) -> Result<Vec<(String, String)>> {
    let rows = session.query(&sql::catalog::LIST_SEQUENCES, &[])?;
    Ok(rows.iter().map(|row| (row.get("schema_name"), row.get("sequence_name"))).collect())
}

/// Lists the sequences that exist on both sides.
pub fn plan(from: &mut Session, to: &mut Session) -> Result<SequencePlan> {
    let there = list(to)?;
    let (both, missing) = list(from)?.into_iter().partition::<Vec<_>, _>(|name| there.contains(name));
    Ok(SequencePlan { both, missing: missing.into_iter().map(|(s, n)| format!("{s}.{n}")).collect() })
}

/// Carries the values over.
pub fn carry(from: &mut Session, to: &mut Session, plan: &SequencePlan) -> Result<Carried> {
    for chunk in plan.both.chunks(CHUNK) {
        let parts: Vec<String> = chunk
            .iter()
            .map(|(schema, name)| {
                let quoted = quote_qualified(schema, name);
                format!("select {}::text as name, last_value, is_called from {quoted}", sql::quote_literal(&quoted))
            })
            .collect();
        let rows = from.query_text(&parts.join(" union all "), &[]).doing(|| "read sequences".into())?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let values: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
        let called: Vec<bool> = rows.iter().map(|row| row.get(2)).collect();
        to.change_returning(sql::flow::SET_SEQUENCES.text, &[&names, &values, &called]).doing(|| "set sequences".into())?;
    }
    Ok(Carried { missing: plan.missing.clone() })
}
