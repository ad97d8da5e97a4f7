//! Foreign keys of the subscriber, checked set by set: where triggers do not fire, nothing else would see a row whose parent
//! the maintenance took away. Likewise what keeps rows apart at the end of a transaction only.

mod deferrable;
mod foreign_key;

use std::collections::{BTreeMap, HashMap, HashSet};

use postgres::types::{PgLsn, ToSql};

pub(super) use self::deferrable::DeferrableKey;
use self::deferrable::DeferrableKeys;
use super::Applier;
use super::batch::{Planned, Step};
use super::conflict::{self, Failure};
use super::statement::{self, From, Statement};
use crate::error::Result;
use crate::flow::mapping::bound::BoundRule;
use crate::flow::mapping::foreign_key::{ForeignKey, Owner, list_foreign_keys};
use crate::flow::mapping::{Mapping, TableName};
use crate::flow::source::change::Row;
use crate::pg::Session;
use crate::sql;

fn list_ancestors(session: &mut Session) -> Result<HashMap<TableName, Vec<TableName>>> {
    let mut ancestors: HashMap<TableName, Vec<TableName>> = HashMap::new();
    for row in session.query(&sql::flow::LIST_PARTITION_ANCESTORS, &[])? {
        let partition = TableName::in_row(&row);
        let above = TableName { schema: row.get("ancestor_schema"), name: row.get("ancestor_name") };
        ancestors.entry(partition).or_default().push(above);
    }
    Ok(ancestors)
}

type ByTable = HashMap<TableName, Vec<ForeignKey>>;

/// Foreign keys of the tables that a flow writes: by the table that has them, and by the one that they refer to. Those of a
/// partitioned table are those of its partitions, and a partition may have more.
#[derive(Debug, Default)]
pub(in crate::flow) struct References {
    of: ByTable,
    to: ByTable,
    /// Of partitions: the tables above them.
    ancestors: HashMap<TableName, Vec<TableName>>,
    /// What is applied is a part of a transaction: its rest may bring the parent of a row, or take away the rows of a parent.
    pub(in crate::flow) is_part: bool,
    /// Tables from which its rest may take rows; `None`: any.
    pub(in crate::flow) touched: Option<HashSet<TableName>>,
    /// The transaction goes on in the next batch. One that is taken apart, since something in it does not fit, does not.
    pub(in crate::flow) goes_on: bool,
    /// Nothing is postponed: of a transaction that is taken apart, what is set aside cannot bring or take away anything.
    pub(in crate::flow) is_strict: bool,
    /// To be looked at when the transaction is complete.
    pending: BTreeMap<String, ForeignKey>,
    /// What keeps rows apart.
    deferrable: DeferrableKeys,
}

impl References {
    pub(in crate::flow) fn read(session: &mut Session, mapping: &Mapping) -> Result<References> {
        let deferrable = DeferrableKeys::read(session, mapping, list_ancestors)?;
        let mut references = References { deferrable, ..References::default() };
        let keys = list_foreign_keys(session)?;
        if keys.is_empty() {
            return Ok(references);
        }
        references.ancestors = list_ancestors(session)?;
        let (mut of, mut to): (ByTable, ByTable) = Default::default();
        for key in keys {
            of.entry(key.table.clone()).or_default().push(key.clone());
            to.entry(key.referenced.clone()).or_default().push(key);
        }
        let written: HashSet<&TableName> = mapping.pairs().map(|rule| &rule.to).collect();
        for table in written {
            let is_partition = |(name, _): &(&TableName, &Vec<ForeignKey>)| {
                references.lineage(name).skip(1).any(|above| above == table)
            };
            let its = |by: &ByTable| -> Vec<ForeignKey> {
                let own = references.lineage(table).filter_map(|name| by.get(name)).flatten().cloned();
                let of_partitions = by.iter().filter(is_partition).flat_map(|(_, keys)| keys);
                own.chain(of_partitions.map(|key| ForeignKey { owner: Owner::Partition, ..key.clone() }))
                    .collect()
            };
            let (of, to) = (its(&of), its(&to));
            if !of.is_empty() {
                references.of.insert(table.clone(), of);
            }
            if !to.is_empty() {
                references.to.insert(table.clone(), to);
            }
        }
        Ok(references)
    }

