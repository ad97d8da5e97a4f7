//! The configured routers, and what the way home needs of them.

use crate::error::{Error, Result};
use crate::routers::Routers;
use crate::steps::Run;
use crate::steps::facts::Facts;

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

    /// Stores what brings clients home, before the routers are touched. An earlier run's stays: it is the original.
    pub fn prepare_router(&mut self) -> Result<()> {
        if self.facts()?.router_original.is_some() {
            return Ok(());
        }
        let original = self.routers()?.prepare()?;
        self.add_facts(&Facts { router_original: Some(original), ..Facts::default() })
    }
}
