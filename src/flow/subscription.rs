//! PostgreSQL's own apply, which carries the mirror once it has been handed over.

use std::thread;
use std::time::{Duration, Instant};

use super::slot;
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier, quote_literal};

/// A subscription of this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its worker is meant to run.
    pub enabled: bool,
    /// The apply worker, while it runs.
    pub worker_pid: Option<i32>,
}

/// The subscription of that name in this database.
pub fn find_subscription(subscriber: &mut Session, name: &str) -> Result<Option<Subscription>> {
    let row = subscriber.query_opt(&sql::flow::FIND_SUBSCRIPTION, &[&name])?;
    Ok(row.map(|row| Subscription { enabled: row.get("enabled"), worker_pid: row.get("worker_pid") }))
}

/// Creates it, disabled, on a slot that exists; whether it was missing.
pub fn create_subscription(subscriber: &mut Session, name: &str, conninfo: &str, publication: &str, slot: &str) -> Result<bool> {
    if find_subscription(subscriber, name)?.is_some() {
        return Ok(false);
    }
    let statement = |conninfo: &str| {
        format!(
            "create subscription {} connection {conninfo} publication {} \
             with (create_slot = false, copy_data = false, enabled = false, slot_name = {})",
            quote_identifier(name),
            quote_identifier(publication),
            quote_literal(slot),
        )
    };
        subscriber
        .change_secret(&statement(&quote_literal(conninfo)), &statement("'…'"))
        .doing(|| format!("create subscription \"{name}\""))?;
    Ok(true)
}

/// Lets it run.
pub fn enable_subscription(subscriber: &mut Session, name: &str) -> Result<()> {
    set(subscriber, name, true)
}

/// Tells it to stop, without waiting until it has.
pub fn request_disable(subscriber: &mut Session, name: &str) -> Result<()> {
    set(subscriber, name, false)
}

fn set(subscriber: &mut Session, name: &str, enabled: bool) -> Result<()> {
    match find_subscription(subscriber, name)? {
        Some(found) if found.enabled != enabled => {
            let verb = if enabled { "enable" } else { "disable" };
            subscriber
                .change_script(&format!("alter subscription {} {verb}", quote_identifier(name)))
                .doing(|| format!("{verb} subscription \"{name}\""))
        }
        _ => Ok(()),
    }
}

/// Stops it, and waits until its worker has gone and its slot is free.
pub fn disable_subscription(
    subscriber: &mut Session,
    publisher: &mut Session,
    name: &str,
    slot: &str,
    budget: Duration,
) -> Result<()> {
    request_disable(subscriber, name)?;
    if subscriber.is_dry() {
        return Ok(());
    }
    let deadline = Instant::now() + budget;
    loop {
        let worker = find_subscription(subscriber, name)?.and_then(|found| found.worker_pid);
        let reader = slot::find_slot(publisher, slot)?.and_then(|slot| slot.active_pid);
        if worker.is_none() && reader.is_none() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: format!("stopping subscription \"{name}\""),
                budget,
                detail: Some(format!("worker {worker:?} of the target, walsender {reader:?} of the source")),
                hint: "See pg_stat_subscription on the target.".into(),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Drops it, leaving the publisher's slot to its own end. It must have been disabled.
pub fn drop_subscription(subscriber: &mut Session, name: &str) -> Result<()> {
    if find_subscription(subscriber, name)?.is_none() {
        return Ok(());
    }
    let name = quote_identifier(name);
    subscriber.change_script(&format!("alter subscription {name} set (slot_name = none)")).doing(|| format!("detach subscription {name}"))?;
    subscriber.change_script(&format!("drop subscription {name}")).doing(|| format!("drop subscription {name}"))
}
