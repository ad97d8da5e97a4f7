//! Logical replication slots: what keeps the changes of a flow on its publisher until they are applied.

use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::PgLsn;

use super::publication;
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::pg::server::LOCK_TIMEOUT;
use crate::sql::{self, Sql};

/// Pause between two looks at something that another process has to do.
const POLL: Duration = Duration::from_millis(50);

/// A replication slot as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// Walsender that reads it now.
    pub active_pid: Option<i32>,
    /// Changes before it are not sent again.
    pub confirmed_flush: Option<PgLsn>,
    /// WAL from here on is kept; none when it is lost.
    pub restart: Option<PgLsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL in bytes that may still be written before the slot is lost; none without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// WAL in bytes that is kept for it.
    pub retained_bytes: Option<i64>,
}

impl Slot {
    /// Whether the server has removed WAL that it needs: it cannot be read any more.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }
}

/// The slot of this name; none when the session's database has none. A server has each name once: another database's is none of
/// ours, and see [`find_foreign_slot`] for it.
pub fn find_slot(session: &mut Session, name: &str) -> Result<Option<Slot>> {
    let row = session.query_opt(&sql::flow::FIND_SLOT, &[&name])?;
    Ok(row.map(|row| Slot {
        plugin: row.get("plugin"),
        active_pid: row.get("active_pid"),
        confirmed_flush: row.get("confirmed_flush_lsn"),
        restart: row.get("restart_lsn"),
        wal_status: row.get("wal_status"),
        safe_wal_bytes: row.get("safe_wal_size"),
        retained_bytes: row.get("retained_bytes"),
    }))
}

/// A slot that has one of our names, and is not of the session's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSlot {
    name: String,
    /// Database that it decodes; none for a physical slot.
    database: Option<String>,
}

