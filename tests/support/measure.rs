//! What benches share: client programs, numbers from the environment, medians.

use std::process::Command;

use super::postgres::{DATABASE, DBA_PASSWORD, Postgres};

/// A client program of the server's installation, connected as its administrator.
pub fn on(server: &Postgres, program: &str) -> Command {
    let mut command = Command::new(server.program(program));
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", "dba")
        .env("PGDATABASE", DATABASE)
        .env("PGPASSWORD", DBA_PASSWORD);
    command
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The middle one of the values.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A whole number from the environment.
pub fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
