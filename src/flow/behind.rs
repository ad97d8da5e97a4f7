//! Sequences that would give a value again that their column already holds.

use super::sequences::list_sequences;
use crate::error::Result;
use crate::pg::Session;
use crate::sql::{quote_identifier, quote_literal, quote_qualified};

/// One such sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// `public.orders_id_seq`, unquoted.
    pub name: String,
    /// The column's furthest value.
    pub furthest: i64,
    /// The statement that puts it right.
    pub fix: String,
}

/// Those of columns' own sequences that do not cycle. Reads the furthest value of each column, which an index gives.
pub fn list_behind(session: &mut Session) -> Result<Vec<Behind>> {
    let mut behind = Vec::new();
    for sequence in list_sequences(session)?.iter().filter(|sequence| !sequence.cycles) {
        let Some((schema, table, column)) = &sequence.owner else { continue };
        let quoted = quote_qualified(&sequence.schema, &sequence.name);
        let (column, table) = (quote_identifier(column), quote_qualified(schema, table));
        let furthest = if sequence.increment > 0 { "max" } else { "min" };
        // A column that is no number has a sequence for other uses.
        let text = format!(
            "select (select pg_catalog.{furthest}({column}) from {table})::int8, s.last_value, s.is_called from {quoted} as s"
        );
        let Ok(rows) = session.query_text(&text, &[]) else { continue };
        let (Some(furthest), last, called): (Option<i64>, i64, bool) =
            (rows[0].get(0), rows[0].get(1), rows[0].get(2))
        else {
            continue;
        };
        let is_past = if sequence.increment > 0 { furthest > last } else { furthest < last };
        if is_past || (furthest == last && !called) {
            let fix = format!("SELECT setval({}, {furthest});", quote_literal(&quoted));
            behind.push(Behind { name: sequence.display(), furthest, fix });
        }
    }
    Ok(behind)
}
