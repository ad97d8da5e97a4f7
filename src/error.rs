//! Every failure with a name: its exit code, its machine-readable kind, what to do about it.

mod advice;

use std::time::Duration;

pub use advice::{FOLLOWS, exit};

/// Shorthand for everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One finding of a check: what is wrong, with which object, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Fixed name of the check, such as `replica_identity`.
    pub check: &'static str,
    /// The object it is about, such as `public.log`, or the side.
    pub object: String,
    /// The column that cannot be written, as `schema.table.column`, for those that tell what becomes of each.
    #[serde(skip)]
    pub column: Option<String>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What mends it: whole sentences, the exact statement where there is one.
    pub hint: String,
}

impl Finding {
    /// One that is about no column in particular.
    pub fn new(
        check: &'static str,
        object: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        Finding { check, object: object.into(), column: None, message: message.into(), hint: hint.into() }
    }
}

/// All that a check found, in one run.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// What must be mended first.
    pub failures: Vec<Finding>,
    /// What works, but somebody should know.
    pub warnings: Vec<Finding>,
}

impl Checked {
    /// Adds what must be mended.
    pub fn fail(
        &mut self,
        check: &'static str,
        object: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.failures.push(Finding::new(check, object, message, hint));
    }

    /// Adds what somebody should know.
    pub fn warn(
        &mut self,
        check: &'static str,
        object: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.warnings.push(Finding::new(check, object, message, hint));
    }

    /// Adds the findings of another check.
    pub fn append(&mut self, other: Checked) {
        self.failures.extend(other.failures);
        self.warnings.extend(other.warnings);
    }
}

/// What a server or a connection said when it failed, from either of our two clients.
#[derive(Debug, Clone, Default)]
pub struct ServerError {
    /// Five characters, absent when the failure is not the server's own (network, TLS).
    pub sqlstate: Option<String>,
    /// The primary message.
    pub message: String,
    /// The server's DETAIL.
    pub detail: Option<String>,
    /// The server's HINT.
    pub hint: Option<String>,
    /// The server's CONTEXT: the functions in which it happened, the innermost first.
    pub context: Option<String>,
    /// The constraint that is violated.
    pub constraint: Option<String>,
    /// The connection is gone: whether the last statement took effect is unknown.
    pub connection_lost: bool,
}

/// The classes of SQLSTATEs that the server itself uses (PostgreSQL's manual, appendix A). Others are a function's own.
const SERVER_CLASSES: [&str; 42] = [
    "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24",
    "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53",
    "54", "55", "57", "58", "72", "F0", "HV", "XX",
];

/// The kind of error that tells that a table which was written to is not what it was when the mapping was made: neither that nor what
/// is known of keys holds any more. The same command, run again, maps it anew.
pub const ALTERED: &str = "table_altered";

/// Whether a function of the users' has raised it, as what PL/pgSQL gives an exception without a code, or with one that is
/// nobody else's.
pub fn is_raised(sqlstate: &str) -> bool {
    sqlstate.get(..2).is_some_and(|class| !SERVER_CLASSES.contains(&class))
}

impl ServerError {
    /// A failure of the connection itself, not an answer of the server.
    pub fn lost(message: impl Into<String>) -> Self {
        ServerError { message: message.into(), connection_lost: true, ..Default::default() }
    }

    /// Whether the SQLSTATE is `code`.
    pub fn is(&self, code: &postgres::error::SqlState) -> bool {
        self.sqlstate.as_deref() == Some(code.code())
    }

    /// Whether values, expressions or functions are to blame: neither rights nor the server, nor a statement of ours.
    pub fn is_of_evaluation(&self) -> bool {
        self.sqlstate.as_deref().is_some_and(|code| {
            let class = code.get(..2).unwrap_or_default();
            (is_raised(code) || ["09", "0A", "21", "22", "23", "27", "38", "39", "42", "44", "54"].contains(&class))
                // insufficient_privilege, syntax_error
                && !["42501", "42601"].contains(&code)
        })
    }

    /// The message, up to a value that it quotes.
    pub fn without_value(&self) -> &str {
        let quotes_value = self.sqlstate.as_deref().is_some_and(|code| code.starts_with("22"));
        let told = if quotes_value { self.message.split(": \"").next() } else { None };
        told.unwrap_or(&self.message)
    }

