//! The event triggers that restrict tables made later, and keep limited roles from undoing a restriction.

use serde_json::{Value, json};

use super::rule::{Definition, Rule, SQLSTATE};
use super::{Member, Purpose, resolve_condition};
use crate::error::{Doing as _, Result};
use crate::pg::parameter::Parameter;
use crate::pg::{Session, record};
use crate::sql;

/// Stands for the trigger's name while its statement becomes a format.
const NAME: &str = "\u{1}";
/// Stands for the table.
const TABLE: &str = "\u{2}";

/// One row of `pgdetour.rule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guarded {
    included: Value,
    excluded: Value,
    roles: Vec<String>,
    message: String,
    sqlstate: String,
    kind: i32,
    from_above: bool,
    argument: String,
    statement: String,
}

/// What a rule asks of tables that come later; `like` is one of the tables that it has now.
pub(super) fn guarded(session: &mut Session, rule: &Rule, like: &Member) -> Result<Vec<Guarded>> {
    let regexes = |pairs: &[(String, String)]| -> Value {
        let anchored = |body: &str| format!("^({body})$");
        pairs
            .iter()
            .map(|(schema, name)| json!({ "schema": anchored(schema), "name": anchored(name) }))
            .collect()
    };
    let literal: Vec<(String, String)> =
        rule.tables.iter().map(|(schema, name)| (regex::escape(schema), regex::escape(name))).collect();
    let included = regexes(if rule.patterns.is_empty() { &literal } else { &rule.patterns });
    let mut rows = Vec::new();
    let definitions = rule.definitions();
    let from_above: Vec<Definition> = definitions.iter().filter_map(Definition::beside_it).collect();
    for definition in definitions.into_iter().chain(from_above) {
        let resolved = resolve_condition(session, like, &definition)?;
        let statement = definition.create_trigger(NAME, TABLE, resolved.as_ref(), Purpose::Refuse);
        rows.push(Guarded {
            included: included.clone(),
            excluded: regexes(&rule.except),
            roles: definition.roles.iter().cloned().collect(),
            message: definition.message.clone(),
            sqlstate: definition.sqlstate.clone().unwrap_or_else(|| SQLSTATE.into()),
            kind: definition.kind(),
            from_above: definition.from_above,
            argument: definition.argument(),
            statement: statement.replace('%', "%%").replace(NAME, "%1$s").replace(TABLE, "%2$s"),
        });
    }
    Ok(rows)
}

/// Makes the event triggers follow `wanted`, where our role may: only superusers can. With nothing wanted they are removed.
/// Whether anything was changed.
pub(super) fn install(session: &mut Session, wanted: &[Guarded]) -> Result<bool> {
    let row = session.query_one(&sql::restrict::READ_GUARD, &[])?;
    let (present, whole): (bool, bool) = (row.get("present"), row.get("whole"));
    let bodies: Vec<&str> = row.get("bodies");
    let is_current = whole && bodies.iter().all(|body| sql::restrict::CREATE_GUARD.text.contains(body));
    if wanted.is_empty() {
        if present {
            session
                .atomically(|session| session.change_script(sql::restrict::DROP_GUARD.text))
                .doing(|| "drop event trigger \"pgdetour_guard\"".into())?;
        }
        return Ok(present);
    }
    if !row.get::<_, bool>("superuser") {
        return Ok(false);
    }
    if is_current && list(session)? == wanted {
        return Ok(false);
    }
    session
        .atomically(|session| {
            record::make_objects(session, &[&sql::restrict::CREATE_GUARD])?;
            session.change("delete from pgdetour.rule", &[])?;
            for (at, rule) in (1_i32..).zip(wanted) {
                let values: [&dyn Parameter; 10] = [
                    &at,
                    &rule.included,
                    &rule.excluded,
                    &rule.roles,
                    &rule.message,
                    &rule.sqlstate,
                    &rule.kind,
                    &rule.from_above,
                    &rule.argument,
                    &rule.statement,
                ];
                session.change(sql::restrict::INSERT_RULE.text, &values)?;
            }
            Ok(())
        })
        .doing(|| "create event trigger \"pgdetour_guard\"".into())?;
    Ok(true)
}

/// Whether [`install`] would find other rules than these for tables that come later, or none.
pub(super) fn differs(session: &mut Session, wanted: &[Guarded]) -> Result<bool> {
    let row = session.query_one(&sql::restrict::READ_GUARD, &[])?;
    if !row.get::<_, bool>("superuser") {
        return Ok(false);
    }
    if wanted.is_empty() {
        return Ok(row.get("present"));
    }
    Ok(!row.get::<_, bool>("whole") || list(session)? != wanted)
}

/// Whether our role may make event triggers.
pub(super) fn is_possible(session: &mut Session) -> Result<bool> {
    Ok(session.query_one(&sql::restrict::READ_GUARD, &[])?.get("superuser"))
}

fn list(session: &mut Session) -> Result<Vec<Guarded>> {
    let rows = session.query_text(
        "select included, excluded, roles, message, sqlstate, kind, from_above, argument, statement
         from pgdetour.rule order by ordinal",
        &[],
    )?;
    let guarded = rows.iter().map(|row| Guarded {
        included: row.get("included"),
        excluded: row.get("excluded"),
        roles: row.get("roles"),
        message: row.get("message"),
        sqlstate: row.get("sqlstate"),
        kind: row.get("kind"),
        from_above: row.get("from_above"),
        argument: row.get("argument"),
        statement: row.get("statement"),
    });
    Ok(guarded.collect())
}
