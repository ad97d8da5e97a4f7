//! Removes every object that pgdetour made, wherever it is, found by its fixed name.

use serde_json::{Value, json};

use crate::config::FenceKind;
use crate::error::{Error, Finding, Result};
use crate::flow::behind::list_behind;
use crate::flow::copy;
use crate::pg::catalog::emptiness::{Emptiness, list_names, restore_emptiness};
use crate::pg::{fence, record, restriction};
use crate::phase::{Phase, Place, Side};
use crate::routers::Routers;
use crate::steps::mirror::{backup, inventory};
use crate::steps::run::facts::Facts;
use crate::steps::run::open::record_lost;
use crate::steps::{Needs, Run, capture, mirror, restrict};

/// How many objects that are not ours are named.
const NAMED: usize = 20;

/// What becomes of the copies on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Before cutover they are dropped: the abort leaves the target as it was found, empty. Later they stay.
    ByPhase,
    /// They are dropped.
    Drop,
    /// They stay.
    Keep,
}

/// What `clean` is to do beyond removing our objects.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Leave traffic on the target for good.
    pub stay: bool,
    /// The target's copies.
    pub copies: Copies,
}

/// Runs the command; its report.
pub fn run(run: &mut Run, extent: Extent) -> Result<Value> {
    open(run, extent)?;
    let phase = run.phase();
    refuse_loss(phase, extent)?;
    let lost = run.find_lost_record()?;
    if let Some(told) = lost.filter(|_| !extent.stay) {
        return Err(record_lost(told));
    }
    let orphans = run.find_orphans()?;
    if run.detour.is_none() && orphans.is_empty() {
        return Ok(json!({ "removed": [], "copies_dropped": false }));
    }
    // Before anything is removed: what keeps the last of it from going would leave the rest of the detour behind.
    let findings = restriction::check_removal(run.target())?;
    if !findings.is_empty() {
        return Err(Error::ChecksFailed { findings });
    }
    // As the record has it, which is about to go.
    let serving = run.detour.is_some().then(|| run.serving());
    let before = copies_to_drop(run, phase, extent.copies)?;
    let mut question = match (phase, &before) {
        (Phase::Detoured, _) => "make the target the new home and forget the way back",
        _ if lost.is_some() => "make the target the new home and forget the way back",
        (_, Some(_)) => "remove everything that pgdetour made, the copies on the target included",
        _ => "remove everything that pgdetour made",
    }
    .to_owned();
    if let Some(before) = &before {
        question += &with_what_is_not_ours(run, before, extent.copies)?;
    }
    run.confirm(&question)?;
    if lost.is_some() {
        tell_of_closed_source(run);
    }
    run.part_way = !run.plan.is_dry();
    take_back_proof(run);
    let has_source = run.answering(Side::Source).is_some();
    if has_source {
        run.step("drop the mirror flow", |run| {
            let drop_flow = |run: &mut Run| backup::sparing(run, mirror::drop_flow);
            // While the target serves, it is gone already, and all that is needed is still there.
            if phase == Phase::Detoured { drop_flow(run) } else { removing(run, drop_flow) }
        })?;
    }
    if run.is_staged() || run.has_backup() {
        run.step("drop the backup's flow", |run| backup::sparing(run, backup::drop_flow))?;
        tell_of_backup(run, phase);
    }
    run.step("drop capture", |run| removing(run, capture::drop_flow))?;
    run.step("lift restrictions", lift)?;
    run.step("lower the fences", |run| lower_fences(run, phase))?;
    if let Some(before) = &before {
        run.step("drop the copies", |run| {
            inventory::remove_settings(run)?;
            let of_backup = run.facts()?.backup_before;
            let mut left = Vec::new();
            if let (Some(backup), Some(before)) = (run.answering(Place::Backup), of_backup) {
                left = restore_emptiness(backup, &before)?;
            }
            left.extend(restore_emptiness(run.target(), before)?);
            for statement in left {
                run.warn(format!("our role may not take back what the copy changed: run {statement};"));
            }
            Ok(())
        })?;
    }
    if extent.stay {
        run.step("check the sequences", check_sequences)?;
    }
    // The target's record goes last: as long as it is there, the same command goes on.
    if has_source {
        run.step("drop the record on the source", |run| record::drop_record(run.source()))?;
    }
    if run.answering(Place::Backup).is_some() {
        run.step("drop the record on the backup", |run| record::drop_record(run.session(Place::Backup)))?;
    }
    run.step("drop the record on the target", |run| {
        record::drop_record(run.target())?;
        if !run.plan.is_dry() {
            run.detour = None;
        }
        Ok(())
    })?;
    if !run.plan.is_dry() {
        run.changed = true;
        run.part_way = false;
        run.reported = serving.map(|serving| (Phase::Absent, Some(serving)));
    }
    Ok(json!({ "removed": orphans, "copies_dropped": before.is_some() }))
}

