//! Versions, settings and room on the servers, and the state of the flows between them.

use crate::config::{CaptureMethod, SchemaMode};
use crate::error::{Checked, Result};
use crate::flow::source::slot;
use crate::flow::{ChangeSource, subscription};
use crate::pg::Conninfo;
use crate::pg::catalog::facts::{read_database, read_server};
use crate::pg::dump::program;
use crate::phase::{Phase, Side};
use crate::sql;
use crate::steps::carrier::{Carrier, Choice};
use crate::steps::{Run, capture, mirror, names};

/// The majors that are supported: the oldest has what pgoutput needs here, the newest is what was tested.
const MAJORS: std::ops::RangeInclusive<i32> = 14..=18;

const BOTH: [Side; 2] = [Side::Source, Side::Target];

/// PostgreSQL 14 to 18.
pub fn versions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for side in BOTH {
        let server = read_server(run.session(side))?;
        let major = server.version / 10_000;
        if !MAJORS.contains(&major) {
            let message = format!("the {side} runs PostgreSQL {}", server.version_text);
            let hint = format!("Versions {} to {} are supported.", MAJORS.start(), MAJORS.end());
            checked.fail("server_version", side.name(), message, hint);
        }
    }
    Ok(())
}

/// Neither side is a standby.
pub fn not_in_recovery(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for side in BOTH {
        if read_server(run.session(side))?.in_recovery {
            let message = format!("the {side} is a standby in recovery");
            let hint = "Connect to the primary: add target_session_attrs=read-write to the conninfo.";
            checked.fail("in_recovery", side.name(), message, hint);
        }
    }
    Ok(())
}

/// Text means the same on both sides.
pub fn encodings(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let source = read_database(run.source())?;
    let target = read_database(run.target())?;
    if source.encoding != target.encoding {
        let message =
            format!("the source's encoding is {}, the target's is {}", source.encoding, target.encoding);
        let hint =
            format!("Create the target's database with ENCODING '{}' TEMPLATE template0.", source.encoding);
        checked.fail("encoding", "target", message, hint);
    }
    let collation = |database: &crate::pg::catalog::facts::DatabaseFacts| {
        (database.provider.clone(), database.collate.clone(), database.ctype.clone(), database.locale.clone())
    };
    if collation(&source) != collation(&target) {
        let message = format!(
            "text sorts differently: collation \"{}\" on the source, \"{}\" on the target",
            source.collate, target.collate
        );
        checked.warn(
            "collation",
            "target",
            message,
            "ORDER BY and unique indexes on text may behave differently there.",
        );
    }
    Ok(())
}

/// The source can decode its WAL, where that is how changes are recorded there.
pub fn source_wal_level(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.method == CaptureMethod::Trigger {
        return Ok(());
    }
    wal_level(run, checked, Side::Source)
}

/// The target can decode its WAL, where that is how changes are recorded there.
pub fn target_wal_level(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.capture.method == CaptureMethod::Trigger {
        return Ok(());
    }
    wal_level(run, checked, Side::Target)
}

fn wal_level(run: &mut Run, checked: &mut Checked, side: Side) -> Result<()> {
    let server = read_server(run.session(side))?;
    if server.wal_level != "logical" {
        let message = format!("wal_level is \"{}\" on the {side}, and must be \"logical\"", server.wal_level);
        let hint = "Run ALTER SYSTEM SET wal_level = 'logical'; then restart the server.";
        checked.fail("wal_level", side.name(), message, hint);
    }
    Ok(())
}

/// The mirror's slot is there, or there is room for it.
pub fn source_slots(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.method == CaptureMethod::Trigger {
        return Ok(());
    }
    slots(run, checked, Side::Source, names::MIRROR_SLOT)
}

/// Capture's slot is there, or there is room for it.
pub fn target_slots(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.capture.method == CaptureMethod::Trigger {
        return Ok(());
    }
    slots(run, checked, Side::Target, names::CAPTURE_SLOT)
}

fn slots(run: &mut Run, checked: &mut Checked, side: Side, name: &str) -> Result<()> {
    let ours = slot::find_slot(run.session(side), name)?;
    if let Some(slot) = &ours {
        if !slot.here {
            let message = format!(
                "replication slot \"{name}\" exists for another database, \"{}\"",
                slot.database.as_deref().unwrap_or("none")
            );
            let hint = "One detour at a time can run on a server: finish that one, or clean it.";
            checked.fail("replication_slot", side.name(), message, hint);
        }
        return Ok(());
    }
    let server = read_server(run.session(side))?;
    if server.free_slots < 1 {
        let message = format!("all replication slots of the {side} are in use");
        let hint = "Drop an unused slot (see pg_replication_slots), or raise max_replication_slots and restart the server.";
        checked.fail("replication_slots", side.name(), message, hint);
    }
    if server.free_senders < 1 {
        let message = format!("all WAL senders of the {side} are in use");
        checked.fail("wal_senders", side.name(), message, "Raise max_wal_senders and restart the server.");
    }
    Ok(())
}

