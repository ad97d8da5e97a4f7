//! No router: somebody else moves the clients, and is told when.

use std::time::{Duration, Instant};

use crate::error::{Checked, Result};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::{Router, RouterState, RouterUndo};

/// Moves nothing; only the fence keeps general traffic off the side that does not serve.
pub struct NoRouter {
    plan: Plan,
}

impl NoRouter {
    /// A dry run notes what somebody else has to do.
    pub fn new(plan: &Plan) -> Self {
        NoRouter { plan: plan.clone() }
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
        checked.warn(
            "router",
            "router.kind",
            "no router is configured: clients are not held, and see errors until they are moved",
            "Move the clients yourself when the command says so, or configure a router of kind \"pgbouncer\" or \"command\".",
        );
        checked
    }

    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        Ok(None)
    }

    fn hold(&mut self, _deadline: Instant) -> Result<()> {
        Ok(())
    }

    fn point_to(&mut self, side: Side) -> Result<()> {
        self.plan.note("pgdetour", format!("(somebody else moves the clients to the {side})"));
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }

    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }

    fn state(&mut self) -> Result<RouterState> {
        let detail = "clients are moved by somebody else".to_owned();
        Ok(RouterState { name: self.name().to_owned(), detail: Some(detail), ..RouterState::default() })
    }

    fn clients(&mut self) -> Result<u64> {
        Ok(0)
    }
}
