//! Foreign keys of the subscriber, checked set by set: where triggers do not fire, nothing else would see a row whose parent
//! the maintenance took away.

use std::collections::{BTreeMap, HashMap, HashSet};

use postgres::types::PgLsn;

use super::Applier;
use super::batch::{Planned, Step};
use super::conflict::{self, Failure};
use super::statement::{self, Statement};
use crate::error::Result;
use crate::flow::mapping::bound::BoundRule;
use crate::flow::mapping::{MappedColumn, Mapping, TableName, TableRule};
use crate::flow::source::change::{Row, Value};
use crate::pg::Session;
use crate::sql;

/// One foreign key.
#[derive(Debug, Clone)]
pub(in crate::flow) struct ForeignKey {
    pub(in crate::flow) name: String,
    pub(in crate::flow) table: TableName,
    pub(in crate::flow) columns: Vec<String>,
    pub(in crate::flow) referenced: TableName,
    pub(in crate::flow) referenced_columns: Vec<String>,
    /// A row may come before its parent, in the same transaction.
    deferrable: bool,
    /// All rows are known to fulfil it.
    validated: bool,
}

/// All foreign keys of the database.
pub(in crate::flow) fn list_foreign_keys(session: &mut Session) -> Result<Vec<ForeignKey>> {
    let rows = session.query(&sql::flow::LIST_FOREIGN_KEYS, &[])?;
    let key = |row: &postgres::Row| ForeignKey {
        name: row.get("constraint_name"),
        table: TableName { schema: row.get("schema_name"), name: row.get("table_name") },
        columns: row.get("columns"),
        referenced: TableName { schema: row.get("referenced_schema"), name: row.get("referenced_table") },
        referenced_columns: row.get("referenced_columns"),
        deferrable: row.get("deferrable"),
        validated: row.get("validated"),
    };
    Ok(rows.iter().map(key).collect())
}

/// Foreign keys of the tables that a flow writes: by the table that has them, and by the one that they refer to.
#[derive(Debug, Default)]
pub(in crate::flow) struct References {
    of: HashMap<TableName, Vec<ForeignKey>>,
    to: HashMap<TableName, Vec<ForeignKey>>,
    /// What is applied is a part of a transaction: its rest may bring the parent of a row, or take away the rows of a parent.
    pub(in crate::flow) is_part: bool,
    /// Tables from which its rest may take rows; `None`: any.
    pub(in crate::flow) touched: Option<HashSet<TableName>>,
    /// To be looked at when the transaction is complete.
    pending: BTreeMap<String, ForeignKey>,
}

impl References {
    pub(in crate::flow) fn read(session: &mut Session, mapping: &Mapping) -> Result<References> {
        let mut references = References::default();
        for key in list_foreign_keys(session)? {
            if mapping.pairs().any(|rule| rule.to == key.table) {
                references.of.entry(key.table.clone()).or_default().push(key.clone());
            }
            if mapping.pairs().any(|rule| rule.to == key.referenced) {
                references.to.entry(key.referenced.clone()).or_default().push(key);
            }
        }
        Ok(references)
    }
}

impl ForeignKey {
    /// `c` has values in all of its columns.
    pub(in crate::flow) fn is_complete(&self, alias: &str) -> String {
        let test = |column: &String| format!("{alias}.{} is not null", sql::quote_identifier(column));
        self.columns.iter().map(test).collect::<Vec<_>>().join(" and ")
    }

    /// Its parent is not there.
    fn has_no_parent(&self, alias: &str) -> String {
        self.has_no_parent_in(&self.referenced, alias)
    }

    /// Its parent is not in this table.
    pub(in crate::flow) fn has_no_parent_in(&self, parent: &TableName, alias: &str) -> String {
        let equal = |(column, referenced): (&String, &String)| {
            format!("p.{} = {alias}.{}", sql::quote_identifier(referenced), sql::quote_identifier(column))
        };
        let pairs: Vec<String> = self.columns.iter().zip(&self.referenced_columns).map(equal).collect();
        format!("not exists (select from {} as p where {})", parent.quoted(), pairs.join(" and "))
    }

    /// Whether a row, found by its key, lacks its parent.
    fn find_orphan(&self, rule: &TableRule) -> Statement {
        let columns = statement::columns_read(rule.key.iter());
        let text = format!(
            "select 1::int8 from ({}) as s, {} as t where {} and {} and {} limit 1",
            statement::evaluated(&[], &rule.key, &statement::stage(rule, &columns, 1)),
            rule.target(),
            statement::key_condition(rule, "s"),
            self.is_complete("t"),
            self.has_no_parent("t"),
        );
        Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
    }

