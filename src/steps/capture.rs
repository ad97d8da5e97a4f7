//! The recording of changes made on the target: a slot or triggers there, read by replay.

pub mod anew;
pub mod export;
pub mod recorded;

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::CaptureMethod;
use crate::error::Result;
use crate::flow::mapping::Mapping;
use crate::flow::source::{self, change_table, publication, slot};
use crate::flow::{ChangeSource, Flow, FlowName, Origins, Until, marker};
use crate::pg::record;
use crate::phase::Phase;
use crate::steps::capture::export::Destination;
use crate::steps::run::facts::parse_lsn;
use crate::steps::run::{names, selection};
use crate::steps::{Needs, Run, preconditions};

/// How long creating the slot may wait for transactions that are older.
pub(super) const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(60);
/// How long the last reader of the slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);
/// How long the rehearsal of the way back may take.
const PROOF_BUDGET: Duration = Duration::from_secs(60);

/// Runs the command; its report. The source may be down for maintenance once the target serves.
pub fn run(run: &mut Run, export: Option<&Destination>) -> Result<Value> {
    if let Some(to) = export {
        run.connect(Needs::Target)?;
        run.refuse_wrong_phase()?;
        let exported = run.step("export recorded changes", |run| export::export(run, to))?;
        let mut report = report(run)?;
        report["exported"] = exported;
        return Ok(report);
    }
    run.open(Needs::Target)?;
    if run.phase() == Phase::Detoured {
        run.step("prove that capture is intact", |run| {
            run.recording().require_intact(run.target())?;
            run.require(&[preconditions::RECORDED])
        })?;
    } else {
        run.open_source()?;
        run.step("check preconditions", |run| run.require(&[preconditions::CAPTURE]))?;
        run.step("arm capture", arm)?;
    }
    report(run)
}

/// What records, from where on, and what that keeps on the target.
fn report(run: &mut Run) -> Result<Value> {
    let start = run.facts()?.capture_start;
    let slot = match &run.recording() {
        ChangeSource::Slot { slot, .. } => slot::find_slot(run.target(), slot)?,
        ChangeSource::Triggers => None,
    };
    let position = slot.as_ref().and_then(|slot| slot.confirmed_flush).map(|lsn| lsn.to_string());
    let retained = retained_bytes(run)?;
    Ok(json!({
        "method": run.config.capture.method.name(),
        "slot": slot.map(|_| names::CAPTURE_SLOT),
        "start_lsn": start.or(position),
        "retained_bytes": retained,
    }))
}

/// Bytes that are kept on the target for changes that were not replayed; none where nothing records them.
pub(super) fn retained_bytes(run: &mut Run) -> Result<Option<i64>> {
    match run.recording() {
        ChangeSource::Slot { slot, .. } => {
            Ok(slot::find_slot(run.target(), &slot)?.and_then(|slot| slot.retained_bytes))
        }
        ChangeSource::Triggers => change_table::retained_bytes(run.target()),
    }
}

/// Makes what records changes, so that none on the target can be missed from here on.
pub fn arm(run: &mut Run) -> Result<()> {
    let tables = run.replayed_tables()?;
    source::recorded::note(run.target(), &tables)?;
    // What another method has armed would only keep what nobody reads.
    drop_other(run)?;
    if run.recording() == ChangeSource::Triggers {
        if !change_table::is_present(run.target())? {
            record::forget_progress(run.target(), FlowName::Replay.name())?;
        }
        run.changed |= change_table::create_capture(run.target(), &tables)?;
        return Ok(());
    }
    let published = publication::create_publication(
        run.target(),
        names::CAPTURE_PUBLICATION,
        &selection::captured(&tables),
    )?;
    let (_, created) = slot::create_slot(run.target(), names::CAPTURE_SLOT, OLDER_TRANSACTIONS_BUDGET)?;
    if created {
        record::forget_progress(run.target(), FlowName::Replay.name())?;
    }
    run.changed |= published || created;
    Ok(())
}

/// Sends a marker the whole way that changes will take: from the target to the source's table.
pub fn prove_way_back(run: &mut Run) -> Result<()> {
    let id = record::new_id(run.target())?;
    // Only what comes after this matters here, and of that the marker alone.
    let start = run.recording().end(run.target())?;
    let detour = run.detour_id()?;
    record::write_progress(run.source(), FlowName::Replay.name(), &detour, start)?;
    marker::write_marker(run.target(), FlowName::Replay, &id)?;
    let flow = Flow { left_out: Origins::All, ..run.replay_flow(Mapping::default())? };
    let stop = run.signals.stop_flag();
    crate::flow::apply_until(&flow, &Until::Marker(id.clone()), &stop, Some(PROOF_BUDGET), &mut |_| {})?;
    run.heed_signals()?;
    let (source, target) = run.both();
    marker::remove_marker(target, source, &id)
}

/// Notes on the source where replay begins, which the decision has fixed: the mirror had drained and general traffic was
/// held, so what comes after is the users'.
pub fn begin_replay(run: &mut Run) -> Result<()> {
    let Some(start) = run.facts()?.capture_start else { return Ok(()) };
    let detour = run.detour_id()?;
    record::write_progress(run.source(), FlowName::Replay.name(), &detour, parse_lsn(&start)?)
}

/// Takes the recording away. Nothing of it need be there.
pub fn drop_flow(run: &mut Run) -> Result<()> {
    drop_slot(run)?;
    change_table::drop_capture(run.target())?;
    record::forget_progress(run.target(), FlowName::Replay.name())
}

fn drop_other(run: &mut Run) -> Result<()> {
    match run.config.capture.method {
        CaptureMethod::Wal => change_table::drop_capture(run.target()),
        CaptureMethod::Trigger => drop_slot(run),
    }
}

fn drop_slot(run: &mut Run) -> Result<()> {
    slot::drop_slot(run.target(), names::CAPTURE_SLOT, SLOT_BUDGET)?;
    publication::drop_publication(run.target(), names::CAPTURE_PUBLICATION).map(drop)
}
