//! The configured routers, and what the way home needs of them.

use crate::config::{Config, RouterKind};
use crate::error::{Error, Result};
use crate::routers::{CommandSettings, HaProxySettings, PgBouncerSettings, RouterSettings, Routers};
use crate::steps::Run;
use crate::steps::facts::Facts;

impl Run {
    /// The routers, reached at the first call.
    pub fn routers(&mut self) -> Result<&mut Routers> {
        if self.routers.is_none() {
            let stored = self.facts()?.router_original.unwrap_or_default();
            let name = format!("pgdetour {}", self.command);
            self.routers = Some(Routers::new(&settings(&self.config)?, &stored, &self.plan, &name)?);
        }
        self.routers.as_mut().ok_or_else(|| Error::Internal { message: "there are no routers".into() })
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

fn settings(config: &Config) -> Result<RouterSettings> {
    let router = &config.router;
    Ok(match router.kind {
        RouterKind::Pgbouncer => RouterSettings::PgBouncer(
            router
                .pgbouncer
                .iter()
                .map(|instance| PgBouncerSettings {
                    admin: instance.admin.clone(),
                    database: instance.database.clone(),
                    config: instance.config.clone(),
                    target: instance.target.clone(),
                })
                .collect(),
        ),
        RouterKind::Command => {
            let command = router.command.as_ref().ok_or_else(|| Error::Usage {
                message: "router.kind is \"command\", but no program is given".into(),
                hint: "Write [router.command] program = [\"…\"].".into(),
            })?;
            RouterSettings::Command(CommandSettings {
                program: command.program.clone(),
                timeout: command.timeout,
            })
        }
        RouterKind::Haproxy => RouterSettings::HaProxy(
            router
                .haproxy
                .iter()
                .map(|map| HaProxySettings {
                    socket: map.socket.clone(),
                    map: map.map.clone(),
                    key: map.key.clone(),
                    source: map.source.clone(),
                    target: map.target.clone(),
                    file: map.file.clone(),
                    admin_acl: map.admin_acl.clone(),
                    admin_networks: config.traffic.admin_networks.clone(),
                })
                .collect(),
        ),
        RouterKind::None => RouterSettings::None,
    })
}
