//! `[router]`: what sends clients to a server, and how it is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::value_of;
use super::reader::Section;
use super::values::filled;
use crate::units::parse_duration;

/// `[router]`.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// What sends clients to a server.
    pub kind: RouterKind,
    /// Every `PgBouncer` process.
    pub pgbouncer: Vec<PgBouncerSettings>,
    /// Every map of every `HAProxy` process.
    pub haproxy: Vec<HaProxySettings>,
    /// The operator's program.
    pub command: Option<CommandSettings>,
    /// Clients know both servers and take the one that can be written, as `traffic.fence` has it.
    pub clients_choose: bool,
}

/// `router.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouterKind {
    /// `PgBouncer`'s console and its file.
    Pgbouncer,
    /// `HAProxy`'s runtime API.
    Haproxy,
    /// The operator's program.
    Command,
    /// Clients are moved by somebody else.
    #[default]
    None,
}

impl RouterKind {
    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            RouterKind::Pgbouncer => "pgbouncer",
            RouterKind::Haproxy => "haproxy",
            RouterKind::Command => "command",
            RouterKind::None => "none",
        }
    }
}

/// One `[[router.pgbouncer]]`.
#[derive(Debug, Clone)]
pub struct PgBouncerSettings {
    /// Connection to its console.
    pub admin: String,
    /// Entry of `[databases]` that general traffic uses.
    pub database: String,
    /// The file that holds the entry.
    pub config: PathBuf,
    /// The entry's value while detoured.
    pub target: String,
    /// Its value from cutback on, where the source has moved meanwhile; `None`: what it was before cutover.
    pub source: Option<String>,
    /// Program and arguments that read and replace the file, when it is on another host.
    pub file_command: Option<Vec<String>>,
}

impl PgBouncerSettings {
    /// Whether all clients become `role` on the target.
    pub fn forces(&self, role: &str) -> bool {
        value_of(&self.target, "user").as_deref() == Some(role)
    }
}

/// One `[[router.haproxy]]`.
#[derive(Debug, Clone)]
pub struct HaProxySettings {
    /// Where its runtime API listens: a path, or host:port.
    pub socket: String,
    /// The map, named as in `HAProxy`'s configuration.
    pub map: String,
    /// The key of general traffic; `general` by default.
    pub key: String,
    /// Backend of the source.
    pub source: String,
    /// Backend of the target.
    pub target: String,
    /// The map's file on this host; `map` by default.
    pub file: PathBuf,
    /// Servers, as `backend/server`, whose weight is another one while detoured, and which.
    pub weights: Vec<(String, u16)>,
    /// The ACL of admin traffic, named as in `HAProxy`'s configuration.
    pub admin_acl: Option<String>,
    /// Program and arguments that read and replace the file, when it is on another host.
    pub file_command: Option<Vec<String>>,
}

/// `[router.command]`.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// Program and arguments; no shell.
    pub program: Vec<String>,
    /// How long one call may take; 30 s by default.
    pub timeout: Duration,
}

/// `[router]`. Mistakes are noted in the reader.
pub(super) fn read(section: &Section, folder: &Path) -> Router {
    let kinds = [RouterKind::Pgbouncer, RouterKind::Haproxy, RouterKind::Command, RouterKind::None]
        .map(|kind| (kind.name(), kind));
    let kind = section.word("kind", &kinds);
    let kind = section.required("kind", kind, "Say which router: pgbouncer, haproxy, command or none.");
    let pgbouncer: Vec<PgBouncerSettings> = section
        .sections("pgbouncer")
        .into_iter()
        .filter_map(|inner| read_pgbouncer(&inner, folder))
        .collect();
    let haproxy: Vec<HaProxySettings> =
        section.sections("haproxy").into_iter().filter_map(|inner| read_haproxy(&inner, folder)).collect();
    let command = section.section("command").and_then(|inner| read_command(&inner, folder));
    if let Some(kind) = kind {
        let sections = [
            (
                RouterKind::Pgbouncer,
                "at least one [[router.pgbouncer]]",
                "Write one for each PgBouncer process: admin, database, config, target.",
            ),
            (
                RouterKind::Command,
                "[router.command]",
                "Name the program: program = [\"/usr/local/bin/point-clients\"].",
            ),
            (
                RouterKind::Haproxy,
                "at least one [[router.haproxy]]",
                "Write one for each HAProxy process: socket, map, source, target.",
            ),
        ];
        for (of, needed, hint) in sections {
            let key = of.name();
            match (section.has(key), of == kind) {
                (true, false) => section.mistake(
                    key,
                    format!("router.{key} has no effect with router.kind = \"{}\"", kind.name()),
                    format!("Remove it, or set kind = \"{key}\"."),
                ),
                (false, true) => {
                    section.mistake("kind", format!("router.kind = \"{key}\" needs {needed}"), hint);
                }
                _ => {}
            }
        }
    }
    section.end();
    Router { kind: kind.unwrap_or_default(), pgbouncer, haproxy, command, clients_choose: false }
}

