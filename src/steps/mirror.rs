//! Copies the source to the target, and has PostgreSQL's own replication or our own runs keep it current.

pub mod backup;
pub mod carrier;
mod carry;
mod draft;
pub mod drift;
pub mod followed;
pub mod inventory;
pub mod lag;
mod progress;
pub mod stages;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::{self};
use crate::error::{Error, Result};
pub use crate::flow::copy::Limits;
use crate::flow::copy::{self, Analysis, CopyJob, CopyReport, Prepared, SchemaMode, Stage as Completion};
use crate::flow::source::{change_table, publication, slot};
use crate::flow::{ChangeSource, subscription};
use crate::pattern::Selection;
use crate::pg::catalog::Table;
use crate::pg::catalog::definitions::Definition;
use crate::pg::catalog::emptiness::read_emptiness;
use crate::pg::catalog::facts::{may_set_replica_role, read_own_role};
use crate::pg::catalog::objects::Name;
use crate::pg::{Server, Session, record};
use crate::phase::{Phase, Place, Serving, Side};
use crate::sql;
use crate::steps::mirror::carrier::Choice;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::{Carrier, Facts};
use crate::steps::run::{names, selection};
use crate::steps::{Needs, Run, preconditions, restrict};

/// How long creating the slot may wait for transactions that are older, and as long again until they have ended.
const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(120);
/// How long the last reader of the slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);

pub use carry::stop;
use draft::Drafting;
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
    run.choice = Choice::of(&run.config, wishes.follow);
    run.copy_limits = wishes.limits;
    run.open(Needs::Both)?;
    let mut again = named_again(run, &wishes.again)?;
    let lost = followed::find(run)?.lost;
    again.extend(copied_for(run, &lost)?);
    let stage = run.stages()[run.stages().len() - 1];
    let mut stands = run.phase() == Phase::Mirrored;
    if stands {
        let added = added_tables(run)?;
        if again.is_empty() && added.is_empty() && lost.is_empty() {
            run.require(&[run.needs_of_a_standing_fence()])?;
            run.keep_the_target_read_only()?;
            return carry::carry_on(run, wishes.follow);
        }
        tell_of_changes(run, &lost, &again, &added);
    } else {
        tell_of_changes(run, &lost, &again, &[]);
        // An earlier run has handed over, and did not come to its end.
        stands = carry::has_to_begin_again(run, stage, &again)?;
    }
    let begun = Instant::now();
    let jobs = wishes.jobs.map_or(run.config.mirror.jobs, usize::from);
    let mut drafting = run.looking_once(|run| {
        run.step("check preconditions", |run| {
            run.require(&[preconditions::MIRROR, preconditions::UNCHANGED, run.needs_of_a_standing_fence()])?;
            refuse_to_reach_further(run, &again)?;
            // What stands goes on where something new cannot be made beside it.
            if stands { try_added(run) } else { Ok(()) }
        })?;
        let mut drafting = Drafting::start(run)?;
        drafting.as_mut().map_or(Ok(()), |drafting| drafting.try_out(run))?;
        Ok(drafting)
    })?;
    if stands {
        run.step("take the mirror flow back", |run| carry::take_back(run, stage, &again))?;
    } else if !again.is_empty() {
        copy::repeat_tables(run.target(), &again)?;
    }
    let before = drift::look_at_source(run)?;
    run.step("begin the record", begin_record)?;
    run.keep_the_target_read_only()?;
    let watch = run.watch_for_stop()?;
    let mut made = Vec::new();
    for stage in run.stages() {
        made.push(make(run, *stage, jobs, &again, drafting.take())?);
    }
    // In a dry run nothing was added.
    if !run.plan.is_dry() && restrict::stands(run)? {
        run.step("restrict what was added", restrict::extend)?;
    }
    let report = run.step("finish the mirror", |run| finish(run, made, &before, begun))?;
    drop(watch);
    if wishes.follow { carry::follow(run, report) } else { Ok(report) }
}

