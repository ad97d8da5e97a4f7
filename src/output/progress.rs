//! What is being done right now: a line for each step, a bar for what takes long.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

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
    drawn: ProgressBar,
    last_line: Arc<Mutex<Instant>>,
}

impl Bar {
    pub(super) fn new(output: &Output, what: &str, total: u64) -> Self {
        let bar = if output.mode.quiet {
            ProgressBar::hidden()
        } else {
            output.screen.add(ProgressBar::new(total))
        };
        let style =
            ProgressStyle::with_template("  {msg:20!} {wide_bar} {done:>9} of {total:9} {speed:>11} {eta}")
                .expect("the template is fixed and valid")
                .progress_chars("=> ")
                .with_key("done", |state: &ProgressState, to: &mut dyn Write| put(to, &bytes(state.pos())))
                .with_key("total", |state: &ProgressState, to: &mut dyn Write| {
                    put(to, &bytes(state.len().unwrap_or(0)));
                })
                .with_key("speed", |state: &ProgressState, to: &mut dyn Write| {
                    put(to, &format!("{}/s", bytes(state.per_sec() as u64)));
                });
        bar.set_style(style);
        bar.set_message(what.to_owned());
        bar.set_length(total);
        Bar {
            output: output.clone(),
            what: what.to_owned(),
            drawn: bar,
            last_line: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// More bytes are done.
    pub fn add(&self, done: u64) {
        self.drawn.inc(done);
        self.keep_pace();
    }

    /// The work has ended, well or not.
    pub fn end(&self) {
        self.drawn.finish_and_clear();
    }

    /// Where nothing is drawn, a line now and then.
    fn keep_pace(&self) {
        if self.output.mode.quiet || !self.output.screen.is_hidden() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= PACE {
            *last = Instant::now();
            self.output.say(&line(&self.what, self.drawn.position(), self.drawn.length().unwrap_or(0)));
        }
    }
}

/// What a piece of work without a known end is at. Drawn on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub struct Gauge {
    output: Output,
    drawn: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Gauge {
    pub(super) fn new(output: &Output) -> Self {
        let drawn = if output.mode.quiet {
            ProgressBar::hidden()
        } else {
            output.screen.add(ProgressBar::new_spinner())
        };
        drawn.set_style(ProgressStyle::with_template("    {msg}").expect("the template is fixed and valid"));
        Gauge { output: output.clone(), drawn, last_line: Mutex::new(Instant::now()) }
    }

    /// Shows what `describe` says, if it is time to.
    pub fn show(&self, describe: impl FnOnce() -> String) {
        if self.output.mode.quiet {
            return;
        }
        if !self.output.screen.is_hidden() {
            self.drawn.set_message(describe());
            self.drawn.tick();
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = if self.output.mode.verbose { Duration::ZERO } else { PACE };
        if last.elapsed() >= pace {
            *last = Instant::now();
            self.output.say(&describe());
        }
    }

    /// The work has ended, well or not.
    pub fn end(&self) {
        self.drawn.finish_and_clear();
    }
}

/// Into the line that is drawn; there is nobody to tell if that failed.
fn put(to: &mut dyn Write, text: &str) {
    let _ = to.write_str(text);
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
