//! How what users have made beside the columns of tables is defined, to be held against another server.

use crate::error::Result;
use crate::pg::Session;
use crate::pg::catalog::inventory::Object;
use crate::pg::catalog::objects::Name;
use crate::sql;

/// One object and how it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// `view`, `function`, `policy`, …
    pub kind: String,
    /// What it is called, the same on every server that has it.
    pub identity: String,
    /// The table or view that it is or belongs to.
    pub relation: Option<Name>,
    /// The table that a foreign key refers to.
    pub referenced: Option<Name>,
    /// One of the roles that were asked about may use it.
    pub used: bool,
    /// A hash of what is the same on every server that has it.
    pub portable: String,
    /// A hash of what servers of one major version put in the same words.
    pub shown: String,
}

/// All of them in this database; not the system's, extensions' and ours, which is also a `limited` role that policies were made to hold
/// for.
pub fn list_definitions(
    session: &mut Session,
    roles: &[String],
    limited: Option<&str>,
) -> Result<Vec<Definition>> {
    let rows = session.query(&sql::catalog::LIST_DEFINITIONS, &[&roles, &limited])?;
    let definition = |row: &postgres::Row| {
        let Object { kind, identity, relation, referenced } = Object::of_row(row);
        let (used, portable, shown) = (row.get("used"), row.get("definition"), row.get("shown"));
        Definition { kind, identity, relation, referenced, used, portable, shown }
    };
    Ok(rows.iter().map(definition).collect())
}
