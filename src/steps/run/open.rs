//! How a run begins: sessions, the proof of which database is which, locks, the record, the phase.

use crate::error::{Error, Result};
use crate::pg::catalog;
use crate::pg::lock::{Key, Lock};
use crate::pg::record::{self, Stamp};
use crate::pg::{Server, Session};
use crate::phase::{Command, Phase, Place, Side};
use crate::sql;
use crate::steps::run::connecting::{self, Pending, connect};
use crate::steps::{Run, Signals};

/// Which servers a command cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Both.
    Both,
    /// The target alone: the source may be down for maintenance.
    Target,
}

impl Run {
    /// Connects, makes sure that each database is what the configuration says, takes the locks, reads the record,
    /// and refuses a command that does not go with the phase. Nothing is changed.
    pub fn open(&mut self, needs: Needs) -> Result<()> {
        if self.plan.is_dry() {
            self.connect(needs)?;
        } else {
            let (source, target) = (self.source_server.clone(), self.target_server.clone());
            let locking = Pending::start(move || acquire_locks(&source, &target, needs));
            let connected = self.connect(needs);
            let locked = locking.wait(&self.signals);
            connected?;
            self.locks.extend(locked?);
            self.lock_backup()?;
            // Another run may have ended between our first look and our lock.
            self.detour = record::read_detour(self.target())?;
        }
        self.refuse_wrong_phase()?;
        self.part_way = matches!(self.phase(), Phase::Mirroring | Phase::CuttingOver | Phase::CuttingBack);
        Ok(())
    }

    /// Refuses a command that does not go with the phase.
    pub fn refuse_wrong_phase(&self) -> Result<()> {
        let (command, phase) = (self.command, self.phase());
        if command.allowed_in(phase) {
            return Ok(());
        }
        Err(Error::WrongPhase { command: command.name(), phase })
    }

    /// The first half of [`Run::open`]: sessions, proof of which database is which, the record as it is. No lock.
    pub fn connect(&mut self, needs: Needs) -> Result<()> {
        self.target = Some(connect(&self.target_server, &self.signals)?);
        if needs == Needs::Both {
            self.source = Some(connect(&self.source_server, &self.signals)?);
            self.refuse_same_database()?;
        }
        self.check_stamps()?;
        self.detour = record::read_detour(self.target())?;
        self.record_read = true;
        self.connect_backup()
    }

    /// Opens the source after all, for a command that began with the target alone.
    pub fn open_source(&mut self) -> Result<()> {
        self.source = Some(connect(&self.source_server, &self.signals)?);
        self.refuse_same_database()?;
        self.check_stamps()?;
        if !self.plan.is_dry() {
            let server = self.source_server.clone();
            let locking = Pending::start(move || Lock::acquire(&server, Key::Run));
            self.locks.push(locking.wait(&self.signals)?);
        }
        Ok(())
    }

    /// Connects to whatever answers, all at once, for a command that has to work with any of them down; a session that
    /// still answers is kept. Why one does not answer.
    pub fn connect_what_answers(&mut self) -> Vec<(Place, Option<Error>)> {
        self.connect_all(&Signals::default())
    }

    /// The same, but a signal ends the wait for those that have not answered by then.
    pub fn connect_what_answers_in_time(&mut self) -> Vec<(Place, Option<Error>)> {
        self.connect_all(&self.signals.clone())
    }

    fn connect_all(&mut self, signals: &Signals) -> Vec<(Place, Option<Error>)> {
        let places = [Place::Source, Place::Target]
            .into_iter()
            .chain(self.backup_server.is_some().then_some(Place::Backup));
        let attempts: Vec<(Place, Pending<Session>)> = places
            .map(|place| {
                let (old, server) = (self.seat(place).take(), self.server(place).clone());
                (place, Pending::start(move || regain(old, &server)))
            })
            .collect();
        let mut answers = Vec::new();
        for (place, attempt) in attempts {
            let (session, error) = answer(attempt.wait(signals));
            *self.seat(place) = session;
            answers.push((place, error));
        }
        answers
    }

