//! Sessions of the general roles in one database: who they are, and their end.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Checked, Doing as _, Error, Result, human};
use crate::pg::Session;
use crate::sql::{self, quote_identifier, quote_literal};

/// A session of a general role, or a transaction that one has prepared.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct GeneralSession {
    /// Server process; None for a prepared transaction.
    pub pid: Option<i32>,
    /// Role that logged in.
    pub role: String,
    /// `application_name`.
    pub application_name: String,
    /// The client's address; None for a Unix socket.
    pub address: Option<String>,
    /// `active`, `idle in transaction`, …; `prepared`.
    pub state: String,
    /// Outside of any transaction.
    pub idle: bool,
    /// Age of its transaction in seconds.
    pub transaction_seconds: Option<f64>,
    /// Beginning of its latest statement.
    pub query: Option<String>,
    /// Name of the prepared transaction.
    pub gid: Option<String>,
}

impl std::fmt::Display for GeneralSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let age = self.transaction_seconds.map(|seconds| human(Duration::from_secs_f64(seconds.max(0.0))));
        if let Some(gid) = &self.gid {
            let age = age.unwrap_or_default();
            return write!(f, "prepared transaction {} of \"{}\", {age} old", quote_literal(gid), self.role);
        }
        write!(f, "pid {} of \"{}\"", self.pid.unwrap_or_default(), self.role)?;
        self.address.iter().try_for_each(|address| write!(f, " from {address}"))?;
        write!(f, ", {}", self.state)?;
        age.iter().try_for_each(|age| write!(f, " for {age}"))?;
        let query = self.query.as_deref().filter(|query| !query.is_empty());
        query.iter().try_for_each(|query| write!(f, ": {query}"))
    }
}

/// How the sessions of general roles came to their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct SessionsEnded {
    /// Ended by us outside of any transaction.
    pub idle: u64,
    /// Ended by us in a transaction, which was rolled back.
    pub in_transaction: u64,
}

/// Sessions and prepared transactions of `roles` in this database, the oldest transaction first.
pub fn list_sessions(session: &mut Session, roles: &[String]) -> Result<Vec<GeneralSession>> {
    let rows = session.query(&sql::fence::LIST_SESSIONS, &[&roles])?;
    Ok(rows.iter().map(one_of).collect())
}

/// Sessions, of whatever role, that keep a flow's changes in this database waiting, the oldest transaction first.
pub fn list_apply_blockers(session: &mut Session) -> Result<Vec<GeneralSession>> {
    let rows = session.query(&sql::fence::LIST_APPLY_BLOCKERS, &[])?;
    Ok(rows.iter().map(one_of).collect())
}

fn one_of(row: &postgres::Row) -> GeneralSession {
    GeneralSession {
        pid: row.get("pid"),
        role: row.get("role_name"),
        application_name: row.get("application_name"),
        address: row.get("address"),
        state: row.get("state"),
        idle: row.get("idle"),
        transaction_seconds: row.get("transaction_seconds"),
        query: row.get("query"),
        gid: row.get("gid"),
    }
}

/// Ends the sessions of `roles` that have a transaction open; how many there were.
pub fn end_transactions(session: &mut Session, roles: &[String]) -> Result<u64> {
    let rows = session
        .query(&sql::fence::END_SESSIONS, &[&roles, &true])
        .doing(|| format!("end transactions of {}", roles.join(", ")))?;
    Ok(rows.iter().filter(|row| !row.get::<_, bool>("idle")).count() as u64)
}

/// Address and port of the client of each session of `roles` in this database, with its pid; sockets of the host left out.
pub fn list_ports(session: &mut Session, roles: &[String]) -> Result<Vec<(i32, String, i32)>> {
    let rows = session.query(&sql::fence::LIST_PORTS, &[&roles])?;
    Ok(rows.iter().map(|row| (row.get("pid"), row.get("address"), row.get("port"))).collect())
}

/// What sessions of `roles` hold that is lost when they move: its kind, how many, and one of them.
pub fn list_state(session: &mut Session, roles: &[String]) -> Result<Vec<(String, i64, String)>> {
    let rows = session.query(&sql::fence::LIST_SESSION_STATE, &[&roles])?;
    Ok(rows.iter().map(|row| (row.get("kind"), row.get("holders"), row.get("example"))).collect())
}

