//! A process of our own beside a run that holds clients: should the run die or be stopped meanwhile, it ends the hold.
//!
//! It gets what it has to know through a pipe, which ends when the run does, however that happens. While clients are held
//! the run also gives signs of life: a stopped one gives none. The guardian then does what the same command would do if it
//! were run again. A run that ends and could not let clients go on, or not whole, leaves that to it as well. It has a
//! process group of its own, so that what is meant for the run's does not end it, too.

mod watch;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Given;
use crate::error::{Error, Result};
use crate::fault;
use crate::phase::{Command, Serving};
use crate::steps::Run;
use crate::steps::switch::undo::Undo;
pub use watch::watch;

/// The only argument of the program that makes it a guardian; no command of its own, since nobody is to type it.
pub const ARGUMENT: &str = "guardian-of-a-hold";

/// Behind the `application_name` of the command whose work a guardian does.
const NAME: &str = " (guardian)";

/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_millis(200);

/// Whether a session of this `application_name` is a guardian's.
pub fn is_guardian(application_name: &str) -> bool {
    application_name.ends_with(NAME)
}

/// What a guardian is for.
#[derive(Debug, Serialize, Deserialize)]
struct Charge {
    /// `cutover` or `cutback`.
    command: Command,
    /// Where the run has its configuration from.
    given: Given,
    /// The budget of the pause.
    max_pause: Duration,
}

/// What a run tells its guardian, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Clients are about to be held; what lets them go on again.
    Held(Vec<Undo>),
    /// The run lives.
    Alive,
    /// Something of a proof stands with a router from now on, or does no more.
    Proving(bool),
    /// The deciding statement is about to be sent.
    Deciding,
    /// Clients go on.
    Over,
    /// The run ends, and could not take this back.
    Left(Vec<Undo>),
}

/// The end of the pipe that the run has.
#[derive(Debug)]
pub struct Guardian {
    process: Child,
    /// Closed at the end of the run.
    pipe: Arc<Mutex<Option<ChildStdin>>>,
    holding: Arc<AtomicBool>,
    left: AtomicBool,
}

impl Guardian {
    /// Starts one; it is ready when this returns.
    fn start(charge: &Charge) -> std::io::Result<Guardian> {
        // A program that was replaced meanwhile can still be found so.
        let program = std::env::current_exe().ok().filter(|path| path.exists());
        let mut process =
            std::process::Command::new(program.unwrap_or_else(|| PathBuf::from("/proc/self/exe")))
                .arg(ARGUMENT)
                // What makes this process die at a step in a test.
                .env_remove("PGDETOUR_FAULT")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (pipe, told) = pipes.ok_or(std::io::ErrorKind::BrokenPipe)?;
        let guardian = Guardian {
            process,
            pipe: Arc::new(Mutex::new(Some(pipe))),
            holding: Arc::new(AtomicBool::new(false)),
            left: AtomicBool::new(false),
        };
        guardian.write(charge)?;
        match BufReader::new(told).read_line(&mut String::new())? {
            0 => Err(std::io::ErrorKind::BrokenPipe.into()),
            _ => Ok(guardian),
        }
    }

    /// From here on it looks for signs of life.
    fn hold(&self, undos: &[Undo]) {
        self.say(&Word::Held(undos.to_vec()));
        self.holding.store(true, Ordering::SeqCst);
        let (pipe, holding) = (Arc::clone(&self.pipe), Arc::clone(&self.holding));
        thread::spawn(move || {
            while holding.load(Ordering::SeqCst) && write_line(&pipe, &Word::Alive).is_ok() {
                thread::sleep(SIGN_OF_LIFE);
            }
        });
    }

    fn over(&self) {
        self.holding.store(false, Ordering::SeqCst);
        self.say(&Word::Over);
    }

    /// What the run could not do is tried on once it has ended.
    fn leave(&self, undos: &[Undo]) {
        self.holding.store(false, Ordering::SeqCst);
        self.left.store(true, Ordering::SeqCst);
        self.say(&Word::Left(undos.to_vec()));
    }

    /// A guardian that is gone cannot be told anything, and need not keep a run from its work.
    fn say(&self, word: &Word) {
        let _ = self.write(word);
    }

    fn write(&self, line: &impl Serialize) -> std::io::Result<()> {
        write_line(&self.pipe, line)
    }
}

impl Drop for Guardian {
    /// A run that ends in good order has told what it leaves behind; nobody waits for a guardian that goes on with it.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        if self.holding.load(Ordering::SeqCst) {
            self.leave(&[]);
        } else if !self.left.load(Ordering::SeqCst) {
            self.over();
        }
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !self.left.load(Ordering::SeqCst) {
            let _ = self.process.wait();
        }
    }
}

fn write_line(pipe: &Mutex<Option<ChildStdin>>, line: &impl Serialize) -> std::io::Result<()> {
    let text = format!("{}\n", serde_json::to_string(line)?);
    match pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(pipe) => pipe.write_all(text.as_bytes()),
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

impl Run {
    /// Starts the process that lets clients go on should this one die while it holds them.
    pub fn post_guardian(&mut self) -> Result<()> {
        if self.plan.is_dry() {
            self.plan.note("pgdetour", "(start a process that ends the hold if this one dies)");
            return Ok(());
        }
        if self.guardian.is_some() || fault::takes_the_host() {
            return Ok(());
        }
        let charge = Charge {
            command: self.command,
            given: self.config.given.clone(),
            max_pause: self.max_pause.unwrap_or_default(),
        };
        let guardian = Guardian::start(&charge).map_err(Error::io("start a process beside this one"))?;
        self.guardian = Some(guardian);
        Ok(())
    }

    /// Posts one where an earlier run has decided the switch, and clients may still be held.
    pub fn guard_what_was_decided(&mut self) -> Result<()> {
        if self.serving() == Serving::Nobody && !self.plan.is_dry() {
            self.post_guardian()?;
            self.guard_hold();
            self.guard_decision();
        }
        Ok(())
    }

    /// Tells the guardian that something of a proof stands with a router from now on, or does no more.
    pub fn guard_proof(&self, stands: bool) {
        if let Some(guardian) = &self.guardian {
            guardian.say(&Word::Proving(stands));
        }
    }

    /// Tells the guardian that clients are about to be held, with what this process has noted to take back.
    pub fn guard_hold(&self) {
        if let Some(guardian) = &self.guardian {
            guardian.hold(&self.undos);
        }
    }

    /// Tells the guardian that whether the switch is decided is known from the record alone from now on.
    pub fn guard_decision(&self) {
        if let Some(guardian) = &self.guardian {
            guardian.say(&Word::Deciding);
        }
    }

    /// Has the guardian try on, for a while after the end of this run, to take this back.
    pub fn leave_to_the_guardian(&self, undos: &[Undo]) {
        if let Some(guardian) = &self.guardian {
            guardian.leave(undos);
        }
    }

    /// Tells the guardian that clients go on.
    pub fn end_guard(&self) {
        if let Some(guardian) = &self.guardian {
            guardian.over();
        }
    }
}
