//! The only room that prints or asks: results, failures, progress, warnings, confirmation.

mod failure;
mod progress;
mod prometheus;
mod redact;
mod report;
mod screen;

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dialoguer::console::Term;
use indicatif::MultiProgress;
use serde_json::{Value, json};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::{Error, Result, exit};
use crate::phase::{Command, Phase, Serving};
pub use progress::{Bar, Gauge, Line, rate_line};
pub use redact::redact;
pub use report::{bytes, duration, plural, plural_is, plural_was};

/// Version of the JSON document. Part of the interface.
const FORMAT: u32 = 1;

/// How long a signal may have to wait behind a line that nobody types.
const TURN: Duration = Duration::from_millis(50);

/// What the flags ask for.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one independent flag of the command line")]
pub struct Mode {
    /// One JSON document on standard output.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
    /// More of what is done.
    pub verbose: bool,
    /// Confirmations are answered with yes.
    pub yes: bool,
    /// The report as metrics for Prometheus, instead of text.
    pub metrics: bool,
}

/// What a command came to, whether it succeeded or not.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command; none when the command line was not understood.
    pub command: Option<Command>,
    /// Something is different from before.
    pub changed: bool,
    /// Something was changed and neither finished nor taken back.
    pub part_way: bool,
    /// Where the detour is now, when that is known.
    pub phase: Option<Phase>,
    /// Who serves general traffic now, when that is known.
    pub serving: Option<Serving>,
    /// What to know although it did not fail.
    pub warnings: Vec<String>,
    /// An object: the fields that a script may count on, and more. A dry run's `steps` hold the actions of each.
    pub report: Value,
    /// It was shown already: only a document or a failure is still to be told.
    pub shown: bool,
}

impl Outcome {
    /// Nothing done yet.
    pub fn of(command: impl Into<Option<Command>>) -> Self {
        Outcome {
            command: command.into(),
            changed: false,
            part_way: false,
            phase: None,
            serving: None,
            warnings: Vec::new(),
            report: Value::Null,
            shown: false,
        }
    }
}

/// Where everything that a person or a script reads goes out. Clones share one screen.
#[derive(Debug, Clone)]
pub struct Output {
    mode: Mode,
    screen: MultiProgress,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Output {
    /// Output as the flags ask for.
    pub fn new(mode: Mode) -> Self {
        Output { mode, screen: MultiProgress::new(), warnings: Arc::default() }
    }

    /// Announces a step; the line is finished with the time it took.
    pub fn step(&self, step: &str) -> Line {
        Line::new(self, step)
    }

    /// A bar for work of `total` bytes that takes long: a bar on a terminal, a line now and then elsewhere.
    pub fn bar(&self, what: &str, total: u64) -> Bar {
        Bar::new(self, what, total, true)
    }

    /// A bar for a part of such work; on a terminal only.
    pub fn bar_of(&self, part: &str, total: u64) -> Bar {
        Bar::new(self, part, total, false)
    }

    /// What work without a known end is at: drawn on a terminal, a line now and then elsewhere.
    pub fn gauge(&self) -> Gauge {
        Gauge::new(self)
    }

    /// A line of progress.
    pub fn say(&self, text: &str) {
        if !self.mode.quiet {
            self.write_error(&format!("  {text}"));
        }
    }

    /// A line for those who asked for more.
    pub fn elaborate(&self, text: &str) {
        if self.mode.verbose {
            self.write_error(&format!("    {}", text.replace('\n', "\n    ")));
        }
    }

    /// A warning: shown at once, and kept for the document.
    pub fn warn(&self, text: &str) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.iter().any(|earlier| earlier == text) {
            self.write_error(&format!(
                "{} {text}",
                dialoguer::console::style("warning:").yellow().for_stderr()
            ));
            warnings.push(text.to_owned());
        }
    }

    /// Asks on the terminal whether to go on; `what` is what will happen, verb first. Without a terminal only `--yes` will do.
    pub fn confirm(&self, what: &str) -> Result<()> {
        if self.mode.yes {
            return Ok(());
        }
        let terminal = Term::stderr();
        if !(io::stdin().is_terminal() && terminal.is_term()) {
            return Err(Error::Usage {
                message: format!("will not {what} without confirmation, and there is no terminal to ask on"),
                hint: "Give --yes to confirm.".into(),
            });
        }
        let mut question = what.to_owned();
        if let Some(first) = question.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        self.screen.suspend(|| {
            let _ = write!(io::stderr().lock(), "{}? [y/N] ", redact(&question));
        });
        // The whole line: single keys would find a y in "not yet".
        let answer = self.typed_line("ask for confirmation")?.unwrap_or_default();
        if ["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes)) {
            return Ok(());
        }
        Err(Error::Usage {
            message: format!("did not {what}: the answer was no"),
            hint: "Answer with y, or give --yes to confirm.".into(),
        })
    }

