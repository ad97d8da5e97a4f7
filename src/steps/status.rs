//! Where the detour is, who serves, what may be run next. Takes no lock, and works with either side down.

use serde_json::{Value, json};

use crate::error::Result;
use crate::flow::{lag, slot, subscription};
use crate::pg::lock::{self, Key};
use crate::pg::{Session, fence, record, restriction};
use crate::phase::{Phase, Serving, Side};
use crate::routers::RouterState;
use crate::steps::carrier::Carrier;
use crate::steps::{Run, names};

/// How much of the history is shown.
const SHOWN_EVENTS: i64 = 10;

/// Runs the command; its report. A part that cannot be read is `null`, with a warning that says why.
pub fn run(run: &mut Run) -> Result<Value> {
    run.connect_what_answers()?;
    let (phase, recorded) = read_phase(run)?;
    let routers = router_states(run);
    let serving = who_serves(run, phase, recorded, &routers);
    run.reported = Some((phase, serving));
    let report = json!({
        "phase": phase,
        "serving": serving,
        "next": phase.next(),
        "mirror": mirror_state(run, phase),
        "capture": capture_state(run, phase),
        "replay": replay_state(run, phase),
        "router": routers,
        "wrong_side": wrong_side(run, serving),
        "orphans": orphans(run, phase),
        "restricted": restricted(run),
        "fenced": fenced(run),
        "done": steps_of_phase(run, phase),
        "history": history(run),
    });
    Ok(report)
}

/// From the record; with the target down, from the copy in the source's stamp.
fn read_phase(run: &mut Run) -> Result<(Phase, Serving)> {
    if let Some(target) = &mut run.target {
        run.detour = record::read_detour(target)?;
        return Ok((run.phase(), run.serving()));
    }
    let stamp = match &mut run.source {
        Some(source) => record::read_stamp(source)?,
        None => None,
    };
    if let Some(stamp) = stamp {
        run.warn(format!(
            "the target does not answer: phase \"{}\" is what the source was told last",
            stamp.phase
        ));
        Ok((stamp.phase, stamp.serving))
    } else {
        run.warn("the target does not answer, and the source knows of no detour");
        Ok((Phase::Absent, Serving::Source))
    }
}

fn router_states(run: &mut Run) -> Vec<RouterState> {
    match run.routers() {
        Ok(routers) if routers.moves_clients() => routers.states(),
        Ok(_) => Vec::new(),
        Err(error) => {
            run.warn(format!("the router cannot be asked: {error}"));
            Vec::new()
        }
    }
}

/// The routers know better than the record: a run may have died between an act and its note.
fn who_serves(run: &mut Run, phase: Phase, recorded: Serving, routers: &[RouterState]) -> Serving {
    if phase == Phase::Absent || routers.is_empty() {
        return recorded;
    }
    if routers.iter().any(|router| router.held) {
        return Serving::Nobody;
    }
    let mut sides = routers.iter().map(|router| router.side);
    let first = sides.next().flatten();
    match first {
        Some(side) if sides.all(|other| other == Some(side)) => {
            if Serving::from(side) != recorded && recorded != Serving::Nobody {
                run.warn(format!(
                    "the record has the {recorded} serving, but the router points to the {side}"
                ));
            }
            side.into()
        }
        _ => recorded,
    }
}

fn mirror_state(run: &mut Run, phase: Phase) -> Option<Value> {
    if matches!(phase, Phase::Absent | Phase::Detoured | Phase::CuttingBack | Phase::Returned) {
        return None;
    }
    let found = run.target.as_mut().and_then(|target| {
        subscription::find_subscription(target, names::MIRROR_SUBSCRIPTION).ok().flatten()
    });
    let slot =
        run.source.as_mut().and_then(|source| slot::find_slot(source, names::MIRROR_SLOT).ok().flatten());
    let lag = run
        .source
        .as_mut()
        .and_then(|source| lag::slot_bytes_behind(source, names::MIRROR_SLOT).ok().flatten());
    let carrier = match phase {
        Phase::Mirroring => None,
        _ => run.carrier().ok(),
    };
    let follows = run.target.as_mut().and_then(|target| lock::is_held(target, Key::Flow).ok());
    Some(json!({
        "carried_by": carrier,
        "enabled": found.as_ref().map(|found| found.enabled),
        "running": match carrier {
            Some(Carrier::Pgdetour) => follows,
            _ => found.as_ref().map(|found| found.worker_pid.is_some()),
        },
        "slot": slot.as_ref().map(|_| names::MIRROR_SLOT),
        "slot_lost": slot.as_ref().map(slot::Slot::is_lost),
        "retained_bytes": slot.as_ref().and_then(|slot| slot.retained_bytes),
        "lag_bytes": lag,
    }))
}

