//! Each section of the file: its keys, their defaults, and what must hold between them.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::reader::Section;
use super::restrict_role;
use super::{
    Capture, CaptureMethod, Carrier, CommandSettings, Config, Deny, Given, HaProxySettings, Map, Mirror,
    MirrorMode, MirrorPart, OnConflict, PgBouncerSettings, Replay, Restrict, Router, RouterKind, SchemaMode,
    SourceConfig, TargetConfig, Traffic, Watch,
};
use crate::error::{Error, Result};
use crate::pattern::{Pattern, TableName};
use crate::units::{parse_duration, parse_size};

/// The whole document. Mistakes are noted in the reader, with the defaults in their places.
pub fn read(root: &Section, folder: &Path) -> Config {
    let source = root.section("source").map(|section| read_source(&section)).unwrap_or_default();
    let target = root.section("target").map(|section| read_target(&section)).unwrap_or_default();
    let traffic = root.section("traffic").map(|section| read_traffic(&section)).unwrap_or_default();
    let mirror = root.section("mirror").map(|section| read_mirror(&section)).unwrap_or_default();
    let restrict = read_restricts(root, &traffic);
    let restrict_role =
        root.section("restrict_role").and_then(|section| restrict_role::read(&section, &traffic, folder));
    let capture = root.section("capture").map(|section| read_capture(&section)).unwrap_or_default();
    let replay = root.section("replay").map(|section| read_replay(&section)).unwrap_or_default();
    let map = read_maps(root);
    let router = root.section("router").map(|section| read_router(&section, folder)).unwrap_or_default();
    if target.backup_conninfo.is_some() {
        refuse_without_subscriptions(root, &mirror);
    }
    if router.kind != RouterKind::None && traffic.roles.is_empty() {
        root.mistake(
            if root.has("traffic") { "traffic" } else { "router" },
            format!("traffic.roles is empty, and router.kind = \"{}\" needs it", router.kind.name()),
            "Name the roles that the application connects as, such as roles = [\"shop_app\"] under [traffic].",
        );
    }
    root.end();
    let given = Given::default();
    Config { source, target, traffic, mirror, restrict, restrict_role, capture, replay, map, router, given }
}

fn read_source(section: &Section) -> SourceConfig {
    let source = SourceConfig { conninfo: filled(section, "conninfo") };
    section.end();
    source
}

fn read_target(section: &Section) -> TargetConfig {
    let target = TargetConfig {
        conninfo: filled(section, "conninfo"),
        source_conninfo: filled(section, "source_conninfo"),
        backup_conninfo: filled(section, "backup_conninfo"),
    };
    section.end();
    target
}

/// A backup has no run of ours that could carry it: subscriptions do, of tables that are made from a dump.
fn refuse_without_subscriptions(root: &Section, mirror: &Mirror) {
    let mistakes = [
        (mirror.mode == MirrorMode::Batch, "mode = \"batch\""),
        (mirror.method == CaptureMethod::Trigger, "method = \"trigger\""),
        (mirror.carrier == Carrier::Pgdetour, "carrier = \"pgdetour\""),
        (mirror.schema == SchemaMode::Existing, "schema = \"existing\""),
    ];
    for (_, key) in mistakes.into_iter().filter(|(is_set, _)| *is_set) {
        root.mistake(
            "mirror",
            format!("mirror.{key} contradicts target.backup_conninfo, whose stages subscriptions carry"),
            "Keep one of the two.",
        );
    }
}

fn read_traffic(section: &Section) -> Traffic {
    let roles = names(section, "roles").unwrap_or_default();
    let admin_networks = section.texts("admin_networks").unwrap_or_default();
    for network in &admin_networks {
        if let Err(why) = check_network(network) {
            section.mistake(
                "admin_networks",
                format!("\"{network}\" is not a network: {why}"),
                "Write address/bits, such as 10.9.0.0/16 or fd00:9::/64.",
            );
        }
    }
    section.end();
    Traffic { roles, admin_networks }
}

