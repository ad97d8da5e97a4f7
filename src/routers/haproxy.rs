//! One map of `HAProxy`, whose value for a key is the backend that general clients go to.
//!
//! The map in the process says where clients go now, and `hold` that they wait; the map's file always names a side,
//! and so keeps the way through a hold, a reload and a restart.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::HaProxySettings;
use crate::error::{Checked, Error, Result};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::haproxy_check::check;
use crate::routers::haproxy_map::MapFile;
use crate::routers::haproxy_runtime::{Runtime, Stat};
use crate::routers::replaceable_file::{Ready, repeat_if_changed, sync_folder};
use crate::routers::{Router, RouterState, RouterUndo, verify};

/// The value of the key while clients wait.
pub const HOLD: &str = "hold";
/// Between two looks at the requests that are still answered.
const PAUSE: Duration = Duration::from_millis(5);

/// What the map does not say of the time before the detour.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HaProxyUndo {
    /// Whose: its address and key.
    pub router: String,
    /// Weights by `backend/server`.
    pub weights: Vec<(String, u16)>,
}

/// Moves the clients of one key, and gives parts of others' to servers by their weights.
pub struct HaProxy {
    pub(super) name: String,
    pub(super) settings: HaProxySettings,
    /// Networks that have to be in the ACL.
    pub(super) admin_networks: Vec<String>,
    pub(super) runtime: Runtime,
    undo: Option<HaProxyUndo>,
    plan: Plan,
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
        let name = format!("haproxy {} {}", settings.socket, settings.key);
        let undo = stored.iter().find_map(|undo| match undo {
            RouterUndo::HaProxy(undo) if undo.router == name => Some(undo.clone()),
            _ => None,
        });
        HaProxy {
            undo,
            runtime: Runtime::new(&name, &settings.socket),
            name,
            settings: settings.clone(),
            admin_networks: admin_networks.to_vec(),
            plan: plan.clone(),
            noted_value: None,
            noted_side: None,
            ready: None,
            unsynced: None,
        }
    }

    pub(super) fn backend(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.settings.source,
            Side::Target => &self.settings.target,
        }
    }

    pub(super) fn side_of(&self, value: &str) -> Option<Side> {
        [Side::Source, Side::Target].into_iter().find(|side| self.backend(*side) == value)
    }

    fn wrong(&self, action: &str, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Router {
            action: format!("{action} {}", self.name),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The key's value in the process.
    pub(super) fn live(&self) -> Result<String> {
        if let Some(noted) = &self.noted_value {
            return Ok(noted.clone());
        }
        let HaProxySettings { map, key, .. } = &self.settings;
        let entries = self.runtime.list("map", map)?;
        let mut values = entries.into_iter().filter(|(found, _)| found == key).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(self.wrong(
                "find the key of",
                format!("map {map} has no key \"{key}\""),
                format!("Add a line to {map}: {key} {}. Then reload HAProxy.", self.settings.source),
            )),
            (Some(_), Some(_)) => Err(self.wrong(
                "find the key of",
                format!("map {map} has \"{key}\" twice"),
                "Leave one of the lines in the map's file, then reload HAProxy.",
            )),
        }
    }

    pub(super) fn read_file(&self) -> Result<MapFile> {
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

    /// Gives the key another value in the process, at once for all of its threads; other keys are not touched.
    fn set_live(&mut self, value: &str) -> Result<()> {
        let command = format!("set map {} {} {value}", self.settings.map, self.settings.key);
        if self.plan.is_dry() {
            self.plan.note(&self.name, command);
            self.noted_value = Some(value.to_owned());
            return Ok(());
        }
        self.runtime.act(&command)?;
        let now = self.live()?;
        if now == value {
            return Ok(());
        }
        let message = format!("the map says \"{now}\" after it");
        Err(self.wrong(&format!("run {command} on"), message, "See who else uses its runtime API."))
    }

    fn send_to(&mut self, side: Side) -> Result<()> {
        let backend = self.backend(side).to_owned();
        self.set_live(&backend)
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
    fn set_weights(&self, side: Side) -> Result<()> {
        for (server, wanted) in self.weights_for(side) {
            let now = self.runtime.weight(server)?;
            if now == *wanted {
                continue;
            }
            let command = format!("set weight {server} {wanted}");
            if self.plan.is_dry() {
                self.plan.note(&self.name, command);
                continue;
            }
            self.runtime.act(&command)?;
            let now = self.runtime.weight(server)?;
            if now != *wanted {
                let message = format!("the weight is {now} after it");
                return Err(self.wrong(
                    &format!("run {command} on"),
                    message,
                    "See who else uses its runtime API.",
                ));
            }
        }
        Ok(())
    }

    /// The first server whose weight is not what it is to be while `side` serves, in words.
    fn weight_drift(&self, side: Side) -> Option<String> {
        self.weights_for(side).iter().find_map(|(server, wanted)| match self.runtime.weight(server) {
            Ok(now) if now == *wanted => None,
            Ok(now) => {
                Some(format!("server {server} has weight {now}, and {wanted} while the {side} serves"))
            }
            Err(error) => Some(format!("the weight of server {server} is not known: {}", error.with_cause())),
        })
    }

    /// What `show stat` tells of a side's backend: itself and its servers.
    pub(super) fn stats_of(&self, side: Side) -> Result<Vec<Stat>> {
        let mut stats = self.runtime.stats()?;
        stats.retain(|stat| stat.backend == self.backend(side));
        if stats.is_empty() {
            let message = format!("it has no backend \"{}\"", self.backend(side));
            let hint = format!("Correct \"{side}\", or add the backend to HAProxy's configuration.");
            return Err(self.wrong("find the backend of", message, hint));
        }
        Ok(stats)
    }

    /// Sessions in TCP mode, and requests in HTTP mode, at a side's backend.
    fn current(&self, side: Side) -> Result<(u64, bool)> {
        let stats = self.stats_of(side)?;
        let sum = stats.iter().find(|stat| stat.server.is_none());
        Ok(sum.map_or((0, false), |sum| (sum.current, sum.is_http)))
    }

    /// Waits until requests that were sent before the hold are answered. Sessions of TCP mode are not waited for:
    /// only the server knows of their transactions, and ends them once it is fenced.
    fn wait_for_requests(&self, side: Side, deadline: Instant) -> Result<()> {
        let begun = Instant::now();
        loop {
            let (current, is_http) = self.current(side)?;
            if current == 0 || !is_http {
                return Ok(());
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
            thread::sleep(PAUSE);
        }
    }

    /// Ends what TCP clients still have open on a side, since such a session stays where it began.
    fn end_sessions(&self, side: Side) -> Result<()> {
        for stat in self.stats_of(side)?.iter().filter(|stat| !stat.is_http) {
            let Some(server) = &stat.server else { continue };
            let command = format!("shutdown sessions server {}/{server}", stat.backend);
            if self.plan.is_dry() {
                self.plan.note(&self.name, command);
            } else {
                self.runtime.act(&command)?;
            }
        }
        Ok(())
    }
}

impl Router for HaProxy {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, _budget: Duration) -> Checked {
        check(self)
    }

    /// The weights; where the map leads home is in the configuration.
    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        if self.undo.is_none() && !self.settings.weights.is_empty() {
            let servers = self.settings.weights.iter();
            let weights = servers.map(|(server, _)| Ok((server.clone(), self.runtime.weight(server)?)));
            self.undo =
                Some(HaProxyUndo { router: self.name.clone(), weights: weights.collect::<Result<_>>()? });
        }
        Ok(self.undo.clone().map(RouterUndo::HaProxy))
    }

    fn make_ready(&mut self, side: Side) -> Result<()> {
        if self.plan.is_dry() {
            return Ok(());
        }
        let file = self.read_file()?;
        self.ready = self.text_for(side, &file)?.and_then(|text| file.make_ready(&text));
        Ok(())
    }

    fn hold(&mut self, deadline: Instant) -> Result<()> {
        // A reload during the hold, and the way back from it, need a side in the file.
        let side = self.file_side()?;
        if self.live()? != HOLD {
            self.set_live(HOLD)?;
        }
        if self.plan.is_dry() {
            return Ok(());
        }
        let waited = self.wait_for_requests(side, deadline);
        if waited.is_err() {
            self.send_to(side)?;
        }
        waited
    }

    /// While clients are held, only the file says where they will go on.
    fn point_to(&mut self, side: Side) -> Result<()> {
        repeat_if_changed(|| self.write_file(side))?;
        self.noted_side = self.plan.is_dry().then_some(side);
        let now = self.live()?;
        self.set_weights(side)?;
        if now != HOLD && now != self.backend(side) {
            self.send_to(side)?;
        }
        self.end_sessions(side.other())?;
        if self.plan.is_dry() { Ok(()) } else { verify(self, side) }
    }

    fn resume(&mut self) -> Result<()> {
        if self.live()? == HOLD {
            let side = self.file_side()?;
            self.send_to(side)?;
        }
        self.unsynced.take().map_or(Ok(()), |folder| sync_folder(&folder))
    }

    /// Nothing: the sessions of the side left behind were ended, and all others are new.
    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }

    fn state(&mut self) -> Result<RouterState> {
        let live = self.live()?;
        let held = live == HOLD;
        let file = self.file_side();
        let (side, detail) = match (self.side_of(&live), file) {
            (None, Ok(file)) if held => (Some(file), None),
            (None, Err(error)) if held => (None, Some(format!("where clients go on is not known: {error}"))),
            (Some(live), Ok(file)) if live == file => (Some(live), None),
            (Some(live), Err(error)) => (Some(live), Some(format!("its file is not known: {error}"))),
            (Some(live), Ok(file)) => (
                None,
                Some(format!(
                    "it sends clients to the {live}, and its file to the {file}: a reload would move them"
                )),
            ),
            (None, _) => {
                (None, Some(format!("it sends clients to \"{live}\", neither the source nor the target")))
            }
        };
        let (side, detail) = match (side, detail) {
            (Some(side), None) => match self.weight_drift(side) {
                None => (Some(side), None),
                Some(drift) => (None, Some(drift)),
            },
            known => known,
        };
        Ok(RouterState { name: self.name.clone(), held, side, detail })
    }

    fn answer(&mut self) -> Result<()> {
        self.live().map(drop)
    }

    fn clients(&mut self) -> Result<u64> {
        Ok(self.current(Side::Source)?.0 + self.current(Side::Target)?.0)
    }
}

fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

#[cfg(test)]
mod tests;