    /// Tells a person what is theirs to do, and waits on the terminal until they press Enter; a script goes on. Whether they
    /// have said that it is done; fails when they never do.
    pub fn hand_over(&self, what: &str) -> Result<bool> {
        if self.mode.yes || !(io::stdin().is_terminal() && Term::stderr().is_term()) {
            self.write_error(&format!("  {what}"));
            return Ok(false);
        }
        self.write_error(&format!("  {what} Press Enter when that is done."));
        match self.typed_line("wait for Enter")? {
            Some(_) => Ok(true),
            None => Err(Error::Refused {
                kind: "not_said",
                message: "nobody has said that the clients are moved: the terminal has nothing more to read"
                    .into(),
                detail: None,
                hint: what.to_owned(),
            }),
        }
    }

    /// The line that a person types; None at the end of all input. A signal ends the wait.
    fn typed_line(&self, action: &str) -> Result<Option<String>> {
        let asked_to_end = SignalsSeen::watch()?;
        let (outbox, inbox) = channel();
        // Left behind when a signal comes: a read goes on after one.
        thread::spawn(move || {
            let mut line = Vec::new();
            let read = io::stdin().lock().read_until(b'\n', &mut line);
            let _ = outbox.send(read.map(|_| line));
        });
        let read = loop {
            let read = inbox.recv_timeout(TURN);
            if let Some(signal) = asked_to_end.received() {
                self.write_error("");
                return Err(Error::Interrupted { signal });
            }
            match read {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal {
                        message: "the thread that reads the terminal panicked".into(),
                    });
                }
                Ok(read) => break read,
            }
        };
        let line = read.map_err(Error::io(action))?;
        if line.ends_with(b"\n") {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        self.write_error("");
        Ok(None)
    }

    /// Prints the result or the failure, and returns the exit code that says what to do next.
    pub fn finish(&self, outcome: &Outcome, error: Option<&Error>) -> i32 {
        for warning in &outcome.warnings {
            self.warn(warning);
        }
        if let Some(error) = error {
            self.write_error(failure::text(outcome, error).trim_end());
        }
        let text = if self.mode.json {
            let mut document = document(outcome, error, &self.warnings());
            redact::redact_value(&mut document);
            format!("{document}\n")
        } else if outcome.shown {
            String::new()
        } else if self.mode.metrics {
            redact(&prometheus::text(&outcome.report))
        } else {
            redact(&report::text(outcome, error.is_some(), self.mode.quiet))
        };
        let code = error.map_or(exit::DONE, |error| error.exit_code(outcome.part_way));
        match print(&text) {
            Ok(()) => code,
            // Whoever read our output has enough of it; the command's own result stands.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
            Err(error) => {
                self.write_error(&format!("error: could not write to standard output\n  detail: {error}"));
                if code == exit::DONE { exit::UNEXPECTED } else { code }
            }
        }
    }

    /// Shows a result that will be shown anew: in place on a terminal, as one more block elsewhere. False when nobody
    /// reads any more.
    pub fn redraw(&self, outcome: &Outcome) -> Result<bool> {
        let text = redact(&report::text(outcome, false, self.mode.quiet));
        match screen::redraw(&text) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(source) => Err(Error::Io { action: "write to standard output".into(), source }),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One or more lines on standard error, above any bar. Nobody could be told if that failed.
    fn write_error(&self, text: &str) {
        self.screen.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{}", redact(text));
        });
    }
}

/// The signals that came while a prompt waited.
struct SignalsSeen(Vec<(i32, SigId, Arc<AtomicBool>)>);

impl SignalsSeen {
    fn watch() -> Result<Self> {
        let mut seen = SignalsSeen(Vec::new());
        for signal in [SIGTERM, SIGINT] {
            let flag = Arc::new(AtomicBool::new(false));
            let handler = signal_hook::flag::register(signal, Arc::clone(&flag));
            seen.0.push((signal, handler.map_err(Error::io("watch for signals"))?, flag));
        }
        Ok(seen)
    }

    fn received(&self) -> Option<i32> {
        self.0.iter().find(|(_, _, flag)| flag.load(Ordering::SeqCst)).map(|(signal, _, _)| *signal)
    }
}

impl Drop for SignalsSeen {
    fn drop(&mut self) {
        for (_, handler, _) in &self.0 {
            signal_hook::low_level::unregister(*handler);
        }
    }
}

/// The JSON document of a result or a failure.
fn document(outcome: &Outcome, error: Option<&Error>, warnings: &[String]) -> Value {
    let mut document = json!({
        "format": FORMAT,
        "command": outcome.command,
        "ok": error.is_none(),
        "changed": outcome.changed,
        "phase": outcome.phase,
        "serving": outcome.serving,
        "warnings": warnings,
    });
    let report = match &outcome.report {
        Value::Null if error.is_none() => Some(json!({})),
        Value::Null => None,
        report => Some(report.clone()),
    };
    if let Some(report) = report {
        document["report"] = report;
    }
    if let Some(error) = error {
        document["error"] = json!({
            "kind": error.kind(),
            "exit": error.exit_code(outcome.part_way),
            "message": error.to_string(),
            "detail": error.detail(),
            "hint": error.hint(),
            "sqlstate": error.sqlstate(),
            "failures": error.findings(),
        });
    }
    document
}

/// Writes and flushes, so that a failure to write is seen.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests;
