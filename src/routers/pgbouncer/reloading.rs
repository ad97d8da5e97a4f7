//! What one `PgBouncer` process does by now, against what its files say: each RELOAD, a switch's too, takes back what was SET on
//! its console since.

use crate::error::Checked;
use crate::routers::pgbouncer::console::Row;
use crate::routers::pgbouncer::hold::{LOGIN_RETRY, is_ours};
use crate::routers::pgbouncer::reading::Written;

/// What the command line may have set, and nobody goes by.
const VERBOSE: &str = "verbose";

/// Names what a RELOAD would change of the settings that it shows; `standing` are those of its files, in their order. `mode` is the entry's own `pool_mode`, empty where it has none.
pub fn check_settings(name: &str, shown: &[Row], standing: &[Written], mode: &str, checked: &mut Checked) {
    for row in shown.iter().filter(|row| row.get("changeable") == Some("yes")) {
        let (key, now) = (row.text("key"), row.text("value"));
        let then = written(shown, standing, key);
        if is_same(key, now, then) || key == VERBOSE || (key == LOGIN_RETRY && is_ours(now)) {
            continue;
        }
        let message =
            format!("{key} is {now}, and its files say {then}: the RELOAD of a switch takes that on");
        if key == "pool_mode" && then.eq_ignore_ascii_case("session") && mode.is_empty() {
            let hint = "Write pool_mode = transaction into its file, if the application can do without session state.";
            checked.fail("router_pool_mode", name, message, hint);
        } else {
            let hint = format!("Write {key} = {now} into its file if that is to stay.");
            checked.warn("router_setting", name, message, hint);
        }
    }
}

/// What a setting is after a RELOAD: one that its files do not name is at its default then.
pub fn written<'a>(shown: &'a [Row], standing: &'a [Written], key: &str) -> &'a str {
    let default =
        || shown.iter().find(|row| row.get("key") == Some(key)).map_or("", |row| row.text("default"));
    standing.iter().rev().find(|one| one.name == key).map_or_else(default, |one| one.value.as_str())
}

/// Whether both are the same, as far as that can be told: numbers, which may be written in several ways, and what this is about
/// most.
fn is_same(key: &str, now: &str, then: &str) -> bool {
    if key == "pool_mode" {
        return now.eq_ignore_ascii_case(then);
    }
    match (now.parse::<f64>(), then.parse::<f64>()) {
        (Ok(now), Ok(then)) => (now - then).abs() < 1e-6,
        _ => true,
    }
}
