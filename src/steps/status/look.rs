//! One look at everything that can be seen of a detour.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postgres::error::SqlState;
use serde::Serialize;
use serde_json::{Value, json};

use super::attention::{self, Attention, Level};
use crate::config::FenceKind;
use crate::error::{Checked, Error, Finding, Result, ServerError};
use crate::flow::apply::resume;
use crate::flow::source::{lag, slot, space};
use crate::flow::{ChangeSource, FlowName, subscription};
use crate::pg::catalog::facts::read_server;
use crate::pg::lock::{self, Holder, Key};
use crate::pg::sessions::{GeneralSession, list_apply_blockers, list_sessions};
use crate::pg::{fence, record, restriction, server};
use crate::phase::{Command, Phase, Place, Serving, Side};
use crate::routers::RouterState;
use crate::steps::capture::recorded;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::{Carrier, ReplayStop, parse_lsn};
use crate::steps::run::names;
use crate::steps::status::orphans::Orphan;
use crate::steps::switch::guardian::is_guardian;
use crate::steps::{Run, preconditions};

/// How much of the history is shown.
const SHOWN_EVENTS: i64 = 10;
/// How long a look at a table of the source may wait for those who hold it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// Whoever stays for so long on a side that is read-only does not just look for one that is not.
const KNOCKING: Duration = Duration::from_millis(300);

/// All that one look has found. The keys are those of the report.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// None when neither the record nor its copy can be read.
    pub phase: Option<Phase>,
    /// As the routers have it, which know better than the record.
    pub serving: Option<Serving>,
    health: Level,
    next: Vec<Command>,
    pub(super) attention: Vec<Attention>,
    pub(super) servers: Vec<ServerSeen>,
    /// The run that holds the lock, if there is one.
    running: Option<String>,
    pub(super) mirror: Option<MirrorSeen>,
    /// The flows through the backup, or to it; none without one.
    pub(super) stages: Vec<StageSeen>,
    pub(super) capture: Option<CaptureSeen>,
    pub(super) replay: Option<ReplaySeen>,
    pub(super) router: Vec<RouterSeen>,
    pub(super) wrong_side: Vec<Value>,
    pub(super) orphans: Vec<Orphan>,
    restricted: Value,
    pub(super) fenced: Fenced,
    done: Vec<Value>,
    history: Value,
    /// The side that general traffic belongs to, wherever a router sends it.
    #[serde(skip)]
    pub(super) home: Option<Serving>,
    /// The side on which a switch has decided that somebody else carries out, and which lets clients in.
    #[serde(skip)]
    pub(super) awaited: Option<Side>,
    /// What the next run refuses to begin with, although both servers answer.
    #[serde(skip)]
    pub(super) refusal: Option<Error>,
    /// What has no place on the source as it is now, so that replay would be refused.
    #[serde(skip)]
    pub(super) unmapped: Vec<Finding>,
    /// What has changed on the source since it was mirrored and is not on the target.
    #[serde(skip)]
    pub(super) drifted: Vec<Finding>,
    /// A clean has begun, and is to be ended by another: what it has taken away is missed by nobody.
    #[serde(skip)]
    pub(super) is_cleaning: bool,
    /// A run of somebody's is at work. A guardian's is none: it does what a run has left, again and again.
    #[serde(skip)]
    pub(super) is_at_work: bool,
}

/// One server.
#[derive(Debug, Serialize)]
pub struct ServerSeen {
    pub side: Place,
    pub reachable: bool,
    version: Option<String>,
    /// Why it cannot be reached.
    pub error: Option<String>,
    /// It answers, and is not to be believed.
    #[serde(skip)]
    refusal: Option<Error>,
}

/// The flow from the source to the target.
#[derive(Debug, Serialize)]
pub struct MirrorSeen {
    pub carried_by: Option<Carrier>,
    pub enabled: Option<bool>,
    pub running: Option<bool>,
    /// Attempts to apply that have failed; a number that grows is a change that does not fit.
    apply_errors: Option<i64>,
    pub slot: Option<&'static str>,
    pub slot_lost: Option<bool>,
    retained_bytes: Option<i64>,
    /// WAL that the source may still write before it gives the slot up or its disk is full; none where that cannot be told.
    safe_bytes: Option<i64>,
    /// Time until then at the source's pace so far.
    seconds_to_loss: Option<u64>,
    /// What of it somebody has to look at, by the limits of the configuration.
    pub alarm: Option<String>,
    lag_bytes: Option<u64>,
}

