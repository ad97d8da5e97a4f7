//! Publications: which tables' changes a slot carries.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::flow::mapping::TableName;
use crate::pg::Session;
use crate::pg::catalog::Part;
use crate::sql;

/// A table of a publication: the whole of it, or a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The table.
    pub table: TableName,
    /// What of it is published. Parts need PostgreSQL 15.
    pub part: Part,
}

impl Published {
    /// All of `table`.
    pub fn whole(table: TableName) -> Published {
        Published { table, part: Part::default() }
    }

    /// `only "public"."orders" ("id", "note") where (note <> '')`
    fn clause(&self) -> String {
        let mut text = member(&self.table.schema, &self.table.name);
        if let Some(columns) = &self.part.columns {
            let columns: Vec<String> = columns.iter().map(|column| sql::quote_identifier(column)).collect();
            text = format!("{text} ({})", columns.join(", "));
        }
        match &self.part.filter {
            Some(filter) => format!("{text} where ({filter})"),
            None => text,
        }
    }
}

/// A publication as it was made, kept in its comment: whoever alters it leaves that as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    via_root: bool,
    /// What its settings are as a row of the catalog, and whose it is; an earlier version has noted neither.
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    owner: Option<u32>,
    /// Its entry for each table, by the table's oid.
    tables: BTreeMap<u32, Entry>,
}

/// That a publication names a table, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Oid of the entry: a table that is taken out and added again gets another one.
    member: u32,
    /// A hash of columns and filter; none for the whole table.
    part: Option<String>,
}

/// How a publication does not publish its tables any more as it did when it was made, or did not for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Altered {
    /// What is otherwise for all of them.
    whole: Option<String>,
    tables: BTreeMap<TableName, Alteration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alteration {
    Part,
    Anew,
}

impl Alteration {
    fn of(self, what: &str) -> String {
        match self {
            Alteration::Part => format!("publishes other columns or rows of {what}"),
            Alteration::Anew => format!("was without {what} for a while"),
        }
    }
}

impl Altered {
    /// What it does with a table.
    pub fn of(&self, table: &TableName) -> Option<String> {
        let single = || self.tables.get(table).map(|alteration| alteration.of("it"));
        self.whole.clone().or_else(single)
    }

    /// All of it in one line; none where it is as it was made.
    pub fn describe(&self) -> Option<String> {
        let each = self.tables.iter().map(|(table, alteration)| alteration.of(&format!("table \"{table}\"")));
        let told: Vec<String> = self.whole.iter().cloned().chain(each).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// Makes publication `name` publish all changes of exactly `tables`, or their parts, and of our markers, each partition
/// under its own name unless they go over as one; whether anything had to be changed.
pub fn create_publication(session: &mut Session, name: &str, tables: &[Published]) -> Result<bool> {
    let mut wanted: BTreeMap<(String, String), Published> = tables
        .iter()
        .map(|published| ((published.table.schema.clone(), published.table.name.clone()), published.clone()))
        .collect();
    let marker = TableName { schema: "pgdetour".to_owned(), name: "marker".to_owned() };
    wanted.insert((marker.schema.clone(), marker.name.clone()), Published::whole(marker));
    let quoted = sql::quote_identifier(name);
    let via_root = tables.iter().any(|published| published.part.through_root);
    let Some(found) = session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])? else {
        let with = if via_root { " with (publish_via_partition_root = true)" } else { "" };
        let statement = format!("create publication {quoted} for table {}{with}", clauses(wanted.values()));
        session
            .atomically(|session| {
                session.change(&statement, &[])?;
                note_as_made(session, name)
            })
            .doing(|| format!("create publication {quoted}"))?;
        return Ok(true);
    };
    if found.get("all_tables") {
        return Err(Error::Refused {
            kind: "publication_mismatch",
            message: format!("publication {quoted} exists and is FOR ALL TABLES"),
            detail: None,
            hint: format!("If nobody uses it, run: DROP PUBLICATION {quoted};"),
        });
    }
    let mut statements = Vec::new();
    if found.get::<_, bool>("via_root") != via_root || left_out(&found).is_some() {
        statements.push(format!(
            "alter publication {quoted} set (publish = 'insert, update, delete, truncate', publish_via_partition_root = {via_root})"
        ));
    }
    let altered = find_altered(session, name)?;
    let rows = session.query(&sql::flow::LIST_PUBLICATION_TABLES, &[&name])?;
    let table_in = |row: &postgres::Row| (row.get("schema_name"), row.get("table_name"));
    let present: BTreeSet<(String, String)> = rows.iter().map(table_in).collect();
    // One that publishes other columns or rows than it should is named anew. The server keeps a filter in words of its own: who
    // changes the filter in the configuration of one that stands is refused before.
    let fitting: BTreeSet<(String, String)> = rows
        .iter()
        .filter(|row| {
            wanted.get(&table_in(row)).is_some_and(|published| {
                let mut columns = published.part.columns.clone();
                if let Some(columns) = &mut columns {
                    columns.sort();
                }
                row.get::<_, bool>("filtered") == published.part.filter.is_some()
                    && row.get::<_, Option<Vec<String>>>("columns") == columns
                    && !altered.tables.contains_key(&published.table)
            })
        })
        .map(table_in)
        .collect();
    let surplus: Vec<_> = present.iter().filter(|table| !fitting.contains(*table)).collect();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(table, _)| !fitting.contains(*table))
        .map(|(_, published)| published)
        .collect();
    if !surplus.is_empty() {
        statements.push(format!("alter publication {quoted} drop table {}", list(surplus.into_iter())));
    }
    if !missing.is_empty() {
        statements.push(format!("alter publication {quoted} add table {}", clauses(missing.into_iter())));
    }
    if statements.is_empty() && altered == Altered::default() {
        return Ok(false);
    }
    session
        .atomically(|session| {
            statements.iter().try_for_each(|statement| session.change(statement, &[]).map(|_| ()))?;
            note_as_made(session, name)
        })
        .doing(|| format!("alter publication {quoted}"))?;
    Ok(true)
}

