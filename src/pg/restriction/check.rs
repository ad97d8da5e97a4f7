//! What must hold before rules can be installed, and who could undo them.

use super::{Member, Rule, condition, guard, list_members};
use crate::error::{Checked, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};

/// Every precondition of the rules, and who could undo them. `made` is a role that is about to be made.
pub fn check(session: &mut Session, rules: &[Rule], made: Option<&str>) -> Result<Checked> {
    let mut checked = Checked::default();
    let holds_owners = guard::is_possible(session)?;
    if !rules.is_empty() {
        warn_of_guard(session, holds_owners, &mut checked)?;
    }
    let owned = if holds_owners { Owners::AreHeld } else { Owners::CouldUndo };
    for (rule, oids) in rules.iter().zip(check_tables(session, rules, &mut checked)?) {
        check_roles(session, &rule.roles, &oids, owned, made, &mut checked)?;
    }
    Ok(checked)
}

/// The same before the target is filled: its tables are still those of the source, its roles are its own.
pub fn check_ahead(
    source: &mut Session,
    target: &mut Session,
    rules: &[Rule],
    made: Option<&str>,
) -> Result<Checked> {
    let mut checked = Checked::default();
    let holds_owners = guard::is_possible(target)?;
    if !rules.is_empty() {
        warn_of_guard(target, holds_owners, &mut checked)?;
    }
    for (rule, oids) in rules.iter().zip(check_tables(source, rules, &mut checked)?) {
        check_roles(target, &rule.roles, &[], Owners::AreHeld, made, &mut checked)?;
        if !holds_owners {
            check_owners(source, &rule.roles, &oids, &mut checked)?;
        }
    }
    Ok(checked)
}

/// What the owner of a restricted table can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// Event triggers refuse it.
    AreHeld,
    /// Nothing keeps him from dropping a trigger.
    CouldUndo,
}

/// What the event triggers will not do: `possible` says whether there can be any.
fn warn_of_guard(session: &mut Session, possible: bool, checked: &mut Checked) -> Result<()> {
    if !possible {
        warn_of_later(session, checked);
        return Ok(());
    }
    // Before 17 nobody could be given the right to switch them off.
    if session.version < 170_000 {
        return Ok(());
    }
    for row in session.query(&sql::restrict::LIST_GUARD_SWITCHES, &[])? {
        let role = row.get::<_, Option<&str>>("role_name").map_or_else(|| "public".into(), quote_identifier);
        checked.warn(
            "restrict_later",
            &format!("{}: role {role}", session.place.name()),
            "it may switch event triggers off, and with them what restricts tables that are made later and keeps owners from \
             undoing a restriction",
            format!("Run REVOKE ALL ON PARAMETER event_triggers FROM {role}."),
        );
    }
    Ok(())
}

fn warn_of_later(session: &Session, checked: &mut Checked) {
    checked.warn(
        "restrict_later",
        session.place.name(),
        "tables and partitions that are made later will not be restricted: only superusers can make event triggers",
        "Run pgdetour restrict again after such a table was made, or connect as a superuser.",
    );
}

/// That every table of the rules is there and can be restricted as they say; each rule's tables, as `pg_class.oid`.
pub fn check_tables(session: &mut Session, rules: &[Rule], checked: &mut Checked) -> Result<Vec<Vec<u32>>> {
    let side = session.place.name();
    let mut tables = Vec::new();
    for (rule, members) in rules.iter().zip(list_members(session, rules)?) {
        let mut oids = Vec::new();
        for ((schema, name), found) in rule.tables.iter().zip(members) {
            if found.is_empty() {
                let object = format!("{side}: {schema}.{name}");
                checked.fail(
                    "restrict_table",
                    &object,
                    "the table does not exist",
                    "Correct the tables under [[restrict]].",
                );
            }
            for (oid, member) in found {
                if !member.we_own {
                    let owner = quote_identifier(&member.owner);
                    checked.fail(
                        "restrict_table",
                        &format!("{side}: {}", member.display()),
                        format!("it belongs to {owner}, and only its owner can restrict it"),
                        format!(
                            "Run GRANT {owner} TO the role that pgdetour connects as, or connect as {owner}."
                        ),
                    );
                }
                check_columns(session, rule, &member, checked)?;
                oids.push(oid);
            }
        }
        tables.push(oids);
    }
    Ok(tables)
}

