//! PostgreSQL's own subscription, once the copy is caught up: made, watched, stopped, dropped.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use crate::error::{Doing as _, Error, Result};
use crate::flow::mapping::TableName;
use crate::pg::catalog::facts::{self, StatementLogging};
use crate::pg::{PgLsn, Session};
use crate::phase::Place;
use crate::sql::{self, quote_identifier, quote_literal};

/// How often a worker or a slot is looked at while it ends: this happens while clients are held.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How long the publisher's WAL sender may outlive the worker that it served.
const SENDER_GRACE: Duration = Duration::from_millis(250);

/// What a new subscription is made of.
#[derive(Clone, Copy)]
pub struct NewSubscription<'a> {
    /// Its name.
    pub name: &'a str,
    /// libpq connection string by which the subscriber's server reaches the publisher; may hold a password.
    pub conninfo: &'a str,
    /// The publication there.
    pub publication: &'a str,
    /// The slot there, which exists and stands where the copy ends.
    pub slot: &'a str,
    /// From 16 on its worker writes as the owner of each table, unless this says that it is to write as the subscription's.
    pub as_its_owner: bool,
}

/// Whether any of `tables` has row-level security that binds the table's owner, as whom a worker could not write to it.
pub fn has_bound_owners(subscriber: &mut Session, tables: &[u32]) -> Result<bool> {
    let rows = subscriber.query(&sql::catalog::LIST_TABLE_OWNERS, &[&tables])?;
    Ok(rows.iter().any(|row| row.get("binds_owner")))
}

/// A subscription as its server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// It applies, or tries to.
    pub enabled: bool,
    /// Slot on the publisher; none once it was dissociated.
    pub slot: Option<String>,
    /// Tables that it knows.
    pub tables: i64,
    /// Backend of its apply worker, when one is alive.
    pub worker_pid: Option<i32>,
    /// End of what was received.
    pub received: Option<PgLsn>,
    /// End of the WAL on the publisher that was last reported back: what lies beyond `received` is still to come.
    pub latest_end: Option<PgLsn>,
    /// Time since the publisher was last heard of.
    pub silent: Option<Duration>,
    /// Failed attempts to apply, since 15: a number that grows is a change that does not fit.
    pub apply_errors: Option<i64>,
}

/// Makes the subscription, not enabled, without copying and without a new slot. Changes nothing if it exists.
pub fn create_subscription(subscriber: &mut Session, new: &NewSubscription) -> Result<bool> {
    if find_subscription(subscriber, new.name)?.is_some() {
        return Ok(false);
    }
    let owner = if new.as_its_owner && subscriber.version >= 160_000 { ", run_as_owner = true" } else { "" };
    let statement = |conninfo: &str| {
        format!(
            "create subscription {} connection {conninfo} publication {} \
             with (copy_data = false, create_slot = false, enabled = false, slot_name = {}{owner})",
            quote_identifier(new.name),
            quote_identifier(new.publication),
            quote_literal(new.slot)
        )
    };
    // The server's log and statistics shall not hold the password either, as far as our role may say so.
    let mut quiet = facts::list_statement_logging(subscriber)?;
    quiet.retain(|setting| setting.may_set);
    let each = |change: &dyn Fn(&StatementLogging) -> String| {
        quiet.iter().map(change).collect::<Vec<_>>().join("; ")
    };
    let (hush, speak) = (
        each(&|setting| format!("set {} = '{}'", setting.name, setting.quiet)),
        each(&|setting| format!("reset {}", setting.name)),
    );
    let (script, shown) = (statement(&quote_literal(new.conninfo)), statement("'…'"));
    // In a transaction of its own: a message is logged before any of it is run, and whether a transaction is logged is drawn when it
    // begins.
    if !hush.is_empty() {
        subscriber.change_script(&hush)?;
    }
    let created = subscriber.change_secret(&script, &shown);
    if !speak.is_empty() {
        // A lost session has forgotten it by itself.
        let _ = subscriber.change_script(&speak);
    }
    created
        .doing(|| format!("create subscription \"{}\"", new.name))
        .map_err(|error| hide(error, new.conninfo))?;
    Ok(true)
}

