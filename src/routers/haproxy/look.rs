//! What one `HAProxy` process does with the clients of a key, seen in one round trip.

use std::collections::BTreeMap;

use crate::config::HaProxySettings;
use crate::error::{Error, Result};
use crate::phase::Side;
use crate::routers::RouterState;
use crate::routers::haproxy::runtime::{SHOW_STAT, Stat, Statistics, read_weight};
use crate::routers::haproxy::{HOLD, HaProxy};

/// What it does now.
pub struct Look {
    /// The key's value in the process; None where somebody has taken the key out.
    pub value: Option<String>,
    /// All backends, their servers, and the frontends.
    pub seen: Statistics,
    /// What was answered when the weight of a server was asked for, by its name.
    weights: BTreeMap<String, String>,
}

impl HaProxy {
    /// Looks at all of it.
    pub(super) fn look(&mut self) -> Result<Look> {
        self.act(&[])
    }

    /// Carries commands out, and looks what it does after them, in the same round trip. What fails keeps none of those behind it
    /// from being carried out.
    pub(super) fn act(&mut self, commands: &[String]) -> Result<Look> {
        let servers = self.weighted_servers();
        let mut all = commands.to_vec();
        all.push(self.show_map());
        all.push(SHOW_STAT.into());
        all.extend(servers.iter().map(|server| get_weight(server)));
        let mut answers = self.runtime.ask_all(&all)?;
        let weights = servers.into_iter().zip(answers.split_off(commands.len() + 2)).collect();
        let (done, seen) = answers.split_at(commands.len());
        let (value, seen) = (self.value_in(&seen[0])?, self.runtime.read_stats(&seen[1])?);
        self.runtime.require_done(commands, done)?;
        Ok(Look { value, seen, weights })
    }

    /// The key's value in the process; None where somebody has taken the key out.
    pub(super) fn live(&mut self) -> Result<Option<String>> {
        let shown = self.runtime.ask(&self.show_map())?;
        self.value_in(&shown)
    }

    fn show_map(&self) -> String {
        format!("show map {}", self.settings.map)
    }

    fn value_in(&self, shown: &str) -> Result<Option<String>> {
        if self.noted_value.is_some() {
            return Ok(self.noted_value.clone());
        }
        let HaProxySettings { map, key, .. } = &self.settings;
        let entries = self.runtime.read_list(&self.show_map(), shown)?;
        let mut values = entries.into_iter().filter(|(found, _)| found == key).map(|(_, value)| value);
        let (first, second) = (values.next(), values.next());
        if second.is_none() {
            return Ok(first);
        }
        let hint = match self.value_in_file() {
            Some(value) => format!(
                "Run \"del map {map} {key}\" and \"add map {map} {key} {value}\" in its runtime API, or reload HAProxy: the \
                 map's file has it once."
            ),
            None => "Leave one of the lines in the map's file, then reload HAProxy.".into(),
        };
        Err(self.wrong("find the key of", format!("map {map} has \"{key}\" twice"), hint))
    }

    fn value_in_file(&self) -> Option<String> {
        let file = self.read_file().ok()?;
        file.entry(&self.settings.key).ok().map(|(_, value)| value)
    }

    /// A key that the process does not have, and how it gets it back without a switch.
    pub(super) fn no_key(&self) -> Error {
        let HaProxySettings { map, key, source, target, .. } = &self.settings;
        let hint = match self.value_in_file() {
            Some(value) => format!(
                "Run \"add map {map} {key} {value}\" in its runtime API, or reload HAProxy: the map's file has the key."
            ),
            None => format!(
                "Add a line to {map}: {key} {source}, or {key} {target} while the target serves. Then reload HAProxy."
            ),
        };
        self.wrong("find the key of", self.without_key(), hint)
    }

    fn without_key(&self) -> String {
        let HaProxySettings { map, key, .. } = &self.settings;
        format!("map {map} has no key \"{key}\" in the process")
    }

