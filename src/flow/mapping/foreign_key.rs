//! Foreign keys of the subscriber, and what they ask of a row.

use crate::error::Result;
use crate::flow::mapping::TableName;
use crate::pg::Session;
use crate::sql;

/// Which rows have to have a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum Match {
    /// Those with a value in each of its columns.
    Simple,
    /// Those with a value in any of them.
    Full,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum Owner {
    /// The table's that rows are written to, or that of one above it.
    Table,
    /// That of one of its partitions alone.
    Partition,
}

/// One foreign key.
#[derive(Debug, Clone)]
pub(in crate::flow) struct ForeignKey {
    pub(in crate::flow) name: String,
    pub(in crate::flow) table: TableName,
    pub(in crate::flow) columns: Vec<String>,
    pub(in crate::flow) referenced: TableName,
    pub(in crate::flow) referenced_columns: Vec<String>,
    /// Types of these columns, as `format_type` writes them.
    pub(in crate::flow) referenced_types: Vec<String>,
    /// By what each value that is referred to, on the left, is equal to one that refers to it, where "=" alone does not tell.
    pub(in crate::flow) operators: Vec<Option<String>>,
    /// Collations by which they are equal, where what refers to them has another one.
    pub(in crate::flow) collations: Vec<Option<String>>,
    pub(in crate::flow) matching: Match,
    /// Its last column is a range that parents have to cover together (PostgreSQL 18).
    pub(in crate::flow) is_of_periods: bool,
    /// A row may come before its parent, in the same transaction.
    pub(in crate::flow) deferrable: bool,
    /// All rows are known to fulfil it.
    pub(in crate::flow) validated: bool,
    pub(in crate::flow) owner: Owner,
}

impl ForeignKey {
    /// Whether a row is held to it.
    pub(in crate::flow) fn concerns(&self, alias: &str) -> String {
        let test = |column: &String| format!("{alias}.{} is not null", sql::quote_identifier(column));
        let together = match self.matching {
            Match::Simple => " and ",
            Match::Full => " or ",
        };
        format!("({})", self.columns.iter().map(test).collect::<Vec<_>>().join(together))
    }

    /// Its parent is not there.
    pub(in crate::flow) fn has_no_parent(&self, alias: &str) -> String {
        self.has_no_parent_in(&self.referenced, alias)
    }

    /// Its parent is not in this table.
    pub(in crate::flow) fn has_no_parent_in(&self, parent: &TableName, alias: &str) -> String {
        let pair = |(at, (column, referenced)): (usize, (&String, &String))| {
            let mut child = format!("{alias}.{}", sql::quote_identifier(column));
            if let Some(collation) = &self.collations[at] {
                child = format!("{child} collate {collation}");
            }
            (format!("p.{}", sql::quote_identifier(referenced)), self.operator(at), child)
        };
        let mut pairs: Vec<(String, &str, String)> =
            self.columns.iter().zip(&self.referenced_columns).enumerate().map(pair).collect();
        let period = if self.is_of_periods { pairs.pop() } else { None };
        let mut conditions: Vec<String> =
            pairs.iter().map(|(parent, operator, child)| format!("{parent} {operator} {child}")).collect();
        let parent = parent.quoted();
        let Some((covering, _, covered)) = period else {
            return format!("not exists (select from {parent} as p where {})", conditions.join(" and "));
        };
        conditions.push(format!("{covering} operator(pg_catalog.&&) {covered}"));
        format!(
            "not coalesce({covered} operator(pg_catalog.<@) \
             (select pg_catalog.range_agg({covering}) from {parent} as p where {}), false)",
            conditions.join(" and ")
        )
    }

    /// A row `c` refers to these values of its parent.
    pub(in crate::flow) fn refers_to(&self, values: &[String]) -> String {
        let pair = |(at, (column, value)): (usize, (&String, &String))| {
            let is_period = self.is_of_periods && at + 1 == self.columns.len();
            let operator = if is_period { "operator(pg_catalog.&&)" } else { self.operator(at) };
            format!("{value} {operator} c.{}", sql::quote_identifier(column))
        };
        self.columns.iter().zip(values).enumerate().map(pair).collect::<Vec<_>>().join(" and ")
    }

    /// By what the referenced value of the column at this place, on the left, is equal to one that refers to it.
    fn operator(&self, at: usize) -> &str {
        self.operators[at].as_deref().unwrap_or("=")
    }
}

/// All foreign keys of the database.
pub(in crate::flow) fn list_foreign_keys(session: &mut Session) -> Result<Vec<ForeignKey>> {
    let rows = session.query(&sql::flow::LIST_FOREIGN_KEYS, &[])?;
    let key = |row: &postgres::Row| ForeignKey {
        name: row.get("constraint_name"),
        table: TableName::in_row(row),
        columns: row.get("columns"),
        referenced: TableName { schema: row.get("referenced_schema"), name: row.get("referenced_table") },
        referenced_columns: row.get("referenced_columns"),
        referenced_types: row.get("referenced_types"),
        operators: row.get("operators"),
        collations: row.get("collations"),
        matching: if row.get("match_full") { Match::Full } else { Match::Simple },
        is_of_periods: row.get("is_of_periods"),
        deferrable: row.get("deferrable"),
        validated: row.get("validated"),
        owner: Owner::Table,
    };
    Ok(rows.iter().map(key).collect())
}
