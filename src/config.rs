//! `pgdetour.toml`: what it may say, and every mistake in it named with its line.

pub mod entry;
mod reader;
mod restrict;
mod restrict_role;
mod router;
mod sections;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Finding, Result};
use crate::pattern::{Selection, TableName};
use crate::phase::Side;
use reader::{Mistake, Reader, Section};
pub use restrict::{Deny, Restrict};
pub use restrict_role::RestrictRole;
pub use router::{CommandSettings, HaProxySettings, PgBouncerSettings, Router, RouterKind};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "pgdetour.toml";

/// Everything that can be configured.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The live production database.
    pub source: SourceConfig,
    /// The mirrored database.
    pub target: TargetConfig,
    /// Whose connections are redirected and fenced.
    pub traffic: Traffic,
    /// What is copied, and how.
    pub mirror: Mirror,
    /// Limits on tables of the target.
    pub restrict: Vec<Restrict>,
    /// The role that general traffic uses on the target, where it is another one than on the source.
    pub restrict_role: Option<RestrictRole>,
    /// How changes on the target are recorded.
    pub capture: Capture,
    /// How changes are applied to the source.
    pub replay: Replay,
    /// From tables of the target to tables of the source, in the order of the file.
    pub map: Vec<Map>,
    /// Where clients are sent.
    pub router: Router,
    /// What all of this was read from.
    pub given: Given,
}

/// What a command line and its environment say of the configuration, for a process that is to have the same.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Given {
    /// The file, when one is named.
    pub path: Option<PathBuf>,
    /// The source's connection string, in place of the file's.
    pub source: Option<String>,
    /// The target's.
    pub target: Option<String>,
}

/// `[source]`.
#[derive(Debug, Clone, Default)]
pub struct SourceConfig {
    /// What psql takes.
    pub conninfo: Option<String>,
}

/// `[target]`.
#[derive(Debug, Clone, Default)]
pub struct TargetConfig {
    /// What psql takes.
    pub conninfo: Option<String>,
    /// How the target's server, or the backup's where there is one, reaches the source, when that differs from `[source]`.
    pub source_conninfo: Option<String>,
    /// A database through which the mirror goes, and which follows the target while that serves.
    pub backup_conninfo: Option<String>,
}

/// `[traffic]`.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Roles of general traffic; everybody else is admin.
    pub roles: Vec<String>,
    /// Networks of admin traffic, as `address/bits`.
    pub admin_networks: Vec<String>,
    /// What keeps them off the side that does not serve.
    pub fence: FenceKind,
}

/// `traffic.fence`, which the record keeps with each fence, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceKind {
    /// General roles may not connect.
    #[default]
    Closed,
    /// Their sessions are read-only by default, so that clients who know both servers leave for the one that can be written.
    ReadOnly,
}

/// `[mirror]`.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Patterns of the tables to mirror; all by default.
    pub tables: Vec<String>,
    /// Patterns of tables to leave out.
    pub exclude: Vec<String>,
    /// Tables of which a part is mirrored only.
    pub parts: Vec<MirrorPart>,
    /// Kept current, or copied once.
    pub mode: MirrorMode,
    /// How changes are recorded on the source while and after it is copied.
    pub method: CaptureMethod,
    /// Who keeps it current.
    pub carrier: Carrier,
    /// Connections that copy at the same time; 4 by default.
    pub jobs: usize,
    /// Where the target's tables come from.
    pub schema: SchemaMode,
    /// When what the source keeps for it asks for attention.
    pub watch: Watch,
}

impl Default for Mirror {
    fn default() -> Self {
        Mirror {
            tables: vec!["*.*".into()],
            exclude: Vec::new(),
            parts: Vec::new(),
            mode: MirrorMode::Continuous,
            method: CaptureMethod::Wal,
            carrier: Carrier::Auto,
            jobs: 4,
            schema: SchemaMode::Dump,
            // Nobody looks at a mirror every hour.
            watch: Watch { retained: None, before: Duration::from_secs(86_400) },
        }
    }
}

impl Mirror {
    /// The tables to mirror.
    pub fn selection(&self) -> Result<Selection> {
        Selection::parse(&self.tables, &self.exclude)
    }
}

/// One `[[mirror.table]]`.
#[derive(Debug, Clone)]
pub struct MirrorPart {
    /// The table.
    pub table: TableName,
    /// SQL over a row's columns: rows for which it is true are mirrored; all when absent.
    pub filter: Option<String>,
    /// The columns that are mirrored; all when absent.
    pub columns: Option<Vec<String>>,
}

/// `mirror.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorMode {
    /// The target is kept current.
    Continuous,
    /// One copy, no flow after it.
    Batch,
}

/// `mirror.carrier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A subscription where the target can have one, else runs of pgdetour.
    Auto,
    /// A subscription of PostgreSQL's own.
    Subscription,
    /// Runs of pgdetour.
    Pgdetour,
}

