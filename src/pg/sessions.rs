//! Sessions of the general roles in one database: who they are, and their end.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::FenceKind;
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

impl GeneralSession {
    /// What tells it from others, in one look and the next.
    fn key(&self) -> Key {
        match self.pid {
            Some(pid) => Key::Process(pid.to_string()),
            None => Key::Prepared(self.gid.clone().unwrap_or_default()),
        }
    }

    /// The statements that end a prepared transaction: no session has it, so that none can be ended for it.
    pub fn ended_by(&self) -> Option<String> {
        let gid = self.gid.as_ref()?;
        Some(format!("COMMIT PREPARED or ROLLBACK PREPARED {}", quote_literal(gid)))
    }

    /// Whether `other`, of another look, is the same.
    pub fn is(&self, other: &GeneralSession) -> bool {
        self.key() == other.key()
    }
}

/// A session, or a transaction that was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// By the number of its process.
    Process(String),
    /// By its name.
    Prepared(String),
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
#[derive(Debug, Default)]
pub struct SessionsEnded {
    /// Ended by us outside of any transaction.
    pub idle: u64,
    /// Ended by us in a transaction, which was rolled back.
    pub in_transaction: u64,
    /// Not ended in time.
    pub left: Vec<GeneralSession>,
    /// Were about to begin when the time was over.
    pub starting: i64,
    /// How long the last look took.
    pub last_look: Duration,
}

impl SessionsEnded {
    /// Whether nobody is left, nor about to begin.
    pub fn are_all(&self) -> bool {
        self.left.is_empty() && self.starting == 0
    }

    /// Fails when somebody is left after `budget`, and names who.
    pub fn require_all(&self, budget: Duration) -> Result<()> {
        if self.are_all() { Ok(()) } else { Err(still_there(&self.left, budget)) }
    }
}

/// Sessions and prepared transactions of `roles` in this database, the oldest transaction first.
pub fn list_sessions(session: &mut Session, roles: &[String]) -> Result<Vec<GeneralSession>> {
    let rows = session.ask_script(&listing(roles)).doing(|| "list sessions".into())?;
    Ok(rows.iter().map(|row| one_of(row)).collect())
}

/// Sessions, of whatever role, that keep a flow's changes in this database waiting, the oldest transaction first.
pub fn list_apply_blockers(session: &mut Session) -> Result<Vec<GeneralSession>> {
    let rows = session.ask_script(sql::fence::LIST_APPLY_BLOCKERS.text);
    let rows = rows.doing(|| "list apply blockers".into())?;
    Ok(rows.iter().map(|row| one_of(row)).collect())
}

/// A transaction that no fence ends, by its number, and who has it open.
pub type Writer = (String, GeneralSession);

/// Statements that list, for one round trip with others, who has written to these tables without being a client of `roles`, and
/// has not ended.
pub fn looking_for_writers(roles: &[String], tables: &[u32]) -> String {
    let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let listing = sql::fence::LIST_WRITERS.text.replace("$1::text[]", &sql::quote_array(roles));
    let listing = listing.replace("$2::oid[]", &format!("'{{{}}}'::oid[]", tables.join(",")));
    format!("select 'writing', w.* from (\n{listing}\n) as w")
}

/// Those of whom [`looking_for_writers`] has told, among other rows.
pub fn writers_of(seen: &[Vec<Option<String>>]) -> Vec<Writer> {
    let writers = rows_of(seen, "writing").filter_map(|row| row.split_first());
    writers.map(|(xid, rest)| (xid.clone().unwrap_or_default(), one_of(rest))).collect()
}

/// The same in a round trip of its own.
pub fn list_writers(session: &mut Session, roles: &[String], tables: &[u32]) -> Result<Vec<Writer>> {
    let seen = session.ask_script(&looking_for_writers(roles, tables)).doing(|| "list who writes".into())?;
    Ok(writers_of(&seen))
}

