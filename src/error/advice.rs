//! What follows from a failure: the exit code, more about it, what mends it, and what to run next.

use super::{ALTERED, Error, Finding, ServerError, is_raised};
use crate::phase::{Command, Phase};

/// Exit codes, by what a script should do next. Part of the interface.
pub mod exit {
    /// Done, or already done.
    pub const DONE: i32 = 0;
    /// A bug, or local input or output: report it.
    pub const UNEXPECTED: i32 = 1;
    /// Wrong arguments or configuration: correct the call.
    pub const USAGE: i32 = 2;
    /// Refused, nothing was changed: fix, run again.
    pub const REFUSED: i32 = 3;
    /// Another run holds the lock: wait, run again.
    pub const BUSY: i32 = 4;
    /// A server or router could not be reached, nothing is half done: run again.
    pub const UNREACHABLE: i32 = 5;
    /// Timed out and taken back: run again later.
    pub const TIMED_OUT: i32 = 6;
    /// Stopped part way: run the same command again.
    pub const PART_WAY: i32 = 7;
    /// The data differ, or a change does not fit: call a person.
    pub const CONFLICT: i32 = 8;
    /// Added to the number of the signal that ended us.
    pub const SIGNAL: i32 = 128;
}

/// What the `application_name` of a run ends with that goes on until it is stopped.
pub const FOLLOWS: &str = " --follow";

/// What a failed statement tells a script, apart from whether something is half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatementFailure {
    /// The connection is gone.
    Lost,
    /// Rights, settings or limits of the server are in the way.
    Refused,
    /// A lock or a timeout: likely to pass.
    Waited,
    /// Anything else.
    Other,
}

impl StatementFailure {
    fn of(cause: &ServerError) -> Self {
        if cause.connection_lost {
            return StatementFailure::Lost;
        }
        match cause.sqlstate.as_deref() {
            // lock_not_available, query_canceled, deadlock_detected, serialization_failure
            Some("55P03" | "57014" | "40P01" | "40001") => StatementFailure::Waited,
            // An event trigger or another function of the users' is against it.
            Some(code) if is_raised(code) => StatementFailure::Refused,
            // insufficient_privilege, read_only_sql_transaction
            Some("42501" | "25006") => StatementFailure::Refused,
            // insufficient_resources and object_not_in_prerequisite_state, with all that their classes hold
            Some(code) if code.starts_with("53") || code.starts_with("55") => StatementFailure::Refused,
            _ => StatementFailure::Other,
        }
    }
}

impl Error {
    /// The exit code. `part_way`: something was changed, and neither finished nor taken back.
    pub fn exit_code(&self, part_way: bool) -> i32 {
        let unless_part_way = |code| if part_way { exit::PART_WAY } else { code };
        match self {
            Error::Usage { .. } | Error::Config { .. } => exit::USAGE,
            Error::ChecksFailed { .. }
            | Error::WrongPhase { .. }
            | Error::Unhealthy { broken: false, .. } => exit::REFUSED,
            // Taken back for now.
            Error::TimedOut { .. } | Error::Refused { kind: ALTERED, .. } => unless_part_way(exit::TIMED_OUT),
            Error::Refused { .. } | Error::Router { .. } => unless_part_way(exit::REFUSED),
            Error::Busy { .. } => unless_part_way(exit::BUSY),
            Error::Unreachable { .. } => unless_part_way(exit::UNREACHABLE),
            Error::Conflict { .. } | Error::Unhealthy { broken: true, .. } => exit::CONFLICT,
            Error::Sql { cause, .. } => unless_part_way(match StatementFailure::of(cause) {
                StatementFailure::Lost => exit::UNREACHABLE,
                StatementFailure::Refused => exit::REFUSED,
                StatementFailure::Waited => exit::TIMED_OUT,
                StatementFailure::Other => exit::UNEXPECTED,
            }),
            Error::Io { .. } => unless_part_way(exit::UNEXPECTED),
            Error::Interrupted { signal } => unless_part_way(exit::SIGNAL + signal),
            Error::Internal { .. } => exit::UNEXPECTED,
        }
    }

