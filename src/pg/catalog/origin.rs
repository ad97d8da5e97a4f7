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
    /// Its values come from those of other columns.
    #[serde(default)]
    computed: bool,
}

/// Which table something has become of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one whose changes are carried.
    Publisher,
    /// Its image, which has followed it.
    Subscriber,
}

/// What has become of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another one is in its place.
    Replaced(End),
    /// This column was dropped or renamed at this end only, or one that was dropped there has another in its place.
    ColumnReplaced(End, String),
    /// This column was added here and there, and older rows have, or must be taken to have, other values in it there.
    FilledOtherwise(String),
    /// This column was added here and there, and nothing tells any more what older rows have got in it.
    MaybeFilledOtherwise(String),
    /// The values of this column may have been rewritten at this end.
    MaybeRewritten(End, String),
}

impl Origin {
    /// What has become of the table since, which is `now`; `image` is the one that has followed it, and was `known` then where
    /// that was noted. What is lost for sure comes before what is in doubt.
    pub fn change(&self, now: &Origin, known: Option<&Origin>, image: &Origin) -> Option<Change> {
        if now.relation != self.relation {
            return Some(Change::Replaced(End::Publisher));
        }
        if known.is_some_and(|known| known.relation != image.relation) {
            return Some(Change::Replaced(End::Subscriber));
        }
        let mut doubt = None;
        for (name, column) in &now.columns {
            if self.has_in_place_of(name, column, now) {
                return Some(Change::ColumnReplaced(End::Publisher, name.clone()));
            }
            let Some(there) = image.columns.get(name) else { continue };
            if known.is_some_and(|known| known.has_in_place_of(name, there, image)) {
                return Some(Change::ColumnReplaced(End::Subscriber, name.clone()));
            }
            match (self.find(column.number), known.map(|known| known.find(there.number))) {
                // Both are as old as the copy, and have to be what was copied into one another, under whatever name.
                (Some((before, _)), Some(Some((known, _)))) if before != known => {
                    return Some(Change::ColumnReplaced(End::Subscriber, name.clone()));
                }
                (Some((before, _)), Some(None))
                    if known.is_some_and(|known| known.columns.contains_key(before)) =>
                {
                    return Some(Change::ColumnReplaced(End::Subscriber, name.clone()));
                }
                (None, Some(Some(_))) => return Some(Change::ColumnReplaced(End::Publisher, name.clone())),
                (None, _) => match self.compare_fills(now, column, known, image, there) {
                    Some(true) => return Some(Change::FilledOtherwise(name.clone())),
                    Some(false) => doubt = Some(Change::MaybeFilledOtherwise(name.clone())),
                    None => {}
                },
                (Some((_, before)), found) => {
                    let is_rewritten_there = known.is_some_and(|known| known.file != image.file)
                        && found.flatten().is_some_and(|(_, known)| known.entry != there.entry);
                    if before.entry != column.entry && now.file != self.file {
                        doubt = Some(Change::MaybeRewritten(End::Publisher, name.clone()));
                    } else if is_rewritten_there {
                        doubt = Some(Change::MaybeRewritten(End::Subscriber, name.clone()));
                    }
                }
            }
        }
        doubt
    }

    fn find(&self, number: i16) -> Option<(&str, &Attribute)> {
        let mut columns = self.columns.iter();
        columns.find_map(|(name, column)| (column.number == number).then_some((name.as_str(), column)))
    }

    /// Whether `column`, which has this name `now`, is a new one, and the one that had it is gone.
    fn has_in_place_of(&self, name: &str, column: &Attribute, now: &Origin) -> bool {
        let is_gone = |before: &Attribute| now.find(before.number).is_none();
        self.find(column.number).is_none() && self.columns.get(name).is_some_and(is_gone)
    }