    /// Whether a row still refers to one that was found by its key and is gone; `None` where the key does not tell.
    fn find_bereft(&self, rule: &TableRule) -> Option<Statement> {
        let position = |column: &String| rule.key.iter().position(|key: &MappedColumn| key.name == *column);
        let positions: Vec<usize> = self.referenced_columns.iter().filter_map(position).collect();
        if positions.len() < self.referenced_columns.len() {
            return None;
        }
        let equal =
            |(column, at): (&String, &usize)| format!("c.{} = s.k{at}", sql::quote_identifier(column));
        let refers: Vec<String> = self.columns.iter().zip(&positions).map(equal).collect();
        let columns = statement::columns_read(rule.key.iter());
        let text = format!(
            "select 1::int8 from ({}) as s, {} as c where {} and {} limit 1",
            statement::evaluated(&[], &rule.key, &statement::stage(rule, &columns, 1)),
            self.table.quoted(),
            refers.join(" and "),
            self.has_no_parent("c"),
        );
        Some(Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() })
    }
}

impl Applier {
    /// Fails when a row that the plan wrote lacks its parent, or one that it took away is still referred to; with the position
    /// of the step.
    pub(in crate::flow) fn check_references(
        &mut self,
        plan: &[Planned],
    ) -> std::result::Result<(), (usize, Failure)> {
        let mut references = std::mem::take(&mut self.references);
        let checked = plan.iter().enumerate().try_for_each(|(at, planned)| {
            let Planned::Rows { table, step } = planned else { return Ok(()) };
            for rule in table.rules.iter().filter(|rule| !rule.rule.key.is_empty()) {
                self.check_step(&mut references, rule, step).map_err(|failure| (at, failure))?;
            }
            Ok(())
        });
        self.references = references;
        checked
    }

    fn check_step(
        &mut self,
        references: &mut References,
        rule: &BoundRule,
        step: &Step,
    ) -> std::result::Result<(), Failure> {
        let (written, removed): (&[Row], &[Row]) = match step {
            Step::Insert(rows) | Step::Update(rows) => (rows, &[]),
            Step::Delete(rows) => (&[], rows),
            Step::Move { old, new } => (std::slice::from_ref(new), std::slice::from_ref(old)),
        };
        let target = &rule.rule.to;
        let References { of, to, is_part, touched, pending } = references;
        let may_follow =
            |key: &ForeignKey| touched.as_ref().is_none_or(|touched| touched.contains(&key.table));
        let mut postpone = |key: &ForeignKey| {
            pending.entry(format!("{} {}", key.table, key.name)).or_insert_with(|| key.clone());
        };
        for key in of.get(target).into_iter().flatten().filter(|_| !written.is_empty()) {
            if *is_part && key.deferrable {
                postpone(key);
            } else if self.finds(rule, &key.find_orphan(&rule.rule), written)? {
                return Err(Failure::Orphan { constraint: key.name.clone(), of: target.to_string() });
            }
        }
        for key in to.get(target).into_iter().flatten().filter(|_| !removed.is_empty()) {
            if *is_part && may_follow(key) {
                postpone(key);
            } else if let Some(question) = key.find_bereft(&rule.rule)
                && self.finds(rule, &question, removed)?
            {
                return Err(Failure::Orphan { constraint: key.name.clone(), of: key.table.to_string() });
            }
        }
        Ok(())
    }

    /// Looks at the foreign keys that parts of transactions left open, now that these are complete.
    pub(in crate::flow) fn check_pending_references(&mut self, commit: PgLsn) -> Result<()> {
        let on = self.session.place.name();
        for key in std::mem::take(&mut self.references.pending).into_values().filter(|key| key.validated) {
            let text = format!(
                "select from {} as t where {} and {} limit 1",
                key.table.quoted(),
                key.is_complete("t"),
                key.has_no_parent("t")
            );
            if !self.session.query_text(&text, &[])?.is_empty() {
                let failure = Failure::Orphan { constraint: key.name.clone(), of: key.table.to_string() };
                return Err(conflict::decide(None, failure, None, commit, on));
            }
        }
        Ok(())
    }

    /// Forgets them, with the transaction.
    pub(in crate::flow) fn forget_references(&mut self) {
        self.references.pending.clear();
    }

    fn finds(
        &mut self,
        rule: &BoundRule,
        question: &Statement,
        rows: &[Row],
    ) -> std::result::Result<bool, Failure> {
        let is_known = |at: &usize| rows.iter().all(|row| row[rule.positions[*at]] != Value::Unchanged);
        Ok(question.columns.iter().all(is_known) && self.query_number(rule, question, rows)? > 0)
    }
}
