//! `PgBouncer`'s hold: at which moment it may begin, who keeps it waiting, and how it ends.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::routers::Heed;
use crate::routers::pgbouncer::console::Row;
use crate::routers::pgbouncer::{PgBouncer, SHOW, sum};

/// How long connections that are being opened may keep a PAUSE waiting.
const LOGINS_BUDGET: Duration = Duration::from_secs(2);
/// How long clients that wait for one may.
const WAITERS_BUDGET: Duration = Duration::from_millis(200);
/// How long clients that go on are waited for until they have one.
const SETTLING_BUDGET: Duration = Duration::from_secs(1);
/// Between two looks at them.
const SETTLING_EVERY: Duration = Duration::from_millis(5);
/// For that long after a failed login there is no other one.
pub(super) const LOGIN_RETRY: &str = "server_login_retry";
/// What it is while clients that go on cannot be served yet, in seconds: nobody else's value.
const SOON: &str = "0.9";

/// The database that its console is.
const CONSOLE: &str = "pgbouncer";
/// What a PAUSE without a name has done.
pub(super) const PAUSED_AS_A_WHOLE: &str = "all its databases are paused already";
/// What ends that.
pub(super) const RESUME_ALL: &str = "Run RESUME; on its console, unless somebody holds them on purpose.";

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
    /// a login off, and that counts as a server which refuses logins, so that clients get errors after RESUME
    /// (`per_loop_pause` and `check_fast_fail` of its source; seen with 1.18). A busy pool may have clients waiting, and open
    /// one connection after the other, all the time: not for ever, then.
    pub(super) fn wait_for_logins(&mut self, deadline: Instant, heed: &Heed) -> Result<()> {
        let now = Instant::now();
        let end = now + LOGINS_BUDGET.min(deadline.saturating_duration_since(now) / 2);
        loop {
            let pools = self.pools()?;
            let is_calm = sum(&pools, "sv_login") == 0
                && (sum(&pools, "cl_waiting") == 0 || now.elapsed() >= WAITERS_BUDGET);
            if is_calm || Instant::now() >= end {
                return Ok(());
            }
            heed()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The rows of `SHOW POOLS` about the database.
    pub(super) fn pools(&mut self) -> Result<Vec<Row>> {
        let pools = self.console.ask("SHOW POOLS")?;
        Ok(self.own(pools))
    }

    fn own(&self, mut pools: Vec<Row>) -> Vec<Row> {
        pools.retain(|pool| pool.get("database") == Some(&self.settings.database));
        pools
    }

    /// Takes a PAUSE back, waiting or done. Until [`Self::restore_login_retry`] a login follows a failed one at once: the PAUSE
    /// may have cut off one that had begun after the last look, and clients would wait for `server_login_retry`, 15 s if nobody
    /// has said otherwise (`launch_new_connection`).
    pub(super) fn resume_and_verify(&mut self) -> Result<()> {
        let (config, at_once) = ("SHOW CONFIG", format!("SET {LOGIN_RETRY} = 0"));
        let resume = self.command("RESUME");
        let [config, resumed, shown] = if self.renews {
            let renew = self.command("RECONNECT");
            let [config, _, renewed, resumed, shown] =
                self.console.ask_each([config, &at_once, &renew, &resume, SHOW])?;
            renewed?;
            [config, resumed, shown]
        } else {
            let [config, _, resumed, shown] = self.console.ask_each([config, &at_once, &resume, SHOW])?;
            [config, resumed, shown]
        };
        self.login_retry =
            self.login_retry.take().or(login_retry_of(&config?).filter(|retry| !is_ours(retry)));
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

    /// Has a login follow a failed one after a second: for long, at once would be a burden for the server.
    pub(super) fn retry_logins_soon(&mut self) -> Result<()> {
        // Without quotes its console takes whole numbers only.
        self.console.ask(&format!("SET {LOGIN_RETRY} = '{SOON}'")).map(drop)
    }

    /// Gives `server_login_retry` the value of before, when the clients that went on have connections. A run that died or ended part
    /// way may have left its own: then it is what the file says.
    pub(super) fn restore_login_retry(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let [config, pools] = self.console.ask_each(["SHOW CONFIG", "SHOW POOLS"])?;
            if login_retry_of(&config?).is_none_or(|retry| !is_ours(&retry)) {
                self.login_retry = None;
                return Ok(());
            }
            let pools = self.own(pools?);
            let waiting = sum(&pools, "sv_login") + sum(&pools, "cl_waiting");
            if waiting == 0 || begun.elapsed() >= SETTLING_BUDGET {
                break;
            }
            std::thread::sleep(SETTLING_EVERY);
        }
        let restore = match self.login_retry.take() {
            Some(before) => format!("SET {LOGIN_RETRY} = '{before}'"),
            None => "RELOAD".into(),
        };
        self.console.ask(&restore).map(drop)
    }

    /// Whether a PAUSE without a name holds the clients of all databases. `SHOW DATABASES` does not tell of that, and only later
    /// versions than 1.18 have something that does: what refuses any PAUSE says it before it looks at the name, and its own
    /// database is never paused (`admin_cmd_pause`).
    pub(super) fn is_paused_as_a_whole(&mut self) -> bool {
        let asked = self.console.ask(&format!("PAUSE {CONSOLE}"));
        asked.is_err_and(|error| is_paused_already(&error))
    }

    /// What a PAUSE was refused for, as something that somebody can mend.
    pub(super) fn paused_already(&self, error: Error) -> Error {
        if !is_paused_already(&error) {
            return error;
        }
        Error::Refused {
            kind: "router_paused",
            message: format!("{}: {PAUSED_AS_A_WHOLE}", self.name),
            detail: error.server_error().map(ToString::to_string),
            hint: RESUME_ALL.into(),
        }
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
        let hint = if matches!(&busy, Ok(busy) if busy.is_empty()) {
            "Clients go on where they were. Run the same command again, or allow a longer pause."
        } else {
            "Clients go on where they were. End the open transactions named above, or allow a longer pause."
        };
        match error {
            Error::TimedOut { what, budget, .. } => Error::TimedOut {
                what,
                budget,
                detail: Some(match busy {
                    Ok(busy) if busy.is_empty() => "no server connection was in use any more".into(),
                    Ok(busy) => format!("busy: {}", busy.join("; ")),
                    Err(error) => format!("who was busy is not known: {error}"),
                }),
                hint: hint.into(),
            },
            other => other,
        }
    }
}

/// Whether it is the refusal of a PAUSE where a PAUSE without a name, or a SUSPEND, holds everybody.
fn is_paused_already(error: &Error) -> bool {
    error.server_error().is_some_and(|cause| cause.message.contains("already suspended/paused"))
}

/// Whether a value of it, as it is shown, is of our making.
pub(super) fn is_ours(retry: &str) -> bool {
    retry == "0" || retry.parse() == SOON.parse::<f64>()
}

/// Its value; none where there is no such setting.
fn login_retry_of(config: &[Row]) -> Option<String> {
    let row = config.iter().find(|row| row.get("key") == Some(LOGIN_RETRY))?;
    row.get("value").map(str::to_owned)
}
