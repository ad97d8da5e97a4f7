//! What each command does, in the order in which it does it.

pub mod capture;
pub mod check;
pub mod clean;
pub mod mirror;
mod preconditions;
pub mod replay;
pub mod restrict;
mod run;
pub mod status;
pub mod switch;
pub mod verify;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::config::Config;
use crate::error::{Error, FOLLOWS, Result};
use crate::fault;
use crate::flow::mapping::Mapping;
use crate::output::Output;
use crate::pg::lock::Lock;
use crate::pg::record::{self, Detour};
use crate::pg::sessions::Writer;
use crate::pg::{Conninfo, Server, Session};
use crate::phase::{Command, Phase, Place, Serving, Side};
use crate::plan::{Action, Plan};
use crate::routers::Routers;
pub use clean::{Copies, Extent};
use mirror::carrier::Choice;
use run::facts::Facts;
pub use run::open::Needs;
use run::seen::Seen;
pub use run::signals::Signals;
use switch::guardian::Guardian;
pub use switch::pause::{Bounds, Rehearsal};

/// One run of one command: its servers, sessions and locks, what it has done so far, and where it tells of it.
#[allow(clippy::struct_excessive_bools, reason = "each is one independent finding of the run")]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// As written in the file.
    pub config: Config,
    /// Where progress and warnings go.
    pub output: Output,
    /// Where a dry run notes its actions.
    pub plan: Plan,
    /// Whether somebody asked us to end.
    pub signals: Signals,
    source_server: Server,
    target_server: Server,
    /// The database between both, where the configuration names one.
    backup_server: Option<Server>,
    source: Option<Session>,
    target: Option<Session>,
    backup: Option<Session>,
    locks: Vec<Lock>,
    /// The right to apply the mirror's changes.
    flow_lock: Option<Lock>,
    /// Who is to carry the mirror.
    choice: Choice,
    /// How fast a copy may read the source.
    copy_limits: mirror::Limits,
    routers: Option<Routers>,
    /// The record, as this run last read or wrote it; `None` in phase `absent`.
    detour: Option<Detour>,
    /// What was looked at, for as long as it is looked at once only.
    seen: Option<Seen>,
    warnings: Vec<String>,
    steps: Vec<StepTime>,
    unwritten_steps: usize,
    changed: bool,
    /// Changes were applied that stay, whatever becomes of the switch that they were for.
    replayed: bool,
    part_way: bool,
    held_since: Option<Instant>,
    /// How long those take to answer whom clients wait for.
    answers: switch::answers::Answers,
    /// The side whose fence was seen to have nobody behind it any more.
    none_left: Option<Side>,
    /// Somebody has said that they have moved the clients.
    moved_by_operator: bool,
    /// Tables, by oid, whose changes a switch carries over from the side that it leaves.
    carried: Vec<u32>,
    /// Who else had written to them, and not ended, when the fence was raised.
    writers: Vec<Writer>,
    /// Sides whose fences this run has raised.
    raised: Vec<Side>,
    /// What lowering the source's fence will do, found out before clients are held.
    opening: Option<switch::opening::Opening>,
    /// The replay of the last changes, which has applied its marker and is about to end.
    replaying: Option<switch::last_changes::Running>,
    /// Sees who keeps a switch waiting for a lock on the side that takes over.
    lookout: Option<switch::lookout::Lookout>,
    /// Facts found out while clients are held, written together with the decision.
    pending: Facts,
    /// The budget of the pause, for checks that compare it with the router's own limits.
    max_pause: Option<Duration>,
    /// The mapping of the way home, as the checks have just built it.
    checked_mapping: Option<Mapping>,
    /// How many changes in quarantine do not stand in the way home.
    accept_quarantined: i64,
    /// A source without a stamp is taken on.
    adopts_source: bool,
    pause_ms: Option<f64>,
    late_writes: i64,
    /// Attempts of a switch, this one included.
    attempts: u32,
    /// Open transactions that were ended so that clients could be held.
    ended_transactions: u64,
    /// How long clients were held in a rehearsal, in milliseconds.
    rehearsed_pause_ms: Option<f64>,
    /// The deciding statement was sent: whether it took effect is known from the record alone.
    deciding: bool,
    /// What this process has noted to take back.
    undos: Vec<switch::undo::Undo>,
    /// What ends the hold should this process die in it.
    guardian: Option<Guardian>,
    /// A report that stands although the command fails.
    report: Option<Value>,
    /// Whether `detour` is what the target has, be it nothing.
    record_read: bool,
    /// Phase and who serves, where the command has found out more than the record says.
    reported: Option<(Phase, Option<Serving>)>,
    /// The result was shown already, and is not to be shown at the end.
    shown: bool,
}

