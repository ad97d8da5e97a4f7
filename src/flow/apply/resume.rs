//! Where a flow goes on: what its subscriber says is applied, held against what its publisher was told.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::PgLsn;

use super::Applier;
use super::follow::Flow;
use crate::error::{Error, Result};
use crate::flow::source::slot;
use crate::flow::{ChangeSource, FlowName};
use crate::pg::record::Noted;
use crate::pg::{Session, record};
use crate::sql;

/// First half of the keys of the lock that keeps appliers apart: the letters `pgdt`.
const LOCK_CLASS: i32 = 0x7067_6474;
/// Second half, by flow; smaller ones are those of runs.
const LOCKS: [(FlowName, i32); 3] = [(FlowName::Mirror, 11), (FlowName::Replay, 12), (FlowName::Backup, 13)];

/// How often in a row a lost connection or a deadlock is tried again before it is told; about half a minute in all.
pub const ATTEMPTS: u32 = 9;

/// Second half of the lock's key.
fn key_of(flow: FlowName) -> i32 {
    LOCKS.iter().find(|(name, _)| *name == flow).map_or(0, |(_, key)| *key)
}

/// What takes the lock of a flow's second session.
pub fn second_lock(flow: FlowName) -> String {
    let (class, key) = (LOCK_CLASS.to_string(), key_of(flow).to_string());
    sql::flow::LOCK_SECOND_APPLIER.with(&[("class", &class), ("key", &key)])
}

/// Keeps other sessions from applying the same flow, as long as this one lives.
pub fn lock_applier(session: &mut Session, flow: FlowName) -> Result<()> {
    let key = key_of(flow);
    match session.query(&sql::flow::LOCK_APPLIER, &[&LOCK_CLASS, &key]) {
        Err(error) if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE) => Err(Error::Busy {
            on: session.place.name().to_owned(),
            holder: format!("another session applies the {flow} flow"),
        }),
        other => other.map(drop),
    }
}

/// Has those that apply a flow to this database wait for no lock: what they wait with fails.
pub fn end_waits(session: &mut Session) -> Result<()> {
    let keys: Vec<i64> =
        LOCKS.iter().flat_map(|(_, key)| [*key, -*key]).map(|key| i64::from(key as u32)).collect();
    session.query(&sql::flow::END_WAITS_OF_APPLIERS, &[&LOCK_CLASS, &keys]).map(drop)
}

/// What both ends of a flow have noted of how far it was applied.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// What records the changes has been let go up to here.
    let_go: PgLsn,
    publisher: Option<Noted>,
    subscriber: Option<Noted>,
}

impl Ends {
    /// Reads it without a lock, in the order in which none may be behind the one before.
    pub fn read(
        flow: FlowName,
        detour: &str,
        source: &ChangeSource,
        publisher: &mut Session,
        subscriber: &mut Session,
    ) -> Result<Ends> {
        Ok(Ends {
            let_go: source.released(publisher)?,
            publisher: record::read_progress_of(publisher, flow.name(), detour)?,
            subscriber: record::read_progress_of(subscriber, flow.name(), detour)?,
        })
    }

    /// Refuses ends that are not where the other believes them to be: what lies between would be missing, or come
    /// twice. None where the flow has not begun.
    pub fn start(self, flow: FlowName, subscriber: &mut Session) -> Result<Option<PgLsn>> {
        let there = subscriber.place;
        let told = self.publisher.map(|noted| noted.lsn);
        let Some(applied) = self.subscriber else {
            if told.is_none() && flow != FlowName::Replay {
                return Ok(None);
            }
            let detail = match record::read_progress(subscriber, flow.name())? {
                Some(_) => "Its table pgdetour.progress speaks of another detour.",
                None => "Its table pgdetour.progress has no row for it.",
            };
            return Err(refused(
                "progress_missing",
                format!("the {there} does not know how far the {flow} flow was applied"),
                detail,
                RESTORED,
            ));
        };
        let start = applied.lsn;
        if let Some(told) = told.filter(|told| start < *told) {
            return Err(refused(
                "progress_behind",
                format!(
                    "the {flow} flow was applied up to {told}, but the {there} has it up to {start} only"
                ),
                "What lies between has been let go by the other side, and is not there: the server went back in time.",
                RESTORED,
            ));
        }
        if let Some(once) = applied.told.filter(|once| told < Some(*once)) {
            return Err(refused(
                "publisher_behind",
                format!(
                    "the {flow} flow was applied up to {start}, and the other side had noted {once}, but does not know of it any more"
                ),
                "The server that records the changes went back in time: some of what was applied is not there any more.",
                replaced(flow),
            ));
        }
        match self.publisher.and_then(|noted| noted.released) {
            Some(left) if self.let_go > left => Err(refused(
                "slot_moved",
                format!("the slot of the {flow} flow was left at {left}, and is at {} now", self.let_go),
                "Somebody has moved it or made it anew: changes between are not recorded any more.",
                slot::MISSED,
            )),
            _ => Ok(Some(start)),
        }
    }
}

