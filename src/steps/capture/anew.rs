//! The way home made anew, where changes on the target were not recorded or the source has lost some: a new recording, and
//! the source made equal to the target as it was at one instant from which on everything is recorded.
//!
//! That instant is a snapshot of the target. What it shows is on the source when this ends, and replay passes over the
//! recorded transactions that it shows. Until then the source has no progress row, without which replay and cutback refuse;
//! a run that was interrupted is begun again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::mapping::Mapping;
use crate::flow::source::slot;
use crate::flow::verify::repair;
use crate::flow::verify::{Job, Pair, constraints};
use crate::flow::{ChangeSource, FlowName};
use crate::output::plural;
use crate::pg::{PgLsn, record};
use crate::phase::{Phase, Side};
use crate::sql;
use crate::steps::run::facts::{CaptureAnew, Facts, parse_lsn};
use crate::steps::run::names;
use crate::steps::{Needs, Run, capture, preconditions, replay, verify};

/// Runs `capture --anew`; its report. With `adopt`, the source may be a database that does not know of the detour.
pub fn run(run: &mut Run, adopt: bool) -> Result<Value> {
    run.adopts_source = adopt;
    run.open(Needs::Both)?;
    if run.phase() != Phase::Detoured {
        return Err(Error::Refused {
            kind: "not_detoured",
            message: "recording is begun anew only while the target serves".into(),
            detail: None,
            hint: "Before cutover, run \"pgdetour capture\" without --anew.".into(),
        });
    }
    run.step("check preconditions", |run| {
        run.require(&[preconditions::CAPTURE, preconditions::CAPTURE_ANEW])
    })?;
    let mapping = replay::checked_mapping(run)?;
    let extent = verify::Extent { repair: true, ..verify::Extent::default() };
    let pairs = verify::list_pairs(run, verify::Sides::BOTH, &mapping, &extent)?;
    refuse_what_cannot_be_written(run, &pairs)?;
    let is_strange = record::read_stamp(run.source())?.is_none();
    let source = if is_strange {
        format!("the source ({}), which does not know of this detour,", run.source_server.conninfo.places())
    } else {
        "the source".to_owned()
    };
    run.confirm(&format!(
        "begin the recording of changes on the target anew, and overwrite what differs on {source} by the target's rows"
    ))?;
    if is_strange {
        run.step("adopt the source", adopt_source)?;
    }
    run.keep_the_source_fenced()?;
    let start = match run.facts()?.capture_anew {
        // A run that was interrupted has begun it: what is recorded since is as good as what would be from now on.
        Some(CaptureAnew { start: Some(start), done: false, .. })
            if run.recording().require_intact(run.target()).is_ok() =>
        {
            parse_lsn(&start)?
        }
        _ => {
            run.step("hold replay", hold_replay)?;
            run.step("begin to record anew", begin)?
        }
    };
    let (repaired, snapshot) =
        run.step("make the source equal to the target", |run| equal(run, &pairs, &mapping))?;
    run.step("let replay go on", |run| release_replay(run, start, snapshot))?;
    let tables: Vec<Value> =
        repaired.iter().map(|(table, rows)| json!({ "table": table, "rows": rows })).collect();
    let rows: usize = repaired.iter().map(|(_, rows)| rows).sum();
    run.note_event(&format!(
        "recorded anew from {start}, {} repaired on the source",
        plural(rows as u64, "row")
    ));
    Ok(json!({
        "method": run.config.capture.method.name(),
        "slot": (run.config.capture.method == crate::config::CaptureMethod::Wal).then_some(names::CAPTURE_SLOT),
        "start_lsn": start.to_string(),
        "retained_bytes": capture::retained_bytes(run)?,
        "repaired": { "rows": rows, "tables": tables },
    }))
}

fn refuse_what_cannot_be_written(run: &Run, pairs: &[Pair]) -> Result<()> {
    let parts = run.parts();
    let refused: BTreeSet<String> =
        pairs.iter().filter(|pair| !verify::may_be_repaired(&parts, pair)).map(Pair::name).collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        kind: "cannot_repair",
        message: format!("{} cannot be made equal to the target row by row", Vec::from_iter(refused).join(", ")),
        detail: Some(
            "Rows are joined from several tables there, or several without a common key lead there, or the mirror has left out \
             rows."
                .into(),
        ),
        hint: "Nothing was changed. \"pgdetour clean --stay\" makes the target, which has all changes, the new home.".into(),
    })
}

/// Stamps a database as the source of this detour. Without a position there, replay and cutback refuse until all of this is done.
fn adopt_source(run: &mut Run) -> Result<()> {
    let detour = run.detour_id()?;
    let (phase, serving) = (run.phase(), run.serving());
    let identity = record::read_identity(run.target())?;
    record::stamp_source(run.source(), &detour, identity.as_deref())?;
    record::set_stamp_phase(run.source(), phase, serving)?;
    run.changed = true;
    Ok(())
}

/// From here on, neither replay nor cutback goes on before this has come to its end.
fn hold_replay(run: &mut Run) -> Result<()> {
    run.changed = true;
    note(run, CaptureAnew::default())?;
    record::forget_progress(run.source(), FlowName::Replay.name())
}