fn read_mirror(section: &Section) -> Mirror {
    let default = Mirror::default();
    let modes = [("continuous", MirrorMode::Continuous), ("batch", MirrorMode::Batch)];
    let carriers =
        [("auto", Carrier::Auto), ("subscription", Carrier::Subscription), ("pgdetour", Carrier::Pgdetour)];
    let schemas = [("dump", SchemaMode::Dump), ("existing", SchemaMode::Existing)];
    let mirror = Mirror {
        tables: patterns(section, "tables").unwrap_or(default.tables),
        exclude: patterns(section, "exclude").unwrap_or_default(),
        parts: read_parts(section),
        mode: section.word("mode", &modes).unwrap_or(default.mode),
        method: read_method(section).unwrap_or(default.method),
        carrier: section.word("carrier", &carriers).unwrap_or(default.carrier),
        jobs: section.number("jobs", 1..=64).unwrap_or(default.jobs),
        schema: section.word("schema", &schemas).unwrap_or(default.schema),
        watch: read_watch(section, "mirror", default.watch),
    };
    if mirror.tables.is_empty() {
        section.mistake(
            "tables",
            "mirror.tables is empty",
            "Leave it out to mirror all tables, or give patterns such as [\"public.*\"].",
        );
    }
    if mirror.mode == MirrorMode::Batch && mirror.carrier == Carrier::Subscription {
        section.mistake(
            "carrier",
            "mirror.carrier = \"subscription\" contradicts mode = \"batch\", which has no flow",
            "Keep one of the two.",
        );
    }
    if mirror.method == CaptureMethod::Trigger && mirror.carrier == Carrier::Subscription {
        section.mistake(
            "carrier",
            "mirror.carrier = \"subscription\" contradicts method = \"trigger\", which needs runs of pgdetour",
            "Keep one of the two.",
        );
    }
    section.end();
    mirror
}

/// `[[mirror.table]]`.
fn read_parts(section: &Section) -> Vec<MirrorPart> {
    let mut parts: Vec<MirrorPart> = Vec::new();
    for section in section.sections("table") {
        let name = section.parsed("name", |text| TableName::parse(text).map_err(in_words));
        let name = section.required("name", name, "Name one table: name = \"public.events\".");
        let (filter, columns) = (filled(&section, "where"), names(&section, "columns"));
        if columns.as_ref().is_some_and(Vec::is_empty) {
            section.mistake(
                "columns",
                "mirror.table.columns is empty",
                "Leave it out to mirror all columns, or exclude the table.",
            );
        }
        if filter.is_none() && columns.is_none() {
            section.mistake(
                "name",
                "mirror.table has neither where nor columns",
                "Say which rows or which columns are mirrored, or remove the entry.",
            );
        }
        if let Some(table) = name {
            if parts.iter().any(|earlier| earlier.table == table) {
                section.mistake(
                    "name",
                    format!("table \"{table}\" has two [[mirror.table]]"),
                    "Write one for each table.",
                );
            }
            parts.push(MirrorPart { table, filter, columns });
        }
        section.end();
    }
    parts
}

