//! Each section of the file: its keys, their defaults, and what must hold between them.

use std::net::IpAddr;
use std::path::Path;

use super::reader::Section;
use super::values::{filled, in_words, names, patterns};
use super::{
    Capture, CaptureMethod, Carrier, Config, FenceKind, Given, Map, Mirror, MirrorMode, MirrorPart,
    OnConflict, Replay, RouterKind, SchemaMode, SourceConfig, TargetConfig, Traffic, Watch,
};
use super::{restrict, restrict_role, router};
use crate::error::Result;
use crate::pattern::TableName;
use crate::units::{parse_duration, parse_size};

/// The whole document. Mistakes are noted in the reader, with the defaults in their places.
pub fn read(root: &Section, folder: &Path) -> Config {
    let source = root.section("source").map(|section| read_source(&section)).unwrap_or_default();
    let target = root.section("target").map(|section| read_target(&section)).unwrap_or_default();
    let traffic = root.section("traffic").map(|section| read_traffic(&section)).unwrap_or_default();
    let mirror = root.section("mirror").map(|section| read_mirror(&section)).unwrap_or_default();
    let restrict = restrict::read(root, &traffic);
    let restrict_role =
        root.section("restrict_role").and_then(|section| restrict_role::read(&section, &traffic, folder));
    let capture = root.section("capture").map(|section| read_capture(&section)).unwrap_or_default();
    let replay = root.section("replay").map(|section| read_replay(&section)).unwrap_or_default();
    let map = read_maps(root);
    let mut router = root.section("router").map(|section| router::read(&section, folder)).unwrap_or_default();
    if traffic.fence == FenceKind::ReadOnly {
        router.clients_choose = true;
        refuse_beside_a_read_only_fence(root, router.kind, restrict_role.is_some(), &traffic);
    }
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

/// What moves clients can keep them out altogether, which no client gets around; and clients that know both servers come to
/// each as the same role.
fn refuse_beside_a_read_only_fence(
    root: &Section,
    kind: RouterKind,
    has_limited_role: bool,
    traffic: &Traffic,
) {
    if has_limited_role {
        root.mistake(
            "restrict_role",
            "restrict_role contradicts traffic.fence = \"read-only\", whose clients are the same role on both servers",
            "Leave restrict_role out: the application's own roles can be limited on the target.",
        );
    }
    if kind != RouterKind::None {
        root.mistake(
            "traffic",
            format!(
                "traffic.fence = \"read-only\" contradicts router.kind = \"{}\", which moves the clients",
                kind.name()
            ),
            "Leave traffic.fence out: general roles then cannot connect to the side that does not serve.",
        );
    } else if traffic.roles.is_empty() {
        root.mistake(
            "traffic",
            "traffic.roles is empty, and traffic.fence = \"read-only\" needs it",
            "Name the roles that the application connects as, such as roles = [\"shop_app\"] under [traffic].",
        );
    }
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
    let fences = [("closed", FenceKind::Closed), ("read-only", FenceKind::ReadOnly)];
    let fence = section.word("fence", &fences).unwrap_or_default();
    section.end();
    Traffic { roles, admin_networks, fence }
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
