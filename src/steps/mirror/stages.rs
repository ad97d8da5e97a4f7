//! The stages of the mirror: straight from the source to the target, or two, with a backup database between them.

use std::borrow::Cow;

use crate::config::CaptureMethod;
use crate::error::{Checked, Error, Result};
use crate::flow::{ChangeSource, FlowName};
use crate::pg::lock::{Key, Lock};
use crate::pg::{Conninfo, Session, record};
use crate::phase::{Command, Phase, Place, Side};
use crate::steps::Run;
use crate::steps::run::open::refuse_swapped;
use crate::steps::run::{connecting, names};

/// One stage: its copy, and the flow that keeps it current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Source to target, with nothing between them.
    Whole,
    /// Source to backup.
    ToBackup,
    /// Backup to target.
    FromBackup,
}

impl Stage {
    /// Where it reads.
    pub fn publisher(self) -> Place {
        match self {
            Stage::Whole | Stage::ToBackup => Place::Source,
            Stage::FromBackup => Place::Backup,
        }
    }

    /// Where it writes.
    pub fn subscriber(self) -> Place {
        match self {
            Stage::ToBackup => Place::Backup,
            Stage::Whole | Stage::FromBackup => Place::Target,
        }
    }

    /// The flow as our own runs apply it, by which the subscriber knows how far it is.
    pub fn flow(self) -> FlowName {
        match self {
            Stage::ToBackup => FlowName::Backup,
            Stage::Whole | Stage::FromBackup => FlowName::Mirror,
        }
    }

    /// Its slot on the publisher.
    pub fn slot(self) -> &'static str {
        match self {
            Stage::Whole | Stage::ToBackup => names::MIRROR_SLOT,
            Stage::FromBackup => names::STAGE_SLOT,
        }
    }

    /// Where its changes come from, recorded by `method`.
    pub fn changes(self, method: CaptureMethod) -> ChangeSource {
        match method {
            CaptureMethod::Wal => {
                ChangeSource::Slot { slot: self.slot().into(), publication: names::MIRROR_PUBLICATION.into() }
            }
            CaptureMethod::Trigger => ChangeSource::Triggers,
        }
    }

    /// A step of it by a name of its own, so that a crash can be told to be in this stage.
    pub fn step(self, name: &'static str) -> Cow<'static, str> {
        match self {
            Stage::ToBackup => format!("backup: {name}").into(),
            Stage::Whole | Stage::FromBackup => name.into(),
        }
    }
}

/// How a command stands to the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It does nothing there.
    Nothing,
    /// It goes without it, and says so.
    IfThere,
    /// It cannot do without it.
    Required,
}

impl Run {
    /// Whether the mirror goes by way of a backup that can be reached: as it began, or as it is to begin.
    pub fn has_backup(&self) -> bool {
        (self.detour.is_none() || self.is_staged()) && self.backup_server.is_some()
    }

