//! One run of the binary under test, to its end.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::extent::pick;
use super::wait::until;

/// No command on the tests' databases needs longer; one that does hangs.
fn limit() -> Duration {
    Duration::from_secs(pick(120, 1800))
}

/// `program` with nothing of our environment that would lead the binary elsewhere, its outputs piped.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG") && name != "PGDETOUR_PG_BIN") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the binary, its first argument a command, and reads its answer.
pub fn run(arguments: &[String], environment: &[(&str, &str)]) -> Answer {
    start(arguments, environment).end()
}

/// Starts the binary, its first argument a command.
pub fn start(arguments: &[String], environment: &[(&str, &str)]) -> Running {
    let mut process = command(env!("CARGO_BIN_EXE_pgdetour"));
    process.args(arguments).envs(environment.iter().copied());
    let mut child = process.spawn().expect("the binary can be started");
    let stdout = drain(child.stdout.take().expect("a pipe"));
    let stderr = drain(child.stderr.take().expect("a pipe"));
    let mut said = arguments.join(" ");
    for (name, value) in environment {
        said = format!("{said} [{name}={value}]");
    }
    Running { child, command: arguments[0].clone(), said, pipes: Some((stdout, stderr)) }
}

type Pipe = std::thread::JoinHandle<String>;

/// A run of the binary that goes on beside the test.
pub struct Running {
    child: Child,
    command: String,
    said: String,
    pipes: Option<(Pipe, Pipe)>,
}

impl Running {
    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the run can be signalled");
    }

    /// Its process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// The most memory that it has had resident until now, in kB; none once it has ended.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Waits for its end; its answer, and the most memory that it has had resident, in kB.
    pub fn end_measured(self) -> (Answer, u64) {
        let mut peak = 0;
        until("the run ends", limit(), || match self.peak_memory() {
            Some(now) => {
                peak = now;
                None
            }
            None => Some(()),
        });
        assert!(peak > 1 << 10, "the memory was not measured");
        (self.end(), peak)
    }

    /// The processes that it has started: number and arguments of each.
    pub fn children(&self) -> Vec<(u32, Vec<String>)> {
        let pid = self.child.id();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the run is there");
        let children =
            tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children = children.collect::<Vec<_>>().join(" ");
        let arguments = |pid: &u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split_terminator('\0').map(str::to_owned).collect()
        };
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.map(|pid| (pid, arguments(&pid))).collect()
    }

    /// Waits for its end; its answer.
    pub fn end(mut self) -> Answer {
        let status = wait_for(&mut self.child);
        let read = |pipe: Pipe| pipe.join().expect("a pipe can be read");
        let (stdout, stderr) = self.pipes.take().expect("only the end takes them");
        let (stdout, stderr) = (read(stdout), read(stderr));
        let said = std::mem::take(&mut self.said);
        let Some(status) = status else {
            panic!("this took more than {:?}: {said}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", limit());
        };
        Answer::read(&self.command, said, status, stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The test has failed for another reason, which is the one to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8(bytes).expect("the binary writes UTF-8")
    })
}

/// Waits for the end of a child; kills it and returns none when that takes too long.
fn wait_for(child: &mut Child) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + limit();
    until("the binary ends", limit() * 2, || {
        if Instant::now() > deadline {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
            return Some(None);
        }
        child.try_wait().expect("a child can be waited for").map(Some)
    })
}
