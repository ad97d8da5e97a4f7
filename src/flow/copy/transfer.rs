//! One table's rows from server to server, whole or in ranges of pages, under one snapshot.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postgres::error::SqlState;

use super::record;
use crate::error::{Doing as _, Error, Result, ServerError};
use crate::pg::catalog::{self, Table, objects};
use crate::pg::server::{AS_REPLICA, LOCK_TIMEOUT};
use crate::pg::wire::{self, Client, Copied, CopyError};
use crate::pg::{Server, Session};
use crate::sql;

/// Bytes of one page of a table.
const PAGE: u64 = 8192;
/// The smallest range of a table that is worth a task of its own; tests have small tables.
const SMALLEST_RANGE: u64 = if cfg!(test) { 64 << 10 } else { 64 << 20 };
/// Tables below this many bytes are copied and completed in as few messages as possible.
const SMALL: u64 = 1 << 20;
/// The largest range: what a worker does before it looks for something more urgent.
const LARGEST_RANGE: u64 = 1 << 30;
/// How often a table's lock is asked for before its holders are reported.
const LOCK_ATTEMPTS: u32 = if cfg!(test) { 2 } else { 10 };

/// How one table is copied.
#[derive(Debug, Clone)]
pub struct Transfer<'a> {
    /// The table as the publisher has it.
    pub table: &'a Table,
    /// Rows go in binary form: all types are the same and portable.
    pub binary: bool,
    /// What empties the table on the subscriber first.
    pub emptying: Emptying,
    /// The subscriber's table has partitions.
    pub into_partitioned: bool,
}

/// What happens to rows that are there before a table is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptying {
    /// TRUNCATE: the table is ours.
    Truncate,
    /// DELETE, after a copy that was cut off: others' constraints refer to the table.
    Delete,
    /// Nothing: the table has to be empty.
    Nothing,
}

/// Pages `from..to` of a table; without an end, all from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    from: u64,
    to: Option<u64>,
}

impl Transfer<'_> {
    fn columns(&self) -> String {
        let names = self.table.columns.iter().filter(|column| !column.is_generated());
        let names: Vec<String> = names.map(|column| sql::quote_identifier(&column.name)).collect();
        names.join(", ")
    }

    fn column_list(&self) -> String {
        // A table without columns has rows nevertheless; an empty list is no valid list.
        let columns = self.columns();
        if columns.is_empty() { columns } else { format!(" ({columns})") }
    }

    fn format(&self) -> &'static str {
        if self.binary { "binary" } else { "text" }
    }

    /// `COPY … TO STDOUT` of the whole table or of a range.
    pub fn out_statement(&self, range: Option<Range>) -> String {
        let (table, format) = (self.table.quoted(), self.format());
        let filter = self.table.part.filter.as_ref().map(|filter| format!("({filter})"));
        let (from, to) = match range {
            None if filter.is_none() && !self.table.part.through_root => {
                return format!("copy {table}{} to stdout (format {format})", self.column_list());
            }
            None => (None, None),
            Some(Range { from, to }) => (Some(from), to),
        };
        let from = from.map(|from| format!("ctid >= '({from},0)'"));
        let to = to.map(|to| format!("ctid < '({to},0)'"));
        let conditions: Vec<String> = from.into_iter().chain(to).chain(filter).collect();
        let only = if self.table.part.through_root { "" } else { "only " };
        let conditions = if conditions.is_empty() {
            String::new()
        } else {
            format!(" where {}", conditions.join(" and "))
        };
        let columns = self.columns();
        format!("copy (select {columns} from {only}{table}{conditions}) to stdout (format {format})")
    }

    /// `COPY … FROM STDIN`; `freeze` needs a table truncated in the same transaction.
    pub fn in_statement(&self, freeze: bool) -> String {
        let freeze = if freeze { ", freeze" } else { "" };
        let (table, columns, format) = (self.table.quoted(), self.column_list(), self.format());
        format!("copy {table}{columns} from stdin (format {format}{freeze})")
    }

    /// What makes the subscriber's table empty, if anything is to. Waits for writers that an earlier run left.
    pub fn emptying_statement(&self) -> String {
        let table = self.table.quoted();
        match self.emptying {
            Emptying::Truncate => format!("truncate only {table}"),
            Emptying::Delete => {
                let only = if self.into_partitioned { "" } else { "only " };
                format!("lock table {only}{table} in share row exclusive mode; delete from {only}{table}")
            }
            Emptying::Nothing => String::new(),
        }
    }

    /// Whether what is done beside its rows takes longer than they do.
    pub fn is_small(&self) -> bool {
        self.table.bytes.cast_unsigned() < SMALL
    }

    /// The ranges that the table is cut into for `jobs` workers.
    pub fn ranges(&self, jobs: usize) -> Vec<Range> {
        let bytes = self.table.bytes.cast_unsigned();
        // So small that no worker is left with much when the others have ended: the indexes wait for the last one.
        let size = (bytes / (16 * jobs as u64)).clamp(SMALLEST_RANGE, LARGEST_RANGE);
        split(bytes.div_ceil(PAGE), size / PAGE)
    }

    /// Verb first, for messages.
    pub fn action(&self) -> String {
        format!("copy table \"{}\"", self.table.display())
    }
}