/// One flow that begins or ends at the backup. What is not known is `null`.
#[derive(Debug, Serialize)]
pub struct StageSeen {
    pub from: Place,
    pub to: Place,
    pub enabled: Option<bool>,
    pub running: Option<bool>,
    apply_errors: Option<i64>,
    pub slot: Option<&'static str>,
    pub slot_lost: Option<bool>,
    pub retained_bytes: Option<i64>,
    lag_bytes: Option<u64>,
}

/// The recording of changes on the target.
#[derive(Debug, Serialize)]
pub struct CaptureSeen {
    method: &'static str,
    pub slot: Option<&'static str>,
    start_lsn: Option<String>,
    retained_bytes: Option<i64>,
    /// What may still be written before the server gives the recording up or its disk is full; none where that cannot be told.
    safe_bytes: Option<i64>,
    /// WAL, or recorded changes, written a second, on average since cutover.
    growth_bytes: Option<i64>,
    /// Time until the limit is reached at that rate.
    left_seconds: Option<f64>,
    /// What was recorded is not, or no longer, complete.
    lost: bool,
    /// Why.
    pub fault: Option<String>,
    /// What of it somebody has to look at, by the limits of the configuration.
    pub alarm: Option<String>,
    /// What it could not see.
    #[serde(skip)]
    pub unseen: Checked,
}

/// The flow from the target to the source.
#[derive(Debug, Serialize)]
pub struct ReplaySeen {
    applied_lsn: String,
    transactions: i64,
    changes: i64,
    changed_at: String,
    lag_bytes: Option<u64>,
    pub quarantined: Option<i64>,
    /// What it has stopped at, when it has not gone on since.
    pub stopped_at: Option<ReplayStop>,
    /// Who keeps its changes waiting for a lock on the source.
    waits_for: Vec<String>,
}

/// One router against what it should do.
#[derive(Debug, Serialize)]
pub struct RouterSeen {
    #[serde(flatten)]
    pub state: RouterState,
    /// The side that it should send clients to; none while a switch runs.
    pub should: Option<Side>,
    /// It does what it should.
    pub right: bool,
    /// It could be asked.
    #[serde(skip)]
    pub is_known: bool,
}

/// On which side general roles are kept out, or from writing.
#[derive(Debug, Serialize)]
pub struct Fenced {
    pub source: SideFence,
    pub target: SideFence,
    /// The target is to be fenced from the first copy until it serves.
    #[serde(skip)]
    pub is_standing: bool,
}

impl Fenced {
    /// General roles are kept out of the source, and nobody knows that they are kept out of the target, too.
    pub fn source_alone(&self) -> bool {
        self.source.raised == Some(true) && self.target.raised != Some(true)
    }

    pub fn on(&self, side: Side) -> &SideFence {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}

/// The fence of one side.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct SideFence {
    /// None where that is not known.
    pub raised: Option<bool>,
    /// What it is, or would be.
    #[serde(skip)]
    pub kind: FenceKind,
    /// The statements that end it by hand; empty where that is not known.
    #[serde(skip)]
    pub opened_by: String,
}

impl Seen {
    /// How bad it is.
    pub fn health(&self) -> Level {
        self.health
    }

    /// What somebody has to look at, the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        self.attention.iter().map(|attention| attention.finding.clone()).collect()
    }

    /// The failure when neither server answers.
    pub fn unreachable(&mut self) -> Option<Error> {
        if self.servers.iter().any(|server| server.reachable && server.side != Place::Backup) {
            return None;
        }
        if let Some(refusal) = self.servers.iter_mut().find_map(|server| server.refusal.take()) {
            return Some(refusal);
        }
        let said = self.servers.iter().filter_map(|server| server.error.clone());
        Some(Error::Unreachable {
            what: "the source and the target".into(),
            cause: ServerError::lost(said.collect::<Vec<_>>().join("; ")),
        })
    }
}

