//! Versions, settings and room on the servers, and the state of the flows between them.

use std::time::Duration;

use crate::config::{CaptureMethod, SchemaMode};
use crate::error::{Checked, Result};
use crate::flow::source::{publication, slot};
use crate::flow::{ChangeSource, subscription};
use crate::pg::Conninfo;
use crate::pg::catalog::facts::read_own_role;
use crate::pg::catalog::inventory::{DatabaseSetting, is_true, list_database_settings};
use crate::pg::dump::program;
use crate::phase::{Phase, Place, Side};
use crate::sql;
use crate::steps::Run;
use crate::steps::mirror::carrier::Choice;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::Carrier;
use crate::steps::run::names;

/// The majors that are supported: the oldest has what pgoutput needs here, the newest is what was tested.
const MAJORS: std::ops::RangeInclusive<i32> = 14..=18;

/// PostgreSQL 14 to 18.
pub fn versions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for place in run.places() {
        let server = run.server_facts(place)?;
        let major = server.version / 10_000;
        if !MAJORS.contains(&major) {
            let message = format!("the {place} runs PostgreSQL {}", server.version_text);
            let hint = format!("Versions {} to {} are supported.", MAJORS.start(), MAJORS.end());
            checked.fail("server_version", place.name(), message, hint);
        }
    }
    Ok(())
}

/// None is a standby.
pub fn not_in_recovery(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for place in run.places() {
        if run.server_facts(place)?.in_recovery {
            let message = format!("the {place} is a standby in recovery");
            let hint = "Connect to the primary: add target_session_attrs=read-write to the conninfo.";
            checked.fail("in_recovery", place.name(), message, hint);
        }
    }
    Ok(())
}

/// Text means the same everywhere.
pub fn encodings(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let source = run.database_facts(Side::Source)?;
    let collation = |database: &crate::pg::catalog::facts::DatabaseFacts| {
        (database.provider.clone(), database.collate.clone(), database.ctype.clone(), database.locale.clone())
    };
    for place in run.places().into_iter().filter(|place| *place != Place::Source) {
        let other = run.database_facts(place)?;
        if source.encoding != other.encoding {
            let message =
                format!("the source's encoding is {}, the {place}'s is {}", source.encoding, other.encoding);
            let hint = format!(
                "Create the {place}'s database with ENCODING '{}' TEMPLATE template0.",
                source.encoding
            );
            checked.fail("encoding", place.name(), message, hint);
        }
        if collation(&source) != collation(&other) {
            let message = format!(
                "text sorts differently: collation \"{}\" on the source, \"{}\" on the {place}",
                source.collate, other.collate
            );
            checked.warn(
                "collation",
                place.name(),
                message,
                "ORDER BY and unique indexes on text may behave differently there.",
            );
        }
    }
    Ok(())
}

/// The source can decode its WAL, where that is how changes are recorded there.
pub fn source_wal_level(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.method == CaptureMethod::Trigger {
        return Ok(());
    }
    wal_level(run, checked, Place::Source)
}

/// The backup can decode its WAL for the second stage, and has room for it.
pub fn backup_publishes(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if !run.places().contains(&Place::Backup) {
        return Ok(());
    }
    wal_level(run, checked, Place::Backup)?;
    slots(run, checked, Place::Backup, names::STAGE_SLOT)
}

/// The target can decode its WAL for the backup, and has room for that beside capture.
pub fn backup_can_follow(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if !run.has_backup() {
        return Ok(());
    }
    if run.config.capture.method == CaptureMethod::Trigger {
        wal_level(run, checked, Place::Target)?;
    }
    slots(run, checked, Place::Target, names::BACKUP_SLOT)
}

/// The target can decode its WAL, where that is how changes are recorded there.
pub fn target_wal_level(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.capture.method == CaptureMethod::Trigger {
        return Ok(());
    }
    wal_level(run, checked, Place::Target)
}