    /// Opens what a restart of a server has ended while something else was at work, for what is asked afterwards.
    pub fn renew_sessions(&mut self) -> Result<()> {
        let answers = self.connect_what_answers();
        // Without the backup the rest goes on.
        let lost = answers.into_iter().find_map(|(place, error)| error.filter(|_| place != Place::Backup));
        lost.map_or(Ok(()), Err)
    }

    /// The session on a database that answered.
    pub fn answering(&mut self, place: impl Into<Place>) -> Option<&mut Session> {
        self.seat(place).as_mut()
    }

    fn refuse_same_database(&mut self) -> Result<()> {
        let (source, target) = self.both();
        if !catalog::facts::is_same_database(source, target)? {
            return Ok(());
        }
        Err(Error::Refused {
            kind: "same_database",
            message: "source and target are the same database".into(),
            detail: None,
            hint: "Give [target] the conninfo of the database that is to take over during maintenance."
                .into(),
        })
    }

    /// Whether traffic has been moved, or may have been, to another database than the one that is configured as target and has no stamp.
    pub fn is_of_another_target(&mut self, source: &Stamp) -> Result<bool> {
        let Some(known) = source.target.as_ref().filter(|_| may_have_moved(source)) else { return Ok(false) };
        Ok(record::read_identity(self.target())?.is_some_and(|identity| identity != *known))
    }

    /// The phase that the source was told last, where traffic may be on the target by that and the target has lost the record of it. Where
    /// nothing on the target carries changes for us any more, `clean --stay` has ended the detour without the source: restrictions may
    /// have been made since.
    pub fn find_lost_record(&mut self) -> Result<Option<Phase>> {
        let Some(source) = self.answering(Side::Source) else { return Ok(None) };
        let Some(stamp) = record::read_stamp(source)?.filter(may_have_moved) else { return Ok(None) };
        let Some(target) = self.answering(Side::Target) else { return Ok(None) };
        if record::read_stamp(target)?.is_some() || record::read_detour(target)?.is_some() {
            return Ok(None);
        }
        let ours = target.query(&sql::record::LIST_OUR_OBJECTS, &[])?;
        let carries = ours.iter().any(|row| carries_changes(row.get("kind"), row.get("name")));
        Ok(carries.then_some(stamp.phase))
    }