/// The target has a worker left for the subscription.
pub fn target_workers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.choice == Choice::Only(Carrier::Pgdetour)
        || subscription::find_subscription(run.target(), names::MIRROR_SUBSCRIPTION)?.is_some()
    {
        return Ok(());
    }
    let server = read_server(run.target())?;
    if server.free_logical_workers < 1 {
        let hint = "Raise max_logical_replication_workers and restart the server.";
        checked.fail(
            "replication_workers",
            "target",
            "all logical replication workers of the target are in use",
            hint,
        );
    }
    if server.free_origins < 1 {
        let hint =
            "Raise max_replication_slots (max_active_replication_origins from 18 on) and restart the server.";
        checked.fail(
            "replication_origins",
            "target",
            "all replication origins of the target are in use",
            hint,
        );
    }
    Ok(())
}

/// How the target's server reaches the source is a connection string; a mistake in it would show only after the copy.
pub fn source_conninfo(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let parsed = run.config.target.source_conninfo.as_deref().map(Conninfo::parse);
    if let Some(Err(error)) = parsed {
        let hint = error.hint().unwrap_or_else(|| "Write it as for psql.".into());
        checked.fail("source_conninfo", "target.source_conninfo", error.to_string(), hint);
    }
    Ok(())
}

/// A `pg_dump` of the newer server's major is here, when the schema is to be dumped.
pub fn pg_dump(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.schema == SchemaMode::Existing {
        return Ok(());
    }
    let major = run.source().version.max(run.target().version) / 10_000;
    if let Err(error) = program::find_pg_dump(major) {
        let hint = error.hint().unwrap_or_default();
        checked.fail("pg_dump", "pg_dump", error.to_string(), hint);
    }
    Ok(())
}

/// What keeps the mirror current is there, and not stuck.
pub fn mirror_is_running(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.carrier()? == Carrier::Subscription {
        subscription_is_running(run, checked)?;
    }
    let source = mirror::source(run);
    if source == ChangeSource::Triggers {
        if let Err(error) = source.require_intact(run.source()) {
            let hint = "Changes that were not recorded are not on the target. Run pgdetour clean, then mirror again.";
            checked.fail("mirror", &source.describe(), error.to_string(), hint);
        }
        return Ok(());
    }
    mirror_slot_is_intact(run, checked)
}

/// What recording by triggers costs, and what it cannot see.
pub fn trigger_cost(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let (mirror, capture) = (run.config.mirror.method, run.config.capture.method);
    let sides = [(Side::Source, "mirror.method", mirror), (Side::Target, "capture.method", capture)];
    for (side, key, _) in sides.into_iter().filter(|(_, _, method)| *method == CaptureMethod::Trigger) {
        checked.warn(
            "trigger_cost",
            side.name(),
            format!("{key} = \"trigger\" writes every change on the {side} a second time, in the transaction that makes it"),
            "Expect a half to a fifth of the speed in bulk writes, and as much WAL again. With wal_level = logical, \"wal\" costs next to nothing.",
        );
        for row in run.session(side).query(&sql::capture::LIST_NESTING, &[])? {
            let table: &str = row.get("table_name");
            checked.warn(
                "trigger_order",
                table,
                format!(
                    "{} may change rows of \"{table}\" that its statement changes too",
                    row.get::<_, &str>("what")
                ),
                "Triggers cannot tell which of the two came first. If a statement can do that, use \"wal\".",
            );
        }
    }
    Ok(())
}

fn subscription_is_running(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let object = names::MIRROR_SUBSCRIPTION;
    let Some(found) = subscription::find_subscription(run.target(), names::MIRROR_SUBSCRIPTION)? else {
        checked.fail(
            "mirror",
            object,
            "the mirror's subscription is missing",
            "Run pgdetour clean, then mirror again.",
        );
        return Ok(());
    };
    if !found.enabled {
        let hint = "Run pgdetour mirror: it lets the subscription go on.";
        checked.fail("mirror", object, "the mirror's subscription is disabled", hint);
    } else if found.worker_pid.is_none() {
        let hint =
            "The target's server log tells why its worker ends; often a conflicting row or a changed schema.";
        checked.fail("mirror", object, "the mirror's apply worker does not run", hint);
    }
    Ok(())
}

fn mirror_slot_is_intact(run: &mut Run, checked: &mut Checked) -> Result<()> {
    match slot::find_slot(run.source(), names::MIRROR_SLOT)? {
        Some(slot) if slot.is_lost() => {
            let hint = "The WAL that it needed is gone. Run pgdetour clean, then mirror again.";
            checked.fail("mirror", names::MIRROR_SLOT, "the mirror's slot on the source is lost", hint);
        }
        Some(_) => {}
        None => {
            let hint =
                "Changes since it was dropped are not on the target. Run pgdetour clean, then mirror again.";
            checked.fail("mirror", names::MIRROR_SLOT, "the mirror's slot on the source is missing", hint);
        }
    }
    Ok(())
}

/// What holds what users have written since cutover is there, with all of it.
pub fn capture_is_intact(run: &mut Run, checked: &mut Checked) -> Result<()> {
    debug_assert!(matches!(run.phase(), Phase::Detoured | Phase::CuttingBack));
    if let Err(error) = capture::source(run).require_intact(run.target()) {
        checked.fail(
            "capture",
            &capture::source(run).describe(),
            error.to_string(),
            error.hint().unwrap_or_else(|| "See pg_replication_slots on the target.".into()),
        );
    }
    Ok(())
}
