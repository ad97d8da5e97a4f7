//! Whether general roles can log in on the target and write there as they do where they work now.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{FenceKind, SchemaMode};
use crate::error::{Checked, Result};
use crate::pg::catalog::facts::{
    Configured, Role, RoleValue, list_login_members, list_passwords, list_role_settings, list_roles,
    list_standing_values,
};
use crate::pg::catalog::inventory::{DatabaseSetting, is_true};
use crate::pg::fence::SETTING;
use crate::phase::{Phase, Side};
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

/// What roles find set in force, by role and name.
type Values = BTreeMap<(String, String), RoleValue>;

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
    let decisive = Decisive::read(run, &set_before, &set_now)?;
    let (mut found, mut lost) = (Checked::default(), Checked::default());
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
        compare_decisive(role, &decisive, &mut lost);
    }
    compare_databases(run, there.iter().all(|role| role.superuser), &mut found)?;
    // Where clients reach the target as another role, nobody may log in as these.
    if let Some(limited) = &run.config.restrict_role {
        found.warnings.append(&mut found.failures);
        // It gets what this one finds set.
        let (of_model, others): (Vec<_>, Vec<_>) =
            lost.failures.into_iter().partition(|finding| finding.object == limited.like);
        lost = Checked { failures: of_model, warnings: others };
    }
    checked.append(found);
    checked.append(lost);
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
        let is_fences = found.of_role && found.in_database && found.name == SETTING;
        if let Some(fenced) = fenced.filter(|_| is_fences) {
            let Some(before) = &fenced.before else { continue };
            found.value.clone_from(before);
        }
        values.entry((found.role.clone(), found.name.clone())).or_insert(found);
    }
    Ok(values)
}

fn compare_values(role: &str, here: &Values, there: &Values, found: &mut Checked) {
    let of = |values: &Values, name: &str| {
        values.get(&(role.to_owned(), name.to_owned())).map(|found| found.value.clone())
    };
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

/// What it takes to tell which of [`DECISIVE`] are set on the source alone.
struct Decisive<'a> {
    of_source: &'a Values,
    of_target: &'a Values,
    /// What the servers' configurations give to those for whom nothing is set, by name: source, target.
    configured: (BTreeMap<String, Configured>, BTreeMap<String, Configured>),
    database: String,
    /// The mirror is still to bring those of the database.
    are_to_come: bool,
}

impl<'a> Decisive<'a> {
    fn read(run: &mut Run, of_source: &'a Values, of_target: &'a Values) -> Result<Decisive<'a>> {
        let configured =
            (list_standing_values(run.source(), &DECISIVE)?, list_standing_values(run.target(), &DECISIVE)?);
        let are_to_come = run.config.mirror.schema == SchemaMode::Dump
            && matches!(run.phase(), Phase::Absent | Phase::Mirroring);
        let database = run.database_facts(Side::Target)?.name;
        Ok(Decisive { of_source, of_target, configured, database, are_to_come })
    }
}

/// Adds what is set for a role on the source alone, or for all by its configuration: its statements would find other tables on the
/// target, or do something else. One that the target sets to something of its own is somebody's decision, and only told.
fn compare_decisive(role: &Role, decisive: &Decisive, found: &mut Checked) {
    let (of_source, of_target) = &decisive.configured;
    for name in DECISIVE {
        let key = (role.name.clone(), name.to_owned());
        if decisive.of_target.contains_key(&key) {
            continue;
        }
        let now = of_target.get(name);
        let set = decisive.of_source.get(&key);
        let are_known = now.is_some_and(|now| now.is_known);
        let configured = of_source.get(name).filter(|before| before.is_known && are_known);
        let before = set.map(|set| &set.value).or(configured.map(|before| &before.value));
        let Some(value) = before else { continue };
        let may_copy = set.is_some_and(|set| role.may_set || !set.of_role);
        let is_in_database = set.is_some_and(|set| set.in_database);
        let is_to_come = decisive.are_to_come && is_in_database && may_copy;
        // Where the target's configuration says the same, nothing is missing.
        let plain = |value: &str| value.replace(' ', "");
        let is_same = now.is_some_and(|now| plain(&now.value) == plain(value));
        if is_to_come || is_same {
            continue;
        }
        let setting =
            DatabaseSetting { role: Some(role.name.clone()), name: name.to_owned(), value: value.clone() };
        let now = now.map_or("", |now| now.value.as_str());
        let lost =
            if decisive.are_to_come && is_in_database { ", and our role may not set it there" } else { "" };
        found.fail(
            "role_setting",
            &role.name,
            format!("{name} is \"{value}\" for it on the source, and \"{now}\" on the target{lost}"),
            format!("Run {}; on the target, as a superuser.", setting.set_statement(&decisive.database)),
        );
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
