//! Runs of pgdetour as a DBA would see them, and the end of the demo when somebody asks for it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::support::wait::until;

/// Longer than any step of this small trip.
const LIMIT: Duration = Duration::from_secs(120);

/// Why the trip ended early.
pub enum Stop {
    /// A signal asked for it.
    Interrupted(u8),
    /// Something went wrong.
    Failed(String),
}

/// Runs the commands of the trip, and knows whether to go on.
pub struct Trip {
    signal: Arc<AtomicUsize>,
}

impl Trip {
    /// Takes over the signals that end programs, so that nothing is left behind by one.
    pub fn new() -> Trip {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            let value = usize::try_from(number).expect("signals have small positive numbers");
            signal_hook::flag::register_usize(number, Arc::clone(&signal), value)
                .expect("these signals can be caught");
        }
        Trip { signal }
    }

    /// An error when a signal has come.
    pub fn go_on(&self) -> Result<(), Stop> {
        match self.signal.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Stop::Interrupted(u8::try_from(signal).expect("signals have small numbers"))),
        }
    }

    /// Runs one command and shows what it writes; it must succeed.
    pub fn run(&self, command: &str, configuration: &Path) -> Result<(), Stop> {
        self.go_on()?;
        println!("\n  $ pgdetour {command}");
        let mut pgdetour = crate::pgdetour();
        pgdetour.args([command, "--yes", "--config"]).arg(configuration);
        self.finish(&format!("pgdetour {command}"), pgdetour.stderr(Stdio::piped()))
    }

    /// Runs a program to its end and shows what it writes; it must succeed.
    pub fn finish(&self, what: &str, program: &mut Command) -> Result<(), Stop> {
        // A group of its own: Ctrl-C reaches us alone, and we end it.
        let mut child = program
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Stop::Failed(format!("{what} could not be started: {error}")))?;
        let outputs = [child.stdout.take().map(show), child.stderr.take().map(show)];
        let status = until(&format!("{what} ends"), LIMIT, || {
            if self.go_on().is_err() {
                let _ = child.kill();
            }
            child.try_wait().expect("a child can be waited for")
        });
        for output in outputs.into_iter().flatten() {
            output.join().expect("its output can be read");
        }
        self.go_on()?;
        if status.success() { Ok(()) } else { Err(Stop::Failed(format!("{what}: {status}"))) }
    }
}

/// Shows a program's lines, set in from the margin, as they come.
fn show(pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            println!("    {line}");
        }
    })
}

/// The heading of a part.
pub fn title(text: &str) {
    println!("\n{text}\n{}", "─".repeat(text.chars().count()));
}

/// One or more lines of the story.
pub fn say(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}
