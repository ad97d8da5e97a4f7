//! No router: somebody else moves the clients, and is told when; or they move by themselves.

use std::time::{Duration, Instant};

use crate::error::{Checked, Result};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::{Heed, Router, RouterState, RouterUndo};

/// Moves nothing; only the fence keeps general traffic off the side that does not serve.
pub struct NoRouter {
    plan: Plan,
    /// Clients go where they can write.
    clients_choose: bool,
}

impl NoRouter {
    /// A dry run notes what somebody else has to do.
    pub fn new(plan: &Plan, clients_choose: bool) -> Self {
        NoRouter { plan: plan.clone(), clients_choose }
    }
}

impl Router for NoRouter {
    fn name(&self) -> &'static str {
        "router none"
    }

    fn moves_clients(&self) -> bool {
        false
    }

    fn check(&mut self, _budget: Duration) -> Checked {
        let mut checked = Checked::default();
        let (message, hint) = if self.clients_choose {
            (
                "no router is configured: sessions are ended at a switch, and clients see errors until they have connected anew",
                "See that each client knows both servers, with target_session_attrs=read-write or what its driver has for it.",
            )
        } else {
            (
                "no router is configured: clients are not held, and see errors until they are moved",
                "Move the clients yourself when the command says so, or configure a router of kind \"pgbouncer\" or \"command\".",
            )
        };
        checked.warn("router", "router.kind", message, hint);
        checked
    }

    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        Ok(None)
    }

    fn hold(&mut self, _deadline: Instant, _heed: &Heed) -> Result<()> {
        Ok(())
    }

    fn point_to(&mut self, side: Side) -> Result<()> {
        let who = if self.clients_choose {
            "clients move by themselves"
        } else {
            "somebody else moves the clients"
        };
        self.plan.note("pgdetour", format!("({who} to the {side})"));
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }

    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }

    fn state(&mut self) -> Result<RouterState> {
        let detail = if self.clients_choose {
            "clients move by themselves"
        } else {
            "clients are moved by somebody else"
        };
        let detail = Some(detail.to_owned());
        Ok(RouterState { name: self.name().to_owned(), detail, ..RouterState::default() })
    }

    fn clients(&mut self) -> Result<u64> {
        Ok(0)
    }
}
