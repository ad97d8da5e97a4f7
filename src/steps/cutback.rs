//! Moves general traffic home: cutover's mirror image, with replay as the flow that has to drain.

use serde_json::Value;

use crate::error::Result;
use crate::flow::sequences;
use crate::pg::{fence, record};
use crate::phase::Side;
use crate::steps::switch::{Bounds, HOME};
use crate::steps::{Needs, Run, capture, preconditions, replay};

/// Runs the command; its report.
/// Exactly `accept_quarantined` changes may be in quarantine.
pub fn run(run: &mut Run, bounds: &Bounds, accept_quarantined: i64) -> Result<Value> {
    run.accept_quarantined = accept_quarantined;
    run.open(Needs::Both)?;
    if run.phase() == HOME.arrived {
        return Ok(run.facts()?.cutback.unwrap_or_default());
    }
    run.take_back_earlier_attempt(HOME)?;
    if !run.is_decided() {
        run.attempt(HOME, |run| up_to_the_decision(run, bounds))?;
    }
    // Past the point of no return: each of these may run again, in another process, and only forwards.
    run.step("open source", |run| match run.facts()?.source_fence {
        Some(fence) => fence::lower(run.source(), &fence),
        None => Ok(()),
    })?;
    run.step("point router to source", |run| run.routers()?.point_to(Side::Source))?;
    // Plans that were prepared before the maintenance fail with "cached plan must not change result type". While clients
    // are held: PgBouncer takes a connection that RECONNECT ends in its login for a failing server.
    run.step("renew server connections", |run| run.routers()?.reconnect())?;
    run.step("resume clients", |run| run.resume_clients(HOME))?;
    run.step("count late writes", |run| {
        let source = capture::source(run);
        run.count_late_writes(HOME, &source)
    })?;
    run.step("drop capture", capture::drop_flow)?;
    run.step("record the arrival", |run| run.arrive(HOME))
}

fn up_to_the_decision(run: &mut Run, bounds: &Bounds) -> Result<()> {
    run.step("reach the router", |run| run.routers()?.clients().map(drop))?;
    run.step("check preconditions", |run| run.require(&[preconditions::REPLAY, preconditions::CUTBACK]))?;
    run.confirm("move general traffic home to the source")?;
    run.step("replay what is captured", |run| {
        replay::catch_up(run, Some(bounds.drain_timeout))?;
        run.refuse_quarantined()
    })?;
    let fence = run.step("plan the fence", |run| run.plan_fence(Side::Target))?;
    let mut plan = run
        .step("plan sequences", |run| sequences::plan(run.server(Side::Target), run.server(Side::Source)))?;
    // The stream is opened before the hold: the server may have to decode for a while before the first change.
    let id = record::new_id(run.target())?;
    let flow = run.step("start replay", |run| {
        let mut flow = replay::start(run, &id)?;
        flow.catch_up(run, bounds.drain_timeout)?;
        Ok(flow)
    })?;

    run.step("hold clients", |run| run.hold_clients(HOME, &fence, bounds))?;
    run.step("fence target", |run| fence::raise(run.target(), &fence))?;
    run.step("end open transactions", |run| run.end_general_sessions(Side::Target, bounds))?;
    // After the fence and the last open transaction, never before: what commits later would be missed.
    run.step("write marker", |run| {
        let source = capture::source(run);
        run.write_marker(HOME, &source, &id)
    })?;
    run.step("drain to the marker", |run| {
        flow.finish(run.pause_left(bounds))?;
        run.refuse_quarantined()
    })?;
    run.step("carry sequences", |run| run.carry_sequences(&mut plan))?;
    run.step("decide", |run| run.decide(HOME, bounds))
}
