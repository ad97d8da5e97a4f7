//! What a table is beside how it is defined: the same words may be those of another table, or of other values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pg::Session;
use crate::pg::catalog::objects::{Name, split_names};
use crate::sql;

/// A table at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its oid.
    pub relation: u32,
    /// Where its rows are: another one after each rewrite.
    file: u32,
    columns: BTreeMap<String, Attribute>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attribute {
    /// Never given twice, nor changed.
    number: i16,
    /// Version of its entry in the catalog: another one after each ALTER.
    entry: String,
    /// What rows have in it that are older than it, where the catalog knows that.
    filled: Option<String>,
    /// Its default is not the same value each time.
    unsteady: bool,
}

/// What has become of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another one is in its place.
    Replaced,
    /// This column was dropped, and another one made in its place.
    ColumnReplaced(String),
    /// This column was added here and there, and older rows may have other values in it there.
    FilledOtherwise(String),
    /// The values of this column may have been rewritten.
    MaybeRewritten(String),
}

impl Origin {
    /// What has become of the table since, which is `now`; `image` is the one that has followed it.
    pub fn change(&self, now: &Origin, image: &Origin) -> Option<Change> {
        if now.relation != self.relation {
            return Some(Change::Replaced);
        }
        let is_live = |number: i16| now.columns.values().any(|column| column.number == number);
        let newest = self.columns.values().map(|column| column.number).max().unwrap_or(0);
        let mut rewritten = None;
        for (name, column) in &now.columns {
            let before = self.columns.get(name);
            if column.number > newest {
                if before.is_some_and(|before| !is_live(before.number)) {
                    return Some(Change::ColumnReplaced(name.clone()));
                }
                if image.columns.get(name).is_some_and(|there| column.may_fill_otherwise(there)) {
                    return Some(Change::FilledOtherwise(name.clone()));
                }
            } else if before.is_some_and(|before| before.entry != column.entry) && now.file != self.file {
                rewritten = Some(Change::MaybeRewritten(name.clone()));
            }
        }
        rewritten
    }
}

impl Attribute {
    fn may_fill_otherwise(&self, there: &Attribute) -> bool {
        match (&self.filled, &there.filled) {
            (Some(here), Some(there)) => here != there,
            // A rewrite may have put it into the rows, or a default that is new each time has.
            _ => self.unsteady || there.unsteady,
        }
    }
}

/// What tables are now; those that are gone are left out.
pub fn list_origins(session: &mut Session, tables: &[Name]) -> Result<BTreeMap<Name, Origin>> {
    let (schemas, names) = split_names(tables);
    let rows = session.query(&sql::catalog::LIST_ORIGINS, &[&schemas, &names])?;
    let entry = |row: &postgres::Row| {
        let origin = serde_json::from_value(row.get("origin")).map_err(|error| Error::Internal {
            message: format!("what a table is cannot be read: {error}"),
        })?;
        Ok(((row.get("schema_name"), row.get("table_name")), origin))
    };
    rows.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::test_server::TestServer;
    use crate::pg::{Conventions, Server};
    use crate::phase::Side;
    use crate::plan::Plan;

    fn connect(server: &TestServer) -> Session {
        let server = Server {
            place: Side::Source.into(),
            conninfo: server.conninfo(),
            application_name: "pgdetour test".into(),
            plan: Plan::real(),
            conventions: Conventions::default(),
        };
        server.connect().unwrap()
    }

    const TABLE: &str = "drop table if exists t; create table t (id int primary key, v int, w int); insert into t values (1, 1, 1)";

    /// What is found of a table after `here`, whose image has seen `there`.
    fn after(session: &mut Session, here: &str, there: &str) -> Option<Change> {
        let mut run = |schema: &str, script: &str| {
            session.change_script(&format!("set search_path = {schema}")).unwrap();
            // One by one, as VACUUM wants it.
            script.split_terminator("; ").try_for_each(|statement| session.change_script(statement)).unwrap();
            let table = (schema.to_owned(), "t".to_owned());
            list_origins(session, std::slice::from_ref(&table)).unwrap().remove(&table).unwrap()
        };
        let before = run("here", TABLE);
        run("there", TABLE);
        let (now, image) = (run("here", here), run("there", there));
        before.change(&now, &image)
    }

    #[test]
    fn another_table_or_column_in_the_same_words_is_known() {
        let server = TestServer::start("");
        let mut session = connect(&server);
        session.change_script("create schema here; create schema there").unwrap();
        let column = |name: &str| Some(Change::ColumnReplaced(name.into()));
        for (here, found) in [
            (
                "begin; drop table t; create table t (id int primary key, v int, w int); commit",
                Some(Change::Replaced),
            ),
            ("alter table t drop w; alter table t add w int", column("w")),
            ("alter table t rename w to x; alter table t rename v to w; alter table t rename x to v", None),
            ("alter table t alter v type int using v * 2", Some(Change::MaybeRewritten("v".into()))),
            ("vacuum full t; analyze t; update t set v = 5", None),
            ("alter table t alter v set statistics 50; analyze t", None),
            ("truncate t", None),
        ] {
            assert_eq!(after(&mut session, here, ""), found, "{here}");
        }
    }

    #[test]
    fn a_column_that_fills_older_rows_otherwise_on_either_side_is_known() {
        let server = TestServer::start("");
        let mut session = connect(&server);
        session.change_script("create schema here; create schema there").unwrap();
        let filled = Some(Change::FilledOtherwise("x".into()));
        for (here, there, found) in [
            ("alter table t add x int", "alter table t add x int", None),
            ("alter table t add x int default 7", "alter table t add x int default 7", None),
            ("alter table t add x int default 7", "alter table t add x int default 8", filled.clone()),
            ("alter table t add x int default 7; vacuum full t", "alter table t add x int default 7", None),
            ("alter table t add x serial", "alter table t add x serial", filled.clone()),
            (
                "alter table t add x int generated always as identity",
                "alter table t add x int",
                filled.clone(),
            ),
            (
                "alter table t add x timestamptz default now()",
                "alter table t add x timestamptz default now()",
                filled.clone(),
            ),
            (
                "alter table t add x uuid default gen_random_uuid()",
                "alter table t add x uuid",
                filled.clone(),
            ),
            (
                "alter table t add x date default current_date; vacuum full t",
                "alter table t add x date",
                filled,
            ),
            ("alter table t add x int generated always as (v + 1) stored", "", None),
            (
                "alter table t rename v to x; alter table t add v int default 3",
                "alter table t rename v to x; alter table t add v int default 3",
                None,
            ),
        ] {
            assert_eq!(after(&mut session, here, there), found, "{here}, {there}");
        }
    }
}
