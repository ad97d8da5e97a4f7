//! What one `HAProxy` process does with the clients of a key, seen in one round trip.

use crate::config::HaProxySettings;
use crate::error::Result;
use crate::phase::Side;
use crate::routers::RouterState;
use crate::routers::haproxy::{HOLD, HaProxy};
use crate::routers::haproxy_runtime::{SHOW_STAT, Stat, read_weight};

/// What it does now.
pub struct Look {
    /// The key's value in the process.
    pub value: String,
    pub stats: Vec<Stat>,
    /// Of each server whose weight is configured, in that order, or what was answered instead.
    weights: Vec<Result<u16, String>>,
}

impl HaProxy {
    /// Looks at all of it.
    pub(super) fn look(&mut self) -> Result<Look> {
        self.act(&[])
    }

    /// Carries commands out, and looks what it does after them, in the same round trip. What fails keeps none of those behind it
    /// from being carried out.
    pub(super) fn act(&mut self, commands: &[String]) -> Result<Look> {
        let mut all = commands.to_vec();
        all.push(self.show_map());
        all.push(SHOW_STAT.into());
        all.extend(self.settings.weights.iter().map(|(server, _)| get_weight(server)));
        let answers = self.runtime.ask_all(&all)?;
        let (done, seen) = answers.split_at(commands.len());
        let look = Look {
            value: self.value_in(&seen[0])?,
            stats: self.runtime.read_stats(&seen[1])?,
            weights: seen[2..]
                .iter()
                .map(|answer| read_weight(answer).ok_or_else(|| answer.clone()))
                .collect(),
        };
        self.runtime.require_done(commands, done)?;
        Ok(look)
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

    /// The configured servers and their weights now; fails when one of them is not known.
    pub(super) fn weights(&self, look: &Look) -> Result<Vec<(String, u16)>> {
        let servers = self.settings.weights.iter().zip(&look.weights);
        let known = servers.map(|((server, _), weight)| match weight {
            Ok(weight) => Ok((server.clone(), *weight)),
            Err(answer) => Err(self.runtime.refused(&get_weight(server), answer)),
        });
        known.collect()
    }

    /// The first server whose weight is not what it is to be while `side` serves, in words.
    fn weight_drift(&self, side: Side, look: &Look) -> Option<String> {
        let weights = match self.weights(look) {
            Ok(weights) => weights,
            Err(error) => return Some(error.with_cause()),
        };
        let wrong = weights.iter().zip(self.weights_for(side)).find(|((_, now), (_, wanted))| now != wanted);
        wrong.map(|((server, now), (_, wanted))| {
            format!("server {server} has weight {now}, and {wanted} while the {side} serves")
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
        RouterState { name: self.name.clone(), held, side, detail }
    }
}

pub(super) fn get_weight(server: &str) -> String {
    format!("get weight {server}")
}