    /// What is told of a side's backend: itself and its servers.
    pub(super) fn stats_of<'s>(&self, side: Side, stats: &'s [Stat]) -> Result<Vec<&'s Stat>> {
        let backend = self.backend(side);
        let stats: Vec<&Stat> = stats.iter().filter(|stat| stat.backend == backend).collect();
        if stats.is_empty() {
            let message = format!("it has no backend \"{backend}\"");
            let hint = format!("Correct \"{side}\", or add the backend to HAProxy's configuration.");
            return Err(self.wrong("find the backend of", message, hint));
        }
        Ok(stats)
    }

    /// Sessions in TCP mode, and requests in HTTP mode, at a side's backend.
    pub(super) fn current(&self, side: Side, look: &Look) -> Result<(u64, bool)> {
        self.current_of(side, &look.seen.stats)
    }

    /// The same, of what is told of all backends.
    pub(super) fn current_of(&self, side: Side, stats: &[Stat]) -> Result<(u64, bool)> {
        let stats = self.stats_of(side, stats)?;
        let sum = stats.iter().find(|stat| stat.server.is_none());
        Ok(sum.map_or((0, false), |sum| (sum.current, sum.is_http)))
    }

    /// Those that have a weight of their own while one of the sides serves: the configuration may have changed since the undo was
    /// stored.
    fn weighted_servers(&self) -> Vec<String> {
        let sides = [Side::Target, Side::Source].into_iter();
        sides.flat_map(|side| self.weights_for(side)).map(|(server, _)| server.clone()).collect()
    }

    /// The weight that a server has now.
    pub(super) fn weight(&self, server: &str, look: &Look) -> Result<u16> {
        let answer = look.weights.get(server).map_or("", String::as_str);
        read_weight(answer).ok_or_else(|| self.runtime.refused(&get_weight(server), answer))
    }

    /// The first server whose weight is not what it is to be while `side` serves, in words.
    fn weight_drift(&self, side: Side, look: &Look) -> Option<String> {
        // What an agent has set it would set again.
        let ours = self.weights_for(side).iter().filter(|(server, _)| !has_agent(server, &look.seen.stats));
        ours.into_iter().find_map(|(server, wanted)| match self.weight(server, look) {
            Ok(now) if now == *wanted => None,
            Ok(now) => {
                Some(format!("server {server} has weight {now}, and {wanted} while the {side} serves"))
            }
            Err(error) => Some(format!("the weight of server {server} is not known: {}", error.with_cause())),
        })
    }

    /// Why clients of a side's backend are not served, where they are not.
    pub(super) fn unserved(&self, side: Side, stats: &[Stat]) -> Option<String> {
        match self.stats_of(side, stats) {
            Ok(stats) if stats.iter().any(|stat| stat.server.is_none() && stat.status.starts_with("UP")) => {
                None
            }
            Ok(_) => Some(format!("backend \"{}\" has no server that is up", self.backend(side))),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Servers of a side's backend, `backend/server`, that answer their health checks and are out for what they answer.
    pub(super) fn refusing(&self, side: Side, stats: &[Stat]) -> Vec<String> {
        let stats = self.stats_of(side, stats).unwrap_or_default().into_iter();
        let refusing = stats.filter(|stat| stat.is_refusing);
        refusing.filter_map(|stat| Some(format!("{}/{}", stat.backend, stat.server.as_ref()?))).collect()
    }

    /// Whether no client gets in. Which frontends look into the map nobody tells: it is sure only once all are shut that can lead
    /// to the backend, and one in TCP mode may do so to one in HTTP mode.
    fn is_shut(&self, side: Side, look: &Look) -> bool {
        let is_http = self.current(side, look).is_ok_and(|(_, is_http)| is_http);
        let mut ways = look.seen.frontends.iter().filter(|frontend| is_http || !frontend.is_http).peekable();
        ways.peek().is_some() && ways.all(|frontend| !frontend.is_open)
    }

    /// The sum of it, beside what the file says.
    pub(super) fn state_of(&self, look: &Look) -> RouterState {
        let live = look.value.as_deref().unwrap_or_default();
        let (held, live_side, file) = (live == HOLD, self.side_of(live), self.file_side());
        let mut mend = file.as_ref().err().and_then(Error::hint);
        let (side, mut detail) = match (live_side, file) {
            _ if look.value.is_none() => (None, Some(self.without_key())),
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
        let drift = side.filter(|_| detail.is_none()).and_then(|side| self.weight_drift(side, look));
        let side = side.filter(|_| drift.is_none());
        detail = detail.or(drift);
        let unserved = live_side.and_then(|side| self.unserved(side, &look.seen.stats));
        let down = unserved.is_some();
        if let Some(unserved) = unserved {
            // With weights that are not as they should be, these may be why.
            detail = Some([Some(unserved), detail].into_iter().flatten().collect::<Vec<_>>().join("; "));
            mend = Some(
                "See \"show stat\" in its runtime API: its servers are in maintenance (\"enable server\"), or their health \
                 checks fail."
                    .into(),
            );
        }
        let disabled = live_side.is_some_and(|side| self.is_shut(side, look));
        let name = self.name.clone();
        RouterState { name, held, disabled, down, side, live: live_side, detail, mend }
    }
}

/// Whether the agent of a server, `backend/server`, may set its weight.
pub(super) fn has_agent(server: &str, stats: &[Stat]) -> bool {
    stats.iter().any(|stat| {
        let name = stat.server.as_ref().map(|name| format!("{}/{name}", stat.backend));
        stat.has_agent && name.as_deref() == Some(server)
    })
}

pub(super) fn get_weight(server: &str) -> String {
    format!("get weight {server}")
}
