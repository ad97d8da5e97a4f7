//! What is being done right now: a line for each step, a bar for what takes long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Output;
use super::report::{bytes, duration};

/// How often a bar writes a line where there is no terminal to draw on.
const PACE: Duration = Duration::from_secs(10);

/// The line of a step that is being done. Dropped without an end, it says that the step did not finish.
#[derive(Debug)]
pub struct Line {
    output: Output,
    step: String,
    spinner: ProgressBar,
    ended: bool,
}

impl Line {
    pub(super) fn new(output: &Output, step: &str) -> Self {
        let spinner = if output.mode.quiet {
            ProgressBar::hidden()
        } else {
            let spinner = output.screen.add(ProgressBar::new_spinner());
            spinner.set_style(
                ProgressStyle::with_template("  {msg} …").expect("the template is fixed and valid"),
            );
            spinner.set_message(step.to_owned());
            spinner.tick();
            spinner
        };
        Line { output: output.clone(), step: step.to_owned(), spinner, ended: false }
    }

    /// The step is done.
    pub fn done(self, took: Duration) {
        self.end(&duration(took));
    }

    /// The step has failed; why is told at the end.
    pub fn failed(self, took: Duration) {
        self.end(&format!("failed after {}", duration(took)));
    }

    fn end(mut self, how: &str) {
        self.ended = true;
        self.spinner.finish_and_clear();
        self.output.say(&format!("{} … {how}", self.step));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.ended {
            self.spinner.finish_and_clear();
            self.output.say(&format!("{} … not finished", self.step));
        }
    }
}

/// How far a long piece of work is, in bytes. Clones share one bar, so that several threads can feed it.
#[derive(Debug, Clone)]
pub struct Bar {
    output: Output,
    what: String,
    bar: ProgressBar,
    last_line: Arc<Mutex<Instant>>,
}

impl Bar {
    pub(super) fn new(output: &Output, what: &str, total: u64) -> Self {
        let bar = if output.mode.quiet {
            ProgressBar::hidden()
        } else {
            output.screen.add(ProgressBar::new(total))
        };
        let template = "  {msg:24!} {bar:30} {bytes:>10} of {total_bytes:10} {bytes_per_sec:12} {eta} left";
        bar.set_style(
            ProgressStyle::with_template(template)
                .expect("the template is fixed and valid")
                .progress_chars("=> "),
        );
        bar.set_message(what.to_owned());
        bar.set_length(total);
        Bar {
            output: output.clone(),
            what: what.to_owned(),
            bar,
            last_line: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// More bytes are done.
    pub fn add(&self, done: u64) {
        self.bar.inc(done);
        self.keep_pace();
    }

    /// So many bytes are done in all.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
        self.keep_pace();
    }

    /// The total has turned out to be another one.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// The work has ended, well or not.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Where nothing is drawn, a line now and then.
    fn keep_pace(&self) {
        if self.output.mode.quiet || !self.output.screen.is_hidden() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= PACE {
            *last = Instant::now();
            self.output.say(&line(&self.what, self.bar.position(), self.bar.length().unwrap_or(0)));
        }
    }
}

/// `copy orders: 1.5 GB of 3.0 GB (50 %)`.
fn line(what: &str, done: u64, total: u64) -> String {
    let percent = (done * 100).checked_div(total).map_or_else(String::new, |part| format!(" ({part} %)"));
    format!("{what}: {} of {}{percent}", bytes(done), bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_it_is() {
        assert_eq!(line("copy", 3 << 29, 3 << 30), "copy: 1.5 GB of 3.0 GB (50 %)");
        assert_eq!(line("copy", 17, 0), "copy: 17 B of 0 B");
    }
}
