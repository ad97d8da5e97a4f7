//! The mirror after its copy: caught up, handed over to a subscription, followed by us, or stopped.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::source::slot;
use crate::flow::subscription::NewSubscription;
use crate::flow::{Applied, Flow, Progress, Until, apply_until, copy, marker, subscription};
use crate::pg::catalog::Table;
use crate::pg::catalog::objects::{Name, identify_named};
use crate::pg::lock::{Key, Lock};
use crate::pg::{Server, Session, record};
use crate::phase::{Phase, Serving, Side};
use crate::steps::mirror::carrier::{Choice, STOP_BUDGET, require_mirror};
use crate::steps::mirror::mode_name;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::{Carrier, Facts};
use crate::steps::run::names;
use crate::steps::{Needs, Run, preconditions};

/// How often a run that follows says how far it is.
const PACE: Duration = Duration::from_secs(10);
/// How often it looks whether the source's schema is still what was copied.
const GUARD_INTERVAL: Duration = Duration::from_secs(5);
/// First and longest pause before a lost server is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// `mirror` where the mirror stands already; its report.
pub fn carry_on(run: &mut Run, wants_to_follow: bool) -> Result<Value> {
    let mut report = run.facts()?.mirror.unwrap_or_default();
    if run.carrier()? == Carrier::Subscription {
        run.step("check that the mirror can go on", |run| run.require(&[preconditions::INTACT]))?;
        for stage in run.stages() {
            let subscriber = run.session(stage.subscriber());
            let found = subscription::find_subscription(subscriber, names::MIRROR_SUBSCRIPTION)?;
            if found.is_some_and(|found| !found.enabled) {
                run.step(stage.step("let the subscription go on"), |run| {
                    let subscriber = run.session(stage.subscriber());
                    subscription::enable_subscription(subscriber, names::MIRROR_SUBSCRIPTION)
                })?;
                run.changed = true;
                run.note_event(&stage.step("the subscription goes on"));
            }
        }
        // A worker that was let go on a moment ago need not be there yet.
        if !run.changed {
            run.step("check that the mirror goes on", |run| run.require(&[preconditions::RUNNING]))?;
        }
        return if wants_to_follow { Err(carried_by_subscription()) } else { Ok(report) };
    }
    if wants_to_follow {
        run.show_that_it_follows();
    }
    run.step("check that the mirror can go on", |run| {
        run.take_free_flow()?;
        run.require(&[preconditions::FOLLOW])
    })?;
    let watch = run.watch_for_stop()?;
    let applied = run.step("catch up", |run| catch_up(run, Stage::Whole))?;
    drop(watch);
    run.changed |= applied.changes > 0;
    if run.choice == Choice::Only(Carrier::Subscription) {
        let carrier = run.step("hand over to a subscription", |run| hand_over(run, Stage::Whole))?;
        report["carrier"] = json!(carrier);
        let facts = Facts { carrier: Some(carrier), mirror: Some(report.clone()), ..Facts::default() };
        run.add_facts(&facts)?;
        run.changed = true;
    } else if wants_to_follow {
        return follow(run, report);
    }
    Ok(with_progress(report, &applied))
}

fn carried_by_subscription() -> Error {
    Error::Refused {
        kind: "carried_by_subscription",
        message: "a subscription on the target carries the mirror".into(),
        detail: None,
        hint: "There is nothing to follow: PostgreSQL keeps the target current. See \"pgdetour status\" for its lag."
            .into(),
    }
}

fn with_progress(mut report: Value, applied: &Applied) -> Value {
    report["transactions"] = json!(applied.transactions);
    report["changes"] = json!(applied.changes);
    report["applied_lsn"] = json!(applied.applied_lsn.to_string());
    report["lag_bytes"] = json!(applied.lag_bytes);
    report
}

/// Whether a stage whose subscription carries it already has tables to copy: `again`, new ones, or such that an earlier run of the
/// kind has not finished.
pub fn has_to_begin_again(run: &mut Run, stage: Stage, again: &[Name]) -> Result<bool> {
    let subscriber = run.session(stage.subscriber());
    if subscription::find_subscription(subscriber, names::MIRROR_SUBSCRIPTION)?.is_none() {
        return Ok(false);
    }
    let copies = copy::list_table_copies(subscriber)?;
    let tables = run.selected_tables(Side::Source)?;
    let is_copied = |table: &Table| {
        copies.iter().any(|copy| copy.state == copy::State::Copied && copy.name == table.full_name())
    };
    Ok(!again.is_empty() || !tables.iter().filter(|table| !table.partitioned).all(is_copied))
}