/// Ranges of `size` pages; the last one is open, since the table may have grown since its size was read.
fn split(pages: u64, size: u64) -> Vec<Range> {
    let count = (pages / size).max(1);
    let range =
        |index: u64| Range { from: index * size, to: (index + 1 < count).then_some((index + 1) * size) };
    (0..count).map(range).collect()
}

/// Whether a table is large enough beside all others to be cut into ranges. One worker alone writes rows that are frozen:
/// neither the builds of the indexes nor a later vacuum writes their pages again. On two cores that is worth more than a second
/// worker.
pub fn is_dominant(bytes: u64, all_bytes: u64, jobs: usize) -> bool {
    jobs > 2 && bytes >= 2 * SMALLEST_RANGE && bytes > all_bytes / (2 * jobs as u64)
}

/// The two connections through which a worker copies.
pub struct Pipe<'a> {
    publisher: &'a Server,
    subscriber: &'a Server,
    out: Client,
    into: Client,
}

impl<'a> Pipe<'a> {
    /// Connects to both sides. `raw` passes text on as it is: neither database knows its encoding.
    pub fn open(publisher: &'a Server, subscriber: &'a Server, raw: bool) -> Result<Self> {
        let (out, into) = thread::scope(|scope| {
            let out = scope.spawn(|| connect(publisher));
            let into = connect(subscriber);
            let died = |_| Err(Error::Internal { message: "a thread that connects died".into() });
            (out.join().unwrap_or_else(died), into)
        });
        let mut pipe = Pipe { publisher, subscriber, out: out?, into: into? };
        if raw {
            pipe.ask("set client_encoding = 'SQL_ASCII'").doing(|| "prepare a session".into())?;
            pipe.run("set client_encoding = 'SQL_ASCII'").doing(|| "prepare a session".into())?;
        }
        // What is lost in a crash of the server is lost together with the note that it was done.
        pipe.run("set synchronous_commit = off").doing(|| "prepare a session".into())?;
        // Where it is not allowed, triggers of tables that existed before fire.
        match pipe.into.simple_query(AS_REPLICA) {
            Err(error) if !error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(failed(subscriber, "prepare a session".into(), error))
            }
            _ => Ok(pipe),
        }
    }

    /// Runs statements on the publisher.
    fn ask(&mut self, statements: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.out.simple_query(statements).map_err(|error| failed(self.publisher, "read".into(), error))
    }

    /// Runs statements on the subscriber.
    pub fn run(&mut self, statements: &str) -> Result<()> {
        let result = self.into.simple_query(statements);
        result.map(drop).map_err(|error| failed(self.subscriber, "write".into(), error))
    }

    /// Copies a table whole: emptied, filled and noted as copied in one transaction.
    pub fn copy_whole(
        &mut self,
        transfer: &Transfer,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Copied> {
        let table = transfer.table;
        let snapshot = self.begin_reading(transfer, progress)?;
        let (start, emptying) = (record::start_statement(table, &snapshot), transfer.emptying_statement());
        if transfer.is_small() {
            // Over before anybody could look: its beginning is noted together with its end.
            self.empty(transfer, &format!("begin; {start}; {emptying}"), progress)?;
        } else {
            self.run(&start).doing(|| transfer.action())?;
            self.empty(transfer, &format!("begin; {emptying}"), progress)?;
        }
        let freeze = transfer.emptying == Emptying::Truncate;
        let copied = self.pass(transfer, None, freeze, progress)?;
        let finish = record::finish_statement(table, copied.rows, copied.bytes);
        self.run(&format!("{finish}; commit")).doing(|| transfer.action())?;
        self.ask("commit").doing(|| transfer.action())?;
        Ok(copied)
    }

    /// Copies one range of a table, in a transaction of its own.
    pub fn copy_range(
        &mut self,
        transfer: &Transfer,
        shared: &SharedRead,
        range: Range,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Copied> {
        let name = sql::quote_literal(&shared.snapshot_name);
        let begin =
            format!("begin isolation level repeatable read, read only; set transaction snapshot {name}");
        let started = self.ask(&begin);
        started.map_err(|error| shared.loss().unwrap_or(error)).doing(|| transfer.action())?;
        self.run("begin").doing(|| transfer.action())?;
        let copied = self.pass(transfer, Some(range), false, progress)?;
        self.run("commit").doing(|| transfer.action())?;
        self.ask("commit").doing(|| transfer.action())?;
        Ok(copied)
    }

    /// Notes under which snapshot a table is copied in ranges, and empties it.
    pub fn begin_ranges(
        &mut self,
        transfer: &Transfer,
        shared: &SharedRead,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let start = record::start_statement(transfer.table, &shared.snapshot);
        let script = format!("begin; {start}; {}; commit", transfer.emptying_statement());
        self.empty(transfer, &script, progress)
    }

    /// Runs what empties the table, again and again while somebody has it in use.
    fn empty(
        &mut self,
        transfer: &Transfer,
        script: &str,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let lock = Lock { server: self.subscriber, purpose: Purpose::Empty, transfer };
        with_patience(&lock, &mut || progress(0), || {
            let done = self.run(script);
            if done.is_err() && !self.into.is_lost() {
                self.run("rollback")?;
            }
            done
        })
    }

    /// Notes that all ranges of a table are there.
    pub fn finish_ranges(&mut self, transfer: &Transfer, shared: &SharedRead) -> Result<Copied> {
        let copied =
            Copied { rows: shared.rows.load(Ordering::Acquire), bytes: shared.bytes.load(Ordering::Acquire) };
        let finish = record::finish_statement(transfer.table, copied.rows, copied.bytes);
        self.run(&finish).doing(|| transfer.action())?;
        Ok(copied)
    }

    /// Hands the rows through.
    fn pass(
        &mut self,
        transfer: &Transfer,
        range: Option<Range>,
        freeze: bool,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Copied> {
        let (out, into) = (transfer.out_statement(range), transfer.in_statement(freeze));
        // A server sends few rows at a time: taking many at once leaves the processors to the servers. A small table is
        // over before any have gathered.
        self.out.set_coalescing(!transfer.is_small());
        self.out.copy_through(&out, &mut self.into, &into, progress).map_err(|error| match error {
            CopyError::Out(cause) => failed(self.publisher, transfer.action(), cause),
            CopyError::In(cause) => failed(self.subscriber, transfer.action(), cause),
            CopyError::Stopped(error) => error,
        })
    }

    /// Locks the table against what would change its form, then takes a snapshot; the snapshot.
    fn begin_reading(
        &mut self,
        transfer: &Transfer,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<String> {
        let begin = begin_statement(transfer.table);
        let attempt = |pipe: &mut Pipe| {
            let rows = pipe.ask(&begin);
            if rows.is_err() && !pipe.out.is_lost() {
                pipe.ask("rollback")?;
            }
            Ok(rows.map(|rows| rows.into_iter().flatten().flatten().next().unwrap_or_default()))
        };
        let lock = Lock { server: self.publisher, purpose: Purpose::Read, transfer };
        with_patience(&lock, &mut || progress(0), || attempt(self)?)
    }
}

fn connect(server: &Server) -> Result<Client> {
    Client::connect(&server.conninfo, &server.application_name, wire::Purpose::Sql)
        .map_err(|cause| Error::Unreachable { what: server.place.name().into(), cause })
}

fn failed(server: &Server, action: String, cause: ServerError) -> Error {
    Error::Sql { action, on: server.place.name().into(), cause }
}

/// The lock comes first: the snapshot is taken by the first statement that reads.
fn begin_statement(table: &Table) -> String {
    format!(
        "begin isolation level repeatable read, read only; lock table {}{} in access share mode; \
         select pg_catalog.pg_current_snapshot()::text",
        if table.part.through_root { "" } else { "only " },
        table.quoted()
    )
}

/// What a table's lock is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Empty,
}

/// A lock that a copy needs.
struct Lock<'a> {
    server: &'a Server,
    purpose: Purpose,
    transfer: &'a Transfer<'a>,
}

/// Tries again while somebody is in the way of the lock, and at last says who.
fn with_patience<T>(
    lock: &Lock,
    go_on: &mut dyn FnMut() -> Result<()>,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let Lock { server, purpose, transfer } = *lock;
    for _ in 0..LOCK_ATTEMPTS {
        go_on()?;
        match attempt() {
            Err(error) if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE) => {}
            result => return result.doing(|| transfer.action()),
        }
    }
    let readers_too = purpose == Purpose::Empty;
    let holders = objects::list_lock_holders(&mut server.connect()?, transfer.table, readers_too)?;
    let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
    let hint = "End these transactions, or wait until they end; then run the same command again.".into();
    let name = transfer.table.display();
    Err(Error::TimedOut {
        what: match purpose {
            Purpose::Read => format!("the lock to read table \"{name}\""),
            Purpose::Empty => format!("the lock to empty table \"{name}\" of the {}", server.place),
        },
        budget: LOCK_TIMEOUT * LOCK_ATTEMPTS,
        detail: (!holders.is_empty()).then(|| holders.join("; ")),
        hint,
    })
}