/// `mirror.schema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaMode {
    /// Made from a dump of the source's.
    Dump,
    /// There already; only checked.
    Existing,
}

/// `[capture]`.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Where changes are read from.
    pub method: CaptureMethod,
    /// When what the target keeps for it asks for attention.
    pub watch: Watch,
}

impl Default for Capture {
    fn default() -> Self {
        let watch = Watch { retained: None, before: Duration::from_secs(3600) };
        Capture { method: CaptureMethod::Wal, watch }
    }
}

/// When what a server keeps for changes that were not applied yet asks for attention in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// `warn_retained`: from this many bytes on; never when absent.
    pub retained: Option<u64>,
    /// `warn_before`: when less than this is left until there is no room for them.
    pub before: Duration,
}

/// `capture.method` and `mirror.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMethod {
    /// A replication slot.
    Wal,
    /// Row triggers.
    Trigger,
}

impl CaptureMethod {
    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            CaptureMethod::Wal => "wal",
            CaptureMethod::Trigger => "trigger",
        }
    }
}

/// `[replay]`.
#[derive(Debug, Clone)]
pub struct Replay {
    /// What becomes of a change that does not fit.
    pub on_conflict: OnConflict,
}

impl Default for Replay {
    fn default() -> Self {
        Replay { on_conflict: OnConflict::Stop }
    }
}

/// `replay.on_conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Replay stops there.
    Stop,
    /// The change is set aside.
    Quarantine,
}

/// One `[[map]]`.
#[derive(Debug, Clone)]
pub struct Map {
    /// The old table, on the target.
    pub from: TableName,
    /// The new table, on the source.
    pub to: TableName,
    /// Key column of `to`, and SQL over the old row's columns; empty means the primary key, column by column.
    pub key: Vec<(String, String)>,
    /// Column of `to`, and SQL over the old row's columns, in the order of the file.
    pub columns: Vec<(String, String)>,
    /// Columns of `from` that go nowhere.
    pub drop: Vec<String>,
    /// `where`: SQL over the old row; rows for which it is not true do not go to `to`.
    pub condition: Option<String>,
    /// Rows of `from` fill columns of rows of `to` that another one makes.
    pub joins: bool,
}

impl Config {
    /// Reads `path`. An `Error::Config` names every mistake.
    pub fn load(path: &Path) -> Result<Config> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::Config {
            file: file.clone(),
            line: None,
            message: format!("could not read the file: {}", describe(&error)),
            hint: "Name the file with --config or PGDETOUR_CONFIG, or give --source and --target.".into(),
            more: Vec::new(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Config::parse(&text, folder).map_err(|mistakes| in_file(&file, mistakes))
    }

    /// What a command line asks for: the file it names, or the default one, or none where both connection strings
    /// are given anyway; the flags' and the environment's connection strings before the file's.
    pub fn resolve(path: Option<&Path>, source: Option<&str>, target: Option<&str>) -> Result<Config> {
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let (source, target) = (given(source), given(target));
        let default = Path::new(DEFAULT_FILE);
        let mut config = match path {
            Some(path) => Config::load(path)?,
            None if source.is_some() && target.is_some() && !default.exists() => Config::default(),
            None => Config::load(default)?,
        };
        config.given =
            Given { path: path.map(Path::to_owned), source: source.clone(), target: target.clone() };
        config.source.conninfo = source.or(config.source.conninfo);
        config.target.conninfo = target.or(config.target.conninfo);
        Ok(config)
    }

    /// The connection string of one side.
    pub fn conninfo(&self, side: Side) -> Result<&str> {
        let (conninfo, variable) = match side {
            Side::Source => (&self.source.conninfo, "PGDETOUR_SOURCE"),
            Side::Target => (&self.target.conninfo, "PGDETOUR_TARGET"),
        };
        conninfo.as_deref().ok_or_else(|| Error::Usage {
            message: format!("no connection string for the {side} is given"),
            hint: format!("Give --{side}, set {variable}, or write conninfo under [{side}]."),
        })
    }

    fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
        let reader = Reader::new(text);
        let config =
            reader.parse().map(|document| sections::read(&Section::root(&reader, &document), folder));
        let mistakes = reader.into_mistakes();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(mistakes),
        }
    }
}

/// The first mistake as the failure, all others beside it.
fn in_file(file: &str, mut mistakes: Vec<Mistake>) -> Error {
    if mistakes.is_empty() {
        return Error::Internal { message: format!("{file} was refused without a reason") };
    }
    let first = mistakes.remove(0);
    let finding = |mistake: Mistake| {
        Finding::new("configuration", format!("{file}:{}", mistake.line), mistake.message, mistake.hint)
    };
    Error::Config {
        file: file.to_owned(),
        line: Some(first.line),
        message: first.message,
        hint: first.hint,
        more: mistakes.into_iter().map(finding).collect(),
    }
}

/// What the system said, in the words of its manual, without a number.
fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
