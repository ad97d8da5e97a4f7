//! One `PgBouncer` process: PAUSE, another entry in its file, RELOAD, RESUME, each proven by what its console shows.

mod check;
mod console;
mod file;
mod hold;
mod proof;
mod reading;
mod reloading;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::PgBouncerSettings;
use crate::config::entry::value_of;
use crate::error::{Checked, Error, Result};
use crate::pg::Conninfo;
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::pgbouncer::check::check;
use crate::routers::pgbouncer::console::{Console, Row};
use crate::routers::pgbouncer::file::{DatabaseFile, Place, has_password, hide_password, place_of};
use crate::routers::pgbouncer::reading::{Reading, Written};
use crate::routers::replaceable_file::{Ready, repeat_if_changed, sync_folder};
use crate::routers::{Heed, OtherWay, Router, RouterState, RouterUndo, SharedPort};
use crate::sql::quote_identifier;

/// Shows all entries.
const SHOW: &str = "SHOW DATABASES";
/// The entry that its console neither shows nor takes for PAUSE.
const WILDCARD: &str = "*";
/// The entry as it was before the detour.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PgBouncerUndo {
    /// The console's address: files on several hosts may have one name.
    pub console: String,
    /// The file, symbolic links resolved.
    pub config: PathBuf,
    /// The entry's name.
    pub database: String,
    /// Its value, with any password hidden.
    pub entry: String,
    /// The value holds a password: the value itself stays in the file, in a comment above the entry.
    pub secret: bool,
}

/// What is known of the entry that general traffic uses.
pub struct PgBouncer {
    name: String,
    settings: PgBouncerSettings,
    undo: Option<PgBouncerUndo>,
    console: Console,
    plan: Plan,
    /// Other entries of the same process that are moved as well.
    siblings: Vec<String>,
    /// The file's next text, written before clients are held.
    ready: Option<Ready>,
    /// Where a file was replaced that may not be on the disk yet.
    unsynced: Option<PathBuf>,
    /// Connections to the server are to be renewed as clients go on.
    renews: bool,
    /// `server_login_retry` as it was before clients went on, in seconds.
    login_retry: Option<String>,
}

impl PgBouncer {
    /// All that are configured. Connects to nothing yet; `stored` are the undos of the record, among which each finds its own.
    pub fn all(
        settings: &[PgBouncerSettings],
        stored: &[RouterUndo],
        plan: &Plan,
        application_name: &str,
    ) -> Result<Vec<Self>> {
        let all_settings = settings;
        let conninfos: Vec<Conninfo> =
            settings.iter().map(|one| Conninfo::parse(&one.admin)).collect::<Result<_>>()?;
        let names: Vec<String> =
            conninfos.iter().map(|conninfo| format!("pgbouncer {}", conninfo.addresses())).collect();
        let each = settings.iter().zip(conninfos).zip(&names).enumerate();
        let all = each.map(|(at, ((settings, conninfo), name))| PgBouncer {
            name: name.clone(),
            settings: settings.clone(),
            undo: own_undo(at, settings, &names, stored).cloned(),
            console: Console::new(name, conninfo, application_name),
            plan: plan.clone(),
            siblings: siblings_of(at, all_settings, &names),
            ready: None,
            unsynced: None,
            renews: false,
            login_retry: None,
        });
        Ok(all.collect())
    }

    /// `PAUSE "shop"`.
    fn command(&self, verb: &str) -> String {
        format!("{verb} {}", quote_identifier(&self.settings.database))
    }

