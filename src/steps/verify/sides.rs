//! Which databases are compared: both sides, or the backup, in the place of the side that it does not follow.

use crate::error::{Error, FOLLOWS, Result};
use crate::flow::mapping::Mapping;
use crate::flow::{FlowName, subscription};
use crate::pg::Session;
use crate::pg::lock::{self, Key, Lock};
use crate::phase::{Phase, Place, Side};
use crate::steps::run::facts::Carrier;
use crate::steps::run::names;
use crate::steps::{Needs, Run};

/// What is compared as the source, and what as the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// The source, or the backup that follows the target.
    pub source: Place,
    /// The target, or the backup that follows the source.
    pub target: Place,
    /// A run of `replay --follow` brings what is written on the target to the source meanwhile.
    pub is_replayed: bool,
}

impl Sides {
    /// Both as they are.
    pub const BOTH: Sides = Sides { source: Place::Source, target: Place::Target, is_replayed: false };

    /// Connects to what is compared, and refuses where the backup follows nothing.
    pub fn open(run: &mut Run, with_backup: bool) -> Result<Sides> {
        // While the backup follows the target, the source may be down for the maintenance.
        run.open(if with_backup { Needs::Target } else { Needs::Both })?;
        if !with_backup {
            return Ok(Sides::BOTH);
        }
        if !run.has_backup() {
            return Err(no_backup(run));
        }
        let sides = match run.phase() {
            Phase::Mirrored => Sides { target: Place::Backup, ..Sides::BOTH },
            Phase::Detoured => Sides { source: Place::Backup, ..Sides::BOTH },
            _ => {
                let hint = "Verify without --backup, or run pgdetour clean and mirror again.";
                return Err(follows_nothing("since cutback the backup follows nothing", hint));
            }
        };
        if sides.leader() == Side::Source {
            run.open_source()?;
        }
        run.open_backup()?;
        let found = subscription::find_subscription(run.session(Place::Backup), sides.subscription())?;
        match (sides.leader(), found) {
            (Side::Source, None) => {
                Err(follows_nothing("the backup does not follow the source", "Run pgdetour mirror."))
            }
            (Side::Target, found) if !found.as_ref().is_some_and(|found| found.enabled) => {
                let hint = "Run pgdetour cutover again, which lets it follow, then verify again.";
                Err(follows_nothing("the backup does not follow the target yet", hint))
            }
            _ => Ok(sides),
        }
    }

    /// Likewise, beside a run of `replay --follow` if there is one: that holds the lock, and nothing that changes either side but the
    /// flow home can begin as long as it does.
    pub fn open_beside_replay(run: &mut Run) -> Result<Sides> {
        match run.open(Needs::Both) {
            Err(Error::Busy { .. }) if run.phase() == Phase::Detoured && is_replayed(run.target())? => {
                run.refuse_wrong_phase()?;
                Ok(Sides { is_replayed: true, ..Sides::BOTH })
            }
            opened => opened.map(|()| Sides::BOTH),
        }
    }

    /// Whether one of them is the backup.
    pub fn has_backup(self) -> bool {
        self.source == Place::Backup || self.target == Place::Backup
    }

    /// Whether what is noted of them in the record is this run's.
    pub fn are_noted(self) -> bool {
        !self.has_backup() && !self.is_replayed
    }

    /// Which side the backup follows; without one, which side the other follows.
    pub fn leader(self) -> Side {
        if self.source == Place::Backup || self.is_replayed { Side::Target } else { Side::Source }
    }

    /// Whose place the backup has.
    pub fn in_place_of(self) -> Option<Side> {
        self.has_backup().then(|| self.leader().other())
    }

    /// The flow whose markers tell what has arrived.
    pub fn flow(self) -> FlowName {
        match self.is_replayed {
            true => FlowName::Replay,
            false if self.has_backup() => FlowName::Backup,
            false => FlowName::Mirror,
        }
    }

    fn subscription(self) -> &'static str {
        match self.leader() {
            Side::Source => names::MIRROR_SUBSCRIPTION,
            Side::Target => names::BACKUP_SUBSCRIPTION,
        }
    }

    /// How what is compared as the target maps to what is compared as the source.
    pub fn mapping(self, run: &mut Run) -> Result<Mapping> {
        if self.has_backup() {
            let tables = run.selected_tables(self.target)?;
            return Mapping::build(&tables, &[], run.session(self.source));
        }
        match run.phase() {
            Phase::Mirrored => run.identity_mapping(),
            _ => run.replay_mapping(),
        }
    }

    /// Whether a subscription, or a run that follows the source, brings changes from one to the other while we look.
    pub fn is_followed(self, run: &mut Run) -> Result<bool> {
        if run.plan.is_dry() {
            return Ok(false);
        }
        if !self.has_backup() {
            if run.phase() != Phase::Mirrored {
                return Ok(self.is_replayed);
            }
            if run.carrier()? == Carrier::Pgdetour {
                return Ok(Lock::try_acquire(run.server(Side::Target), Key::Flow)?.is_none());
            }
        }
        let subscriber = if self.has_backup() { Place::Backup } else { Place::Target };
        let found = subscription::find_subscription(run.session(subscriber), self.subscription())?;
        Ok(found.is_some_and(|found| found.enabled))
    }
}

/// Whether what holds the lock is a run that replays for as long as nobody ends it.
pub(super) fn is_replayed(target: &mut Session) -> Result<bool> {
    let holder = lock::find_holder(target, Key::Run)?;
    Ok(holder.is_some_and(|holder| holder.application_name.ends_with(FOLLOWS)))
}

fn no_backup(run: &Run) -> Error {
    let (message, hint) = match (run.is_staged(), run.backup_server.is_some()) {
        (true, _) => (
            "the mirror goes by way of a backup, and target.backup_conninfo is not set any more",
            "Write it as it was, or verify without --backup.",
        ),
        (false, true) => (
            "target.backup_conninfo is set, and the mirror has begun without a backup",
            "Verify without --backup; a mirror that begins after pgdetour clean goes by way of the backup.",
        ),
        (false, false) => (
            "there is no backup to compare: target.backup_conninfo is not set",
            "Verify without --backup, which compares source and target.",
        ),
    };
    Error::Refused { kind: "no_backup", message: message.into(), detail: None, hint: hint.into() }
}

fn follows_nothing(message: &str, hint: &str) -> Error {
    Error::Refused { kind: "backup_not_followed", message: message.into(), detail: None, hint: hint.into() }
}
