//! Which collations order what users have, and by which version of a library.

use crate::error::Result;
use crate::pg::Session;
use crate::sql;

/// A collation by which something is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorting {
    /// `c` libc, `i` ICU, `b` the server itself.
    pub provider: String,
    /// The locale, as its provider knows it.
    pub locale: String,
    /// The version that the catalog holds: that of the time when it was made, or refreshed.
    pub recorded: Option<String>,
    /// Indexes and partitioned tables that it orders.
    pub relations: Vec<String>,
}

impl Sorting {
    /// `de of ICU`.
    pub fn display(&self) -> String {
        let provider = match self.provider.as_str() {
            "c" => "libc",
            "i" => "ICU",
            _ => "the server",
        };
        format!("\"{}\" of {provider}", self.locale)
    }
}

/// Those that order indexes and partitioned tables of users.
pub fn list_sorting(session: &mut Session) -> Result<Vec<Sorting>> {
    let rows = session.query(&sql::catalog::LIST_SORTING_COLLATIONS, &[])?;
    let sorting = |row: &postgres::Row| Sorting {
        provider: row.get("provider"),
        locale: row.get("locale"),
        recorded: row.get("recorded"),
        relations: row.get("relations"),
    };
    Ok(rows.iter().map(sorting).collect())
}

/// The version of what compares by such a locale on this server; none where it has none, or is not known.
pub fn find_version(session: &mut Session, sorting: &Sorting) -> Result<Option<String>> {
    let row =
        session.query_one(&sql::catalog::FIND_COLLATION_VERSION, &[&sorting.provider, &sorting.locale])?;
    Ok(row.get("version"))
}
