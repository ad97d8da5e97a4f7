//! Sessions on one server: settings pinned, changes noted instead of made in a dry run.

use std::collections::HashMap;
use std::time::Duration;

use postgres::types::{ToSql, Type};
use postgres::{Client, Row, SimpleQueryMessage, Statement};

use crate::error::{Error, Result, ServerError};
use crate::pg::Conninfo;
use crate::pg::Conventions;
use crate::pg::parameter::Parameter;
use crate::pg::shown::{strip_comments, with_parameters};
use crate::phase::Place;
use crate::plan::Plan;
use crate::sql::{self, Sql};

/// How long a statement of ours waits for a lock before it gives up, so that live traffic never queues behind us for long.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Begins a session that carries over what the other side has: triggers and foreign keys do not act on it, and what records the
/// changes of this side passes over it.
pub const AS_REPLICA: &str = "set session_replication_role = replica; set pgdetour.carries = on";

/// One of the servers, as configured, and how to open sessions on it.
#[derive(Clone)]
pub struct Server {
    /// Which one.
    pub place: Place,
    /// How to reach it.
    pub conninfo: Conninfo,
    /// `pgdetour cutover`: what administrators see in `pg_stat_activity`.
    pub application_name: String,
    /// Where a dry run notes changes.
    pub plan: Plan,
    /// Under which expressions of a mapping are evaluated.
    pub conventions: Conventions,
}

impl Server {
    /// Opens a session with every setting pinned that changes the meaning of values or ends long sessions.
    pub fn connect(&self) -> Result<Session> {
        let unreachable =
            |cause: ServerError| Error::Unreachable { what: self.place.name().to_owned(), cause };
        let mut client = self.conninfo.connect(&self.application_name).map_err(unreachable)?;
        // In one round trip: a server that is far away is asked for several sessions before anything is done there.
        let script = format!(
            "{};\nselect pg_catalog.current_setting('server_version_num'), pg_catalog.current_database()",
            pin_session(&self.conventions)
        );
        let answer = client.simple_query(&script).map_err(|error| unreachable((&error).into()))?;
        let row = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let told = row.and_then(|row| Some((row.get(0)?.parse().ok()?, row.get(1)?.to_owned())));
        let (version, database) =
            told.ok_or_else(|| unreachable(ServerError::lost("the server did not tell its version")))?;
        Ok(Session {
            client,
            place: self.place,
            version,
            database,
            plan: self.plan.clone(),
            statements: HashMap::new(),
        })
    }
}

/// `pin_session.sql` with its parameters filled in.
pub fn pin_session(conventions: &Conventions) -> String {
    let lock_timeout = sql::quote_literal(&LOCK_TIMEOUT.as_millis().to_string());
    let mut text = sql::catalog::PIN_SESSION.text.trim().replace("$1", &lock_timeout);
    for ((_, value), parameter) in conventions.settings().iter().zip(["$2", "$3", "$4", "$5"]) {
        text = text.replace(parameter, &sql::quote_literal(value));
    }
    text
}

/// One ordinary SQL session. Reads always happen; what changes anything goes through `change*`,
/// which a dry run notes instead.
pub struct Session {
    client: Client,
    /// Where it is.
    pub place: Place,
    /// `server_version_num`, such as 150004.
    pub version: i32,
    /// Name of its database, unquoted.
    pub database: String,
    plan: Plan,
    /// By text.
    statements: HashMap<String, Use>,
}

/// How a session has run a statement.
enum Use {
    /// As it is, so many times: one round trip each, in which the server has to plan it.
    AtOnce(u32),
    /// Prepared, which took a round trip more.
    Prepared(Statement),
}

/// How many statements a session keeps in mind.
const KEPT_STATEMENTS: usize = 200;
/// How many times a statement is run as it is before it is worth being prepared.
const PREPARE_AFTER: u32 = 3;

impl Session {
    /// Whether changes are only noted.
    pub fn is_dry(&self) -> bool {
        self.plan.is_dry()
    }

    /// Notes what a dry run would do here, beside statements.
    pub fn note(&self, action: impl Into<String>) {
        self.plan.note(self.place.name(), action);
    }

    /// All rows of a statement that changes nothing.
    pub fn query(&mut self, sql: &Sql, params: &[&dyn Parameter]) -> Result<Vec<Row>> {
        self.run(sql.text, params).map_err(|error| self.failed(sql.action(), &error))
    }

    /// Its only row.
    pub fn query_one(&mut self, sql: &Sql, params: &[&dyn Parameter]) -> Result<Row> {
        let statement = self.statement(sql.text).map_err(|error| self.failed(sql.action(), &error))?;
        let row = match statement {
            Some(statement) => self.client.query_one(&statement, &values(params)),
            None => self.client.query_typed_one(sql.text, &typed(params)),
        };
        row.map_err(|error| self.failed(sql.action(), &error))
    }

    /// Its only row, or none.
    pub fn query_opt(&mut self, sql: &Sql, params: &[&dyn Parameter]) -> Result<Option<Row>> {
        let statement = self.statement(sql.text).map_err(|error| self.failed(sql.action(), &error))?;
        let row = match statement {
            Some(statement) => self.client.query_opt(&statement, &values(params)),
            None => self.client.query_typed_opt(sql.text, &typed(params)),
        };
        row.map_err(|error| self.failed(sql.action(), &error))
    }

