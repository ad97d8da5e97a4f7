//! Changes recorded by triggers, for a publisher whose WAL is not decoded: the objects that do it, and the table they fill.

use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::PgLsn;

use crate::error::{Doing as _, Error, Result};
use crate::flow::mapping::TableName;
use crate::flow::source::slot::MISSED;
use crate::pg::catalog::{Identity, Table};
use crate::pg::{Session, record};
use crate::sql::{self, Sql};

/// The functions and tables are those of schema `pgdetour`, so that whoever drops it drops these.
const TRIGGERS: usize = 5;
/// The same without one of its own for key changes.
const WHOLE_ROW_TRIGGERS: usize = 4;
/// How often a table whose lock could not be had is tried again.
const ATTEMPTS: u32 = 20;
/// Changes that are removed by one statement.
const PURGED_AT_ONCE: i64 = 10_000;

/// How long the lock of a partition is waited for: others queue up behind us.
const COVER_WAIT_MS: u32 = 100;
/// Why a partition cannot be covered now.
const COVER_LATER: [SqlState; 4] = [
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::UNDEFINED_TABLE,
];

/// Makes the table and, on each of `tables`, the triggers that fill it; whether anything had to be made.
/// Waits for each table's writers, no longer than our lock timeout at a time, so that others do not queue up behind us.
pub fn create_capture(session: &mut Session, tables: &[Table]) -> Result<bool> {
    session
        .atomically(|session| record::make_objects(session, &[&sql::capture::CREATE_CHANGE]))
        .doing(|| "create the change table".into())?;
    if session.is_dry() {
        for table in tables {
            session.note(format!("create triggers on {} that record its changes", table.quoted()));
        }
        return Ok(true);
    }
    session.change_script(sql::capture::CREATE_MARKER_TRIGGER.text)?;
    let marker = session.query_text("select 'pgdetour.marker'::pg_catalog.regclass::pg_catalog.oid", &[])?;
    describe(session, marker[0].get(0))?;
    let present = list_captured(session)?;
    let mut changed = false;
    for captured in present.iter().filter(|captured| captured.table.schema != "pgdetour") {
        if tables.iter().all(|table| TableName::of(table) != captured.table) {
            drop_triggers(session, captured)?;
            changed = true;
        }
    }
    for table in tables {
        let members = || tables.iter().filter(|other| is_of(other, table));
        let whole_row = members().any(|member| {
            member.identity == Identity::Full || (!member.partitioned && member.key.is_empty())
        });
        let mut key: Vec<&str> = members().flat_map(|member| &member.key).map(String::as_str).collect();
        key.sort_unstable();
        key.dedup();
        let name = TableName::of(table);
        let wanted = match (&table.root, whole_row || key.is_empty()) {
            (Some(_), _) => 1,
            (None, true) => WHOLE_ROW_TRIGGERS,
            (None, false) => TRIGGERS,
        };
        let is_known = present
            .iter()
            .any(|captured| captured.table == name && captured.triggers.len() == wanted && captured.always);
        let quoted = table.quoted();
        let mut script = String::new();
        if table.root.is_none() {
            script = if wanted == TRIGGERS {
                let list = |row: &str| {
                    let column = |name: &&str| format!("{row}.{}", sql::quote_identifier(name));
                    key.iter().map(column).collect::<Vec<_>>().join(", ")
                };
                sql::capture::CREATE_TRIGGERS.with(&[
                    ("table", &quoted),
                    ("old_key", &list("old")),
                    ("new_key", &list("new")),
                ])
            } else {
                let drop = "drop trigger if exists \"!pgdetour_capture_move\" on";
                format!(
                    "{drop} {quoted};\n{}",
                    sql::capture::CREATE_WHOLE_ROW_TRIGGERS.with(&[("table", &quoted)])
                )
            };
            script.push_str(";\n");
        }
        script.push_str(&sql::capture::CREATE_TRUNCATE_TRIGGER.with(&[("table", &quoted)]));
        // In one transaction with the description, which has to be older than the first change.
        let describe = format!("select pgdetour.describe({})", table.oid);
        if is_known && !describe_is_due(session, table.oid)? {
            continue;
        }
        when_unlocked(|| session.change_script(&format!("{script};\n{describe}")))
            .doing(|| format!("create triggers on table {quoted}"))?;
        changed = true;
    }
    session
        .change_script(sql::capture::GRANT_RECORDING.text)
        .doing(|| "let the owners of partitioned tables make partitions".to_owned())?;
    match session.atomically(|session| record::make_objects(session, &[&sql::capture::CREATE_EVENT_TRIGGER]))
    {
        Err(error) if error.is_sqlstate(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
        other => other.doing(|| "create event trigger \"pgdetour_capture\"".into())?,
    }
    Ok(changed)
}

/// Whether a table is another one or a partition of it.
fn is_of(table: &Table, root: &Table) -> bool {
    table.oid == root.oid
        || table.root.as_ref().is_some_and(|(schema, name)| *schema == root.schema && *name == root.name)
}

/// Whether a table's latest description is not what it is now. Nothing is kept of the look.
fn describe_is_due(session: &mut Session, oid: u32) -> Result<bool> {
    session.change_script("begin")?;
    let due = describe(session, oid);
    session.change_script("rollback")?;
    due
}

/// Notes what a table's columns are; whether that is other than before.
pub fn describe(session: &mut Session, oid: u32) -> Result<bool> {
    let row = session.query_one(&sql::capture::DESCRIBE_TABLE, &[&oid])?;
    Ok(row.get("changed"))
}

/// Removes triggers and table. Nothing of it need be there.
pub fn drop_capture(session: &mut Session) -> Result<()> {
    for captured in list_captured(session)? {
        drop_triggers(session, &captured)?;
    }
    if is_present(session)? {
        session.change_script(sql::capture::DROP_CHANGE.text).doing(|| "drop the change table".into())?;
    }
    Ok(())
}

fn drop_triggers(session: &mut Session, Captured { table, triggers, .. }: &Captured) -> Result<()> {
    let quoted = sql::quote_qualified(&table.schema, &table.name);
    let drop = |name: &String| format!("drop trigger if exists {} on {quoted}", sql::quote_identifier(name));
    let script = triggers.iter().map(drop).collect::<Vec<_>>().join(";\n");
    when_unlocked(|| session.change_script(&script)).doing(|| format!("drop our triggers on table {quoted}"))
}

/// A table that has triggers of ours.
struct Captured {
    table: TableName,
    /// Their names; those that a partition has from its parent left out.
    triggers: Vec<String>,
    /// They fire in sessions that act as a replica, too.
    always: bool,
}

fn list_captured(session: &mut Session) -> Result<Vec<Captured>> {
    let rows = session.query(&sql::capture::LIST_CAPTURED, &[])?;
    let captured = |row: &postgres::Row| Captured {
        table: TableName::in_row(row),
        triggers: row.get("triggers"),
        always: row.get("always"),
    };
    Ok(rows.iter().map(captured).collect())
}

/// Tables that have triggers of ours, markers left out; none without a change table.
pub fn list_recorded(session: &mut Session) -> Result<Option<Vec<TableName>>> {
    if !is_present(session)? {
        return Ok(None);
    }
    let tables = list_captured(session)?.into_iter().map(|captured| captured.table);
    Ok(Some(tables.filter(|table| table.schema != "pgdetour").collect()))
}

/// Tries again what fails for a lock that others hold.
fn when_unlocked(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 1..ATTEMPTS {
        match work() {
            Err(error)
                if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
                    || error.is_sqlstate(&SqlState::T_R_DEADLOCK_DETECTED) =>
            {
                // Whoever queued up behind us goes first.
                std::thread::sleep(Duration::from_millis(200));
            }
            other => return other,
        }
    }
    work()
}

/// Whether changes are recorded by triggers here.
pub fn is_present(session: &mut Session) -> Result<bool> {
    Ok(session.query_one(&sql::capture::HAS_CHANGE_TABLE, &[])?.get("present"))
}

/// Size of the change table, in bytes; none where there is none.
pub fn retained_bytes(session: &mut Session) -> Result<Option<i64>> {
    let row = session.query_one(&sql::capture::HAS_CHANGE_TABLE, &[])?;
    Ok(row.get::<_, bool>("present").then(|| row.get("retained_bytes")))
}

/// Fails when what the triggers are to record is not, or no longer, complete.
pub fn require_intact(session: &mut Session) -> Result<()> {
    if !is_present(session)? {
        return Err(Error::Conflict {
            kind: "capture_missing",
            sqlstate: None,
            message: format!("the change table of the {} does not exist any more", session.place),
            detail: Some("Changes that were not replayed are lost with it.".to_owned()),
            hint: MISSED.to_owned(),
        });
    }
    let lacking = list_names(session, &sql::capture::LIST_UNCAPTURED)?;
    refuse_any(&lacking, "were not all recorded: a trigger of ours is missing, or is or was disabled")?;
    let uncovered = list_uncovered(session)?.into_iter();
    let emptied: Vec<String> =
        uncovered.filter(|(_, rewritten)| *rewritten).map(|(table, _)| table.to_string()).collect();
    refuse_any(
        &emptied,
        "may not all be recorded: it was emptied or rewritten, and had no trigger of ours yet that would record which",
    )
}

/// Fails for the first of these tables, whose changes are not all recorded.
fn refuse_any(tables: &[String], why: &str) -> Result<()> {
    let Some((table, others)) = tables.split_first() else { return Ok(()) };
    Err(Error::Conflict {
        kind: "capture_incomplete",
        sqlstate: None,
        message: format!("changes of table \"{table}\" {why}"),
        detail: (!others.is_empty()).then(|| format!("The same holds for {}.", others.join(", "))),
        hint: MISSED.to_owned(),
    })
}

/// Partitions of which it is not recorded that they are emptied, and whether they may have been.
fn list_uncovered(session: &mut Session) -> Result<Vec<(TableName, bool)>> {
    let rows = session.query(&sql::capture::LIST_UNCOVERED, &[])?;
    let name = TableName::in_row;
    Ok(rows.iter().map(|row| (name(row), row.get("rewritten"))).collect())
}

/// Has it recorded, from here on, that partitions are emptied that were made where no event trigger could see to that. One that is
/// in use or not ours is left for the next time: should it be emptied before that, [`require_intact`] tells.
pub fn cover_partitions(session: &mut Session) -> Result<()> {
    for (table, _) in list_uncovered(session)? {
        let quoted = sql::quote_qualified(&table.schema, &table.name);
        let covered = session.atomically(|session| {
            let lock = format!("lock table {quoted} in share row exclusive mode");
            session.change_script(&format!("set local lock_timeout = {COVER_WAIT_MS}; {lock}"))?;
            // Nobody can empty it now, and after that nobody can see any more that it was.
            require_intact(session)?;
            session.change_script(&sql::capture::CREATE_TRUNCATE_TRIGGER.with(&[("table", &quoted)]))
        });
        match covered {
            Err(error) if COVER_LATER.iter().any(|code| error.is_sqlstate(code)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Captured tables whose columns are others than those described: then it is not known which of them a change has.
pub fn require_described(session: &mut Session) -> Result<()> {
    let altered = list_names(session, &sql::capture::LIST_ALTERED)?;
    let Some(table) = altered.first() else { return Ok(()) };
    Err(Error::Conflict {
        kind: "columns_changed",
        sqlstate: None,
        message: format!("table \"{table}\" was altered while its changes were recorded"),
        detail: Some(
            "Which changes came before is not known: our event triggers, which only a superuser can create, did not see it."
                .to_owned(),
        ),
        hint: format!("Alter the table back, and run the same command again. Where that cannot be done: {MISSED}"),
    })
}

fn list_names(session: &mut Session, statement: &Sql) -> Result<Vec<String>> {
    let rows = session.query(statement, &[])?;
    Ok(rows.iter().map(|row| format!("{}.{}", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect())
}

/// Gives what has been committed by now its place; the last place that was given. What is placed later comes behind it.
pub fn order_changes(session: &mut Session) -> Result<PgLsn> {
    let rows = session
        .ask_script(sql::capture::ORDER_CHANGES.text)
        .doing(|| "order the recorded changes".to_owned())?;
    let position = rows.first().and_then(|row| row.first()?.as_deref()?.parse::<u64>().ok());
    position.map(PgLsn::from).ok_or_else(|| Error::Internal {
        message: "the last place in the order of changes is no number".to_owned(),
    })
}

/// The last place that was drawn, also by a session that has not committed it yet.
pub fn drawn_position(session: &mut Session) -> Result<PgLsn> {
    let position: i64 = session.query_one(&sql::capture::READ_POSITION, &[])?.get("position");
    Ok(PgLsn::from(position.cast_unsigned()))
}

/// About how many bytes of changes come after `position`.
pub fn bytes_behind(session: &mut Session, position: PgLsn) -> Result<u64> {
    let row = session.query_one(&sql::capture::READ_BACKLOG, &[&ordinal(position)])?;
    Ok(row.get::<_, i64>("bytes").cast_unsigned())
}

/// Row changes after `position`.
pub fn count_later(session: &mut Session, position: PgLsn) -> Result<i64> {
    order_changes(session)?;
    Ok(session.query_one(&sql::capture::COUNT_LATER_CHANGES, &[&ordinal(position)])?.get("changes"))
}

/// Removes changes up to `position`, in short statements, until `budget` is used up; whether all are gone.
pub fn purge(session: &mut Session, position: PgLsn, budget: Duration) -> Result<bool> {
    let began = Instant::now();
    let up_to = ordinal(position);
    loop {
        let changes = session.change(sql::capture::PURGE_CHANGES.text, &[&up_to, &PURGED_AT_ONCE])?;
        let places = session.change(sql::capture::PURGE_ORDER.text, &[&up_to])?;
        if changes == 0 && places == 0 {
            return Ok(true);
        }
        if began.elapsed() >= budget {
            return Ok(false);
        }
    }
}

/// A place as the change table has it.
pub fn ordinal(position: PgLsn) -> i64 {
    u64::from(position).cast_signed()
}
