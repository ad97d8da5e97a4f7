//! The operator's program, for whatever sends clients to a server: told the action and the side in its environment.

use std::time::{Duration, Instant};

use crate::config::CommandSettings;
use crate::error::{Checked, Error, Result};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::{Heed, Router, RouterState, RouterUndo, program, require_side};

/// How much of what the program writes is kept, from the end.
const TAIL: usize = 4096;

/// Calls the program with `PGDETOUR_ACTION` set to check, hold, point, resume, reconnect or show, and with
/// `PGDETOUR_SIDE` set to source or target for point. Exit status 0 is success. For show it prints `source` or
/// `target`, and `held` if clients are held.
pub struct Command {
    name: String,
    settings: CommandSettings,
    plan: Plan,
}

impl Command {
    /// Calls nothing yet.
    pub fn new(settings: &CommandSettings, plan: &Plan) -> Self {
        let name = format!("router program {}", settings.program.first().map_or("", String::as_str));
        Command { name, settings: settings.clone(), plan: plan.clone() }
    }

    fn act(&self, action: &str, side: Option<Side>) -> Result<()> {
        self.act_until(action, side, None, &|| Ok(()))
    }

    fn act_until(
        &self,
        action: &str,
        side: Option<Side>,
        deadline: Option<Instant>,
        heed: &Heed,
    ) -> Result<()> {
        if self.plan.is_dry() {
            let side = side.map(|side| format!(" PGDETOUR_SIDE={side}")).unwrap_or_default();
            let call = format!("PGDETOUR_ACTION={action}{side} {}", self.settings.program.join(" "));
            self.plan.note(&self.name, call);
            return Ok(());
        }
        self.call_until(action, side, deadline, heed).map(drop)
    }

    fn call(&self, action: &str) -> Result<String> {
        self.call_until(action, None, None, &|| Ok(()))
    }

    /// What it printed; an error when it ended badly or was ended by us: at the earlier of the deadline and its timeout, or
    /// once `heed` fails.
    fn call_until(
        &self,
        action: &str,
        side: Option<Side>,
        deadline: Option<Instant>,
        heed: &Heed,
    ) -> Result<String> {
        let begun = Instant::now();
        let latest = begun + self.settings.timeout;
        let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
        let bound =
            if deadline == latest { "raise its timeout" } else { "allow a longer pause (--max-pause)" };
        let [program, arguments @ ..] = self.settings.program.as_slice() else {
            return Err(self.failed(action, "no program is configured".into()));
        };
        let mut command = std::process::Command::new(program);
        command.args(arguments).env("PGDETOUR_ACTION", action).env_remove("PGDETOUR_SIDE");
        if let Some(side) = side {
            command.env("PGDETOUR_SIDE", side.name());
        }
        let ended = program::run(command, &[], TAIL, deadline, &|| heed().is_err())
            .map_err(|error| self.failed(action, error.to_string()))?;
        let Some(status) = ended.status else {
            heed()?;
            return Err(Error::TimedOut {
                what: format!("{} ({action})", self.name),
                budget: deadline.saturating_duration_since(begun),
                detail: program::some_text(&ended.errors),
                hint: format!("It was ended. Make it faster, or {bound}."),
            });
        };
        if !status.success() {
            return Err(self.failed(action, format!("{status}{}", ended.said())));
        }
        Ok(String::from_utf8_lossy(&ended.output).into_owned())
    }

    fn failed(&self, action: &str, message: String) -> Error {
        Error::Router {
            action: format!("{action} clients with {}", self.name),
            message,
            hint: format!("Run it by hand with PGDETOUR_ACTION={action} to see why."),
        }
    }
}

impl Router for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self, budget: Duration) -> Checked {
        let mut checked = Checked::default();
        if let Err(error) = self.call("check") {
            checked.fail(
                "router_command",
                &self.name,
                error.to_string(),
                "Its check action has to end with status 0, and to print on stderr what is wrong when it does not.",
            );
        } else if let Err(error) = self.state() {
            checked.fail(
                "router_command",
                &self.name,
                error.to_string(),
                "Its show action has to print source or target, and held if clients are held.",
            );
        }
        if self.settings.timeout > budget {
            checked.warn(
                "router_command_timeout",
                &self.name,
                format!(
                    "may take {}, longer than the {} for which clients may be held",
                    crate::error::human(self.settings.timeout),
                    crate::error::human(budget)
                ),
                "Its point and resume actions run while clients are held: make them fast, and set router.command.timeout lower.",
            );
        }
        checked
    }

    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        Ok(None)
    }

    fn hold(&mut self, deadline: Instant, heed: &Heed) -> Result<()> {
        let outcome = self.act_until("hold", None, Some(deadline), heed);
        if outcome.is_err() {
            // How far it came is unknown, and the first failure is the one to report.
            let _ = self.act("resume", None);
        }
        outcome
    }

    fn point_to(&mut self, side: Side) -> Result<()> {
        self.act("point", Some(side))?;
        if self.plan.is_dry() { Ok(()) } else { require_side(self.state()?, side) }
    }

    fn resume(&mut self) -> Result<()> {
        self.act("resume", None)?;
        if !self.plan.is_dry() && self.state()?.held {
            return Err(self.failed("resume", "it ended well, and show prints held after it".into()));
        }
        Ok(())
    }

    fn reconnect(&mut self) -> Result<()> {
        self.act("reconnect", None)
    }

    fn state(&mut self) -> Result<RouterState> {
        let printed = self.call("show")?;
        let (mut side, mut held) = (None, false);
        for word in printed.split_whitespace() {
            match word {
                "source" => side = Some(Side::Source),
                "target" => side = Some(Side::Target),
                "held" => held = true,
                other => return Err(self.failed("show", format!("it printed \"{}\"", other.escape_debug()))),
            }
        }
        let detail = side.is_none().then(|| "it printed neither source nor target".to_owned());
        Ok(RouterState { name: self.name.clone(), held, side, live: side, detail, ..RouterState::default() })
    }

    fn clients(&mut self) -> Result<u64> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests;