    /// More about it than the message says; never a row's values.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::Unreachable { cause, .. } | Error::Sql { cause, .. } => Some(server_detail(cause)),
            Error::Busy { holder, .. } => Some(holder.clone()),
            Error::Refused { detail, .. }
            | Error::TimedOut { detail, .. }
            | Error::Conflict { detail, .. } => detail.clone(),
            Error::Io { source, .. } => Some(source.to_string()),
            Error::Usage { .. }
            | Error::Config { .. }
            | Error::ChecksFailed { .. }
            | Error::WrongPhase { .. }
            | Error::Router { .. }
            | Error::Unhealthy { .. }
            | Error::Interrupted { .. }
            | Error::Internal { .. } => None,
        }
    }

    /// What mends it, as whole sentences.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Usage { hint, .. }
            | Error::Config { hint, .. }
            | Error::Refused { hint, .. }
            | Error::TimedOut { hint, .. }
            | Error::Conflict { hint, .. }
            | Error::Router { hint, .. } => hint.clone(),
            Error::WrongPhase { phase, .. } => {
                format!("What may be run in this phase: {}.", listed(&phase.next()))
            }
            Error::Busy { on, holder } => busy_hint(on, holder),
            Error::Unreachable { what, cause } => return Some(unreachable_hint(what, cause)),
            Error::Sql { cause, .. } => {
                let by_server = || cause.hint.clone().or_else(|| statement_hint(cause));
                return cause.search_path_hint().or_else(by_server);
            }
            Error::ChecksFailed { .. }
            | Error::Io { .. }
            | Error::Unhealthy { .. }
            | Error::Interrupted { .. }
            | Error::Internal { .. } => return None,
        };
        (!hint.is_empty()).then_some(hint)
    }

    /// All findings that the failure is made of.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Error::ChecksFailed { findings } | Error::Unhealthy { findings, .. } => findings,
            Error::Config { more, .. } => more,
            _ => &[],
        }
    }

    /// SQLSTATE, when a server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Conflict { sqlstate, .. } => sqlstate.as_deref(),
            _ => self.server_error()?.sqlstate.as_deref(),
        }
    }

    /// What was done and what to run next, for people: a sentence without its first capital. `stays` is what of it there is
    /// still, when something was changed.
    pub fn next(
        &self,
        command: Option<Command>,
        stays: Option<&str>,
        part_way: bool,
        phase: Option<Phase>,
    ) -> String {
        let again = match command {
            // It has begun there with nothing else.
            Some(Command::Clean) if phase == Some(Phase::Detoured) => "\"pgdetour clean --stay\"".into(),
            Some(command) => format!("\"pgdetour {command}\""),
            None => "the same command".into(),
        };
        let before = stays.unwrap_or("nothing was changed");
        match self.exit_code(part_way) {
            exit::USAGE => format!("{before}; correct this, then run the same command again."),
            exit::REFUSED => match self {
                Error::WrongPhase { phase, .. } => format!("{before}; {}", leading_on(*phase)),
                Error::Unhealthy { .. } => format!("{before}; act on what is named above."),
                _ => format!("{before}; fix this, then run the same command again."),
            },
            exit::BUSY => format!("{before}; run the same command again when the other run has ended."),
            exit::UNREACHABLE => {
                "nothing is half done; run the same command again when it can be reached.".into()
            }
            exit::TIMED_OUT if command == Some(Command::Replay) => {
                format!("{before}; run the same command again later: it goes on where it was.")
            }
            exit::TIMED_OUT => {
                "taken back, clients are where they were; run the same command again later.".into()
            }
            exit::PART_WAY => {
                let phase = phase.map_or_else(String::new, |phase| format!(" in phase \"{phase}\""));
                format!("stopped part way{phase}; run {again} again: it goes on or takes back.")
            }
            exit::CONFLICT if command == Some(Command::Status) => {
                format!("{before}; a person has to look at what is named above.")
            }
            exit::CONFLICT => {
                format!("{before}; a person has to look at this before {again} is run again.")
            }
            exit::UNEXPECTED => {
                format!("{before}; if this is not of this machine's making, please report it.")
            }
            _ => {
                let before = match stays {
                    Some(stays) => format!("{stays}, and nothing is left half done"),
                    None => "nothing was changed or left half done".to_owned(),
                };
                format!("{before}; run the same command again whenever you like.")
            }
        }
    }
}

