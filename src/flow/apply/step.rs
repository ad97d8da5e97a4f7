//! One step of a plan on one table of the subscriber: rows inserted, updated, moved, deleted, or all of them gone.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use postgres::error::SqlState;

use super::Applier;
use super::batch::Step;
use super::conflict::Failure;
use super::execute::TextArray;
use super::statement;
use crate::error::{Doing as _, Error, Result};
use crate::flow::mapping::bound::{Bound, BoundRule};
use crate::flow::mapping::{TableName, TableRule};
use crate::flow::source::change::{Relation, Row, Value};
use crate::pg::parameter::Parameter;

impl Applier {
    /// One step, by one rule.
    pub(super) fn apply_step(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        step: &Step,
    ) -> std::result::Result<(), Failure> {
        if rule.rule.condition.is_some() {
            return self.apply_conditionally(table, rule, step);
        }
        if rule.rule.fills.is_some() {
            return self.apply_filling(table, rule, step);
        }
        let keyless = rule.rule.key.is_empty();
        match step {
            Step::Insert(rows) => self.insert(rule, rows),
            Step::Delete(rows) if keyless && rows.len() > 1 => {
                self.execute_set(rule, rows, statement::delete_wholes)
            }
            Step::Delete(rows) if keyless => {
                let text = statement::delete_whole(&rule.rule);
                rows.iter().try_for_each(|row| self.execute(rule, &text, &[], std::slice::from_ref(row)))
            }
            Step::Delete(rows) => {
                let done = self.execute_set(rule, rows, statement::delete);
                match done {
                    // A foreign key of the subscriber was faster.
                    Err(Failure::Rows { found, expected }) if found < expected && self.cascades.deletes => {
                        Ok(())
                    }
                    other => other,
                }
            }
            Step::Update(rows) => self.update(table, rule, rows),
            Step::Move { old, new } => self.move_rows(table, rule, old, new),
        }
    }

    pub(super) fn update(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        rows: &[Row],
    ) -> std::result::Result<(), Failure> {
        let Some(first) = rows.first() else { return Ok(()) };
        let is_present = |column| rule.is_present(first, column);
        let missing = statement::columns_to_fetch(&rule.rule, is_present);
        if missing.is_empty() {
            return self.execute_set(rule, rows, |rule, from| statement::update(rule, from, is_present));
        }
        let (found, gone) = self.fetch(table, rule, &missing, rows)?;
        for rows in [found, gone] {
            if let Some(first) = rows.first() {
                let is_present = |column| rule.is_present(first, column);
                self.execute_set(rule, &rows, |rule, from| statement::update(rule, from, is_present))?;
            }
        }
        Ok(())
    }

    fn move_rows(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        old: &[Row],
        new: &[Row],
    ) -> std::result::Result<(), Failure> {
        // Which of them a foreign key of the subscriber has moved already, only each by itself can tell.
        let is_set = old.len() > 1 && !self.cascades.moves;
        match statement::change_keys(&rule.rule).filter(|_| is_set) {
            Some(statement) => self.execute(rule, &statement, new, old),
            None => old.iter().zip(new).try_for_each(|(old, new)| self.move_row(table, rule, old, new)),
        }
    }

    fn move_row(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        old: &Row,
        new: &Row,
    ) -> std::result::Result<(), Failure> {
        let mut new = new.clone();
        if rule.rule.key.is_empty() {
            let text = statement::update_whole(&rule.rule);
            return self.execute(rule, &text, std::slice::from_ref(&new), std::slice::from_ref(old));
        }
        let missing = statement::columns_to_fetch(&rule.rule, |column| rule.is_present(&new, column));
        if !missing.is_empty() {
            let (mut found, _) = self.fetch(table, rule, &missing, std::slice::from_ref(&new))?;
            if let Some(row) = found.pop() {
                new = row;
            }
        }
        let text = statement::change_key(&rule.rule, |column| rule.is_present(&new, column));
        match self.execute(rule, &text, std::slice::from_ref(&new), std::slice::from_ref(old)) {
            // A foreign key of the subscriber was faster.
            Err(Failure::Rows { found: 0, .. }) if self.cascades.moves => {
                self.update(table, rule, std::slice::from_ref(&new))
            }
            other => other,
        }
    }

