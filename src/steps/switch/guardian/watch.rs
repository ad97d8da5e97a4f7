//! The guardian itself: waits for the end of the hold, or of the run, and ends the hold in its place.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};

use super::{Charge, NAME, Word};
use crate::config::Config;
use crate::error::{Error, Result, exit};
use crate::output::{Mode, Output};
use crate::pg::lock::{Key, Lock};
use crate::phase::{Command, Serving, Side};
use crate::plan::Plan;
use crate::steps::switch::undo::Undo;
use crate::steps::switch::{HOME, OUT, Switch};
use crate::steps::switch::{cutback, cutover};
use crate::steps::{Needs, Run, Signals};

/// After so long without a sign of life, with half of the budget of the pause used up, a run is taken for stopped.
const SILENCE: Duration = Duration::from_secs(2);
/// A run that lives ends the pause itself; one that has not after this much more than its budget cannot.
const CAP: Duration = Duration::from_secs(30);
/// How long a server is waited for that does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same after a run that has told what it could not do: nobody waits for this process then.
const PATIENCE_ALONE: Duration = Duration::from_secs(600);
/// Between the first two tries; each wait is longer than the one before, up to the second of these, since nobody else gets the lock
/// while one is under way.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Everything that the run has said so far.
struct Heard {
    /// What to take back; none while no clients are held.
    undos: Option<Vec<Undo>>,
    held_since: Instant,
    sign_of_life: Instant,
    deciding: bool,
    proving: bool,
    /// The run ends in good order, and has told what it could not do.
    left: bool,
}

