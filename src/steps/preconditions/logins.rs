//! Whether general roles can log in on the target and write there as they do where they work now.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::FenceKind;
use crate::error::{Checked, Result};
use crate::pg::catalog::facts::{Role, list_login_members, list_passwords, list_role_settings, list_roles};
use crate::pg::catalog::inventory::is_true;
use crate::pg::fence::SETTING;
use crate::phase::Side;
use crate::sql::quote_identifier;
use crate::steps::Run;
use crate::steps::mirror::inventory::name_some;

/// Settings that end what takes longer; zero is none.
const TIMEOUTS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
];

/// Settings that decide what a statement finds or does.
const DECISIVE: [&str; 5] =
    ["search_path", "role", "row_security", "session_replication_role", "default_transaction_isolation"];

/// What roles find set, by role and name.
type Values = BTreeMap<(String, String), String>;

/// The connections of general traffic are those of the roles that are named, not of members of them.
pub fn roles_log_in(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let roles = run.config.traffic.roles.clone();
    let found = list_roles(run.source(), &roles)?;
    let members = list_login_members(run.source(), &roles)?;
    for role in found.iter().filter(|role| !role.can_login) {
        let unnamed = members.get(&role.name).into_iter().flatten().filter(|name| !roles.contains(name));
        let unnamed: Vec<&str> = unnamed.map(String::as_str).collect();
        let message = "it cannot log in, so that no connection is its: a fence keeps nobody out for it";
        let hint = if unnamed.is_empty() {
            "Name the roles that the application logs in as under traffic.roles.".to_owned()
        } else {
            format!(
                "Name the roles that the application logs in as under traffic.roles; these are members of it: {}.",
                name_some(unnamed.into_iter())
            )
        };
        checked.warn("traffic_roles", &role.name, message, hint);
    }
    Ok(())
}

/// General roles are let in on the target by as many connections as on the source, and may write there.
pub fn logins_on_target(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let roles = run.config.traffic.roles.clone();
    let here = list_roles(run.source(), &roles)?;
    let there = list_roles(run.target(), &roles)?;
    let secrets_before = list_passwords(run.source(), &roles)?;
    let secrets_now = list_passwords(run.target(), &roles)?;
    let set_before = values(run, Side::Source, &roles)?;
    let set_now = values(run, Side::Target, &roles)?;
    let mut found = Checked::default();
    for role in &there {
        let Some(before) = here.iter().find(|before| before.name == role.name) else { continue };
        compare_roles(before, role, &mut found);
        let has = |names: &Option<BTreeSet<String>>| names.as_ref().map(|names| names.contains(&role.name));
        if has(&secrets_before) == Some(true) && has(&secrets_now) == Some(false) {
            let hint = "Give it the one of the source: pg_dumpall --roles-only there shows how.";
            found.warn(
                "role_password",
                &role.name,
                "it has a password on the source, and none on the target",
                hint,
            );
        }
        compare_values(&role.name, &set_before, &set_now, &mut found);
    }
    compare_databases(run, there.iter().all(|role| role.superuser), &mut found)?;
    // Where clients reach the target as another role, nobody may log in as these.
    if run.config.restrict_role.is_some() {
        found.warnings.append(&mut found.failures);
    }
    checked.append(found);
    Ok(())
}

fn compare_roles(before: &Role, role: &Role, found: &mut Checked) {
    let name = quote_identifier(&role.name);
    if before.can_login && !role.can_login {
        let hint = format!("Run ALTER ROLE {name} LOGIN; on the target.");
        found.fail("role_login", &role.name, "it cannot log in on the target", hint);
    }
    if role.expired && !before.expired {
        let hint = format!("Run ALTER ROLE {name} VALID UNTIL 'infinity'; on the target.");
        found.fail("role_password", &role.name, "its password is valid no more on the target", hint);
    }
    let hint = format!("Run ALTER ROLE {name} CONNECTION LIMIT {}; on the target.", before.connection_limit);
    if !role.superuser {
        limit(("role_limit", &role.name), before.connection_limit, role.connection_limit, hint, found);
    }
}