/// What somebody has made beside the copies, and would go with them: only who has said so drops it. As the question tells of it.
fn with_what_is_not_ours(run: &mut Run, before: &Emptiness, copies: Copies) -> Result<String> {
    let source = list_names(run.source())?;
    let of_backup = run.facts()?.backup_before;
    let mut found: Vec<(Place, String)> = Vec::new();
    for (place, before) in [(Place::Backup, of_backup.as_ref()), (Place::Target, Some(before))] {
        if let (Some(session), Some(before)) = (run.answering(place), before) {
            let foreign = copy::list_foreign(session, before, &source)?;
            found.extend(foreign.into_iter().map(|name| (place, name)));
        }
    }
    if found.is_empty() {
        return Ok(String::new());
    }
    if copies == Copies::ByPhase {
        let hint = "Move it elsewhere; or give --drop-data to drop it with the copies, or --keep-data to leave all that is there.";
        let finding = |(place, name): &(Place, String)| {
            let message = format!(
                "the {place} holds {name}, which pgdetour has not made: it would be dropped with the copies"
            );
            Finding::new("not_ours", name.clone(), message, hint)
        };
        let mut findings: Vec<Finding> = found.iter().take(NAMED).map(finding).collect();
        if let Some(more @ 1..) = found.len().checked_sub(NAMED) {
            findings.push(Finding::new("not_ours", "target", format!("{more} more like these"), hint));
        }
        return Err(Error::ChecksFailed { findings });
    }
    let names: Vec<&str> = found.iter().take(NAMED).map(|(_, name)| name.as_str()).collect();
    let more = found.len() - names.len();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let names = format!("{}{more}", names.join(", "));
    run.warn(format!("what pgdetour has not made goes with the copies: {names}"));
    Ok(format!(", and with them what it has not made: {names}"))
}

/// Without the record nobody knows how the source was open.
fn tell_of_closed_source(run: &mut Run) {
    let (roles, kind) = (run.config.general_roles(Side::Source), run.config.traffic.fence);
    if run.is_fenced(Side::Source) != Some(true) {
        return;
    }
    let database = run.source().database.clone();
    let opens = fence::opening_statements(kind, &roles, &database, None);
    run.warn(format!(
        "the source stays shut to \"{}\", and what was granted there before went with the record; {opens} there ends that when it is needed",
        roles.join("\", \"")
    ));
}

/// Takes away what cannot be had again. Before that it has `status` tell, should this run die, that the same command is to be run
/// again, and not that something is amiss. Where it fails and all is still there, no clean has begun, and the detour may go on.
fn removing(run: &mut Run, remove: impl FnOnce(&mut Run) -> Result<()>) -> Result<()> {
    let is_noted = run.facts()?.cleaning == Some(true);
    if run.detour.is_none() || is_noted {
        return remove(run);
    }
    let before = run.find_orphans()?;
    run.add_facts(&Facts { cleaning: Some(true), ..Facts::default() })?;
    let removed = remove(run);
    // Where that cannot be told, as on a connection that broke, the note stays.
    if removed.is_err() && run.find_orphans().is_ok_and(|left| left == before) {
        let taken_back = run.add_facts(&Facts { cleaning: Some(false), ..Facts::default() });
        if let Err(error) = taken_back {
            run.warn(format!("status will say that clean has begun, and nothing is removed: {error}"));
        }
    }
    removed
}

/// What a switch that was killed has left in a router's file. Where that cannot be read from here, this is not where the switch ran.
fn take_back_proof(run: &mut Run) {
    if let Err(error) = run.routers().and_then(Routers::take_back_proof)
        && !matches!(error, Error::Io { .. })
    {
        let hint = error.hint().map(|hint| format!(" {hint}")).unwrap_or_default();
        run.warn(format!("{}.{hint}", error.with_cause()));
    }
}

/// What becomes of the backup, where it is not as it was found.
fn tell_of_backup(run: &mut Run, phase: Phase) {
    if run.is_staged() && !run.has_backup() {
        run.warn(
            "target.backup_conninfo is not set any more: drop subscription \"pgdetour_mirror\" or \"pgdetour_backup\" and \
             schema \"pgdetour\" of the backup yourself",
        );
    } else if phase == Phase::Detoured {
        run.warn("the backup keeps its tables, and follows the target no more");
    }
}

