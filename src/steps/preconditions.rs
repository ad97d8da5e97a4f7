//! What has to hold before a command acts: all findings of one run, never only the first.

#![allow(clippy::unnecessary_wraps, reason = "all checks have one signature")]

mod parts;
mod privileges;
mod servers;
mod tables;
mod traffic;

use crate::error::{Checked, Error, Result};
use crate::phase::Phase;
use crate::steps::{Run, inventory};

/// One group of preconditions.
type Check = fn(&mut Run, &mut Checked) -> Result<()>;

/// What `mirror` needs.
pub const MIRROR: &[Check] = &[
    servers::versions,
    servers::not_in_recovery,
    servers::encodings,
    servers::source_wal_level,
    servers::source_slots,
    servers::trigger_cost,
    servers::target_workers,
    servers::pg_dump,
    privileges::source,
    privileges::target,
    tables::selected,
    tables::replica_identity,
    tables::target_is_empty,
    tables::existing_schema_fits,
    parts::fit,
    parts::unchanged,
    inventory::check,
];

/// What our own runs need to keep a mirror current.
pub const FOLLOW: &[Check] = &[servers::mirror_is_running, tables::schema_unchanged];

/// What `capture` needs before cutover.
pub const CAPTURE: &[Check] = &[
    servers::not_in_recovery,
    servers::target_wal_level,
    servers::target_slots,
    privileges::capture,
    tables::captured_identity,
];

/// What `cutover` needs, beside what `capture` does.
pub const CUTOVER: &[Check] = &[
    servers::mirror_is_running,
    tables::schema_unchanged,
    parts::unchanged,
    privileges::replay,
    traffic::roles_named,
    traffic::roles_on_target,
    traffic::source_fence,
    traffic::router,
    traffic::source_sessions,
];

/// What `replay` needs.
pub const REPLAY: &[Check] =
    &[servers::not_in_recovery, servers::capture_is_intact, privileges::replay, tables::mapping];

/// What `cutback` needs, beside what `replay` does.
pub const CUTBACK: &[Check] =
    &[tables::quarantine_is_empty, traffic::roles_named, traffic::target_fence, traffic::router];

impl Run {
    /// Runs groups of checks; their warnings are told, and any failure refuses the command.
    pub fn require(&mut self, groups: &[&[Check]]) -> Result<()> {
        let checked = self.check_all(groups)?;
        for warning in &checked.warnings {
            self.warn(format!("{}: {}. {}", warning.object, warning.message, warning.hint));
        }
        if checked.failures.is_empty() {
            return Ok(());
        }
        Err(Error::ChecksFailed { findings: checked.failures })
    }

    /// Runs groups of checks and gathers everything that they find.
    pub fn check_all(&mut self, groups: &[&[Check]]) -> Result<Checked> {
        let mut checked = Checked::default();
        for check in groups.iter().flat_map(|group| group.iter()) {
            check(self, &mut checked)?;
        }
        Ok(checked)
    }
}

/// What comparing needs.
pub const PARTS: &[Check] = &[parts::unchanged];

/// The groups that still matter in a phase, for `check`.
pub fn ahead_of(phase: Phase) -> &'static [&'static [Check]] {
    match phase {
        Phase::Absent | Phase::Mirroring => &[MIRROR, CAPTURE, &CUTOVER_AHEAD],
        Phase::Mirrored | Phase::CuttingOver => &[CAPTURE, CUTOVER],
        Phase::Detoured | Phase::CuttingBack => &[REPLAY, CUTBACK],
        Phase::Returned => &[],
    }
}

/// What of cutover's needs can be said before there is a mirror.
const CUTOVER_AHEAD: [Check; 5] = [
    privileges::replay,
    traffic::roles_named,
    traffic::roles_on_target,
    traffic::source_fence,
    traffic::router,
];