/// Looks at both servers and every router.
pub fn look(run: &mut Run) -> Seen {
    let answers = run.connect_what_answers_in_time();
    let servers = answers.into_iter().map(|(place, error)| server_seen(run, place, error)).collect();
    // Before the phase: what a run that ends in between leaves is finished.
    let holder = running(run);
    let (phase, recorded) = read_phase(run).unzip();
    let states = router_states(run);
    let fenced = fenced(run);
    let knows_the_source = run.answering(Side::Source).is_some();
    let awaited = awaited(run, &fenced);
    let serving = awaited.map(Serving::from);
    let serving = serving.or_else(|| who_serves(phase, recorded?, &states, &fenced, knows_the_source));
    let home = home(phase, recorded, serving);
    let router = states.into_iter().map(|state| against_what_it_should(state, phase, recorded)).collect();
    let is_cleaning = is_cleaning(run, phase);
    let refusal = if is_cleaning { None } else { refusal(run, phase) };
    let is_lost = refusal.as_ref().is_some_and(|error| error.kind() == "record_lost");
    let next = phase.map(|phase| if is_cleaning || is_lost { vec![Command::Clean] } else { phase.next() });
    let mut seen = Seen {
        phase,
        serving,
        health: Level::Well,
        next: next.unwrap_or_default(),
        attention: Vec::new(),
        servers,
        is_at_work: holder.as_ref().is_some_and(|holder| !is_guardian(&holder.application_name)),
        running: holder.map(|holder| holder.to_string()),
        mirror: mirror_seen(run, phase),
        stages: stages_seen(run, phase),
        capture: capture_seen(run, phase),
        replay: replay_seen(run, phase),
        router,
        wrong_side: wrong_side(run, home),
        orphans: orphans(run, phase),
        restricted: restricted(run),
        fenced,
        done: steps_of_phase(run, phase),
        history: history(run),
        home,
        refusal,
        is_cleaning,
        awaited,
        unmapped: Vec::new(),
        drifted: Vec::new(),
    };
    if seen.refusal.is_none() && !seen.is_at_work && !is_cleaning {
        seen.unmapped = unmapped(run, phase);
        seen.drifted = drifted(run, phase);
    }
    seen.attention = attention::of(&seen);
    seen.health = seen.attention.iter().map(|attention| attention.level).max().unwrap_or(Level::Well);
    seen
}

/// Whether a clean that has begun is to be ended by another. Not as long as the way home is still there, which nobody is to throw away
/// for a clean that was killed before it could.
fn is_cleaning(run: &mut Run, phase: Option<Phase>) -> bool {
    let has_begun = run.facts().is_ok_and(|facts| facts.cleaning == Some(true));
    if !has_begun || !phase.is_some_and(|phase| Command::Clean.allowed_in(phase)) {
        return false;
    }
    let recording = run.recording();
    let is_recorded = |target| recording.exists(target).unwrap_or(false);
    phase != Some(Phase::Detoured) || !run.answering(Side::Target).is_some_and(is_recorded)
}

fn server_seen(run: &mut Run, side: Place, error: Option<Error>) -> ServerSeen {
    let session = run.answering(side);
    ServerSeen {
        side,
        reachable: session.is_some(),
        version: session.and_then(|session| read_server(session).ok()).map(|server| server.version_text),
        error: error.as_ref().map(Error::with_cause),
        refusal: error.filter(|error| matches!(error, Error::Refused { .. })),
    }
}

/// From the record; with the target down, or another database in its place, from the copy in the source's stamp.
fn read_phase(run: &mut Run) -> Option<(Phase, Serving)> {
    if let Some(target) = run.answering(Side::Target) {
        run.detour = record::read_detour(target).ok()?;
        if run.detour.is_some() || run.answering(Side::Source).is_none() {
            return Some((run.phase(), run.serving()));
        }
        let stamp = record::read_stamp(run.source()).ok()?;
        return match stamp {
            Some(stamp)
                if run.is_of_another_target(&stamp).ok()? || run.find_lost_record().ok()?.is_some() =>
            {
                Some((stamp.phase, stamp.serving))
            }
            _ => Some((run.phase(), run.serving())),
        };
    }
    run.detour = None;
    let stamp = record::read_stamp(run.answering(Side::Source)?).ok()?;
    Some(stamp.map_or((Phase::Absent, Serving::Source), |stamp| (stamp.phase, stamp.serving)))
}

/// What every router does; of one that could not be asked, the little that is known.
type States = Vec<Result<RouterState, RouterState>>;

