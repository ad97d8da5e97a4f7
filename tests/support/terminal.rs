//! A command on a terminal of its own.

use std::process::{Child, Command, Stdio};

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
