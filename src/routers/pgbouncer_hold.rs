//! `PgBouncer`'s hold: at which moment it may begin, who keeps it waiting, and how it ends.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::routers::pgbouncer::{PgBouncer, SHOW, sum};
use crate::routers::pgbouncer_console::Row;

/// How long connections that are being opened may keep a PAUSE waiting.
const LOGINS_BUDGET: Duration = Duration::from_secs(2);
/// How long clients that wait for one may.
const WAITERS_BUDGET: Duration = Duration::from_millis(200);

impl PgBouncer {
    /// Who keeps PAUSE waiting: the clients whose server connections are in use.
    fn busy(&mut self) -> Result<Vec<String>> {
        let servers = self.console.ask("SHOW SERVERS")?;
        let clients = self.console.ask("SHOW CLIENTS")?;
        let database = self.settings.database.as_str();
        let in_use = servers
            .iter()
            .filter(|server| server.get("database") == Some(database) && server.get("state") != Some("idle"));
        let named = in_use.map(|server| {
            let client = clients.iter().find(|client| client.get("ptr") == server.get("link"));
            let Some(client) = client else {
                return format!(
                    "server connection of \"{}\" in state {}",
                    server.text("user"),
                    server.text("state")
                );
            };
            let address = match client.text("addr") {
                "unix" => "a local client".to_owned(),
                address => format!("{address}:{}", client.text("port")),
            };
            let user = client.text("user");
            let pid = server.text("remote_pid");
            format!(
                "{address} as \"{user}\", last request at {}, server process {pid}",
                client.text("request_time")
            )
        });
        Ok(named.collect())
    }

    /// Waits, with clients still served, for a moment at which it opens no connection to the server, nor is about to: PAUSE cuts
    /// a login off, and that counts as a server which refuses logins, so that clients get errors after RESUME, for as long as
    /// `server_login_retry` (`per_loop_pause` and `check_fast_fail` of its source; seen with 1.18). A busy pool may have clients
    /// waiting, and open one connection after the other, all the time: not for ever, then.
    pub(super) fn wait_for_logins(&mut self, deadline: Instant) -> Result<()> {
        let now = Instant::now();
        let end = now + LOGINS_BUDGET.min(deadline.saturating_duration_since(now) / 2);
        loop {
            let pools = self.pools()?;
            let is_calm = sum(&pools, "sv_login") == 0
                && (sum(&pools, "cl_waiting") == 0 || now.elapsed() >= WAITERS_BUDGET);
            if is_calm || Instant::now() >= end {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The rows of `SHOW POOLS` about the database.
    pub(super) fn pools(&mut self) -> Result<Vec<Row>> {
        let mut pools = self.console.ask("SHOW POOLS")?;
        pools.retain(|pool| pool.get("database") == Some(&self.settings.database));
        Ok(pools)
    }

    /// Takes a PAUSE back, waiting or done.
    pub(super) fn resume_and_verify(&mut self) -> Result<()> {
        let resume = self.command("RESUME");
        let [resumed, shown] = if self.renews {
            let [renewed, resumed, shown] =
                self.console.ask_each([&self.command("RECONNECT"), &resume, SHOW])?;
            renewed?;
            [resumed, shown]
        } else {
            self.console.ask_each([&resume, SHOW])?
        };
        match resumed {
            Err(Error::Sql { cause, .. }) if cause.message.contains("not paused") => {}
            other => drop(other?),
        }
        if self.entry_of(shown?)?.is_set("paused") {
            let hint = format!("Run {}; on its console.", self.command("RESUME"));
            return Err(self.wrong("resume clients of", "they are still paused", hint));
        }
        Ok(())
    }

    /// The error of a hold that did not succeed, after its PAUSE was taken back.
    pub(super) fn give_up_hold(&mut self, error: Error) -> Error {
        // Asked before RESUME: afterwards everybody is busy.
        let busy = self.busy();
        if let Err(second) = self.resume_and_verify() {
            let hint = format!("Clients may still wait. Run {}; on its console.", self.command("RESUME"));
            let said = second.server_error().map(|cause| format!(": {cause}")).unwrap_or_default();
            return self.wrong("take back the pause on", format!("{second}{said}, after {error}"), hint);
        }
        match error {
            Error::TimedOut { what, budget, .. } => Error::TimedOut {
                what,
                budget,
                detail: Some(match busy {
                    Ok(busy) if busy.is_empty() => "no server connection was in use any more".into(),
                    Ok(busy) => format!("busy: {}", busy.join("; ")),
                    Err(error) => format!("who was busy is not known: {error}"),
                }),
                hint: "Clients go on where they were. End the open transactions named above, or allow a longer pause."
                    .into(),
            },
            other => other,
        }
    }
}