/// `a, b and c`, in the order given.
fn listed(commands: &[Command]) -> String {
    let names: Vec<&str> = commands.iter().map(|command| command.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The command that leads onwards from a phase.
fn leading_on(phase: Phase) -> String {
    match phase.next().first() {
        Some(command) => format!("what leads on from here is \"pgdetour {command}\"."),
        None => "\"pgdetour status\" shows where the detour is.".into(),
    }
}

/// What a server said, and its DETAIL where that cannot hold values of a row.
fn server_detail(cause: &ServerError) -> String {
    let code = cause.sqlstate.as_deref().unwrap_or_default();
    // Classes 22 and 23, data exceptions and violated constraints: "Failing row contains (...)".
    let holds_values = code.starts_with("22") || code.starts_with("23");
    match &cause.detail {
        Some(detail) if !holds_values => format!("{cause}: {detail}"),
        _ => cause.to_string(),
    }
}

/// The holder's `application_name`, which `holder` tells in quotes, says what it is.
fn busy_hint(on: &str, holder: &str) -> String {
    let follows = |command: Command| holder.contains(&format!("\"pgdetour {command}{FOLLOWS}\""));
    let by_signal = "It follows until it is stopped: send it SIGTERM on the host where it runs, whose address is shown with it";
    if follows(Command::Replay) {
        format!("{by_signal}, then run the same command again.")
    } else if follows(Command::Mirror) {
        format!("{by_signal}, or run \"pgdetour mirror --stop\"; then run the same command again.")
    } else {
        format!("It ends by itself, or with its session: see pg_stat_activity on the {on}.")
    }
}

fn unreachable_hint(what: &str, cause: &ServerError) -> String {
    if let Some(hint) = &cause.hint {
        return hint.clone();
    }
    match cause.sqlstate.as_deref() {
        Some(code) if code.starts_with("28") => {
            "Check user, password (PGPASSWORD or the passfile) and the server's pg_hba.conf."
        }
        _ if is_disk_full(cause) => DISK_FULL,
        Some("3D000") => "Check dbname in the connection string.",
        Some("53300") => "Free a connection, or raise max_connections.",
        Some(code) if code.starts_with("57P") => "The server is starting or stopping; try again shortly.",
        _ if what.starts_with("haproxy ") => {
            "Check that it runs, and that \"socket\" under [[router.haproxy]] is where a \"stats socket\" of level admin listens."
        }
        _ if what.starts_with("pgbouncer ") => {
            "Check that it runs, and that \"admin\" under [[router.pgbouncer]] is the connection string of its console."
        }
        _ => "Check that it runs, and host, port and sslmode in the connection string.",
    }
    .into()
}

const DISK_FULL: &str = "The server's disk is full: free space there.";

/// Whether a server that has no room left refuses the session: it may fail to write what each new one needs, which has no
/// SQLSTATE of its own.
fn is_disk_full(cause: &ServerError) -> bool {
    let says = |text: &str| cause.message.contains(text);
    cause.sqlstate.as_deref() == Some("53100")
        || says("could not write init file")
        || says("No space left on device")
}

fn statement_hint(cause: &ServerError) -> Option<String> {
    if cause.connection_lost {
        return Some("Check that the server still runs; its log tells why it closed the connection.".into());
    }
    let hint = match cause.sqlstate.as_deref()? {
        "42501" => "Grant the connecting role what is missing, or connect as the owner or a superuser.",
        "25006" => "The server is a standby, or default_transaction_read_only is on for this role.",
        "55P03" => "Another session holds a lock on it: see pg_locks and pg_stat_activity.",
        "53400" => "Raise the server's limit, such as max_replication_slots, and restart it.",
        "53300" => "Free a connection, or raise max_connections.",
        "53100" => DISK_FULL,
        code if is_raised(code) => {
            "A trigger, an event trigger or a function of the database refused it: disable it while pgdetour works, or let our role \
             pass there."
        }
        _ => return None,
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn statement(sqlstate: Option<&str>, lost: bool) -> Error {
        let cause = ServerError {
            sqlstate: sqlstate.map(str::to_owned),
            message: "permission denied for database shop".into(),
            connection_lost: lost,
            ..Default::default()
        };
        Error::Sql { action: "create publication \"pgdetour_mirror\"".into(), on: "source".into(), cause }
    }

    fn refused() -> Error {
        Error::Refused { kind: "stamp_mismatch", message: "a".into(), detail: None, hint: "B.".into() }
    }

    fn timed_out() -> Error {
        let budget = Duration::from_secs(5);
        Error::TimedOut { what: "hold clients".into(), budget, detail: None, hint: String::new() }
    }

    #[test]
    fn each_failure_has_the_code_that_says_what_to_do_next() {
        let usage = Error::Usage { message: String::new(), hint: String::new() };
        assert_eq!(usage.exit_code(false), 2);
        assert_eq!(Error::ChecksFailed { findings: Vec::new() }.exit_code(false), 3);
        assert_eq!(Error::WrongPhase { command: "replay", phase: Phase::Absent }.exit_code(false), 3);
        assert_eq!(refused().exit_code(false), 3);
        assert_eq!(Error::Busy { on: "target".into(), holder: String::new() }.exit_code(false), 4);
        assert_eq!(statement(None, true).exit_code(false), 5);
        assert_eq!(timed_out().exit_code(false), 6);
        assert_eq!(statement(Some("42501"), false).exit_code(false), 3);
        assert_eq!(statement(Some("53400"), false).exit_code(false), 3);
        assert_eq!(statement(Some("55P03"), false).exit_code(false), 6);
        assert_eq!(statement(Some("42P01"), false).exit_code(false), 1);
        assert_eq!(statement(Some("P0001"), false).exit_code(false), 3);
        assert_eq!(statement(Some("SHP01"), false).exit_code(false), 3);
        assert_eq!(Error::Interrupted { signal: 2 }.exit_code(false), 130);
        assert_eq!(Error::Interrupted { signal: 15 }.exit_code(false), 143);
        assert_eq!(Error::Internal { message: String::new() }.exit_code(false), 1);
    }

    #[test]
    fn what_cannot_be_reached_is_looked_for_where_it_is_configured() {
        let hint = |what: &str| {
            let cause = ServerError::lost("connection refused");
            Error::Unreachable { what: what.into(), cause }.hint().expect("there is one")
        };
        assert!(hint("haproxy /run/haproxy.sock general").contains("\"socket\" under [[router.haproxy]]"));
        assert!(hint("pgbouncer 10.0.0.5:6432").contains("\"admin\" under [[router.pgbouncer]]"));
        assert!(hint("source").contains("in the connection string"));
        let full = |sqlstate: Option<&str>, message: &str| {
            let sqlstate = sqlstate.map(str::to_owned);
            let cause = ServerError { sqlstate, ..ServerError::lost(message) };
            Error::Unreachable { what: "source".into(), cause }.hint()
        };
        for cause in [
            full(Some("53100"), "no room"),
            full(Some("XX000"), "could not write init file"),
            full(None, "could not write init file"),
        ] {
            assert_eq!(cause.as_deref(), Some(DISK_FULL));
        }
    }

    #[test]
    fn what_is_half_done_is_resumed_by_the_same_command() {
        for error in [
            statement(None, true),
            statement(Some("42P01"), false),
            refused(),
            timed_out(),
            Error::Interrupted { signal: 15 },
            Error::Io { action: "write a file".into(), source: std::io::ErrorKind::StorageFull.into() },
        ] {
            assert_eq!(error.exit_code(true), 7, "{error}");
        }
        let conflict = Error::Conflict {
            kind: "differs",
            sqlstate: None,
            message: String::new(),
            detail: None,
            hint: String::new(),
        };
        assert_eq!(conflict.exit_code(true), 8, "a person is needed, whatever was changed");
    }

    #[test]
    fn a_function_that_finds_nothing_is_told_about_the_search_path() {
        let hint = |context: Option<&str>| {
            let cause = ServerError {
                sqlstate: Some("42P01".into()),
                message: "relation \"country\" does not exist".into(),
                context: context.map(str::to_owned),
                ..Default::default()
            };
            Error::Sql { action: "apply changes".into(), on: "source".into(), cause }.hint()
        };
        let begins = |context: &str, with: &str| {
            let said = hint(Some(context)).expect("there is one");
            assert!(said.starts_with(with) && said.contains("search_path"), "{said}");
        };
        begins(
            "PL/pgSQL function public.known(text) line 1 at RETURN",
            "Let function public.known(text) name",
        );
        begins(
            "SQL statement \"select\"\nSQL function \"cid_of\" during inlining",
            "Let function \"cid_of\" name",
        );
        begins("SQL-Funktion »cid_of« Anweisung 1", "Let the function name");
        assert_eq!(hint(None), None, "the statement itself is to blame");
    }

    #[test]
    fn a_violated_constraint_keeps_the_rows_values_to_itself() {
        let cause = |sqlstate: &str| ServerError {
            sqlstate: Some(sqlstate.into()),
            message: "null value in column \"a\" violates not-null constraint".into(),
            detail: Some("Failing row contains (geheim).".into()),
            ..Default::default()
        };
        assert!(!server_detail(&cause("23502")).contains("geheim"));
        assert!(server_detail(&cause("55000")).ends_with(": Failing row contains (geheim)."));
    }

    #[test]
    fn a_wrong_phase_says_what_may_be_run_instead() {
        let error = Error::WrongPhase { command: "replay", phase: Phase::CuttingOver };
        assert_eq!(
            error.hint().as_deref(),
            Some("What may be run in this phase: cutover, check, restrict and status.")
        );
        assert_eq!(
            error.next(Some(Command::Replay), None, false, Some(Phase::CuttingOver)),
            "nothing was changed; what leads on from here is \"pgdetour cutover\"."
        );
    }

    #[test]
    fn what_status_finds_broken_is_not_a_matter_of_running_it_again() {
        let next = |error: Error, command| error.next(Some(command), None, false, None);
        let broken = Error::Unhealthy { broken: true, findings: Vec::new() };
        assert_eq!(
            next(broken, Command::Status),
            "nothing was changed; a person has to look at what is named above."
        );
        let differs = Error::Conflict {
            kind: "differs",
            sqlstate: None,
            message: String::new(),
            detail: None,
            hint: String::new(),
        };
        assert_eq!(
            next(differs, Command::Verify),
            "nothing was changed; a person has to look at this before \"pgdetour verify\" is run again."
        );
    }

    #[test]
    fn clients_are_spoken_of_where_they_were_to_be_moved() {
        let next = |command, stays| timed_out().next(Some(command), stays, false, Some(Phase::Detoured));
        assert_eq!(
            next(Command::Cutback, None),
            "taken back, clients are where they were; run the same command again later."
        );
        assert_eq!(
            next(Command::Replay, Some("what was applied stays, 3 transactions")),
            "what was applied stays, 3 transactions; run the same command again later: it goes on where it was."
        );
    }

    #[test]
    fn stopped_part_way_names_the_phase_and_the_command() {
        let error = Error::Interrupted { signal: 15 };
        assert_eq!(
            error.next(
                Some(Command::Cutover),
                Some("what was finished stays"),
                true,
                Some(Phase::CuttingOver)
            ),
            "stopped part way in phase \"cutting_over\"; run \"pgdetour cutover\" again: it goes on or takes back."
        );
        assert_eq!(
            error.next(Some(Command::Clean), None, true, Some(Phase::Detoured)),
            "stopped part way in phase \"detoured\"; run \"pgdetour clean --stay\" again: it goes on or takes back."
        );
        assert_eq!(
            error.next(Some(Command::Cutover), None, false, Some(Phase::Mirrored)),
            "nothing was changed or left half done; run the same command again whenever you like."
        );
        assert_eq!(
            error.next(Some(Command::Cutback), Some("what was finished stays"), false, Some(Phase::Detoured)),
            "what was finished stays, and nothing is left half done; run the same command again whenever you like."
        );
    }
}
