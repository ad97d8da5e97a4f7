//! A program of the operator's: run without a shell, ended with all that it started when it takes too long.

use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(300);
/// How much of what a program writes to standard error is kept, from the end.
const TAIL: usize = 4096;
/// Variables of ours that may hold a password, which is nothing to programs of others.
const OURS: [&str; 3] = ["PGPASSWORD", "PGDETOUR_SOURCE", "PGDETOUR_TARGET"];

/// How a program ended.
pub struct Ended {
    /// None when it still ran at the deadline, or once that was over, and was ended.
    pub status: Option<ExitStatus>,
    /// What it wrote to standard output, as much of its end as was asked for.
    pub output: Vec<u8>,
    /// The end of what it wrote to standard error.
    pub errors: String,
}

impl Ended {
    /// What it said of its failure, behind a colon.
    pub fn said(&self) -> String {
        some_text(&self.errors).map(|text| format!(": {text}")).unwrap_or_default()
    }
}

/// Runs `command` with `input` on its standard input, and keeps at most `keep` bytes of its output. It is ended at the deadline,
/// or once `is_over`.
pub fn run(
    mut command: Command,
    input: &[u8],
    keep: usize,
    deadline: Instant,
    is_over: &dyn Fn() -> bool,
) -> io::Result<Ended> {
    for name in OURS {
        command.env_remove(name);
    }
    // A group of its own: Ctrl-C is for us, and what it started ends with it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let output = child.stdout.take().map(|pipe| read_tail(pipe, keep));
    let errors = child.stderr.take().map(|pipe| read_tail(pipe, TAIL));
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_vec();
        // In a thread, so that a program that reads nothing cannot keep us; its status tells what it made of it.
        thread::spawn(move || pipe.write_all(&input));
    }
    let status = wait_until(&mut child, deadline, is_over)?;
    if status.is_none() {
        end_group(&mut child);
    }
    let errors = String::from_utf8_lossy(&tail_of(errors)).into_owned();
    Ok(Ended { status, output: tail_of(output), errors })
}

/// Text without the space around it, if there is any.
pub fn some_text(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// None when it still runs at the deadline, or once `is_over`.
fn wait_until(
    child: &mut Child,
    deadline: Instant,
    is_over: &dyn Fn() -> bool,
) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || is_over() {
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
            let _ = wait_until(child, Instant::now() + GRACE, &|| false);
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
fn read_tail(mut pipe: impl Read + Send + 'static, keep: usize) -> Pipe {
    let tail = Arc::<Mutex<Vec<u8>>>::default();
    let shared = Arc::clone(&tail);
    let reader = thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut chunk) {
            let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&chunk[..read]);
            let excess = tail.len().saturating_sub(keep);
            tail.drain(..excess);
        }
    });
    Pipe { tail, reader }
}

/// What was read; something that the program left behind may keep the pipe open, and is not waited for.
fn tail_of(pipe: Option<Pipe>) -> Vec<u8> {
    let Some(pipe) = pipe else { return Vec::new() };
    let deadline = Instant::now() + GRACE;
    while !pipe.reader.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let tail = pipe.tail.lock().unwrap_or_else(PoisonError::into_inner);
    tail.clone()
}