/// Ends the sessions of `roles`, which the fence keeps from coming back: idle ones at once, those in a
/// transaction when it ends or after `terminate_after`. Returns when none is left and none was about to begin;
/// past `deadline` the error names those that are left. Prepared transactions are waited for.
pub fn end_sessions(
    session: &mut Session,
    roles: &[String],
    deadline: Instant,
    terminate_after: Option<Duration>,
) -> Result<SessionsEnded> {
    let begun = Instant::now();
    let mut ended = SessionsEnded::default();
    if session.is_dry() {
        session.note(format!("(end the sessions of {} in this database)", roles.join(", ")));
        return Ok(ended);
    }
    if is_none_left(&look(session, roles)?) {
        return Ok(ended);
    }
    let mut pause = Duration::from_millis(1);
    let mut signalled = HashSet::new();
    loop {
        let left = list_sessions(session, roles)?;
        if left.is_empty() {
            // One that was let in just before the fence stood shows up after this.
            let starting: i64 = session.query_one(&sql::fence::COUNT_STARTING, &[])?.get("starting");
            if starting == 0 && list_sessions(session, roles)?.is_empty() {
                return Ok(ended);
            }
        }
        let all = terminate_after.is_some_and(|after| begun.elapsed() >= after);
        let is_due =
            |one: &GeneralSession| one.pid.is_some_and(|pid| !signalled.contains(&pid)) && (all || one.idle);
        if left.iter().any(is_due) {
            let rows = session
                .query(&sql::fence::END_SESSIONS, &[&roles, &all])
                .doing(|| format!("end sessions of {}", roles.join(", ")))?;
            for row in rows {
                if signalled.insert(row.get::<_, i32>("pid")) {
                    *(if row.get("idle") { &mut ended.idle } else { &mut ended.in_transaction }) += 1;
                }
            }
        }
        if Instant::now() >= deadline {
            return Err(still_there(&left, deadline.saturating_duration_since(begun)));
        }
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(8));
    }
}

/// How many sessions of `roles` are about to begin, and after that how many are there: statements for one round trip, each in
/// a transaction of its own, since one transaction sees the sessions of its beginning. Whoever is about to leave gets a moment.
pub fn looking(roles: &[String]) -> String {
    let starting = sql::fence::COUNT_STARTING.text;
    let there = sql::fence::LIST_SESSIONS.text.replace("$1::text[]", &sql::quote_array(roles));
    let wait =
        format!("begin;\nselect 'wait', pg_catalog.pg_sleep(0.002) where exists (\n{there}\n);\ncommit;\n");
    format!(
        "{wait}{wait}begin;\nselect 'starting', s.* from (\n{starting}\n) as s;\ncommit;\n\
         select 'there', pg_catalog.count(*) from (\n{there}\n) as s"
    )
}

/// Whether what [`looking`] has seen is nobody.
pub fn is_none_left(seen: &[i64]) -> bool {
    seen == [0, 0]
}

fn look(session: &mut Session, roles: &[String]) -> Result<Vec<i64>> {
    let rows = session.ask_script(&looking(roles))?;
    // A moment's wait answers with no number.
    Ok(rows.iter().filter_map(|row| row.get(1)?.as_deref()?.parse().ok()).collect())
}

fn still_there(left: &[GeneralSession], budget: Duration) -> Error {
    let names: Vec<String> = left.iter().map(ToString::to_string).collect();
    let prepared = left.iter().find_map(|one| one.gid.as_ref());
    let hint = match (prepared, left.iter().find_map(|one| one.pid)) {
        (Some(gid), _) => {
            format!("Have its owner run COMMIT PREPARED or ROLLBACK PREPARED {}.", quote_literal(gid))
        }
        (None, Some(pid)) => format!(
            "End it with SELECT pg_terminate_backend({pid}); or give --terminate-after to have such sessions ended."
        ),
        (None, None) => "A session was about to begin. Run the same command again.".into(),
    };
    Error::TimedOut {
        what: "the end of general sessions".into(),
        budget,
        detail: (!names.is_empty()).then(|| names.join("; ")),
        hint,
    }
}

/// What we need in order to see and to end the sessions of `roles`.
pub fn check(session: &mut Session, roles: &[String]) -> Result<Checked> {
    let mut checked = Checked::default();
    let side = session.place.name();
    for row in session.query(&sql::fence::DESCRIBE_ROLES, &[&roles])? {
        if !row.get::<_, bool>("present") {
            continue;
        }
        let object = format!("{side}: role {}", quote_identifier(row.get("role_name")));
        let us = quote_identifier(row.get("our_name"));
        let rights = [
            ("we_may_end", "end its sessions", "pg_signal_backend"),
            ("we_may_look", "see what its sessions do", "pg_read_all_stats"),
        ];
        for (column, what, needed) in rights {
            if !row.get::<_, bool>(column) {
                let hint = format!("Run GRANT {needed} TO {us}.");
                checked.fail("session_rights", &object, format!("{us} cannot {what}"), hint);
            }
        }
    }
    Ok(checked)
}