fn read_restricts(root: &Section, traffic: &Traffic) -> Vec<Restrict> {
    let mut restricts: Vec<Restrict> = Vec::new();
    for section in root.sections("restrict") {
        let tables = patterns(&section, "tables");
        let tables = section.required("tables", tables, "Give patterns such as [\"public.users\"].");
        let scratch = section.flag("scratch").unwrap_or(false);
        let deny = read_deny(&section);
        let (denied, columns) = deny
            .clone()
            .unwrap_or_else(|| (if scratch { Vec::new() } else { Deny::ALL.to_vec() }, Vec::new()));
        let restrict = Restrict {
            tables: tables.unwrap_or_default(),
            except: patterns(&section, "except").unwrap_or_default(),
            deny: denied,
            columns,
            condition: filled(&section, "where"),
            roles: names(&section, "roles"),
            message: filled(&section, "message"),
            sqlstate: section.parsed("sqlstate", check_sqlstate),
            name: filled(&section, "name"),
            scratch,
        };
        if section.has("tables") && restrict.tables.is_empty() {
            section.mistake(
                "tables",
                "restrict.tables names no table",
                "Give patterns, or remove the entry.",
            );
        }
        if scratch && deny.is_some() {
            section.mistake(
                "deny",
                "restrict.deny contradicts scratch = true, which lets writes pass",
                "Keep one of the two.",
            );
        } else if deny.is_some_and(|(deny, _)| deny.is_empty()) {
            section.mistake("deny", "restrict.deny is empty", "Leave it out to deny all four, or name some.");
        }
        if scratch && restrict.condition.is_some() {
            section.mistake(
                "where",
                "restrict.where contradicts scratch = true, which lets writes pass",
                "Keep one of the two.",
            );
        }
        if restrict.roles.as_ref().is_some_and(Vec::is_empty) {
            section.mistake(
                "roles",
                "restrict.roles is empty",
                "Leave it out to limit the roles of [traffic], or name some.",
            );
        }
        if restrict.roles.is_none() && traffic.roles.is_empty() && !scratch {
            section.mistake(
                "roles",
                "restrict.roles is missing, and traffic.roles, which stands in for it, is empty",
                "Name the roles to limit.",
            );
        }
        for table in &restrict.tables {
            let twice = restricts.iter().any(|earlier| {
                earlier.condition == restrict.condition
                    && earlier.tables.iter().any(|other| same(other, table))
                    && overlap(earlier.roles.as_ref(), restrict.roles.as_ref(), &traffic.roles)
            });
            if twice {
                section.mistake(
                    "tables",
                    format!("\"{table}\" is restricted twice for the same roles"),
                    "Write one [[restrict]] for it, or give the two different roles.",
                );
            }
        }
        section.end();
        restricts.push(restrict);
    }
    restricts
}

/// Verbs, and the columns to which `update(a, b)` limits UPDATE.
fn read_deny(section: &Section) -> Option<(Vec<Deny>, Vec<String>)> {
    let kinds = Deny::ALL.map(|deny| (deny.name(), deny));
    let texts = section.texts("deny")?;
    let (mut deny, mut columns, mut whole) = (Vec::new(), Vec::new(), false);
    for text in &texts {
        let Some((verb, list)) = text.split_once('(') else {
            let verb = section.one_of("deny", text, &kinds)?;
            whole |= verb == Deny::Update;
            deny.push(verb);
            continue;
        };
        let verb = section.one_of("deny", verb.trim_end(), &kinds)?;
        let named = list.trim_end().strip_suffix(')').and_then(read_columns);
        match named {
            Some(named) if verb == Deny::Update => columns.extend(named),
            _ => {
                section.mistake(
                    "deny",
                    format!("restrict.deny cannot be \"{text}\""),
                    "Columns can be named of an update: \"update(email, name)\".",
                );
                return None;
            }
        }
        deny.push(verb);
    }
    if whole && !columns.is_empty() {
        section.mistake(
            "deny",
            "restrict.deny names columns of an update, and update as a whole",
            "Keep one of the two.",
        );
    }
    deny.sort_unstable();
    deny.dedup();
    Some((deny, columns))
}

/// Column names as in SQL: commas between them, lower case without double quotes; none when it cannot be read.
fn read_columns(list: &str) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    let mut rest = list.trim();
    loop {
        let (column, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"')?;
            (quoted[..end].to_owned(), quoted[end + 1..].trim_start())
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let name = rest[..end].trim();
            if name.contains(|c: char| c.is_whitespace() || c == '"' || c == '(') {
                return None;
            }
            (name.to_lowercase(), &rest[end..])
        };
        if column.is_empty() {
            return None;
        }
        columns.push(column);
        match after.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if after.is_empty() => return Some(columns),
            None => return None,
        }
    }
}

fn read_method(section: &Section) -> Option<CaptureMethod> {
    let methods = [CaptureMethod::Wal, CaptureMethod::Trigger].map(|method| (method.name(), method));
    section.word("method", &methods)
}

fn read_capture(section: &Section) -> Capture {
    let method = read_method(section).unwrap_or(CaptureMethod::Wal);
    let watch = read_watch(section, "capture", Capture::default().watch);
    section.end();
    Capture { method, watch }
}