    /// Asks the publisher for the present values of `missing` columns: rows completed, and those that are gone there.
    pub(super) fn fetch(
        &mut self,
        table: &Bound,
        rule: &BoundRule,
        missing: &[usize],
        rows: &[Row],
    ) -> std::result::Result<(Vec<Row>, Vec<Row>), Failure> {
        let Some(identity) = &rule.rule.identity else {
            let message =
                format!("a value of table \"{}\" is missing in the stream", table.relation.display());
            return Err(Failure::Other(Error::Internal { message }));
        };
        if self.lookup.is_none() {
            self.lookup = Some(self.publisher.connect()?);
        }
        let Some(lookup) = &mut self.lookup else { return Ok((Vec::new(), rows.to_vec())) };
        let arrays: Vec<TextArray<'_>> = identity
            .iter()
            .map(|column| TextArray::gather(rows, rule.positions[*column]))
            .collect::<Result<_>>()?;
        let params: Vec<&dyn Parameter> = arrays.iter().map(|array| array as &dyn Parameter).collect();
        let text = statement::fetch(&rule.rule, identity, missing);
        let answers = lookup.query_text(&text, &params).doing(|| {
            format!("read values of table \"{}\" that the stream left out", table.relation.display())
        })?;
        let mut found: HashMap<usize, Row> = HashMap::new();
        for answer in &answers {
            let at = answer.get::<_, i64>(0) as usize - 1;
            let mut values: Vec<Value<'_>> = rows[at].values().collect();
            for (column, wanted) in missing.iter().enumerate() {
                let value: Option<&str> = answer.get(column + 1);
                values[rule.positions[*wanted]] =
                    value.map_or(Value::Null, |text| Value::Text(text.as_bytes()));
            }
            found.insert(at, values.into_iter().collect());
        }
        let gone = (0..rows.len()).filter(|at| !found.contains_key(at)).map(|at| rows[at].clone()).collect();
        Ok((found.into_values().collect(), gone))
    }

    /// Empties tables, as far as no other rows are there: those of another table, or those that the mirror has left out.
    pub(super) fn truncate(&mut self, tables: &[Arc<Bound>]) -> std::result::Result<(), Failure> {
        let emptied = |name: &TableName| {
            tables
                .iter()
                .any(|table| table.relation.schema == name.schema && table.relation.name == name.name)
        };
        let refused = |rule: &TableRule, beside: String| Failure::PartialTruncate {
            from: rule.from.to_string(),
            to: rule.to.to_string(),
            beside,
        };
        let mut targets: Vec<&TableRule> = Vec::new();
        let mut deletions: Vec<(&TableName, String)> = Vec::new();
        for (table, rule) in tables.iter().flat_map(|table| table.rules.iter().map(move |rule| (table, rule)))
        {
            if rule.rule.may_lack_rows() {
                self.forget_all_unmade(rule)?;
            }
            if self.has_left_out(table, &rule.rule) {
                let Some(mirrored) = self.left_out.mirrored(&rule.rule.from, &rule.rule.to) else {
                    let beside = "those that the mirror's filter has left out, and since the maintenance nothing tells which those are";
                    return Err(refused(&rule.rule, beside.to_owned()));
                };
                let deletion = format!("delete from {} where ({mirrored}\n)", rule.rule.target());
                deletions.push((&rule.rule.to, deletion));
                continue;
            }
            let others = self.sources.get(&rule.rule.to).map_or(&[][..], Vec::as_slice);
            let kept: Vec<&Arc<TableRule>> = others.iter().filter(|other| !emptied(&other.from)).collect();
            if !kept.is_empty() && rule.rule.fills.is_some() {
                self.session.client().batch_execute(&statement::empty_all(&rule.rule))?;
                continue;
            }
            if let Some(other) = kept.iter().find(|other| !rule.rule.is_apart_from(other)) {
                return Err(refused(&rule.rule, format!("those of \"{}\"", other.from)));
            }
            if !kept.is_empty() {
                self.session.client().batch_execute(&statement::delete_own(&rule.rule))?;
                continue;
            }
            if !targets.iter().any(|known| known.to == rule.rule.to) {
                targets.push(&rule.rule);
            }
        }
        if !self.truncate_whole(&targets)? {
            deletions.extend(targets.iter().map(|rule| (&rule.to, format!("delete from {}", rule.target()))));
        }
        // Where foreign keys fire, those that refer to others go first.
        deletions.sort_by_key(|(table, _)| Reverse(self.ranks.get(*table).copied()));
        deletions
            .iter()
            .try_for_each(|(_, deletion)| self.session.client().batch_execute(deletion))
            .map_err(Failure::from)
    }

    /// Whether the mirror has left out rows of a table, by its name now or by that which it had when it was emptied.
    fn has_left_out(&self, table: &Bound, rule: &TableRule) -> bool {
        let Relation { schema, name, .. } = &*table.relation;
        self.left_out.is_of(&rule.from)
            || self.left_out.is_of(&TableName { schema: schema.clone(), name: name.clone() })
    }

    /// Truncates all of these at once; false where that is not allowed.
    fn truncate_whole(&mut self, targets: &[&TableRule]) -> std::result::Result<bool, Failure> {
        if targets.is_empty() {
            return Ok(true);
        }
        let names: Vec<String> = targets.iter().map(|rule| rule.target()).collect();
        let client = self.session.client();
        client.batch_execute("savepoint pgdetour_truncate")?;
        let is_done = match client.batch_execute(&format!("truncate {}", names.join(", "))) {
            Ok(()) => true,
            // A foreign key of a table that was not emptied in the same statement refers to one of these.
            Err(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => {
                client.batch_execute("rollback to savepoint pgdetour_truncate")?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        client.batch_execute("release savepoint pgdetour_truncate")?;
        Ok(is_done)
    }
}
