//! Foreign keys of what goes in one go: the questions are asked of the stages, behind all statements that write.

use super::{Express, Script, Staged};
use crate::flow::apply::batch::Step;
use crate::flow::apply::references::{References, writes};
use crate::flow::apply::statement::From;
use crate::flow::mapping::bound::{Bound, BoundRule};
use crate::flow::mapping::foreign_key::ForeignKey;
use crate::flow::source::change::Row;

impl Express {
    /// Adds the questions whether rows that a step writes lack their parents. They are in `staged`; where a COPY went straight into
    /// their table, what tells is put into a stage here. None where a question cannot be asked of the stage.
    pub(super) fn check_parents<'a>(
        &mut self,
        script: &mut Script<'a>,
        (table, rule): (&Bound, &'a BoundRule),
        rows: &'a [Row],
        staged: Option<&Staged>,
        references: &mut References,
    ) -> Option<()> {
        let keys = references.concerning_written(&rule.rule.to);
        if keys.is_empty() {
            return Some(());
        }
        let otherwise = |key: &ForeignKey| key.find_orphan(&rule.rule, From::Parameters).columns;
        let asked: Vec<_> = keys.iter().map(|key| (key, key.plain_columns(&rule.rule))).collect();
        let own = if staged.is_none() {
            let mut columns: Vec<usize> = asked
                .iter()
                .flat_map(|(key, plain)| plain.clone().unwrap_or_else(|| otherwise(key)))
                .collect();
            columns.sort_unstable();
            columns.dedup();
            Some(self.stage(script, (table, rule), columns, rows, true)?)
        } else {
            None
        };
        let staged = staged.or(own.as_ref())?;
        for (key, plain) in asked {
            let question = match plain.filter(|columns| staged.has(columns)) {
                Some(columns) => key.find_orphan_in(&staged.table, &rule.rule, &columns),
                None if staged.has(&otherwise(key)) => {
                    key.find_orphan(&rule.rule, From::Table(&staged.table)).text
                }
                None => return None,
            };
            script.checks.push(question);
        }
        Some(())
    }

    /// Adds the questions whether rows that a step writes meet others. What tells of them is put into a stage here where `staged`
    /// does not hold it.
    pub(super) fn check_meetings<'a>(
        &mut self,
        script: &mut Script<'a>,
        (table, rule): (&Bound, &'a BoundRule),
        step: &Step,
        rows: &'a [Row],
        staged: Option<&Staged>,
        references: &mut References,
    ) -> Option<()> {
        for key in references.concerning_meeting(rule, step) {
            let asked = key.find_meeting(&rule.rule, From::Parameters);
            if asked.columns.is_empty() {
                script.checks.push(key.find_any_meeting());
                continue;
            }
            let own = match staged.filter(|staged| staged.has(&asked.columns)) {
                Some(_) => None,
                None => Some(self.stage(script, (table, rule), asked.columns, rows, true)?),
            };
            let from = own.as_ref().or(staged)?;
            script.checks.push(key.find_meeting(&rule.rule, From::Table(&from.table)).text);
        }
        Some(())
    }

    /// Adds the questions whether rows still refer to those that a step is to delete by what is staged.
    pub(super) fn check_children(
        &mut self,
        script: &mut Script<'_>,
        rule: &BoundRule,
        staged: &Staged,
        references: &mut References,
    ) {
        for key in references.concerning_removed(&rule.rule.to, |_| true) {
            match key.find_bereft(&rule.rule, From::Table(&staged.table)) {
                Some(question) => script.checks.push(question.text),
                None => self.watch(script, rule, staged, &key),
            }
        }
    }

    /// The same for rows that it is to update, in columns that are not their key.
    pub(super) fn check_referenced(
        &mut self,
        script: &mut Script<'_>,
        rule: &BoundRule,
        rows: &[Row],
        staged: &Staged,
        references: &mut References,
    ) {
        let is_written = |key: &ForeignKey| writes(rule, rows.first(), &key.referenced_columns);
        for key in references.concerning_removed(&rule.rule.to, is_written) {
            self.watch(script, rule, staged, &key);
        }
    }

    /// Keeps what rows hold before they are written, where their key does not tell.
    fn watch(&mut self, script: &mut Script<'_>, rule: &BoundRule, staged: &Staged, key: &ForeignKey) {
        let Some(question) = key.read_referenced(&rule.rule, From::Table(&staged.table)) else { return };
        let watched = self.make_stage(script, key.referenced_definition(), true);
        script.push(&format!("insert into {watched} {}", question.text), None);
        script.checks.push(key.find_left_behind_in(&watched));
    }
}
