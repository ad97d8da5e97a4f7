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
    begun: Instant,
    /// Where nothing is drawn, lines tell of it.
    tells: bool,
    last_line: Arc<Mutex<Instant>>,
}

impl Bar {
    pub(super) fn new(output: &Output, what: &str, total: u64, tells: bool) -> Self {
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
            begun: Instant::now(),
            tells,
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
        if !self.tells || self.output.mode.quiet || !self.output.screen.is_hidden() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= PACE {
            *last = Instant::now();
            let (done, total) = (self.drawn.position(), self.drawn.length().unwrap_or(0));
            self.output.say(&line(&self.what, done, total, self.begun.elapsed()));
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

/// `copy orders: 1.5 GB of 3.0 GB (50 %), 51.2 MB/s, 30.0 s left`.
fn line(what: &str, done: u64, total: u64, took: Duration) -> String {
    let percent = (done * 100).checked_div(total).map_or_else(String::new, |part| format!(" ({part} %)"));
    let per_second = done as f64 / took.as_secs_f64().max(0.001);
    let left = total.saturating_sub(done) as f64 / per_second.max(1.0);
    let left = duration(Duration::from_secs_f64(left.min(1e9)));
    format!(
        "{what}: {} of {}{percent}, {}/s, {left} left",
        bytes(done),
        bytes(total),
        bytes(per_second as u64)
    )
}

/// `1.5 GB in 30.0 s (51.2 MB/s)`.
pub fn rate_line(done: u64, seconds: f64) -> String {
    let took = duration(Duration::from_secs_f64(seconds));
    format!("{} in {took} ({}/s)", bytes(done), bytes((done as f64 / seconds.max(0.001)) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_it_is() {
        let took = Duration::from_secs(30);
        assert_eq!(
            line("copy", 3 << 29, 3 << 30, took),
            "copy: 1.5 GB of 3.0 GB (50 %), 51.2 MB/s, 30.0 s left"
        );
        assert_eq!(line("copy", 60, 0, took), "copy: 60 B of 0 B, 2 B/s, 0.0 ms left");
        assert_eq!(rate_line(3 << 29, 30.0), "1.5 GB in 30.0 s (51.2 MB/s)");
    }
}