fn wal_level(run: &mut Run, checked: &mut Checked, place: Place) -> Result<()> {
    let server = run.server_facts(place)?;
    if server.wal_level != "logical" {
        let message =
            format!("wal_level is \"{}\" on the {place}, and must be \"logical\"", server.wal_level);
        let hint = "Run ALTER SYSTEM SET wal_level = 'logical'; then restart the server.";
        checked.fail("wal_level", place.name(), message, hint);
    }
    Ok(())
}

/// The mirror's slot is there, or there is room for it.
pub fn source_slots(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.method == CaptureMethod::Trigger {
        return Ok(());
    }
    slots(run, checked, Place::Source, names::MIRROR_SLOT)
}

/// Capture's slot is there, or there is room for it.
pub fn target_slots(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.capture.method == CaptureMethod::Trigger {
        return Ok(());
    }
    slots(run, checked, Place::Target, names::CAPTURE_SLOT)
}

/// No other database has a slot of a name that this trip will need, now or later: a server has each name once.
pub fn slot_names(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let by_wal = |method| method == CaptureMethod::Wal;
    let names = [
        (Place::Source, names::MIRROR_SLOT, by_wal(run.config.mirror.method)),
        (Place::Backup, names::STAGE_SLOT, run.has_backup()),
        (Place::Target, names::CAPTURE_SLOT, by_wal(run.config.capture.method)),
        (Place::Target, names::BACKUP_SLOT, run.has_backup()),
    ];
    let there = run.places();
    for (place, name, _) in names.into_iter().filter(|(place, _, needed)| *needed && there.contains(place)) {
        if let Some(foreign) = slot::find_foreign_slot(run.session(place), name)? {
            checked.fail("replication_slot", place.name(), foreign.message(), foreign.hint());
        }
    }
    Ok(())
}

fn slots(run: &mut Run, checked: &mut Checked, place: Place, name: &str) -> Result<()> {
    let session = run.session(place);
    // Whose it is, [`slot_names`] looks at.
    if slot::find_slot(session, name)?.is_some() || slot::find_foreign_slot(session, name)?.is_some() {
        return Ok(());
    }
    let server = run.server_facts(place)?;
    if server.free_slots < 1 {
        let message = format!("all replication slots of the {place} are in use");
        let hint = "Drop an unused slot (see pg_replication_slots), or raise max_replication_slots and restart the server.";
        checked.fail("replication_slots", place.name(), message, hint);
    }
    if server.free_senders < 1 {
        let message = format!("all WAL senders of the {place} are in use");
        checked.fail("wal_senders", place.name(), message, "Raise max_wal_senders and restart the server.");
    }
    Ok(())
}

/// Every subscriber has a worker left for its subscription.
pub fn free_workers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.choice == Choice::Only(Carrier::Pgdetour) {
        return Ok(());
    }
    for stage in run.stages() {
        let place = stage.subscriber();
        if subscription::find_subscription(run.session(place), names::MIRROR_SUBSCRIPTION)?.is_some() {
            continue;
        }
        let server = run.server_facts(place)?;
        if server.free_logical_workers < 1 {
            let message = format!("all logical replication workers of the {place} are in use");
            let hint = "Raise max_logical_replication_workers and restart the server.";
            checked.fail("replication_workers", place.name(), message, hint);
        }
        if server.free_origins < 1 {
            let message = format!("all replication origins of the {place} are in use");
            let hint = "Raise max_replication_slots (max_active_replication_origins from 18 on) and restart the server.";
            checked.fail("replication_origins", place.name(), message, hint);
        }
    }
    Ok(())
}

/// A subscription's worker reads arrays as the database or its owner sets it, and tells nobody that NULL became a text.
pub fn array_nulls(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.choice == Choice::Only(Carrier::Pgdetour) {
        return Ok(());
    }
    for place in run.stages().iter().map(|stage| stage.subscriber()) {
        let role = read_own_role(run.session(place))?.name;
        if worker_settings(run, place, &role, "array_nulls")?.iter().all(|value| is_true(value)) {
            continue;
        }
        let database = run.session(place).database.clone();
        let message = format!(
            "array_nulls is off in the {place}'s database or is to be, and a subscription there would make texts of the NULLs in arrays"
        );
        let hint = format!(
            "Run ALTER ROLE {} IN DATABASE {} SET array_nulls = on; on the {place}, for the role that owns the subscription; or set \
             mirror.carrier = \"pgdetour\".",
            sql::quote_identifier(&role),
            sql::quote_identifier(&database)
        );
        checked.fail("array_nulls", place.name(), message, hint);
    }
    Ok(())
}

