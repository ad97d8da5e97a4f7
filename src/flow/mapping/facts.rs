//! What the subscriber's catalog says about writing to its tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::TableName;
use crate::error::Result;
use crate::pg::Session;
use crate::pg::catalog::Table;
use crate::sql;

/// Types from here on are users' own.
pub(super) const FIRST_USER_OID: u32 = 16384;

/// What the subscriber's catalog says about writing to its tables.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) defaulted: HashSet<(TableName, String)>,
    /// Defaults that are constants.
    pub(super) constants: HashMap<(TableName, String), String>,
    pub(super) always_identity: HashSet<(TableName, String)>,
    /// Columns of the unique keys that hold for all rows and at once.
    pub(super) unique_keys: HashMap<TableName, Vec<Vec<String>>>,
    /// Unique indexes over some rows or over expressions: name and definition.
    pub(super) partial_keys: HashMap<TableName, Vec<(String, String)>>,
    pub(super) indexed_keys: HashMap<TableName, Vec<Vec<String>>>,
    /// Tables that have no more than one unique key, whatever it holds for.
    pub(super) with_one_key: HashSet<TableName>,
    /// With the values of enums.
    pub(super) known_types: HashMap<String, Vec<String>>,
}

/// Columns of the server's tables that fill themselves when an INSERT names them not.
pub fn list_defaulted(session: &mut Session) -> Result<HashSet<(TableName, String)>> {
    Ok(read_facts(session, &[])?.defaulted)
}

/// Asks the subscriber, and which types of the publisher's columns it knows.
pub(super) fn read_facts(session: &mut Session, publisher: &[Table]) -> Result<Facts> {
    let mut facts = Facts::default();
    for row in session.query(&sql::flow::LIST_WRITE_FACTS, &[])? {
        let table = TableName::in_row(&row);
        for column in row.get::<_, Vec<String>>("defaulted") {
            facts.defaulted.insert((table.clone(), column));
        }
        for column in row.get::<_, Vec<String>>("always_identity") {
            facts.always_identity.insert((table.clone(), column));
        }
        let constants: postgres::types::Json<HashMap<String, String>> = row.get("constants");
        for (column, default) in constants.0 {
            facts.constants.insert((table.clone(), column), default);
        }
        let keys: postgres::types::Json<Vec<Vec<String>>> = row.get("unique_keys");
        facts.unique_keys.insert(table.clone(), keys.0);
        let keys: postgres::types::Json<Vec<(String, String)>> = row.get("partial_keys");
        facts.partial_keys.insert(table.clone(), keys.0);
        if row.get("has_one_key") {
            facts.with_one_key.insert(table.clone());
        }
        let keys: postgres::types::Json<Vec<Vec<String>>> = row.get("indexed_keys");
        facts.indexed_keys.insert(table, keys.0);
    }
    let custom: BTreeSet<&str> = publisher
        .iter()
        .flat_map(|table| &table.columns)
        .filter(|column| column.type_oid >= FIRST_USER_OID)
        .map(|column| column.type_name.as_str())
        .collect();
    let custom: Vec<&str> = custom.into_iter().collect();
    if !custom.is_empty() {
        let rows = session.query(&sql::flow::LIST_KNOWN_TYPES, &[&custom])?;
        let labels = |row: &postgres::Row| {
            let labels: Option<&str> = row.get("labels");
            labels.and_then(|labels| serde_json::from_str(labels).ok()).unwrap_or_default()
        };
        facts.known_types = rows.iter().map(|row| (row.get("name"), labels(row))).collect();
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use crate::flow::apply::test_pair::Pair;
    use crate::flow::mapping::Order;

    #[test]
    fn rows_have_to_keep_their_order_where_a_second_key_can_make_them_meet() {
        let tables = "
            create table one (id int primary key, v int);
            create index on one (v);
            create table none (id int);
            create table more (id int primary key, v int unique);
            create table partly (id int primary key, v int);
            create unique index on partly (v) where v > 0;
            create table computed (id int primary key, v text);
            create unique index on computed (lower(v));
            create table apart (id int primary key, v int4range, exclude using gist (v with &&));
            create table parts (id int primary key) partition by range (id);
            create table part partition of parts for values from (0) to (10);
            create table odd (id int primary key, v int) partition by range (id);
            create table odd_part partition of odd (unique (v)) for values from (0) to (10);";
        let pair = Pair::new(tables, tables);
        let mapping = pair.mapping(&[]).unwrap();
        for (table, any_order) in [
            ("one", true),
            ("none", true),
            ("more", false),
            ("partly", false),
            ("computed", false),
            ("apart", false),
            ("parts", true),
            ("part", true),
            ("odd", false),
            ("odd_part", false),
        ] {
            let rules = mapping.rules_for("public", table);
            assert!(!rules.is_empty(), "{table} is mapped");
            assert!(rules.iter().all(|rule| (rule.order == Order::Any) == any_order), "{table}");
        }
    }
}
