//! `capture --export`: the recorded changes into a file, for audit; they stay recorded.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::flow::FlowName;
use crate::flow::source::export::{Exported, export_changes};
use crate::pg::{PgLsn, record};
use crate::phase::{Phase, Side};
use crate::steps::Run;

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
    let source = run.recording();
    if run.phase() == Phase::Mirrored && !source.exists(run.target())? {
        return Err(Error::Refused {
            kind: "not_armed",
            message: "nothing is recorded on the target yet".into(),
            detail: None,
            hint: "Run pgdetour capture, or cutover, which arms the recording.".into(),
        });
    }
    let mut out = Out::open(to)?;
    let publisher = run.server(Side::Target).clone();
    let detour = run.detour_id()?;
    let applied = record::read_progress_of(run.target(), FlowName::Replay.name(), &detour)?;
    let applied = applied.map_or(PgLsn::from(0), |noted| noted.lsn);
    let stop = run.signals.stop_flag();
    let output = run.output.clone();
    let mut told = Instant::now();
    let left_out = run.mirrored_changes()?;
    let exported =
        export_changes(&source, &publisher, applied, &left_out, out.writer(), &stop, &mut |done| {
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
    out.finish(to)?;
    let mut report = json!(exported);
    report["file"] = json!(to.file);
    Ok(report)
}

/// What is written to.
enum Out {
    /// Standard output, or what is no ordinary file.
    Stream(BufWriter<Box<dyn Write>>),
    /// A file beside the one that it takes the place of once it is whole.
    File(BufWriter<NamedTempFile>),
}

impl Out {
    /// For the owner's eyes only: rows may hold anything.
    fn open(to: &Destination) -> Result<Out> {
        if to.file == "-" {
            return Ok(Out::Stream(BufWriter::new(Box::new(io::stdout()))));
        }
        let path = Path::new(&to.file);
        let failed = || Error::io(format!("create file \"{}\"", to.file));
        match path.metadata() {
            Ok(_) if !to.force => return Err(file_exists(to)),
            Ok(there) if !there.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(failed())?;
                return Ok(Out::Stream(BufWriter::new(Box::new(file))));
            }
            _ => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed())?;
        Ok(Out::File(BufWriter::new(file)))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Out::Stream(out) => out,
            Out::File(out) => out,
        }
    }

    /// Gives it its name.
    fn finish(self, to: &Destination) -> Result<()> {
        let failed = || Error::io(format!("write file \"{}\"", to.file));
        let file = match self {
            Out::Stream(mut out) => return out.flush().map_err(failed()),
            Out::File(out) => out.into_inner().map_err(|error| failed()(error.into_error()))?,
        };
        file.as_file().sync_all().map_err(failed())?;
        let named = if to.force { file.persist(&to.file) } else { file.persist_noclobber(&to.file) };
        named.map(drop).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => file_exists(to),
            _ => failed()(error.error),
        })
    }
}

fn file_exists(to: &Destination) -> Error {
    Error::Refused {
        kind: "file_exists",
        message: format!("file \"{}\" exists already", to.file),
        detail: None,
        hint: "Give another name, or --force to overwrite it.".into(),
    }
}