/// That they have not ended in time.
pub fn writers_left(left: &[Writer], budget: Duration) -> Error {
    let names: Vec<String> = left.iter().map(|(_, one)| one.to_string()).collect();
    let first = left.first().map(|(_, one)| one);
    let hint = match first.map(|one| (one.ended_by(), one.pid)) {
        Some((Some(statements), _)) => format!("Run {statements}."),
        Some((None, Some(pid))) => format!(
            "What it commits later would stay there. See that it ends, or end it with SELECT pg_terminate_backend({pid});"
        ),
        _ => String::new(),
    };
    Error::TimedOut {
        what: "the end of transactions outside of general traffic that have written".into(),
        budget,
        detail: Some(names.join("; ")),
        hint,
    }
}

/// Ends the sessions of `roles` that have a transaction open; how many there were.
pub fn end_transactions(session: &mut Session, roles: &[String]) -> Result<u64> {
    let rows = session
        .query(&sql::fence::END_SESSIONS, &[&roles, &true, &None::<Vec<i32>>])
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

/// Ends the sessions of `roles` that began before a fence of this kind: idle ones at once, those in a
/// transaction when it ends or after `terminate_after`. Returns when none is left and none was about to begin, or
/// with those that are left once another look would be over after `deadline`. Prepared transactions are waited for. Ends early
/// when `heed` fails.
pub fn end_sessions(
    session: &mut Session,
    roles: &[String],
    kind: FenceKind,
    deadline: Instant,
    terminate_after: Option<Duration>,
    heed: &dyn Fn() -> Result<()>,
) -> Result<SessionsEnded> {
    let begun = Instant::now();
    let mut ended = SessionsEnded::default();
    if session.is_dry() {
        session.note(format!("(end the sessions of {} in this database)", roles.join(", ")));
        return Ok(ended);
    }
    let mut pause = Duration::from_millis(1);
    let mut signalled = HashSet::new();
    // A closed fence keeps everybody from coming back. Behind a read-only one others may come at any time; whoever is neither
    // there nor about to begin at the first look, which is after it was raised, reads what it has set.
    let mut due: Option<HashSet<Key>> = None;
    loop {
        let asked = Instant::now();
        let all = terminate_after.is_some_and(|after| begun.elapsed() >= after);
        // In one round trip, since clients wait for each.
        let script = format!("{}{}", ending(roles, all, due.as_ref()), looking(roles));
        let seen = session.ask_script(&script).doing(|| format!("end sessions of {}", roles.join(", ")))?;
        for row in rows_of(&seen, "ended") {
            let [Some(pid), idle] = row else { continue };
            if signalled.insert(pid.clone()) {
                let is_idle = idle.as_deref() == Some("t");
                *(if is_idle { &mut ended.idle } else { &mut ended.in_transaction }) += 1;
            }
        }
        if kind == FenceKind::ReadOnly && due.is_none() {
            due = Some(keys(&seen));
        }
        let is_due = |key: &Key| due.as_ref().is_none_or(|due| due.contains(key));
        ended.starting = match &due {
            None => starting(&seen),
            Some(_) => starting_keys(&seen).filter(is_due).count() as i64,
        };
        ended.left = rows_of(&seen, "there").map(one_of).filter(|one| is_due(&one.key())).collect();
        ended.last_look = asked.elapsed();
        // Another look, and as much again for taking back that nobody gets in.
        let is_over = Instant::now() + 2 * ended.last_look >= deadline;
        if is_over || ended.are_all() {
            return Ok(ended);
        }
        heed()?;
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(Duration::from_millis(8));
    }
}

/// Ends sessions of `roles` that are idle, or `all`, of those that are `due` where that is known; a row of `ended` for each,
/// with its pid and whether it was idle.
fn ending(roles: &[String], all: bool, due: Option<&HashSet<Key>>) -> String {
    let pids = due.map_or_else(
        || "null::int[]".to_owned(),
        |due| {
            let pids = due.iter().filter_map(|key| match key {
                Key::Process(pid) => Some(pid.as_str()),
                Key::Prepared(_) => None,
            });
            format!("'{{{}}}'::int[]", pids.collect::<Vec<_>>().join(","))
        },
    );
    let end = sql::fence::END_SESSIONS.text.replace("$1::text[]", &sql::quote_array(roles));
    let end = end.replace("$2", if all { "true" } else { "false" }).replace("$3::int[]", &pids);
    format!("begin;\nselect 'ended', s.pid, s.idle from (\n{end}\n) as s;\ncommit;\n")
}

/// How many sessions of `roles` are about to begin, and after that which are there: statements for one round trip, each in
/// a transaction of its own, since one transaction sees the sessions of its beginning. Whoever is about to leave gets a moment.
pub fn looking(roles: &[String]) -> String {
    let starting = sql::fence::COUNT_STARTING.text;
    let there = listing(roles);
    let wait =
        format!("begin;\nselect 'wait', pg_catalog.pg_sleep(0.002) where exists (\n{there}\n);\ncommit;\n");
    format!(
        "{wait}{wait}begin;\nselect 'starting', s.* from (\n{starting}\n) as s;\ncommit;\n\
         select 'there', s.* from (\n{there}\n) as s"
    )
}

/// Whether what [`looking`] has seen is nobody.
pub fn is_none_left(seen: &[Vec<Option<String>>]) -> bool {
    starting(seen) == 0 && rows_of(seen, "there").next().is_none()
}

/// The rest of the rows that begin with `name`.
fn rows_of<'a>(
    seen: &'a [Vec<Option<String>>],
    name: &'a str,
) -> impl Iterator<Item = &'a [Option<String>]> + 'a {
    seen.iter()
        .filter_map(move |row| row.split_first())
        .filter(move |(first, _)| first.as_deref() == Some(name))
        .map(|(_, rest)| rest)
}

