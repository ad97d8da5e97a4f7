//! Moves general traffic to the target. The order is the safety: hold, fence, drain behind a marker, decide, point, resume.

use serde_json::Value;

use crate::error::Result;
use crate::pg::{fence, record, restriction};
use crate::phase::{Place, Side};
use crate::steps::mirror::backup;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::Carrier;
use crate::steps::switch::OUT;
use crate::steps::switch::answers::Moment;
use crate::steps::switch::last_changes;
use crate::steps::switch::pause::{Bounds, Rehearsal};
use crate::steps::{Needs, Run, capture, mirror, preconditions, restrict};

/// Runs the command; its report.
pub fn run(run: &mut Run, bounds: &Bounds) -> Result<Value> {
    run.pause_at_most(bounds.max_pause);
    run.open(Needs::Both)?;
    run.refuse_late_rehearsal(OUT, bounds)?;
    if run.phase() == OUT.arrived {
        run.keep_the_source_fenced()?;
        run.mend_routers(Side::Target)?;
        if run.answering(Place::Backup).is_some() {
            // It was lost when the clients were moved.
            run.changed |= run.step("let the backup follow", backup::follow)?;
        }
        return Ok(run.facts()?.cutover.unwrap_or_default());
    }
    run.take_back_earlier_attempt(OUT)?;
    if run.is_decided() {
        run.guard_what_was_decided()?;
    } else {
        run.attempt(OUT, bounds, |run| up_to_the_decision(run, bounds))?;
    }
    if let Some(rehearsal) = bounds.rehearsal {
        return run.end_rehearsal(OUT, rehearsal);
    }
    past_the_decision(run)
}

/// What a run that died has begun: finished when it was decided, else taken back.
pub fn end_what_was_begun(run: &mut Run) -> Result<()> {
    run.take_back_earlier_attempt(OUT)?;
    if run.is_decided() { past_the_decision(run).map(drop) } else { Ok(()) }
}

/// Past the point of no return: each of these may run again, in another process, and only forwards.
fn past_the_decision(run: &mut Run) -> Result<Value> {
    run.changed |= !run.plan.is_dry();
    run.step("point router to target", |run| run.point_clients(Side::Target))?;
    run.step("resume clients", |run| run.resume_clients(OUT))?;
    run.step("begin the replay", capture::begin_replay)?;
    run.step("count late writes", |run| {
        let source = Stage::Whole.changes(run.config.mirror.method);
        run.count_late_writes(OUT, &source)
    })?;
    run.step("drop the mirror flow", |run| backup::sparing(run, mirror::drop_flow))?;
    if run.is_staged() {
        run.step("let the backup follow", backup::follow_or_warn)?;
    }
    if restriction::is_observed(run.source())? {
        run.step("end the counting on the source", restrict::end_counting_on_the_source)?;
    }
    run.step("record the arrival", |run| run.arrive(OUT))
}

fn up_to_the_decision(run: &mut Run, bounds: &Bounds) -> Result<()> {
    run.step("reach the router", |run| run.routers()?.clients().map(drop))?;
    run.step("check preconditions", |run| run.require(&[preconditions::CAPTURE, preconditions::CUTOVER]))?;
    if bounds.rehearsal.is_none() {
        run.confirm("move general traffic to the target")?;
    }
    run.step("prove the router", Run::prove_router)?;
    let carrier = run.carrier()?;
    if carrier == Carrier::Pgdetour {
        run.step("take the mirror flow over", |run| {
            if run.take_flow()? {
                run.warn("\"mirror --follow\" was ended for the cutover; run it again if the cutover is taken back");
            }
            Ok(())
        })?;
    }
    run.step("arm capture", capture::arm)?;
    run.step("prove the way back", capture::prove_way_back)?;
    if run.is_staged() {
        run.step("arm the backup", backup::arm)?;
    }
    run.step("prepare the router", |run| {
        run.prepare_router()?;
        run.ready_router(Side::Target)
    })?;
    run.step("refresh statistics", |run| run.refresh_statistics(Side::Target))?;
    if bounds.prewarm {
        run.step("warm caches", |run| run.warm_caches(Side::Target))?;
    }
    let fence = run.step("plan the fence", |run| run.plan_fence(Side::Source))?;
    let to_close = run.step("plan to close the target", Run::plan_to_close_the_target)?;
    let mut plan = run.step("plan sequences", |run| run.plan_sequences(OUT))?;
    let id = record::new_id(run.source())?;
    run.step("wait until the lag is small", |run| {
        if carrier == Carrier::Pgdetour {
            let flow = run.mirror_flow()?;
            let mut flow = last_changes::start_flow(run, flow, &id);
            let caught_up = flow.catch_up(run, bounds.drain_timeout);
            run.replaying = Some(flow);
            return caught_up;
        }
        run.wait_until_the_mirror_is_close(bounds)
    })?;

    run.step("wait for other writers", |run| run.wait_for_writers(OUT, bounds))?;
    run.step("prepare statements", |run| run.prepare_statements(OUT))?;

    if bounds.rehearsal == Some(Rehearsal::NotHeld) {
        run.step("try the fence", |run| fence::try_to_raise(run.source(), &fence))?;
    } else {
        run.step("post a guardian", Run::post_guardian)?;
        run.step("hold clients", |run| run.hold_clients(OUT, &id, &fence, to_close.as_ref(), bounds))?;
        if let Some(fence) = &to_close {
            run.step("fence target", |run| run.close_the_target(fence, bounds))?;
        }
        run.step("fence source", |run| run.raise_fence(Side::Source, &fence))?;
        run.step("end open transactions", |run| run.end_general_sessions(OUT, Side::Source, bounds))?;
    }
    // After the fence and the last open transaction, never before: what commits later would be missed.
    run.step("write marker", |run| run.write_marker(OUT, &id, &mut plan, bounds))?;
    run.step("drain to the marker", |run| {
        let source = Stage::Whole.changes(run.config.mirror.method);
        run.drain(OUT, &source, &mut plan, &id, bounds)
    })?;
    if bounds.rehearsal == Some(Rehearsal::NotHeld) {
        return Ok(());
    }
    run.step("stop the mirror", |run| {
        run.require_time(OUT, bounds, Moment::StopMirror)?;
        let left = run.pause_left(OUT, bounds);
        backup::stop_mirror(run, left)
    })?;
    if bounds.rehearsal.is_some() {
        return run.require_time(OUT, bounds, Moment::Decision);
    }
    run.step("decide", |run| run.decide(OUT, bounds))
}
