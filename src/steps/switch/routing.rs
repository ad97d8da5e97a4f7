//! The configured routers, and what the way home needs of them.

use crate::error::{Error, Result};
use crate::phase::Side;
use crate::routers::{RouterState, Routers};
use crate::steps::Run;
use crate::steps::run::facts::Facts;

impl Run {
    /// The routers, reached at the first call.
    pub fn routers(&mut self) -> Result<&mut Routers> {
        if self.routers.is_none() {
            let stored = self.facts()?.router_original.unwrap_or_default();
            let name = format!("pgdetour {}", self.command);
            let (router, networks) = (&self.config.router, &self.config.traffic.admin_networks);
            self.routers = Some(Routers::new(router, networks, &stored, &self.plan, &name)?);
        }
        self.routers.as_mut().ok_or_else(|| Error::Internal { message: "there are no routers".into() })
    }

    /// Has the routers made anew at the next call.
    pub fn forget_routers(&mut self) {
        self.routers = None;
    }

    /// Stores what brings clients home, before the routers are touched: as it is now, where an earlier run has moved nobody.
    pub fn prepare_router(&mut self) -> Result<()> {
        let known = self.facts()?;
        let original = self.routers()?.prepare()?;
        let now = Facts {
            router_original: Some(original),
            source_place: Some(self.source_server.conninfo.places()),
            ..Facts::default()
        };
        if (&known.router_original, &known.source_place) == (&now.router_original, &now.source_place) {
            return Ok(());
        }
        self.add_facts(&now)
    }

    /// Does ahead what can be done of sending clients to `side`, so that they are not held for it.
    pub fn ready_router(&mut self, side: Side) -> Result<()> {
        self.routers()?.make_ready(side)
    }

    /// Proves, while clients are served, that the routers can be led elsewhere: past the decision it would be too late to find out.
    pub fn prove_router(&mut self) -> Result<()> {
        if !self.plan.is_dry() {
            // For what is left of the proof should this process die in it.
            self.post_guardian()?;
        }
        self.guard_proof(true);
        let proven = self.routers()?.prove();
        self.guard_proof(false);
        proven
    }

    /// Sends clients to `side`, where they are since an earlier run, anew at routers that send them elsewhere by now, or
    /// would after a reload.
    pub fn mend_routers(&mut self, side: Side) -> Result<()> {
        let states = self.routers()?.states();
        let is_right = |state: &RouterState| state.side == Some(side) && !state.held;
        if !self.routers()?.moves_clients() || states.iter().all(is_right) {
            return Ok(());
        }
        self.step("point the router there again", |run| {
            run.routers()?.point_to(side)?;
            run.routers()?.resume()?;
            run.settle_routers();
            run.changed |= !run.plan.is_dry();
            Ok(())
        })
    }

    /// Whether a router holds clients, or somebody else moves them, of whom nothing is known.
    pub fn clients_are_held(&mut self) -> Result<bool> {
        let routers = self.routers()?;
        Ok(!routers.moves_clients() || routers.states().iter().any(|state| state.held))
    }

    /// Takes back what the routers were given for the time of the hold, once clients go on; says so where that fails.
    pub fn settle_routers(&mut self) {
        if let Err(error) = self.routers().and_then(Routers::settle) {
            let hint = error.hint().map(|hint| format!(" {hint}")).unwrap_or_default();
            self.warn(format!("{}.{hint}", error.with_cause()));
        }
    }

    /// Has the routers try again and again to connect for the clients that go on where a fence may still stand.
    pub fn let_routers_try_on(&mut self) {
        if let Err(error) = self.routers().and_then(Routers::try_on) {
            self.warn(error.with_cause());
        }
    }

    /// Sends clients to `side`; where somebody else moves them, lets them in there and says so.
    pub fn point_clients(&mut self, side: Side) -> Result<()> {
        // The source has been opened by then.
        if side == Side::Target {
            self.open_the_target()?;
        }
        if let Err(error) = self.routers()?.point_to(side) {
            self.tell_who_waits(side, &error);
            return Err(error);
        }
        if self.routers()?.moves_clients() || self.config.router.clients_choose || self.plan.is_dry() {
            return Ok(());
        }
        // A person takes the time that it takes.
        self.end_guard();
        let said = self.output.hand_over(&format!(
            "The {side} lets clients in, and the {} does not: point them to the {side}.",
            side.other()
        ));
        // Where it ends here, the record does not know that they are let in.
        self.reported = said.is_err().then(|| (self.phase(), Some(side.into())));
        self.moved_by_operator = said?;
        Ok(())
    }

    /// Some routers may have led their clients on where others failed; one that does not answer does not hold them either.
    fn tell_who_waits(&mut self, side: Side, error: &Error) {
        let Some((waiting, gone_on)) = self.routers.as_ref().map(Routers::split) else { return };
        if gone_on.is_empty() {
            return;
        }
        let (waiting, gone_on) = (waiting.join(", "), gone_on.join(", "));
        self.warn(format!(
            "clients of {waiting} are not served until that leads to the {side}; those of {gone_on} have gone on there"
        ));
        if error.is_connection_lost() {
            self.reported = Some((self.phase(), Some(side.into())));
        }
    }
}