fn capture_state(run: &mut Run, phase: Phase) -> Option<Value> {
    if !matches!(phase, Phase::Mirrored | Phase::CuttingOver | Phase::Detoured | Phase::CuttingBack) {
        return None;
    }
    let start = run.facts().ok().and_then(|facts| facts.capture_start);
    let slot = slot::find_slot(run.target.as_mut()?, names::CAPTURE_SLOT).ok().flatten()?;
    if slot.is_lost() {
        run.warn(format!(
            "slot \"{}\" is lost: changes that were not replayed can no longer be read from it",
            names::CAPTURE_SLOT
        ));
    }
    Some(json!({
        "method": run.config.capture.method.name(),
        "slot": names::CAPTURE_SLOT,
        "start_lsn": start,
        "retained_bytes": slot.retained_bytes,
        "lost": slot.is_lost(),
    }))
}

fn replay_state(run: &mut Run, phase: Phase) -> Option<Value> {
    if !matches!(phase, Phase::Detoured | Phase::CuttingBack) {
        return None;
    }
    let progress = record::read_progress(run.source.as_mut()?, "replay").ok().flatten()?;
    let lag = run.target.as_mut().and_then(|target| lag::bytes_behind(target, progress.lsn).ok());
    Some(json!({
        "applied_lsn": progress.lsn.to_string(),
        "transactions": progress.transactions,
        "changes": progress.changes,
        "changed_at": progress.changed_at,
        "lag_bytes": lag,
    }))
}

/// Connections of general roles to the side that does not serve.
fn wrong_side(run: &mut Run, serving: Serving) -> Vec<Value> {
    let side = match serving {
        Serving::Source => Side::Target,
        Serving::Target => Side::Source,
        Serving::Nobody => return Vec::new(),
    };
    let roles = run.config.traffic.roles.clone();
    let session = match side {
        Side::Source => run.source.as_mut(),
        Side::Target => run.target.as_mut(),
    };
    let found = session
        .and_then(|session| crate::pg::sessions::list_sessions(session, &roles).ok())
        .unwrap_or_default();
    if !found.is_empty() {
        run.warn(format!(
            "{} sessions of general roles are connected to the {side}, which does not serve",
            found.len()
        ));
    }
    found.iter().map(|session| json!({ "side": side, "pid": session.pid, "role": session.role, "address": session.address })).collect()
}

fn orphans(run: &mut Run, phase: Phase) -> Vec<Value> {
    if phase != Phase::Absent {
        return Vec::new();
    }
    run.find_orphans().unwrap_or_default().into_iter().map(|orphan| json!(orphan)).collect()
}

fn restricted(run: &mut Run) -> Value {
    json!(run.target.as_mut().and_then(|target| restriction::list_restricted(target).ok()))
}

/// On which side general roles are kept out.
fn fenced(run: &mut Run) -> Value {
    let roles = run.config.traffic.roles.clone();
    let is_fenced = |session: &mut Option<Session>| {
        session
            .as_mut()
            .filter(|_| !roles.is_empty())
            .and_then(|session| fence::is_raised(session, &roles).ok())
    };
    json!({ "source": is_fenced(&mut run.source), "target": is_fenced(&mut run.target) })
}

/// The latest lines of the detour's history, last first.
fn history(run: &mut Run) -> Value {
    if run.detour.is_none() {
        return json!([]);
    }
    json!(run.target.as_mut().and_then(|target| record::list_events(target, SHOWN_EVENTS).ok()))
}

/// The finished steps of the command in whose phase we are.
fn steps_of_phase(run: &mut Run, phase: Phase) -> Vec<Value> {
    let command = match phase {
        Phase::Mirroring => "mirror",
        Phase::CuttingOver => "cutover",
        Phase::CuttingBack => "cutback",
        _ => return Vec::new(),
    };
    let steps =
        run.target.as_mut().and_then(|target| record::list_steps(target, command).ok()).unwrap_or_default();
    steps.into_iter().map(|step| json!({ "name": step.name, "ms": step.ms })).collect()
}