/// What roles could do against a restriction of these tables.
fn check_roles(
    session: &mut Session,
    roles: &[String],
    tables: &[u32],
    owners: Owners,
    made: Option<&str>,
    checked: &mut Checked,
) -> Result<()> {
    const INSTEAD: &str = "let [restrict_role] make a limited role for general traffic on the target";
    for row in session.query(&sql::restrict::LIST_POWERS, &[&roles, &tables])? {
        let name: &str = row.get("role_name");
        let role = quote_identifier(name);
        let object = format!("{}: role {role}", session.place);
        let (mighty, makers): (Vec<String>, Vec<String>) = (row.get("mighty"), row.get("makers"));
        let mut fail = |message: String, hint: String| checked.fail("restrict_role", &object, message, hint);
        if !row.get::<_, bool>("present") {
            if made != Some(name) {
                let hint =
                    format!("Create it, or correct the roles under [[restrict]]: CREATE ROLE {role} LOGIN;");
                fail("it does not exist".into(), hint);
            }
        } else if row.get("is_us") {
            let hint = "Connect as a role that no rule restricts.".into();
            fail("it is the role that pgdetour connects as".into(), hint);
        } else if row.get("superuser") {
            fail(
                "it is a superuser, and could undo the restriction".into(),
                format!("Run ALTER ROLE {role} NOSUPERUSER, or {INSTEAD}."),
            );
        } else if let [first, ..] = mighty.as_slice() {
            fail(
                format!("it may act as {first}, and could undo the restriction"),
                format!("Run REVOKE {first} FROM {role}, or from the role through which it is a member."),
            );
        } else if let [first, ..] = makers.as_slice() {
            fail(
                "it could make a role that no rule restricts, and write as that".into(),
                format!("Run ALTER ROLE {first} NOCREATEROLE, or {INSTEAD}."),
            );
        }
    }
    if owners == Owners::CouldUndo { check_owners(session, roles, tables, checked) } else { Ok(()) }
}

/// Owners whom no event trigger keeps from dropping the restriction.
fn check_owners(
    session: &mut Session,
    roles: &[String],
    tables: &[u32],
    checked: &mut Checked,
) -> Result<()> {
    for row in session.query(&sql::restrict::LIST_POWERS, &[&roles, &tables])? {
        if row.get("superuser") {
            continue;
        }
        let (tables, schemas): (Vec<String>, Vec<String>) = (row.get("owned"), row.get("owned_schemas"));
        let mut fail = |kind: &str, what: &str, first: &str, rest: &[String], act: &str| {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            checked.fail(
                "restrict_role",
                &format!("{}: role {}", session.place, quote_identifier(row.get("role_name"))),
                format!("it may act as the owner of {what}{first}{more}, and could drop {act}"),
                format!(
                    "Run ALTER {kind} {first} OWNER TO a role that the application does not use, let [restrict_role] make \
                     a limited role for general traffic on the target, or connect as a superuser."
                ),
            );
        };
        if let [first, rest @ ..] = tables.as_slice() {
            fail("TABLE", "", first, rest, "the restriction");
        }
        if let [first, rest @ ..] = schemas.as_slice() {
            fail("SCHEMA", "schema ", first, rest, "restricted tables");
        }
    }
    Ok(())
}

/// Finds columns that the table does not have, and a condition that cannot be read over its rows.
fn check_columns(session: &mut Session, rule: &Rule, member: &Member, checked: &mut Checked) -> Result<()> {
    let object = format!("{}: {}", session.place, member.display());
    for column in rule.columns.iter().filter(|column| !member.columns.contains(column)) {
        let hint = "Correct the columns of deny = [\"update(...)\"] under [[restrict]].";
        checked.fail("restrict_column", &object, format!("it has no column \"{column}\""), hint);
    }
    if let Some(text) = &rule.condition
        && let Err(said) = condition::resolve(session, member, text, condition::sees_new(&rule.deny))?
    {
        checked.fail(
            "restrict_where",
            &object,
            format!("its condition cannot be used: {said}"),
            "Write SQL over columns of one row that are not generated, without subqueries, such as where = \"role = 'admin'\".",
        );
    }
    Ok(())
}
