//! PgBouncer's console: simple queries only, each with a deadline that holds whatever the console does.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use postgres::SimpleQueryMessage;

use crate::error::{Error, Result, ServerError};
use crate::pg::Conninfo;

/// How long the console may take over anything but PAUSE. It answers within milliseconds; one that is silent is asked once more on the
/// way back, and both together shall not keep clients waiting for longer than a pause may take by default.
const ANSWER: Duration = Duration::from_millis(2500);

/// One row of an answer, by column name: columns come and go between PgBouncer's versions.
pub struct Row(Vec<(String, Option<String>)>);

impl Row {
    /// The column's text; None when it is NULL or this version has no such column.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == column)?.1.as_deref()
    }

    /// The column's text, empty when there is none.
    pub fn text(&self, column: &str) -> &str {
        self.get(column).unwrap_or_default()
    }

    /// Whether the column is 1.
    pub fn is_set(&self, column: &str) -> bool {
        self.get(column) == Some("1")
    }
}

/// A console of one PgBouncer process, connected when first used and again when the connection was lost.
pub struct Console {
    name: String,
    conninfo: Conninfo,
    application_name: String,
    line: Option<Line>,
}

/// A connection lives in a thread of its own, which is left behind when an answer does not come: a PAUSE that waits
/// cannot be called off, and must not keep us.
struct Line {
    commands: Sender<String>,
    answers: Receiver<Result<Vec<Row>, ServerError>>,
}

impl Console {
    /// A console that is not connected yet; `name` is for messages.
    pub fn new(name: &str, conninfo: Conninfo, application_name: &str) -> Console {
        Console { name: name.to_owned(), conninfo, application_name: application_name.to_owned(), line: None }
    }

    /// Runs a command that may be run twice, within [`ANSWER`].
    pub fn ask(&mut self, command: &str) -> Result<Vec<Row>> {
        let deadline = Instant::now() + ANSWER;
        let reused = self.line.is_some();
        match self.ask_until(command, deadline) {
            // The console may have been restarted since it was last used.
            Err(error) if reused && error.is_connection_lost() => self.ask_until(command, deadline),
            other => other,
        }
    }

    /// Runs a command. On [`Error::TimedOut`] it may still be at work in PgBouncer; the next command goes
    /// through a connection of its own.
    pub fn ask_until(&mut self, command: &str, deadline: Instant) -> Result<Vec<Row>> {
        let begun = Instant::now();
        let timed_out = || Error::TimedOut {
            what: format!("{command} on {}", self.name),
            budget: deadline.saturating_duration_since(begun),
            detail: None,
            hint: "See whether PgBouncer runs and its console answers, then run the same command again."
                .into(),
        };
        let line = self.line.take().map_or_else(|| self.connect(deadline), Ok)?;
        if line.commands.send(command.to_owned()).is_err() {
            return Err(self.broken());
        }
        match line.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(rows)) => {
                self.line = Some(line);
                Ok(rows)
            }
            Ok(Err(cause)) => {
                if !cause.connection_lost {
                    self.line = Some(line);
                }
                Err(Error::Sql { action: format!("run {command}"), on: self.name.clone(), cause })
            }
            Err(RecvTimeoutError::Timeout) => Err(timed_out()),
            Err(RecvTimeoutError::Disconnected) => Err(self.broken()),
        }
    }

    /// The row of `SHOW DATABASES` about `database`.
    pub fn database(&mut self, database: &str) -> Result<Option<Row>> {
        Ok(self.ask("SHOW DATABASES")?.into_iter().find(|row| row.get("name") == Some(database)))
    }

    fn broken(&self) -> Error {
        self.unreachable(ServerError::lost("the connection broke"))
    }

    fn unreachable(&self, cause: ServerError) -> Error {
        Error::Unreachable { what: self.name.clone(), cause }
    }

    fn connect(&self, deadline: Instant) -> Result<Line> {
        let line = self.open();
        match line.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(_)) => Ok(line),
            Ok(Err(cause)) => Err(self.unreachable(cause)),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.unreachable(ServerError::lost("no answer to the attempt to connect")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.broken()),
        }
    }

    /// The first answer tells whether the connection stands.
    fn open(&self) -> Line {
        let (commands, inbox) = channel::<String>();
        let (outbox, answers) = channel();
        let (conninfo, application_name) = (self.conninfo.clone(), self.application_name.clone());
        thread::spawn(move || {
            let mut client = match conninfo.connect(&application_name) {
                Ok(client) => client,
                Err(error) => {
                    let _ = outbox.send(Err(error));
                    return;
                }
            };
            let mut alive = outbox.send(Ok(Vec::new())).is_ok();
            while alive && let Ok(command) = inbox.recv() {
                let answer = client.simple_query(&command).map(read_rows);
                alive = outbox.send(answer.map_err(|error| ServerError::from(&error))).is_ok();
            }
        });
        Line { commands, answers }
    }
}

fn read_rows(messages: Vec<SimpleQueryMessage>) -> Vec<Row> {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let columns = row.columns().iter().enumerate();
        Row(columns.map(|(at, column)| (column.name().to_owned(), row.get(at).map(str::to_owned))).collect())
    })
    .collect()
}
