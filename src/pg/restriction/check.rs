//! What must hold before rules can be installed, and who could undo them.

use super::{Member, Rule, condition, guard, list_members};
use crate::error::{Checked, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};

/// Every precondition of the rules, and who could undo them.
pub fn check(session: &mut Session, rules: &[Rule]) -> Result<Checked> {
    let mut checked = Checked::default();
    let side = session.side.name();
    if !rules.is_empty() && !guard::is_possible(session)? {
        checked.warn(
            "restrict_later",
            side,
            "tables and partitions that are made later will not be restricted: only superusers can make event triggers",
            "Run pgdetour restrict again after such a table was made, or connect as a superuser.",
        );
    }
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
                check_columns(session, rule, &member, &mut checked)?;
                oids.push(oid);
            }
        }
        for row in session.query(&sql::restrict::LIST_POWERS, &[&rule.roles, &oids])? {
            let role = quote_identifier(row.get("role_name"));
            let object = format!("{side}: role {role}");
            let owned: Vec<String> = row.get("owned");
            if !row.get::<_, bool>("present") {
                let hint =
                    format!("Create it, or correct the roles under [[restrict]]: CREATE ROLE {role} LOGIN;");
                checked.fail("restrict_role", &object, "it does not exist", hint);
            } else if row.get("is_us") {
                let hint = "Connect as a role that no rule restricts.";
                checked.fail("restrict_role", &object, "it is the role that pgdetour connects as", hint);
            } else if row.get("superuser") {
                let hint = format!("Run ALTER ROLE {role} NOSUPERUSER, if the application can do without.");
                checked.warn(
                    "restrict_role",
                    &object,
                    "it is a superuser, and could drop the restriction",
                    hint,
                );
            } else if let [first, rest @ ..] = owned.as_slice() {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                checked.warn(
                    "restrict_role",
                    &object,
                    format!("it may act as the owner of {first}{more}, and could drop the restriction"),
                    format!("Run ALTER TABLE {first} OWNER TO a role that the application does not use."),
                );
            }
        }
    }
    Ok(checked)
}

/// Finds columns that the table does not have, and a condition that cannot be read over its rows.
fn check_columns(session: &mut Session, rule: &Rule, member: &Member, checked: &mut Checked) -> Result<()> {
    let object = format!("{}: {}", session.side, member.display());
    for column in rule.columns.iter().filter(|column| !member.columns.contains(column)) {
        let hint = "Correct the columns of deny = [\"update(...)\"] under [[restrict]].";
        checked.fail("restrict_column", &object, format!("it has no column \"{column}\""), hint);
    }
    if let Some(text) = &rule.condition
        && let Err(said) = condition::resolve(session, member, text)?
    {
        checked.fail(
            "restrict_where",
            &object,
            format!("its condition cannot be used: {said}"),
            "Write SQL over the columns of one row, without subqueries, such as where = \"role = 'admin'\".",
        );
    }
    Ok(())
}
