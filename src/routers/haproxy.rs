//! One map of `HAProxy`, whose value for a key is the backend that general clients go to.
//!
//! The map in the process says where clients go now, and `hold` that they wait; the map's file always names a side,
//! and so keeps the way through a hold, a reload and a restart.

mod check;
mod look;
mod map;
mod runtime;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::HaProxySettings;
use crate::error::{Checked, Error, Result};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::haproxy::check::check;
use crate::routers::haproxy::look::Look;
use crate::routers::haproxy::map::MapFile;
use crate::routers::haproxy::runtime::{IS_REPLACED, Runtime, SHOW_INFO, SHOW_STAT};
use crate::routers::replaceable_file::{Ready, repeat_if_changed, sync_folder};
use crate::routers::{Heed, Router, RouterState, RouterUndo, require_side};

/// The value of the key while clients wait.
pub const HOLD: &str = "hold";
/// Between two looks at the requests that are still answered.
const PAUSE: Duration = Duration::from_millis(5);

/// What the map does not say of the time before the detour.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HaProxyUndo {
    /// Whose: its address and key.
    pub name: String,
    /// Weights by `backend/server`.
    pub weights: Vec<(String, u16)>,
}

/// Moves the clients of one key, and gives parts of others' to servers by their weights.
pub struct HaProxy {
    name: String,
    settings: HaProxySettings,
    /// Networks that have to be in the ACL.
    admin_networks: Vec<String>,
    runtime: Runtime,
    undo: Option<HaProxyUndo>,
    plan: Plan,
    /// Clients wait because of us.
    holds: bool,
    /// What it did as that began.
    held: Option<Look>,
    /// The key's value in the process, as a dry run would have left it.
    noted_value: Option<String>,
    /// The side in the file, as a dry run would have left it.
    noted_side: Option<Side>,
    /// The file's next text, written before clients are held.
    ready: Option<Ready>,
    /// Where a file was replaced that may not be on the disk yet.
    unsynced: Option<PathBuf>,
}

impl HaProxy {
    /// Connects to nothing yet; `stored` are the undos of the record, among which its own is looked up.
    pub fn new(
        settings: &HaProxySettings,
        admin_networks: &[String],
        stored: &[RouterUndo],
        plan: &Plan,
    ) -> Self {
        let name = name_of(settings);
        let ours = stored.iter().filter_map(|undo| match undo {
            RouterUndo::HaProxy(undo) if undo.name == name => Some(undo),
            _ => None,
        });
        // Another map of the process may have the same key: the servers tell.
        let has = |undo: &HaProxyUndo, server: &str| undo.weights.iter().any(|(known, _)| known == server);
        let known =
            |undo: &&HaProxyUndo| settings.weights.iter().filter(|(server, _)| has(undo, server)).count();
        HaProxy {
            undo: ours.max_by_key(known).cloned(),
            runtime: Runtime::new(&name, &settings.socket),
            name,
            settings: settings.clone(),
            admin_networks: admin_networks.to_vec(),
            plan: plan.clone(),
            holds: false,
            held: None,
            noted_value: None,
            noted_side: None,
            ready: None,
            unsynced: None,
        }
    }