    /// What is asked of all rows of these tables, and of all that refer to them, where many were written: what is wrong if
    /// the question finds something.
    pub(in crate::flow) fn ask_of_all(&self, is_one: &dyn Fn(&TableName) -> bool) -> Vec<(Failure, String)> {
        let mut asked: BTreeMap<String, (Failure, String)> = BTreeMap::new();
        let its = |by: &'_ ByTable| -> Vec<ForeignKey> {
            by.iter().filter(|(table, _)| is_one(table)).flat_map(|(_, keys)| keys).cloned().collect()
        };
        for key in its(&self.of).into_iter().chain(its(&self.to)).filter(|key| key.validated) {
            let failure = Failure::Orphan { constraint: key.name.clone(), of: key.table.to_string() };
            asked.insert(format!("{} {}", key.table, key.name), (failure, key.find_any_orphan()));
        }
        for (name, key) in self.deferrable.of_all(is_one) {
            asked.insert(name, (key.violated_by(Vec::new()), key.find_any_meeting()));
        }
        asked.into_values().collect()
    }

    /// A table and all that it is a partition of.
    fn lineage<'a>(&'a self, table: &'a TableName) -> impl Iterator<Item = &'a TableName> {
        std::iter::once(table).chain(self.ancestors.get(table).into_iter().flatten())
    }

    /// Whether this table has one, or is referred to by one, or has something else that is looked at here.
    pub(super) fn concern(&self, table: &TableName) -> bool {
        self.of.contains_key(table) || self.to.contains_key(table) || self.deferrable.concern(table)
    }

    /// What keeps the rows of a table apart for which those that a step writes are to be looked at now. What comes in the next batch
    /// may make room for them: then that is postponed.
    pub(super) fn concerning_meeting(&mut self, rule: &BoundRule, step: &Step) -> Vec<DeferrableKey> {
        let is_written = |columns: &[String]| match step {
            Step::Update(rows) => writes(rule, rows.first(), columns),
            Step::Insert(_) | Step::Move { .. } | Step::Delete(_) => true,
        };
        match step {
            Step::Delete(_) => Vec::new(),
            _ => self.deferrable.concerning(&rule.rule.to, self.goes_on, is_written),
        }
    }

    /// Those for which rows that are written to this table are to be looked at now; the others are postponed.
    pub(super) fn concerning_written(&mut self, table: &TableName) -> Vec<ForeignKey> {
        let mut keys = self.of.get(table).cloned().unwrap_or_default();
        keys.retain(|key| {
            let is_postponed = self.is_part && key.deferrable && !self.is_strict;
            if is_postponed {
                self.postpone(key);
            }
            !is_postponed
        });
        keys
    }

    /// Likewise those of the `wanted` for which rows that are taken from this table, or changed, are to be looked at.
    pub(super) fn concerning_removed(
        &mut self,
        table: &TableName,
        wanted: impl Fn(&ForeignKey) -> bool,
    ) -> Vec<ForeignKey> {
        let mut keys = self.to.get(table).cloned().unwrap_or_default();
        keys.retain(|key| wanted(key) && !self.is_postponed(key));
        keys
    }

    /// Forgets what was to be looked at, with the transaction.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
        self.deferrable.forget();
    }

    /// What keeps rows apart, likewise.
    pub(super) fn take_pending_meetings(&mut self) -> impl Iterator<Item = DeferrableKey> + use<> {
        self.deferrable.take_pending()
    }

    /// What of them is to be asked of all rows, now that the transaction is complete.
    pub(super) fn take_pending(&mut self) -> impl Iterator<Item = ForeignKey> + use<> {
        std::mem::take(&mut self.pending).into_values().filter(|key| key.validated)
    }

    /// To be looked at when the transaction is complete.
    fn postpone(&mut self, key: &ForeignKey) {
        self.pending.entry(format!("{} {}", key.table, key.name)).or_insert_with(|| key.clone());
    }

    /// Whether the rest of the transaction may take away what still refers; then it is looked at in the end.
    fn is_postponed(&mut self, key: &ForeignKey) -> bool {
        let is_below = |table: &TableName, above: &TableName| self.lineage(table).any(|name| name == above);
        let is_its = |table: &TableName| is_below(table, &key.table) || is_below(&key.table, table);
        let may_follow = self.touched.as_ref().is_none_or(|touched| touched.iter().any(is_its));
        let is_postponed = self.is_part && may_follow && !self.is_strict;
        if is_postponed {
            self.postpone(key);
        }
        is_postponed
    }
}

