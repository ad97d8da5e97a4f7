//! A batch in two round trips: its statements and all their rows behind each other, and the commit once the server has told how many
//! rows each of them took. What does not fit that way is rolled back, and goes the way on which it is found out what is wrong.

mod checks;

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::Applier;
use super::batch::{Planned, Step, Transaction, Work};
use super::references::References;
use super::stage::{
    BINARY_HEAD, BINARY_TAIL, PIECE, Stages, is_stageable, put_binary_row, put_row, stage_definition,
};
use super::statement::{self, From, Statement};
use crate::error::{Error, Result, ServerError};
use crate::flow::mapping::TableRule;
use crate::flow::mapping::bound::{Bound, BoundRule};
use crate::flow::source::binary;
use crate::flow::source::change::{Row, RowChange, Value};
use crate::pg::Server;
use crate::pg::wire::{Client, Purpose};

/// After so many batches in a row that did not go, no more are tried.
const ATTEMPTS: u32 = 3;
/// How often a batch may come back to a table, where changes of another one have to stay between its own. Each time takes a stage,
/// made or emptied for it, which costs the server more than a few rows do as parameters.
const MOST_VISITS: u32 = 64;

/// A session on the subscriber that takes whole batches.
pub(super) struct Express {
    client: Client,
    on: &'static str,
    stages: Stages,
    /// Batches in a row that did not go.
    misses: u32,
    /// The first parts of a transaction are applied, and not committed.
    is_begun: bool,
}

/// The statements of a batch.
#[derive(Default)]
struct Script<'a> {
    text: String,
    /// How many rows each statement is to tell of, where that is known.
    expected: Vec<Option<u64>>,
    data: Vec<Data<'a>>,
    /// Questions that must find nothing, once all is written.
    checks: Vec<String>,
}

/// Where rows are, or the columns of them that a statement reads.
struct Staged {
    table: String,
    columns: Vec<usize>,
}

impl Staged {
    fn has(&self, columns: &[usize]) -> bool {
        columns.iter().all(|at| self.columns.contains(at))
    }
}

/// What a COPY takes: these old columns of the rows.
struct Data<'a> {
    rule: &'a BoundRule,
    columns: Vec<usize>,
    rows: &'a [Row],
    is_binary: bool,
}

impl<'a> Data<'a> {
    fn new(rule: &'a BoundRule, columns: Vec<usize>, rows: &'a [Row]) -> Data<'a> {
        Data { rule, columns, rows, is_binary: are_binary(rows) }
    }

    /// Whether what is copied into takes the values in the form that they have.
    fn fits(&self, table: &Bound) -> bool {
        let is_taken = |at: &usize| {
            let sent = &table.relation.columns[self.rule.positions[*at]];
            binary::is_sent_to(sent.type_oid, &self.rule.rule.old_columns[*at])
        };
        !self.is_binary || self.columns.iter().all(is_taken)
    }
}

impl<'a> Script<'a> {
    fn push(&mut self, statement: &str, expected: Option<u64>) {
        self.text.push_str(statement);
        self.text.push_str(";\n");
        self.expected.push(expected);
    }

    /// A statement that reads what is staged; it must take each row.
    fn push_staged(
        &mut self,
        staged: &Staged,
        rule: &BoundRule,
        rows: &[Row],
        build: impl Fn(&TableRule, From<'_>) -> Statement,
    ) {
        let statement = build(&rule.rule, From::Table(&staged.table));
        self.push(&statement.text, Some(rows.len() as u64));
    }

    /// A COPY and its rows; none where it would read them as something else.
    fn copy(&mut self, statement: &str, table: &Bound, data: Data<'a>) -> Option<()> {
        if !data.fits(table) {
            return None;
        }
        let format = if data.is_binary { " (format binary)" } else { "" };
        self.push(&format!("{statement}{format}"), Some(data.rows.len() as u64));
        self.data.push(data);
        Some(())
    }
}

impl Applier {
    /// Opens the session that takes whole batches; `preparation` is what it begins with. Without it, or when it cannot be
    /// opened, batches go statement by statement.
    pub(super) fn open_express(&mut self, subscriber: &Server, preparation: &str) {
        if self.replica_role && self.stages.are_allowed() && !self.has_rows_waiting() {
            self.express = Express::open(subscriber, preparation).ok();
        }
    }

