//! Copies the source to the target, and has PostgreSQL's own replication or our own runs keep it current.

mod carry;
mod progress;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::{self, CaptureMethod};
use crate::error::{Error, Result};
pub use crate::flow::copy::Limits;
use crate::flow::copy::{self, CopyJob, CopyReport, Prepared, SchemaMode, Stage};
use crate::flow::source::{change_table, publication, slot};
use crate::flow::{ChangeSource, subscription};
use crate::pattern::Selection;
use crate::pg::catalog::Table;
use crate::pg::catalog::emptiness::read_emptiness;
use crate::pg::catalog::objects::Name;
use crate::pg::record;
use crate::phase::{Phase, Serving, Side};
use crate::steps::carrier::{Carrier, Choice};
use crate::steps::facts::Facts;
use crate::steps::{Needs, Run, inventory, names, preconditions, selection};

/// How long creating the slot may wait for transactions that are older, and as long again until they have ended.
const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(120);
/// How long the last reader of the slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);

pub use carry::stop;
use progress::CopyProgress;

/// What a call asks for beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Connections that copy at the same time.
    pub jobs: Option<u16>,
    /// Keep the target current until told to stop.
    pub follow: bool,
    /// Patterns of tables to copy anew.
    pub again: Vec<String>,
    /// How fast the source may be read.
    pub limits: Limits,
}

/// Runs the command; its report.
pub fn run(run: &mut Run, wishes: &Wishes) -> Result<Value> {
    refuse_contradiction(run, wishes)?;
    run.choice = Choice::of(&run.config.mirror, wishes.follow);
    run.copy_limits = wishes.limits;
    run.open(Needs::Both)?;
    let again = named_again(run, &wishes.again)?;
    if run.phase() == Phase::Mirrored {
        let added = added_tables(run)?;
        if again.is_empty() && added.is_empty() {
            return carry::carry_on(run, wishes.follow);
        }
        tell_of_changes(run, &again, &added);
        run.step("take the mirror flow back", |run| carry::take_back(run, &again))?;
    } else if !again.is_empty() {
        copy::repeat_tables(run.target(), &again)?;
    }
    let begun = Instant::now();
    let jobs = wishes.jobs.map_or(run.config.mirror.jobs, usize::from);
    run.step("check preconditions", |run| run.require(&[preconditions::MIRROR, preconditions::UNCHANGED]))?;
    run.step("begin the record", begin_record)?;
    let watch = run.watch_for_stop()?;
    let tables = run.selected_tables(Side::Source)?;
    let by_triggers = source(run) == ChangeSource::Triggers;
    if !by_triggers {
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
    }
    let mut prepared = run.step("copy schema", |run| copy_schema(run, &tables, jobs))?;
    if by_triggers {
        // Each waits for its table's writers, so that the copies, which begin later, show what is not recorded.
        run.step("create triggers", |run| change_table::create_capture(run.source(), &tables).map(drop))?;
    }
    let copied = run.step("copy tables", |run| copy_tables(run, &tables, jobs, &prepared))?;
    run.step("complete schema", |run| complete(run, &tables, jobs, &mut prepared, Stage::AfterCopy))?;
    run.step("catch up", |run| carry::catch_up(run).map(drop))?;
    run.step("add foreign keys", |run| complete(run, &tables, jobs, &mut prepared, Stage::AfterCatchUp))?;
    run.step("copy the database's settings", inventory::copy_settings)?;
    let carrier = match run.choice {
        Choice::Only(Carrier::Pgdetour) => Carrier::Pgdetour,
        _ => run.step("hand over to a subscription", carry::hand_over)?,
    };
    let report = run.step("finish the mirror", |run| finish(run, copied, begun.elapsed(), carrier))?;
    drop(watch);
    if wishes.follow { carry::follow(run, report) } else { Ok(report) }
}

/// The tables that are to be copied anew.
fn named_again(run: &mut Run, patterns: &[String]) -> Result<Vec<Name>> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = Selection::parse(patterns, &[""; 0])?;
    let copies = copy::list_table_copies(run.target())?;
    let tables = run.selected_tables(Side::Source)?;
    let names: Vec<Name> = tables
        .iter()
        .filter(|table| !table.partitioned && selection::is_designated(&wanted, table))
        .map(|table| (table.schema.clone(), table.name.clone()))
        .filter(|name| copies.iter().any(|copy| copy.name == *name))
        .collect();
    if names.is_empty() {
        return Err(Error::Usage {
            message: format!("no mirrored table matches \"{}\"", patterns.join("\", \"")),
            hint: "Name a table of the mirror, as psql's \\d takes it.".into(),
        });
    }
    Ok(names)
}

