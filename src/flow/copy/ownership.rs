//! Giving objects to their owners: unless a superuser gives, the server wants the new owner to be allowed to create where
//! the object is, which on the publisher he need not be.

use crate::error::{Doing as _, Result};
use crate::pg::Session;
use crate::pg::dump::fit::read_new_owner;
use crate::sql;

/// Does `work` in the transaction that is open, in which whoever is made an owner by `statements` may create in every schema:
/// nobody else gets to see that, and nothing of it is left.
pub(super) fn lending_create<'a, T>(
    session: &mut Session,
    statements: impl Iterator<Item = &'a str>,
    work: impl FnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let mut owners: Vec<String> = statements.filter_map(read_new_owner).collect();
    owners.sort();
    owners.dedup();
    let lent = if owners.is_empty() {
        Vec::new()
    } else {
        session.query(&sql::catalog::LIST_CLOSED_SCHEMAS, &[&owners])?
    };
    let run = |verb: &str, preposition: &str, session: &mut Session| {
        let statement = |row: &postgres::Row| {
            let (schema, roles): (&str, &str) = (row.get("schema_quoted"), row.get("roles_quoted"));
            format!("{verb} create on schema {schema} {preposition} {roles};\n")
        };
        let script: String = lent.iter().map(statement).collect();
        if script.is_empty() { Ok(()) } else { session.change_script(&script) }
    };
    run("grant", "to", session).doing(|| "let owners create in their schemas".into())?;
    let done = work(session)?;
    run("revoke", "from", session).doing(|| "let owners create in their schemas no more".into())?;
    Ok(done)
}
