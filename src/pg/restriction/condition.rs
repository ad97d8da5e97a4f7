//! A rule's condition over the old and the new row of a trigger: asked of the server, not parsed.

use super::{Member, Verb};
use crate::error::{Error, Result, ServerError};
use crate::pg::Session;
use crate::sql::quote_qualified;

/// What the server calls the row where it writes the condition out.
const ROW: &str = "pgdetour_qualified_row";

/// A condition with every column qualified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Over `old`.
    pub old: String,
    /// Over `new`.
    pub new: String,
}

/// Whether a trigger of these statements asks for the new row.
pub(super) fn sees_new<'a>(deny: impl IntoIterator<Item = &'a Verb>) -> bool {
    deny.into_iter().any(|verb| matches!(verb, Verb::Insert | Verb::Update))
}

/// The condition over the rows of a table, or what the server says against it, be it only that it cannot be asked of the
/// new row. Works in temporary objects of a transaction that is rolled back.
pub(super) fn resolve(
    session: &mut Session,
    member: &Member,
    text: &str,
    sees_new: bool,
) -> Result<std::result::Result<Resolved, ServerError>> {
    let side = session.place.name();
    let failed = |error: &postgres::Error| Error::sql("examine a restriction's condition", side, error);
    let client = session.client();
    client.batch_execute("begin").map_err(|error| failed(&error))?;
    let answer = examine(client, &quote_qualified(&member.schema, &member.name), text, sees_new);
    client.batch_execute("rollback").map_err(|error| failed(&error))?;
    match answer {
        Ok(resolved) => Ok(Ok(resolved)),
        // An answer about the condition, not a failure of the server or of our rights to ask.
        Err(error) if error.as_db_error().is_some_and(|said| is_about_text(said.code().code())) => {
            Ok(Err(ServerError::from(&error)))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Classes of SQLSTATE that blame a statement's text: data exceptions, syntax and names, unsupported features.
fn is_about_text(sqlstate: &str) -> bool {
    ["22", "42", "0A"].iter().any(|class| sqlstate.starts_with(class)) && sqlstate != "42501"
}

fn examine(
    client: &mut postgres::Client,
    table: &str,
    text: &str,
    sees_new: bool,
) -> std::result::Result<Resolved, postgres::Error> {
    // A check constraint is refused what a trigger's WHEN is refused: subqueries, aggregates, sets.
    client.batch_execute(&format!(
        "create temporary table pgdetour_row (like {table} including generated);
         alter table pg_temp.pgdetour_row add check (({text}\n))"
    ))?;
    // The second relation makes the server qualify every column with the name of its row. Neither `old` nor `new` can
    // be that name: up to version 15 a view has hidden relations that are called so.
    client.batch_execute(&format!(
        "create temporary view pgdetour_condition as
         select from pg_temp.pgdetour_row as {ROW}, (select) as pgdetour_other where ({text}\n)"
    ))?;
    let view = "select pg_catalog.pg_get_viewdef('pg_temp.pgdetour_condition'::pg_catalog.regclass)";
    let definition: String = client.query_one(view, &[])?.get(0);
    let condition = definition.split_once("WHERE ").map_or(definition.as_str(), |(_, condition)| condition);
    let condition = condition.trim_end().trim_end_matches(';');
    let over = |row: &str| condition.replace(&format!("{ROW}."), &format!("{row}."));
    let resolved = Resolved { old: over("old"), new: over("new") };
    if sees_new {
        // Generated columns have no value yet when the trigger fires.
        client.batch_execute(&format!(
            "create trigger pgdetour_new before update on pg_temp.pgdetour_row for each row when ({})
             execute function pg_catalog.suppress_redundant_updates_trigger()",
            resolved.new
        ))?;
    }
    Ok(resolved)
}
