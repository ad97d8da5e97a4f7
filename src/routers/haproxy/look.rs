//! What one `HAProxy` process does with the clients of a key, seen in one round trip.

use std::collections::BTreeMap;

use crate::config::HaProxySettings;
use crate::error::Result;
use crate::phase::Side;
use crate::routers::RouterState;
use crate::routers::haproxy::runtime::{SHOW_STAT, Stat, read_weight};
use crate::routers::haproxy::{HOLD, HaProxy};

/// What it does now.
pub struct Look {
    /// The key's value in the process.
    pub value: String,
    /// All backends and their servers.
    pub stats: Vec<Stat>,
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
        let (value, stats) = (self.value_in(&seen[0])?, self.runtime.read_stats(&seen[1])?);
        self.runtime.require_done(commands, done)?;
        Ok(Look { value, stats, weights })
    }

    /// The key's value in the process.
    pub(super) fn live(&mut self) -> Result<String> {
        let shown = self.runtime.ask(&self.show_map())?;
        self.value_in(&shown)
    }

    fn show_map(&self) -> String {
        format!("show map {}", self.settings.map)
    }

    fn value_in(&self, shown: &str) -> Result<String> {
        if let Some(noted) = &self.noted_value {
            return Ok(noted.clone());
        }
        let HaProxySettings { map, key, .. } = &self.settings;
        let entries = self.runtime.read_list(&self.show_map(), shown)?;
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
        let stats = self.stats_of(side, &look.stats)?;
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
        self.weights_for(side).iter().find_map(|(server, wanted)| match self.weight(server, look) {
            Ok(now) if now == *wanted => None,
            Ok(now) => {
                Some(format!("server {server} has weight {now}, and {wanted} while the {side} serves"))
            }
            Err(error) => Some(format!("the weight of server {server} is not known: {}", error.with_cause())),
        })
    }

    /// The sum of it, beside what the file says.
    pub(super) fn state_of(&self, look: &Look) -> RouterState {
        let live = &look.value;
        let held = live == HOLD;
        let (side, detail) = match (self.side_of(live), self.file_side()) {
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
        let (side, detail) = if drift.is_some() { (None, drift) } else { (side, detail) };
        RouterState {
            name: self.name.clone(),
            held,
            side,
            live: self.side_of(live),
            detail,
            ..RouterState::default()
        }
    }
}

pub(super) fn get_weight(server: &str) -> String {
    format!("get weight {server}")
}