/// Restrictions, the role that was made for them, and what observed them on either side.
fn lift(run: &mut Run) -> Result<()> {
    // Whatever was changed, this command is part way until it has ended.
    restriction::lift_all(run.target(), &mut false)?;
    restriction::stop_observing(run.target(), &mut false)?;
    if let Some(source) = run.answering(Side::Source) {
        restriction::stop_observing(source, &mut false)?;
    }
    // With --stay, general traffic goes on to arrive as the limited role.
    if run.phase() == Phase::Detoured {
        // Nothing of ours is to remove it some day.
        let mut roles = restriction::release_roles(run.target())?;
        let configured = run.config.restrict_role.iter().map(|role| role.name.clone());
        roles.extend(configured.filter(|name| !roles.contains(name)).collect::<Vec<_>>());
        for name in roles {
            run.warn(format!("role \"{name}\" stays, since general traffic uses it on the target"));
        }
        return Ok(());
    }
    restrict::remove_roles(run).map(drop)
}

/// Both sides; but a target that is to stay must not wait for a source that may never come back.
fn open(run: &mut Run, extent: Extent) -> Result<()> {
    if !extent.stay {
        return run.open(Needs::Both);
    }
    run.open(Needs::Target)?;
    match run.open_source() {
        Err(Error::Unreachable { cause, .. }) => {
            run.warn(format!(
                "the source cannot be reached ({cause}): what is left there goes with pgdetour clean once it can"
            ));
            Ok(())
        }
        other => other,
    }
}

/// The new home must not give a key twice.
fn check_sequences(run: &mut Run) -> Result<()> {
    for sequence in list_behind(run.target())? {
        run.warn(format!(
            "sequence \"{}\" is behind its column, which holds {}: run {}",
            sequence.name, sequence.furthest, sequence.fix
        ));
    }
    Ok(())
}

/// While detoured, what users have written is on the target alone: removing capture would lose it.
fn refuse_loss(phase: Phase, extent: Extent) -> Result<()> {
    match (phase, extent.stay) {
        (Phase::Detoured, false) => Err(Error::Refused {
            kind: "would_lose_changes",
            message: "the target serves, and its changes are not on the source".into(),
            detail: None,
            hint: "Run pgdetour cutback to bring traffic home first, or pgdetour clean --stay to make the target \
                   the new home."
                .into(),
        }),
        // Absent: it has stayed there already.
        (Phase::Detoured | Phase::Absent, true) | (_, false) => Ok(()),
        (_, true) => Err(Error::Refused {
            kind: "not_detoured",
            message: format!("the target does not serve in phase \"{phase}\", so it cannot stay in service"),
            detail: None,
            hint: "Run pgdetour clean without --stay.".into(),
        }),
    }
}

/// Restores who may connect and write. A source that was left behind for good stays fenced: nobody shall write there by mistake.
fn lower_fences(run: &mut Run, phase: Phase) -> Result<()> {
    let facts = run.facts()?;
    if let Some(fence) = &facts.target_fence {
        fence::lower(run.target(), fence)?;
    }
    match (&facts.source_fence, phase) {
        (Some(fence), Phase::Detoured) => {
            let roles = fence.roles.join("\", \"");
            // One that cannot be asked has the name that it is reached by.
            let database = match run.answering(Side::Source) {
                Some(source) => source.database.clone(),
                None => run.server(Side::Source).conninfo.dbname().to_owned(),
            };
            let state = match fence.kind {
                FenceKind::Closed => "closed to",
                FenceKind::ReadOnly => "read-only for",
            };
            let opens = fence::opening_statements(fence.kind, &fence.roles, &database, Some(fence));
            run.warn(format!(
                "the source stays {state} \"{roles}\"; {opens} there ends that when it is needed"
            ));
            Ok(())
        }
        (Some(fence), _) => fence::lower(run.source(), fence),
        (None, _) => Ok(()),
    }
}

/// What the target held before we filled it, when the copies are to go; only a schema that we made goes.
fn copies_to_drop(run: &mut Run, phase: Phase, copies: Copies) -> Result<Option<Emptiness>> {
    let wanted = match copies {
        Copies::ByPhase => matches!(phase, Phase::Mirroring | Phase::Mirrored),
        Copies::Drop => true,
        Copies::Keep => false,
    };
    let before = run.facts()?.target_before;
    if copies == Copies::Drop && before.is_none() {
        run.warn("the tables of the target were not made by pgdetour, so they stay");
    }
    Ok(before.filter(|_| wanted))
}