    /// Whether batches are tried as they are planned, all at once; only then may changes come in binary form.
    pub(super) fn is_hasty(&self) -> bool {
        self.express.is_some() && !self.has_rows_waiting()
    }

    /// The session that takes whole batches has applied parts of a transaction.
    fn has_begun(&self) -> bool {
        self.express.as_ref().is_some_and(|express| express.is_begun)
    }

    /// Changes are set aside, or may be, behind which others have to wait.
    fn has_rows_waiting(&self) -> bool {
        self.quarantine.as_ref().is_some_and(|quarantine| !quarantine.holds_nothing())
    }

    /// Applies and commits whole transactions, the first of which [`Applier::apply_part_in_one_go`] may have begun, in as few
    /// round trips as can be; false when they do not go that way: nothing is applied then.
    pub(super) fn apply_in_one_go(
        &mut self,
        transactions: &[Transaction],
        plan: Option<&[Planned]>,
    ) -> Result<bool> {
        let work: Vec<&Work> = transactions.iter().flat_map(|transaction| &transaction.work).collect();
        let is_begun = self.has_begun();
        if self.open || self.express.is_none() || self.has_rows_waiting() {
            // The other session commits nothing of this one, and takes no binary values.
            return if is_begun || is_binary(&work) { Err(binary::misfit()) } else { Ok(false) };
        }
        let Some(last) = transactions.last().filter(|_| is_begun || !work.is_empty()) else {
            return Ok(false);
        };
        let (commit, changes) = self.commit_script(transactions);
        let Some(express) = &mut self.express else { return Ok(false) };
        // It does not take rows whose keys change, which says nothing of what comes next.
        let moves = |planned: &Planned| matches!(planned, Planned::Rows { step: Step::Move { .. }, .. });
        let is_moving = plan.is_some_and(|plan| plan.iter().any(moves));
        let is_done = match plan.filter(|_| !is_moving) {
            Some(plan) => express.apply(plan, &mut self.references, Some(&commit))?,
            None => false,
        };
        if !is_done && (is_begun || is_binary(&work)) {
            return Err(binary::misfit());
        }
        if !is_done {
            express.misses += u32::from(!is_moving);
            if express.misses == ATTEMPTS {
                self.express = None;
            }
            return Ok(false);
        }
        express.misses = 0;
        self.round_trips += 2;
        self.changes += changes;
        self.open_changes = 0;
        self.written.clear();
        self.applied = Some(last.end_lsn);
        Ok(true)
    }

    /// Applies what has been read in binary of a transaction that is larger than a batch; nothing is committed. False when it was
    /// read as text. What has no values but NULL is in either form, and stays with the session that has begun.
    pub(super) fn apply_part_in_one_go(
        &mut self,
        part: &Transaction,
        plan: Option<&[Planned]>,
    ) -> Result<bool> {
        let work: Vec<&Work> = part.work.iter().collect();
        let is_begun = self.has_begun();
        if !is_begun && !is_binary(&work) {
            return Ok(false);
        }
        if self.open {
            return Err(binary::misfit());
        }
        let (Some(plan), Some(express)) = (plan, &mut self.express) else { return Err(binary::misfit()) };
        self.references.is_part = true;
        self.references.goes_on = true;
        let is_done = express.apply(plan, &mut self.references, None);
        self.references.is_part = false;
        self.references.goes_on = false;
        if !is_done? {
            return Err(binary::misfit());
        }
        self.round_trips += 1;
        self.note_part(part);
        Ok(true)
    }

    /// Gives up the parts of a transaction that are applied in one go.
    pub(super) fn roll_back_express(&mut self) {
        if let Some(express) = self.express.as_mut().filter(|express| express.is_begun) {
            self.open_changes = 0;
            self.written.clear();
            self.references.forget();
            // On failure the session is lost, which rolls back as well.
            if express.roll_back().is_err() {
                self.express = None;
            }
        }
    }
}

/// Whether the values of these changes are in binary form: the first that there is tells.
fn is_binary(work: &[&Work]) -> bool {
    let rows = work.iter().filter_map(|work| match work {
        Work::Row { change, .. } => match change {
            RowChange::Insert { new: row }
            | RowChange::Update { new: row, .. }
            | RowChange::Delete { old: row } => Some(row),
        },
        Work::Truncate { .. } => None,
    });
    are_binary(rows)
}

fn are_binary<'a>(rows: impl IntoIterator<Item = &'a Row>) -> bool {
    let form = |value| match value {
        Value::Binary(_) => Some(true),
        Value::Text(_) => Some(false),
        Value::Null | Value::Unchanged => None,
    };
    rows.into_iter().flat_map(Row::values).find_map(form).unwrap_or(false)
}

