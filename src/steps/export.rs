//! `capture --export`: the recorded changes into a file, for audit; they stay recorded.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::source::export::{Exported, export_changes};
use crate::phase::Side;
use crate::steps::{Run, capture};

/// How often progress is told.
const PACE: Duration = Duration::from_secs(1);

/// Where to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// A path, or `-`.
    pub file: String,
    /// Overwrite a file that is there.
    pub force: bool,
}

/// Writes what is recorded by now; the figures.
pub fn export(run: &mut Run, to: &Destination) -> Result<Value> {
    if run.plan.is_dry() {
        run.target().note(format!("write the recorded changes to {}", to.file));
        return Ok(json!(Exported::default()));
    }
    let mut out = open(to)?;
    let source = capture::source(run);
    let publisher = run.server(Side::Target).clone();
    let stop = run.signals.stop_flag();
    let output = run.output.clone();
    let mut told = Instant::now();
    let exported = export_changes(&source, &publisher, false, &mut *out, &stop, &mut |done| {
        if told.elapsed() >= PACE {
            told = Instant::now();
            output.say(&format!("{} transactions, {} changes written", done.transactions, done.changes));
        }
    });
    let exported = match exported {
        // Whoever read our output has enough of it.
        Err(Error::Io { source, .. }) if to.file == "-" && source.kind() == io::ErrorKind::BrokenPipe => {
            Exported::default()
        }
        other => other?,
    };
    run.heed_signals()?;
    let mut report = json!(exported);
    report["file"] = json!(to.file);
    Ok(report)
}

/// For the owner's eyes only: rows may hold anything.
fn open(to: &Destination) -> Result<Box<dyn Write>> {
    if to.file == "-" {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if to.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let opened: io::Result<File> = options.open(Path::new(&to.file));
    match opened {
        Ok(file) => Ok(Box::new(BufWriter::new(file))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Refused {
            kind: "file_exists",
            message: format!("file \"{}\" exists already", to.file),
            detail: None,
            hint: "Give another name, or --force to overwrite it.".into(),
        }),
        Err(error) => Err(Error::io(format!("create file \"{}\"", to.file))(error)),
    }
}
