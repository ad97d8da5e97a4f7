//! What of a table is compared, and what tells its rows apart: the same for all that leads there.

use std::sync::Arc;

use crate::flow::mapping::{MappedColumn, TableRule};

/// Names of columns on the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What is compared.
    pub columns: Vec<String>,
    /// What a row is told by; empty where nothing does but the row as a whole.
    pub key: Vec<String>,
}

impl Shape {
    /// What all `rules`, which lead to one table, have in common.
    pub fn of(rules: &[Arc<TableRule>]) -> Shape {
        let names = |columns: &[MappedColumn]| -> Vec<String> {
            columns.iter().map(|column| column.name.clone()).collect()
        };
        let (mut columns, mut key) = (names(&rules[0].columns), names(&rules[0].key));
        // What one of several tables does not write has a value that the other side does not know.
        columns.retain(|name| rules.iter().all(|rule| find(&rule.columns, name).is_some()));
        let is_key_of = |rule: &Arc<TableRule>| {
            rule.key.len() == key.len() && key.iter().all(|name| find(&rule.key, name).is_some())
        };
        if !rules.iter().all(is_key_of) {
            key.clear();
        }
        Shape { columns, key }
    }

    /// The columns that are compared, as a rule maps them.
    pub fn columns_of<'a>(&self, rule: &'a TableRule) -> Vec<&'a MappedColumn> {
        self.columns.iter().filter_map(|name| find(&rule.columns, name)).collect()
    }

    /// The columns of the key, as a rule maps them.
    pub fn key_of<'a>(&self, rule: &'a TableRule) -> Vec<&'a MappedColumn> {
        self.key.iter().filter_map(|name| find(&rule.key, name)).collect()
    }
}

fn find<'a>(columns: &'a [MappedColumn], name: &str) -> Option<&'a MappedColumn> {
    columns.iter().find(|column| column.name == name)
}