/// `warn_retained` and `warn_before` of the section `name`.
fn read_watch(section: &Section, name: &str, default: Watch) -> Watch {
    let size = |text: &str| {
        parse_size(text).map_err(|error| {
            (format!("{name}.warn_retained: {error}"), "Give a size such as \"20GB\".".to_owned())
        })
    };
    let time = |text: &str| {
        parse_duration(text).map_err(|error| {
            (format!("{name}.warn_before: {error}"), "Give a duration such as \"2h\".".to_owned())
        })
    };
    Watch {
        retained: section.parsed("warn_retained", size).or(default.retained),
        before: section.parsed("warn_before", time).unwrap_or(default.before),
    }
}

fn read_replay(section: &Section) -> Replay {
    let acts = [("stop", OnConflict::Stop), ("quarantine", OnConflict::Quarantine)];
    let on_conflict = section.word("on_conflict", &acts).unwrap_or(OnConflict::Stop);
    section.end();
    Replay { on_conflict }
}

fn read_maps(root: &Section) -> Vec<Map> {
    let mut maps: Vec<Map> = Vec::new();
    for section in root.sections("map") {
        let table = |key, example: &str| {
            let value = section.parsed(key, |text| TableName::parse(text).map_err(in_words));
            section.required(key, value, example)
        };
        let from = table("from", "Name the old table, on the target: from = \"public.customers\".");
        let to = table("to", "Name the new table, on the source: to = \"public.people\".");
        let key = section.pairs("key").unwrap_or_default();
        let columns = section.pairs("columns").unwrap_or_default();
        let drop = names(&section, "drop").unwrap_or_default();
        let condition = filled(&section, "where");
        let joins = section.flag("joins").unwrap_or(false);
        if joins && condition.is_some() {
            section.mistake(
                "where",
                "map.where contradicts joins = true, which fills columns of rows that another [[map]] makes",
                "Keep one of the two.",
            );
        }
        for (key_name, pairs) in [("key", &key), ("columns", &columns)] {
            for (column, expression) in pairs {
                if expression.trim().is_empty() {
                    section.mistake(
                        key_name,
                        format!("map.{key_name} gives no expression for column \"{column}\""),
                        "Write SQL over the old row's columns, such as \"first_name || ' ' || last_name\".",
                    );
                }
            }
        }
        for (column, expression) in &key {
            let other = columns.iter().find(|(name, _)| name == column);
            if other.is_some_and(|(_, other)| other.trim() != expression.trim()) {
                section.mistake(
                    "columns",
                    format!("map.columns and map.key give different expressions for column \"{column}\""),
                    "Give the same expression in both, or leave the column out of columns.",
                );
            }
        }
        if let (Some(from), Some(to)) = (&from, &to)
            && maps.iter().any(|earlier| earlier.from == *from && earlier.to == *to)
        {
            section.mistake(
                "from",
                format!("table \"{from}\" is mapped twice to \"{to}\""),
                "Write one [[map]] for each pair of tables.",
            );
        }
        section.end();
        if let (Some(from), Some(to)) = (from, to) {
            maps.push(Map { from, to, key, columns, drop, condition, joins });
        }
    }
    maps
}

fn read_router(section: &Section, folder: &Path) -> Router {
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
        let has = [
            (RouterKind::Pgbouncer, "pgbouncer", section.has("pgbouncer")),
            (RouterKind::Command, "command", section.has("command")),
            (RouterKind::Haproxy, "haproxy", section.has("haproxy")),
        ];
        for (of, key, present) in has {
            if present && of != kind {
                section.mistake(
                    key,
                    format!("router.{key} has no effect with router.kind = \"{}\"", kind.name()),
                    format!("Remove it, or set kind = \"{key}\"."),
                );
            }
        }
        if kind == RouterKind::Pgbouncer && !section.has("pgbouncer") {
            section.mistake(
                "kind",
                "router.kind = \"pgbouncer\" needs at least one [[router.pgbouncer]]",
                "Write one for each PgBouncer process: admin, database, config, target.",
            );
        }
        if kind == RouterKind::Haproxy && !section.has("haproxy") {
            section.mistake(
                "kind",
                "router.kind = \"haproxy\" needs at least one [[router.haproxy]]",
                "Write one for each HAProxy process: socket, map, source, target.",
            );
        }
        if kind == RouterKind::Command && !section.has("command") {
            section.mistake(
                "kind",
                "router.kind = \"command\" needs [router.command]",
                "Name the program: program = [\"/usr/local/bin/point-clients\"].",
            );
        }
    }
    section.end();
    Router { kind: kind.unwrap_or_default(), pgbouncer, haproxy, command }
}