/// The error without the connection string, should the server have repeated it.
fn hide(error: Error, secret: &str) -> Error {
    let clean = |text: String| if secret.is_empty() { text } else { text.replace(secret, "…") };
    match error {
        Error::Sql { action, on, mut cause } => {
            cause.message = clean(cause.message);
            cause.detail = cause.detail.map(clean);
            Error::Sql { action, on, cause }
        }
        other => other,
    }
}

/// Where it is told what the worker of a subscription fails at.
pub fn log_tells(subscriber: Place) -> String {
    format!(
        "The {subscriber}'s server log tells why its worker ends; often a conflicting row, a changed schema or a full disk."
    )
}

/// The subscription of that name, if there is one.
pub fn find_subscription(subscriber: &mut Session, name: &str) -> Result<Option<Subscription>> {
    let Some(row) = subscriber.query_opt(&sql::flow::FIND_SUBSCRIPTION, &[&name])? else { return Ok(None) };
    let apply_errors = if subscriber.version >= 150_000 {
        let text =
            "select s.apply_error_count from pg_catalog.pg_stat_subscription_stats as s where s.subid = $1";
        subscriber.query_text(text, &[&row.get::<_, u32>("oid")])?.first().map(|row| row.get(0))
    } else {
        None
    };
    Ok(Some(Subscription {
        enabled: row.get("enabled"),
        slot: row.get("slot_name"),
        tables: row.get("tables"),
        worker_pid: row.get("worker_pid"),
        received: row.get("received_lsn"),
        latest_end: row.get("latest_end_lsn"),
        silent: row
            .get::<_, Option<f64>>("silent_seconds")
            .map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
        apply_errors,
    }))
}

/// Tables whose changes it applies; what the publisher sends of others it passes over in silence. None where there is no such
/// subscription.
pub fn list_subscribed(subscriber: &mut Session, name: &str) -> Result<Option<HashSet<TableName>>> {
    if find_subscription(subscriber, name)?.is_none() {
        return Ok(None);
    }
    let rows = subscriber.query(&sql::flow::LIST_SUBSCRIBED, &[&name])?;
    let table = TableName::in_row;
    Ok(Some(rows.iter().map(table).collect()))
}

/// Up to where, on the publisher, it has applied; none when it has applied nothing yet.
pub fn read_applied(subscriber: &mut Session, name: &str) -> Result<Option<PgLsn>> {
    let row = subscriber
        .query_opt(&sql::flow::READ_APPLIED_ORIGIN, &[&name])
        .doing(|| format!("read how far subscription \"{name}\" is"))?;
    Ok(row.and_then(|row| row.get("applied")))
}

/// The replication origin of what it applies; none where there is no such subscription.
pub fn find_origin(subscriber: &mut Session, name: &str) -> Result<Option<String>> {
    let row = subscriber
        .query_opt(&sql::flow::FIND_ORIGIN, &[&name])
        .doing(|| format!("look for subscription \"{name}\""))?;
    Ok(row.map(|row| row.get("origin")))
}

/// How often a server that is to start an apply worker is asked for it.
const WORKER_POLL: Duration = Duration::from_millis(50);

/// The subscription, once its apply worker is alive; as it is then if it is not enabled or has none within `patience`.
///
/// A worker is started no sooner than `wal_retrieve_retry_interval` (5 s by default) after the one before, so that a subscription which
/// was stopped and enabled again a moment ago has none for a while.
pub fn find_running_subscription(
    subscriber: &mut Session,
    name: &str,
    patience: Duration,
) -> Result<Option<Subscription>> {
    let deadline = Instant::now() + patience;
    loop {
        let found = find_subscription(subscriber, name)?;
        let is_starting = found.as_ref().is_some_and(|found| found.enabled && found.worker_pid.is_none());
        if !is_starting || Instant::now() >= deadline {
            return Ok(found);
        }
        thread::sleep(WORKER_POLL);
    }
}

/// Lets it apply. Changes nothing if it does already.
pub fn enable_subscription(subscriber: &mut Session, name: &str) -> Result<bool> {
    if find_subscription(subscriber, name)?.is_some_and(|subscription| subscription.enabled) {
        return Ok(false);
    }
    subscriber
        .change_script(&format!("alter subscription {} enable", quote_identifier(name)))
        .doing(|| format!("enable subscription \"{name}\""))?;
    Ok(true)
}