fn router_states(run: &mut Run) -> States {
    // What leads home may have been noted since the last look.
    run.forget_routers();
    match run.routers() {
        Ok(routers) if routers.moves_clients() => routers.ask_states(),
        Ok(_) => Vec::new(),
        Err(error) => vec![Err(RouterState {
            name: "router".into(),
            detail: Some(error.with_cause()),
            ..RouterState::default()
        })],
    }
}

/// The routers know better than the record: a run may have died between an act and its note. In a switch that stopped part
/// way a router may send clients to where they are kept out. Once the record is gone, a source that alone is fenced is one that
/// was left behind for good; of one that does not answer nobody knows that.
fn who_serves(
    phase: Option<Phase>,
    recorded: Serving,
    states: &States,
    fenced: &Fenced,
    knows_the_source: bool,
) -> Option<Serving> {
    if phase.is_none() {
        return Some(recorded);
    }
    let moves = matches!(phase, Some(Phase::CuttingOver | Phase::CuttingBack));
    let answering = states.iter().filter_map(|state| state.as_ref().ok()).collect::<Vec<_>>();
    let routers = if moves && !answering.is_empty() {
        // One that does not answer keeps nobody of another one from being served.
        answering
    } else {
        states.iter().map(|state| state.as_ref().unwrap_or_else(|unasked| unasked)).collect()
    };
    if routers.iter().any(|router| router.held) {
        return Some(Serving::Nobody);
    }
    let is_absent = phase == Some(Phase::Absent);
    // Without a record nobody knows better than the router itself, whatever its file says.
    let side_of = |router: &&RouterState| if is_absent { router.live } else { router.side };
    match routers.first().and_then(side_of) {
        Some(side) if routers.iter().all(|router| side_of(router) == Some(side)) => {
            let is_shut = fenced.on(side).raised;
            Some(if moves && is_shut == Some(true) { Serving::Nobody } else { side.into() })
        }
        _ if is_absent && routers.iter().all(|router| router.live.is_none()) => {
            if fenced.source_alone() {
                Some(Serving::Target)
            } else {
                knows_the_source.then_some(recorded)
            }
        }
        _ => Some(recorded),
    }
}

/// Without a router that tells where clients are, the decision and the fence do: past the one, before the end of the switch, that
/// side lets them in once its fence is lowered, and nobody is held.
fn awaited(run: &mut Run, fenced: &Fenced) -> Option<Side> {
    if !run.is_decided() || run.routers().map_or(true, |routers| routers.moves_clients()) {
        return None;
    }
    let side = run.detour.as_ref()?.decided?;
    (fenced.on(side).raised == Some(false)).then_some(side)
}

/// The record's side. Only where there is no record, or a switch is under way, do the routers know better: that one has gone
/// astray moves no data, and opens nothing that is shut.
fn home(phase: Option<Phase>, recorded: Option<Serving>, serving: Option<Serving>) -> Option<Serving> {
    use Phase::{Detoured, Mirrored, Mirroring, Returned};
    match phase {
        Some(Mirroring | Mirrored | Detoured | Returned) => recorded,
        Some(Phase::Absent) => serving,
        _ => serving.or(recorded),
    }
}

fn against_what_it_should(
    state: Result<RouterState, RouterState>,
    phase: Option<Phase>,
    recorded: Option<Serving>,
) -> RouterSeen {
    let is_known = state.is_ok();
    let state = state.unwrap_or_else(|unasked| unasked);
    let moves = matches!(phase, None | Some(Phase::CuttingOver | Phase::CuttingBack));
    let should = match recorded {
        // Before a detour, and after one that has stayed, clients are where the operator wants them.
        _ if moves || phase == Some(Phase::Absent) => None,
        Some(Serving::Source) => Some(Side::Source),
        Some(Serving::Target) => Some(Side::Target),
        _ => None,
    };
    // What it says of itself in detail, such as a file that a reload would follow elsewhere, is never as it should be.
    let right = state.detail.is_none()
        && (moves || (!state.held && !state.disabled && (should.is_none() || state.side == should)));
    RouterSeen { state, should, right, is_known }
}

fn running(run: &mut Run) -> Option<Holder> {
    lock::find_holder(run.answering(Side::Target)?, Key::Run).ok().flatten()
}

