//! The proof, while clients are served, that a change of the entry takes effect: found out past the decision of a switch, an old
//! mistake in any of its files, or a file that it does not really read, would keep all clients waiting.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::fault;
use crate::routers::pgbouncer::console::Row;
use crate::routers::pgbouncer::file::Proof;
use crate::routers::pgbouncer::hold::{LOGIN_RETRY, is_ours};
use crate::routers::pgbouncer::{PgBouncer, SHOW};
use crate::routers::replaceable_file::{repeat_if_changed, sync_folder};

/// Shows all settings.
const SETTINGS: &str = "SHOW CONFIG";
/// More connections than any server has.
const UNLIMITED: u64 = 1_000_000;

impl PgBouncer {
    /// Has it show, by RELOAD, something that is in its file for a moment, and show it no more once that is gone again.
    pub(super) fn prove_reload(&mut self) -> Result<()> {
        if self.plan.is_dry() {
            let path = self.read_file()?.path().display().to_string();
            self.plan.note(&self.name, format!("prove that it takes on what is in {path}: RELOAD with an entry that leads nowhere, and without it"));
            return Ok(());
        }
        self.take_back_reload()?;
        let [settings, shown] = self.console.ask_each([SETTINGS, SHOW])?;
        let (settings, now) = (settings?, self.entry_of(shown?)?);
        let proof = Proof { name: name_of_nobody(), limit: limit_beyond(&now) };
        let written = repeat_if_changed(|| {
            let file = self.read_file()?;
            let (entry, _) = file.entry(&self.settings.database)?;
            file.replace_for_a_moment(&file.with_proof(&entry, &proof), &self.aside())
        });
        written?;
        let taken_on = self.require_taken_on(&proof);
        fault::point("in", "prove the router");
        let put_back = self.put_file_back();
        let let_go = self.reload_and_show().and_then(|(_, shown)| self.require_gone(&proof, &shown));
        let restored = self.restore_settings(&settings);
        put_back.and(taken_on).and(let_go).and(restored)
    }

    /// Takes back what a proof has left that was cut short; true when there was something.
    pub(super) fn take_back_reload(&mut self) -> Result<bool> {
        let file = self.read_file()?;
        if !file.has_proof() {
            return Ok(!self.plan.is_dry() && file.remove_aside(&self.aside()));
        }
        if self.plan.is_dry() {
            self.plan.note(&self.name, format!("take a proof back in {}, RELOAD", file.path().display()));
            return Ok(true);
        }
        self.put_file_back()?;
        self.reload_and_show().map(|_| true)
    }

    /// The file as it was, with what others may have changed in it meanwhile.
    fn put_file_back(&self) -> Result<()> {
        let put = repeat_if_changed(|| {
            let file = self.read_file()?;
            if file.has_proof() {
                file.put_back(file.text(), &self.aside())?;
            }
            file.folder().map_or(Ok(()), |folder| sync_folder(&folder))
        });
        put.map_err(|error| {
            let file = self.settings.config.display();
            let hint = format!(
                "Run the same command again, which puts it back, or remove the line that begins with \";pgdetour-proof\" from {file}, \
                 the one below it, and max_db_connections= at the end of the next. They do no harm."
            );
            self.wrong("put the file back of", error.with_cause(), hint)
        })
    }

    /// What it said to RELOAD, and the databases that it then shows.
    fn reload_and_show(&mut self) -> Result<(Result<Vec<Row>>, Vec<Row>)> {
        let [reloaded, shown] = self.console.ask_each(["RELOAD", SHOW])?;
        Ok((reloaded, shown?))
    }

    fn require_taken_on(&mut self, proof: &Proof) -> Result<()> {
        let (reloaded, shown) = self.reload_and_show()?;
        let database = self.settings.database.clone();
        let file = self.settings.config.display().to_string();
        if !shows(&shown, &proof.name) {
            let said = reloaded.err().map(|error| format!(": {}", error.with_cause())).unwrap_or_default();
            return Err(self.wrong(
                "prove the reload of",
                format!("what is written into {file} has no effect{said}"),
                format!(
                    "See its log: it stops reading where one of its files has a mistake or cannot be read. Where it runs in a \
                     container, mount the folder of {file}: a file that is mounted alone is not the one that takes its place. \
                     Correct that, run RELOAD on its console, and run the same command again."
                ),
            ));
        }
        let limit = self.entry_of(shown)?.get("max_connections").map(str::to_owned);
        if limit.is_some_and(|limit| limit != proof.limit.to_string()) {
            return Err(self.wrong(
                "prove the reload of",
                format!("it goes by another entry of \"{database}\" than the one in {file}"),
                format!(
                    "Where \"{database}\" stands twice in its files, it goes by the last one: leave only that in {file}, run \
                     RELOAD on its console, and run the same command again."
                ),
            ));
        }
        reloaded.map(drop).map_err(|error| self.not_whole(&error.with_cause()))
    }

    fn require_gone(&self, proof: &Proof, shown: &[Row]) -> Result<()> {
        if !shows(shown, &proof.name) {
            return Ok(());
        }
        let left = format!("it still shows \"{}\", which went from its file", proof.name);
        Err(self.not_whole(&left))
    }

    /// A mistake behind the entry: settings that stand there are lost at each RELOAD.
    fn not_whole(&self, why: &str) -> Error {
        self.wrong(
            "prove the reload of",
            format!("it does not read all of its configuration: {why}"),
            "See its log, which names the mistake. Correct that, run RELOAD on its console, and run the same command again.",
        )
    }

    /// Sets what RELOAD has changed of the settings to what it was: what was SET on the console, and what a mistake in its files
    /// has made it take back.
    fn restore_settings(&mut self, before: &[Row]) -> Result<()> {
        let now = self.console.ask(SETTINGS)?;
        let mut restored = Ok(());
        for row in before.iter().filter(|row| row.get("changeable") == Some("yes")) {
            let (Some(key), Some(value)) = (row.get("key"), row.get("value")) else { continue };
            let is_same =
                now.iter().any(|row| row.get("key") == Some(key) && row.get("value") == Some(value));
            if is_same || (key == LOGIN_RETRY && is_ours(value)) {
                continue;
            }
            let set = format!("SET {key} = '{}'", value.replace('\'', "''"));
            let done = self.console.ask(&set).map(drop);
            restored = restored.and(done.map_err(|error| {
                let hint = format!("It was {value} until now. Run SET or RELOAD on its console.");
                self.wrong(&format!("set back {key} of"), error.with_cause(), hint)
            }));
        }
        restored
    }

    /// What the file is called beside the one that stands in its place during a proof.
    fn aside(&self) -> String {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
        format!(".pgdetour-{}", self.settings.database.chars().map(plain).collect::<String>())
    }
}

fn shows(shown: &[Row], name: &str) -> bool {
    shown.iter().any(|row| row.get("name") == Some(name))
}

/// A database that nobody has, nor another proof at the same time.
fn name_of_nobody() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("pgdetour_proof_{:x}_{now:x}", std::process::id())
}

/// A limit that limits nobody, and is not the one that the entry has.
fn limit_beyond(now: &Row) -> u64 {
    match now.text("max_connections").parse::<u64>() {
        Ok(limit) if limit > 0 => limit + 1,
        _ => UNLIMITED,
    }
}
