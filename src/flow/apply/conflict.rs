//! The one place where it is decided what becomes of a change that does not fit.

use postgres::error::SqlState;
use postgres::types::PgLsn;

use super::batch::{Planned, Step};
use crate::error::{self, Error, ServerError};
use crate::flow::mapping::bound::Bound;
use crate::flow::source::change::Row;
use crate::phase::Side;

/// Why a step did not have its effect.
pub enum Failure {
    /// The server refused it.
    Server(postgres::Error),
    /// Fewer or more rows were affected than there were changes.
    Rows {
        /// Affected.
        found: u64,
        /// Changes.
        expected: u64,
    },
    /// A row lacks the one that it refers to.
    Orphan {
        /// The foreign key.
        constraint: String,
        /// The table that has it, on the subscriber.
        of: String,
    },
    /// Rows that were written meet others, which what is looked at when a transaction ends does not allow.
    Meeting {
        /// What does not allow it.
        apart: Apart,
        /// The rows, as the publisher has them, where that is known.
        rows: Vec<Row>,
    },
    /// A table was emptied that shares its place on the subscriber with other rows.
    PartialTruncate {
        /// On the publisher.
        from: String,
        /// On the subscriber.
        to: String,
        /// What else is kept there: `those of "public.archive"`.
        beside: String,
    },
    /// Not about data.
    Other(Error),
}

/// What keeps rows apart.
#[derive(Debug, Clone)]
pub struct Apart {
    /// The constraint.
    pub constraint: String,
    /// The table that has it, on the subscriber.
    pub of: String,
    /// It is no unique, but an exclusion constraint.
    pub is_exclusion: bool,
}