fn mirror_seen(run: &mut Run, phase: Option<Phase>) -> Option<MirrorSeen> {
    if !matches!(phase, Some(Phase::Mirroring | Phase::Mirrored | Phase::CuttingOver)) {
        return None;
    }
    let found = run.answering(Side::Target).and_then(|target| {
        subscription::find_subscription(target, names::MIRROR_SUBSCRIPTION).ok().flatten()
    });
    let source = run.answering(Side::Source);
    let (slot, lag) = source.map_or((None, None), |source| {
        let slot = slot::find_slot(source, names::MIRROR_SLOT).ok().flatten();
        (slot, lag::slot_bytes_behind(source, names::MIRROR_SLOT).ok().flatten())
    });
    let recorded = Stage::Whole.changes(run.config.mirror.method);
    let space = run.answering(Side::Source).and_then(|source| {
        let space = space::measure(&recorded, source, None, None).ok()?;
        Some(space::Space { growth: lag::wal_rate(source).ok()?, ..space })
    });
    let space = space.unwrap_or_default();
    let carrier = if phase == Some(Phase::Mirroring) { None } else { run.carrier().ok() };
    let follows = run.answering(Side::Target).and_then(|target| lock::is_held(target, Key::Flow).ok());
    Some(MirrorSeen {
        carried_by: carrier,
        enabled: found.as_ref().map(|found| found.enabled),
        running: match carrier {
            Some(Carrier::Pgdetour) => follows,
            _ => found.as_ref().map(|found| found.worker_pid.is_some()),
        },
        apply_errors: found.as_ref().and_then(|found| found.apply_errors),
        slot: slot.as_ref().map(|_| names::MIRROR_SLOT),
        slot_lost: slot.as_ref().map(slot::Slot::is_lost),
        retained_bytes: space.retained_bytes,
        safe_bytes: space.room_bytes.map(|room| room.max(0)),
        seconds_to_loss: space.left().map(|left| left.as_secs()),
        alarm: run.config.mirror.watch.alarm(space.retained_bytes, space.left()),
        lag_bytes: lag,
    })
}

fn stages_seen(run: &mut Run, phase: Option<Phase>) -> Vec<StageSeen> {
    let is_staged = run.is_staged() || (run.detour.is_none() && run.has_backup());
    match phase {
        Some(Phase::Mirrored | Phase::CuttingOver) if is_staged => {
            let stage = |stage: Stage| (stage.publisher(), stage.subscriber(), stage.slot());
            [Stage::ToBackup, Stage::FromBackup]
                .map(stage)
                .map(|stage| stage_seen(run, names::MIRROR_SUBSCRIPTION, stage))
                .into()
        }
        Some(Phase::Detoured | Phase::CuttingBack) if is_staged => {
            let stage = (Place::Target, Place::Backup, names::BACKUP_SLOT);
            vec![stage_seen(run, names::BACKUP_SUBSCRIPTION, stage)]
        }
        _ => Vec::new(),
    }
}

