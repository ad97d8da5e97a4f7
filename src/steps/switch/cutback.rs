//! Moves general traffic home: cutover's mirror image, with replay as the flow that has to drain.

use std::time::Instant;

use serde_json::Value;

use crate::config::OnConflict;
use crate::error::{ALTERED, Result};
use crate::pg::{fence, record};
use crate::phase::Side;
use crate::steps::mirror::backup;
use crate::steps::switch::HOME;
use crate::steps::switch::answers::Moment;
use crate::steps::switch::last_changes;
use crate::steps::switch::pause::{Bounds, Rehearsal};
use crate::steps::{Needs, Run, capture, preconditions, replay};

/// Runs the command; its report.
/// Exactly `accept_quarantined` changes may be in quarantine.
pub fn run(run: &mut Run, bounds: &Bounds, accept_quarantined: i64) -> Result<Value> {
    run.accept_quarantined = accept_quarantined;
    run.pause_at_most(bounds.max_pause);
    run.open(Needs::Both)?;
    run.refuse_late_rehearsal(HOME, bounds)?;
    if run.phase() == HOME.arrived {
        run.mend_routers(Side::Source)?;
        return Ok(run.facts()?.cutback.unwrap_or_default());
    }
    run.take_back_earlier_attempt(HOME)?;
    if run.is_decided() {
        run.guard_what_was_decided()?;
    } else {
        run.attempt(HOME, bounds, |run| up_to_the_decision(run, bounds))?;
    }
    if let Some(rehearsal) = bounds.rehearsal {
        return run.end_rehearsal(HOME, rehearsal);
    }
    past_the_decision(run)
}

/// What a run that died has begun: finished when it was decided, else taken back.
pub fn end_what_was_begun(run: &mut Run) -> Result<()> {
    run.take_back_earlier_attempt(HOME)?;
    if run.is_decided() { past_the_decision(run).map(drop) } else { Ok(()) }
}

/// Past the point of no return: each of these may run again, in another process, and only forwards.
fn past_the_decision(run: &mut Run) -> Result<Value> {
    run.changed |= !run.plan.is_dry();
    run.step("open source", Run::open_the_source)?;
    run.step("point router to source", |run| run.point_clients(Side::Source))?;
    // Plans that were prepared before the maintenance fail with "cached plan must not change result type". While clients
    // are held: PgBouncer takes a connection that RECONNECT ends in its login for a failing server.
    run.step("renew server connections", |run| run.routers()?.reconnect())?;
    run.step("resume clients", |run| run.resume_clients(HOME))?;
    run.step("count late writes", |run| {
        let source = run.recording();
        run.count_late_writes(HOME, &source)
    })?;
    run.step("drop capture", capture::drop_flow)?;
    if run.is_staged() {
        run.step("drop the backup's flow", |run| backup::sparing(run, backup::drop_flow))?;
    }
    run.step("record the arrival", |run| run.arrive(HOME))
}

fn up_to_the_decision(run: &mut Run, bounds: &Bounds) -> Result<()> {
    run.step("reach the router", |run| run.routers()?.clients().map(drop))?;
    run.step("check preconditions", |run| run.require(&[preconditions::REPLAY, preconditions::CUTBACK]))?;
    if bounds.rehearsal.is_none() {
        run.confirm("move general traffic home to the source")?;
    }
    run.step("prove the router", Run::prove_router)?;
    run.step("replay what is captured", |run| {
        // One that waits for a lock does not look at the time.
        run.wait_for_locks_until(Some(Instant::now() + bounds.drain_timeout));
        let applied = replay::catch_up(run, Some(bounds.drain_timeout))?;
        run.replayed |= applied.changes > 0;
        run.wait_for_locks_until(None);
        run.refuse_quarantined()
    })?;
    run.step("refresh statistics", |run| run.refresh_statistics(Side::Source))?;
    if bounds.prewarm {
        run.step("warm caches", |run| run.warm_caches(Side::Source))?;
    }
    let fence = run.step("plan the fence", |run| run.plan_fence(Side::Target))?;
    let mut plan = run.step("plan sequences", |run| run.plan_sequences(HOME))?;
    // The stream is opened before the hold: the server may have to decode for a while before the first change.
    let id = record::new_id(run.target())?;
    run.step("start replay", |run| {
        let mut flow = last_changes::start(run, &id)?;
        let mut caught_up = flow.catch_up(run, bounds.drain_timeout);
        if caught_up.as_ref().is_err_and(|error| error.kind() == ALTERED) {
            flow = last_changes::start(run, &id)?;
            caught_up = flow.catch_up(run, bounds.drain_timeout);
        }
        run.replaying = Some(flow);
        caught_up
    })?;
    run.step("wait for other writers", |run| run.wait_for_writers(HOME, bounds))?;
    run.step("prepare statements", |run| run.prepare_statements(HOME))?;
    run.step("plan to open the source", Run::plan_opening)?;
    run.step("prepare the router", |run| run.ready_router(Side::Source))?;

    if bounds.rehearsal == Some(Rehearsal::NotHeld) {
        run.step("try the fence", |run| fence::try_to_raise(run.target(), &fence))?;
    } else {
        run.step("post a guardian", Run::post_guardian)?;
        run.step("hold clients", |run| run.hold_clients(HOME, &id, &fence, None, bounds))?;
        run.step("fence target", |run| run.raise_fence(Side::Target, &fence))?;
        run.step("end open transactions", |run| run.end_general_sessions(HOME, Side::Target, bounds))?;
    }
    // After the fence and the last open transaction, never before: what commits later would be missed.
    run.step("write marker", |run| run.write_marker(HOME, &id, &mut plan, bounds))?;
    run.step("drain to the marker", |run| {
        let changes = run.recording();
        run.drain(HOME, &changes, &mut plan, &id, bounds)?;
        // Nothing else sets changes aside, and what was there before the hold has been looked at. Behind that, others may have been.
        if run.config.replay.on_conflict == OnConflict::Quarantine || run.accept_quarantined > 0 {
            run.refuse_quarantined()
        } else {
            Ok(())
        }
    })?;
    if bounds.rehearsal.is_some() {
        return run.require_time(HOME, bounds, Moment::Decision);
    }
    run.step("decide", |run| run.decide(HOME, bounds))
}