/// Stops it, and waits within `budget` until its worker has ended and nobody uses its slot on the publisher any more.
/// What the worker was in the middle of is rolled back and comes again when it is enabled. Changes nothing if it is
/// stopped, or does not exist.
pub fn disable_subscription(
    subscriber: &mut Session,
    publisher: &mut Session,
    name: &str,
    budget: Duration,
) -> Result<bool> {
    let deadline = Instant::now() + budget;
    let Some(subscription) = find_subscription(subscriber, name)? else { return Ok(false) };
    if subscription.enabled || subscriber.is_dry() {
        stop_applying(subscriber, name, budget)?;
    } else {
        end_workers(subscriber, name, deadline, budget)?;
    }
    if let Some(slot) = subscription.slot.as_ref().filter(|_| !subscriber.is_dry()) {
        wait_for_free_slot(publisher, slot, deadline, budget)?;
    }
    Ok(subscription.enabled)
}

/// Stops it, and waits within `budget` until nothing is applied any more; the publisher's side of it may end a little
/// later. Changes nothing if it does not exist.
pub fn stop_applying(subscriber: &mut Session, name: &str, budget: Duration) -> Result<()> {
    let deadline = Instant::now() + budget;
    // Told to end in the same round trip, once nothing would start it anew, and given a moment to do so.
    let disable = format!("alter subscription {} disable", quote_identifier(name));
    let disabled = if subscriber.is_dry() {
        subscriber.change_script(&disable).map(|()| true)
    } else {
        let tell = sql::flow::END_SUBSCRIPTION_WORKERS.text.replace("$1", &sql::quote_literal(name));
        let left = sql::flow::COUNT_SUBSCRIPTION_WORKERS.text.replace("$1", &sql::quote_literal(name));
        // Each in a transaction of its own, since one transaction sees the processes of its beginning.
        let wait = format!(
            "begin;\nselect pg_catalog.pg_sleep(0.002) from (\n{left}\n) as w where w.workers > 0;\ncommit;\n"
        );
        let script =
            format!("begin;\n{disable};\ncommit;\nbegin;\n{tell};\ncommit;\n{}{left}", wait.repeat(WAITS));
        subscriber
            .ask_script(&script)
            .map(|rows| rows.last().and_then(|row| row[0].as_deref()).is_some_and(|workers| workers == "0"))
    };
    if disabled.as_ref().is_ok_and(|is_over| *is_over) {
        return Ok(());
    }
    if let Err(error) = disabled {
        // A lost session has rolled back by itself.
        let _ = subscriber.change_script("rollback");
        // Our role may not tell the workers: they end by themselves.
        let may_not_tell = error.is_sqlstate(&SqlState::INSUFFICIENT_PRIVILEGE);
        if !may_not_tell || find_subscription(subscriber, name)?.is_some_and(|found| found.enabled) {
            let is_gone = error.is_sqlstate(&SqlState::UNDEFINED_OBJECT);
            return if is_gone {
                Ok(())
            } else {
                Err(error).doing(|| format!("disable subscription \"{name}\""))
            };
        }
    }
    end_workers(subscriber, name, deadline, budget)
}

/// Moments that workers which were told to end are given before they are asked for anew.
const WAITS: usize = 5;

/// The statements of [`stop_applying`], to be prepared before it has to be fast.
pub const STOPPING: [&sql::Sql; 2] =
    [&sql::flow::END_SUBSCRIPTION_WORKERS, &sql::flow::COUNT_SUBSCRIPTION_WORKERS];

