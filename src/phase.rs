//! Where a detour is, who serves, and the one table of what may run when. Pure.

use std::fmt;

/// One of the two servers. The words never flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The live production database that is to be maintained.
    Source,
    /// The mirrored database that serves traffic during maintenance.
    Target,
}

impl Side {
    /// `source` or `target`.
    pub fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }

    /// The side across.
    pub fn other(self) -> Side {
        match self {
            Side::Source => Side::Target,
            Side::Target => Side::Source,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A database of the detour: one of its two sides, or the one between them, which never serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// [`Side::Source`].
    Source,
    /// [`Side::Target`].
    Target,
    /// The copy through which the mirror goes, and which follows the target while that serves.
    Backup,
}

impl Place {
    /// `source`, `target` or `backup`.
    pub fn name(self) -> &'static str {
        match self {
            Place::Source => "source",
            Place::Target => "target",
            Place::Backup => "backup",
        }
    }
}

impl From<Side> for Place {
    fn from(side: Side) -> Self {
        match side {
            Side::Source => Place::Source,
            Side::Target => Place::Target,
        }
    }
}

impl PartialEq<Side> for Place {
    fn eq(&self, side: &Side) -> bool {
        *self == Place::from(*side)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The side that general traffic uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Serving {
    /// Before cutover and after cutback.
    Source,
    /// While detoured.
    Target,
    /// Clients are held.
    Nobody,
}

impl From<Side> for Serving {
    fn from(side: Side) -> Self {
        match side {
            Side::Source => Serving::Source,
            Side::Target => Serving::Target,
        }
    }
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Serving::Source => "source",
            Serving::Target => "target",
            Serving::Nobody => "nobody",
        })
    }
}

/// Where the detour is. A present participle means that a run may have died there:
/// the same command run again goes on or takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No record: nothing was begun, or it was cleaned. Set by `clean`.
    Absent,
    /// `mirror` has begun and not finished. Set by `mirror`.
    Mirroring,
    /// The target is a copy, kept current. Set by `mirror`, and by `cutover` when taken back.
    Mirrored,
    /// `cutover` has begun to act on traffic. Set by `cutover`.
    CuttingOver,
    /// General traffic is on the target. Set by `cutover`.
    Detoured,
    /// `cutback` has begun to act on traffic. Set by `cutback`.
    CuttingBack,
    /// General traffic is home. Set by `cutback`.
    Returned,
}

impl Phase {
    /// All phases in the order of the trip.
    pub const ALL: [Phase; 7] = [
        Phase::Absent,
        Phase::Mirroring,
        Phase::Mirrored,
        Phase::CuttingOver,
        Phase::Detoured,
        Phase::CuttingBack,
        Phase::Returned,
    ];

    /// The word that the record, JSON and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Absent => "absent",
            Phase::Mirroring => "mirroring",
            Phase::Mirrored => "mirrored",
            Phase::CuttingOver => "cutting_over",
            Phase::Detoured => "detoured",
            Phase::CuttingBack => "cutting_back",
            Phase::Returned => "returned",
        }
    }

    /// The phase of this name.
    pub fn from_name(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// The commands that may run now, the natural next one first.
    pub fn next(self) -> Vec<Command> {
        let mut allowed: Vec<Command> =
            Command::ALL.into_iter().filter(|command| command.allowed_in(self)).collect();
        allowed.sort_by_key(|command| command.natural_in(self).map_or(u8::MAX, |rank| rank));
        allowed
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The commands, as far as phases are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Every precondition; changes nothing.
    Check,
    /// Copy, then keep the target up to date.
    Mirror,
    /// Limit access to designated tables.
    Restrict,
    /// Arm the recording of changes on the target.
    Capture,
    /// Move general traffic to the target.
    Cutover,
    /// Apply captured changes to the source.
    Replay,
    /// Move general traffic home.
    Cutback,
    /// Compare both sides.
    Verify,
    /// Where the detour is.
    Status,
    /// Remove everything that pgdetour made.
    Clean,
}

impl Command {
    /// All commands in the order of the trip.
    pub const ALL: [Command; 10] = [
        Command::Check,
        Command::Mirror,
        Command::Restrict,
        Command::Capture,
        Command::Cutover,
        Command::Replay,
        Command::Cutback,
        Command::Verify,
        Command::Status,
        Command::Clean,
    ];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Command::Check => "check",
            Command::Mirror => "mirror",
            Command::Restrict => "restrict",
            Command::Capture => "capture",
            Command::Cutover => "cutover",
            Command::Replay => "replay",
            Command::Cutback => "cutback",
            Command::Verify => "verify",
            Command::Status => "status",
            Command::Clean => "clean",
        }
    }

    /// The table of allowed moves (contract §2). A finished step run again is allowed: it changes nothing.
    pub fn allowed_in(self, phase: Phase) -> bool {
        use Phase::{Absent, CuttingBack, CuttingOver, Detoured, Mirrored, Mirroring, Returned};
        match self {
            Command::Check | Command::Status | Command::Restrict => true,
            Command::Mirror => matches!(phase, Absent | Mirroring | Mirrored),
            Command::Capture => matches!(phase, Mirrored | Detoured),
            Command::Cutover => matches!(phase, Mirrored | CuttingOver | Detoured),
            Command::Replay => matches!(phase, Detoured),
            Command::Cutback => matches!(phase, Detoured | CuttingBack | Returned),
            Command::Verify => matches!(phase, Mirrored | Detoured | Returned),
            Command::Clean => !matches!(phase, CuttingOver | CuttingBack),
        }
    }

    /// Rank among the commands that lead onwards from `phase`, the most natural first.
    fn natural_in(self, phase: Phase) -> Option<u8> {
        let order: &[Command] = match phase {
            Phase::Absent => &[Command::Check, Command::Mirror],
            Phase::Mirroring => &[Command::Mirror],
            Phase::Mirrored => &[Command::Restrict, Command::Capture, Command::Cutover, Command::Verify],
            Phase::CuttingOver => &[Command::Cutover],
            Phase::Detoured => &[Command::Replay, Command::Cutback, Command::Verify],
            Phase::CuttingBack => &[Command::Cutback],
            Phase::Returned => &[Command::Verify, Command::Clean],
        };
        order.iter().position(|command| *command == self).map(|rank| rank as u8)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_run_in_the_phases_that_the_matrix_shows() {
        let row = |head: &str, cells: [&str; 7]| {
            cells.iter().fold(format!("{head:8}"), |row, cell| format!("{row} {cell:>12}"))
        };
        let mut lines = vec![row("", Phase::ALL.map(Phase::name))];
        for command in Command::ALL {
            let cells = Phase::ALL.map(|phase| if command.allowed_in(phase) { "x" } else { "." });
            lines.push(row(command.name(), cells));
        }
        lines.push(String::new());
        for phase in Phase::ALL {
            let next: Vec<&str> = phase.next().iter().map(|command| command.name()).collect();
            lines.push(format!("{phase}: {}", next.join(", ")));
        }
        let matrix = lines.join("\n") + "\n";
        assert_eq!(matrix, include_str!("../tests/moves.txt"), "the moves have changed:\n{matrix}");
    }

    #[test]
    fn a_phase_is_found_by_its_name() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
        }
        assert_eq!(Phase::from_name("elsewhere"), None);
    }
}