/// Watches the run that started this process, which speaks on standard input.
pub fn watch() -> Result<()> {
    let words = read_lines();
    let Ok(line) = words.recv() else { return Ok(()) };
    let charge: Charge = parse(&line)?;
    let parent = getppid().map(Process::of);
    // Whoever waits for this line goes on without a guardian when it cannot be written.
    let mut told = std::io::stdout();
    told.write_all(b"ready\n").and_then(|()| told.flush()).map_err(Error::io("tell that it is ready"))?;

    let now = Instant::now();
    let mut heard = Heard {
        undos: None,
        held_since: now,
        sign_of_life: now,
        deciding: false,
        proving: false,
        left: false,
    };
    loop {
        let is_watched = heard.undos.is_some() && !heard.left;
        let left = if is_watched {
            let silent = heard.sign_of_life + SILENCE;
            // Early enough that the hold can end within the budget.
            let stopped = silent.max(heard.held_since + charge.max_pause / 2);
            stopped.min(heard.held_since + charge.max_pause + CAP).saturating_duration_since(Instant::now())
        } else {
            PATIENCE
        };
        match words.recv_timeout(left) {
            Ok(line) => heard.hear(parse(&line)?),
            Err(RecvTimeoutError::Timeout) if !is_watched => {}
            Err(RecvTimeoutError::Timeout) => {
                // What was sent while nobody looked tells of life, too.
                let mut late = false;
                while let Ok(line) = words.try_recv() {
                    heard.hear(parse(&line)?);
                    late = true;
                }
                if !late {
                    if let Some(run) = &parent {
                        run.kill();
                    }
                    return heard.take_over(&charge);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return heard.take_over(&charge),
        }
    }
}

/// The lines of standard input, until it ends.
fn read_lines() -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn parse<'t, T: serde::Deserialize<'t>>(line: &'t str) -> Result<T> {
    serde_json::from_str(line)
        .map_err(|error| Error::Internal { message: format!("the run said what is not understood: {error}") })
}

impl Heard {
    fn hear(&mut self, word: Word) {
        self.sign_of_life = Instant::now();
        match word {
            Word::Held(undos) => {
                self.undos = Some(undos);
                self.held_since = self.sign_of_life;
                (self.deciding, self.left) = (false, false);
            }
            Word::Alive => {}
            Word::Proving(stands) => self.proving = stands,
            Word::Deciding => self.deciding = true,
            Word::Over => self.undos = None,
            Word::Left(undos) => {
                self.left = true;
                if !undos.is_empty() || self.undos.is_none() {
                    self.undos = Some(undos);
                }
            }
        }
    }

    /// Ends the hold that a dead run has left, if it has left one.
    fn take_over(self, charge: &Charge) -> Result<()> {
        let output = Output::new(Mode { quiet: true, yes: true, ..Mode::default() });
        let Some(undos) = self.undos else {
            // The next run does what fails here.
            return if self.proving { end_proof(charge, &output) } else { Ok(()) };
        };
        if self.left {
            be_quiet();
        }
        let deadline = Instant::now() + if self.left { PATIENCE_ALONE } else { PATIENCE };
        let mut released = self.deciding || self.left;
        let mut wait = AGAIN.0;
        loop {
            let error = match end_hold(charge, &output) {
                // The run after has begun already, and does this itself.
                Ok(()) | Err(Error::Busy { .. }) => return Ok(()),
                Err(error) => error,
            };
            // What a server or a router did not do just now, it may do by the next try.
            let may_pass = error.exit_code(true) == exit::PART_WAY;
            if !may_pass || Instant::now() >= deadline {
                output.warn(&format!(
                    "the run that held clients is gone, and not everything could be taken back: {}. Run pgdetour {} again",
                    error.with_cause(),
                    charge.command
                ));
                return Err(error);
            }
            if !released && error.is_connection_lost() {
                released = release(charge, &output, &undos).is_ok();
            }
            thread::sleep(wait);
            wait = (wait * 5 / 4).min(AGAIN.1);
        }
    }
}

/// Lets go of the run's outputs, to whose end its caller may listen.
fn be_quiet() {
    if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
        // What cannot be let go of is kept: the caller then waits for this process.
        let _ = rustix::stdio::dup2_stderr(&nowhere).and(rustix::stdio::dup2_stdout(&nowhere));
    }
}

fn begin(charge: &Charge, output: &Output) -> Result<Run> {
    let given = &charge.given;
    let config = Config::resolve(given.path.as_deref(), given.source.as_deref(), given.target.as_deref())?;
    let mut run = Run::new(charge.command, config, output.clone(), Plan::real(), Signals::default())?;
    // What it does is told from a run of somebody's by its sessions.
    for server in [&mut run.source_server, &mut run.target_server].into_iter().chain(&mut run.backup_server) {
        server.application_name.push_str(NAME);
    }
    run.pause_at_most(charge.max_pause);
    Ok(run)
}

/// Takes back what the proof of a dead run has left with the routers.
fn end_proof(charge: &Charge, output: &Output) -> Result<()> {
    let mut run = begin(charge, output)?;
    run.open(Needs::Both)?;
    run.routers()?.take_back_proof().map(drop)
}

/// What the same command would do next: forwards when the switch was decided, else back.
fn end_hold(charge: &Charge, output: &Output) -> Result<()> {
    let mut run = begin(charge, output)?;
    run.open(Needs::Both)?;
    match charge.command {
        Command::Cutback => cutback::end_what_was_begun(&mut run)?,
        _ => cutover::end_what_was_begun(&mut run)?,
    }
    if run.serving() != Serving::Nobody {
        run.note_event("the run that held clients was gone");
        output.warn(&format!(
            "the run that held clients is gone: they go on at the {}, in phase \"{}\"",
            run.serving(),
            run.phase()
        ));
    }
    Ok(())
}

/// Lets clients go on where they were although the record cannot be read; the switch was not decided. The source's lock
/// keeps every other run from acting at the same time.
fn release(charge: &Charge, output: &Output, undos: &[Undo]) -> Result<()> {
    let mut run = begin(charge, output)?;
    run.connect_what_answers();
    if run.answering(Side::Source).is_some() {
        let lock = Lock::acquire(run.server(Side::Source), Key::Run)?;
        run.locks.push(lock);
    }
    run.undos = undos.to_vec();
    run.release_clients(switch_of(charge.command));
    Ok(())
}

fn switch_of(command: Command) -> Switch {
    if command == Command::Cutback { HOME } else { OUT }
}

/// The run, which keeps its number for as long as this refers to it.
struct Process(Option<rustix::fd::OwnedFd>);

impl Process {
    fn of(pid: Pid) -> Process {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok();
        // Another one would have its number if it had ended before.
        Process(process.filter(|_| getppid() == Some(pid)))
    }

    /// Ends it for good: one that is stopped must not go on later as if nothing had happened.
    fn kill(&self) {
        if let Some(process) = &self.0 {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}