/// Before 16, a worker notices only at its next round, up to a second later, that it is to end; so it is told.
fn end_workers(subscriber: &mut Session, name: &str, deadline: Instant, budget: Duration) -> Result<()> {
    let mut told = false;
    loop {
        let look =
            if told { sql::flow::COUNT_SUBSCRIPTION_WORKERS } else { sql::flow::END_SUBSCRIPTION_WORKERS };
        let row = match subscriber.query_one(&look, &[&name]) {
            // Our role may not: it ends by itself.
            Err(error) if !told && error.is_sqlstate(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                told = true;
                continue;
            }
            other => other?,
        };
        told = true;
        if row.get::<_, i64>("workers") == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: format!("the worker of subscription \"{name}\""),
                budget,
                detail: Some(format!("Its pids are {:?}.", row.get::<_, Vec<i32>>("pids"))),
                hint:
                    "Look at the target server's log for what it waits for, then run the same command again."
                        .into(),
            });
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits within `budget` until nobody reads a slot any more; its reader is ended when it does not leave by itself.
pub fn free_slot(publisher: &mut Session, slot: &str, budget: Duration) -> Result<()> {
    if publisher.is_dry() {
        return Ok(());
    }
    wait_for_free_slot(publisher, slot, Instant::now() + budget, budget)
}

