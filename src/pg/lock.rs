//! The lock that every changing run holds on both sides, in a session of its own.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::pg::{Server, Session};
use crate::sql::record as sql;

/// Key of the session advisory lock: the letters `pgdt`, and 1 for runs.
const KEY: (i32, i32) = (0x7067_6474, 1);

/// How long to wait for the session of a run that was just killed to be noticed as gone.
const GRACE: Duration = Duration::from_secs(3);

/// Held for as long as this lives; the server releases it when the session ends, however it ends.
pub struct Lock {
    session: Session,
}

impl Lock {
    /// Takes the lock on one side, or names who holds it.
    pub fn acquire(server: &Server) -> Result<Lock> {
        let mut session = server.connect()?;
        let deadline = Instant::now() + GRACE;
        loop {
            if session.query_one(&sql::TRY_LOCK, &[&KEY.0, &KEY.1])?.get("taken") {
                return Ok(Lock { session });
            }
            if Instant::now() >= deadline {
                return Err(busy(&mut session)?);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails when the session was lost, and with it the lock.
    pub fn assert_held(&mut self) -> Result<()> {
        self.session.query_one(&sql::LOCK_HELD, &[&KEY.0, &KEY.1]).map(drop)
    }
}

/// Who holds the lock in the session's database; none when nobody does. Takes nothing.
pub fn find_holder(session: &mut Session) -> Result<Option<String>> {
    let row = session.query_opt(&sql::LOCK_HOLDER, &[&KEY.0, &KEY.1])?;
    Ok(row.map(|row| {
        format!(
            "process {} \"{}\" of role \"{}\" from {}, connected since {}",
            row.get::<_, i32>("pid"),
            row.get::<_, &str>("application_name"),
            row.get::<_, &str>("role"),
            row.get::<_, &str>("address"),
            row.get::<_, &str>("since"),
        )
    }))
}

fn busy(session: &mut Session) -> Result<Error> {
    let holder = find_holder(session)?.unwrap_or_else(|| "a session that has just ended".to_owned());
    Ok(Error::Busy { on: session.side.name().to_owned(), holder })
}