/// Selected tables that the mirror does not have.
fn added_tables(run: &mut Run) -> Result<Vec<Name>> {
    let copies = copy::list_table_copies(run.target())?;
    let tables = run.selected_tables(Side::Source)?;
    let names = tables.iter().map(|table| (table.schema.clone(), table.name.clone()));
    Ok(names.filter(|name| !copies.iter().any(|copy| copy.name == *name)).collect())
}

fn tell_of_changes(run: &Run, again: &[Name], added: &[Name]) {
    for (what, names) in [("copied again", again), ("added", added)] {
        if !names.is_empty() {
            let names = names.iter().map(|(schema, name)| format!("{schema}.{name}"));
            run.output.say(&format!("{what}: {}", list(names)));
        }
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn refuse_contradiction(run: &Run, wishes: &Wishes) -> Result<()> {
    let mirror = &run.config.mirror;
    let key = match (mirror.mode, mirror.carrier) {
        (config::MirrorMode::Batch, _) => "mirror.mode = \"batch\"",
        (_, config::Carrier::Subscription) => "mirror.carrier = \"subscription\"",
        _ => return Ok(()),
    };
    if !wishes.follow {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("--follow contradicts {key}"),
        hint: "Leave one of the two out. Without --follow, the command run again brings a batch copy up to date."
            .into(),
    })
}

fn begin_record(run: &mut Run) -> Result<()> {
    let before = match (run.config.mirror.schema, run.phase()) {
        (config::SchemaMode::Dump, Phase::Absent) => Some(read_emptiness(run.target())?),
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

/// Does one part of the copy, with a bar.
fn with_job<T>(
    run: &mut Run,
    tables: &[Table],
    jobs: usize,
    work: impl FnOnce(&CopyJob<'_>) -> Result<T>,
) -> Result<T> {
    let left_empty = run.unlogged_tables()?;
    let before = run.facts()?.target_before;
    let progress = CopyProgress::new(&run.output, tables);
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
        limits: run.copy_limits,
        stop: &stop,
        progress: &progress,
    };
    let result = work(&job);
    progress.end();
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
    let copied = with_job(run, tables, jobs, |job| job.copy_tables(prepared))?;
    let found = run.check_all(&[preconditions::UNCHANGED])?.failures;
    let Some(first) = found.first() else { return Ok(copied) };
    Err(Error::Conflict {
        kind: "schema_changed",
        message: first.message.clone(),
        detail: Some(format!(
            "Changed while it was copied: {}.",
            list(found.iter().map(|it| it.object.clone()))
        )),
        hint: first.hint.clone(),
    })
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

/// Where the mirror's changes come from.
pub fn source(run: &Run) -> ChangeSource {
    match run.config.mirror.method {
        CaptureMethod::Wal => ChangeSource::Slot {
            slot: names::MIRROR_SLOT.into(),
            publication: names::MIRROR_PUBLICATION.into(),
        },
        CaptureMethod::Trigger => ChangeSource::Triggers,
    }
}

fn finish(run: &mut Run, copied: CopyReport, took: Duration, carrier: Carrier) -> Result<Value> {
    let report = json!({
        "tables": copied.tables,
        "rows": copied.rows,
        "bytes": copied.bytes,
        "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
        "mode": mode_name(run),
        "carrier": carrier,
        "schema": match run.config.mirror.schema {
            config::SchemaMode::Dump => "dump",
            config::SchemaMode::Existing => "existing",
        },
        "objects": inventory::count_objects(run)?,
    });
    let facts = Facts { mirror: Some(report.clone()), carrier: Some(carrier), ..Facts::default() };
    run.enter_phase_with(Phase::Mirrored, Serving::Source, None, &facts)?;
    run.stamp_phase()?;
    run.note_event("the target is a mirror of the source");
    run.part_way = false;
    Ok(report)
}

fn mode_name(run: &Run) -> &'static str {
    match run.config.mirror.mode {
        config::MirrorMode::Continuous => "continuous",
        config::MirrorMode::Batch => "batch",
    }
}

/// Takes the mirror flow away: the subscription first, then what it read from. Nothing of it need be there.
pub fn drop_flow(run: &mut Run) -> Result<()> {
    if run.phase() == Phase::Mirrored && run.carrier()? == Carrier::Pgdetour {
        run.take_flow()?;
    }
    let (source, target) = run.both();
    subscription::disable_subscription(target, source, names::MIRROR_SUBSCRIPTION, SLOT_BUDGET)?;
    subscription::drop_subscription(target, names::MIRROR_SUBSCRIPTION)?;
    slot::drop_slot(source, names::MIRROR_SLOT, SLOT_BUDGET)?;
    publication::drop_publication(source, names::MIRROR_PUBLICATION)?;
    change_table::drop_capture(source)
}