    /// Whether the mirror began by way of a backup.
    pub fn is_staged(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| detour.facts["staged"] == true)
    }

    /// The stages of the mirror, in the order in which they are made.
    pub fn stages(&self) -> &'static [Stage] {
        if self.has_backup() { &[Stage::ToBackup, Stage::FromBackup] } else { &[Stage::Whole] }
    }

    /// Every database that this run is connected to.
    pub fn places(&self) -> Vec<Place> {
        let there = [
            (Place::Source, self.source.is_some()),
            (Place::Target, self.target.is_some()),
            (Place::Backup, self.backup.is_some()),
        ];
        there.into_iter().filter_map(|(place, is_there)| is_there.then_some(place)).collect()
    }

    /// The sessions on publisher and subscriber of a stage.
    pub fn pair(&mut self, stage: Stage) -> (&mut Session, &mut Session) {
        match (stage, &mut self.source, &mut self.backup, &mut self.target) {
            (Stage::Whole, Some(source), _, Some(target)) => (source, target),
            (Stage::ToBackup, Some(source), Some(backup), _) => (source, backup),
            (Stage::FromBackup, _, Some(backup), Some(target)) => (backup, target),
            _ => unreachable!("a command that acts on a stage has connected to both of its ends"),
        }
    }

    /// How the subscriber's server of a stage reaches its publisher.
    pub fn conninfo_of(&self, stage: Stage) -> Result<Conninfo> {
        match &self.config.target.source_conninfo {
            Some(text) if stage.publisher() == Side::Source => Conninfo::parse(text),
            _ => Ok(self.server(stage.publisher()).conninfo.clone()),
        }
    }

    /// The backup is reached as the target is, where it would be as a role that is only to be made: no option names another one.
    pub fn reach_backup_without(&mut self, role: &str) {
        let target = &self.target_server.conninfo;
        if let Some(backup) = &mut self.backup_server
            && backup.conninfo.user() == role
            && target.user() != role
        {
            backup.conninfo = backup.conninfo.as_user_of(target);
        }
    }

    /// Opens the backup where the command has to do with it.
    pub fn connect_backup(&mut self) -> Result<()> {
        let need = self.need_of_backup();
        if need == Need::Nothing {
            return Ok(());
        }
        match connecting::connect(self.server(Place::Backup), &self.signals) {
            Ok(session) => self.backup = Some(session),
            Err(Error::Unreachable { cause, .. }) if need == Need::IfThere => {
                self.warn(format!(
                    "the backup cannot be reached ({cause}): what is to be done there is left"
                ));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.check_backup()
    }

    /// Opens the backup for a command that has to do with it only when it is asked to.
    pub fn open_backup(&mut self) -> Result<()> {
        self.backup = Some(connecting::connect(self.server(Place::Backup), &self.signals)?);
        self.check_backup()
    }

    /// Opens the backup and its lock anew where its session was lost; whether it answers.
    pub fn regain_backup(&mut self) -> Result<bool> {
        if self.backup.as_mut().is_some_and(|session| session.query_text("select", &[]).is_ok()) {
            return Ok(true);
        }
        self.locks.retain(|lock| lock.place() != Place::Backup);
        self.backup = connecting::open(self.server(Place::Backup)).ok();
        self.lock_backup()?;
        Ok(self.backup.is_some())
    }

    fn need_of_backup(&self) -> Need {
        use Command::{Capture, Check, Clean, Cutback, Cutover, Mirror, Replay, Restrict, Status, Verify};
        // Traffic never waits for it once it has moved.
        let has_moved = self.is_decided() || matches!(self.phase(), Phase::Detoured | Phase::CuttingBack);
        match self.command {
            Restrict | Capture | Replay | Verify | Status => Need::Nothing,
            _ if !self.has_backup() => Need::Nothing,
            Cutback => Need::IfThere,
            Check | Mirror | Cutover | Clean if has_moved => Need::IfThere,
            Check | Mirror | Cutover | Clean => Need::Required,
        }
    }

    /// It is a third database, and the one that was stamped.
    fn check_backup(&mut self) -> Result<()> {
        for side in [Side::Source, Side::Target] {
            let (Some(backup), Some(other)) = (
                &mut self.backup,
                match side {
                    Side::Source => &mut self.source,
                    Side::Target => &mut self.target,
                },
            ) else {
                continue;
            };
            if crate::pg::catalog::facts::is_same_database(backup, other)? {
                return Err(Error::Refused {
                    kind: "same_database",
                    message: format!("backup and {side} are the same database"),
                    detail: None,
                    hint: "Give target.backup_conninfo a database of its own.".into(),
                });
            }
        }
        let stamp = record::read_stamp(self.session(Place::Backup))?;
        refuse_swapped(Place::Backup, stamp.as_ref())?;
        let known = match (&self.detour, &mut self.source) {
            (Some(detour), _) => Some(detour.id.clone()),
            (None, Some(source)) => record::read_stamp(source)?.map(|stamp| stamp.detour),
            (None, None) => None,
        };
        let is_clean = self.command == Command::Clean;
        match (stamp, known) {
            (Some(stamp), known)
                if known.as_ref() != Some(&stamp.detour) && !(is_clean && known.is_none()) =>
            {
                let known = known.map_or("nothing".into(), |id| format!("detour {id}"));
                Err(Error::Refused {
                    kind: "stamp_mismatch",
                    message: "the backup belongs to another detour".into(),
                    detail: Some(format!(
                        "the backup is stamped with {}, and the other databases with {known}",
                        stamp.detour
                    )),
                    hint: "Correct target.backup_conninfo, or run pgdetour clean if that detour is over."
                        .into(),
                })
            }
            (None, Some(_)) if !is_clean && !matches!(self.phase(), Phase::Absent | Phase::Mirroring) => {
                Err(Error::Refused {
                    kind: "stamp_missing",
                    message: "the backup does not know of the detour that the target belongs to".into(),
                    detail: Some("schema \"pgdetour\" of the backup is missing or has no stamp".into()),
                    hint: "Is this the database through which was mirrored? Correct target.backup_conninfo."
                        .into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Takes the run's lock on the backup too, where the command cannot do without it: a lock that is lost stops a run.
    pub fn lock_backup(&mut self) -> Result<()> {
        let is_required = self.need_of_backup() == Need::Required;
        if is_required && self.backup.is_some() && !self.plan.is_dry() {
            let lock = Lock::acquire(self.server(Place::Backup), Key::Run)?;
            self.locks.push(lock);
        }
        Ok(())
    }
}

/// The mirror has begun with a backup, or without one, and the configuration says the same.
#[allow(clippy::unnecessary_wraps, reason = "all checks have one signature")]
pub fn unchanged(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.detour.is_none() {
        return Ok(());
    }
    let message = match (run.is_staged(), run.backup_server.is_some()) {
        (true, false) => "the mirror goes by way of a backup, and target.backup_conninfo is not set any more",
        (false, true) => "target.backup_conninfo is set, and the mirror has begun without a backup",
        _ => return Ok(()),
    };
    checked.fail(
        "backup",
        "target.backup_conninfo",
        message,
        "Write it as it was, or run pgdetour clean and mirror again.",
    );
    Ok(())
}
