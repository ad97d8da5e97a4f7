//! What we keep in schema `pgdetour`: the detour's record on the target, a stamp on both sides.

use std::time::Duration;

use postgres::error::SqlState;
use serde_json::Value;

use crate::error::{Doing as _, Error, Result};
use crate::pg::lock::{CLASS, Key};
use crate::pg::parameter::Parameter;
use crate::pg::{PgLsn, Session};
use crate::phase::{Phase, Place, Serving, Side};
use crate::sql::{Sql, record as sql};

/// The detour as its record has it.
#[derive(Debug, Clone)]
pub struct Detour {
    /// UUID, the same on both sides' stamps.
    pub id: String,
    /// Where it is.
    pub phase: Phase,
    /// Who serves, as far as the record knows; a router that can be asked knows better.
    pub serving: Serving,
    /// Side on which a switch has decided: past the point of no return when set in a `cutting_…` phase.
    pub decided: Option<Side>,
    /// What later steps need and cannot find out again.
    pub facts: Value,
}

/// Which database of which detour one is. Destructive steps believe this, not the configuration:
/// a flipped one would empty the live side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Id of the detour.
    pub detour: String,
    /// What this database is in it.
    pub place: Place,
    /// Copy of the phase, for the time when the target is down.
    pub phase: Phase,
    /// Copy of who serves.
    pub serving: Serving,
    /// On the source, which database is the target, where that could be told: as [`read_identity`] does.
    pub target: Option<String>,
}