/// Nothing ends a subscription in the middle of each transaction that takes longer, which it then begins for ever anew: neither its
/// worker nor the walsender that it reads from says so to anybody but the log.
pub fn transaction_timeout(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let stands = matches!(run.phase(), Phase::Mirrored | Phase::CuttingOver);
    let is_ours = if stands {
        run.carrier()? == Carrier::Pgdetour
    } else {
        run.choice == Choice::Only(Carrier::Pgdetour)
    };
    if is_ours {
        return Ok(());
    }
    let there = run.places();
    for stage in run.stages().iter().filter(|stage| there.contains(&stage.subscriber())) {
        let owner = read_own_role(run.session(stage.subscriber()))?.name;
        // One that cannot be read is another check's.
        let reader = run.conninfo_of(*stage).map(|conninfo| conninfo.user().to_owned());
        let ends = [
            (stage.subscriber(), Some(owner), "owns the subscription"),
            (stage.publisher(), reader.ok(), "the subscription connects as"),
        ];
        for (place, role, what) in ends {
            let Some(role) = role.filter(|_| there.contains(&place)) else { continue };
            let values = worker_settings(run, place, &role, "transaction_timeout")?;
            if values.iter().all(|value| is_zero(value)) {
                continue;
            }
            let database = run.session(place).database.clone();
            let message = format!(
                "transaction_timeout is set on the {place} or is to be, and would end a subscription in the middle of each transaction \
                 that takes longer, again and again"
            );
            let hint = format!(
                "Run ALTER ROLE {} IN DATABASE {} SET transaction_timeout = 0; on the {place}, for the role that {what}; or set \
                 mirror.carrier = \"pgdetour\".",
                sql::quote_identifier(&role),
                sql::quote_identifier(&database)
            );
            checked.fail("transaction_timeout", place.name(), message, hint);
        }
    }
    Ok(())
}

/// Whether a time is none, in whatever unit.
fn is_zero(time: &str) -> bool {
    time.trim_end_matches(char::is_alphabetic).trim().parse() == Ok(0.0)
}

/// What a parameter is for sessions of `role` that nobody tells otherwise, now and once the mirror has given the target what the
/// source's database sets; nothing where the server does not know it.
fn worker_settings(run: &mut Run, place: Place, role: &str, name: &str) -> Result<Vec<String>> {
    let row = run.session(place).query_opt(&sql::catalog::FIND_STANDING_SETTING, &[&name, &role])?;
    let Some(row) = row else { return Ok(Vec::new()) };
    let mut values = vec![row.get("value")];
    let applies =
        |setting: &DatabaseSetting| setting.name == name && setting.role.as_ref().is_none_or(|of| of == role);
    // It gets none where it sets that itself.
    let is_copied = place == Place::Target
        && run.config.mirror.schema == SchemaMode::Dump
        && !list_database_settings(run.session(place))?.iter().any(applies);
    if is_copied {
        let copied = list_database_settings(run.source())?.into_iter().filter(applies);
        values.extend(copied.map(|setting| setting.value));
    }
    Ok(values)
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
    let newest = run.places().into_iter().map(|place| run.session(place).version).max();
    let major = newest.unwrap_or_default() / 10_000;
    if let Err(error) = program::find_pg_dump(major) {
        let hint = error.hint().unwrap_or_default();
        checked.fail("pg_dump", "pg_dump", error.to_string(), hint);
    }
    Ok(())
}

/// What keeps the mirror current is there, and not stuck.
pub fn mirror_is_running(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if let Some(place) = absent_end(run) {
        let hint = "Start it, or correct how pgdetour reaches it.";
        checked.fail("mirror", place.name(), format!("the {place} cannot be reached"), hint);
        return Ok(());
    }
    if run.carrier()? == Carrier::Subscription {
        for stage in run.stages() {
            subscription_is_running(run, *stage, checked)?;
        }
    }
    mirror_is_intact(run, checked)
}