/// Keeps with a publication what it publishes by now.
fn note_as_made(session: &mut Session, name: &str) -> Result<()> {
    let quoted = sql::quote_identifier(name);
    if session.is_dry() {
        session.note(format!("note in a comment on publication {quoted} what it publishes"));
        return Ok(());
    }
    let Some(found) = session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])? else { return Ok(()) };
    let entries = list_entries(session, name)?;
    let tables = entries.into_iter().map(|(_, relation, entry)| (relation, entry)).collect();
    let made = serde_json::json!(Made {
        via_root: found.get("via_root"),
        version: found.get("version"),
        owner: found.get("owner"),
        tables
    });
    let comment = sql::quote_literal(&made.to_string());
    session.change(&format!("comment on publication {quoted} is {comment}"), &[]).map(drop)
}

fn list_entries(session: &mut Session, name: &str) -> Result<Vec<(TableName, u32, Entry)>> {
    let rows = session.query(&sql::flow::LIST_PUBLICATION_TABLES, &[&name])?;
    let entry = |row: &postgres::Row| {
        let table = TableName::in_row(row);
        (table, row.get("relation"), Entry { member: row.get("member"), part: row.get("part") })
    };
    Ok(rows.iter().map(entry).collect())
}

/// The kinds of changes that it does not publish.
fn left_out(publication: &postgres::Row) -> Option<String> {
    let kinds = ["insert", "update", "delete", "truncate"];
    let published: Vec<String> = publication.get("operations");
    let left: Vec<&str> =
        kinds.into_iter().filter(|kind| !published.iter().any(|other| other == kind)).collect();
    (!left.is_empty()).then(|| left.join(" and "))
}

/// What has become of publication `name` since it was made; nothing where there is none, and of one that an earlier version has made
/// only whether it publishes all kinds of changes.
pub fn find_altered(session: &mut Session, name: &str) -> Result<Altered> {
    let mut altered = Altered::default();
    let Some(found) = session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])? else { return Ok(altered) };
    if let Some(left) = left_out(&found) {
        altered.whole = Some(format!("leaves out every {left}"));
    }
    let comment: Option<String> = found.get("comment");
    let Some(made) = comment.and_then(|comment| serde_json::from_str::<Made>(&comment).ok()) else {
        return Ok(altered);
    };
    if altered.whole.is_none() && made.via_root != found.get::<_, bool>("via_root") {
        altered.whole = Some("publishes partitions under other names".into());
    }
    // One that was given to another owner is another row, too, and publishes what it did.
    let is_set_again = made.owner == Some(found.get("owner"))
        && made.version.is_some_and(|version| version != found.get::<_, String>("version"));
    if altered.whole.is_none() && is_set_again {
        altered.whole =
            Some("may have left out some changes for a while, until its settings were set again".into());
    }
    for (table, relation, entry) in list_entries(session, name)? {
        let what = match made.tables.get(&relation) {
            Some(before) if before.part != entry.part => Alteration::Part,
            Some(before) if before.member != entry.member => Alteration::Anew,
            _ => continue,
        };
        altered.tables.insert(table, what);
    }
    Ok(altered)
}

/// Drops publication `name`; whether there was one.
pub fn drop_publication(session: &mut Session, name: &str) -> Result<bool> {
    if session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])?.is_none() {
        return Ok(false);
    }
    let quoted = sql::quote_identifier(name);
    session
        .change(&format!("drop publication if exists {quoted}"), &[])
        .doing(|| format!("drop publication {quoted}"))?;
    Ok(true)
}

/// Tables that publication `name` names, our markers left out; none when it does not exist.
pub fn list_published(session: &mut Session, name: &str) -> Result<Option<Vec<TableName>>> {
    if session.query_opt(&sql::flow::READ_PUBLICATION, &[&name])?.is_none() {
        return Ok(None);
    }
    let rows = session.query(&sql::flow::LIST_PUBLICATION_TABLES, &[&name])?;
    let tables = rows.iter().map(TableName::in_row).filter(|table| table.schema != "pgdetour");
    Ok(Some(tables.collect()))
}

/// `only "public"."orders"`: tables that inherit from it are members where they are named themselves. Partitions always go with theirs.
fn member(schema: &str, name: &str) -> String {
    format!("only {}", sql::quote_qualified(schema, name))
}

fn list<'a>(tables: impl Iterator<Item = &'a (String, String)>) -> String {
    tables.map(|(schema, name)| member(schema, name)).collect::<Vec<_>>().join(", ")
}

fn clauses<'a>(tables: impl Iterator<Item = &'a Published>) -> String {
    tables.map(Published::clause).collect::<Vec<_>>().join(", ")
}