fn read_pgbouncer(section: &Section, folder: &Path) -> Option<PgBouncerSettings> {
    let text = |key, hint: &str| section.required(key, filled(section, key), hint);
    let admin = text("admin", "Give a connection string of its console, with dbname=pgbouncer.");
    let database = text("database", "Name the entry of [databases] that general traffic uses.");
    let config = text("config", "Name the file that holds the entry, such as /etc/pgbouncer/databases.ini.");
    let target = text("target", "Give the entry's value while detoured, such as \"host=db2 dbname=shop\".");
    let source = filled(section, "source");
    let file_command = read_program(section, "file_command", folder);
    section.end();
    Some(PgBouncerSettings {
        admin: admin?,
        database: database?,
        config: if file_command.is_some() { config?.into() } else { folder.join(config?) },
        target: target?,
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

/// An SQLSTATE that a client takes for a failure, and that is no category of others.
fn check_sqlstate(text: &str) -> Result<String, (String, String)> {
    let is_code = text.len() == 5 && text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    let is_failure = !["00", "01", "02"].iter().any(|class| text.starts_with(class));
    if is_code && is_failure && !text.ends_with("000") {
        return Ok(text.to_owned());
    }
    Err((
        format!("restrict.sqlstate cannot be \"{}\"", text.escape_debug()),
        "Give five digits or capital letters of a failure, such as \"25006\"; not of class 00, 01 or 02, nor ending in 000."
            .into(),
    ))
}

/// A string that may not be empty.
pub(super) fn filled(section: &Section, key: &'static str) -> Option<String> {
    section.parsed(key, |text| match text.trim() {
        "" => Err((format!("{} is empty", section.name_of(key)), "Give a value, or remove the key.".into())),
        _ => Ok(text.to_owned()),
    })
}

/// Names, none empty and none twice.
fn names(section: &Section, key: &'static str) -> Option<Vec<String>> {
    let names = section.texts(key)?;
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || names[..at].contains(name) {
            let what = if name.is_empty() { "an empty name".into() } else { format!("\"{name}\" twice") };
            let hint = "Give each name once, without SQL's quotes.";
            section.mistake(key, format!("{} holds {what}", section.name_of(key)), hint);
        }
    }
    Some(names)
}

/// Table patterns, each of which can be read.
fn patterns(section: &Section, key: &'static str) -> Option<Vec<String>> {
    let texts = section.texts(key)?;
    for text in &texts {
        if let Err(error) = Pattern::parse(text) {
            let (message, hint) = in_words(error);
            section.mistake(key, message, hint);
        }
    }
    Some(texts)
}

/// Message and hint of what a reader of one value said.
fn in_words(error: Error) -> (String, String) {
    match error {
        Error::Usage { message, hint } => (message, hint),
        other => (other.to_string(), String::new()),
    }
}

/// Whether two patterns are the same one, however quoted.
fn same(one: &str, other: &str) -> bool {
    let parse = |text| Pattern::parse(text).ok();
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.means_as(&other),
        _ => false,
    }
}

/// Whether two lists of roles, absent meaning those of `[traffic]`, share one.
fn overlap(one: Option<&Vec<String>>, other: Option<&Vec<String>>, default: &Vec<String>) -> bool {
    let (one, other) = (one.unwrap_or(default), other.unwrap_or(default));
    one.iter().any(|role| other.contains(role))
}

/// `address/bits` with no bit set right of the mask, as PostgreSQL's `cidr`.
fn check_network(text: &str) -> Result<(), String> {
    let (address, bits) = text.split_once('/').ok_or("the number of bits is missing")?;
    let address: IpAddr = address.parse().map_err(|_| "the address is not an IP address")?;
    let (value, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let bits: u32 = bits.parse().map_err(|_| "the number of bits is not a number")?;
    if bits > width {
        return Err(format!("the number of bits is more than {width}"));
    }
    let host_bits = 1_u128.checked_shl(width - bits).map_or(u128::MAX, |bit| bit - 1);
    if value & host_bits != 0 {
        return Err("the address has bits set right of the mask".into());
    }
    Ok(())
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