fn read_pgbouncer(section: &Section, folder: &Path) -> Option<PgBouncerSettings> {
    // Space around a value is no part of it to PgBouncer, and would stay in its file.
    let trimmed = |value: String| value.trim_ascii().to_owned();
    let text = |key, hint: &str| section.required(key, filled(section, key), hint);
    let admin = text("admin", "Give a connection string of its console, with dbname=pgbouncer.");
    let database = text("database", "Name the entry of [databases] that general traffic uses.");
    let config = text("config", "Name the file that holds the entry, such as /etc/pgbouncer/databases.ini.");
    let target = text("target", "Give the entry's value while detoured, such as \"host=db2 dbname=shop\".");
    let source = filled(section, "source").map(trimmed);
    let file_command = read_program(section, "file_command", folder);
    section.end();
    Some(PgBouncerSettings {
        admin: admin?,
        database: database?,
        config: if file_command.is_some() { config?.into() } else { folder.join(config?) },
        target: target.map(trimmed)?,
        source,
        file_command,
    })
}

fn read_haproxy(section: &Section, folder: &Path) -> Option<HaProxySettings> {
    let word = |key, hint: &str| section.required(key, one_word(section, key), hint);
    let socket = word("socket", "Give the path or host:port of a \"stats socket\" with level admin.");
    let map = word("map", "Name the map as HAProxy's configuration does, such as /etc/haproxy/pgdetour.map.");
    let source = word("source", "Name the backend of the source.");
    let target = word("target", "Name the backend of the target.");
    let key = one_word(section, "key").unwrap_or_else(|| "general".into());
    let file = filled(section, "file");
    let admin_acl = one_word(section, "admin_acl");
    let weights = read_weights(section);
    let file_command = read_program(section, "file_command", folder);
    if source.is_some() && source == target {
        section.mistake(
            "target",
            "router.haproxy.target is the same as source",
            "Name two backends of HAProxy.",
        );
    }
    for (name, value) in [("source", &source), ("target", &target)] {
        if value.as_deref() == Some("hold") {
            section.mistake(
                name,
                format!(
                    "router.haproxy.{name} cannot be \"hold\", which is the map's value while clients wait"
                ),
                "Give the backend another name.",
            );
        }
    }
    section.end();
    let (socket, map) = (socket?, map?);
    let is_relative = socket.contains('/') && !socket.starts_with('/');
    Some(HaProxySettings {
        socket: if is_relative { folder.join(&socket).to_string_lossy().into_owned() } else { socket },
        file: match file {
            Some(file) if file_command.is_none() => folder.join(file),
            file => file.unwrap_or_else(|| map.clone()).into(),
        },
        file_command,
        map,
        key,
        source: source?,
        target: target?,
        weights,
        admin_acl,
    })
}

/// Weights by `backend/server`.
fn read_weights(section: &Section) -> Vec<(String, u16)> {
    let mut weights = Vec::new();
    for (server, text) in section.pairs("weights").unwrap_or_default() {
        let is_server = server.split('/').count() == 2
            && !server.starts_with('/')
            && !server.ends_with('/')
            && !server.contains(|c: char| c.is_whitespace() || c.is_control() || ";\\\"'<".contains(c));
        if !is_server {
            let message = format!("router.haproxy.weights names \"{}\"", server.escape_debug());
            section.mistake(
                "weights",
                message,
                "Write backend/server, as HAProxy's configuration names them.",
            );
        }
        match text.parse() {
            Ok(weight @ 0..=256) => weights.push((server, weight)),
            _ => section.mistake(
                "weights",
                format!(
                    "router.haproxy.weights gives server \"{server}\" the weight \"{}\"",
                    text.escape_debug()
                ),
                "Give a number from 0 to 256 in quotes.",
            ),
        }
    }
    weights
}

/// A string that stands unquoted in a command of HAProxy's runtime API.
fn one_word(section: &Section, key: &'static str) -> Option<String> {
    section.parsed(key, |text| {
        let name = section.name_of(key);
        if text.is_empty() {
            return Err((format!("{name} is empty"), "Give a value, or remove the key.".into()));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || ";\\\"'<".contains(c)) {
            let hint = "HAProxy's runtime API takes no spaces, quotes, backslashes and semicolons.";
            return Err((format!("{name} cannot be \"{}\"", text.escape_debug()), hint.into()));
        }
        Ok(text.to_owned())
    })
}

fn read_command(section: &Section, folder: &Path) -> Option<CommandSettings> {
    let program = read_program(section, "program", folder);
    let program = section.required("program", program, "Give the program and its arguments as an array.");
    let timeout = section.parsed("timeout", |text| {
        let wrong = |why: String| {
            (format!("router.command.timeout cannot be \"{text}\""), format!("{}.", capital(&why)))
        };
        match parse_duration(text).map_err(wrong)? {
            Duration::ZERO => Err(wrong("it must be longer than nothing".into())),
            timeout => Ok(timeout),
        }
    });
    section.end();
    Some(CommandSettings { program: program?, timeout: timeout.unwrap_or(Duration::from_secs(30)) })
}

/// A program and its arguments; one with a slash in its name is looked for from `folder`.
fn read_program(section: &Section, key: &'static str, folder: &Path) -> Option<Vec<String>> {
    let mut program = section.texts(key)?;
    if program.first().is_none_or(String::is_empty) {
        let message = format!("{} is empty", section.name_of(key));
        section.mistake(key, message, "Give the program and its arguments.");
    } else if program[0].contains('/') {
        program[0] = folder.join(&program[0]).to_string_lossy().into_owned();
    }
    Some(program)
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