    /// What to do when a function does not find what it finds in the application's sessions.
    pub fn search_path_hint(&self) -> Option<String> {
        // undefined_table, undefined_function, undefined_object
        if !matches!(self.sqlstate.as_deref(), Some("42P01" | "42883" | "42704")) {
            return None;
        }
        let context = self.context.as_deref()?;
        // In the server's language: `PL/pgSQL function public.f(integer) line 1 at RETURN`, `SQL function "f" statement 1`.
        let called = context.lines().find_map(|line| line.split_once(" function ")).map(|(_, rest)| rest);
        let name = called.and_then(|rest| {
            [" line ", " statement ", " during "].iter().find_map(|end| rest.split_once(end))
        });
        let function = name.map_or_else(|| "the function".to_owned(), |(name, _)| format!("function {name}"));
        Some(format!(
            "Let {function} name what it uses with its schema, or give it a search_path of its own (ALTER FUNCTION ... SET \
             search_path): sessions of pgdetour have an empty one, as PostgreSQL's own replication workers do."
        ))
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let Some(code) = &self.sqlstate {
            write!(f, " (SQLSTATE {code})")?;
        }
        Ok(())
    }
}

impl From<&postgres::Error> for ServerError {
    fn from(error: &postgres::Error) -> Self {
        use std::error::Error as _;
        if let Some(db) = error.as_db_error() {
            // Class 57P: the server is going away and closes the connection after this answer.
            let gone = db.code().code().starts_with("57P");
            return ServerError {
                sqlstate: Some(db.code().code().to_owned()),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
                hint: db.hint().map(str::to_owned),
                context: db.where_().map(str::to_owned),
                constraint: db.constraint().map(str::to_owned),
                connection_lost: gone,
            };
        }
        let io = error.source().and_then(<dyn std::error::Error>::downcast_ref::<std::io::Error>);
        // What we ourselves gave up says how long it took.
        let given_up = io.filter(|io| io.kind() == std::io::ErrorKind::TimedOut && io.get_ref().is_some());
        ServerError {
            message: given_up.map_or_else(|| error.to_string(), ToString::to_string),
            connection_lost: error.is_closed() || io.is_some(),
            ..Default::default()
        }
    }
}