/// One finished step of a command.
#[derive(Debug, Clone)]
pub struct DoneStep {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

fn parse_phase(name: &str) -> Result<Phase> {
    Phase::from_name(name).ok_or_else(|| Error::Internal {
        message: format!("the record names a phase \"{name}\" that does not exist"),
    })
}

fn parse_serving(name: &str) -> Serving {
    match name {
        "source" => Serving::Source,
        "target" => Serving::Target,
        _ => Serving::Nobody,
    }
}

fn parse_side(name: &str) -> Side {
    if name == "source" { Side::Source } else { Side::Target }
}

fn parse_place(name: &str) -> Place {
    if name == "backup" { Place::Backup } else { parse_side(name).into() }
}

/// Whether schema `pgdetour` has this table here.
pub fn has_table(session: &mut Session, table: &str) -> Result<bool> {
    Ok(session.query_one(&sql::HAS_TABLE, &[&table])?.get(0))
}

/// The record on the target, when there is one.
pub fn read_detour(target: &mut Session) -> Result<Option<Detour>> {
    if !has_table(target, "detour")? {
        return Ok(None);
    }
    let Some(row) = target.query_opt(&sql::READ_DETOUR, &[])? else { return Ok(None) };
    Ok(Some(Detour {
        id: row.get("id"),
        phase: parse_phase(row.get("phase"))?,
        serving: parse_serving(row.get("serving")),
        decided: row.get::<_, Option<&str>>("decided").map(parse_side),
        facts: row.get("facts"),
    }))
}

/// The stamp of this database, when it has one.
pub fn read_stamp(session: &mut Session) -> Result<Option<Stamp>> {
    if !has_table(session, "stamp")? {
        return Ok(None);
    }
    let Some(row) = session.query_opt(&sql::READ_STAMP, &[])? else { return Ok(None) };
    Ok(Some(Stamp {
        detour: row.get("detour"),
        place: parse_place(row.get("side")),
        phase: parse_phase(row.get("phase"))?,
        serving: parse_serving(row.get("serving")),
        target: row.get("target"),
    }))
}

/// What tells a database from all others; none where our role may not know.
pub fn read_identity(session: &mut Session) -> Result<Option<String>> {
    match session.query_one(&sql::READ_IDENTITY, &[]) {
        Ok(row) => Ok(Some(row.get("identity"))),
        Err(error) if error.is_sqlstate(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs scripts that make objects in our schema, and makes that first, in the transaction that is open. Others get no privileges
/// there but those that the scripts grant, whatever default privileges say.
pub fn make_objects(session: &mut Session, scripts: &[&Sql]) -> Result<()> {
    session.change_script(sql::CREATE_SCHEMA.text)?;
    // Somebody may have made it since we connected.
    refuse_foreign(session)?;
    scripts.iter().try_for_each(|script| session.change_script(script.text))?;
    session.change_script(sql::WITHHOLD_PRIVILEGES.text)
}

/// Refuses a schema of ours that another role has made, or has put something into: we run what stands there.
pub fn refuse_foreign(session: &mut Session) -> Result<()> {
    let Some(row) = session.query_opt(&sql::FIND_FOREIGN, &[])? else { return Ok(()) };
    let (object, owner): (String, String) = (row.get("object"), row.get("owner"));
    Err(Error::Refused {
        kind: "foreign_schema",
        message: format!("{object} of the {} belongs to role \"{owner}\"", session.place),
        detail: Some(
            "what stands in schema pgdetour is run with the privileges of the role that pgdetour connects as"
                .into(),
        ),
        hint: format!(
            "If \"{owner}\" has begun a detour, connect as that role, or as one that was made a member of it; it needs REPLICATION to be \
             trusted. Only if no detour is under way, run \"DROP SCHEMA pgdetour CASCADE\" there."
        ),
    })
}

/// Makes our schema, the record and all stamps, in phase `mirroring`; goes on where an earlier run stopped.
/// `facts` are kept when the record is new. The source is stamped first: a target without a record is `absent`, so that the same run begins again.
pub fn create(
    source: &mut Session,
    backup: Option<&mut Session>,
    target: &mut Session,
    facts: &Value,
) -> Result<String> {
    let id = match read_stamp(source)? {
        Some(stamp) => stamp.detour,
        None => source.query_one(&sql::MAKE_ID, &[])?.get(0),
    };
    let identity = read_identity(target)?;
    stamp_source(source, &id, identity.as_deref())?;
    if let Some(backup) = backup {
        backup
            .atomically(|backup| {
                make_objects(backup, &[&sql::CREATE_COMMON, &sql::CREATE_COPIES])?;
                stamp(backup, &id, None)
            })
            .doing(|| "create schema \"pgdetour\"".into())?;
    }
    target
        .atomically(|target| {
            make_objects(target, &[&sql::CREATE_COMMON, &sql::CREATE_COPIES, &sql::CREATE_TARGET])?;
            stamp(target, &id, None)?;
            target.change(sql::INSERT_DETOUR.text, &[&id, facts])
        })
        .doing(|| "create schema \"pgdetour\"".into())?;
    Ok(id)
}

/// Makes our schema and the stamp of the source alone; `target` is what [`read_identity`] says of that.
pub fn stamp_source(source: &mut Session, id: &str, target: Option<&str>) -> Result<()> {
    source
        .atomically(|source| {
            make_objects(source, &[&sql::CREATE_COMMON, &sql::CREATE_SOURCE])?;
            stamp(source, id, target)
        })
        .doing(|| "create schema \"pgdetour\"".into())
}

fn stamp(session: &mut Session, id: &str, target: Option<&str>) -> Result<()> {
    let place = session.place.name();
    let values: [&dyn Parameter; 5] = [&id, &place, &"mirroring", &"source", &target];
    session.change(sql::INSERT_STAMP.text, &values).map(drop)
}

/// Records phase and who serves. `decided` is the side that a switch has decided on.
/// `facts` are added in the same statement.
pub fn set_phase(
    target: &mut Session,
    phase: Phase,
    serving: Serving,
    decided: Option<Side>,
    facts: &Value,
) -> Result<()> {
    let decided = decided.map(Side::name);
    target
        .change(sql::UPDATE_PHASE.text, &[&phase.name(), &serving.to_string(), &decided, facts])
        .doing(|| format!("record phase \"{phase}\""))?;
    Ok(())
}

/// Records the point of no return, in one statement that holds only while the switch is in phase `moving`, is not
/// decided, and backend `lock` of the target holds our lock. The record's facts then; none when it did not hold.
pub fn decide(
    target: &mut Session,
    moving: Phase,
    to: Side,
    facts: &Value,
    lock: i32,
) -> Result<Option<Value>> {
    let rows = target
        .change_returning(
            sql::DECIDE.text,
            &[&moving.name(), &to.name(), facts, &lock, &CLASS, &Key::Run.object()],
        )
        .doing(|| format!("record the decision for the {to}"))?;
    Ok(rows.first().map(|row| row.get("facts")))
}

/// The record once no statement of a dead run can decide any more: its lock has to be ours.
pub fn bar_decision(target: &mut Session) -> Result<Option<Detour>> {
    target.change(sql::BAR_DECISION.text, &[]).doing(|| "bar a decision that is under way".into())?;
    read_detour(target)
}

/// Takes a decision back on which nobody has acted yet.
pub fn revoke_decision(target: &mut Session, moving: Phase, to: Side) -> Result<()> {
    target
        .change(sql::REVOKE_DECISION.text, &[&moving.name(), &to.name()])
        .doing(|| format!("take back the decision for the {to}"))
        .map(drop)
}

/// Writes on the source that a switch has ended with general traffic there, while the target does not say whether it was
/// decided. `facts` are for the record, should it go on from there.
pub fn settle_on_source(source: &mut Session, switch: &str, facts: &Value) -> Result<()> {
    let settled = source.change(sql::SETTLE_ON_SOURCE.text, &[&switch, facts]);
    settled.doing(|| "note that general traffic stays on the source".into())?;
    Ok(())
}

/// The facts that [`settle_on_source`] has written, when it was about this switch.
pub fn read_settled(source: &mut Session, switch: &str) -> Result<Option<Value>> {
    Ok(source.query_opt(&sql::READ_SETTLED, &[&switch])?.map(|row| row.get("facts")))
}

/// Records that a switch was taken back; false when it has been decided meanwhile, and goes forwards only.
pub fn settle_phase(target: &mut Session, phase: Phase, serving: Serving) -> Result<bool> {
    let rows = target
        .change_returning(sql::SETTLE_PHASE.text, &[&phase.name(), &serving.to_string()])
        .doing(|| format!("record phase \"{phase}\""))?;
    Ok(!rows.is_empty())
}

/// The statements of a switch's decision, to be prepared before it has to be fast.
pub const DECIDING: [&crate::sql::Sql; 2] = [&sql::DECIDE, &sql::UPDATE_PHASE];

/// Copies phase and who serves to a side's stamp, for a time when the record cannot be read.
pub fn set_stamp_phase(session: &mut Session, phase: Phase, serving: Serving) -> Result<()> {
    session.change(sql::UPDATE_STAMP.text, &[&phase.name(), &serving.to_string()]).map(drop)
}

/// Adds or replaces keys of the record's facts.
pub fn merge_facts(target: &mut Session, facts: &Value) -> Result<()> {
    target.change(sql::MERGE_FACTS.text, &[facts]).doing(|| "record what was found".into())?;
    Ok(())
}

/// Notes that a step is done.
pub fn note_step(target: &mut Session, command: &str, name: &str, took: Duration) -> Result<()> {
    let ms = took.as_secs_f64() * 1000.0;
    target.change(sql::INSERT_STEP.text, &[&command, &name, &ms]).map(drop)
}

/// The finished steps of a command, in the order in which they finished.
pub fn list_steps(target: &mut Session, command: &str) -> Result<Vec<DoneStep>> {
    let rows = target.query(&sql::LIST_STEPS, &[&command])?;
    Ok(rows.iter().map(|row| DoneStep { name: row.get("name"), ms: row.get("ms") }).collect())
}

/// Forgets the steps of a command that was taken back or begins anew.
pub fn forget_steps(target: &mut Session, command: &str) -> Result<()> {
    target.change(sql::DELETE_STEPS.text, &[&command]).map(drop)
}

/// Notes how to take back what is about to be done.
pub fn push_undo(target: &mut Session, command: &str, action: &Value) -> Result<()> {
    target.change(sql::INSERT_UNDO.text, &[&command, action]).doing(|| "note how to take back".into())?;
    Ok(())
}

/// What takes a command back, in the order in which to do it.
pub fn list_undo(target: &mut Session, command: &str) -> Result<Vec<(i64, Value)>> {
    let rows = target.query(&sql::LIST_UNDO, &[&command])?;
    Ok(rows.iter().map(|row| (row.get("ordinal"), row.get("action"))).collect())
}

/// Removes one undo that was done, or that a finished command no longer needs.
pub fn remove_undo(target: &mut Session, ordinal: i64) -> Result<()> {
    target.change(sql::DELETE_UNDO.text, &[&ordinal]).map(drop)
}

/// Writes a line into the detour's history.
pub fn note_event(target: &mut Session, command: &str, message: &str, took: Option<Duration>) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let ms = took.map(|took| took.as_secs_f64() * 1000.0);
    target.change(sql::INSERT_EVENT.text, &[&command, &message, &host, &ms]).map(drop)
}

/// One line of the detour's history.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Event {
    /// When, by the target's clock.
    pub happened_at: String,
    /// The command that ran.
    pub command: String,
    /// What happened.
    pub message: String,
    /// The role that ran it.
    pub who: String,
    /// The host from which it ran.
    pub host: Option<String>,
}

/// The latest `count` lines of the detour's history, last first.
pub fn list_events(target: &mut Session, count: i64) -> Result<Vec<Event>> {
    let rows = target.query(&sql::LIST_EVENTS, &[&count])?;
    let event = |row: &postgres::Row| Event {
        happened_at: row.get("happened_at"),
        command: row.get("command"),
        message: row.get("message"),
        who: row.get("who"),
        host: row.get("host"),
    };
    Ok(rows.iter().map(event).collect())
}

/// Sets where a flow begins on its subscriber, forgetting what it had counted.
pub fn write_progress(subscriber: &mut Session, flow: &str, detour: &str, lsn: PgLsn) -> Result<()> {
    subscriber
        .change(sql::WRITE_PROGRESS.text, &[&flow, &detour, &lsn])
        .doing(|| format!("record where the {flow} flow begins"))?;
    Ok(())
}

/// Notes on the publisher that a flow begins to read its slot, and so moves it.
pub fn forget_released(publisher: &mut Session, flow: &str, detour: &str) -> Result<()> {
    publisher
        .change(sql::FORGET_RELEASED.text, &[&flow, &detour])
        .doing(|| format!("record that the {flow} flow is read"))?;
    Ok(())
}

/// Notes on the publisher where a flow leaves its slot.
pub fn note_released(publisher: &mut Session, flow: &str, detour: &str, slot: &str) -> Result<()> {
    publisher
        .change(sql::NOTE_RELEASED.text, &[&flow, &detour, &slot])
        .doing(|| format!("record where the {flow} flow leaves its slot"))?;
    Ok(())
}

/// Notes on the subscriber what the publisher has noted as applied.
pub fn note_told(subscriber: &mut Session, flow: &str, detour: &str, told: PgLsn) -> Result<()> {
    subscriber
        .change(sql::NOTE_TOLD.text, &[&flow, &detour, &told])
        .doing(|| format!("record how far the {flow} flow is applied"))?;
    Ok(())
}

/// What one side has noted of a flow of this detour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// End of the last transaction applied; on the publisher, as it was told.
    pub lsn: PgLsn,
    /// On the publisher: where the flow has left its slot; none while one reads it.
    pub released: Option<PgLsn>,
    /// On the subscriber: what the publisher has noted as applied.
    pub told: Option<PgLsn>,
}

/// How far a flow has come, as its subscriber has it.
#[derive(Debug, Clone)]
pub struct FlowProgress {
    /// End of the last transaction applied, on the publisher.
    pub lsn: PgLsn,
    /// Transactions applied since the flow began.
    pub transactions: i64,
    /// Row changes in them.
    pub changes: i64,
    /// When the last one was applied.
    pub changed_at: String,
}

/// How far a flow has come; nothing before it has begun.
pub fn read_progress(subscriber: &mut Session, flow: &str) -> Result<Option<FlowProgress>> {
    if !has_table(subscriber, "progress")? {
        return Ok(None);
    }
    let row = subscriber.query_opt(&sql::READ_FLOW_PROGRESS, &[&flow])?;
    Ok(row.map(|row| FlowProgress {
        lsn: row.get("lsn"),
        transactions: row.get("transactions"),
        changes: row.get("changes"),
        changed_at: row.get("changed_at"),
    }))
}

/// How far a flow of this detour has come, as this side has it; on the publisher, as it was told.
pub fn read_progress_of(session: &mut Session, flow: &str, detour: &str) -> Result<Option<Noted>> {
    let row = session.query_opt(&crate::sql::flow::READ_PROGRESS, &[&flow, &detour])?;
    Ok(row.map(|row| Noted { lsn: row.get("lsn"), released: row.get("released"), told: row.get("told") }))
}

/// Forgets how far a flow has come: what recorded its changes begins anew.
pub fn forget_progress(session: &mut Session, flow: &str) -> Result<()> {
    if has_table(session, "progress")? {
        session.change(sql::DELETE_PROGRESS.text, &[&flow])?;
    }
    Ok(())
}

/// Changes that were set aside on the source, and nobody has looked at yet.
pub fn count_quarantined(source: &mut Session) -> Result<i64> {
    if !has_table(source, "quarantine")? {
        return Ok(0);
    }
    Ok(source.query_one(&sql::COUNT_QUARANTINED, &[])?.get(0))
}

/// A fresh UUID, from a server that we talk to anyway.
pub fn new_id(session: &mut Session) -> Result<String> {
    Ok(session.query_one(&sql::MAKE_ID, &[])?.get(0))
}

/// Drops everything that we keep on a side.
pub fn drop_record(session: &mut Session) -> Result<()> {
    session.change_script(sql::DROP_RECORD.text).doing(|| "drop schema \"pgdetour\"".into())
}