    fn backend(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.settings.source,
            Side::Target => &self.settings.target,
        }
    }

    fn side_of(&self, value: &str) -> Option<Side> {
        [Side::Source, Side::Target].into_iter().find(|side| self.backend(*side) == value)
    }

    fn wrong(&self, action: &str, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Router {
            action: format!("{action} {}", self.name),
            message: message.into(),
            hint: hint.into(),
        }
    }

    fn read_file(&self) -> Result<MapFile> {
        MapFile::read(&self.settings.file, self.settings.file_command.as_deref())
    }

    /// The side that the file names.
    fn file_side(&self) -> Result<Side> {
        if let Some(noted) = self.noted_side {
            return Ok(noted);
        }
        let file = self.read_file()?;
        let (entry, value) = file.entry(&self.settings.key)?;
        self.side_of(&value).ok_or_else(|| self.neither(&place(file.path(), entry.line), &value))
    }

    fn neither(&self, at: &str, value: &str) -> Error {
        let HaProxySettings { key, source, target, .. } = &self.settings;
        let message = format!("{at} has \"{value}\", neither \"{source}\" nor \"{target}\"");
        let hint = format!("Write \"{key} {source}\" or \"{key} {target}\" there, then reload HAProxy.");
        self.wrong("read the map of", message, hint)
    }

    /// Gives the key another value, at once for all threads of the process; other keys are not touched.
    fn set_map(&self, value: &str) -> String {
        format!("set map {} {} {value}", self.settings.map, self.settings.key)
    }

    /// Gives it one where it has none in the process.
    fn add_map(&self, value: &str) -> String {
        format!("add map {} {} {value}", self.settings.map, self.settings.key)
    }

    /// What it does once the key has this value; None in a dry run.
    fn set_live(&mut self, value: &str) -> Result<Option<Look>> {
        let command = self.set_map(value);
        if self.plan.is_dry() {
            self.plan.note(&self.name, command);
            self.noted_value = Some(value.to_owned());
            return Ok(None);
        }
        let look = match self.act(std::slice::from_ref(&command)) {
            // Somebody has taken the key out.
            Err(Error::Router { .. }) if self.live()?.is_none() => self.act(&[self.add_map(value)])?,
            other => other?,
        };
        if look.value.as_deref() == Some(value) {
            return Ok(Some(look));
        }
        let message = format!("the map says \"{}\" after it", look.value.unwrap_or_default());
        Err(self.wrong(&format!("run {command} on"), message, "See who else uses its runtime API."))
    }

    /// Writes the side's backend into the file, unless it is there already.
    fn write_file(&mut self, side: Side) -> Result<()> {
        let file = self.read_file()?;
        let Some(text) = self.text_for(side, &file)? else { return Ok(()) };
        if self.plan.is_dry() {
            let HaProxySettings { key, .. } = &self.settings;
            let (entry, value) = file.entry(key)?;
            let (at, wanted) = (place(file.path(), entry.line), self.backend(side));
            self.plan.note(&self.name, format!("rewrite {at}\n- {key} {value}\n+ {key} {wanted}"));
            return Ok(());
        }
        file.replace(&text, self.ready.take())?;
        self.unsynced = file.folder();
        Ok(())
    }

    /// The file's text with the side's backend; None when it is there already.
    fn text_for(&self, side: Side, file: &MapFile) -> Result<Option<Vec<u8>>> {
        let (entry, value) = file.entry(&self.settings.key)?;
        let wanted = self.backend(side);
        if value == wanted {
            return Ok(None);
        }
        if self.side_of(&value).is_none() {
            return Err(self.neither(&place(file.path(), entry.line), &value));
        }
        Ok(Some(file.with_value(&entry, wanted)))
    }

    /// The weight that each configured server is to have while `side` serves; none before those of the source are known.
    fn weights_for(&self, side: Side) -> &[(String, u16)] {
        match side {
            Side::Target => &self.settings.weights,
            Side::Source => self.undo.as_ref().map_or(&[], |undo| &undo.weights),
        }
    }

    /// Gives each server the weight that it is to have while `side` serves.
    fn set_weights(&self, side: Side, look: &Look) -> Result<Vec<String>> {
        let mut commands = Vec::new();
        for (server, wanted) in self.weights_for(side) {
            if self.weight(server, look)? != *wanted {
                commands.push(format!("set weight {server} {wanted}"));
            }
        }
        Ok(commands)
    }

    /// Ends what TCP clients still have open on a side, since such a session stays where it began.
    fn end_sessions(&self, side: Side, look: &Look) -> Result<Vec<String>> {
        let of_tcp = self.stats_of(side, &look.seen.stats)?.into_iter().filter(|stat| !stat.is_http);
        let servers = of_tcp.filter_map(|stat| Some((&stat.backend, stat.server.as_ref()?)));
        Ok(servers.map(|(backend, server)| format!("shutdown sessions server {backend}/{server}")).collect())
    }

    /// Has servers of `side` take clients where all of them are out for health checks that the fence has refused: it is lowered, and
    /// clients do not wait until the next checks tell.
    fn call_back(&self, side: Side, look: &Look) -> Vec<String> {
        if self.unserved(side, &look.seen.stats).is_none() {
            return Vec::new();
        }
        let servers = self.refusing(side, &look.seen.stats).into_iter();
        servers.map(|server| format!("set server {server} health up")).collect()
    }

    /// Sends clients to `side` of a process that did `look`, unless they wait; what it does after that.
    fn lead_to(&mut self, side: Side, look: &Look) -> Result<Look> {
        let mut commands = self.set_weights(side, look)?;
        commands.extend(self.call_back(side, look));
        let backend = self.backend(side);
        let value = look.value.as_deref();
        let is_elsewhere = value != Some(HOLD) && value != Some(backend);
        if is_elsewhere {
            // Reloaded with its file as it is now, it would have the key again.
            commands.push(if value.is_none() { self.add_map(backend) } else { self.set_map(backend) });
        }
        commands.extend(self.end_sessions(side.other(), look)?);
        if !self.plan.is_dry() {
            return self.act(&commands);
        }
        for command in commands {
            self.plan.note(&self.name, command);
        }
        if is_elsewhere {
            self.noted_value = Some(self.backend(side).to_owned());
        }
        self.look()
    }

    /// Waits until requests that were sent before the hold are answered; what it does then. Sessions of TCP mode are not waited
    /// for: only the server knows of their transactions, and ends them once it is fenced.
    fn wait_for_requests(
        &mut self,
        side: Side,
        deadline: Instant,
        heed: &Heed,
        mut look: Look,
    ) -> Result<Look> {
        let begun = Instant::now();
        loop {
            let (current, is_http) = self.current(side, &look)?;
            let current = current + self.current_left(side);
            if current == 0 || !is_http {
                return Ok(look);
            }
            if Instant::now() >= deadline {
                return Err(Error::TimedOut {
                    what: format!("requests through {}", self.name),
                    budget: deadline.saturating_duration_since(begun),
                    detail: Some(format!("backend {} still answers {current} requests", self.backend(side))),
                    hint: "Clients go on where they were. See \"show sess\" in its runtime API for who takes long, \
                           or allow a longer pause."
                        .into(),
                });
            }
            heed()?;
            thread::sleep(PAUSE);
            look = match self.hold_successor()? {
                Some(look) => look,
                None => self.look()?,
            };
        }
    }

    /// Holds the clients of the process that a reload has put in the place of the one that was told to; what it does then.
    fn hold_successor(&mut self) -> Result<Option<Look>> {
        if !self.runtime.ask(SHOW_INFO)?.lines().any(|line| line == IS_REPLACED) {
            return Ok(None);
        }
        self.runtime.leave_line();
        self.set_live(HOLD)
    }

    /// Requests that processes of before are still answering.
    fn current_left(&mut self, side: Side) -> u64 {
        let mut sum = 0;
        for answer in self.runtime.ask_those_left(SHOW_STAT) {
            let seen = self.runtime.read_stats(&answer);
            sum += seen.and_then(|seen| self.current_of(side, &seen.stats)).map_or(0, |(current, _)| current);
        }
        sum
    }
}