/// Every way in which a command can end other than well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call is wrong: arguments, environment, no terminal to confirm.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// How to call it.
        hint: String,
    },
    /// The configuration file is wrong.
    #[error("{file}{}: {message}", line.map(|l| format!(":{l}")).unwrap_or_default())]
    Config {
        /// Path as given.
        file: String,
        /// 1-based line of the mistake.
        line: Option<usize>,
        /// What is wrong there.
        message: String,
        /// What would be right.
        hint: String,
        /// Further mistakes in the same file.
        more: Vec<Finding>,
    },
    /// Preconditions do not hold; nothing was changed.
    #[error("{} of the preconditions {} not hold", findings.len(), if findings.len() == 1 { "does" } else { "do" })]
    ChecksFailed {
        /// All of them, in the order in which they were checked.
        findings: Vec<Finding>,
    },
    /// The command does not go with the phase that the detour is in.
    #[error("{command} cannot run in phase \"{phase}\"")]
    WrongPhase {
        /// The command that was refused.
        command: &'static str,
        /// The phase of the detour.
        phase: crate::phase::Phase,
    },
    /// Refused for one reason that is not a list of findings; nothing was changed.
    #[error("{message}")]
    Refused {
        /// Machine-readable kind, such as `stamp_mismatch`.
        kind: &'static str,
        /// What is wrong.
        message: String,
        /// More about it.
        detail: Option<String>,
        /// What to do.
        hint: String,
    },
    /// Another run holds the lock.
    #[error("another pgdetour run is in progress on {on}")]
    Busy {
        /// Side whose lock is taken.
        on: String,
        /// Who holds it: pid, application, since when.
        holder: String,
    },
    /// A server or a router cannot be reached, or does not let us in.
    #[error("could not connect to {what}")]
    Unreachable {
        /// `source`, `target`, `pgbouncer …`.
        what: String,
        /// What it said.
        cause: ServerError,
    },
    /// A wait was over its budget.
    #[error("{what} did not finish within {}", human(*budget))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        budget: Duration,
        /// Who is in the way: pid, role, age, query.
        detail: Option<String>,
        /// What to do.
        hint: String,
    },
    /// Data differ, or a change does not fit: a person has to decide.
    #[error("{message}")]
    Conflict {
        /// Machine-readable kind, such as `update_missing` or `differs`.
        kind: &'static str,
        /// What the server refused it with, where it did.
        sqlstate: Option<String>,
        /// What does not fit.
        message: String,
        /// Table, key, SQLSTATE, constraint: never a row's other values.
        detail: Option<String>,
        /// What to do.
        hint: String,
    },
    /// A statement failed.
    #[error("could not {action} on {on}")]
    Sql {
        /// Verb first: `create publication "pgdetour_mirror"`.
        action: String,
        /// `source`, `target`, `pgbouncer …`.
        on: String,
        /// What the server said.
        cause: ServerError,
    },
    /// The router's program or file refused.
    #[error("could not {action}: {message}")]
    Router {
        /// Verb first.
        action: String,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Local input or output failed.
    #[error("could not {action}")]
    Io {
        /// Verb first.
        action: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody has to act: for monitoring.
    #[error("{}", if *broken { "the detour is broken" } else { "the detour needs attention" })]
    Unhealthy {
        /// Clients are not served as they should be, or changes are lost.
        broken: bool,
        /// What to look at, the worst first.
        findings: Vec<Finding>,
    },
    /// A signal asked us to end.
    #[error("interrupted by {}", if *signal == 2 { "SIGINT" } else { "SIGTERM" })]
    Interrupted {
        /// 2 or 15.
        signal: i32,
    },
    /// A state that must not occur.
    #[error("unexpected: {message}")]
    Internal {
        /// What was seen.
        message: String,
    },
}

impl Error {
    /// A statement that failed on `on`, from the `postgres` client.
    pub fn sql(action: impl Into<String>, on: impl Into<String>, cause: &postgres::Error) -> Self {
        Error::Sql { action: action.into(), on: on.into(), cause: cause.into() }
    }

    /// Local input or output that failed; for `map_err`.
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Error::Io { action, source }
    }

    /// What the server said, when a server said it.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Error::Sql { cause, .. } | Error::Unreachable { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// The message, and what the server said, in one line.
    pub fn with_cause(&self) -> String {
        match self.server_error() {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Whether the failure is an answer with this SQLSTATE.
    pub fn is_sqlstate(&self, code: &postgres::error::SqlState) -> bool {
        self.server_error().is_some_and(|cause| cause.is(code))
    }

    /// Whether a connection broke, so that a retry or a later run may succeed.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
            || self.server_error().is_some_and(|cause| cause.connection_lost)
    }

    /// Machine-readable kind for JSON. Part of the interface.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Usage { .. } => "usage",
            Error::Config { .. } => "configuration",
            Error::ChecksFailed { .. } => "checks_failed",
            Error::WrongPhase { .. } => "wrong_phase",
            Error::Refused { kind, .. } | Error::Conflict { kind, .. } => kind,
            Error::Busy { .. } => "busy",
            Error::Unreachable { .. } => "unreachable",
            Error::TimedOut { .. } => "timed_out",
            Error::Sql { .. } => "statement_failed",
            Error::Router { .. } => "router_failed",
            Error::Io { .. } => "io",
            Error::Unhealthy { broken: true, .. } => "broken",
            Error::Unhealthy { broken: false, .. } => "attention",
            Error::Interrupted { .. } => "interrupted",
            Error::Internal { .. } => "internal",
        }
    }
}

/// Replaces the action of a failed statement by one that says what we were about.
pub trait Doing<T> {
    /// `action` is verb first: `create publication "pgdetour_mirror"`.
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error {
            Error::Sql { on, cause, .. } => Error::Sql { action: action(), on, cause },
            other => other,
        })
    }
}

/// `850 ms`, `5 s`, `2 min`: for people.
pub fn human(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..120_000 if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms @ 1000..120_000 => format!("{:.1} s", ms as f64 / 1000.0),
        ms => format!("{} min", ms / 60_000),
    }
}