fn compare_databases(run: &mut Run, are_superusers: bool, found: &mut Checked) -> Result<()> {
    let before = run.database_facts(Side::Source)?.connection_limit;
    let target = run.database_facts(Side::Target)?;
    let name = quote_identifier(&target.name);
    let hint = format!("Run ALTER DATABASE {name} CONNECTION LIMIT {before}; on the target.");
    if !are_superusers {
        limit(("database_limit", "target"), before, target.connection_limit, hint, found);
    }
    Ok(())
}

/// Adds what a limit of connections that is lower than before comes to; a negative one is none.
fn limit((check, object): (&'static str, &str), before: i32, now: i32, hint: String, found: &mut Checked) {
    if now < 0 || before >= 0 && before <= now {
        return;
    }
    let many =
        if before < 0 { "there is none on the source".to_owned() } else { format!("{before} on the source") };
    let message = format!("its CONNECTION LIMIT is {now} on the target, and {many}");
    if now == 0 { found.fail(check, object, message, hint) } else { found.warn(check, object, message, hint) }
}

/// What roles find set in force on a side, behind a read-only fence of ours.
fn values(run: &mut Run, side: Side, roles: &[String]) -> Result<Values> {
    let fence = run.stored_fence(side)?.filter(|fence| fence.kind == FenceKind::ReadOnly);
    let mut values = Values::new();
    for mut found in list_role_settings(run.session(side), roles)? {
        let fenced = fence.as_ref().and_then(|fence| fence.setting_of(&found.role));
        if let Some(fenced) = fenced.filter(|_| found.of_role_in_database && found.name == SETTING) {
            let Some(before) = &fenced.before else { continue };
            found.value.clone_from(before);
        }
        values.entry((found.role, found.name)).or_insert(found.value);
    }
    Ok(values)
}

fn compare_values(role: &str, here: &Values, there: &Values, found: &mut Checked) {
    let of = |values: &Values, name: &str| values.get(&(role.to_owned(), name.to_owned())).cloned();
    let hint = |name: &str| {
        format!(
            "See ALTER ROLE … SET and ALTER DATABASE … SET on the target, and RESET {name} there or set it as on the source."
        )
    };
    let is_on = |value: Option<String>| value.is_some_and(|value| is_true(&value));
    if is_on(of(there, SETTING)) && !is_on(of(here, SETTING)) {
        let message = format!("{SETTING} is set for it on the target: it cannot write there");
        found.fail("role_setting", role, message, hint(SETTING));
    }
    let told = |value: &Option<String>| {
        value.clone().map_or_else(|| "not set".to_owned(), |value| format!("\"{value}\""))
    };
    for name in TIMEOUTS.iter().chain(&DECISIVE) {
        let (before, now) = (of(here, name), of(there, name));
        let Some(value) = &now else { continue };
        let is_worse = if TIMEOUTS.contains(name) {
            let before = before.as_deref().and_then(milliseconds).unwrap_or(f64::INFINITY);
            milliseconds(value).is_some_and(|now| now < before)
        } else {
            before.as_ref() != Some(value)
        };
        if is_worse {
            let message =
                format!("{name} is {} for it on the target, and {} on the source", told(&now), told(&before));
            found.warn("role_setting", role, message, hint(name));
        }
    }
}

/// What a setting that is a time comes to; none for one that is off, or cannot be read.
fn milliseconds(value: &str) -> Option<f64> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let unit = match value[digits..].trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    value[..digits].parse::<f64>().ok().map(|number| number * unit).filter(|number| *number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_server_reads_them() {
        for (value, expected) in [
            ("5000", Some(5000.0)),
            ("5s", Some(5000.0)),
            (" 2 min", Some(120_000.0)),
            ("1.5h", Some(5_400_000.0)),
            ("0", None),
            ("x", None),
        ] {
            assert_eq!(milliseconds(value), expected, "{value}");
        }
    }

    #[test]
    fn a_lower_limit_is_told_and_none_at_all_refused() {
        for (before, now, failures, warnings) in [
            (-1, -1, 0, 0),
            (5, 5, 0, 0),
            (5, 6, 0, 0),
            (-1, 0, 1, 0),
            (3, 0, 1, 0),
            (-1, 7, 0, 1),
            (5, 4, 0, 1),
            (0, 0, 0, 0),
        ] {
            let mut found = Checked::default();
            limit(("role_limit", "app"), before, now, String::new(), &mut found);
            assert_eq!((found.failures.len(), found.warnings.len()), (failures, warnings), "{before} {now}");
        }
    }
}