/// What a step takes away or changes, though the key of its rows does not tell: values that a foreign key refers to.
pub(super) struct Watched {
    /// Position of the step.
    at: usize,
    key: ForeignKey,
    /// Column by column.
    values: Vec<Vec<Option<String>>>,
}

/// Whether an update writes one of these columns.
pub(super) fn writes(rule: &BoundRule, row: Option<&Row>, names: &[String]) -> bool {
    let is_known = |at: &usize| row.is_some_and(|row| rule.is_present(row, *at));
    let written = statement::moved(&rule.rule, &|at| is_known(&at));
    written.iter().any(|column| names.contains(&column.name))
}

/// Whether an update may take a row out of the rule's table.
fn may_remove(rule: &BoundRule) -> bool {
    rule.rule.condition.is_some() && !rule.rule.is_decided_by_identity()
}

impl Applier {
    /// Reads, before a plan is run, what only the rows themselves tell about the foreign keys that refer to them.
    pub(super) fn watch_references(
        &mut self,
        plan: &[Planned],
    ) -> std::result::Result<Vec<Watched>, (usize, Failure)> {
        let references = std::mem::take(&mut self.references);
        let mut watched = Vec::new();
        let done = plan.iter().enumerate().try_for_each(|(at, planned)| {
            let Planned::Rows { table, step } = planned else { return Ok(()) };
            for rule in table.rules.iter().filter(|rule| !rule.rule.key.is_empty()) {
                for key in references.to.get(&rule.rule.to).into_iter().flatten() {
                    let values = self.read_watched(key, rule, step).map_err(|failure| (at, failure))?;
                    watched.extend(values.map(|values| Watched { at, key: key.clone(), values }));
                }
            }
            Ok(())
        });
        self.references = references;
        done.map(|()| watched)
    }

    fn read_watched(
        &mut self,
        key: &ForeignKey,
        rule: &BoundRule,
        step: &Step,
    ) -> std::result::Result<Option<Vec<Vec<Option<String>>>>, Failure> {
        let rows: &[Row] = match step {
            Step::Delete(rows) => rows,
            Step::Update(rows) if may_remove(rule) => rows,
            Step::Update(rows) if writes(rule, rows.first(), &key.referenced_columns) => rows,
            Step::Move { old, .. } => old,
            Step::Insert(_) | Step::Update(_) => return Ok(None),
        };
        let Some(question) = key.read_referenced(&rule.rule, From::Parameters) else { return Ok(None) };
        let found = self.query_rows(rule, &question, rows)?;
        let columns = 0..key.referenced_columns.len();
        let values = columns.map(|at| found.iter().map(|row| row.get(at)).collect()).collect();
        Ok((!found.is_empty()).then_some(values))
    }

    /// Fails when a row that the plan wrote lacks its parent, or one that it took away is still referred to; with the position
    /// of the step.
    pub(super) fn check_references(
        &mut self,
        plan: &[Planned],
        watched: &[Watched],
    ) -> std::result::Result<(), (usize, Failure)> {
        let mut references = std::mem::take(&mut self.references);
        let steps = plan.iter().enumerate().try_for_each(|(at, planned)| {
            let checked = match planned {
                Planned::Rows { table, step } => {
                    table.rules.iter().try_for_each(|rule| self.check_step(&mut references, rule, step))
                }
                Planned::Truncate { tables } => {
                    let mut rules = tables.iter().flat_map(|table| &table.rules);
                    rules.try_for_each(|rule| self.check_emptied(&mut references, &rule.rule.to))
                }
            };
            checked.map_err(|failure| (at, failure))
        });
        let checked = steps.and_then(|()| {
            watched.iter().try_for_each(|one| {
                self.check_watched(&mut references, one).map_err(|failure| (one.at, failure))
            })
        });
        self.references = references;
        checked
    }

