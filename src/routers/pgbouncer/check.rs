//! Every precondition of moving clients with one `PgBouncer` process.

use std::time::Duration;

use crate::config::PgBouncerSettings;
use crate::config::entry::value_of;
use crate::error::{Checked, Error, human};
use crate::routers::REACHABLE;
use crate::routers::pgbouncer::console::Row;
use crate::routers::pgbouncer::file::{
    DatabaseFile, Place, has_password, missing_keys, place_of, unknown_key,
};
use crate::routers::pgbouncer::hold::{PAUSED_AS_A_WHOLE, RESUME_ALL};
use crate::routers::pgbouncer::reading::{Reading, Written};
use crate::routers::pgbouncer::reloading::{check_settings, written};
use crate::routers::pgbouncer::{PgBouncer, live_place};
use crate::routers::replaceable_file::ReplaceableFile;

/// How long clients wait for a server before they are disconnected.
const QUERY_WAIT: &str = "query_wait_timeout";

/// A database name that nobody has, to ask for rights without effect.
const NOBODYS: &str = "\"pgdetour: no such database\"";

/// All findings of one process, for a hold of at most `budget`.
pub fn check(router: &mut PgBouncer, budget: Duration) -> Checked {
    let mut checked = Checked::default();
    let name = router.name.clone();
    let target = match router.target_place() {
        Ok(place) => Some(place),
        Err(error) => {
            checked.fail("router_target", &name, error.to_string(), hint_of(&error));
            None
        }
    };
    if let Some(source) = &router.settings.source
        && let Err(why) = place_of(&router.settings.database, source)
    {
        let hint = "Write it as PgBouncer does, such as \"host=db3 dbname=shop\", or leave it out.";
        checked.fail("router_source", &name, format!("router.pgbouncer.source: {why}"), hint);
    }
    let file = check_file(router, &mut checked);
    match router.live() {
        Err(error) => {
            let is_silent = error.is_connection_lost() || matches!(error, Error::TimedOut { .. });
            let check = if is_silent { REACHABLE } else { "router_database" };
            checked.fail(check, &name, error.with_cause(), hint_of(&error));
        }
        Ok(live) => {
            check_console(router, &live, budget, &mut checked);
            if let Some(file) = &file
                && live_place(&live) != *file
            {
                checked.fail(
                    "router_drift",
                    &name,
                    format!("it uses {}, and its file says {file}", live_place(&live)),
                    "Run RELOAD on its console if the file is right, or correct the file.",
                );
            }
        }
    }
    if let (Some(file), Some(target)) = (file, target) {
        check_places(router, &router.source_place().unwrap_or(file), &target, &mut checked);
    }
    checked
}

fn hint_of(error: &Error) -> String {
    match error {
        Error::Usage { hint, .. } | Error::Router { hint, .. } | Error::TimedOut { hint, .. } => hint.clone(),
        Error::Unreachable { .. } => {
            "See that PgBouncer runs, and that \"admin\" is a connection string of its console with dbname=pgbouncer."
                .into()
        }
        _ => "Correct it, then run the same command again.".into(),
    }
}

/// The file, and whether it can be rewritten; where its entry leads.
fn check_file(router: &PgBouncer, checked: &mut Checked) -> Option<Place> {
    let PgBouncerSettings { config: path, file_command, .. } = &router.settings;
    let object = path.display().to_string();
    let file = ReplaceableFile::check(path, file_command.as_deref(), "PgBouncer", checked)?;
    let file = DatabaseFile::of(file, &router.settings.database);
    let (entry, value) = match file.entry(&router.settings.database) {
        Ok(found) => found,
        Err(error) => {
            checked.fail("router_entry", &object, error.to_string(), hint_of(&error));
            return None;
        }
    };
    let place = place_of(&router.settings.database, &value);
    // An entry that leads to the target already is not rewritten.
    let is_rewritten = place.as_ref().ok() != router.target_place().as_ref().ok();
    let lost = missing_keys(&value, &router.settings.target);
    if !lost.is_empty() && is_rewritten {
        let message = format!("the present entry has {}, and \"target\" has not", lost.join(", "));
        let hint = "Add them to \"target\", unless clients are to be pooled and let in otherwise there.";
        checked.warn("router_target", &object, message, hint);
    }
    match place {
        Ok(place) => Some(place),
        Err(why) => {
            let object = format!("{object}:{}", entry.line);
            checked.fail(
                "router_entry",
                &object,
                why,
                "Correct the entry, then run RELOAD on PgBouncer's console.",
            );
            None
        }
    }
}

