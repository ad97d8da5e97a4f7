//! Copies the source to the target and hands over to PostgreSQL's own replication.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config;
use crate::error::Result;
use crate::flow::copy::{self, CopyJob, CopyReport, PostStatement, Prepared, SchemaMode, Stage};
use crate::flow::mapping::Mapping;
use crate::flow::subscription::NewSubscription;
use crate::flow::{Flow, FlowName, Snapshot, Until, apply_until, marker, publication, slot, subscription};
use crate::output::Bar;
use crate::pg::catalog::{Table, objects};
use crate::pg::{Conninfo, record};
use crate::phase::{Phase, Serving, Side};
use crate::steps::facts::Facts;
use crate::steps::{Needs, Run, inventory, names, preconditions, selection};

/// How long creating the slot may wait for transactions that are older, and as long again until they have ended.
const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(120);
/// How long the last reader of the slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);

/// Runs the command; its report.
pub fn run(run: &mut Run, jobs: Option<u16>) -> Result<Value> {
    run.open(Needs::Both)?;
    if run.phase() == Phase::Mirrored {
        return Ok(run.facts()?.mirror.unwrap_or_default());
    }
    let begun = Instant::now();
    let jobs = jobs.map_or(run.config.mirror.jobs, usize::from);
    run.step("check preconditions", |run| run.require(&[preconditions::MIRROR]))?;
    run.step("begin the record", begin_record)?;
    let tables = run.selected_tables(Side::Source)?;
    run.step("create publication", |run| {
        publication::create_publication(
            run.source(),
            names::MIRROR_PUBLICATION,
            &selection::published(&tables),
        )
        .map(drop)
    })?;
    run.step("create slot", |run| {
        slot::create_slot(run.source(), names::MIRROR_SLOT, OLDER_TRANSACTIONS_BUDGET).map(drop)
    })?;
    run.step("wait for older transactions", |run| {
        slot::wait_for_horizon(run.source(), OLDER_TRANSACTIONS_BUDGET)
    })?;
    let mut prepared = run.step("copy schema", |run| copy_schema(run, &tables, jobs))?;
    let copied = run.step("copy tables", |run| copy_tables(run, &tables, jobs, &prepared))?;
    run.step("complete schema", |run| complete(run, &tables, jobs, &mut prepared, Stage::AfterCopy))?;
    run.step("catch up", catch_up)?;
    run.step("add foreign keys", |run| complete(run, &tables, jobs, &mut prepared, Stage::AfterCatchUp))?;
    run.step("copy the database's settings", inventory::copy_settings)?;
    run.step("hand over to a subscription", hand_over)?;
    run.step("finish the mirror", |run| finish(run, copied, begun.elapsed()))
}

fn begin_record(run: &mut Run) -> Result<()> {
    let before = match (run.config.mirror.schema, run.phase()) {
        (config::SchemaMode::Dump, Phase::Absent) => Some(objects::read_emptiness(run.target())?),
        _ => None,
    };
    let parts = Some(run.parts());
    let facts = json!(Facts { target_before: before, parts, ..Facts::default() });
    let (source, target) = run.both();
    record::create(source, target, &facts)?;
    if run.plan.is_dry() {
        return Ok(());
    }
    run.part_way = true;
    run.changed = true;
    run.detour = record::read_detour(run.target())?;
    Ok(())
}

/// Tells of a copy: one bar for all of it.
struct CopyProgress {
    bar: Bar,
}

impl copy::Progress for CopyProgress {
    fn table_started(&self, _table: &str, _bytes: u64) {}

    fn bytes_copied(&self, _table: &str, bytes: u64) {
        self.bar.add(bytes);
    }

    fn table_copied(&self, _table: &str, _rows: u64, _bytes: u64) {}

    fn statement_done(&self, _statement: &PostStatement) {}
}

/// Does one part of the copy, with a bar.
fn with_job<T>(
    run: &mut Run,
    tables: &[Table],
    jobs: usize,
    work: impl FnOnce(&CopyJob<'_>) -> Result<T>,
) -> Result<T> {
    let total = tables.iter().map(|table| table.bytes.cast_unsigned()).sum();
    let left_empty = run.unlogged_tables()?;
    let before = run.facts()?.target_before;
    let progress = CopyProgress { bar: run.output.bar("copied", total) };
    let stop = run.signals.stop_flag();
    let job = CopyJob {
        publisher: run.server(Side::Source),
        subscriber: run.server(Side::Target),
        tables,
        left_empty: &left_empty,
        before: before.as_ref(),
        mode: match run.config.mirror.schema {
            config::SchemaMode::Dump => SchemaMode::Dump,
            config::SchemaMode::Existing => SchemaMode::Existing,
        },
        jobs,
        stop: &stop,
        progress: &progress,
    };
    let result = work(&job);
    progress.bar.end();
    // A signal stops the work at a place of its own choosing; the signal is what to tell of.
    run.heed_signals()?;
    result
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the method alone is not general enough in its lifetime"
)]
fn copy_schema(run: &mut Run, tables: &[Table], jobs: usize) -> Result<Prepared> {
    let prepared = with_job(run, tables, jobs, |job| job.prepare())?;
    for warning in &prepared.warnings {
        run.warn(warning.clone());
    }
    Ok(prepared)
}

