//! Rows that go to a table only as long as a condition holds: an update may bring one in, or take it out.
//!
//! A change says where a row belongs from now on, not where it was. So an update puts the row where it belongs, whether it
//! was there or not, and a delete takes it from wherever it is. Only where the identity decides is a missing row a conflict.

use super::Applier;
use super::batch::Step;
use super::conflict::Failure;
use super::statement::{self, From, Statement};
use crate::flow::mapping::bound::{Bound, BoundRule};
use crate::flow::mapping::{MappedColumn, TableRule};
use crate::flow::source::change::Row;
use crate::sql;

/// What a statement reads of staged rows, beside the condition.
fn reads_with_condition<'a>(rule: &TableRule, columns: impl Iterator<Item = &'a MappedColumn>) -> Vec<usize> {
    let condition = rule.condition.iter().flat_map(|condition| condition.reads.iter().copied());
    let mut reads: Vec<usize> =
        columns.flat_map(|column| column.reads.iter().copied()).chain(condition).collect();
    reads.sort_unstable();
    reads.dedup();
    reads
}

/// Staged rows for which the condition is true, or is not.
fn filtered(rule: &TableRule, columns: &[usize], first: usize, holds: bool) -> String {
    let stage = statement::stage(rule, columns, first);
    let expression = rule.condition.as_ref().map_or("true", |condition| condition.expression.as_str());
    let test = if holds { "is true" } else { "is not true" };
    format!("select * from ({stage}) as \"old\" where ({expression}\n) {test}")
}

fn statement(text: String, columns: Vec<usize>, old_columns: Vec<usize>) -> Statement {
    Statement { text, takes_count: columns.is_empty(), columns, old_columns }
}

/// How many rows belong there.
fn count(rule: &TableRule) -> Statement {
    let columns = reads_with_condition(rule, std::iter::empty());
    let text = format!("select count(*) from ({}) as s", filtered(rule, &columns, 1, true));
    statement(text, columns, Vec::new())
}

/// Inserts rows that belong there; with `absent` only those whose key is not there.
pub(super) fn insert(rule: &TableRule, absent: bool) -> Statement {
    let values: Vec<&MappedColumn> = rule.columns.iter().collect();
    let key: &[MappedColumn] = if absent { &rule.key } else { &[] };
    let columns = reads_with_condition(rule, rule.columns.iter().chain(key));
    let names: Vec<String> = values.iter().map(|column| sql::quote_identifier(&column.name)).collect();
    let picked: Vec<String> = (0..values.len()).map(|at| format!("s.v{at}")).collect();
    let unless = if absent {
        format!(
            " where not exists (select from {} as t where {})",
            rule.target(),
            statement::key_condition(rule, "s")
        )
    } else {
        String::new()
    };
    let text = format!(
        "insert into {} ({}) overriding system value select {} from ({}) as s{unless}",
        rule.to.quoted(),
        names.join(", "),
        picked.join(", "),
        statement::evaluated(&values, key, &filtered(rule, &columns, 1, true)),
    );
    statement(text, columns, Vec::new())
}

/// Takes out rows by their key: those that belong there by it, where others with such a key are not the rule's, or, where `fit` is
/// false, those that do not belong there any more.
fn delete_where(rule: &TableRule, fit: bool) -> Statement {
    let columns = reads_with_condition(rule, rule.key.iter());
    let text = format!(
        "delete from {} as t using ({}) as s where {}",
        rule.target(),
        statement::evaluated(&[], &rule.key, &filtered(rule, &columns, 1, fit)),
        statement::key_condition(rule, "s")
    );
    statement(text, columns, Vec::new())
}

/// Updates rows that belong there, by their key.
fn update(rule: &TableRule, present: impl Fn(usize) -> bool) -> Statement {
    let values = statement::updated(rule, &present);
    let columns = reads_with_condition(rule, values.iter().copied().chain(&rule.key));
    let text = format!(
        "update {} as t set {} from ({}) as s where {}",
        rule.target(),
        statement::assignments(rule, &values),
        statement::evaluated(&values, &rule.key, &filtered(rule, &columns, 1, true)),
        statement::key_condition(rule, "s")
    );
    statement(text, columns, Vec::new())
}

/// Changes a row that belongs there and whose key changes.
fn change_key(rule: &TableRule, present: impl Fn(usize) -> bool) -> Statement {
    let values = statement::moved(rule, &present);
    let columns = reads_with_condition(rule, values.iter().copied());
    let old_columns = statement::columns_read(rule.key.iter());
    let new = statement::evaluated_or_one(&values, &filtered(rule, &columns, 1, true));
    let old = statement::stage(rule, &old_columns, columns.len().max(1) + 1);
    let text = statement::moving(rule, &values, &new, &old);
    statement(text, columns, old_columns)
}

impl Applier {
    /// [`Step`] for a rule with a condition.
    pub(super) fn apply_conditionally(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        step: &Step,
    ) -> std::result::Result<(), Failure> {
        match step {
            Step::Insert(rows) => {
                let expected = self.count_fitting(rule, rows)?;
                let found = self.affect(rule, &insert(&rule.rule, false), rows, &[])?;
                as_expected(found, expected)
            }
            Step::Delete(rows) => {
                if !rule.rule.is_decided_by_identity() {
                    let delete = statement::delete(&rule.rule, From::Parameters);
                    return self.affect(rule, &delete, rows, &[]).map(drop);
                }
                let expected = self.count_fitting(rule, rows)?;
                let found = self.affect(rule, &delete_where(&rule.rule, true), rows, &[])?;
                if found == expected {
                    return Ok(());
                }
                let unmade = self.forget_unmade(rule, rows)?;
                if self.tolerates_missing_deletes() { Ok(()) } else { as_expected(found + unmade, expected) }
            }
            Step::Update(rows) => {
                for rows in self.completed(table, rule, rows)? {
                    self.put(rule, &rows)?;
                }
                Ok(())
            }
            Step::Move { old, new } => {
                old.iter().zip(new).try_for_each(|(old, new)| self.move_conditionally(table, rule, old, new))
            }
        }
    }