    /// Refuses databases that are not what the configuration says.
    pub fn check_stamps(&mut self) -> Result<()> {
        let target = record::read_stamp(self.target())?;
        let source = match &mut self.source {
            Some(session) => record::read_stamp(session)?,
            None => None,
        };
        refuse_swapped(Place::Source, source.as_ref())?;
        refuse_swapped(Place::Target, target.as_ref())?;
        if let (Some(source), None) = (&source, &target)
            && self.is_of_another_target(source)?
        {
            return Err(other_target(source.phase));
        }
        // Clean is to end that, where it is told to.
        if self.command != Command::Clean
            && let Some(phase) = self.find_lost_record()?
        {
            return Err(record_lost(phase));
        }
        match (&source, &target) {
            (Some(source), Some(target)) if source.detour != target.detour => Err(Error::Refused {
                kind: "stamp_mismatch",
                message: "source and target belong to different detours".into(),
                detail: Some(format!(
                    "the source is stamped with {}, the target with {}",
                    source.detour, target.detour
                )),
                hint: "Correct the conninfo of the side that is wrong.".into(),
            }),
            // A run of clean that died has removed the source's stamp already: it has to be able to go on.
            (None, Some(target))
                if self.source.is_some()
                    && self.command != Command::Clean
                    && !self.adopts_source
                    && !matches!(target.phase, Phase::Mirroring) =>
            {
                Err(stamp_missing(target.phase))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an object of ours is one that records or carries changes.
fn carries_changes(kind: &str, name: &str) -> bool {
    match kind {
        "replication slot" | "publication" | "subscription" => true,
        "trigger" | "event trigger" => name.trim_start_matches('!').starts_with("pgdetour_capture"),
        _ => false,
    }
}

fn other_target(phase: Phase) -> Error {
    Error::Refused {
        kind: "stamp_missing",
        message: format!("the source is in phase \"{phase}\" of a detour whose target is another database"),
        detail: Some("the database configured as target has no stamp, nor is it the one that the source was told of".into()),
        hint: "Correct the conninfo of [target]. Should that database be lost for good, what it alone had is lost too: DROP SCHEMA \
               pgdetour CASCADE; on the source, and open it to the application again."
            .into(),
    }
}

/// By what the source was told, traffic is, or may be, on the target.
fn may_have_moved(source: &Stamp) -> bool {
    matches!(source.phase, Phase::CuttingOver | Phase::Detoured | Phase::CuttingBack)
}

/// The source was told that the target serves, or may serve, and the target does not know of it.
pub fn record_lost(phase: Phase) -> Error {
    let mut hint = "Restore schema \"pgdetour\" of the target as it was, and go on; or make the target the new home with pgdetour clean \
                    --stay."
        .to_owned();
    if phase != Phase::Detoured {
        hint += " Only if clients are on the source, run DROP SCHEMA pgdetour CASCADE; there, then pgdetour clean, and open it to the \
                 application again.";
    }
    Error::Refused {
        kind: "record_lost",
        message: format!("the source is in phase \"{phase}\" of a detour whose record is not on the target any more"),
        detail: Some(
            "schema \"pgdetour\" of the target is missing or has no record; what was written there since cutover may be nowhere else"
                .into(),
        ),
        hint,
    }
}

fn stamp_missing(phase: Phase) -> Error {
    let restored = "Is this the database that was mirrored? If it was restored from a dump, restore schema \"pgdetour\" of the \
                    same dump too: replay needs the position that is kept there.";
    let hint = if phase == Phase::Detoured {
        let adopted = "Without one, \"pgdetour capture --anew --adopt-source\" takes the database on, and makes it equal to the target.";
        format!("{restored} {adopted}")
    } else {
        restored.to_owned()
    };
    Error::Refused {
        kind: "stamp_missing",
        message: "the source does not know of the detour that the target belongs to".into(),
        detail: Some("schema \"pgdetour\" of the source is missing or has no stamp".into()),
        hint,
    }
}

/// The locks of a run, in sessions of their own; the target's first, so that of two runs one gets both.
fn acquire_locks(source: &Server, target: &Server, needs: Needs) -> Result<Vec<Lock>> {
    let mut locks = vec![Lock::acquire(target, Key::Run)?];
    if needs == Needs::Both {
        locks.push(Lock::acquire(source, Key::Run)?);
    }
    Ok(locks)
}

/// A session that still answers, or a new one.
fn regain(session: Option<Session>, server: &Server) -> Result<Session> {
    let kept = session.and_then(|mut session| session.query_text("select", &[]).is_ok().then_some(session));
    kept.map_or_else(|| connecting::open(server), Ok)
}

fn answer(outcome: Result<Session>) -> (Option<Session>, Option<Error>) {
    match outcome {
        Ok(session) => (Some(session), None),
        Err(error) => (None, Some(error)),
    }
}

/// A database that is stamped as another of the detour than the configuration says.
pub fn refuse_swapped(configured: Place, stamp: Option<&Stamp>) -> Result<()> {
    match stamp {
        Some(stamp) if stamp.place != configured => Err(Error::Refused {
            kind: "sides_swapped",
            message: format!("the database configured as {configured} is stamped as the {}", stamp.place),
            detail: Some(format!("the stamp is in its table pgdetour.stamp, of detour {}", stamp.detour)),
            hint:
                "Correct the conninfo of [source] and [target]; the words never flip, not even while detoured."
                    .into(),
        }),
        _ => Ok(()),
    }
}