impl Apart {
    fn sqlstate(&self) -> &'static str {
        if self.is_exclusion { "23P01" } else { "23505" }
    }

    fn kind(&self) -> &'static str {
        if self.is_exclusion { "exclusion" } else { "unique" }
    }

    fn describe(&self) -> String {
        format!("SQLSTATE {}, constraint \"{}\" of \"{}\"", self.sqlstate(), self.constraint, self.of)
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Failure::Server(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

impl Failure {
    fn class(&self) -> Option<&str> {
        match self {
            Failure::Server(error) => error.code().map(|code| &code.code()[..2]),
            _ => None,
        }
    }

    fn sqlstate(&self) -> Option<&str> {
        match self {
            Failure::Server(error) => error.code().map(postgres::error::SqlState::code),
            _ => None,
        }
    }

    /// A function or trigger of the users' has refused it.
    fn is_raised(&self) -> bool {
        self.sqlstate().is_some_and(error::is_raised)
    }

    /// Two rows may not have the same values: perhaps only on the way.
    pub fn is_of_uniqueness(&self) -> bool {
        matches!(self.sqlstate(), Some("23505" | "23P01"))
    }

    /// Deadlock, serialization failure or a lock that is held, on either side: may go well the next time.
    pub fn is_transient(&self) -> bool {
        match self {
            Failure::Other(error) => TRANSIENT.iter().any(|code| error.is_sqlstate(code)),
            _ => TRANSIENT.iter().any(|code| self.sqlstate() == Some(code.code())),
        }
    }

    /// Not about the data of a change: doing it again in another way would not help.
    pub fn is_fatal(&self) -> bool {
        match self {
            Failure::Server(_) => {
                let is_of_change = matches!(
                    self.class(),
                    Some("21" | "22" | "23" | "27" | "38" | "39" | "42" | "44" | "0A" | "09" | "25" | "54")
                );
                !is_of_change && !self.is_raised()
            }
            Failure::Rows { .. }
            | Failure::Orphan { .. }
            | Failure::Meeting { .. }
            | Failure::PartialTruncate { .. } => false,
            Failure::Other(_) => true,
        }
    }

    /// About this change's values and rows, so that others may fit; not about the definition of a table or about rights,
    /// which the next change would meet as well.
    pub fn is_of_data(&self) -> bool {
        match self {
            Failure::Server(_) => {
                matches!(self.class(), Some("21" | "22" | "23" | "27" | "38" | "39" | "44" | "09" | "54"))
                    || self.is_raised()
            }
            Failure::Rows { .. }
            | Failure::Orphan { .. }
            | Failure::Meeting { .. }
            | Failure::PartialTruncate { .. } => true,
            Failure::Other(_) => false,
        }
    }

    /// Schema and name of the unique index that a row ran into.
    pub fn violated_index(&self) -> Option<(String, String)> {
        let Failure::Server(error) = self else { return None };
        let error = error.as_db_error().filter(|error| error.code().code() == "23505")?;
        Some((error.schema()?.to_owned(), error.constraint()?.to_owned()))
    }

    /// SQLSTATE and constraint, when the server refused.
    fn said(&self) -> (Option<String>, Option<String>) {
        if let Failure::Orphan { constraint, .. } = self {
            return (Some(FOREIGN_KEY_VIOLATION.to_owned()), Some(constraint.clone()));
        }
        if let Failure::Meeting { apart, .. } = self {
            return (Some(apart.sqlstate().to_owned()), Some(apart.constraint.clone()));
        }
        let constraint = match self {
            Failure::Server(error) => error.as_db_error().and_then(|error| error.constraint()),
            _ => None,
        };
        (self.sqlstate().map(str::to_owned), constraint.map(str::to_owned))
    }

    /// The error of a failure that is not a conflict.
    pub fn into_error(self, on: &str) -> Error {
        match self {
            Failure::Server(error) => Error::sql("apply changes", on, &error),
            Failure::Other(error) => error,
            Failure::Rows { found, expected } => {
                Error::Internal { message: format!("{found} of {expected} rows were affected") }
            }
            Failure::Orphan { constraint, of }
            | Failure::Meeting { apart: Apart { constraint, of, .. }, .. } => {
                Error::Internal { message: format!("rows of \"{of}\" violate \"{constraint}\"") }
            }
            Failure::PartialTruncate { from, to, .. } => {
                Error::Internal { message: format!("\"{from}\" cannot be emptied in \"{to}\"") }
            }
        }
    }
}

/// What [`Failure::is_transient`] is about.
const TRANSIENT: [SqlState; 3] =
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
/// The SQLSTATE of what [`Failure::Orphan`] is.
const FOREIGN_KEY_VIOLATION: &str = "23503";

/// A change that does not fit, told for people and for the quarantine.
#[derive(Debug)]
pub struct Misfit {
    /// Machine-readable, such as `update_missing`.
    pub kind: &'static str,
    /// What does not fit where.
    pub message: String,
    /// Table, key, position.
    pub detail: String,
    /// What mends it.
    pub hint: String,
    /// What the server said, when it refused.
    pub sqlstate: Option<String>,
    /// The constraint in the way.
    pub constraint: Option<String>,
}

impl Misfit {
    /// The flow stops there, with an error that names the change.
    pub fn into_error(self) -> Error {
        Error::Conflict {
            kind: self.kind,
            sqlstate: self.sqlstate,
            message: self.message,
            detail: Some(self.detail),
            hint: self.hint,
        }
    }
}

/// What is to be told of a single change that failed; an error of its own when that is not about data.
pub fn describe(
    planned: Option<&Planned>,
    failure: Failure,
    violated: Option<&[String]>,
    commit: PgLsn,
    on: &str,
) -> std::result::Result<Misfit, Error> {
    let Some(Planned::Rows { table, step }) = planned else {
        return undecidable(planned, failure, commit, on);
    };
    let (verb, row) = subject(step);
    let name = table.relation.display();
    let key = row.map_or_else(String::new, |row| table.describe_key(row));
    let targets: Vec<String> = table.rules.iter().map(|rule| rule.rule.to.to_string()).collect();
    let mut detail = vec![format!("Table \"{name}\""), format!("key {key}")];
    if targets.iter().any(|target| *target != name) {
        detail.push(format!("goes to \"{}\" on {on}", targets.join("\", \"")));
    }
    let (sqlstate, constraint) = failure.said();
    let (kind, message, hint) = match &failure {
        Failure::Rows { found: 0, .. }
            if matches!(step, Step::Insert(_))
                && table.rules.iter().any(|rule| rule.rule.fills.is_some()) =>
        {
            (
                "update_missing",
                format!("the row that {verb} table \"{name}\" joins is missing on {on}"),
                "Insert the row, or find out who deleted it, and run the same command again.".to_owned(),
            )
        }
        Failure::Rows { found: 0, .. } if matches!(step, Step::Insert(_)) => (
            "insert_skipped",
            format!("{on} did not take a row of table \"{name}\""),
            "See whether a trigger or a rule of the table suppresses the INSERT.".to_owned(),
        ),
        Failure::Rows { found: 0, .. } if matches!(step, Step::Delete(_)) => (
            "delete_missing",
            format!("the row that {verb} table \"{name}\" removes is missing on {on}"),
            delete_missing_hint(on),
        ),
        Failure::Rows { found: 0, .. } => (
            "update_missing",
            format!("the row that {verb} table \"{name}\" changes is missing on {on}"),
            "Insert the row, or find out who deleted it, and run the same command again.".to_owned(),
        ),
        Failure::Rows { found, .. } => (
            "row_ambiguous",
            format!("{found} rows on {on} match one row of table \"{name}\""),
            "Give the table a unique key, or name one in \"key\" of its [[map]].".to_owned(),
        ),
        Failure::Orphan { constraint, of } => {
            detail.push(format!("SQLSTATE {FOREIGN_KEY_VIOLATION}, constraint \"{constraint}\" of \"{of}\""));
            (
                "foreign_key",
                match step {
                    Step::Delete(_) => format!("{verb} table \"{name}\" removes a row that \"{of}\" still refers to on {on}"),
                    _ if !targets.contains(of) => {
                        format!("{verb} table \"{name}\" takes away what \"{of}\" still refers to on {on}")
                    }
                    _ => format!("{verb} table \"{name}\" refers to a row that is missing on {on}"),
                },
                "Insert the row that is referred to, or correct the rows that refer to it, and run the same command again.".to_owned(),
            )
        }
        Failure::Meeting { apart, .. } => {
            detail.push(apart.describe());
            (
                apart.kind(),
                format!("{verb} table \"{name}\" meets a row that exists on {on}"),
                "Remove or change the row that is in the way there, and run the same command again."
                    .to_owned(),
            )
        }
        Failure::Server(error) => {
            let is_insert = matches!(step, Step::Insert(_));
            let told = of_server(error, table, is_insert, violated, verb, on, &mut detail);
            detail.extend(row_written(step).and_then(|row| {
                missing_label(error, table, row).or_else(|| columns_quoted(error, table, row))
            }));
            told
        }
        Failure::PartialTruncate { .. } | Failure::Other(_) => return Err(failure.into_error(on)),
    };
    detail.push(format!("transaction ending at {commit}"));
    Ok(Misfit { kind, message, detail: detail.join(", "), hint, sqlstate, constraint })
}

/// What becomes of a single change that failed where changes are not set aside.
pub fn decide(
    planned: Option<&Planned>,
    failure: Failure,
    violated: Option<&[String]>,
    commit: PgLsn,
    on: &str,
) -> Error {
    describe(planned, failure, violated, commit, on).map_or_else(|error| error, Misfit::into_error)
}

fn subject(step: &Step) -> (&'static str, Option<&Row>) {
    match step {
        Step::Insert(rows) => ("INSERT into", rows.first()),
        Step::Update(rows) => ("UPDATE of", rows.first()),
        Step::Delete(rows) => ("DELETE from", rows.first()),
        Step::Move { old, .. } => ("UPDATE of", old.first()),
    }
}

/// Only what goes home can be set aside.
fn delete_missing_hint(on: &str) -> String {
    let again = "Find out who deleted the row there, insert it again, and run the same command again";
    if on != Side::Source.name() {
        return format!("{again}.");
    }
    format!(
        "{again}; or, where it is to be missing, have the change set aside by replay.on_conflict = \"quarantine\", and give it up \
         with pgdetour replay --quarantine skip."
    )
}

/// The row as the change leaves it.
fn row_written(step: &Step) -> Option<&Row> {
    match step {
        Step::Insert(rows) | Step::Update(rows) | Step::Move { new: rows, .. } => rows.first(),
        Step::Delete(_) => None,
    }
}

/// Which columns hold an enum's value that the subscriber lacks: a name of the schema, which may be told as a row's other values
/// may not.
fn missing_label(error: &postgres::Error, table: &Bound, row: &Row) -> Option<String> {
    // In the server's language: `invalid input value for enum state: "old"`.
    let said = error.as_db_error().filter(|error| *error.code() == SqlState::INVALID_TEXT_REPRESENTATION)?;
    let (_, label) = said.message().strip_suffix('"')?.split_once(": \"")?;
    let columns = table.enums_with(row, label);
    if columns.is_empty() {
        return None;
    }
    Some(format!("value \"{label}\" of column \"{}\"", columns.join("\", \"")))
}

/// Which columns hold the value that the server quotes: their names alone are told.
fn columns_quoted(error: &postgres::Error, table: &Bound, row: &Row) -> Option<String> {
    let said = error.as_db_error().filter(|error| error.code().code().starts_with("22"))?;
    let value = said.message().split_once('"')?.1.rsplit_once('"')?.0;
    let columns = table.columns_with(row, value);
    (!columns.is_empty()).then(|| format!("column \"{}\"", columns.join("\", \"")))
}

fn of_server(
    error: &postgres::Error,
    table: &Bound,
    is_insert: bool,
    violated: Option<&[String]>,
    verb: &str,
    on: &str,
    detail: &mut Vec<String>,
) -> (&'static str, String, String) {
    let name = table.relation.display();
    let said = ServerError::from(error);
    let sqlstate = said.sqlstate.clone().unwrap_or_default();
    detail.push(format!("SQLSTATE {sqlstate}"));
    if let Some(constraint) = error.as_db_error().and_then(|error| error.constraint()) {
        detail.push(format!("constraint \"{constraint}\""));
    }
    if let Some(column) = error.as_db_error().and_then(|error| error.column()) {
        detail.push(format!("column \"{column}\""));
    }
    let partitioned = lacks_partition(error);
    detail.extend(partitioned.iter().map(|root| format!("no partition of \"{root}\" takes the row")));
    let message = format!("{verb} table \"{name}\" does not fit on {on}");
    let again = "run the same command again";
    match sqlstate.as_str() {
        "23505" => {
            let is_key = violated.is_some_and(|columns| is_key(table, columns));
            (
                if is_insert && is_key { "insert_exists" } else { "unique" },
                format!("{verb} table \"{name}\" meets a row that exists on {on}"),
                format!("Remove or change the row that holds the key there, and {again}."),
            )
        }
        "23502" => (
            "not_null",
            message,
            format!(
                "Give the column an expression that is never null in its [[map]], or a default, or drop NOT NULL, and {again}."
            ),
        ),
        "23514" if partitioned.is_some() => (
            "check",
            message,
            format!("Create a partition there that takes the row, or a default one, and {again}."),
        ),
        code if code.starts_with("23") => (
            match code {
                FOREIGN_KEY_VIOLATION => "foreign_key",
                "23514" => "check",
                "23P01" => "exclusion",
                _ => "refused",
            },
            message,
            format!("Correct the rows that it needs there, or the constraint, and {again}."),
        ),
        code if code.starts_with("22") => {
            detail.push(without_quoted(&said.message));
            (
                "conversion",
                message,
                format!("Change the column's type or the expression of its [[map]], and {again}."),
            )
        }
        "42501" => ("privilege", message, format!("Grant the privilege ({said}), and {again}.")),
        _ => {
            detail.push(said.message.clone());
            (
                "refused",
                message,
                said.search_path_hint()
                    .or_else(|| said.hint.clone())
                    .unwrap_or_else(|| format!("Mend the cause on {on}, and {again}.")),
            )
        }
    }
}

/// The partitioned table that has no partition for a row. Its text, which the server translates, holds no constraint's name.
fn lacks_partition(error: &postgres::Error) -> Option<String> {
    let said = error.as_db_error().filter(|said| said.routine() == Some("ExecFindPartition"))?;
    Some(format!("{}.{}", said.schema()?, said.table()?))
}

/// What a server says, `value "5000000150" is out of range for type integer`, without the row's value.
fn without_quoted(message: &str) -> String {
    let Some((before, rest)) = message.split_once('"') else { return message.to_owned() };
    match rest.rsplit_once('"') {
        Some((_, after)) if !after.is_empty() => format!("{before}\"...\"{after}"),
        _ => before.trim_end_matches([':', ' ']).to_owned(),
    }
}

/// Whether these columns are what a rule finds its row by, so that a row with the same values is the same row.
fn is_key(table: &Bound, columns: &[String]) -> bool {
    table.rules.iter().any(|rule| {
        let key = &rule.rule.key;
        !key.is_empty() && columns.iter().all(|column| key.iter().any(|part| part.name == *column))
    })
}

/// A failure that belongs to no single row: a TRUNCATE, or constraints that are checked at the end.
fn undecidable(
    planned: Option<&Planned>,
    failure: Failure,
    commit: PgLsn,
    on: &str,
) -> std::result::Result<Misfit, Error> {
    let tables: Vec<String> = match planned {
        Some(Planned::Truncate { tables }) => tables.iter().map(|table| table.relation.display()).collect(),
        _ => Vec::new(),
    };
    let what = if tables.is_empty() {
        "a transaction".into()
    } else {
        format!("TRUNCATE of \"{}\"", tables.join("\", \""))
    };
    let (sqlstate, constraint) = failure.said();
    match failure {
        Failure::PartialTruncate { from, to, beside } => Ok(Misfit {
            kind: "truncate",
            message: format!("TRUNCATE of table \"{from}\" cannot be repeated on {on}"),
            detail: format!(
                "Its rows are in \"{to}\" there, together with {beside}; transaction ending at {commit}"
            ),
            hint: format!(
                "Have it set aside by replay.on_conflict = \"quarantine\" and pgdetour replay; delete the rows of \"{from}\" from \
                 \"{to}\" by hand; give it up with pgdetour replay --quarantine skip --id N, the number being that in \
                 pgdetour replay --quarantine list; and apply what came later with pgdetour replay --quarantine retry."
            ),
            sqlstate,
            constraint,
        }),
        Failure::Orphan { constraint: name, of } => Ok(Misfit {
            kind: "foreign_key",
            message: format!("{what} leaves rows of \"{of}\" whose parent is missing on {on}"),
            detail: format!(
                "SQLSTATE {FOREIGN_KEY_VIOLATION}, constraint \"{name}\" of \"{of}\", transaction ending at {commit}"
            ),
            hint: "Insert the rows that are referred to, or correct the rows that refer to them, and run the same command again.".into(),
            sqlstate,
            constraint,
        }),
        Failure::Meeting { apart, .. } => Ok(Misfit {
            kind: apart.kind(),
            message: format!("{what} leaves rows of \"{}\" that meet each other on {on}", apart.of),
            detail: format!("{}, transaction ending at {commit}", apart.describe()),
            hint: "Remove or change the rows that are in the way there, and run the same command again.".into(),
            sqlstate,
            constraint,
        }),
        Failure::Server(error) => {
            let said = ServerError::from(&error);
            let named =
                constraint.as_ref().map_or_else(String::new, |name| format!(", constraint \"{name}\""));
            Ok(Misfit {
                kind: match sqlstate.as_deref() {
                    Some(FOREIGN_KEY_VIOLATION) => "foreign_key",
                    Some("23505") => "unique",
                    Some("23P01") => "exclusion",
                    _ => "refused",
                },
                message: format!("{what} does not fit on {on}"),
                detail: format!("{said}{named}, transaction ending at {commit}"),
                hint: said
                    .search_path_hint()
                    .unwrap_or_else(|| format!("Mend the cause on {on}, and run the same command again.")),
                sqlstate,
                constraint,
            })
        }
        other => Err(other.into_error(on)),
    }
}

#[cfg(test)]
mod tests {
    use super::without_quoted;

    #[test]
    fn what_a_server_says_of_a_value_is_told_without_it() {
        for (said, told) in [
            (
                "value \"5000000150\" is out of range for type integer",
                "value \"...\" is out of range for type integer",
            ),
            (
                "invalid input syntax for type integer: \"a \"quoted\" one\"",
                "invalid input syntax for type integer",
            ),
            ("integer out of range", "integer out of range"),
            ("value too long for type character varying(8)", "value too long for type character varying(8)"),
        ] {
            assert_eq!(without_quoted(said), told);
        }
    }
}