fn stage_seen(
    run: &mut Run,
    subscription: &str,
    (from, to, slot): (Place, Place, &'static str),
) -> StageSeen {
    let found = run
        .answering(to)
        .and_then(|session| subscription::find_subscription(session, subscription).ok().flatten());
    let seen = run.answering(from).and_then(|session| slot::find_slot(session, slot).ok().flatten());
    let lag = run.answering(from).and_then(|session| lag::slot_bytes_behind(session, slot).ok().flatten());
    StageSeen {
        from,
        to,
        enabled: found.as_ref().map(|found| found.enabled),
        running: found.as_ref().map(|found| found.worker_pid.is_some()),
        apply_errors: found.as_ref().and_then(|found| found.apply_errors),
        slot: seen.as_ref().map(|_| slot),
        slot_lost: seen.as_ref().map(slot::Slot::is_lost),
        retained_bytes: seen.as_ref().and_then(|seen| seen.retained_bytes),
        lag_bytes: lag,
    }
}

fn capture_seen(run: &mut Run, phase: Option<Phase>) -> Option<CaptureSeen> {
    use Phase::{CuttingBack, CuttingOver, Detoured, Mirrored};
    let is_due = matches!(phase, Some(Detoured | CuttingBack));
    if !is_due && !matches!(phase, Some(Mirrored | CuttingOver)) {
        return None;
    }
    let method = run.config.capture.method.name();
    let facts = run.facts().ok()?;
    let source = run.recording();
    let target = run.answering(Side::Target)?;
    if !source.exists(target).ok()? && !is_due {
        return None;
    }
    let slot = match &source {
        ChangeSource::Slot { slot, .. } => slot::find_slot(target, slot).ok()?,
        ChangeSource::Triggers => None,
    };
    let start = facts.capture_start.as_deref().and_then(|start| parse_lsn(start).ok());
    let began = facts.held_at.filter(|_| phase == Some(Detoured)).map(Duration::from_millis);
    let ago = began.and_then(|began| SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(began));
    // Of one that is gone there is nothing to measure, and that much more to tell.
    let space = space::measure(&source, target, start.filter(|_| ago.is_some()), ago).unwrap_or_default();
    // Before cutover nothing depends on it yet.
    let fault = source.require_intact(target).err().filter(|_| is_due).map(|error| error.with_cause());
    let alarm = run.config.capture.watch.alarm(space.retained_bytes, space.left()).filter(|_| is_due);
    let unseen = if is_due { recorded::find(run).unwrap_or_default() } else { Checked::default() };
    Some(CaptureSeen {
        method,
        slot: slot.as_ref().map(|_| names::CAPTURE_SLOT),
        start_lsn: facts.capture_start,
        retained_bytes: space.retained_bytes,
        safe_bytes: space.room_bytes,
        growth_bytes: space.growth.map(|growth| growth as i64),
        left_seconds: space.left().map(|left| left.as_secs_f64().round()),
        lost: fault.is_some(),
        fault,
        alarm,
        unseen,
    })
}

fn replay_seen(run: &mut Run, phase: Option<Phase>) -> Option<ReplaySeen> {
    if !matches!(phase, Some(Phase::Detoured | Phase::CuttingBack)) {
        return None;
    }
    let source = run.answering(Side::Source)?;
    let progress = record::read_progress(source, "replay").ok().flatten()?;
    let quarantined = record::count_quarantined(source).ok();
    let blockers = list_apply_blockers(source).unwrap_or_default();
    let recording = run.recording();
    let stop = run.facts().ok().and_then(|facts| facts.replay_stop);
    let target = run.answering(Side::Target);
    Some(ReplaySeen {
        applied_lsn: progress.lsn.to_string(),
        transactions: progress.transactions,
        changes: progress.changes,
        changed_at: progress.changed_at,
        lag_bytes: target.and_then(|target| recording.bytes_behind(target, progress.lsn).ok()),
        quarantined,
        stopped_at: stop.filter(|stop| stop.applied_lsn == progress.lsn.to_string()),
        waits_for: blockers.iter().map(ToString::to_string).collect(),
    })
}

/// Why the databases do not belong together, or replay cannot go on from where it was, as a run of it would find: read without
/// a lock. What only a server that does not answer could tell is not known.
fn refusal(run: &mut Run, phase: Option<Phase>) -> Option<Error> {
    if run.answering(Side::Source).is_none() || run.answering(Side::Target).is_none() {
        return None;
    }
    let known = |error: &Error| matches!(error, Error::Refused { .. } | Error::Conflict { .. });
    if let Err(error) = run.check_stamps() {
        return Some(error).filter(known);
    }
    if phase != Some(Phase::Detoured) {
        return None;
    }
    let detour = run.detour_id().ok()?;
    let recording = run.recording();
    let (source, target) = run.both();
    let ends = resume::Ends::read(FlowName::Replay, &detour, &recording, target, source).ok()?;
    match ends.start(FlowName::Replay, source) {
        Ok(Some(start)) => {
            let end = recording.written(target).ok()?;
            (start > end).then(|| resume::ahead(FlowName::Replay, start, end))
        }
        started => started.err().filter(known),
    }
}

/// What cutover would be refused for, or the application would miss after it.
fn drifted(run: &mut Run, phase: Option<Phase>) -> Vec<Finding> {
    let answers = [Side::Source, Side::Target].into_iter().all(|side| run.answering(side).is_some());
    if phase != Some(Phase::Mirrored) || !answers {
        return Vec::new();
    }
    // What cannot be looked at now, as a table that somebody alters, is for the next look, or for check.
    let checked =
        without_waiting(run, |run| run.check_all(&[preconditions::AS_MIRRORED])).unwrap_or_default();
    checked.failures.into_iter().chain(checked.warnings).collect()
}

/// What the mapping lacks, as a run of replay would find: maintenance may be part way through the source's schema.
fn unmapped(run: &mut Run, phase: Option<Phase>) -> Vec<Finding> {
    if phase != Some(Phase::Detoured)
        || run.answering(Side::Source).is_none()
        || run.answering(Side::Target).is_none()
    {
        return Vec::new();
    }
    match without_waiting(run, |run| run.check_all(&[preconditions::MAPPING])) {
        Ok(checked) => checked.failures,
        // Nothing can be said of a table that maintenance holds, nor of a server that has gone meanwhile.
        Err(error) if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE) || error.is_connection_lost() => {
            Vec::new()
        }
        Err(error) => vec![Finding::new(
            "mapping",
            "source",
            format!("the mapping could not be looked at: {}", error.with_cause()),
            error.hint().unwrap_or_default(),
        )],
    }
}

