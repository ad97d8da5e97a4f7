//! A command on a terminal of its own.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::detour::Detour;

/// Starts a shell's command line: "script" gives it a terminal, hands it what is written to its input, and puts out what the
/// terminal shows.
pub fn start(line: &str) -> Child {
    Command::new("script")
        .args(["-qefc", line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux has script")
}

/// A run of the binary at which somebody sits.
pub struct Typed {
    process: Child,
    keyboard: Option<ChildStdin>,
    screen: ChildStdout,
    shown: String,
}

impl Typed {
    /// Starts a command with its arguments.
    pub fn start(detour: &Detour, command: &str) -> Typed {
        let configuration = detour.configuration().display().to_string();
        // Keys that send signals send them to all there: a shell that stays would end with a code of its own.
        let line = format!("exec {} {command} --config {configuration}", env!("CARGO_BIN_EXE_pgdetour"));
        let mut process = start(&line);
        let keyboard = process.stdin.take();
        let screen = process.stdout.take().expect("a pipe");
        Typed { process, keyboard, screen, shown: String::new() }
    }

    /// Waits until the screen has shown this.
    pub fn wait_for(&mut self, what: &str) {
        let mut chunk = [0; 4096];
        while !self.shown.contains(what) {
            let read = self.screen.read(&mut chunk).expect("the screen can be read");
            assert!(read > 0, "it ended without {what:?}:\n{}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    }

    /// Presses keys.
    pub fn type_in(&mut self, keys: &[u8]) {
        let keyboard = self.keyboard.as_mut().expect("somebody sits there");
        keyboard.write_all(keys).expect("it reads what is typed");
    }

    /// What was shown so far.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Waits for its end, and keeps what it shows; its exit code.
    pub fn end(&mut self) -> Option<i32> {
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).expect("the screen can be read");
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        self.process.wait().expect("it ends").code()
    }
}
