//! What the subscriber's tables were like when a mapping was made for them. Whoever alters one while changes are applied makes it wrong:
//! a column may be there that a row made anew would lose, or a foreign key that nobody looks after.

use std::collections::HashMap;

use super::TableName;
use crate::error::Result;
use crate::pg::Session;
use crate::sql;

/// Of each table, what tells whether it is the same still.
#[derive(Debug, Clone, Default)]
pub struct Definitions(HashMap<TableName, String>);

impl Definitions {
    /// Of all tables. To be read before anything else is read about them.
    pub fn read(session: &mut Session) -> Result<Definitions> {
        let rows = session.query(&sql::flow::LIST_TABLE_DEFINITIONS, &[])?;
        let one = |row: &postgres::Row| {
            let table = TableName::in_row(row);
            (table, row.get("definition"))
        };
        Ok(Definitions(rows.iter().map(one).collect()))
    }

    /// Adds those of tables that are not known yet, unless nothing is to be known of any.
    pub fn learn(&mut self, later: &Definitions) {
        if self.0.is_empty() {
            return;
        }
        for (table, definition) in &later.0 {
            self.0.entry(table.clone()).or_insert_with(|| definition.clone());
        }
    }

    /// A statement that fails, with SQLSTATE 22P02, where one of these is not what it was; none where nothing is known of them.
    /// A transaction that has written to them keeps others from altering them until it ends.
    pub fn refuse_altered<'a>(&self, tables: impl Iterator<Item = &'a TableName>) -> Option<String> {
        let known = |table: &'a TableName| Some((table.quoted(), self.0.get(table)?.clone()));
        let (names, definitions): (Vec<String>, Vec<String>) = tables.filter_map(known).unzip();
        if names.is_empty() {
            return None;
        }
        // By its oid, each is found at once.
        let now = sql::flow::LIST_TABLE_DEFINITIONS.text;
        let this = "c.oid = pg_catalog.to_regclass(k.name)";
        // No function of the server's raises an error; a text that is no number does.
        Some(format!(
            "select (k.name || ' was altered')::pg_catalog.int4 from unnest({}, {}) as k (name, definition) \
             where k.definition is distinct from (select d.definition from (\n{now} and {this}\n) as d)",
            sql::quote_array(&names),
            sql::quote_array(&definitions),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_holds_nobody_to_them_learns_none() {
        let table = TableName { schema: "public".into(), name: "t".into() };
        let known = |name: &str| Definitions(HashMap::from([(table.clone(), name.to_owned())]));
        let mut none = Definitions::default();
        none.learn(&known("later"));
        assert_eq!(none.refuse_altered([&table].into_iter()), None);
        let mut first = known("first");
        first.learn(&known("later"));
        let guard = first.refuse_altered([&table].into_iter());
        assert!(guard.is_some_and(|guard| guard.contains("'first'") && !guard.contains("'later'")));
    }
}