/// What the console says of rights, pooling and time limits.
fn check_console(router: &mut PgBouncer, live: &Row, budget: Duration, checked: &mut Checked) {
    let name = router.name.clone();
    let database = router.settings.database.clone();
    // RESUME of a database that does not exist is refused for its name only to those who may RESUME at all.
    if let Err(error) = router.console.ask(&format!("RESUME {NOBODYS}"))
        && let Some(cause) = error.server_error()
        && !cause.message.contains("no such database")
    {
        let hint =
            "Name the user of \"admin\" under admin_users in PgBouncer's configuration, then run RELOAD.";
        checked.fail("router_admin", &name, format!("it does not let us run PAUSE: {cause}"), hint);
    }
    if live.is_set("paused") {
        let hint = format!(
            "Run RESUME \"{database}\"; on its console, unless a switch was cut short: run that again."
        );
        checked.fail("router_paused", &name, format!("\"{database}\" is paused already"), hint);
    } else if router.is_paused_as_a_whole() {
        checked.fail("router_paused", &name, PAUSED_AS_A_WHOLE, RESUME_ALL);
    }
    if live.is_set("disabled") {
        let hint = format!("Run ENABLE \"{database}\"; on its console.");
        checked.warn(
            "router_disabled",
            &name,
            format!("\"{database}\" is disabled: it takes no new clients"),
            hint,
        );
    }
    let Ok(settings) = router.console.ask("SHOW CONFIG") else { return };
    let setting = |key: &str| setting(&settings, key);
    let mode = live.get("pool_mode").filter(|mode| !mode.is_empty()).unwrap_or(setting("pool_mode"));
    if mode == "session" {
        checked.fail(
            "router_pool_mode",
            &name,
            format!("\"{database}\" pools sessions: PAUSE waits until its clients disconnect"),
            "Set pool_mode = transaction for the entry, if the application can do without session state.",
        );
    }
    // On the way home it is that one which is held.
    let is_there = router.target_place().is_ok_and(|target| live_place(live) == target);
    let named = value_of(&router.settings.target, "pool_mode");
    let there = named.clone().unwrap_or_else(|| setting("pool_mode").to_owned());
    if !is_there && there.eq_ignore_ascii_case("session") && (named.is_some() || mode != "session") {
        checked.fail(
            "router_pool_mode",
            &name,
            "\"target\" pools sessions: the PAUSE of cutback would wait until its clients disconnect",
            "Write pool_mode=transaction into \"target\", if the application can do without session state.",
        );
    }
    let reading = router.reading(&settings);
    check_waiting(&name, &settings, reading.as_ref(), budget, checked);
    if let Some(reading) = reading {
        check_settings(&name, &settings, reading.standing(), live.text("pool_mode"), checked);
    }
    check_is_read(router, &settings, checked);
}

/// Clients that are held stay connected: by what holds now, and by what its files say, which the RELOAD of a switch takes on while
/// they wait. The entry's own limit (1.24 and later) is not shown by the console.
fn check_waiting(
    name: &str,
    settings: &[Row],
    reading: Option<&Reading>,
    budget: Duration,
    checked: &mut Checked,
) {
    let limit = |text: &str| {
        let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
        seconds.map(Duration::from_secs_f64).filter(|limit| *limit <= budget)
    };
    let then = reading.map(|reading| written(settings, reading.standing(), QUERY_WAIT));
    let message = match (limit(setting(settings, QUERY_WAIT)), then.and_then(limit)) {
        (Some(limit), _) => {
            format!(
                "it disconnects clients that wait {}, and they may be held for {}",
                human(limit),
                human(budget)
            )
        }
        (None, Some(limit)) => format!(
            "its files say {QUERY_WAIT} = {}, which the RELOAD of a switch takes on: it would disconnect clients that wait {}, and they \
             may be held for {}",
            then.unwrap_or_default(),
            human(limit),
            human(budget)
        ),
        (None, None) => return,
    };
    let enough = budget.as_secs().saturating_mul(2).max(120);
    let hint = format!(
        "Write {QUERY_WAIT} = {enough} into its file and run RELOAD on its console, or lower --max-pause: what is SET there holds until \
         the next RELOAD alone, which is the switch's."
    );
    checked.fail("router_query_wait_timeout", name, message, hint);
}

/// The configured file has to be one that this process reads, and the only one with the entry: it goes by the last. And nothing
/// that it reads may be what it refuses: an old mistake has no effect before the next RELOAD, which is ours.
fn check_is_read(router: &PgBouncer, settings: &[Row], checked: &mut Checked) {
    let Some(reading) = router.reading(settings) else { return };
    check_mistakes(router, settings, &reading, checked);
    let (database, Ok(file)) = (&router.settings.database, router.read_file()) else { return };
    let object = router.settings.config.display().to_string();
    if !reading.files.iter().any(|read| read == file.path()) {
        let main = setting(settings, "conffile");
        let hint = format!("Name {main} or a file that it includes as \"config\".");
        checked.fail("router_file", &object, format!("{} does not read it", router.name), hint);
        return;
    }
    let entries = reading.entries.iter().filter(|entry| entry.name == *database);
    for at in entries.filter(|entry| entry.path != file.path()).map(Written::place) {
        let message = format!("{} has \"{database}\" in {at}, too, and goes by the last one", router.name);
        let hint = format!("Leave one of them, in {object}: remove {at}, then run RELOAD on its console.");
        checked.fail("router_entry", &object, message, hint);
    }
}

