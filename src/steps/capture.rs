//! The recording of changes made on the target: a publication and a slot there, read by replay.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::{lag, marker, publication, slot};
use crate::pg::{Session, record};
use crate::phase::{Phase, Side};
use crate::steps::facts::Facts;
use crate::steps::{Needs, Run, preconditions, replay};

/// Publication on the target.
pub const PUBLICATION: &str = "pgdetour_capture";
/// Slot on the target.
pub const SLOT: &str = "pgdetour_capture";

/// How long creating the slot may wait for transactions that are older.
const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(60);
/// How long the last reader of the slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);
/// How long the rehearsal of the way back may take.
const PROOF_BUDGET: Duration = Duration::from_secs(60);

/// Runs the command; its report. The source may be down for maintenance once the target serves.
pub fn run(run: &mut Run) -> Result<Value> {
    run.open(Needs::Target)?;
    if run.phase() == Phase::Detoured {
        run.step("prove that capture is intact", |run| require_intact(run.target()))?;
    } else {
        run.open_source()?;
        run.step("check preconditions", |run| run.require(&[preconditions::CAPTURE]))?;
        run.step("arm capture", arm)?;
    }
    let start = run.facts()?.capture_start;
    let slot = slot::find(run.target(), SLOT)?;
    Ok(json!({
        "method": run.config.capture.method.name(),
        "slot": SLOT,
        "start_lsn": start.or_else(|| slot.as_ref().and_then(|slot| slot.confirmed_flush.map(|lsn| lsn.to_string()))),
        "retained_bytes": slot.and_then(|slot| slot.retained_bytes),
    }))
}

/// Makes the publication and the slot, so that no change on the target can be missed from here on.
pub fn arm(run: &mut Run) -> Result<()> {
    let tables = run.selected_tables(Side::Target)?;
    let published = publication::ensure(run.target(), PUBLICATION, &tables)?;
    let created = slot::create(run.target(), SLOT, OLDER_TRANSACTIONS_BUDGET)?;
    run.changed |= published || created;
    Ok(())
}

/// Sends a marker the whole way that changes will take: from the target's WAL to the source's table.
pub fn prove_way_back(run: &mut Run) -> Result<()> {
    let id = record::new_id(run.target())?;
    if run.plan.is_dry() {
        return marker::write_marker(run.target(), marker::REPLAY, &id).map(drop);
    }
    // What the mirror has applied carries its origin, and is skipped.
    let start = slot::find(run.target(), SLOT)?.and_then(|slot| slot.confirmed_flush).ok_or_else(lost)?;
    let detour = run.detour_id()?;
    record::write_progress(run.source(), "replay", &detour, start)?;
    marker::write_marker(run.target(), marker::REPLAY, &id)?;
    let flow = replay::flow(run, Vec::new())?;
    flow.apply_until_marker(&id, PROOF_BUDGET)?;
    marker::remove_marker(run.source(), &id)
}

/// Fixes where replay begins: the mirror has drained, general traffic is held, so what comes after is the users'.
pub fn confirm(run: &mut Run) -> Result<()> {
    if run.plan.is_dry() {
        return Ok(());
    }
    let start = lag::current_position(run.target())?;
    let detour = run.detour_id()?;
    record::write_progress(run.source(), "replay", &detour, start)?;
    run.pending.capture_start = Some(start.to_string());
    Ok(())
}