    fn check_watched(
        &mut self,
        references: &mut References,
        watched: &Watched,
    ) -> std::result::Result<(), Failure> {
        let key = &watched.key;
        if references.is_postponed(key) {
            return Ok(());
        }
        let params: Vec<&(dyn ToSql + Sync)> =
            watched.values.iter().map(|values| values as &(dyn ToSql + Sync)).collect();
        let question = self.prepare(&key.find_left_behind())?;
        if self.session.client().query_opt(&question, &params)?.is_some() {
            return Err(Failure::Orphan { constraint: key.name.clone(), of: key.table.to_string() });
        }
        Ok(())
    }

    /// A table that the plan emptied, with statements of ours where others that it was not emptied with refer to it.
    fn check_emptied(
        &mut self,
        references: &mut References,
        emptied: &TableName,
    ) -> std::result::Result<(), Failure> {
        let keys = references.to.get(emptied).cloned().unwrap_or_default();
        for key in keys.iter().filter(|key| key.validated) {
            if references.is_postponed(key) {
                continue;
            }
            let question = self.prepare(&key.find_any_orphan())?;
            if self.session.client().query_opt(&question, &[])?.is_some() {
                return Err(Failure::Orphan { constraint: key.name.clone(), of: key.table.to_string() });
            }
        }
        Ok(())
    }

    fn check_step(
        &mut self,
        references: &mut References,
        rule: &BoundRule,
        step: &Step,
    ) -> std::result::Result<(), Failure> {
        let (written, removed): (&[Row], &[Row]) = match step {
            Step::Update(rows) if may_remove(rule) => (rows, rows),
            Step::Insert(rows) | Step::Update(rows) => (rows, &[]),
            Step::Delete(rows) => (&[], rows),
            Step::Move { old, new } => (new, old),
        };
        let target = &rule.rule.to;
        let keys = if written.is_empty() { Vec::new() } else { references.concerning_written(target) };
        for key in keys {
            if self.finds(rule, &key.find_orphan(&rule.rule, From::Parameters), written)? {
                return Err(Failure::Orphan { constraint: key.name, of: target.to_string() });
            }
        }
        for key in references.concerning_meeting(rule, step) {
            let question = key.find_meeting(&rule.rule, From::Parameters);
            if self.finds(rule, &question, written)? {
                let rows = self.find_meeting(rule, &question, written)?;
                return Err(key.violated_by(rows));
            }
        }
        let keys =
            if removed.is_empty() { Vec::new() } else { references.concerning_removed(target, |_| true) };
        for key in keys {
            if let Some(question) = key.find_bereft(&rule.rule, From::Parameters)
                && self.finds(rule, &question, removed)?
            {
                return Err(Failure::Orphan { constraint: key.name, of: key.table.to_string() });
            }
        }
        Ok(())
    }

    /// Looks at the foreign keys that parts of transactions left open, now that these are complete.
    pub(in crate::flow) fn check_pending_references(&mut self, commit: PgLsn) -> Result<()> {
        let on = self.session.place.name();
        for key in self.references.take_pending() {
            if !self.session.query_text(&key.find_any_orphan(), &[])?.is_empty() {
                let failure = Failure::Orphan { constraint: key.name.clone(), of: key.table.to_string() };
                return Err(conflict::decide(None, failure, None, commit, on));
            }
        }
        for key in self.references.take_pending_meetings() {
            if !self.session.query_text(&key.find_any_meeting(), &[])?.is_empty() {
                return Err(conflict::decide(None, key.violated_by(Vec::new()), None, commit, on));
            }
        }
        Ok(())
    }

    /// Which of these rows it is that a question finds something for, one of them at least.
    fn find_meeting(
        &mut self,
        rule: &BoundRule,
        question: &Statement,
        rows: &[Row],
    ) -> std::result::Result<Vec<Row>, Failure> {
        if rows.len() < 2 {
            return Ok(rows.to_vec());
        }
        let (first, second) = rows.split_at(rows.len() / 2);
        let mut found = Vec::new();
        for half in [first, second] {
            if self.finds(rule, question, half)? {
                found.extend(self.find_meeting(rule, question, half)?);
            }
        }
        Ok(found)
    }

    fn finds(
        &mut self,
        rule: &BoundRule,
        question: &Statement,
        rows: &[Row],
    ) -> std::result::Result<bool, Failure> {
        let is_known = |at: &usize| rows.iter().all(|row| rule.is_present(row, *at));
        Ok(question.columns.iter().all(is_known) && self.query_number(rule, question, rows)? > 0)
    }
}