/// A snapshot of one table that several workers read under, until the last range is there.
pub struct SharedRead {
    /// The session that keeps snapshot and lock.
    keeper: Mutex<Option<Session>>,
    snapshot_name: String,
    snapshot: String,
    left: AtomicUsize,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl SharedRead {
    /// Locks the table and exports a snapshot for `ranges` ranges.
    pub fn open(
        publisher: &Server,
        transfer: &Transfer,
        ranges: usize,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<SharedRead> {
        let mut keeper = publisher.connect()?;
        let lock = format!("lock table only {} in access share mode", transfer.table.quoted());
        let needed = Lock { server: publisher, purpose: Purpose::Read, transfer };
        with_patience(&needed, go_on, || {
            keeper.query_text("begin isolation level repeatable read, read only", &[])?;
            let locked = keeper.query_text(&lock, &[]);
            if locked.as_ref().is_err_and(|error| !error.is_connection_lost()) {
                keeper.query_text("rollback", &[])?;
            }
            locked.map(drop)
        })?;
        let rows = keeper.query_text(
            "select pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_export_snapshot()",
            &[],
        )?;
        Ok(SharedRead {
            snapshot: rows[0].get(0),
            snapshot_name: rows[0].get(1),
            keeper: Mutex::new(Some(keeper)),
            left: AtomicUsize::new(ranges),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Why the session that keeps the snapshot is gone, if it is: all that others are told then is that there is no
    /// such snapshot.
    fn loss(&self) -> Option<Error> {
        let mut keeper = self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        keeper.as_mut()?.query_text("select", &[]).err()
    }

    /// Counts a range as copied; whether it was the last one, after which the snapshot is released.
    pub fn finish_range(&self, copied: Copied) -> bool {
        self.rows.fetch_add(copied.rows, Ordering::AcqRel);
        self.bytes.fetch_add(copied.bytes, Ordering::AcqRel);
        let last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        }
        last
    }
}

/// Whether rows can go in binary form: every column has the same portable type on both sides.
pub fn is_binary(
    table: &Table,
    there: Option<&Table>,
    portable: &std::collections::HashSet<u32>,
    portable_there: &std::collections::HashSet<u32>,
) -> bool {
    let mut columns = table.columns.iter().filter(|column| !column.is_generated());
    columns.all(|column: &catalog::Column| {
        let other = there.and_then(|there| there.column(&column.name));
        portable.contains(&column.type_oid)
            && other.is_some_and(|other| {
                other.type_name == column.type_name && portable_there.contains(&other.type_oid)
            })
    })
}

/// Time between two looks at a lock that somebody else holds, for statements that are repeated.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_pages_and_the_last_one_is_open() {
        let ranges = split(10, 4);
        assert_eq!(ranges, [Range { from: 0, to: Some(4) }, Range { from: 4, to: None }]);
        assert_eq!(split(0, 4), [Range { from: 0, to: None }]);
        assert_eq!(split(8, 4).len(), 2);
    }

    #[test]
    fn only_a_table_that_would_keep_the_others_waiting_is_cut() {
        let gib = 1 << 30;
        assert!(is_dominant(gib, gib, 3));
        assert!(!is_dominant(gib, gib, 2), "one worker that freezes the rows is faster");
        assert!(!is_dominant(gib, 100 * gib, 4), "others keep the workers busy");
        assert!(!is_dominant(SMALLEST_RANGE, SMALLEST_RANGE, 4), "too small");
    }
}
