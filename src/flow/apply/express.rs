//! A batch in two round trips: its statements and all their rows behind each other, and the commit once the server has told how many
//! rows each of them took. What does not fit that way is rolled back, and goes the way on which it is found out what is wrong.

use super::Applier;
use super::batch::{Planned, Step, Transaction, Work};
use super::stage::{PIECE, Stages, is_stageable, put_row, stage_definition};
use super::statement::{self, From, Statement};
use crate::error::{Error, Result, ServerError};
use crate::flow::mapping::TableRule;
use crate::flow::mapping::bound::BoundRule;
use crate::flow::source::change::{Row, Value};
use crate::pg::Server;
use crate::pg::wire::{Client, Purpose};

/// After so many batches in a row that did not go, no more are tried.
const ATTEMPTS: u32 = 3;

/// A session on the subscriber that takes whole batches.
pub(super) struct Express {
    client: Client,
    on: &'static str,
    stages: Stages,
    /// Batches in a row that did not go.
    misses: u32,
}

/// The statements of a batch.
#[derive(Default)]
struct Script<'a> {
    text: String,
    /// How many rows each statement is to tell of, where that is known.
    expected: Vec<Option<u64>>,
    data: Vec<Data<'a>>,
}

/// What a COPY takes: these old columns of the rows.
struct Data<'a> {
    rule: &'a BoundRule,
    columns: Vec<usize>,
    rows: &'a [Row],
}

impl Script<'_> {
    fn push(&mut self, statement: &str, expected: Option<u64>) {
        self.text.push_str(statement);
        self.text.push_str(";\n");
        self.expected.push(expected);
    }
}

impl Applier {
    /// Opens the session that takes whole batches; `preparation` is what it begins with. Without it, or when it cannot be
    /// opened, batches go statement by statement.
    pub(super) fn open_express(&mut self, subscriber: &Server, preparation: &str) {
        if self.replica_role && self.stages.are_allowed() {
            self.express = Express::open(subscriber, preparation).ok();
        }
    }

    /// Applies and commits whole transactions in as few round trips as can be; false when they do not go that way: nothing is
    /// applied then.
    pub(super) fn apply_in_one_go(&mut self, transactions: &[Transaction]) -> Result<bool> {
        if self.open || self.express.is_none() || self.quarantine.is_some() {
            return Ok(false);
        }
        let work: Vec<&Work> = transactions.iter().flat_map(|transaction| &transaction.work).collect();
        let Some(last) = transactions.last().filter(|_| !work.is_empty()) else { return Ok(false) };
        let plan = self.plan(&work).ok().filter(|plan| !self.references.concern(plan));
        let (commit, changes) = self.commit_script(transactions);
        let Some(express) = &mut self.express else { return Ok(false) };
        let is_done = match &plan {
            Some(plan) => express.apply(plan, &commit)?,
            None => false,
        };
        if !is_done {
            express.misses += 1;
            if express.misses == ATTEMPTS {
                self.express = None;
            }
            return Ok(false);
        }
        express.misses = 0;
        self.round_trips += 2;
        self.changes += changes;
        self.applied = Some(last.end_lsn);
        Ok(true)
    }
}

impl Express {
    fn open(subscriber: &Server, preparation: &str) -> std::result::Result<Express, ServerError> {
        let mut client = Client::connect(&subscriber.conninfo, &subscriber.application_name, Purpose::Sql)?;
        client.simple_query(preparation)?;
        Ok(Express { client, on: subscriber.place.name(), stages: Stages::new(true), misses: 0 })
    }

    /// Runs a plan and commits it with what `commit` does beside; whether it went.
    fn apply(&mut self, plan: &[Planned], commit: &str) -> Result<bool> {
        let Some(script) = self.write(plan) else {
            self.stages.forget();
            return Ok(false);
        };
        let went = match self.run(&script) {
            Ok(true) => self.client.simple_query(commit).map(|_| true).map_err(|cause| self.failed(cause)),
            other => other,
        };
        match went {
            Ok(true) => {
                self.stages.commit();
                Ok(true)
            }
            Err(error) if error.is_connection_lost() || error.sqlstate().is_none() => Err(error),
            Ok(false) | Err(_) => {
                self.client.simple_query("rollback").map_err(|cause| self.failed(cause))?;
                self.stages.forget();
                Ok(false)
            }
        }
    }

    /// Sends all of it, and only then looks how it went: whether every statement took as many rows as it was to.
    fn run(&mut self, script: &Script<'_>) -> Result<bool> {
        self.client.begin_script(&script.text).map_err(|cause| self.failed(cause))?;
        let mut piece = Vec::with_capacity(PIECE + (PIECE >> 2));
        for data in &script.data {
            let positions: Vec<usize> = data.columns.iter().map(|at| data.rule.positions[*at]).collect();
            for row in data.rows {
                put_row(&mut piece, row, &positions)?;
                if piece.len() >= PIECE {
                    self.put(&mut piece)?;
                }
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
    fn write<'a>(&mut self, plan: &'a [Planned]) -> Option<Script<'a>> {
        let mut script = Script::default();
        script.push("begin", None);
        script.push("set constraints all deferred", None);
        for planned in plan {
            let Planned::Rows { table, step } = planned else { return None };
            for rule in &table.rules {
                self.write_step(&mut script, rule, step)?;
            }
        }
        Some(script)
    }

    fn write_step<'a>(&mut self, script: &mut Script<'a>, rule: &'a BoundRule, step: &'a Step) -> Option<()> {
        if rule.rule.condition.is_some() || rule.rule.fills.is_some() {
            return None;
        }
        match step {
            Step::Insert(rows) if statement::is_plain(&rule.rule) => {
                script.push(&statement::copy_into(&rule.rule), Some(rows.len() as u64));
                script.data.push(Data { rule, columns: statement::plain_columns(&rule.rule), rows });
                Some(())
            }
            Step::Insert(rows) => self.write_staged(script, rule, rows, statement::insert),
            Step::Delete(rows) if !rule.rule.key.is_empty() => {
                self.write_staged(script, rule, rows, statement::delete)
            }
            Step::Update(rows) if !rule.rule.key.is_empty() => {
                let first = rows.first()?;
                let is_present = |column: usize| first[rule.positions[column]] != Value::Unchanged;
                if !statement::columns_to_fetch(&rule.rule, is_present).is_empty() {
                    return None;
                }
                self.write_staged(script, rule, rows, |rule, from| statement::update(rule, from, is_present))
            }
            Step::Delete(_) | Step::Update(_) | Step::Move { .. } => None,
        }
    }

    fn write_staged<'a>(
        &mut self,
        script: &mut Script<'a>,
        rule: &'a BoundRule,
        rows: &'a [Row],
        build: impl Fn(&TableRule, From<'_>) -> Statement,
    ) -> Option<()> {
        let Statement { columns, takes_count, .. } = build(&rule.rule, From::Parameters);
        if takes_count || !is_stageable(rule, &columns, rows) {
            return None;
        }
        let (table, preparation) = self.stages.take(stage_definition(rule, &columns));
        if let Some(preparation) = preparation {
            script.push(&preparation, None);
        }
        let expected = Some(rows.len() as u64);
        script.push(&format!("copy {table} from stdin"), expected);
        script.push(&build(&rule.rule, From::Table(&table)).text, expected);
        script.data.push(Data { rule, columns, rows });
        Some(())
    }
}