/// Ends what recorded so far, and records from here on; the position behind which all is recorded.
fn begin(run: &mut Run) -> Result<PgLsn> {
    capture::drop_flow(run)?;
    if run.plan.is_dry() {
        // What is dropped first is still there.
        return plan_to_begin(run);
    }
    capture::arm(run)?;
    slot::wait_for_horizon(run.target(), capture::OLDER_TRANSACTIONS_BUDGET)?;
    let start = match run.recording() {
        ChangeSource::Slot { slot, .. } => {
            slot::find_slot(run.target(), &slot)?.and_then(|slot| slot.confirmed_flush)
        }
        // A table of its own, which is new.
        ChangeSource::Triggers => None,
    }
    .unwrap_or(PgLsn::from(0));
    note(run, CaptureAnew { start: Some(start.to_string()), ..CaptureAnew::default() })?;
    Ok(start)
}

fn plan_to_begin(run: &mut Run) -> Result<PgLsn> {
    let source = run.recording();
    let target = run.target();
    target.note(match &source {
        ChangeSource::Slot { publication, .. } => {
            format!("create publication \"{publication}\" for what is replayed")
        }
        ChangeSource::Triggers => "create the triggers that record what is replayed".to_owned(),
    });
    if let ChangeSource::Slot { slot, .. } = &source {
        slot::plan_slot(target, slot)?;
    }
    Ok(PgLsn::from(0))
}

fn note(run: &mut Run, anew: CaptureAnew) -> Result<()> {
    let capture_start = anew.start.clone();
    // A clean that has begun ends here: there is a way home again.
    let cleaning = run.facts()?.cleaning.map(|_| false);
    run.add_facts(&Facts { capture_anew: Some(anew), capture_start, cleaning, ..Facts::default() })
}

/// Lets replay begin at `start`, and pass over what `snapshot` shows.
fn release_replay(run: &mut Run, start: PgLsn, snapshot: Option<String>) -> Result<()> {
    run.assert_locked()?;
    run.changed = true;
    // Changes that were set aside, and rows that could not be made, are of the time before.
    run.source().change_script(sql::record::FORGET_WAITING.text)?;
    let begun = CaptureAnew { start: Some(start.to_string()), snapshot, done: false };
    note(run, begun.clone())?;
    let detour = run.detour_id()?;
    record::write_progress(run.source(), FlowName::Replay.name(), &detour, start)?;
    note(run, CaptureAnew { done: true, ..begun })
}

/// Rows that were written, by table.
type Written = Vec<(String, usize)>;

/// Writes the target's rows over those of the source that differ, as one snapshot shows them; that snapshot.
fn equal(run: &mut Run, pairs: &[Pair], mapping: &Mapping) -> Result<(Written, Option<String>)> {
    if run.plan.is_dry() {
        for pair in pairs.iter().filter(|pair| !pair.is_outside) {
            run.source().note(format!("make table \"{}\" equal to that of the target", pair.name()));
        }
        return Ok((Written::new(), None));
    }
    let (source_server, target_server) = (run.server(Side::Source).clone(), run.server(Side::Target).clone());
    let (mut source, mut target) = (source_server.connect()?, target_server.connect()?);
    target.change_script("begin isolation level repeatable read read only")?;
    let snapshot: String = target.query_text("select pg_catalog.pg_current_snapshot()::text", &[])?[0].get(0);
    let stop = run.signals.stop_flag();
    // Nothing is written to the source but by us, and the snapshot stays what it is.
    let job = Job::of_one(&source_server, &target_server, pairs, &stop, &|_, _| Ok(()));
    let mut written = Written::new();
    repair::in_order_of_keys(pairs.iter().collect(), |pair: &Pair| {
        run.heed_signals()?;
        let done = repair::repair_table(&job, pair, Side::Target, &mut source, &mut target)?;
        verify::tell_overwritten(run, pair, &done);
        note_written(&mut written, pair, done.rows);
        if done.refusal.is_none() {
            if done.left > 0 {
                return Err(still_differs(pair, done.left));
            }
            let rows = plural(done.rows as u64, "row");
            run.output.elaborate(&format!("{rows} of table \"{}\" repaired", pair.name()));
        }
        Ok(done)
    })?;
    target.change_script("commit")?;
    // Of rows that an earlier run has written, too, which was refused here.
    if let Some(unfit) = constraints::find_violated(&mut source, mapping, &|_| true)? {
        return Err(unfit);
    }
    tell_what_stays(run, pairs);
    written.retain(|(_, rows)| *rows > 0);
    Ok((written, Some(snapshot)))
}

/// Nothing but a recorded change tells that such a row came home, and is gone on the target.
fn tell_what_stays(run: &mut Run, pairs: &[Pair]) {
    for pair in pairs.iter().filter(|pair| pair.is_outside) {
        run.warn(format!(
            "rows of table \"{}\" outside of the mirror's filter stay on the source even if the target has deleted them since they came \
             home: nothing tells them from those that the mirror has left out",
            pair.name()
        ));
    }
}

fn note_written(written: &mut Written, pair: &Pair, rows: usize) {
    let name = pair.name();
    match written.iter_mut().find(|(table, _)| *table == name) {
        Some((_, sum)) => *sum += rows,
        None => written.push((name, rows)),
    }
}

fn still_differs(pair: &Pair, left: usize) -> Error {
    Error::Conflict {
        kind: "differs",
        sqlstate: None,
        message: format!(
            "{} of table \"{}\" still differ on the source",
            plural(left as u64, "row"),
            pair.name()
        ),
        detail: Some("They were not what they were when they were compared, or cannot be written.".into()),
        hint: "See that nobody else writes to the table on the source, and run the same command again."
            .into(),
    }
}