/// What would keep it from reading all of its files, as far as that can be told from here.
fn check_mistakes(router: &PgBouncer, settings: &[Row], reading: &Reading, checked: &mut Checked) {
    let hint = "Correct it, then run RELOAD on PgBouncer's console: at a mistake it stops reading, and settings may fall back to \
                their defaults.";
    for mistake in &reading.mistakes {
        checked.fail("router_file", &router.name, format!("it would refuse {mistake}"), hint);
    }
    for line in &reading.settings {
        if let Some(why) = why_refused(settings, line) {
            checked.fail(
                "router_file",
                &line.place(),
                format!("{} would refuse it: {why}", router.name),
                hint,
            );
        }
    }
    for line in reading.entries.iter().filter(|line| line.name != router.settings.database) {
        let at = line.place();
        if let Some(key) = unknown_key(&line.value) {
            let message = format!("\"{key}\" is no key of an entry that pgdetour knows of");
            checked.warn(
                "router_file",
                &at,
                message,
                format!("Where PgBouncer does not know it either: {hint}"),
            );
        } else if let Err(why) = place_of(&line.name, &line.value) {
            // What is malformed may be a password.
            let why = if has_password(&line.value) { String::new() } else { format!(": {why}") };
            checked.fail("router_file", &at, format!("{} would refuse this entry{why}", router.name), hint);
        }
    }
}

/// Why a setting is not taken, by what the process itself says of its settings.
fn why_refused(settings: &[Row], line: &Written) -> Option<String> {
    let Written { name, value, .. } = line;
    let Some(known) = settings.iter().find(|row| row.get("key") == Some(name)) else {
        return Some(format!("it knows no setting \"{name}\""));
    };
    // What takes effect at its start only is not looked at in a RELOAD.
    if known.get("changeable") != Some("yes") {
        return None;
    }
    let is_known = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    let is_number = |text: &str| {
        let hexadecimal =
            text.strip_prefix("0x").is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok());
        hexadecimal || text.parse::<f64>().is_ok()
    };
    let is_wrong = if name == "pool_mode" {
        !is_known(&["session", "transaction", "statement"])
    } else {
        let is_switch = is_known(&["yes", "no", "on", "off", "true", "false", "y", "n", "t", "f"]);
        is_number(known.text("default")) && !is_number(value) && !is_switch
    };
    is_wrong.then(|| format!("{name} = {value}"))
}

/// The value of one of the settings that it shows.
fn setting<'a>(settings: &'a [Row], key: &str) -> &'a str {
    settings.iter().find(|row| row.get("key") == Some(key)).map_or("", |row| row.text("value"))
}

/// The two entries against each other.
fn check_places(router: &PgBouncer, source: &Place, target: &Place, checked: &mut Checked) {
    let object = format!("{} \"{}\"", router.name, router.settings.database);
    if source == target {
        let message = format!("the entry leads to {target} already, which is where \"target\" leads");
        checked.fail(
            "router_target",
            &object,
            message,
            "Point the entry to the source, or correct \"target\".",
        );
        return;
    }
    if source.host == target.host && source.port == target.port && source.dbname == target.dbname {
        let message = format!("source and target are one database: {target}");
        checked.fail(
            "router_target",
            &object,
            message,
            "Correct \"target\": another server, or another database.",
        );
    }
    match (&source.user, &target.user) {
        (None, Some(user)) => checked.fail(
            "router_user",
            &object,
            format!("\"target\" has user={user} and the present entry has no user=, which PgBouncer cannot take back"),
            format!(
                "PgBouncer keeps a user= once it has one, until it is restarted. Leave user= out of \"target\" and name \
                 the application's own roles under [traffic] and [[restrict]], or give the present entry a user= too \
                 and run RELOAD. \"{user}\" is not needed to limit access."
            ),
        ),
        (Some(user), None) => checked.fail(
            "router_user",
            &object,
            format!("the present entry has user={user} and \"target\" has none: PgBouncer would keep \"{user}\""),
            format!("Add user={user} to \"target\"."),
        ),
        (Some(from), Some(to)) if from != to => checked.warn(
            "router_user",
            &object,
            format!("all its clients, also those connected before, become \"{to}\" on the target instead of \"{from}\""),
            format!("See that \"{to}\" has the rights that the application needs, and that PgBouncer knows its password."),
        ),
        _ => {}
    }
}