/// Looks at the source without queueing for a table that somebody holds: others would queue behind us.
fn without_waiting<T>(run: &mut Run, work: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
    run.source().set_lock_timeout(LOCK_TIMEOUT)?;
    let result = work(run);
    // A session that is lost has none.
    let _ = run.source().set_lock_timeout(server::LOCK_TIMEOUT);
    result
}

/// Connections of general roles to the side that does not serve.
fn wrong_side(run: &mut Run, home: Option<Serving>) -> Vec<Value> {
    let side = match home {
        Some(Serving::Source) => Side::Target,
        Some(Serving::Target) => Side::Source,
        Some(Serving::Nobody) | None => return Vec::new(),
    };
    let mut found = general_sessions(run, side);
    if !found.is_empty() && kind_of_fence(run, side) == FenceKind::ReadOnly {
        // Clients knock there to find out whether they can write.
        std::thread::sleep(KNOCKING);
        let later = general_sessions(run, side);
        found.retain(|session| later.iter().any(|other| other.is(session)));
    }
    found
        .iter()
        .map(|session| json!({ "side": side, "pid": session.pid, "role": session.role, "address": session.address, "state": session.state }))
        .collect()
}

fn general_sessions(run: &mut Run, side: Side) -> Vec<GeneralSession> {
    let roles = run.config.general_roles(side);
    let found = run.answering(side).and_then(|session| list_sessions(session, &roles).ok());
    found.unwrap_or_default()
}

fn orphans(run: &mut Run, phase: Option<Phase>) -> Vec<Orphan> {
    // With the target down nobody knows whether its record still speaks of them.
    if phase != Some(Phase::Absent) || run.answering(Side::Target).is_none() {
        return Vec::new();
    }
    run.find_orphans().unwrap_or_default()
}

fn restricted(run: &mut Run) -> Value {
    json!(run.answering(Side::Target).and_then(|target| restriction::list_restricted(target).ok()))
}

fn fenced(run: &mut Run) -> Fenced {
    Fenced {
        source: side_fence(run, Side::Source),
        target: side_fence(run, Side::Target),
        is_standing: run.config.traffic.fence == FenceKind::ReadOnly,
    }
}

fn kind_of_fence(run: &Run, side: Side) -> FenceKind {
    run.fence_kind(side).unwrap_or(run.config.traffic.fence)
}

fn side_fence(run: &mut Run, side: Side) -> SideFence {
    let kind = kind_of_fence(run, side);
    let mut seen = SideFence { raised: run.is_fenced(side), kind, opened_by: String::new() };
    let (roles, known) = (run.config.general_roles(side), run.stored_fence(side).ok().flatten());
    if let Some(session) = run.answering(side).filter(|_| !roles.is_empty()) {
        seen.opened_by = fence::opening_statements(kind, &roles, &session.database, known.as_ref());
    }
    seen
}

/// The latest lines of the detour's history, last first.
fn history(run: &mut Run) -> Value {
    if run.detour.is_none() {
        return json!([]);
    }
    json!(run.answering(Side::Target).and_then(|target| record::list_events(target, SHOWN_EVENTS).ok()))
}

/// The finished steps of the command in whose phase we are.
fn steps_of_phase(run: &mut Run, phase: Option<Phase>) -> Vec<Value> {
    let command = match phase {
        Some(Phase::Mirroring) => "mirror",
        Some(Phase::CuttingOver) => "cutover",
        Some(Phase::CuttingBack) => "cutback",
        _ => return Vec::new(),
    };
    let steps = run.answering(Side::Target).and_then(|target| record::list_steps(target, command).ok());
    steps.unwrap_or_default().into_iter().map(|step| json!({ "name": step.name, "ms": step.ms })).collect()
}
