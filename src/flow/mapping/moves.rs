//! Rows that an UPDATE moves from one partition to another. A stream has them as a DELETE from the one and an INSERT into the other:
//! what is mapped arrives by that, but what the subscriber's row has beside it would be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Mapping, TableName, TableRule};
use crate::sql;

/// What helps where it is lost.
pub const HINT: &str = "Give the table a primary key with a column beside those by which it is partitioned, the same in all partitions; \
                        or map something to these columns.";

impl TableRule {
    fn names(&self, columns: &[usize]) -> BTreeSet<&str> {
        columns.iter().map(|at| self.old_columns[*at].name.as_str()).collect()
    }

    fn identity_names(&self) -> Option<BTreeSet<&str>> {
        self.identity.as_ref().map(|columns| self.names(columns))
    }

    /// Columns by which a row of this partition is known to be the same one in another, whatever has moved it there: those of
    /// its identity that do not decide in both of them where it is.
    pub fn same_when_moved(&self, other: &TableRule) -> Vec<&str> {
        let (own, its) = (self.names(&self.partition_key), other.names(&other.partition_key));
        let identity = self.identity_names().unwrap_or_default();
        identity.into_iter().filter(|name| !own.contains(name) || !its.contains(name)).collect()
    }
}

impl Mapping {
    /// The rules of the topmost table by which a row of this partition is changed where it goes to another one; `None` where they are
    /// not those of the partition.
    pub fn rules_for_moves(&self, partition: &TableName) -> Option<&[Arc<TableRule>]> {
        let own = self.tables.get(partition)?;
        let rules = self.tables.get(own.first()?.from_root.as_ref()?)?;
        let is_same = |(own, root): (&Arc<TableRule>, &Arc<TableRule>)| {
            own.rule == root.rule
                && own.place() == root.place()
                && !root.key.is_empty()
                && own.identity.is_some()
                && own.identity_names() == root.identity_names()
        };
        let fit = own.len() == rules.len() && own.iter().zip(rules).all(is_same);
        fit.then_some(rules.as_slice())
    }

    /// Tables of the publisher, with what rows lose that an UPDATE moves to another of their partitions.
    pub fn list_lost_by_moves(&self) -> BTreeSet<(String, String)> {
        let is_leaf = |rule: &&Arc<TableRule>| rule.from_root.is_some() && !rule.from_partitioned;
        // One partition stands for all that are divided alike, two for those among themselves.
        let mut kinds: BTreeMap<(&TableName, BTreeSet<&str>), Vec<&Arc<TableRule>>> = BTreeMap::new();
        for rule in self.pairs().filter(is_leaf) {
            let Some(root) = &rule.from_root else { continue };
            let alike = kinds.entry((root, rule.names(&rule.partition_key))).or_default();
            if alike.len() < 2 && alike.iter().all(|other| other.from != rule.from) {
                alike.push(rule);
            }
        }
        let is_losing = |rule: &&Arc<TableRule>| {
            let alike = kinds.iter().filter(|((root, _), _)| rule.from_root.as_ref() == Some(*root));
            let mut others =
                alike.flat_map(|(_, rules)| rules).filter(|other| other.from != rule.from).peekable();
            let is_known = others.peek().is_none() || self.rules_for_moves(&rule.from).is_some();
            let is_told_apart = is_known && others.all(|other| !rule.same_when_moved(other).is_empty());
            !rule.kept.is_empty() && !is_told_apart
        };
        let told = self.pairs().filter(is_leaf).filter(is_losing).map(|rule| {
            let from = rule.from_root.as_ref().unwrap_or(&rule.from).to_string();
            let kept: Vec<String> = rule.kept.iter().map(|name| sql::quote_identifier(name)).collect();
            let message = format!(
                "a row that an UPDATE moves to another partition of \"{from}\" is deleted and inserted: it loses what it has in {} of \
                 \"{}\", to which nothing is mapped",
                kept.join(", "),
                rule.place()
            );
            (from, message)
        });
        told.collect()
    }
}