/// How long one named step took.
#[derive(Debug, Clone, Serialize)]
pub struct StepTime {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Milliseconds.
    pub ms: f64,
}

/// One step of a dry run.
#[derive(Debug, Serialize)]
struct PlannedStep {
    name: Cow<'static, str>,
    actions: Vec<Action>,
}

impl Run {
    /// A run that has not touched anything yet.
    pub fn new(
        command: Command,
        config: Config,
        output: Output,
        plan: Plan,
        signals: Signals,
    ) -> Result<Run> {
        let choice = Choice::of(&config, false);
        let server = |place: Place, conninfo: &str| {
            let conninfo = Conninfo::parse(conninfo)?;
            conninfo.warnings().iter().for_each(|warning| output.warn(warning));
            Ok(Server {
                place,
                conninfo,
                application_name: format!("pgdetour {command}"),
                plan: plan.clone(),
                conventions: crate::pg::Conventions::default(),
            })
        };
        let backup = config.target.backup_conninfo.as_deref();
        Ok(Run {
            source_server: server(Place::Source, config.conninfo(Side::Source)?)?,
            target_server: server(Place::Target, config.conninfo(Side::Target)?)?,
            backup_server: backup.map(|conninfo| server(Place::Backup, conninfo)).transpose()?,
            command,
            config,
            output,
            plan,
            signals,
            source: None,
            target: None,
            backup: None,
            locks: Vec::new(),
            flow_lock: None,
            choice,
            copy_limits: mirror::Limits::default(),
            routers: None,
            detour: None,
            seen: None,
            warnings: Vec::new(),
            steps: Vec::new(),
            unwritten_steps: 0,
            changed: false,
            replayed: false,
            part_way: false,
            held_since: None,
            answers: switch::answers::Answers::default(),
            none_left: None,
            moved_by_operator: false,
            carried: Vec::new(),
            writers: Vec::new(),
            raised: Vec::new(),
            opening: None,
            replaying: None,
            lookout: None,
            pending: Facts::default(),
            max_pause: None,
            checked_mapping: None,
            accept_quarantined: 0,
            adopts_source: false,
            pause_ms: None,
            late_writes: 0,
            attempts: 0,
            ended_transactions: 0,
            rehearsed_pause_ms: None,
            deciding: false,
            undos: Vec::new(),
            guardian: None,
            report: None,
            record_read: false,
            reported: None,
            shown: false,
        })
    }

    /// Has the sessions from now on show that this run goes on until it is stopped.
    fn show_that_it_follows(&mut self) {
        for server in
            [&mut self.source_server, &mut self.target_server].into_iter().chain(&mut self.backup_server)
        {
            if !server.application_name.ends_with(FOLLOWS) {
                server.application_name.push_str(FOLLOWS);
            }
        }
    }

    /// Bounds the pause, and how long a network that swallows what we send can make it longer.
    fn pause_at_most(&mut self, max_pause: Duration) {
        self.max_pause = Some(max_pause);
        let silence = switch::pause::longest_silence(max_pause);
        self.source_server.conninfo.give_up_within(silence);
        self.target_server.conninfo.give_up_within(silence);
    }

    /// From `deadline` on, a server that says nothing for longer than `silence` is given up.
    fn lose_patience(&self, deadline: Instant, silence: Duration) {
        for server in self.servers() {
            server.conninfo.patience().end(deadline, silence);
        }
    }

    /// Nobody waits for the servers' answers any more.
    fn restore_patience(&self) {
        self.servers().for_each(|server| server.conninfo.patience().restore());
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        [&self.source_server, &self.target_server].into_iter().chain(self.backup_server.as_ref())
    }