/// What the mirror reads on the publishers' side is there, with all of it.
pub fn mirror_is_intact(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if absent_end(run).is_some() {
        return Ok(());
    }
    let source = Stage::Whole.changes(run.config.mirror.method);
    if source == ChangeSource::Triggers {
        if let Err(error) = source.require_intact(run.source()) {
            let hint = "Changes that were not recorded are not on the target. Run pgdetour clean, then mirror again.";
            checked.fail("mirror", &source.describe(), error.to_string(), hint);
        }
        return Ok(());
    }
    run.stages().iter().try_for_each(|stage| mirror_slot_is_intact(run, *stage, checked))
}

/// A server of the mirror's that is not reached.
fn absent_end(run: &Run) -> Option<Place> {
    let there = run.places();
    let ends = run.stages().iter().flat_map(|stage| [stage.publisher(), stage.subscriber()]);
    ends.into_iter().find(|end| !there.contains(end))
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
                    "{} may give a row of \"{table}\" a key that its statement takes from another one",
                    row.get::<_, &str>("what")
                ),
                "Triggers cannot tell which of the two came first. If a statement can do that, use \"wal\".",
            );
        }
    }
    Ok(())
}

/// How long a server may take to start an apply worker: twice what it waits for after the last one, by default.
const WORKER_START: Duration = Duration::from_secs(10);

fn subscription_is_running(run: &mut Run, stage: Stage, checked: &mut Checked) -> Result<()> {
    let (object, place) = (names::MIRROR_SUBSCRIPTION, stage.subscriber());
    let found = subscription::find_running_subscription(run.session(place), object, WORKER_START)?;
    let Some(found) = found else {
        checked.fail(
            "mirror",
            object,
            format!("the mirror's subscription on the {place} is missing"),
            "Run pgdetour clean, then mirror again.",
        );
        return Ok(());
    };
    if !found.enabled {
        let hint = "Run pgdetour mirror: it lets the subscription go on.";
        let message = format!("the mirror's subscription on the {place} is disabled");
        checked.fail("mirror", object, message, hint);
    } else if found.worker_pid.is_none() {
        let hint = subscription::log_tells(place);
        let message = format!("the mirror's apply worker does not run on the {place}");
        checked.fail("mirror", object, message, hint);
    }
    Ok(())
}

fn mirror_slot_is_intact(run: &mut Run, stage: Stage, checked: &mut Checked) -> Result<()> {
    let (slot, place) = (stage.slot(), stage.publisher());
    match slot::find_slot(run.session(place), slot)? {
        Some(found) if found.is_lost() => {
            let hint = "The WAL that it needed is gone. Run pgdetour clean, then mirror again.";
            checked.fail("mirror", slot, format!("the mirror's slot on the {place} is lost"), hint);
        }
        Some(_) if publication::list_published(run.session(place), names::MIRROR_PUBLICATION)?.is_none() => {
            let hint = "Without it nothing can be read that was written since it was dropped. Run pgdetour clean, then mirror again.";
            let message = format!("the mirror's publication on the {place} is missing");
            checked.fail("mirror", names::MIRROR_PUBLICATION, message, hint);
        }
        Some(_) => {}
        None => {
            let hint =
                "Changes since it was dropped are not on the target. Run pgdetour clean, then mirror again.";
            checked.fail("mirror", slot, format!("the mirror's slot on the {place} is missing"), hint);
        }
    }
    Ok(())
}

/// What holds what users have written since cutover is there, with all of it.
pub fn capture_is_intact(run: &mut Run, checked: &mut Checked) -> Result<()> {
    debug_assert!(matches!(run.phase(), Phase::Detoured | Phase::CuttingBack));
    if let Err(error) = run.recording().require_intact(run.target()) {
        let message = match error.detail() {
            Some(detail) => format!("{error}: {detail}"),
            None => error.to_string(),
        };
        checked.fail(
            "capture",
            &run.recording().describe(),
            message,
            error.hint().unwrap_or_else(|| "See pg_replication_slots on the target.".into()),
        );
    }
    Ok(())
}
