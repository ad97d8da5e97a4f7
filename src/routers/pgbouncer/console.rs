//! PgBouncer's console: simple queries only, each with a deadline that holds whatever the console does.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, ServerError};
use crate::pg::Conninfo;
use crate::pg::wire::{Answer, Client, Purpose};
use crate::routers::Heed;
use crate::routers::patience::Patience;

/// How long a signal may have to wait behind an answer that does not come.
const TURN: Duration = Duration::from_millis(20);

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

/// For what is waited for whatever comes.
const NOBODY: &Heed = &|| Ok(());

/// A console of one PgBouncer process, connected when first used and again when the connection was lost.
pub struct Console {
    name: String,
    conninfo: Conninfo,
    application_name: String,
    line: Option<Line>,
    patience: Patience,
}

/// A connection lives in a thread of its own, which is left behind when an answer does not come: a PAUSE that waits
/// cannot be called off, and must not keep us.
struct Line {
    commands: Sender<Vec<String>>,
    answers: Receiver<Answers>,
}

/// What each of several commands came to.
type Answers = Result<Vec<Result<Vec<Row>, ServerError>>, ServerError>;

impl Console {
    /// A console that is not connected yet; `name` is for messages.
    pub fn new(name: &str, conninfo: Conninfo, application_name: &str) -> Console {
        Console {
            name: name.to_owned(),
            conninfo,
            application_name: application_name.to_owned(),
            line: None,
            patience: Patience::default(),
        }
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command that may be run twice.
    pub fn ask(&mut self, command: &str) -> Result<Vec<Row>> {
        let [answer] = self.ask_each([command])?;
        answer
    }

    /// Runs several that may be run twice, one after the other, in one round trip; one that fails keeps none from the others.
    pub fn ask_each<const N: usize>(&mut self, commands: [&str; N]) -> Result<[Result<Vec<Row>>; N]> {
        let deadline = Instant::now() + self.patience.budget();
        let reused = self.line.is_some();
        let asked = match self.ask_each_until(commands, deadline, NOBODY) {
            // The console may have been restarted since it was last used.
            Err(error) if reused && error.is_connection_lost() => {
                self.ask_each_until(commands, deadline, NOBODY)
            }
            other => other,
        };
        self.patience.learn(asked.is_ok(), deadline);
        asked
    }

    /// Runs a command. On [`Error::TimedOut`], and when `heed` has failed, it may still be at work in PgBouncer; the next
    /// command goes through a connection of its own.
    pub fn ask_until(&mut self, command: &str, deadline: Instant, heed: &Heed) -> Result<Vec<Row>> {
        let [answer] = self.ask_each_until([command], deadline, heed)?;
        answer
    }

    fn ask_each_until<const N: usize>(
        &mut self,
        commands: [&str; N],
        deadline: Instant,
        heed: &Heed,
    ) -> Result<[Result<Vec<Row>>; N]> {
        let begun = Instant::now();
        let timed_out = || Error::TimedOut {
            what: format!("{} on {}", commands.join(", "), self.name),
            budget: deadline.saturating_duration_since(begun),
            detail: None,
            hint: "See whether PgBouncer runs and its console answers, then run the same command again."
                .into(),
        };
        let line = self.line.take().map_or_else(|| self.connect(deadline), Ok)?;
        if line.commands.send(commands.map(str::to_owned).to_vec()).is_err() {
            return Err(self.broken());
        }
        let failed = |command: &str, cause| Error::Sql {
            action: format!("run {command}"),
            on: self.name.clone(),
            cause,
        };
        let answered = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match line.answers.recv_timeout(left.min(TURN)) {
                Err(RecvTimeoutError::Timeout) if left > TURN => heed()?,
                answered => break answered,
            }
        };
        match answered {
            Ok(Ok(answers)) => {
                let mut answers = commands.iter().zip(answers);
                let all = commands.map(|_| match answers.next() {
                    Some((_, Ok(rows))) => Ok(rows),
                    Some((command, Err(cause))) => Err(failed(command, cause)),
                    None => Err(self.broken()),
                });
                self.line = Some(line);
                Ok(all)
            }
            Ok(Err(cause)) => Err(failed(&commands.join(", "), cause)),
            Err(RecvTimeoutError::Timeout) => Err(timed_out()),
            Err(RecvTimeoutError::Disconnected) => Err(self.broken()),
        }
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
        let (commands, inbox) = channel::<Vec<String>>();
        let (outbox, answers) = channel();
        let (conninfo, application_name) = (self.conninfo.clone(), self.application_name.clone());
        thread::spawn(move || {
            let mut client = match Client::connect(&conninfo, &application_name, Purpose::Console) {
                Ok(client) => client,
                Err(error) => {
                    let _ = outbox.send(Err(error));
                    return;
                }
            };
            let mut alive = outbox.send(Ok(Vec::new())).is_ok();
            while alive && let Ok(commands) = inbox.recv() {
                let answers = client.ask_each(&commands);
                let answers =
                    answers.map(|all| all.into_iter().map(|answer| answer.map(read_rows)).collect());
                alive = outbox.send(answers).is_ok();
            }
        });
        Line { commands, answers }
    }
}

fn read_rows(answer: Answer) -> Vec<Row> {
    let Answer { columns, rows } = answer;
    rows.into_iter().map(|values| Row(columns.iter().cloned().zip(values).collect())).collect()
}