impl ForeignSlot {
    /// What is in the way.
    pub fn message(&self) -> String {
        let name = &self.name;
        match &self.database {
            Some(database) => {
                format!("replication slot \"{name}\" exists for another database, \"{database}\"")
            }
            None => format!("replication slot \"{name}\" exists, and is a physical one"),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match &self.database {
            Some(database) => format!(
                "A server takes one database on a detour at a time: wait until that of \"{database}\" is over. \"pgdetour status\" \
                 with its own configuration tells where it is. The slot keeps changes that may be nowhere else: don't drop it."
            ),
            None => "Drop it with pg_drop_replication_slot() if nobody uses it.".to_owned(),
        }
    }
}

/// Who else has the slot of this name; none where it is free, or ours.
pub fn find_foreign_slot(session: &mut Session, name: &str) -> Result<Option<ForeignSlot>> {
    let row = session.query_opt(&sql::flow::FIND_FOREIGN_SLOT, &[&name])?;
    Ok(row.map(|row| ForeignSlot { name: name.to_owned(), database: row.get("database") }))
}

/// Notes that a slot will be created in place of one that goes before.
pub fn plan_slot(session: &mut Session, name: &str) -> Result<()> {
    session.change_returning(sql::flow::CREATE_SLOT.text, &[&name]).map(drop)
}

/// Creates a slot, or finds it made already; its position, and whether it is new.
/// Waits up to `budget` for the open transactions of the whole cluster, and names them when they do not end.
/// The publication must exist before.
pub fn create_slot(session: &mut Session, name: &str, budget: Duration) -> Result<(PgLsn, bool)> {
    let action = || format!("create replication slot \"{name}\"");
    if let Some(slot) = find_slot(session, name)? {
        return existing(&slot, name).map(|position| (position, false));
    }
    if let Some(foreign) = find_foreign_slot(session, name)? {
        return Err(mismatch(foreign.message(), foreign.hint()));
    }
    if session.is_dry() {
        plan_slot(session, name)?;
        return Ok((PgLsn::from(0), true));
    }
    limit(session, budget)?;
    let created = session.change_returning(sql::flow::CREATE_SLOT.text, &[&name]).doing(action);
    let restored = unlimit(session);
    match created {
        Ok(rows) => {
            restored?;
            let row =
                rows.first().ok_or_else(|| Error::Internal { message: "a slot without position".into() })?;
            Ok((row.get(0), true))
        }
        Err(error)
            if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
                || error.is_sqlstate(&SqlState::QUERY_CANCELED) =>
        {
            Err(Error::TimedOut {
                what: format!("creating replication slot \"{name}\""),
                budget,
                detail: describe_writers(session)?,
                hint:
                    "End these transactions, or wait until they have ended, and run the same command again."
                        .to_owned(),
            })
        }
        Err(error) => Err(error),
    }
}

fn existing(slot: &Slot, name: &str) -> Result<PgLsn> {
    if slot.plugin.as_deref() != Some("pgoutput") {
        let plugin = slot.plugin.as_deref().unwrap_or("none");
        let hint = "Drop it with pg_drop_replication_slot() if nobody uses it.".to_owned();
        return Err(mismatch(format!("replication slot \"{name}\" exists, with plugin {plugin}"), hint));
    }
    match slot.confirmed_flush {
        Some(position) if !slot.is_lost() => Ok(position),
        _ => Err(lost(name)),
    }
}

fn mismatch(message: String, hint: String) -> Error {
    Error::Refused { kind: "slot_mismatch", message, detail: None, hint }
}

/// What can still be done when changes on the side that serves were not recorded.
pub const MISSED: &str = "\"pgdetour verify\" tells which rows differ; \"pgdetour capture --anew\" begins a new recording and \
                          makes the source equal to the target, which has them all, so that replay goes on from there; \
                          \"pgdetour clean --stay\" makes the target the new home.";

/// The refusal for a slot whose WAL is gone.
pub fn lost(name: &str) -> Error {
    Error::Conflict {
        kind: "slot_lost",
        sqlstate: None,
        message: format!("replication slot \"{name}\" has lost WAL that was not applied yet"),
        detail: Some(
            "The server removed it for max_slot_wal_keep_size or because the slot was idle for too long."
                .to_owned(),
        ),
        hint: format!(
            "What was changed since is not recorded. Before cutover: run \"pgdetour clean\", then mirror again with a larger \
             max_slot_wal_keep_size. After it: {MISSED}"
        ),
    }
}

fn limit(session: &mut Session, budget: Duration) -> Result<()> {
    let lock = budget.as_millis().max(1);
    // Each transaction is waited for by itself: the statement as a whole needs a limit, too.
    let statement = lock + 500;
    set_limits(session, &lock.to_string(), &statement.to_string())
}

fn unlimit(session: &mut Session) -> Result<()> {
    set_limits(session, &LOCK_TIMEOUT.as_millis().to_string(), "0")
}

fn set_limits(session: &mut Session, lock: &str, statement: &str) -> Result<()> {
    session.query_text(
        "select pg_catalog.set_config('lock_timeout', $1, false), pg_catalog.set_config('statement_timeout', $2, false)",
        &[&lock, &statement],
    )?;
    Ok(())
}

/// Transactions of the whole cluster that have written and not ended, one a line; none when there are none.
pub fn describe_writers(session: &mut Session) -> Result<Option<String>> {
    let pid: i32 = session.query_text("select pg_catalog.pg_backend_pid()", &[])?[0].get(0);
    let rows = session.query(&sql::flow::LIST_WRITING_TRANSACTIONS, &[&pid])?;
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = |column: &str| row.get::<_, Option<String>>(column);
            let age = row.get::<_, Option<f64>>("age_seconds").unwrap_or_default();
            let mut line = format!(
                "{} of role \"{}\" in database \"{}\", open for {age:.0} s",
                row.get::<_, &str>("who"),
                text("role_name").unwrap_or_default(),
                text("database_name").unwrap_or_default(),
            );
            if let Some(state) = text("state") {
                line.extend([", ", &state]);
            }
            if let Some(query) = text("query") {
                line.extend([": ", &query]);
            }
            line
        })
        .collect();
    Ok((!lines.is_empty()).then(|| lines.join("; ")))
}

/// Fails when what the slot and the publication are to record is not, or no longer, complete.
pub fn require_intact(publisher: &mut Session, slot: &str, publication: &str) -> Result<()> {
    let is_there = publication::list_published(publisher, publication)?.is_some();
    let found = find_slot(publisher, slot)?;
    let missing = match (&found, is_there) {
        (Some(found), _) if found.is_lost() => return Err(lost(slot)),
        (Some(_), true) => return require_as_made(publisher, publication),
        (Some(_), false) => format!("publication \"{publication}\" does"),
        (None, true) => format!("slot \"{slot}\" does"),
        (None, false) => format!("slot \"{slot}\" and publication \"{publication}\" do"),
    };
    // Whose the name is by now tells how it came to that.
    let taken = if found.is_none() { find_foreign_slot(publisher, slot)? } else { None };
    let taken = taken.map(|foreign| format!("; {}", foreign.message())).unwrap_or_default();
    Err(Error::Conflict {
        kind: "capture_missing",
        sqlstate: None,
        message: format!("the recording of changes on {} is not complete", publisher.place),
        detail: Some(format!("{missing} not exist there any more{taken}")),
        hint: format!("What was written since it was dropped is there alone: {MISSED}"),
    })
}