fn wait_for_free_slot(
    publisher: &mut Session,
    slot: &str,
    deadline: Instant,
    budget: Duration,
) -> Result<()> {
    let impatient = Instant::now() + SENDER_GRACE;
    let mut told = false;
    loop {
        let row = publisher.query_opt(&sql::flow::READ_SLOT_USE, &[&slot])?;
        let pid = row.and_then(|row| row.get::<_, Option<i32>>("active_pid"));
        let Some(pid) = pid else { return Ok(()) };
        if !told && Instant::now() > impatient {
            told = true;
            terminate(publisher, &[pid])?;
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: format!("the release of replication slot \"{slot}\""),
                budget,
                detail: Some(format!("It is used by pid {pid}.")),
                hint: format!(
                    "Run \"SELECT pg_terminate_backend({pid})\" there, then the same command again."
                ),
            });
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Ends backends, where our role may.
fn terminate(session: &mut Session, pids: &[i32]) -> Result<()> {
    let text = "select pg_catalog.pg_terminate_backend(p.pid) from unnest($1::int4[]) as p (pid)";
    match session.change_returning(text, &[&pids]) {
        Err(error) if !error.is_sqlstate(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(error),
        _ => Ok(()),
    }
}

/// Stops it within `budget` and drops it; its publisher need not be reachable. Whether there was one.
pub fn remove_subscription(subscriber: &mut Session, name: &str, budget: Duration) -> Result<bool> {
    if find_subscription(subscriber, name)?.is_none() {
        return Ok(false);
    }
    stop_applying(subscriber, name, budget)?;
    drop_subscription(subscriber, name)
}

/// Drops it here and leaves its slot on the publisher alone, which need not be reachable. Changes nothing if it does
/// not exist.
pub fn drop_subscription(subscriber: &mut Session, name: &str) -> Result<bool> {
    let Some(subscription) = find_subscription(subscriber, name)? else { return Ok(false) };
    let quoted = quote_identifier(name);
    let mut script = Vec::new();
    if subscription.enabled {
        script.push(format!("alter subscription {quoted} disable"));
    }
    if subscription.slot.is_some() {
        script.push(format!("alter subscription {quoted} set (slot_name = none)"));
    }
    script.push(format!("drop subscription {quoted}"));
    let script = script.join(";\n");
    subscriber.change_script(&script).doing(|| format!("drop subscription \"{name}\""))?;
    Ok(true)
}

/// Whether our role may create subscriptions here: a superuser, or since 16 a member of `pg_create_subscription` with
/// CREATE on the database.
pub fn may_create_subscription(subscriber: &mut Session) -> Result<bool> {
    let role = facts::read_own_role(subscriber)?;
    Ok(role.superuser || role.create_subscription && role.create_in_database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Server;
    use crate::pg::test_server::TestServer;
    use crate::phase::Side;
    use crate::plan::Plan;

    fn server(side: Side, server: &TestServer, plan: Plan) -> Server {
        Server {
            place: side.into(),
            conninfo: server.conninfo(),
            application_name: "pgdetour test".into(),
            plan,
            conventions: crate::pg::Conventions::default(),
        }
    }

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    const LOGS_ALL: &str =
        "log_statement = 'all'\nlog_min_duration_statement = 0\nlog_transaction_sample_rate = 1";

    #[test]
    fn a_subscription_is_made_stopped_quickly_and_dropped_with_its_slot_left() {
        let (one, two) = (TestServer::start(""), TestServer::start(LOGS_ALL));
        let source = server(Side::Source, &one, Plan::real());
        let target = server(Side::Target, &two, Plan::real());
        let (mut publisher, mut subscriber) = (source.connect().unwrap(), target.connect().unwrap());
        publisher
            .change_script(
                "create table public.t (n int4 primary key); create publication p for table public.t",
            )
            .unwrap();
        publisher
            .change_script("select pg_catalog.pg_create_logical_replication_slot('s', 'pgoutput')")
            .unwrap();
        subscriber.change_script("create table public.t (n int4 primary key)").unwrap();
        assert!(may_create_subscription(&mut subscriber).unwrap());
        let conninfo = format!(r"{} password='se\'cret'", one.conninfo_text());
        let new = NewSubscription {
            name: "mirror",
            conninfo: &conninfo,
            publication: "p",
            slot: "s",
            as_its_owner: false,
        };

        let mut dry = server(Side::Target, &two, Plan::dry()).connect().unwrap();
        create_subscription(&mut dry, &new).unwrap();
        assert_eq!(find_subscription(&mut subscriber, "mirror").unwrap(), None);

        assert!(create_subscription(&mut subscriber, &new).unwrap());
        assert!(!create_subscription(&mut subscriber, &new).unwrap());
        let found = find_subscription(&mut subscriber, "mirror").unwrap().unwrap();
        assert_eq!(
            (found.enabled, found.tables, found.worker_pid, found.slot.as_deref()),
            (false, 1, None, Some("s"))
        );

        assert!(enable_subscription(&mut subscriber, "mirror").unwrap());
        assert!(!enable_subscription(&mut subscriber, "mirror").unwrap());
        publisher.change_script("insert into public.t values (1)").unwrap();
        wait_until("the row arrives", || {
            !subscriber.query_text("select n from public.t", &[]).unwrap().is_empty()
        });
        let found = find_subscription(&mut subscriber, "mirror").unwrap().unwrap();
        assert!(found.worker_pid.is_some() && found.received.is_some() && found.apply_errors == Some(0));

        let began = Instant::now();
        let budget = Duration::from_secs(10);
        assert!(disable_subscription(&mut subscriber, &mut publisher, "mirror", budget).unwrap());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!disable_subscription(&mut subscriber, &mut publisher, "mirror", budget).unwrap());

        // What is written meanwhile comes once it is enabled again, and errors are seen.
        subscriber.change_script("insert into public.t values (2)").unwrap();
        publisher.change_script("insert into public.t values (2)").unwrap();
        enable_subscription(&mut subscriber, "mirror").unwrap();
        wait_until("the conflict is counted", || {
            let found = find_subscription(&mut subscriber, "mirror").unwrap().unwrap();
            found.apply_errors.unwrap() > 0
        });
        assert!(drop_subscription(&mut subscriber, "mirror").unwrap());
        assert!(!drop_subscription(&mut subscriber, "mirror").unwrap());
        assert!(two.log().contains("enable") && !two.log().contains("cret"));
    }

    #[test]
    fn a_publisher_that_cannot_be_reached_is_reported_without_its_password() {
        let two = TestServer::start(LOGS_ALL);
        let target = server(Side::Target, &two, Plan::real());
        let mut subscriber = target.connect().unwrap();
        let conninfo = "host=127.0.0.1 port=1 dbname=x user=y password=topsecret";
        let new =
            NewSubscription { name: "mirror", conninfo, publication: "p", slot: "s", as_its_owner: false };
        let error = create_subscription(&mut subscriber, &new).unwrap_err();
        assert_eq!(error.to_string(), "could not create subscription \"mirror\" on target");
        assert!(!format!("{error:?}").contains("topsecret"));
        assert!(!two.log().contains("topsecret"));
        let log = "select pg_catalog.current_setting('log_statement')";
        assert_eq!(subscriber.query_text(log, &[]).unwrap()[0].get::<_, &str>(0), "all", "logged as before");
        assert_eq!(find_subscription(&mut subscriber, "mirror").unwrap(), None);
    }
}