/// Takes the flow of a mirror that stands into our own hands, and back to where tables are copied: `again` anew, and those
/// that are new. In one transaction: before it the mirror stands, after it a run of `mirror` goes on.
pub fn take_back(run: &mut Run, stage: Stage, again: &[Name]) -> Result<()> {
    let has_record = stage.subscriber() == Side::Target;
    if has_record {
        run.take_flow()?;
    }
    let detour = run.detour_id_or_planned()?;
    let (publisher, subscriber) = run.pair(stage);
    let mut applied = None;
    // The record may not know yet that it was handed over.
    if subscription::find_subscription(subscriber, names::MIRROR_SUBSCRIPTION)?.is_some() {
        subscription::disable_subscription(subscriber, publisher, names::MIRROR_SUBSCRIPTION, STOP_BUDGET)?;
        applied = subscription::read_applied(subscriber, names::MIRROR_SUBSCRIPTION)?;
    }
    subscriber.atomically(|subscriber| {
        if let Some(applied) = applied {
            record::write_progress(subscriber, stage.flow().name(), &detour, applied)?;
        }
        subscription::drop_subscription(subscriber, names::MIRROR_SUBSCRIPTION)?;
        copy::repeat_tables(subscriber, again)?;
        if !has_record {
            return Ok(());
        }
        record::set_phase(subscriber, Phase::Mirroring, Serving::Source, None, &json!({}))
    })?;
    if !run.plan.is_dry() {
        run.detour = record::read_detour(run.target())?;
        run.part_way = true;
        run.changed = true;
    }
    Ok(())
}

/// Applies what was changed since the tables were copied, or since an earlier run, up to a marker that is younger.
pub fn catch_up(run: &mut Run, stage: Stage) -> Result<Applied> {
    if subscription::find_subscription(run.session(stage.subscriber()), names::MIRROR_SUBSCRIPTION)?.is_some()
    {
        // An earlier run has handed over: the subscription carries the changes.
        return Ok(Applied::nothing());
    }
    let flow = run.flow_of(stage)?;
    let publisher = run.session(stage.publisher());
    let id = record::new_id(publisher)?;
    marker::write_marker(publisher, stage.flow(), &id)?;
    let stop = run.signals.stop_flag();
    let output = run.output.clone();
    let applied = apply_until(&flow, &Until::Marker(id.clone()), &stop, None, &mut |progress| {
        output.elaborate(&told(progress));
    })?;
    run.heed_signals()?;
    warn_of_triggers(run, &applied);
    let (publisher, subscriber) = run.pair(stage);
    marker::remove_marker(publisher, subscriber, &id)?;
    Ok(applied)
}

fn warn_of_triggers(run: &mut Run, applied: &Applied) {
    if !applied.replica_role {
        run.warn("our role may not set session_replication_role on the target: triggers fired for caught up changes");
    }
}

fn told(progress: &Progress) -> String {
    format!("{} transactions applied, {} bytes of WAL behind", progress.transactions, progress.lag_bytes)
}