const RESTORED: &str = "Was it restored from a dump or a backup, or \"pgdetour capture --anew\" interrupted? Connect to the server \
                        that was used before; or run \"pgdetour capture --anew\", which makes it equal to the target, so that \
                        replay goes on from there.";

/// What to do about a publisher that is not the one it was.
fn replaced(flow: FlowName) -> &'static str {
    match flow {
        FlowName::Replay => {
            "Connect to the server that was used before; or run \"pgdetour capture --anew\", which makes the source equal to the \
             target as it is now, so that replay goes on from there."
        }
        FlowName::Mirror | FlowName::Backup => {
            "Run \"pgdetour clean\" and mirror again, or connect to the server that was used before."
        }
    }
}

/// The slot of which it is noted, while no run reads it, where it was left; a mirror's is moved by its subscription, too.
pub fn watched_slot(flow: &Flow) -> Option<&str> {
    match &flow.source {
        ChangeSource::Slot { slot, .. } if flow.name == FlowName::Replay => Some(slot),
        _ => None,
    }
}

/// The position behind which the flow goes on, and up to where what records the changes was let go. Refuses ends that are not
/// where the other believes them to be.
pub fn find_start(flow: &Flow, applier: &mut Applier, publisher: &mut Session) -> Result<(PgLsn, PgLsn)> {
    let ends = Ends::read(flow.name, &flow.detour, &flow.source, publisher, applier.session())?;
    let Some(start) = ends.start(flow.name, applier.session())? else {
        return Ok((PgLsn::from(0), ends.let_go));
    };
    let end = flow.source.written(publisher)?;
    if start > end {
        return Err(ahead(flow.name, start, end));
    }
    Ok((start, ends.let_go))
}

/// The refusal of a publisher that has not written as much as was applied of it.
pub fn ahead(flow: FlowName, start: PgLsn, end: PgLsn) -> Error {
    refused(
        "progress_ahead",
        format!("the {flow} flow was applied up to {start}, but the other side has written up to {end} only"),
        "The server was restored or replaced: positions do not go on from where they were.",
        replaced(flow),
    )
}

fn refused(kind: &'static str, message: String, detail: &str, hint: &str) -> Error {
    Error::Conflict { kind, sqlstate: None, message, detail: Some(detail.to_owned()), hint: hint.to_owned() }
}

/// Whether the same may well succeed in a moment: a server that restarts, a reader of the slot that is still leaving,
/// a deadlock. The answer to a COMMIT that was lost is in the subscriber's progress, which the next attempt reads.
pub fn may_succeed_later(error: &Error) -> bool {
    let transient =
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::OBJECT_IN_USE];
    error.is_connection_lost()
        || matches!(error, Error::Busy { .. })
        || transient.iter().any(|code| error.is_sqlstate(code))
}

/// A wait that grows with each attempt, between half and all of 100 ms · 2^attempt and at most 8 s, so that two that met
/// do not meet again.
pub fn pause(attempt: u32) -> Duration {
    let full = Duration::from_millis((100 << attempt.min(7)).min(8000));
    let random = RandomState::new().build_hasher().finish();
    full.mul_f64(0.5 + (random % 1024) as f64 / 2048.0)
}