/// Fails when what the publication names was not, or is not, recorded as it was when it was made.
fn require_as_made(publisher: &mut Session, publication: &str) -> Result<()> {
    let Some(altered) = publication::find_altered(publisher, publication)?.describe() else { return Ok(()) };
    Err(Error::Conflict {
        kind: "capture_altered",
        sqlstate: None,
        message: format!("the recording of changes on {} is not complete", publisher.place),
        detail: Some(format!("publication \"{publication}\" was altered there: it {altered}")),
        hint: format!("What was written meanwhile may be there alone: {MISSED}"),
    })
}

/// Waits until every transaction that had begun by now has ended, so that a snapshot taken afterwards shows each one
/// that the slot made before does not stream.
pub fn wait_for_horizon(session: &mut Session, budget: Duration) -> Result<()> {
    if session.is_dry() {
        session.note("wait until all open transactions have ended");
        return Ok(());
    }
    let began = Instant::now();
    let wanted = read_xid(session, &sql::flow::ASSIGN_XID)?;
    while read_xid(session, &sql::flow::READ_OLDEST_XID)? < wanted {
        if began.elapsed() >= budget {
            return Err(Error::TimedOut {
                what: "waiting for open transactions".to_owned(),
                budget,
                detail: describe_writers(session)?,
                hint:
                    "End these transactions, or wait until they have ended, and run the same command again."
                        .to_owned(),
            });
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The xid behind all that have ended, of all its 64 bits.
pub fn read_next_xid(session: &mut Session) -> Result<u64> {
    read_xid(session, &sql::flow::READ_NEXT_XID)
}

fn read_xid(session: &mut Session, statement: &Sql) -> Result<u64> {
    let row = session.query_one(statement, &[])?;
    let text: &str = row.get("xid");
    text.parse().map_err(|_| Error::Internal { message: format!("\"{text}\" is not an xid") })
}

/// Drops a slot, waiting up to `budget` for a walsender that is still leaving; whether there was one.
pub fn drop_slot(session: &mut Session, name: &str, budget: Duration) -> Result<bool> {
    let dropped = when_free(session, name, budget, "dropping", |session| {
        session
            .change_returning(sql::flow::DROP_SLOT.text, &[&name])
            .doing(|| format!("drop replication slot \"{name}\""))
    });
    match dropped {
        Err(error) if error.is_sqlstate(&SqlState::UNDEFINED_OBJECT) => Ok(false),
        other => Ok(other?.is_some()),
    }
}

/// Moves a slot forwards to `position`, waiting up to `budget` for a walsender that is still leaving.
/// Changes nothing when the slot is there already.
pub fn advance_slot(session: &mut Session, name: &str, position: PgLsn, budget: Duration) -> Result<()> {
    if find_slot(session, name)?.is_some_and(|slot| slot.confirmed_flush >= Some(position)) {
        return Ok(());
    }
    let advanced = when_free(session, name, budget, "advancing", |session| {
        session
            .change_returning(sql::flow::ADVANCE_SLOT.text, &[&name, &position])
            .doing(|| format!("advance replication slot \"{name}\" to {position}"))
    })?;
    if advanced.is_none() {
        let message = format!("replication slot \"{name}\" does not exist any more");
        return Err(Error::Refused {
            kind: "slot_missing",
            message,
            detail: None,
            hint: "Run \"pgdetour status\".".into(),
        });
    }
    Ok(())
}

/// Does `work` on a slot once nobody reads it; none when there is no such slot.
fn when_free<T>(
    session: &mut Session,
    name: &str,
    budget: Duration,
    doing: &str,
    mut work: impl FnMut(&mut Session) -> Result<T>,
) -> Result<Option<T>> {
    let began = Instant::now();
    loop {
        let Some(slot) = find_slot(session, name)? else { return Ok(None) };
        let reader = match slot.active_pid {
            Some(pid) if !session.is_dry() => pid,
            _ => match work(session) {
                // It was taken between the look and the act.
                Err(error) if error.is_sqlstate(&SqlState::OBJECT_IN_USE) && began.elapsed() < budget => {
                    std::thread::sleep(POLL);
                    continue;
                }
                other => return other.map(Some),
            },
        };
        if began.elapsed() >= budget {
            return Err(Error::TimedOut {
                what: format!("{doing} replication slot \"{name}\""),
                budget,
                detail: Some(format!("It is in use by pid {reader}.")),
                hint: format!("See what reads it: SELECT * FROM pg_stat_activity WHERE pid = {reader};"),
            });
        }
        std::thread::sleep(POLL);
    }
}