/// From here on PostgreSQL carries the mirror, with no process of ours; or, where it can't, our own runs do.
pub fn hand_over(run: &mut Run, stage: Stage) -> Result<Carrier> {
    let may_fall_back = run.choice == Choice::Auto;
    let why = if !may_fall_back || subscription::may_create_subscription(run.target())? {
        match subscribe(run, stage) {
            Ok(()) => return Ok(Carrier::Subscription),
            Err(error) if may_fall_back && cannot_subscribe(&error) => {
                error.detail().unwrap_or_else(|| error.to_string())
            }
            Err(error) => return Err(error),
        }
    } else {
        "our role may not create subscriptions".into()
    };
    run.warn(format!(
        "the target cannot subscribe to the source ({}): keep the mirror current with \"pgdetour mirror --follow\", \
         or run \"pgdetour mirror\" now and then",
        why.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    Ok(Carrier::Pgdetour)
}

fn subscribe(run: &mut Run, stage: Stage) -> Result<()> {
    let conninfo = run.conninfo_of(stage)?.libpq_text();
    let as_its_owner = run.binds_owners(stage.subscriber())?;
    let new = NewSubscription {
        name: names::MIRROR_SUBSCRIPTION,
        conninfo: &conninfo,
        publication: names::MIRROR_PUBLICATION,
        slot: stage.slot(),
        as_its_owner,
    };
    let subscriber = run.session(stage.subscriber());
    subscription::create_subscription(subscriber, &new)?;
    subscription::enable_subscription(subscriber, names::MIRROR_SUBSCRIPTION).map(drop)
}

/// The target's server does not reach the source, or is not let in, or our role may not subscribe.
fn cannot_subscribe(error: &Error) -> bool {
    // A role without superuser rights has to give a password: prohibited_sql_statement_attempted.
    let codes =
        [SqlState::INSUFFICIENT_PRIVILEGE.code(), SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED.code()];
    let is_cause = |code: &str| code.starts_with("08") || code.starts_with("28") || codes.contains(&code);
    !error.is_connection_lost() && error.sqlstate().is_some_and(is_cause)
}

/// Keeps the target current in the foreground until a signal or another run ends it, at a transaction's end.
/// Other commands can run meanwhile; `cutover` takes the flow over.
pub fn follow(run: &mut Run, report: Value) -> Result<Value> {
    run.show_that_it_follows();
    run.take_free_flow()?;
    let watch = run.watch_for_stop()?;
    run.locks.clear();
    run.note_event("follows the source");
    let applied = run.step("follow the source", follow_until_stopped)?;
    drop(watch);
    run.note_event("follows the source no more");
    run.changed |= applied.changes > 0;
    warn_of_triggers(run, &applied);
    Ok(with_progress(report, &applied))
}

fn follow_until_stopped(run: &mut Run) -> Result<Applied> {
    let stop = run.signals.stop_flag();
    let mut followed = None;
    let mut progress = Progress::default();
    let mut pause = RETRY.0;
    loop {
        let begun = Instant::now();
        let error = match follow_while_connected(run, &mut followed, &mut progress) {
            Ok(applied) => return Ok(applied),
            Err(error) => error,
        };
        let is_lost = error.is_connection_lost() || matches!(error, Error::Unreachable { .. });
        if !is_lost {
            // A change of the schema shows in the stream first, as something that has no place on the target.
            if let Some((_, guard)) = &mut followed
                && !guard.holds()
            {
                guard.verdict()?;
            }
            return Err(error);
        }
        run.output.say(&format!("{}; tries again", describe(&error)));
        if begun.elapsed() > RETRY.1 {
            pause = RETRY.0;
        }
        let deadline = Instant::now() + pause;
        while Instant::now() < deadline && !stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        if stop.load(Ordering::SeqCst) {
            // Nothing is left to do for a server that is away: all that was applied is committed.
            return Ok(Applied::until_failure(&progress));
        }
        pause = (pause * 2).min(RETRY.1);
        match regain_source(run).and_then(|()| regain(run)) {
            Err(error) if !matches!(error, Error::Unreachable { .. }) => return Err(error),
            _ => {}
        }
    }
}

/// Follows until a signal, or until a server is lost for long. What is read once stays in `followed` for the next attempt.
fn follow_while_connected(
    run: &mut Run,
    followed: &mut Option<(Flow, SchemaGuard)>,
    last: &mut Progress,
) -> Result<Applied> {
    let (flow, guard) = if let Some(followed) = followed {
        followed
    } else {
        let guard = SchemaGuard::new(run)?;
        // What was changed before the guard looked would be nothing new to it.
        run.require(&[preconditions::UNCHANGED])?;
        followed.insert((run.mirror_flow()?, guard))
    };
    let applied = apply_and_tell(run, flow, guard, last)?;
    guard.verdict()?;
    // The flow rides through a short outage by itself; the session that the rest of the command uses does not.
    regain(run)?;
    Ok(applied)
}

fn describe(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{error}: {detail}"),
        None => error.to_string(),
    }
}

/// Takes the session on the source anew where it was lost.
fn regain_source(run: &mut Run) -> Result<()> {
    if run.source().query_text("select", &[]).is_err() {
        run.source = Some(run.source_server.connect()?);
    }
    Ok(())
}

/// Takes session and lock anew where the target was lost; fails when the mirror is not ours to follow any more.
fn regain(run: &mut Run) -> Result<()> {
    let is_held = run.flow_lock.as_mut().is_some_and(|lock| lock.assert_held().is_ok());
    if !is_held {
        run.flow_lock = None;
        run.target = Some(run.target_server.connect()?);
        run.flow_lock = Some(Lock::acquire(&run.target_server, Key::Flow)?);
    }
    run.detour = record::read_detour(run.target())?;
    if run.phase() == Phase::Mirrored && run.carrier()? == Carrier::Pgdetour {
        return Ok(());
    }
    Err(Error::WrongPhase { command: run.command.name(), phase: run.phase() })
}

/// Looks now and then whether the source's tables are still those that were copied.
struct SchemaGuard {
    publisher: Server,
    known: BTreeMap<Name, Seen>,
    names: Vec<Name>,
    session: Option<Session>,
    changed: Option<(Name, Difference)>,
}

/// A table as the guard sees it: what its definition hashes to, and which one it is.
type Seen = (String, u32);

/// What is another one by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    Table,
    Definition,
}

impl SchemaGuard {
    fn new(run: &mut Run) -> Result<SchemaGuard> {
        let copies = copy::list_table_copies(run.target())?;
        let names: Vec<Name> =
            copies.into_iter().filter(|copy| copy.fingerprint.is_some()).map(|copy| copy.name).collect();
        let known = identify_named(run.source(), &names)?;
        let publisher = run.server(Side::Source).clone();
        Ok(SchemaGuard { publisher, known, names, session: None, changed: None })
    }

