//! What has to hold before a command acts: all findings of one run, never only the first.

#![allow(clippy::unnecessary_wraps, reason = "all checks have one signature")]

mod collations;
mod firing;
mod logins;
mod partitions;
mod parts;
mod privileges;
mod retention;
mod rights;
mod servers;
mod tables;
pub mod traffic;
mod unmirrored;

use crate::error::{Checked, Error, Result, ServerError};
use crate::phase::{Command, Phase};
use crate::routers;
use crate::steps::Run;
use crate::steps::mirror::{drift, inventory, stages};
pub use tables::QUARANTINE_HINT;

/// Finds out whether one precondition holds.
type Check = fn(&mut Run, &mut Checked) -> Result<()>;

/// One precondition: its path here, whose last word is its name, and what finds out.
pub type Precondition = (&'static str, Check);

macro_rules! group {
    ($($check:path),* $(,)?) => { &[$((stringify!($check), $check as Check)),*] };
}

/// What `mirror` needs.
pub const MIRROR: &[Precondition] = group![
    servers::versions,
    servers::not_in_recovery,
    servers::encodings,
    collations::collation_versions,
    servers::source_wal_level,
    servers::source_slots,
    servers::slot_names,
    retention::source_keeps_wal,
    servers::trigger_cost,
    servers::free_workers,
    servers::array_nulls,
    servers::transaction_timeout,
    servers::backup_publishes,
    servers::backup_can_follow,
    stages::unchanged,
    servers::source_conninfo,
    servers::pg_dump,
    privileges::source,
    privileges::target,
    privileges::backup,
    tables::selected,
    tables::excluded_partitions,
    tables::replica_identity,
    tables::target_is_empty,
    tables::nothing_lacking,
    tables::existing_schema_fits,
    tables::emptied_partitions,
    partitions::foreign_partitions,
    partitions::hashed_alike,
    firing::mirror_triggers,
    firing::mirror_rules,
    parts::parts_fit,
    parts::parts_unchanged,
    inventory::objects,
    inventory::newer_features,
];

/// What our own runs need to keep a mirror current.
pub const FOLLOW: &[Precondition] = group![servers::mirror_is_running, tables::schema_as_mirrored];

/// What a mirror needs that is to go on by itself.
pub const INTACT: &[Precondition] = group![servers::mirror_is_intact];

/// What a mirror needs that is current.
pub const RUNNING: &[Precondition] = group![servers::mirror_is_running];

/// What a copy needs that goes on, or has been made.
pub const UNCHANGED: &[Precondition] = group![tables::schema_as_mirrored];

/// What of the schema may have changed on the source since it was mirrored.
pub const AS_MIRRORED: &[Precondition] = group![
    tables::followed,
    tables::schema_unchanged,
    tables::still_on_the_source,
    drift::objects_as_mirrored
];

/// What `capture` needs before cutover.
pub const CAPTURE: &[Precondition] = group![
    servers::not_in_recovery,
    servers::target_wal_level,
    servers::target_slots,
    servers::slot_names,
    privileges::capture,
    tables::captured_identity,
];

/// What `cutover` needs, beside what `capture` does.
pub const CUTOVER: &[Precondition] = group![
    stages::unchanged,
    servers::mirror_is_running,
    servers::transaction_timeout,
    servers::backup_can_follow,
    tables::followed,
    tables::schema_unchanged,
    tables::emptied_partitions,
    tables::still_on_the_source,
    drift::objects_as_mirrored,
    tables::all_have_a_place,
    unmirrored::written_by_users,
    firing::mirror_triggers,
    firing::mirror_rules,
    tables::materialized_views,
    parts::parts_unchanged,
    privileges::replay,
    traffic::roles_named,
    logins::roles_log_in,
    traffic::roles_on_target,
    logins::logins_on_target,
    rights::rights_on_target,
    rights::rights_of_limited_role,
    traffic::source_fence,
    traffic::worth_of_the_fence,
    traffic::restrictions_in_force,
    traffic::router,
    traffic::source_sessions,
    traffic::source_writers,
    traffic::source_session_state,
    traffic::source_direct_sessions,
];

/// What `replay` needs.
pub const REPLAY: &[Precondition] = group![
    servers::not_in_recovery,
    servers::capture_is_intact,
    tables::all_recorded,
    traffic::source_stays_fenced,
    privileges::replay,
    tables::mapping,
    privileges::replayed_tables,
    firing::source_triggers,
];

/// What `capture` needs while the target serves.
pub const RECORDED: &[Precondition] = group![tables::all_recorded];

/// What makes of the old rows new ones.
pub const MAPPING: &[Precondition] = group![tables::mapping, privileges::replayed_tables];

/// What a recording that is begun anew needs, beside what `capture` does.
pub const CAPTURE_ANEW: &[Precondition] =
    group![privileges::replay, tables::mapping, privileges::replayed_tables];

/// What `cutback` needs, beside what `replay` does.
pub const CUTBACK: &[Precondition] = group![
    tables::quarantine_is_empty,
    tables::sequences,
    rights::rights_on_source,
    traffic::roles_named,
    traffic::target_fence,
    traffic::router,
    traffic::way_home,
    traffic::target_sessions,
    traffic::target_writers,
    traffic::target_session_state,
    traffic::target_direct_sessions,
];

impl Run {
    /// Runs groups of checks; their warnings are told, and any failure refuses the command.
    pub fn require(&mut self, groups: &[&[Precondition]]) -> Result<()> {
        let checked = self.check_all(groups)?;
        for warning in &checked.warnings {
            self.warn(format!("{}: {}. {}", warning.object, warning.message, warning.hint));
        }
        match checked.failures.as_slice() {
            [] => Ok(()),
            // It answered when the command began, so that there is nothing to mend: the same call does it.
            [only] if only.check == routers::REACHABLE => Err(Error::Unreachable {
                what: only.object.clone(),
                cause: ServerError::lost(only.message.clone()),
            }),
            _ => Err(Error::ChecksFailed { findings: checked.failures }),
        }
    }

    /// Runs groups of checks and gathers everything that they find.
    pub fn check_all(&mut self, groups: &[&[Precondition]]) -> Result<Checked> {
        let mut checked = Checked::default();
        // Most of them ask for the tables, which takes its time where there are thousands.
        self.looking_once(|run| {
            let mut checks = groups.iter().flat_map(|group| group.iter());
            checks.try_for_each(|(_, check)| check(run, &mut checked))
        })?;
        Ok(checked)
    }
}

/// What comparing needs.
pub const PARTS: &[Precondition] = group![parts::parts_unchanged];

/// The steps that lie ahead in a phase, with as much of what they need as can be found out by now.
pub fn ahead_of(phase: Phase) -> &'static [(Command, &'static [Precondition])] {
    use Command::{Capture, Cutback, Cutover, Mirror, Replay, Restrict};
    match phase {
        Phase::Absent | Phase::Mirroring => &[
            (Mirror, MIRROR),
            (Capture, CAPTURE),
            (Cutover, CUTOVER_AHEAD),
            (Restrict, RESTRICT),
            (Cutback, CUTBACK_AHEAD),
        ],
        Phase::Mirrored | Phase::CuttingOver => &[
            (Restrict, RESTRICT),
            (Capture, CAPTURE),
            (Cutover, CUTOVER),
            (Replay, MAPPING),
            (Cutback, CUTBACK_AHEAD),
        ],
        Phase::Detoured | Phase::CuttingBack => &[(Restrict, RESTRICT), (Replay, REPLAY), (Cutback, CUTBACK)],
        Phase::Returned => &[],
    }
}

/// What a fence needs that stands on the target from `mirror` on.
pub const STANDING_FENCE: &[Precondition] =
    group![traffic::roles_named, traffic::roles_on_target, traffic::target_fence];

/// What `restrict` needs.
const RESTRICT: &[Precondition] = group![traffic::restrictions];

/// What of cutover's needs can be said before there is a mirror.
const CUTOVER_AHEAD: &[Precondition] = group![
    privileges::replay,
    traffic::roles_named,
    logins::roles_log_in,
    traffic::roles_on_target,
    logins::logins_on_target,
    rights::rights_on_target,
    traffic::source_fence,
    traffic::worth_of_the_fence,
    traffic::router,
    traffic::source_sessions,
];

/// What of cutback's needs can be said before the target serves.
const CUTBACK_AHEAD: &[Precondition] = group![traffic::target_fence, traffic::target_sessions];