    /// Rows of a statement built at run time (identifiers quoted by the caller) that changes nothing.
    pub fn query_text(&mut self, text: &str, params: &[&dyn Parameter]) -> Result<Vec<Row>> {
        self.client.query_typed(text, &typed(params)).map_err(|error| self.failed(summary(text), &error))
    }

    /// Makes a change; rows affected. A dry run notes the statement and returns 0.
    pub fn change(&mut self, text: &str, params: &[&dyn Parameter]) -> Result<u64> {
        if self.plan.is_dry() {
            self.note(with_parameters(text, params));
            return Ok(0);
        }
        let statement = self.statement(text).map_err(|error| self.failed(summary(text), &error))?;
        let affected = match statement {
            Some(statement) => self.client.execute(&statement, &values(params)),
            None => self.client.execute_typed(text, &typed(params)),
        };
        affected.map_err(|error| self.failed(summary(text), &error))
    }

    /// Makes a change that answers with rows. A dry run notes the statement and returns none.
    pub fn change_returning(&mut self, text: &str, params: &[&dyn Parameter]) -> Result<Vec<Row>> {
        if self.plan.is_dry() {
            self.note(with_parameters(text, params));
            return Ok(Vec::new());
        }
        self.run(text, params).map_err(|error| self.failed(summary(text), &error))
    }

    /// Runs several statements without parameters. A dry run notes them.
    pub fn change_script(&mut self, script: &str) -> Result<()> {
        self.change_secret(script, script)
    }

    /// Runs statements that hold a secret; `shown` is what a dry run notes.
    pub fn change_secret(&mut self, script: &str, shown: &str) -> Result<()> {
        if self.plan.is_dry() {
            self.note(strip_comments(shown));
            return Ok(());
        }
        self.client.batch_execute(script).map_err(|error| self.failed(summary(shown), &error))
    }

    /// Runs `work` in one transaction: committed when it succeeds, rolled back when not.
    pub fn atomically<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.change_script("begin")?;
        match work(self) {
            Ok(value) => {
                self.change_script("commit")?;
                Ok(value)
            }
            Err(error) => {
                // The first failure is the one to report; a lost session has rolled back by itself.
                let _ = self.change_script("rollback");
                Err(error)
            }
        }
    }

    /// Prepares statements that are to run fast later on.
    pub fn prepare(&mut self, statements: &[&Sql]) -> Result<()> {
        for sql in statements {
            if !matches!(self.statements.get(sql.text), Some(Use::Prepared(_))) {
                let prepared = self.client.prepare(sql.text);
                let prepared = prepared.map_err(|error| self.failed(sql.action(), &error))?;
                self.statements.insert(sql.text.to_owned(), Use::Prepared(prepared));
            }
        }
        Ok(())
    }

    /// From now on, statements of this session wait for a lock for so long.
    pub fn set_lock_timeout(&mut self, timeout: Duration) -> Result<()> {
        let text = format!("set lock_timeout = {}", timeout.as_millis());
        self.client.batch_execute(&text).map_err(|error| self.failed(summary(&text), &error))
    }

    /// Several statements without parameters in one round trip; the rows of all, as text.
    pub fn ask_script(&mut self, script: &str) -> Result<Vec<Vec<Option<String>>>> {
        let answer =
            self.client.simple_query(script).map_err(|error| self.failed(summary(script), &error))?;
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    fn run(&mut self, text: &str, params: &[&dyn Parameter]) -> Result<Vec<Row>, postgres::Error> {
        match self.statement(text)? {
            Some(statement) => self.client.query(&statement, &values(params)),
            None => self.client.query_typed(text, &typed(params)),
        }
    }

    /// The statement prepared, once it has been run so often that this is worth its round trip.
    fn statement(&mut self, text: &str) -> Result<Option<Statement>, postgres::Error> {
        let is_room = self.statements.len() < KEPT_STATEMENTS;
        match self.statements.get_mut(text) {
            Some(Use::Prepared(statement)) => Ok(Some(statement.clone())),
            Some(Use::AtOnce(times)) if *times < PREPARE_AFTER => {
                *times += 1;
                Ok(None)
            }
            Some(used) => {
                let statement = self.client.prepare(text)?;
                *used = Use::Prepared(statement.clone());
                Ok(Some(statement))
            }
            None if is_room => {
                self.statements.insert(text.to_owned(), Use::AtOnce(1));
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The client itself, for what the methods above do not cover: COPY, notifications, prepared statements.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    fn failed(&self, action: String, error: &postgres::Error) -> Error {
        Error::Sql { action, on: self.place.name().to_owned(), cause: ServerError::from(error) }
    }
}

fn values<'a>(params: &[&'a dyn Parameter]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param.value()).collect()
}

fn typed<'a>(params: &[&'a dyn Parameter]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|param| (param.value(), param.sql_type())).collect()
}

/// What a statement does, for the message when nobody said better what it is about: as the name of its file has it, else
/// its first words.
fn summary(text: &str) -> String {
    if let Some(sql) = Sql::of_text(text) {
        return sql.action();
    }
    let text = strip_comments(text);
    let words: Vec<&str> = text.split_whitespace().take(6).collect();
    format!("run \"{}\"", words.join(" "))
}