    fn wrong(&self, action: &str, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Router {
            action: format!("{action} {}", self.name),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Where the configured target entry leads.
    fn target_place(&self) -> Result<Place> {
        place_of(&self.settings.database, &self.settings.target).map_err(|why| Error::Usage {
            message: format!("router.pgbouncer.target: {why}"),
            hint: "Write it as PgBouncer does, such as \"host=db2 dbname=shop\".".into(),
        })
    }

    /// Where the entry is to lead from cutback on, once its original is known.
    fn source_place(&self) -> Option<Place> {
        let undo = self.undo.as_ref()?;
        place_of(&self.settings.database, self.settings.source.as_ref().unwrap_or(&undo.entry)).ok()
    }

    fn read_file(&self) -> Result<DatabaseFile> {
        let PgBouncerSettings { config, file_command, database, .. } = &self.settings;
        DatabaseFile::read(config, file_command.as_deref(), database)
    }

    /// What the process reads, by the settings that it shows; None where that is not known here.
    fn reading(&self, settings: &[Row]) -> Option<Reading> {
        if self.settings.file_command.is_some() {
            return None;
        }
        let main = settings.iter().find(|row| row.get("key") == Some("conffile"))?;
        Reading::of(main.text("value").as_ref())
    }

    /// Where the entry in the file leads.
    fn file_place(&self) -> Result<Place> {
        let file = self.read_file()?;
        let (entry, value) = file.entry(&self.settings.database)?;
        place_of(&self.settings.database, &value).map_err(|why| {
            let at = format!("{}:{}", file.path().display(), entry.line);
            self.wrong("read the entry of", format!("{at}: {why}"), "Correct the entry, then run RELOAD.")
        })
    }

    /// The entry as `PgBouncer` uses it now.
    fn live(&mut self) -> Result<Row> {
        let shown = self.console.ask(SHOW)?;
        self.entry_of(shown)
    }

    /// Our entry among those that it shows.
    fn entry_of(&self, shown: Vec<Row>) -> Result<Row> {
        let database = &self.settings.database;
        if database == WILDCARD {
            return Err(self.wrong(
                "find the database in",
                format!("\"{WILDCARD}\" stands for databases without an entry, each of which is held by its own name"),
                format!(
                    "Give the database that general traffic uses an entry of its own under [databases], run RELOAD on its \
                     console, and name that as \"database\" instead of \"{WILDCARD}\"."
                ),
            ));
        }
        shown.into_iter().find(|row| row.get("name") == Some(database)).ok_or_else(|| {
            self.wrong(
                "find the database in",
                format!("it knows no database \"{database}\""),
                format!("Add an entry \"{database}\" under [databases], then run RELOAD on its console."),
            )
        })
    }

    /// The side that a place belongs to; None for a third one.
    fn side_of(&self, place: &Place, target: &Place) -> Option<Side> {
        if place == target {
            return Some(Side::Target);
        }
        // Without a stored original the detour has not begun, and whatever stands there is the source.
        (self.source_place().is_none_or(|source| *place == source)).then_some(Side::Source)
    }

    /// Writes the entry that leads to `side`, unless it stands there already. True when the file was changed.
    fn write_entry(&mut self, side: Side) -> Result<bool> {
        let file = self.read_file()?;
        let (entry, value) = file.entry(&self.settings.database)?;
        let Some((text, shown)) = self.text_for(side, &file, &entry, &value)? else { return Ok(false) };
        let path = file.path().display();
        let database = &self.settings.database;
        let before = hide_password(&value);
        let change =
            format!("rewrite {path}:{}\n- {database} = {before}\n+ {database} = {shown}", entry.line);
        if self.plan.is_dry() {
            self.plan.note(&self.name, change);
            return Ok(true);
        }
        file.replace(&text, self.ready.take())?;
        self.unsynced = file.folder();
        Ok(true)
    }

    /// The file's new text and its entry as people may see it; None when the entry leads to `side` already.
    fn text_for(
        &self,
        side: Side,
        file: &DatabaseFile,
        entry: &file::Entry,
        value: &str,
    ) -> Result<Option<(Vec<u8>, String)>> {
        let database = &self.settings.database;
        let target = self.target_place()?;
        let now = place_of(database, value).ok();
        if side == Side::Target {
            if now.as_ref() == Some(&target) {
                return Ok(None);
            }
            if let (Some(now), Some(source)) = (&now, self.source_place())
                && *now != source
            {
                let message = format!("its entry leads to {now}, neither the source nor the target");
                return Err(self.wrong(
                    "point to the target",
                    message,
                    "See who changed the entry, and put back the one that leads to the source.",
                ));
            }
            let text = file.with_value(entry, &self.settings.target, has_password(value));
            return Ok(Some((text, hide_password(&self.settings.target))));
        }
        let Some(undo) = &self.undo else {
            // Never pointed away: the entry of the source is the one that stands there.
            if now.as_ref() == Some(&target) {
                let hint =
                    format!("Write the entry of \"{database}\" that leads to the source, then run RELOAD.");
                return Err(self.wrong("point to the source", "the original entry is not known", hint));
            }
            return Ok(None);
        };
        // Somebody may have put the source's entry back, in other words: theirs stays.
        if now.is_some() && now == self.source_place() {
            return Ok(None);
        }
        if let Some(moved) = &self.settings.source {
            return Ok(Some((file.with_moved_value(entry, moved), hide_password(moved))));
        }
        if !undo.secret {
            return Ok(Some((file.with_value(entry, &undo.entry, false), undo.entry.clone())));
        }
        file.with_kept_value(entry).map(|text| Some((text, undo.entry.clone()))).ok_or_else(|| {
            self.wrong(
                "point to the source",
                format!("the comment above the entry of \"{database}\" that kept its original value is gone"),
                format!("Write this in its place, with the password: {database} = {}", undo.entry),
            )
        })
    }
}

impl Router for PgBouncer {
    fn name(&self) -> &str {
        &self.name
    }

    fn moves(&self) -> String {
        format!("database {} of {}", quote_identifier(&self.settings.database), self.name)
    }

    fn tell_apart(&mut self) {
        self.name = format!("{} {}", self.console.name(), self.settings.database);
    }

    fn check(&mut self, budget: Duration) -> Checked {
        check(self, budget)
    }

    fn shared_port(&mut self) -> Option<SharedPort> {
        let settings = self.console.ask("SHOW CONFIG").ok()?;
        let setting = settings.iter().find(|row| row.get("key") == Some("so_reuseport"))?;
        let address = Conninfo::parse(&self.settings.admin).ok()?.places();
        setting.is_set("value").then(|| SharedPort { is_own: address.starts_with('/'), address })
    }

    /// The role that looks up passwords, and the one that an entry makes of all clients.
    fn login_roles(&mut self) -> Result<Vec<String>> {
        let target = &self.settings.target;
        let mut roles = Vec::from_iter(value_of(target, "auth_user"));
        roles.extend(self.target_place()?.user);
        if value_of(target, "auth_user").is_none() {
            let settings = self.console.ask("SHOW CONFIG")?;
            let global = settings.iter().find(|row| row.get("key") == Some("auth_user"));
            roles.extend(global.and_then(|row| row.get("value")).map(str::to_owned));
        }
        roles.retain(|role| !role.is_empty());
        Ok(roles)
    }

    fn forced_roles(&mut self) -> Result<Vec<(Side, String)>> {
        // Before the first switch whatever stands in the file leads to the source.
        let source = self.source_place().map_or_else(|| self.file_place(), Ok)?;
        let forced = [(Side::Source, source.user), (Side::Target, self.target_place()?.user)];
        Ok(forced.into_iter().filter_map(|(side, role)| Some((side, role?))).collect())
    }

    /// What is set for a role overrides the entry.
    fn unheld_roles(&mut self) -> Result<Vec<String>> {
        let users = self.console.ask("SHOW USERS")?;
        let unheld = users.iter().filter(|user| user.get("pool_mode") == Some("session"));
        Ok(unheld.map(|user| user.text("name").to_owned()).collect())
    }

    fn other_ways(&mut self) -> Result<Vec<OtherWay>> {
        let [settings, shown, pools] = self.console.ask_each(["SHOW CONFIG", SHOW, "SHOW POOLS"])?;
        let (settings, shown, pools) = (settings?, shown?, pools?);
        let database = self.settings.database.clone();
        let is_other = |name: &str| name != database && !self.siblings.iter().any(|other| other == name);
        let rows = shown.iter().map(|row| (row.text("name").to_owned(), live_place(row))).collect::<Vec<_>>();
        let Some((_, own)) = rows.iter().find(|(name, _)| *name == database) else { return Ok(Vec::new()) };
        let is_same =
            |place: &Place| (&place.host, &place.port, &place.dbname) == (&own.host, &own.port, &own.dbname);
        let mut ways: Vec<OtherWay> = Vec::new();
        for (name, place) in rows.iter().filter(|(name, place)| is_other(name) && is_same(place)) {
            let pools = pools.iter().filter(|pool| pool.get("database") == Some(name));
            let users = pools.map(|pool| pool.text("user").to_owned()).collect();
            ways.push(OtherWay { name: name.clone(), forced: place.user.clone(), users });
        }
        // Its console does not show that one. Who asks for what has no entry of its own is led on by it, under that name.
        let reading = self.reading(&settings);
        let mut entries = reading.iter().flat_map(|reading| &reading.entries);
        if let Some(Written { value, .. }) = entries.rfind(|entry| entry.name == WILDCARD)
            && is_other(&own.dbname)
            && let Ok(place) = place_of(&own.dbname, value)
            && is_same(&place)
            && !rows.iter().any(|(name, _)| *name == own.dbname)
        {
            ways.push(OtherWay { name: WILDCARD.into(), forced: place.user, users: Vec::new() });
        }
        Ok(ways)
    }

    fn prepare(&mut self) -> Result<Option<RouterUndo>> {
        let file = self.read_file()?;
        let (_, value) = file.entry(&self.settings.database)?;
        let place = place_of(&self.settings.database, &value)
            .map_err(|why| self.wrong("read the entry of", why, "Correct the entry, then run RELOAD."))?;
        let is_moved = place == self.target_place()?;
        if self.undo.is_none() && is_moved {
            return Err(self.wrong(
                "keep the entry of",
                "it leads to the target already, and the original is not known",
                "Put the entry back that leads to the source, then run RELOAD.",
            ));
        }
        // Somebody may have edited it since an earlier run has stored it; one that leads elsewhere is not for us to take on.
        if self.source_place().is_none_or(|source| source == place) && !is_moved {
            self.undo = Some(PgBouncerUndo {
                console: self.console.name().to_owned(),
                config: file.path().to_owned(),
                database: self.settings.database.clone(),
                entry: hide_password(&value),
                secret: has_password(&value),
            });
        }
        Ok(self.undo.clone().map(RouterUndo::PgBouncer))
    }

    fn prove(&mut self) -> Result<()> {
        self.prove_reload()
    }

    fn take_back_proof(&mut self) -> Result<bool> {
        self.take_back_reload()
    }

    fn make_ready(&mut self, side: Side) -> Result<()> {
        if self.plan.is_dry() {
            return Ok(());
        }
        let file = self.read_file()?;
        let (entry, value) = file.entry(&self.settings.database)?;
        let text = self.text_for(side, &file, &entry, &value)?;
        self.ready = match text {
            Some((text, _)) => file.make_ready(&text)?,
            None => None,
        };
        Ok(())
    }

    fn hold(&mut self, deadline: Instant, heed: &Heed) -> Result<()> {
        let command = self.command("PAUSE");
        if self.plan.is_dry() {
            self.plan.note(&self.name, command);
            return Ok(());
        }
        // Connects first, so that an unreachable console cannot be mistaken for a pause that waits.
        self.wait_for_logins(deadline, heed)?;
        let paused = self.console.ask_until(&command, deadline, heed).and_then(|_| {
            // A RESUME by somebody else may have slipped in between.
            if self.live()?.is_set("paused") {
                return Ok(());
            }
            Err(self.wrong("hold clients of", "somebody resumed them", "See who else uses its console."))
        });
        paused.map_err(|error| self.give_up_hold(error)).map_err(|error| self.paused_already(error))
    }

    fn point_to(&mut self, side: Side) -> Result<()> {
        let changed = repeat_if_changed(|| self.write_entry(side))?;
        if self.plan.is_dry() {
            if changed {
                self.plan.note(&self.name, "RELOAD");
            }
            return Ok(());
        }
        let wanted = self.file_place()?;
        if !changed && live_place(&self.live()?) == wanted {
            return Ok(());
        }
        let [reloaded, shown] = self.console.ask_each(["RELOAD", SHOW])?;
        reloaded?;
        let now = live_place(&self.entry_of(shown?)?);
        if now == wanted {
            return Ok(());
        }
        Err(self.wrong(
            "reload",
            format!("after RELOAD it uses {now}, and its file says {wanted}"),
            format!(
                "See its log: it keeps its old configuration when a file has a mistake or cannot be read. Where \"{0}\" stands \
                 twice in its files, it goes by the last one: leave only that in {1}, run RELOAD on its console, and run the \
                 same command again.",
                self.settings.database,
                self.settings.config.display()
            ),
        ))
    }

    fn resume(&mut self) -> Result<()> {
        if self.plan.is_dry() {
            self.plan.note(&self.name, self.command("RESUME"));
            return Ok(());
        }
        self.resume_and_verify()?;
        self.renews = false;
        self.unsynced.take().map_or(Ok(()), |folder| sync_folder(&folder))
    }

    fn settle(&mut self) -> Result<()> {
        if self.plan.is_dry() {
            return Ok(());
        }
        self.restore_login_retry().map_err(|error| {
            let hint = "It may be 0 until RELOAD is run on its console.";
            self.wrong("set back server_login_retry of", error.with_cause(), hint)
        })
    }

    fn try_on(&mut self) -> Result<()> {
        if self.plan.is_dry() { Ok(()) } else { self.retry_logins_soon() }
    }

    fn reconnect(&mut self) -> Result<()> {
        if self.plan.is_dry() {
            self.plan.note(&self.name, self.command("RECONNECT"));
        }
        // In one round trip with RESUME, for which clients wait.
        self.renews = !self.plan.is_dry();
        Ok(())
    }

    fn state(&mut self) -> Result<RouterState> {
        let live = self.live()?;
        let (mut held, disabled) = (live.is_set("paused"), live.is_set("disabled"));
        let place = live_place(&live);
        let target = self.target_place()?;
        let live_side = self.side_of(&place, &target);
        let file = self.file_place();
        let file_side = file.as_ref().ok().map(|place| self.side_of(place, &target));
        let mut mend = file.as_ref().err().and_then(Error::hint);
        let (side, detail) = match (live_side, file_side, &file) {
            (Some(side), None, Err(error)) => (Some(side), Some(format!("its file is not known: {error}"))),
            (Some(live), Some(Some(file)), _) if live == file => (Some(live), None),
            (live, _, Ok(file)) if *file != place => {
                let now = live.map_or_else(|| place.to_string(), |side| format!("the {side}, {place}"));
                (None, Some(format!("it uses {now}, and its file says {file}: a RELOAD would move clients")))
            }
            _ => (None, Some(format!("it leads to {place}, neither the source nor the target"))),
        };
        // Each such question is a line in its log, and only who waits can be held.
        if !held && sum(&self.pools()?, "cl_waiting") > 0 && self.is_paused_as_a_whole() {
            held = true;
            mend = mend.or_else(|| Some(hold::RESUME_ALL.into()));
        }
        let name = self.name.clone();
        Ok(RouterState {
            name,
            held,
            disabled,
            side,
            live: live_side,
            detail,
            mend,
            ..RouterState::default()
        })
    }

    /// Its console is where clients reach it.
    fn is_down(&self, error: &Error) -> bool {
        error.is_connection_lost()
    }

    fn server_ports(&mut self) -> Result<Option<Vec<i32>>> {
        let servers = self.console.ask("SHOW SERVERS")?;
        Ok(Some(servers.iter().filter_map(|server| server.text("local_port").parse().ok()).collect()))
    }

    fn answer(&mut self) -> Result<()> {
        self.live().map(drop)
    }

    fn clients(&mut self) -> Result<u64> {
        let pools = self.pools()?;
        Ok(sum(&pools, "cl_active") + sum(&pools, "cl_waiting"))
    }
}

/// A column's numbers, summed up.
fn sum(pools: &[Row], column: &str) -> u64 {
    pools.iter().map(|pool| pool.text(column).parse::<u64>().unwrap_or(0)).sum()
}

/// Where `PgBouncer` says that an entry leads.
fn live_place(row: &Row) -> Place {
    Place {
        host: row.get("host").map(str::to_owned),
        port: row.text("port").to_owned(),
        dbname: row.text("database").to_owned(),
        user: row.get("force_user").filter(|user| !user.is_empty()).map(str::to_owned),
    }
}

/// The entries that others of those configured move in the process of the one `at` this place: it has the same console, by that
/// address or by another that goes with the same file.
fn siblings_of(at: usize, settings: &[PgBouncerSettings], names: &[String]) -> Vec<String> {
    let others = settings.iter().zip(names).enumerate().filter(|(other, _)| *other != at);
    let is_same =
        |one: &PgBouncerSettings, name: &String| *name == names[at] || one.config == settings[at].config;
    others.filter(|(_, (one, name))| is_same(one, name)).map(|(_, (one, _))| one.database.clone()).collect()
}

/// Of the record's undos, which are in the order that the processes were configured in, that of the one `at` this place of `names`.
fn own_undo<'a>(
    at: usize,
    settings: &PgBouncerSettings,
    names: &[String],
    stored: &'a [RouterUndo],
) -> Option<&'a PgBouncerUndo> {
    let real = std::fs::canonicalize(&settings.config).unwrap_or_else(|_| settings.config.clone());
    let of_entry = |(place, undo): (usize, &'a RouterUndo)| match undo {
        RouterUndo::PgBouncer(undo)
            if undo.database == settings.database
                && (undo.config == real || undo.config == settings.config) =>
        {
            Some((place, undo))
        }
        _ => None,
    };
    let mut left: Vec<(usize, &PgBouncerUndo)> = stored.iter().enumerate().filter_map(of_entry).collect();
    if let Some((_, own)) = left.iter().find(|(_, undo)| undo.console == names[at]) {
        return Some(own);
    }
    // Its address is written in another way by now. Here, one path is one file, whoever reads it; elsewhere each host may have its own.
    let is_here = settings.file_command.is_none();
    left.retain(|(_, undo)| is_here || !names.contains(&undo.console));
    let own = left.iter().find(|(place, _)| *place == at);
    own.or_else(|| left.first().filter(|_| is_here || left.len() == 1)).map(|(_, undo)| *undo)
}

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
