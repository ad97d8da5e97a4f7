//! The operator's program, for whatever sends clients to a server: told the action and the side in its environment.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Checked, Error, Result};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::{Router, RouterState, RouterUndo};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(300);
/// How much of what the program writes is kept, from the end.
const TAIL: usize = 4096;

/// `[router.command]`.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// Program and arguments; no shell.
    pub program: Vec<String>,
    /// How long one call may take.
    pub timeout: Duration,
}

/// Calls the program with `PGDETOUR_ACTION` set to check, hold, point, resume, reconnect or show, and with
/// `PGDETOUR_SIDE` set to source or target for point. Exit status 0 is success. For show it prints `source` or
/// `target`, and `held` if clients are held.
pub struct Command {
    name: String,
    settings: CommandSettings,
    plan: Plan,
}

impl Command {
    /// Calls nothing yet.
    pub fn new(settings: &CommandSettings, plan: &Plan) -> Self {
        let name = format!("router program {}", settings.program.first().map_or("", String::as_str));
        Command { name, settings: settings.clone(), plan: plan.clone() }
    }

    fn act(&self, action: &str, side: Option<Side>, deadline: Option<Instant>) -> Result<()> {
        if self.plan.is_dry() {
            let side = side.map(|side| format!(" PGDETOUR_SIDE={side}")).unwrap_or_default();
            let call = format!("PGDETOUR_ACTION={action}{side} {}", self.settings.program.join(" "));
            self.plan.note(&self.name, call);
            return Ok(());
        }
        self.call(action, side, deadline).map(drop)
    }

    /// What it printed; an error when it ended badly or was ended by us at the earlier of the deadline and its timeout.
    fn call(&self, action: &str, side: Option<Side>, deadline: Option<Instant>) -> Result<String> {
        let begun = Instant::now();
        let latest = begun + self.settings.timeout;
        let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
        let [program, arguments @ ..] = self.settings.program.as_slice() else {
            return Err(self.failed(action, "no program is configured".into()));
        };
        let mut command = std::process::Command::new(program);
        command.args(arguments).env("PGDETOUR_ACTION", action).env_remove("PGDETOUR_SIDE");
        if let Some(side) = side {
            command.env("PGDETOUR_SIDE", side.name());
        }
        // A group of its own: Ctrl-C is for us, and what it started ends with it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| self.failed(action, error.to_string()))?;
        let output = child.stdout.take().map(read_tail);
        let errors = child.stderr.take().map(read_tail);
        let status =
            wait_until(&mut child, deadline).map_err(Error::io(format!("wait for {}", self.name)))?;
        let Some(status) = status else {
            end_group(&mut child);
            return Err(Error::TimedOut {
                what: format!("{} ({action})", self.name),
                budget: deadline.saturating_duration_since(begun),
                detail: some_text(&tail_of(errors)),
                hint: "It was ended. Make it faster, or raise its timeout.".into(),
            });
        };
        if !status.success() {
            let said = some_text(&tail_of(errors)).map(|text| format!(": {text}")).unwrap_or_default();
            return Err(self.failed(action, format!("{status}{said}")));
        }
        Ok(tail_of(output))
    }

    fn failed(&self, action: &str, message: String) -> Error {
        Error::Router {
            action: format!("{action} clients with {}", self.name),
            message,
            hint: format!("Run it by hand with PGDETOUR_ACTION={action} to see why."),
        }
    }
}

impl Router for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, budget: Duration) -> Checked {
        let mut checked = Checked::default();
        if let Err(error) = self.call("check", None, None) {
            checked.fail(
                "router_command",
                &self.name,
                error.to_string(),
                "Its check action has to end with status 0, and to print on stderr what is wrong when it does not.",
            );
        } else if let Err(error) = self.state() {
            checked.fail(
                "router_command",
                &self.name,
                error.to_string(),
                "Its show action has to print source or target, and held if clients are held.",
            );
        }
        if self.settings.timeout > budget {
            checked.warn(
                "router_command_timeout",
                &self.name,
                format!(
                    "may take {}, longer than the {} for which clients may be held",
                    crate::error::human(self.settings.timeout),
                    crate::error::human(budget)
                ),
                "Its point and resume actions run while clients are held: make them fast, and set router.command.timeout lower.",
            );
        }
        checked
    }

    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        Ok(None)
    }

    fn hold(&mut self, deadline: Instant) -> Result<()> {
        let held = self.act("hold", None, Some(deadline));
        if held.is_err() {
            // How far it came is unknown, and the first failure is the one to report.
            let _ = self.act("resume", None, None);
        }
        held
    }

    fn point_to(&mut self, side: Side) -> Result<()> {
        self.act("point", Some(side), None)
    }

    fn resume(&mut self) -> Result<()> {
        self.act("resume", None, None)
    }

    fn reconnect(&mut self) -> Result<()> {
        self.act("reconnect", None, None)
    }

    fn state(&mut self) -> Result<RouterState> {
        let printed = self.call("show", None, None)?;
        let (mut side, mut held) = (None, false);
        for word in printed.split_whitespace() {
            match word {
                "source" => side = Some(Side::Source),
                "target" => side = Some(Side::Target),
                "held" => held = true,
                other => return Err(self.failed("show", format!("it printed \"{}\"", other.escape_debug()))),
            }
        }
        let detail = side.is_none().then(|| "it printed neither source nor target".to_owned());
        Ok(RouterState { name: self.name.clone(), held, side, detail })
    }

    fn clients(&mut self) -> Result<u64> {
        Ok(0)
    }
}

/// None when it still runs at the deadline.
fn wait_until(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Ends the program and what it started.
fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for signal in [Signal::TERM, Signal::KILL] {
        // A group that is gone already has nothing to end.
        let _ = group.map(|group| kill_process_group(group, signal));
        if signal == Signal::TERM {
            let _ = wait_until(child, Instant::now() + GRACE);
        }
    }
    let _ = child.wait();
}

/// What a pipe has brought, and the thread that reads it to its end.
struct Pipe {
    tail: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// Reads in a thread, so that a program that writes much is never stopped by a full pipe.
fn read_tail(mut pipe: impl Read + Send + 'static) -> Pipe {
    let tail = Arc::<Mutex<Vec<u8>>>::default();
    let shared = Arc::clone(&tail);
    let reader = thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut chunk) {
            let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&chunk[..read]);
            let excess = tail.len().saturating_sub(TAIL);
            tail.drain(..excess);
        }
    });
    Pipe { tail, reader }
}

/// What was read; something that the program left behind may keep the pipe open, and is not waited for.
fn tail_of(pipe: Option<Pipe>) -> String {
    let Some(pipe) = pipe else { return String::new() };
    let deadline = Instant::now() + GRACE;
    while !pipe.reader.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let tail = pipe.tail.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&tail).into_owned()
}

fn some_text(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
