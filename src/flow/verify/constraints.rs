//! What the constraints of a side say of rows that are made equal there: one refuses a row at once, and others nothing looks after
//! where triggers do not fire.

use super::{Difference, Pair};
use crate::error::{Error, Result, ServerError};
use crate::flow::apply::conflict::{Apart, Failure};
use crate::flow::apply::references::References;
use crate::flow::mapping::foreign_key::list_foreign_keys;
use crate::flow::mapping::{Mapping, TableName};
use crate::pg::Session;
use crate::pg::catalog::facts::may_set_replica_role;
use crate::phase::Side;

/// The kind of conflict in which a row lacks the one that it refers to.
pub const FOREIGN_KEY: &str = "foreign_key";

/// What rows of the source, of tables that a mapping leads to, violate by now, though all of them are as the target has them: foreign
/// keys in both directions, and what keeps rows apart at the end of a transaction only.
pub fn find_violated(
    source: &mut Session,
    mapping: &Mapping,
    is_one: &dyn Fn(&TableName) -> bool,
) -> Result<Option<Error>> {
    if !may_set_replica_role(source)? {
        // They were looked at with each row.
        return Ok(None);
    }
    let references = References::read(source, mapping)?;
    let mut violated = Vec::new();
    for (failure, question) in references.ask_of_all(is_one) {
        if !source.query_text(&question, &[])?.is_empty() {
            violated.push(failure);
        }
    }
    Ok(unfit(&violated, source.place.name()))
}

