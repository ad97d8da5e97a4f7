//! Connections that are waited for while nothing has been done yet: a signal does not have to wait for a server that says nothing.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pg::catalog::facts;
use crate::pg::{Server, Session, record};
use crate::phase::Place;
use crate::steps::Signals;

/// Between two looks at whether a signal has come.
const POLL: Duration = Duration::from_millis(20);

/// An attempt that goes on in a thread of its own, and is left behind there when nobody waits for it any more.
pub struct Pending<T>(Receiver<Result<T>>);

impl<T: Send + 'static> Pending<T> {
    /// Begins it.
    pub fn start(attempt: impl FnOnce() -> Result<T> + Send + 'static) -> Pending<T> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = sender.send(attempt());
        });
        Pending(receiver)
    }

    /// What it comes to, or, when a signal comes before that, [`Error::Interrupted`].
    pub fn wait(self, signals: &Signals) -> Result<T> {
        loop {
            match self.0.recv_timeout(POLL) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(signal) = signals.received() {
                        return Err(Error::Interrupted { signal });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal { message: "a connection panicked".into() });
                }
            }
        }
    }
}

/// A session on a server, unless a signal comes first.
pub fn connect(server: &Server, signals: &Signals) -> Result<Session> {
    let server = server.clone();
    Pending::start(move || open(&server)).wait(signals)
}

/// A session on a server whose schema of ours may be believed, and where those that wait for the source's rows do not hear of us.
pub fn open(server: &Server) -> Result<Session> {
    let mut session = server.connect()?;
    record::refuse_foreign(&mut session)?;
    if server.place != Place::Source {
        facts::silence_event_triggers(&mut session)?;
    }
    Ok(session)
}