/// Makes one stage: its copy, and what keeps that current. One that is made already stays as it is.
fn make(
    run: &mut Run,
    stage: Stage,
    jobs: usize,
    again: &[Name],
    drafting: Option<Drafting>,
) -> Result<Made> {
    if stage == Stage::ToBackup && carry::has_to_begin_again(run, stage, again)? {
        run.step(stage.step("take the flow back"), |run| carry::take_back(run, stage, again))?;
    }
    let tables = run.selected_tables(copied_from(run, stage).place)?;
    let by_triggers = stage.changes(run.config.mirror.method) == ChangeSource::Triggers;
    if !by_triggers {
        run.step(stage.step("create publication"), |run| {
            publication::create_publication(
                run.session(stage.publisher()),
                names::MIRROR_PUBLICATION,
                &selection::published(&tables),
            )
            .map(drop)
        })?;
        run.step(stage.step("create slot"), |run| {
            slot::create_slot(run.session(stage.publisher()), stage.slot(), OLDER_TRANSACTIONS_BUDGET)
                .map(drop)
        })?;
        run.step(stage.step("wait for older transactions"), |run| {
            slot::wait_for_horizon(run.session(stage.publisher()), OLDER_TRANSACTIONS_BUDGET)
        })?;
    }
    let copying = Copying { stage, tables: &tables, jobs };
    let mut prepared = run.step(stage.step("copy schema"), |run| copy_schema(run, &copying, drafting))?;
    if by_triggers {
        // Each waits for its table's writers, so that the copies, which begin later, show what is not recorded.
        run.step("create triggers", |run| change_table::create_capture(run.source(), &tables).map(drop))?;
    }
    let (copied, mut analysis) =
        run.step(stage.step("copy tables"), |run| copy_tables(run, &copying, &prepared))?;
    run.step(stage.step("complete schema"), |run| {
        complete(run, &copying, &mut prepared, Completion::AfterCopy, &mut analysis)
    })?;
    run.step(stage.step("catch up"), |run| carry::catch_up(run, stage).map(drop))?;
    run.step(stage.step("add foreign keys"), |run| {
        complete(run, &copying, &mut prepared, Completion::AfterCatchUp, &mut analysis)
    })?;
    if stage.subscriber() == Side::Target {
        run.step("copy the database's settings", inventory::copy_settings)?;
    }
    let carrier = match run.choice {
        Choice::Only(Carrier::Pgdetour) => Carrier::Pgdetour,
        _ => run.step(stage.step("hand over to a subscription"), |run| carry::hand_over(run, stage))?,
    };
    Ok(Made { copied, carrier, analysis })
}

/// A stage that is made, but for the statistics of the table that was complete last.
struct Made {
    copied: CopyReport,
    carrier: Carrier,
    analysis: Option<Analysis>,
}

/// Where a stage copies from. In a dry run nothing is on the backup yet, and what will be there is what the source has.
fn copied_from(run: &Run, stage: Stage) -> Server {
    let server = run.server(stage.publisher());
    if run.plan.is_dry() && run.phase() == Phase::Absent {
        return Server { place: server.place, ..run.server(Side::Source).clone() };
    }
    server.clone()
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
        .map(Table::full_name)
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
    let names = tables.iter().map(Table::full_name);
    Ok(names.filter(|name| !copies.iter().any(|copy| copy.name == *name)).collect())
}

/// Refuses to empty tables whose foreign keys would act on those that refer to them, which are not copied anew.
fn refuse_to_reach_further(run: &mut Run, again: &[Name]) -> Result<()> {
    for place in run.stages().iter().map(|stage| stage.subscriber()) {
        let session = run.session(place);
        if again.is_empty() || may_set_replica_role(session)? {
            continue;
        }
        let referenced = copy::list_referenced(session)?;
        let Some((schema, name)) = again.iter().find(|table| referenced.contains(*table)) else { continue };
        let role = sql::quote_identifier(&read_own_role(session)?.name);
        return Err(Error::Refused {
            kind: "referenced",
            message: format!(
                "foreign keys refer to table \"{schema}.{name}\" of the {place}, and would delete or keep rows as it is emptied: our \
                 role may not set session_replication_role there"
            ),
            detail: None,
            hint: format!(
                "From PostgreSQL 15 on, run GRANT SET ON PARAMETER session_replication_role TO {role}; on the {place}; before that, \
                 connect as a superuser. Or let pgdetour verify --repair mend the table."
            ),
        });
    }
    Ok(())
}