fn unfit(violated: &[Failure], on: &str) -> Option<Error> {
    let told: Vec<(&'static str, &str, &str, &str)> = violated
        .iter()
        .filter_map(|failure| match failure {
            Failure::Orphan { constraint, of } => {
                Some((FOREIGN_KEY, "23503", constraint.as_str(), of.as_str()))
            }
            Failure::Meeting { apart: Apart { constraint, of, is_exclusion: true }, .. } => {
                Some(("exclusion", "23P01", constraint, of))
            }
            Failure::Meeting { apart: Apart { constraint, of, .. }, .. } => {
                Some(("unique", "23505", constraint, of))
            }
            _ => None,
        })
        .collect();
    let (kind, sqlstate, _, of) = *told.first()?;
    let what = if kind == FOREIGN_KEY { "refer to rows that are missing" } else { "meet each other" };
    let one = |(_, sqlstate, constraint, of): &(&str, &str, &str, &str)| {
        format!("SQLSTATE {sqlstate}, constraint \"{constraint}\" of \"{of}\"")
    };
    Some(Error::Conflict {
        kind,
        sqlstate: Some(sqlstate.to_owned()),
        message: format!("rows of \"{of}\" {what} on {on}, where all are as the target has them"),
        detail: Some(told.iter().map(one).collect::<Vec<_>>().join("; ")),
        hint: "Insert the rows that are referred to, or correct on the target, or there, the rows in the way, and run the same command \
               again."
            .into(),
    })
}

/// The conflict of a row that the other side refuses, as replay tells it; any other error as it is.
pub(super) fn refused(pair: &Pair, row: &Difference, serving: Side, error: Error) -> Error {
    let name = pair.name();
    let (on, cause) = match error {
        Error::Sql { on, cause, .. } if cause.is_of_evaluation() => (on, cause),
        Error::Sql { on, cause, .. } => {
            return Error::Sql { action: format!("repair table \"{name}\""), on, cause };
        }
        other => return other,
    };
    let mut detail = vec![format!("Table \"{name}\"")];
    if !pair.shape.key.is_empty() {
        let values: Vec<&str> = row.key.iter().map(|value| value.as_deref().unwrap_or("null")).collect();
        detail.push(format!("key ({})=({})", pair.shape.key.join(", "), values.join(", ")));
    }
    detail.extend(cause.sqlstate.iter().map(|code| format!("SQLSTATE {code}")));
    match &cause.constraint {
        Some(constraint) => detail.push(format!("constraint \"{constraint}\"")),
        None => detail.push(cause.without_value().to_owned()),
    }
    let hint = cause.search_path_hint().unwrap_or_else(|| {
        format!(
            "Correct the row on the {serving}, or what refuses it on {on}, and run the same command again."
        )
    });
    Error::Conflict {
        kind: kind_of(&cause),
        message: format!("the {serving}'s row of table \"{name}\" does not fit on {on}"),
        detail: Some(detail.join(", ")),
        hint,
        sqlstate: cause.sqlstate,
    }
}

/// Whether a row lacks the one that it refers to, or is referred to by one that would.
pub(super) fn is_of_foreign_key(error: &Error) -> bool {
    matches!(error, Error::Sql { cause, .. } if kind_of(cause) == FOREIGN_KEY)
}

/// A row that a foreign key refuses, as long as another table is not made equal, too.
pub(super) struct Refusal {
    constraint: Option<String>,
    error: Error,
}

impl Refusal {
    pub(super) fn new(pair: &Pair, row: &Difference, serving: Side, error: Error) -> Refusal {
        let constraint = match &error {
            Error::Sql { cause, .. } => cause.constraint.clone(),
            _ => None,
        };
        Refusal { constraint, error: refused(pair, row, serving, error) }
    }

    /// The conflict, with the other table named, which has to be corrected if it cannot be made equal either. `into` is what refuses.
    pub(super) fn with_other_table(self, pair: &Pair, serving: Side, into: &mut Session) -> Result<Error> {
        let Refusal {
            constraint: Some(constraint),
            error: Error::Conflict { kind, sqlstate, message, detail, hint },
        } = self
        else {
            return Ok(self.error);
        };
        let rule = &pair.rules[0];
        let written = match serving {
            Side::Source => (&rule.from, &rule.from_root),
            Side::Target => (&rule.to, &rule.to_root),
        };
        let is_written = |table: &TableName| table == written.0 || Some(table) == written.1.as_ref();
        let mut keys = list_foreign_keys(into)?;
        keys.retain(|key| key.name == constraint);
        let on = into.place;
        let hint = if let Some(key) = keys.iter().find(|key| is_written(&key.table)) {
            format!(
                "The row that it refers to is missing in table \"{}\" on {on}: insert it there, or correct the {serving}'s row, and run \
                 the same command again.",
                key.referenced
            )
        } else if let Some(key) = keys.iter().find(|key| is_written(&key.referenced)) {
            format!(
                "Rows of table \"{}\" on {on} refer to it: delete or correct them there, or correct the {serving}'s row, and run the \
                 same command again.",
                key.table
            )
        } else {
            hint
        };
        Ok(Error::Conflict { kind, sqlstate, message, detail, hint })
    }
}

/// The conflict of a table whose rows the mapping makes nothing of; any other error as it is.
pub(super) fn unreadable(pair: &Pair, error: Error) -> Error {
    match error {
        Error::Sql { on, cause, .. } if cause.is_of_evaluation() => Error::Conflict {
            kind: kind_of(&cause),
            message: format!("a row of table \"{}\" cannot be compared", pair.name()),
            detail: Some(format!("{} (SQLSTATE {} on {on})", cause.without_value(), cause.sqlstate.as_deref().unwrap_or("?"))),
            hint: cause.search_path_hint().unwrap_or_else(|| {
                "Change the expression of its [[map]], or correct the row, and run the same command again.".into()
            }),
            sqlstate: cause.sqlstate,
        },
        other => other,
    }
}

fn kind_of(cause: &ServerError) -> &'static str {
    match cause.sqlstate.as_deref() {
        Some("23505") => "unique",
        Some("23502") => "not_null",
        // The latter of RESTRICT, from PostgreSQL 18 on.
        Some("23503" | "23001") => FOREIGN_KEY,
        Some("23514") => "check",
        Some("23P01") => "exclusion",
        Some(code) if code.starts_with("22") => "conversion",
        _ => "refused",
    }
}
