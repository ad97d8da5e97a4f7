//! The copy beside the target while that serves: its flow is armed before the cutover, begins at the decision, and is
//! dropped when traffic is home. Traffic never waits for it.

use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::flow::sequences;
use crate::flow::source::{publication, slot};
use crate::flow::subscription::{self, NewSubscription};
use crate::pg::Session;
use crate::phase::{Place, Side};
use crate::steps::Run;
use crate::steps::run::facts::parse_lsn;
use crate::steps::run::{names, selection};

/// How long creating the slot may wait for transactions that are older.
const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(60);
/// How long the last reader of a slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);

/// Makes everything that the flow from the target to the backup needs, ahead of the hold: it applies nothing yet.
pub fn arm(run: &mut Run) -> Result<()> {
    let tables = run.selected_tables(Side::Target)?;
    publication::create_publication(run.target(), names::BACKUP_PUBLICATION, &selection::captured(&tables))?;
    slot::create_slot(run.target(), names::BACKUP_SLOT, OLDER_TRANSACTIONS_BUDGET)?;
    let conninfo = run.server(Place::Target).conninfo.libpq_text();
    let as_its_owner = run.binds_owners(Place::Backup)?;
    let new = NewSubscription {
        name: names::BACKUP_SUBSCRIPTION,
        conninfo: &conninfo,
        publication: names::BACKUP_PUBLICATION,
        slot: names::BACKUP_SLOT,
        as_its_owner,
    };
    subscription::create_subscription(run.session(Place::Backup), &new).map(drop)
}

/// Stops what the mirror applies within `budget`, in all of its stages at once.
pub fn stop_mirror(run: &mut Run, budget: Duration) -> Result<()> {
    let stop =
        |session: &mut Session| subscription::stop_applying(session, names::MIRROR_SUBSCRIPTION, budget);
    let is_dry = run.plan.is_dry();
    let (Some(backup), Some(target)) = (&mut run.backup, &mut run.target) else { return stop(run.target()) };
    if is_dry {
        return stop(backup).and_then(|()| stop(target));
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| stop(backup));
        let second = stop(target);
        let died = |_| Err(Error::Internal { message: "stopping the first stage panicked".into() });
        first.join().unwrap_or_else(died).and(second)
    })
}

/// Lets the mirror's first stage go on after a cutover that was taken back. A backup that is lost keeps nothing from being
/// taken back: `mirror` lets it go on later.
pub fn resume_first_stage(run: &mut Run) -> Result<()> {
    if !run.has_backup() {
        return Ok(());
    }
    let resumed = run.regain_backup()? && {
        let backup = run.session(Place::Backup);
        unless_lost(subscription::enable_subscription(backup, names::MIRROR_SUBSCRIPTION))?.is_some()
    };
    if !resumed {
        run.warn("the backup cannot be reached: run pgdetour mirror once it can, so that the mirror goes on");
    }
    Ok(())
}

/// Has the backup follow the target from the decision on: what came before it has got from the source. Whether anything had
/// to be done.
pub fn follow(run: &mut Run) -> Result<bool> {
    if run.plan.is_dry() {
        run.target().note(format!("advance slot \"{}\" to the decision", names::BACKUP_SLOT));
        subscription::enable_subscription(run.session(Place::Backup), names::BACKUP_SUBSCRIPTION)?;
        return Ok(false);
    }
    let Some(start) = run.facts()?.backup_start else { return Ok(false) };
    let Some(backup) = &mut run.backup else { return Ok(false) };
    let found = subscription::find_subscription(backup, names::BACKUP_SUBSCRIPTION)?;
    if found.is_some_and(|found| found.enabled) {
        return Ok(false);
    }
    // Both at once would give it some changes twice.
    subscription::drop_subscription(backup, names::MIRROR_SUBSCRIPTION)?;
    slot::advance_slot(run.target(), names::BACKUP_SLOT, parse_lsn(&start)?, SLOT_BUDGET)?;
    subscription::enable_subscription(run.session(Place::Backup), names::BACKUP_SUBSCRIPTION)?;
    sequences::plan(run.server(Place::Target), run.server(Place::Backup), None)?;
    Ok(true)
}

/// The same at the end of a cutover, which does not fail for it: clients are on the target already.
pub fn follow_or_warn(run: &mut Run) -> Result<()> {
    let failed = match follow(run) {
        Ok(_) if run.backup.is_some() => return Ok(()),
        Ok(_) => "it cannot be reached".to_owned(),
        Err(error) if is_of(&error, Place::Target) && error.is_connection_lost() => return Err(error),
        Err(error) => error.with_cause(),
    };
    run.warn(format!(
        "the backup does not follow the target yet ({failed}): run pgdetour cutover again once it can"
    ));
    Ok(())
}

/// Takes the flow from the target to the backup away. Nothing of it need be there.
pub fn drop_flow(run: &mut Run) -> Result<()> {
    let target = run.target.as_mut().expect("every command is connected to the target");
    if let Some(backup) = &mut run.backup {
        subscription::remove_subscription(backup, names::BACKUP_SUBSCRIPTION, SLOT_BUDGET)?;
    }
    // A backup that we cannot reach may still read.
    subscription::free_slot(target, names::BACKUP_SLOT, SLOT_BUDGET)?;
    slot::drop_slot(target, names::BACKUP_SLOT, SLOT_BUDGET)?;
    publication::drop_publication(target, names::BACKUP_PUBLICATION).map(drop)
}

/// Does what concerns the backup among others; when that is lost on the way, all of it again without it.
pub fn sparing(run: &mut Run, work: fn(&mut Run) -> Result<()>) -> Result<()> {
    match work(run) {
        Err(error) if run.backup.is_some() && is_of(&error, Place::Backup) && error.is_connection_lost() => {
            run.backup = None;
            run.warn(format!("the backup was lost, and is left as it is: {}", error.with_cause()));
            work(run)
        }
        other => other,
    }
}

/// What came of something on the backup; none when the backup was lost.
pub fn unless_lost<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_connection_lost() => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_of(error: &Error, place: Place) -> bool {
    match error {
        Error::Sql { on, .. } => on == place.name(),
        Error::Unreachable { what, .. } => what == place.name(),
        _ => false,
    }
}
