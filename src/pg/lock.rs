//! The lock that every changing run holds on both sides, in a session of its own.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::pg::{Server, Session};
use crate::phase::Place;
use crate::sql::record as sql;

/// First half of the session advisory locks' keys: the letters `pgdt`.
pub const CLASS: i32 = 0x7067_6474;

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A run that changes something; on both sides.
    Run = 1,
    /// Applying the changes of the mirror flow; on the target. A run that follows holds only this one, so that other
    /// commands can run beside it.
    Flow = 2,
}

impl Key {
    /// Second half of the lock's key.
    pub fn object(self) -> i32 {
        self as i32
    }
}

/// How long to wait for the session of a run that was just killed to be noticed as gone.
const GRACE: Duration = Duration::from_secs(3);

/// Held for as long as this lives; the server releases it when the session ends, however it ends.
pub struct Lock {
    session: Session,
    backend: i32,
    key: Key,
}

impl Lock {
    /// Takes the lock on one side, or names who holds it.
    pub fn acquire(server: &Server, key: Key) -> Result<Lock> {
        Lock::acquire_within(server, key, GRACE, &mut || Ok(()))
    }

    /// Takes the lock on one side once it is free, for as long as `go_on` allows; after `budget`, names who holds it.
    pub fn acquire_within(
        server: &Server,
        key: Key,
        budget: Duration,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Lock> {
        let mut session = server.connect()?;
        let backend = session.query_text("select pg_catalog.pg_backend_pid()", &[])?[0].get(0);
        let deadline = Instant::now() + budget;
        loop {
            if session.query_one(&sql::TRY_LOCK, &[&CLASS, &key.object()])?.get("taken") {
                return Ok(Lock { session, backend, key });
            }
            if Instant::now() >= deadline {
                return Err(busy(&mut session, key)?);
            }
            go_on()?;
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The server process that holds it.
    pub fn backend(&self) -> i32 {
        self.backend
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.session.place
    }

    /// Takes the lock on one side if it is free.
    pub fn try_acquire(server: &Server, key: Key) -> Result<Option<Lock>> {
        let mut session = server.connect()?;
        let backend = session.query_text("select pg_catalog.pg_backend_pid()", &[])?[0].get(0);
        let taken = session.query_one(&sql::TRY_LOCK, &[&CLASS, &key.object()])?.get("taken");
        Ok(if taken { Some(Lock { session, backend, key }) } else { None })
    }

    /// Fails when the session was lost, and with it the lock.
    pub fn assert_held(&mut self) -> Result<()> {
        self.session.query_one(&sql::FIND_HELD_LOCK, &[&CLASS, &self.key.object()]).map(drop)
    }
}

/// The session that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its `application_name`.
    pub application_name: String,
    pid: i32,
    role: String,
    address: String,
    since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { pid, application_name, role, address, since } = self;
        write!(
            f,
            "process {pid} \"{application_name}\" of role \"{role}\" from {address}, connected since {since}"
        )
    }
}

/// Who holds the lock in the session's database; none when nobody does. Takes nothing.
pub fn find_holder(session: &mut Session, key: Key) -> Result<Option<Holder>> {
    let row = session.query_opt(&sql::FIND_LOCK_HOLDER, &[&CLASS, &key.object()])?;
    Ok(row.map(|row| Holder {
        pid: row.get("pid"),
        application_name: row.get("application_name"),
        role: row.get("role"),
        address: row.get("address"),
        since: row.get("since"),
    }))
}

/// Whether somebody holds the lock on the session's side.
pub fn is_held(session: &mut Session, key: Key) -> Result<bool> {
    Ok(find_holder(session, key)?.is_some())
}

fn busy(session: &mut Session, key: Key) -> Result<Error> {
    let holder = find_holder(session, key)?;
    let holder =
        holder.map_or_else(|| "a session that has just ended".to_owned(), |holder| holder.to_string());
    Ok(Error::Busy { on: session.place.name().to_owned(), holder })
}