/// Refuses new tables that the first subscriber could not have.
fn try_added(run: &mut Run) -> Result<()> {
    if run.plan.is_dry() {
        return Ok(());
    }
    let stage = run.stages()[0];
    let tables = run.selected_tables(stage.publisher())?;
    let copying = Copying { stage, tables: &tables, jobs: 1 };
    with_job(run, &copying, |job, _, subscriber| job.try_added(subscriber))
}

/// What is copied again for tables that the flow has lost: with a partitioned one, its partitions.
fn copied_for(run: &mut Run, lost: &BTreeMap<Name, String>) -> Result<Vec<Name>> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let tables = run.selected_tables(Side::Source)?;
    let names = tables.into_iter().filter(|table| !table.partitioned).filter_map(|table| {
        let name = (table.schema, table.name);
        let is_lost = lost.contains_key(&name) || table.root.is_some_and(|root| lost.contains_key(&root));
        is_lost.then_some(name)
    });
    Ok(names.collect())
}

fn tell_of_changes(run: &Run, lost: &BTreeMap<Name, String>, again: &[Name], added: &[Name]) {
    for ((schema, name), why) in lost {
        run.output.say(&format!("table \"{schema}.{name}\" {why}"));
    }
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
        _ if run.config.target.backup_conninfo.is_some() => "target.backup_conninfo",
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
    let is_ours = (run.config.mirror.schema, run.phase()) == (config::SchemaMode::Dump, Phase::Absent);
    let target_before = if is_ours { Some(read_emptiness(run.target())?) } else { None };
    let backup_before = match &mut run.backup {
        Some(backup) if is_ours => Some(read_emptiness(backup)?),
        _ => None,
    };
    let parts = Some(run.parts());
    let staged = run.has_backup().then_some(true);
    let facts = json!(Facts { staged, backup_before, target_before, parts, ..Facts::default() });
    let (Some(source), Some(target)) = (&mut run.source, &mut run.target) else {
        unreachable!("open() connected to both sides, which this command needs")
    };
    record::create(source, run.backup.as_mut(), target, &facts)?;
    if run.plan.is_dry() {
        return Ok(());
    }
    run.part_way = true;
    run.changed = true;
    run.detour = record::read_detour(run.target())?;
    Ok(())
}

/// What is copied in one stage.
struct Copying<'a> {
    stage: Stage,
    tables: &'a [Table],
    jobs: usize,
}

/// The run's sessions on both ends of a stage, lent to its copy.
struct Sessions {
    publisher: Session,
    subscriber: Session,
}

impl Sessions {
    fn take(run: &mut Run, stage: Stage, publisher: &Server) -> Result<Sessions> {
        // In a dry run they may come from elsewhere than later on.
        let lent = if run.plan.is_dry() { None } else { run.seat(stage.publisher()).take() };
        let publisher = lent.map_or_else(|| publisher.connect(), Ok)?;
        let subscriber = run.seat(stage.subscriber()).take();
        let subscriber = subscriber.map_or_else(|| run.server(stage.subscriber()).connect(), Ok)?;
        Ok(Sessions { publisher, subscriber })
    }

    fn give_back(self, run: &mut Run, stage: Stage) {
        if !run.plan.is_dry() {
            *run.seat(stage.publisher()) = Some(self.publisher);
        }
        *run.seat(stage.subscriber()) = Some(self.subscriber);
    }
}