/// As many as the server says; one where it says nothing.
fn starting(seen: &[Vec<Option<String>>]) -> i64 {
    rows_of(seen, "starting").next().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or(1)
}

/// Who is about to begin.
fn starting_keys(seen: &[Vec<Option<String>>]) -> impl Iterator<Item = Key> + '_ {
    let pids = rows_of(seen, "starting").filter_map(|row| row.get(1)?.as_deref());
    pids.flat_map(|pids| pids.trim_matches(['{', '}']).split(',')).map(|pid| Key::Process(pid.to_owned()))
}

/// Everybody whom a look has met: those that it has signalled, about to begin, and there.
fn keys(seen: &[Vec<Option<String>>]) -> HashSet<Key> {
    let ended = rows_of(seen, "ended").filter_map(|row| row.first()?.clone()).map(Key::Process);
    let there = rows_of(seen, "there").map(|row| one_of(row).key());
    ended.chain(starting_keys(seen)).chain(there).collect()
}

fn listing(roles: &[String]) -> String {
    sql::fence::LIST_SESSIONS.text.replace("$1::text[]", &sql::quote_array(roles))
}

/// A row of `list_sessions.sql` or `list_apply_blockers.sql` as text.
fn one_of(row: &[Option<String>]) -> GeneralSession {
    let text = |at: usize| row.get(at).cloned().flatten();
    GeneralSession {
        pid: text(0).and_then(|pid| pid.parse().ok()),
        role: text(1).unwrap_or_default(),
        application_name: text(2).unwrap_or_default(),
        address: text(3),
        state: text(4).unwrap_or_default(),
        idle: text(5).as_deref() == Some("t"),
        transaction_seconds: text(6).and_then(|seconds| seconds.parse().ok()),
        query: text(7),
        gid: text(8),
    }
}

fn still_there(left: &[GeneralSession], budget: Duration) -> Error {
    let names: Vec<String> = left.iter().map(ToString::to_string).collect();
    let prepared = left.iter().find_map(GeneralSession::ended_by);
    let hint = match (prepared, left.iter().find_map(|one| one.pid)) {
        (Some(statements), _) => format!("Have its owner run {statements}."),
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