    /// Whether nothing has changed. A source that does not answer is seen by the flow.
    fn holds(&mut self) -> bool {
        let Some(mut session) = self.session.take().or_else(|| self.publisher.connect().ok()) else {
            return true;
        };
        let Ok(found) = identify_named(&mut session, &self.names) else { return true };
        self.session = Some(session);
        self.changed = self.known.iter().find_map(|(name, known)| {
            let now = found.get(name);
            let is_another = now.is_some_and(|now| now.1 != known.1);
            let difference = if is_another { Difference::Table } else { Difference::Definition };
            (now != Some(known)).then(|| (name.clone(), difference))
        });
        self.changed.is_none()
    }

    fn verdict(&self) -> Result<()> {
        let Some(((schema, name), difference)) = &self.changed else { return Ok(()) };
        let (what, hint) = match difference {
            Difference::Table => (
                "was dropped or renamed on the source, and another one is in its place",
                "Run the same command again: it copies the table again.",
            ),
            Difference::Definition => (
                "was changed on the source",
                "Make the same change on the target, then run the same command again.",
            ),
        };
        Err(Error::Conflict {
            kind: "schema_changed",
            sqlstate: None,
            message: format!("table \"{schema}.{name}\" {what}"),
            detail: Some("Everything committed before was applied; the flow has stopped there.".into()),
            hint: hint.into(),
        })
    }
}

fn apply_and_tell(run: &Run, flow: &Flow, guard: &mut SchemaGuard, last: &mut Progress) -> Result<Applied> {
    let stop = run.signals.stop_flag();
    let output = run.output.clone();
    let signals = run.signals.clone();
    let mut told_at = Instant::now();
    let mut guarded_at = Instant::now();
    apply_until(flow, &Until::Stopped, &stop, None, &mut |progress| {
        *last = *progress;
        output.elaborate(&told(progress));
        if guarded_at.elapsed() >= GUARD_INTERVAL {
            guarded_at = Instant::now();
            if !guard.holds() {
                signals.request_end();
            }
        }
        if told_at.elapsed() >= PACE {
            told_at = Instant::now();
            output.say(&format!("follows: {}", told(progress)));
        }
    })
}

/// `mirror --stop`: ends a copy or a flow of the mirror at a safe place, in another run or on the target; the report.
pub fn stop(run: &mut Run) -> Result<Value> {
    run.connect(Needs::Both)?;
    require_mirror(run.phase(), "stopped")?;
    let mut stopped = None;
    if run.step("stop a run of mirror", stop_run)? {
        stopped = Some(if run.phase() == Phase::Mirrored { "flow" } else { "copy" });
    }
    require_mirror(run.phase(), "stopped")?;
    if run.step("stop a run that follows", Run::take_flow)? {
        stopped = Some("flow");
    }
    for stage in run.stages() {
        let was_enabled = run.step(stage.step("stop the subscription"), |run| {
            let (publisher, subscriber) = run.pair(*stage);
            subscription::disable_subscription(subscriber, publisher, names::MIRROR_SUBSCRIPTION, STOP_BUDGET)
        })?;
        if was_enabled {
            stopped = Some("subscription");
        }
    }
    if stopped.is_some() {
        run.changed = true;
        run.note_event("the mirror was stopped");
    }
    let retained = slot::find_slot(run.source(), names::MIRROR_SLOT)?.and_then(|slot| slot.retained_bytes);
    if retained.is_some() {
        run.warn(
            "the source keeps its WAL until the mirror goes on: run \"pgdetour mirror\" again, or clean",
        );
    }
    let copied = copy::report(run.target())?;
    let mut report = json!(copied);
    report["seconds"] = json!(0);
    report["mode"] = json!(mode_name(run));
    report["stopped"] = json!(stopped);
    report["retained_bytes"] = json!(retained);
    Ok(report)
}

/// Asks the run that holds the lock to stop, and takes the lock when it has; whether there was one.
fn stop_run(run: &mut Run) -> Result<bool> {
    if run.plan.is_dry() {
        run.target().note("ask a run of mirror to stop, and wait for its end");
        return Ok(false);
    }
    let server = run.server(Side::Target).clone();
    let free = Lock::try_acquire(&server, Key::Run)?;
    let was_held = free.is_none();
    let lock = if let Some(lock) = free {
        lock
    } else {
        run.request_stop(true)?;
        let taken = Lock::acquire_within(&server, Key::Run, STOP_BUDGET, &mut || run.heed_signals());
        run.request_stop(false)?;
        taken?
    };
    run.locks.push(lock);
    let source = Lock::acquire(run.server(Side::Source), Key::Run)?;
    run.locks.push(source);
    run.lock_backup()?;
    run.detour = record::read_detour(run.target())?;
    Ok(was_held)
}