fn copy_tables(run: &mut Run, tables: &[Table], jobs: usize, prepared: &Prepared) -> Result<CopyReport> {
    with_job(run, tables, jobs, |job| job.copy_tables(prepared))
}

fn complete(
    run: &mut Run,
    tables: &[Table],
    jobs: usize,
    prepared: &mut Prepared,
    stage: Stage,
) -> Result<()> {
    with_job(run, tables, jobs, |job| job.complete_schema(prepared, stage)).map(drop)
}

/// Applies what was changed since the tables were copied, up to a marker that is younger than every copy.
/// Each table's snapshot tells which transactions its copy holds already.
fn catch_up(run: &mut Run) -> Result<()> {
    if subscription::find_subscription(run.target(), names::MIRROR_SUBSCRIPTION)?.is_some() {
        // An earlier run has handed over: the subscription carries the changes.
        return Ok(());
    }
    let mapping = if run.plan.is_dry() { Mapping::default() } else { run.mirror_mapping()? };
    let mut snapshots = HashMap::new();
    for copy in copy::list_table_copies(run.target())? {
        if let Some(snapshot) = &copy.snapshot {
            snapshots.insert(copy.name.clone(), Snapshot::parse(snapshot)?);
        }
    }
    let flow = Flow {
        name: FlowName::Mirror,
        detour: run.detour_id_or_planned()?,
        publisher: run.server(Side::Source).clone(),
        subscriber: run.server(Side::Target).clone(),
        slot: names::MIRROR_SLOT.into(),
        publication: names::MIRROR_PUBLICATION.into(),
        mapping,
        snapshots,
        skip_origins: false,
        batch_bytes: crate::flow::follow::BATCH_BYTES,
        quarantine: false,
    };
    let id = record::new_id(run.source())?;
    marker::write_marker(run.source(), FlowName::Mirror, &id)?;
    let stop = run.signals.stop_flag();
    let output = run.output.clone();
    let applied = apply_until(&flow, &Until::Marker(id.clone()), &stop, None, &mut |progress| {
        output.elaborate(&format!(
            "{} transactions applied, {} bytes of WAL behind",
            progress.transactions, progress.lag_bytes
        ));
    })?;
    run.heed_signals()?;
    if !applied.replica_role {
        run.warn("our role may not set session_replication_role on the target: triggers fired for caught up changes");
    }
    let (source, target) = run.both();
    marker::remove_marker(source, target, &id)
}

/// From here on PostgreSQL carries the mirror, with no process of ours.
fn hand_over(run: &mut Run) -> Result<()> {
    let conninfo = match &run.config.target.source_conninfo {
        Some(text) => Conninfo::parse(text)?.libpq_text(),
        None => run.server(Side::Source).conninfo.libpq_text(),
    };
    let new = NewSubscription {
        name: names::MIRROR_SUBSCRIPTION,
        conninfo: &conninfo,
        publication: names::MIRROR_PUBLICATION,
        slot: names::MIRROR_SLOT,
    };
    subscription::create_subscription(run.target(), &new)?;
    subscription::enable_subscription(run.target(), names::MIRROR_SUBSCRIPTION).map(drop)
}

fn finish(run: &mut Run, copied: CopyReport, took: Duration) -> Result<Value> {
    let report = json!({
        "tables": copied.tables,
        "rows": copied.rows,
        "bytes": copied.bytes,
        "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
        "mode": "continuous",
        "schema": match run.config.mirror.schema {
            config::SchemaMode::Dump => "dump",
            config::SchemaMode::Existing => "existing",
        },
        "objects": inventory::count_objects(run)?,
    });
    let facts = Facts { mirror: Some(report.clone()), ..Facts::default() };
    run.enter_phase_with(Phase::Mirrored, Serving::Source, None, &facts)?;
    run.stamp_phase()?;
    run.note_event("the target is a mirror of the source");
    run.part_way = false;
    Ok(report)
}

/// Takes the mirror flow away: the subscription first, then what it read from. Nothing of it need be there.
pub fn drop_flow(run: &mut Run) -> Result<()> {
    let (source, target) = run.both();
    subscription::disable_subscription(target, source, names::MIRROR_SUBSCRIPTION, SLOT_BUDGET)?;
    subscription::drop_subscription(target, names::MIRROR_SUBSCRIPTION)?;
    slot::drop_slot(source, names::MIRROR_SLOT, SLOT_BUDGET)?;
    publication::drop_publication(source, names::MIRROR_PUBLICATION).map(drop)
}