    /// Does one named step: tells of it, heeds signals before it, takes its time and notes it in the record.
    /// While clients are held, the note waits until they go on.
    pub fn step<T>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce(&mut Run) -> Result<T>,
    ) -> Result<T> {
        let name = name.into();
        self.heed_signals()?;
        if !self.plan.is_dry() {
            fault::point("before", &name);
        }
        self.plan.enter(&name);
        let progress = self.output.step(&name);
        let begun = Instant::now();
        let result = work(self);
        let took = begun.elapsed();
        match &result {
            Ok(_) => progress.done(took),
            Err(_) => progress.failed(took),
        }
        let value = result?;
        self.steps.push(StepTime { name: name.clone(), ms: took.as_secs_f64() * 1000.0 });
        if !self.plan.is_dry() {
            if self.held_since.is_none() {
                self.write_steps()?;
            }
            fault::point("after", &name);
        }
        Ok(value)
    }

    /// Writes the steps that are done and not yet in the record; none as long as the run has changed nothing.
    fn write_steps(&mut self) -> Result<()> {
        if self.detour.is_none() || !(self.changed || self.part_way) {
            return Ok(());
        }
        let command = self.command.name();
        let fresh: Vec<StepTime> = self.steps[self.unwritten_steps..].to_vec();
        for step in fresh {
            let took = Duration::from_secs_f64(step.ms / 1000.0);
            record::note_step(self.target(), command, &step.name, took)?;
        }
        self.unwritten_steps = self.steps.len();
        Ok(())
    }

    /// Fails when a signal, or another run, asked us to end; not past a point of no return, from where a switch only
    /// goes forwards.
    fn heed_signals(&self) -> Result<()> {
        if self.is_decided() {
            return Ok(());
        }
        match self.signals.received() {
            Some(signal) => Err(Error::Interrupted { signal }),
            None if self.signals.is_end_requested() => Err(Error::Refused {
                kind: "stopped",
                message: "the mirror was asked to stop by another run".into(),
                detail: None,
                hint: "What is copied is kept: run \"pgdetour mirror\" to go on.".into(),
            }),
            None => Ok(()),
        }
    }

    /// Whether the switch in progress has passed its point of no return.
    fn is_decided(&self) -> bool {
        self.detour.as_ref().is_some_and(|detour| {
            detour.decided.is_some() && matches!(detour.phase, Phase::CuttingOver | Phase::CuttingBack)
        })
    }

    /// The phase, as the record has it.
    pub fn phase(&self) -> Phase {
        self.detour.as_ref().map_or(Phase::Absent, |detour| detour.phase)
    }

    /// Who serves, as the record has it.
    pub fn serving(&self) -> Serving {
        self.detour.as_ref().map_or(Serving::Source, |detour| detour.serving)
    }

    /// Writes phase and who serves into the record. A dry run notes it, and keeps the phase that there is.
    fn enter_phase(&mut self, phase: Phase, serving: Serving, decided: Option<Side>) -> Result<()> {
        self.enter_phase_with(phase, serving, decided, &Facts::default())
    }

    /// The same, and adds facts in the same statement.
    fn enter_phase_with(
        &mut self,
        phase: Phase,
        serving: Serving,
        decided: Option<Side>,
        facts: &Facts,
    ) -> Result<()> {
        record::set_phase(self.target(), phase, serving, decided, &serde_json::json!(facts))?;
        if self.plan.is_dry() {
            return Ok(());
        }
        if let Some(detour) = &mut self.detour {
            detour.phase = phase;
            detour.serving = serving;
            detour.decided = decided;
            facts.merge_into(&mut detour.facts);
        }
        Ok(())
    }

    /// Copies phase and who serves to all stamps, for a time when the record cannot be read.
    fn stamp_phase(&mut self) -> Result<()> {
        let (phase, serving) = (self.phase(), self.serving());
        record::set_stamp_phase(self.target(), phase, serving)?;
        if self.source.is_some() {
            record::set_stamp_phase(self.source(), phase, serving)?;
        }
        match &mut self.backup {
            Some(backup) => {
                mirror::backup::unless_lost(record::set_stamp_phase(backup, phase, serving)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Writes a line into the detour's history; a failure to do so is no failure of the command.
    fn note_event(&mut self, message: &str) {
        let command = self.command.name();
        if self.detour.is_some() && record::note_event(self.target(), command, message, None).is_err() {
            self.warn(format!("the history does not show \"{message}\""));
        }
    }

    /// Id of the detour.
    fn detour_id(&self) -> Result<String> {
        let detour = self.detour.as_ref();
        detour
            .map(|detour| detour.id.clone())
            .ok_or_else(|| Error::Internal { message: "there is no record".into() })
    }

    /// Id of the detour; in a dry run before there is one, a word in its place.
    fn detour_id_or_planned(&self) -> Result<String> {
        if self.plan.is_dry() { Ok(String::new()) } else { self.detour_id() }
    }

    /// Asks before something that cannot be undone easily; a dry run does not ask.
    fn confirm(&self, what: &str) -> Result<()> {
        // A further attempt at a switch was confirmed with the first.
        if self.plan.is_dry() || self.attempts > 1 { Ok(()) } else { self.output.confirm(what) }
    }

    /// What earlier steps left for later ones.
    fn facts(&self) -> Result<Facts> {
        self.detour.as_ref().map_or_else(|| Ok(Facts::default()), Facts::of)
    }

    /// Adds facts to the record.
    fn add_facts(&mut self, facts: &Facts) -> Result<()> {
        facts.merge(self.target())?;
        if let Some(detour) = &mut self.detour {
            facts.merge_into(&mut detour.facts);
        }
        Ok(())
    }

    /// Tells of something that does not stop the command.
    pub fn warn(&mut self, message: impl Into<String>) {
        let message = message.into();
        self.output.warn(&message);
        self.warnings.push(message);
    }

    /// The session on the source. Only after `open` with [`Needs::Both`].
    fn source(&mut self) -> &mut Session {
        self.source.as_mut().expect("open() connected to the source, which this command needs")
    }

    /// The session on the target. Only after `open`.
    fn target(&mut self) -> &mut Session {
        self.target.as_mut().expect("open() connected to the target, which every command needs")
    }

    /// Where the session on a database is kept.
    fn seat(&mut self, place: impl Into<Place>) -> &mut Option<Session> {
        match place.into() {
            Place::Source => &mut self.source,
            Place::Target => &mut self.target,
            Place::Backup => &mut self.backup,
        }
    }

    /// Both sessions at once: source, target.
    fn both(&mut self) -> (&mut Session, &mut Session) {
        match (&mut self.source, &mut self.target) {
            (Some(source), Some(target)) => (source, target),
            _ => unreachable!("open() connected to both sides, which this command needs"),
        }
    }

    /// The session on one side, or on the backup where that is connected.
    fn session(&mut self, place: impl Into<Place>) -> &mut Session {
        match place.into() {
            Place::Source => self.source(),
            Place::Target => self.target(),
            Place::Backup => self.backup.as_mut().expect("only asked for where the backup is connected"),
        }
    }

    /// The server of one side, or of the backup where there is one, for sessions of one's own.
    fn server(&self, place: impl Into<Place>) -> &Server {
        match place.into() {
            Place::Source => &self.source_server,
            Place::Target => &self.target_server,
            Place::Backup => self.backup_server.as_ref().expect("only asked for where there is a backup"),
        }
    }

    /// Fails when a lock was lost with its session.
    fn assert_locked(&mut self) -> Result<()> {
        self.locks.iter_mut().chain(self.flow_lock.as_mut()).try_for_each(Lock::assert_held)
    }

    /// The steps that a dry run would do, with the actions of each; the real run's steps with their times.
    fn steps_report(&self) -> Value {
        if !self.plan.is_dry() {
            return serde_json::json!(self.steps);
        }
        let actions = self.plan.actions();
        let planned = self.steps.iter().map(|step| PlannedStep {
            name: step.name.clone(),
            actions: actions.iter().filter(|action| action.step == step.name).cloned().collect(),
        });
        serde_json::json!(planned.collect::<Vec<_>>())
    }
}