    /// A row whose key changes is where it belongs afterwards.
    fn move_conditionally(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        old: &Row,
        new: &Row,
    ) -> std::result::Result<(), Failure> {
        let mut new = new.clone();
        if let Some(row) =
            self.completed(table, rule, std::slice::from_ref(&new))?.into_iter().flatten().next()
        {
            new = row;
        }
        let (old, new) = (std::slice::from_ref(old), std::slice::from_ref(&new));
        let is_present = |column| rule.is_present(&new[0], column);
        if !knows_condition(rule, is_present) {
            // The publisher has the row under another key by now, or no more: the change that did that is still to come,
            // and puts it where it belongs.
            let moving = statement::change_key(&rule.rule, is_present);
            return self.affect(rule, &moving, new, old).map(drop);
        }
        if rule.rule.is_decided_by_identity() && self.count_fitting(rule, old)? == 0 {
            return self.bring_in(rule, new);
        }
        let changed = self.affect(rule, &change_key(&rule.rule, is_present), new, old)?;
        // A row that was changed has its new key, which may be written otherwise and yet equal the old one.
        let deleted = match changed {
            0 => self.affect(rule, &statement::delete(&rule.rule, From::Parameters), old, &[])?,
            _ => 0,
        };
        if changed + deleted == 0 && rule.rule.is_decided_by_identity() {
            self.forget_unmade(rule, old)?;
        }
        if is_whole(rule, &new[0]) {
            return self.insert_absent(rule, new);
        }
        if changed == 0 && rule.rule.is_decided_by_identity() && self.count_fitting(rule, new)? > 0 {
            self.note_unmade(rule, &new[0])?;
        }
        Ok(())
    }

    /// Rows with what the stream left out, in sets with the same columns present.
    fn completed(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        rows: &[Row],
    ) -> std::result::Result<Vec<Vec<Row>>, Failure> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let mut missing = rule.rule.all_reads();
        missing.retain(|column| !rule.is_present(first, *column));
        if missing.is_empty() {
            return Ok(vec![rows.to_vec()]);
        }
        // Where the publisher has the row no more, a later change takes it away here as well.
        let (found, gone) = self.fetch(table, rule, &missing, rows)?;
        Ok(vec![found, gone])
    }

    /// Rows are where they belong afterwards, whether they were there or not.
    fn put(&mut self, rule: &BoundRule, rows: &[Row]) -> std::result::Result<(), Failure> {
        let Some(first) = rows.first() else { return Ok(()) };
        let is_present = |column| rule.is_present(first, column);
        if !knows_condition(rule, is_present) {
            return Ok(());
        }
        if rule.rule.is_decided_by_identity() {
            let expected = self.count_fitting(rule, rows)?;
            let found = self.affect(rule, &update(&rule.rule, is_present), rows, &[])?;
            if found == expected {
                return Ok(());
            }
            let unmade = self.find_unmade(rule, rows)?;
            as_expected(found + unmade.len() as u64, expected)?;
            if is_whole(rule, first) {
                self.insert_absent(rule, &unmade)?;
                self.forget_unmade(rule, &unmade)?;
            }
            return Ok(());
        }
        self.affect(rule, &delete_where(&rule.rule, false), rows, &[])?;
        self.affect(rule, &update(&rule.rule, is_present), rows, &[])?;
        self.insert_absent(rule, rows)
    }

    /// Inserts rows that came to belong there, as far as all of their values are known.
    fn insert_absent(&mut self, rule: &BoundRule, rows: &[Row]) -> std::result::Result<(), Failure> {
        if rows.iter().all(|row| is_whole(rule, row)) {
            self.affect(rule, &insert(&rule.rule, true), rows, &[])?;
        }
        Ok(())
    }

    /// A row comes by its new identity, which a row of another one has not.
    fn bring_in(&mut self, rule: &BoundRule, new: &[Row]) -> std::result::Result<(), Failure> {
        let expected = self.count_fitting(rule, new)?;
        if expected == 0 {
            return Ok(());
        }
        if !is_whole(rule, &new[0]) {
            return self.note_unmade(rule, &new[0]);
        }
        let found = self.affect(rule, &insert(&rule.rule, false), new, &[])?;
        as_expected(found, expected)
    }

    fn count_fitting(&mut self, rule: &BoundRule, rows: &[Row]) -> std::result::Result<u64, Failure> {
        Ok(self.query_number(rule, &count(&rule.rule), rows)? as u64)
    }
}

/// Whether the stream left out nothing that says where a row belongs.
fn knows_condition(rule: &BoundRule, is_present: impl Fn(usize) -> bool) -> bool {
    rule.rule.condition.as_ref().is_none_or(|condition| condition.reads.iter().all(|at| is_present(*at)))
}

/// Whether the stream left out nothing that is written of it.
fn is_whole(rule: &BoundRule, row: &Row) -> bool {
    rule.rule.all_reads().iter().all(|at| rule.is_present(row, *at))
}

fn as_expected(found: u64, expected: u64) -> std::result::Result<(), Failure> {
    if found == expected { Ok(()) } else { Err(Failure::Rows { found, expected }) }
}