/// Does one part of the copy, with a bar.
fn with_job<T>(
    run: &mut Run,
    copying: &Copying<'_>,
    work: impl FnOnce(&CopyJob<'_>, &mut Session, &mut Session) -> Result<T>,
) -> Result<T> {
    let Copying { stage, tables, jobs } = *copying;
    let left_empty = run.unlogged_tables()?;
    let facts = run.facts()?;
    let before = match stage {
        Stage::ToBackup => facts.backup_before,
        Stage::Whole | Stage::FromBackup => facts.target_before,
    };
    let publisher = copied_from(run, stage);
    let mut sessions = Sessions::take(run, stage, &publisher)?;
    let progress = CopyProgress::new(&run.output, tables);
    let stop = run.signals.stop_flag();
    let job = CopyJob {
        publisher: &publisher,
        subscriber: run.server(stage.subscriber()),
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
    let result = work(&job, &mut sessions.publisher, &mut sessions.subscriber);
    progress.end();
    sessions.give_back(run, stage);
    // A signal stops the work at a place of its own choosing; the signal is what to tell of.
    run.heed_signals()?;
    result
}

fn copy_schema(run: &mut Run, copying: &Copying<'_>, drafting: Option<Drafting>) -> Result<Prepared> {
    let stop = run.signals.stop_flag();
    let draft = drafting.map(|drafting| drafting.finish(&stop)).transpose();
    run.heed_signals()?;
    let draft = draft?;
    let prepared = with_job(run, copying, |job, _, subscriber| job.prepare(subscriber, draft))?;
    for warning in &prepared.warnings {
        run.warn(warning.clone());
    }
    Ok(prepared)
}

fn copy_tables(
    run: &mut Run,
    copying: &Copying<'_>,
    prepared: &Prepared,
) -> Result<(CopyReport, Option<Analysis>)> {
    let copied = with_job(run, copying, |job, publisher, subscriber| {
        job.copy_tables(publisher, subscriber, prepared)
    })?;
    let found = run.check_all(&[preconditions::UNCHANGED])?.failures;
    let Some(first) = found.first() else { return Ok(copied) };
    Err(Error::Conflict {
        kind: "schema_changed",
        sqlstate: None,
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
    copying: &Copying<'_>,
    prepared: &mut Prepared,
    what: Completion,
    analysis: &mut Option<Analysis>,
) -> Result<()> {
    // It would be in the way of what changes its table.
    if prepared.has(what)
        && let Some(analysis) = analysis.take()
    {
        analysis.finish()?;
    }
    let warnings =
        with_job(run, copying, |job, _, subscriber| job.complete_schema(subscriber, prepared, what))?;
    for warning in warnings {
        run.warn(warning);
    }
    Ok(())
}

fn finish(run: &mut Run, made: Vec<Made>, before: &[Definition], begun: Instant) -> Result<Value> {
    // Beside the statistics that are still being collected.
    let objects = inventory::count_objects(run)?;
    let left_out = drift::left_out(run, before)?;
    let mut stages = Vec::new();
    for Made { copied, carrier, analysis } in made {
        analysis.map_or(Ok(()), Analysis::finish)?;
        stages.push((copied, carrier));
    }
    let Some((copied, carrier)) = stages.last().copied() else {
        return Err(Error::Internal { message: "a mirror without a stage".into() });
    };
    let took = begun.elapsed();
    let mut report = json!({
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
        "objects": objects,
    });
    if let [(to_backup, _), _] = stages[..] {
        report["backup"] = json!(to_backup);
    }
    // One that has begun to clean is over with this.
    let cleaning = run.facts()?.cleaning.map(|_| false);
    let facts = Facts {
        mirror: Some(report.clone()),
        carrier: Some(carrier),
        left_out,
        cleaning,
        ..Facts::default()
    };
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
    // A subscriber that cannot be reached may still read.
    let mut is_read = run.is_staged();
    for place in [Place::Target, Place::Backup] {
        let Some(subscriber) = run.answering(place) else { continue };
        is_read |= subscription::remove_subscription(subscriber, names::MIRROR_SUBSCRIPTION, SLOT_BUDGET)?;
    }
    for (place, slot) in [(Place::Backup, names::STAGE_SLOT), (Place::Source, names::MIRROR_SLOT)] {
        let Some(publisher) = run.answering(place) else { continue };
        if is_read {
            subscription::free_slot(publisher, slot, SLOT_BUDGET)?;
        }
        slot::drop_slot(publisher, slot, SLOT_BUDGET)?;
        publication::drop_publication(publisher, names::MIRROR_PUBLICATION)?;
    }
    change_table::drop_capture(run.source())
}