impl Express {
    fn open(subscriber: &Server, preparation: &str) -> std::result::Result<Express, ServerError> {
        let mut client = Client::connect(&subscriber.conninfo, &subscriber.application_name, Purpose::Sql)?;
        client.simple_query(preparation)?;
        Ok(Express {
            client,
            on: subscriber.place.name(),
            stages: Stages::new(true),
            misses: 0,
            is_begun: false,
        })
    }

    /// Runs a plan, behind the parts that are applied, and commits it with what `commit` does beside, if it is to be committed;
    /// whether it went. If not, all is rolled back.
    fn apply(&mut self, plan: &[Planned], references: &mut References, commit: Option<&str>) -> Result<bool> {
        let went = match self.write(plan, references, commit.is_some()) {
            Some(script) => self.run(&script),
            None => Ok(false),
        };
        let went = match (went, commit) {
            (Ok(true), Some(commit)) => {
                self.client.simple_query(commit).map(|_| true).map_err(|cause| self.failed(cause))
            }
            (went, _) => went,
        };
        match went {
            Ok(true) => {
                self.is_begun = commit.is_none();
                if !self.is_begun {
                    self.stages.commit();
                }
                Ok(true)
            }
            Err(error) if error.is_connection_lost() || error.sqlstate().is_none() => Err(error),
            Ok(false) | Err(_) => {
                references.forget();
                self.roll_back().map(|()| false)
            }
        }
    }

    fn roll_back(&mut self) -> Result<()> {
        self.is_begun = false;
        self.stages.forget();
        self.client.simple_query("rollback").map(drop).map_err(|cause| self.failed(cause))
    }

    /// Sends all of it, and only then looks how it went: whether every statement took as many rows as it was to.
    fn run(&mut self, script: &Script<'_>) -> Result<bool> {
        self.client.begin_script(&script.text).map_err(|cause| self.failed(cause))?;
        let mut piece = Vec::with_capacity(PIECE + (PIECE >> 2));
        for data in &script.data {
            let positions: Vec<usize> = data.columns.iter().map(|at| data.rule.positions[*at]).collect();
            let put = if data.is_binary { put_binary_row } else { put_row };
            if data.is_binary {
                piece.extend_from_slice(BINARY_HEAD);
            }
            let mut values = Vec::new();
            for row in data.rows {
                values.clear();
                values.extend(row.values());
                put(&mut piece, &values, &positions)?;
                if piece.len() >= PIECE {
                    self.put(&mut piece)?;
                }
            }
            if data.is_binary {
                piece.extend_from_slice(BINARY_TAIL);
            }
            self.put(&mut piece)?;
            self.client.end_data().map_err(|cause| self.failed(cause))?;
        }
        let found = self.client.finish_script().map_err(|cause| self.failed(cause))?;
        let fits = |(found, expected): (&u64, &Option<u64>)| expected.is_none_or(|rows| rows == *found);
        Ok(found.len() == script.expected.len() && found.iter().zip(&script.expected).all(fits))
    }

    fn put(&mut self, piece: &mut Vec<u8>) -> Result<()> {
        let sent = self.client.put_data(piece).map_err(|cause| self.failed(cause));
        piece.clear();
        sent
    }

    fn failed(&self, cause: ServerError) -> Error {
        Error::Sql { action: "apply changes".to_owned(), on: self.on.to_owned(), cause }
    }