impl Router for HaProxy {
    fn name(&self) -> &str {
        &self.name
    }

    fn moves(&self) -> String {
        format!("{} in {}", name_of(&self.settings), self.settings.map)
    }

    fn tell_apart(&mut self) {
        self.name = self.moves();
    }

    fn check(&mut self, _budget: Duration) -> Checked {
        check(self)
    }

    /// The weights; where the map leads home is in the configuration.
    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        // Somebody may have changed them since an earlier run has stored them.
        let is_moved = self.undo.is_some() && self.file_side()? == Side::Target;
        if !is_moved && !self.settings.weights.is_empty() {
            let look = self.look()?;
            let servers = self.settings.weights.iter();
            let weights = servers.map(|(server, _)| Ok((server.clone(), self.weight(server, &look)?)));
            self.undo =
                Some(HaProxyUndo { name: name_of(&self.settings), weights: weights.collect::<Result<_>>()? });
        }
        Ok(self.undo.clone().map(RouterUndo::HaProxy))
    }

    fn make_ready(&mut self, side: Side) -> Result<()> {
        if self.plan.is_dry() {
            return Ok(());
        }
        let file = self.read_file()?;
        self.ready = match self.text_for(side, &file)? {
            Some(text) => file.make_ready(&text)?,
            None => None,
        };
        Ok(())
    }

    fn hold(&mut self, deadline: Instant, heed: &Heed) -> Result<()> {
        // A reload during the hold, and the way back from it, need a side in the file.
        let side = self.file_side()?;
        if self.plan.is_dry() {
            let is_held = self.live()?.as_deref() == Some(HOLD);
            return if is_held { Ok(()) } else { self.set_live(HOLD).map(drop) };
        }
        self.runtime.keep_line();
        self.holds = true;
        let Some(look) = self.set_live(HOLD)? else { return Ok(()) };
        match self.wait_for_requests(side, deadline, heed, look) {
            Ok(look) => {
                self.held = Some(look);
                Ok(())
            }
            Err(error) => {
                self.resume()?;
                Err(error)
            }
        }
    }

    /// While clients are held, only the file says where they will go on.
    fn point_to(&mut self, side: Side) -> Result<()> {
        repeat_if_changed(|| self.write_file(side))?;
        self.noted_side = self.plan.is_dry().then_some(side);
        if let Some(look) = self.held.take()
            && let Ok(look) = self.lead_to(side, &look)
            && self.state_of(&look).side == Some(side)
        {
            return Ok(());
        }
        // Nobody has held clients, or it was restarted or reloaded since.
        self.runtime.leave_line();
        let look = self.look()?;
        let look = self.lead_to(side, &look)?;
        if self.plan.is_dry() { Ok(()) } else { require_side(self.state_of(&look), side) }
    }

    fn resume(&mut self) -> Result<()> {
        // Not asked first when it is known: clients wait for this. Without a key they may wait as well.
        if self.holds || self.live()?.is_none_or(|value| value == HOLD) {
            let side = self.file_side()?;
            let backend = self.backend(side).to_owned();
            let led = self.set_live(&backend);
            let command = self.set_map(&backend);
            self.runtime.ask_those_left(&command);
            led?;
            self.holds = false;
        }
        self.unsynced.take().map_or(Ok(()), |folder| sync_folder(&folder))
    }

    /// A reload in the hold has put another process in the place of the one that was talked to.
    fn settle(&mut self) -> Result<()> {
        self.runtime.give_line_up();
        let side = self.file_side()?;
        if self.plan.is_dry() || self.state()?.side == Some(side) { Ok(()) } else { self.point_to(side) }
    }

    /// Nothing: the sessions of the side left behind were ended, and all others are new.
    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }

    fn state(&mut self) -> Result<RouterState> {
        self.look().map(|look| self.state_of(&look))
    }

    /// Its process listens for both.
    fn is_down(&self, _error: &Error) -> bool {
        self.runtime.is_gone()
    }

    fn answer(&mut self) -> Result<()> {
        if !self.holds {
            return self.live().map(drop);
        }
        if let Some(look) = self.hold_successor()? {
            self.held = Some(look);
        }
        Ok(())
    }

    fn clients(&mut self) -> Result<u64> {
        let look = self.look()?;
        Ok(self.current(Side::Source, &look)?.0 + self.current(Side::Target, &look)?.0)
    }
}

/// Its address and key.
fn name_of(settings: &HaProxySettings) -> String {
    format!("haproxy {} {}", settings.socket, settings.key)
}

fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