    /// Whether rows that are older than a column, which was added at both ends, have other values in it at either: for sure, as
    /// `true`, or perhaps.
    fn compare_fills(
        &self,
        now: &Origin,
        column: &Attribute,
        known: Option<&Origin>,
        image: &Origin,
        there: &Attribute,
    ) -> Option<bool> {
        if column.computed && there.computed {
            return None;
        }
        let here_moved = now.file != self.file;
        let there_moved = known.is_some_and(|known| known.file != image.file);
        match (&column.filled, &there.filled) {
            (Some(here), Some(there)) => (here != there).then_some(true),
            // A rewrite has put it into the rows, or a default that is new each time has.
            _ if column.unsteady && here_moved => Some(true),
            _ if there.unsteady && (there_moved || known.is_none()) => Some(true),
            // Nothing was filled in where the table was not rewritten either.
            (Some(_), None) => Some(!there_moved),
            (None, Some(_)) => Some(!here_moved),
            (None, None) => (here_moved || there_moved).then_some(false),
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
        let known = run("there", TABLE);
        let (now, image) = (run("here", here), run("there", there));
        before.change(&now, Some(&known), &image)
    }

    #[test]
    fn another_table_or_column_in_the_same_words_is_known() {
        let server = TestServer::start("");
        let mut session = connect(&server);
        session.change_script("create schema here; create schema there").unwrap();
        let column = |name: &str| Some(Change::ColumnReplaced(End::Publisher, name.into()));
        let image = |name: &str| Some(Change::ColumnReplaced(End::Subscriber, name.into()));
        let made_again = "begin; drop table t; create table t (id int primary key, v int, w int); commit";
        let swapped = "alter table t rename w to x; alter table t rename v to w; alter table t rename x to v";
        let doubled = "alter table t alter v type int using v * 2";
        for (here, there, found) in [
            (made_again, "", Some(Change::Replaced(End::Publisher))),
            ("", made_again, Some(Change::Replaced(End::Subscriber))),
            ("alter table t drop w; alter table t add w int", "", column("w")),
            ("", "alter table t drop w; alter table t add w int", image("w")),
            ("alter table t drop w; alter table t add x int", "alter table t rename w to x", column("x")),
            ("alter table t rename w to x", "alter table t drop w; alter table t add x int", image("x")),
            (swapped, swapped, None),
            (swapped, "", image("v")),
            (doubled, "", Some(Change::MaybeRewritten(End::Publisher, "v".into()))),
            ("", doubled, Some(Change::MaybeRewritten(End::Subscriber, "v".into()))),
            ("vacuum full t; analyze t; update t set v = 5", "vacuum full t", None),
            ("alter table t alter v set statistics 50; analyze t", "", None),
            ("truncate t", "truncate t", None),
        ] {
            assert_eq!(after(&mut session, here, there), found, "{here}, {there}");
        }
    }

    #[test]
    fn a_column_that_fills_older_rows_otherwise_on_either_side_is_known() {
        let server = TestServer::start("");
        let mut session = connect(&server);
        session.change_script("create schema here; create schema there").unwrap();
        let filled = Some(Change::FilledOtherwise("x".into()));
        let doubted = Some(Change::MaybeFilledOtherwise("x".into()));
        let lost_default = "alter table t add x int default 7; alter table t alter x drop default";
        let rewritten =
            "alter table t add x int default 7; alter table t alter x drop default; vacuum full t";
        for (here, there, found) in [
            ("alter table t add x int", "alter table t add x int", None),
            ("alter table t add x int default 7", "alter table t add x int default 7", None),
            ("alter table t add x int default 7", "alter table t add x int default 8", filled.clone()),
            (lost_default, "alter table t add x int", filled.clone()),
            ("alter table t add x int", lost_default, filled.clone()),
            (rewritten, "alter table t add x int", doubted.clone()),
            ("alter table t add x int", rewritten, doubted.clone()),
            (rewritten, lost_default, doubted),
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
                "alter table t add x uuid; alter table t alter x set default gen_random_uuid()",
                "alter table t add x uuid",
                None,
            ),
            (
                "alter table t add x date default current_date; vacuum full t",
                "alter table t add x date",
                filled,
            ),
            ("alter table t add x int generated always as (v + 1) stored", "", None),
            (
                "alter table t add x int generated always as (v + 1) stored",
                "alter table t add x int generated always as (v + 1) stored",
                None,
            ),
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