    /// The plan's statements; none where one of them has to be looked at by itself.
    fn write<'a>(
        &mut self,
        plan: &'a [Planned],
        references: &mut References,
        is_complete: bool,
    ) -> Option<Script<'a>> {
        let mut script = Script::default();
        self.stages.release();
        if !self.is_begun {
            script.push("begin", None);
            script.push("set constraints all deferred", None);
        }
        let mut visits: HashMap<*const Bound, u32> = HashMap::new();
        for planned in plan {
            let Planned::Rows { table, step } = planned else { return None };
            let visits = visits.entry(Arc::as_ptr(table)).or_default();
            *visits += 1;
            if *visits > MOST_VISITS {
                return None;
            }
            for rule in &table.rules {
                self.write_step(&mut script, (table, rule), step, references)?;
            }
        }
        if is_complete {
            script.checks.extend(references.take_pending().map(|key| key.find_any_orphan()));
            script.checks.extend(references.take_pending_meetings().map(|key| key.find_any_meeting()));
        }
        for check in std::mem::take(&mut script.checks) {
            script.push(&check, Some(0));
        }
        Some(script)
    }

    fn write_step<'a>(
        &mut self,
        script: &mut Script<'a>,
        to: (&Bound, &'a BoundRule),
        step: &'a Step,
        references: &mut References,
    ) -> Option<()> {
        let (table, rule) = to;
        if rule.rule.condition.is_some() || rule.rule.fills.is_some() {
            return None;
        }
        // What it stages is read again where foreign keys are looked at.
        let keep = references.concern(&rule.rule.to);
        match step {
            Step::Insert(rows) if statement::is_plain(&rule.rule) => {
                let into = statement::copy_into(&rule.rule);
                script.copy(&into, table, Data::new(rule, statement::plain_columns(&rule.rule), rows))?;
                self.check_meetings(script, to, step, rows, None, references)?;
                self.check_parents(script, to, rows, None, references)
            }
            Step::Insert(rows) => {
                let staged = self.stage_for(script, to, rows, keep, statement::insert)?;
                script.push_staged(&staged, rule, rows, statement::insert);
                self.check_meetings(script, to, step, rows, Some(&staged), references)?;
                self.check_parents(script, to, rows, Some(&staged), references)
            }
            Step::Delete(rows) if !rule.rule.key.is_empty() => {
                let staged = self.stage_for(script, to, rows, keep, statement::delete)?;
                self.check_children(script, rule, &staged, references);
                script.push_staged(&staged, rule, rows, statement::delete);
                Some(())
            }
            Step::Update(rows) if !rule.rule.key.is_empty() => {
                let first = rows.first()?;
                let is_present = |column| rule.is_present(first, column);
                if !statement::columns_to_fetch(&rule.rule, is_present).is_empty() {
                    return None;
                }
                let update = |rule: &TableRule, from: From<'_>| statement::update(rule, from, is_present);
                let staged = self.stage_for(script, to, rows, keep, update)?;
                self.check_referenced(script, rule, rows, &staged, references);
                script.push_staged(&staged, rule, rows, update);
                self.check_meetings(script, to, step, rows, Some(&staged), references)?;
                self.check_parents(script, to, rows, Some(&staged), references)
            }
            Step::Delete(_) | Step::Update(_) | Step::Move { .. } => None,
        }
    }

    /// Puts what a statement reads of the rows into a temporary table.
    fn stage_for<'a>(
        &mut self,
        script: &mut Script<'a>,
        to: (&Bound, &'a BoundRule),
        rows: &'a [Row],
        keep: bool,
        build: impl Fn(&TableRule, From<'_>) -> Statement,
    ) -> Option<Staged> {
        let Statement { columns, takes_count, .. } = build(&to.1.rule, From::Parameters);
        if takes_count { None } else { self.stage(script, to, columns, rows, keep) }
    }

    /// Puts these columns of the rows into one. With `keep` they are there until all is written.
    fn stage<'a>(
        &mut self,
        script: &mut Script<'a>,
        (table, rule): (&Bound, &'a BoundRule),
        columns: Vec<usize>,
        rows: &'a [Row],
        keep: bool,
    ) -> Option<Staged> {
        if !is_stageable(rule, &columns, rows) {
            return None;
        }
        let stage = self.make_stage(script, stage_definition(rule, &columns), keep);
        let data = Data::new(rule, columns.clone(), rows);
        script.copy(&format!("copy {stage} from stdin"), table, data)?;
        Some(Staged { table: stage, columns })
    }

    fn make_stage(&mut self, script: &mut Script<'_>, definition: String, keep: bool) -> String {
        let (stage, preparation) = self.stages.take(definition, keep);
        if let Some(preparation) = preparation {
            script.push(&preparation, None);
        }
        stage
    }
}
