//! Tells how a copy goes on: a bar for all of it and one for each large table that is under way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::flow::copy::{self, PostStatement};
use crate::output::{Bar, Output};
use crate::pg::catalog::Table;

/// From this size on, in bytes, a table has a bar and a line of its own.
const LARGE: u64 = 64 << 20;

/// One large table under way.
struct Running {
    bar: Bar,
    begun: Instant,
}

/// Hears of a copy and tells people.
pub struct CopyProgress {
    output: Output,
    all: Bar,
    running: Mutex<HashMap<String, Running>>,
}

impl CopyProgress {
    /// Nothing is copied yet of `tables`.
    pub fn new(output: &Output, tables: &[Table]) -> CopyProgress {
        let total = tables.iter().map(|table| table.data_bytes.cast_unsigned()).sum();
        CopyProgress {
            output: output.clone(),
            all: output.bar("copied", total),
            running: Mutex::new(HashMap::new()),
        }
    }

    /// The copy has ended, well or not.
    pub fn end(&self) {
        self.running().values().for_each(|table| table.bar.end());
        self.all.end();
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl copy::Progress for CopyProgress {
    fn table_started(&self, table: &str, bytes: u64) {
        if bytes >= LARGE {
            let running = Running { bar: self.output.bar_of(table, bytes), begun: Instant::now() };
            self.running().insert(table.to_owned(), running);
        }
    }

    fn bytes_copied(&self, table: &str, bytes: u64) {
        self.all.add(bytes);
        if let Some(running) = self.running().get(table) {
            running.bar.add(bytes);
        }
    }

    fn table_copied(&self, table: &str, rows: u64, bytes: u64) {
        match self.running().remove(table) {
            Some(running) => {
                running.bar.end();
                self.output.say(&copied_line(table, rows, bytes, running.begun));
            }
            None => self.output.elaborate(&format!("{table}: {rows} rows, {bytes} bytes")),
        }
    }

    fn resumed(&self, kept: usize, again: &[String], left: usize) {
        self.output.say(&format!("{kept} tables are copied already and kept, {left} were not begun"));
        if !again.is_empty() {
            self.output.say(&format!("copied again from their beginning: {}", again.join(", ")));
        }
    }

    fn paused(&self, reason: Option<&str>) {
        match reason {
            Some(reason) => self.output.say(&format!("the copy pauses: {reason}")),
            None => self.output.say("the copy goes on"),
        }
    }

    fn statement_done(&self, statement: &PostStatement) {
        let line = statement.statement.lines().last().unwrap_or_default();
        self.output.elaborate(line);
    }
}

fn copied_line(table: &str, rows: u64, bytes: u64, begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs_f64();
    format!("{table}: {rows} rows, {}", crate::output::rate_line(bytes, seconds))
}
