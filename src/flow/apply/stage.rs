//! Many rows to the subscriber at once: by COPY, straight into the table where values need no expression, else into a temporary
//! table that one statement then reads. A few rows go as arrays, which costs one round trip and no table.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;

use postgres::SimpleQueryMessage;
use postgres::error::SqlState;

use super::Applier;
use super::conflict::Failure;
use super::execute::unwritable;
use super::statement::{self, From, Statement};
use crate::error::Result;
use crate::flow::mapping::TableRule;
use crate::flow::mapping::bound::BoundRule;
use crate::flow::source::change::{Row, Value};
use crate::sql;

/// From so many rows on they are copied; below, the round trips of a COPY cost more than it saves.
const LEAST_ROWS: usize = 200;
/// Rows that are larger than this on average, in bytes, are not staged: a temporary table would store their values out of line.
const LARGEST_STAGED: usize = 1500;
/// What is sent at once, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// The session's temporary tables.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// The role may make temporary tables.
    allowed: bool,
    /// COPY into the flow's own tables is refused: they have row security.
    no_straight_copy: bool,
    /// Numbers of each, by its columns.
    numbers: HashMap<String, Vec<usize>>,
    /// The next number: none is used twice.
    next: usize,
    /// Numbers of those made in the open transaction.
    made: HashSet<usize>,
    /// Those that hold rows of the open transaction.
    filled: HashSet<usize>,
    /// Those whose rows are still to be read.
    kept: HashSet<usize>,
}

impl Stages {
    pub(super) fn new(allowed: bool) -> Stages {
        Stages { allowed, ..Stages::default() }
    }

    pub(super) fn are_allowed(&self) -> bool {
        self.allowed
    }

    /// A table for these columns, and what has to be executed before it takes rows. With `keep` it holds them until
    /// [`Stages::release`], else as long as no other rows take the place.
    pub(super) fn take(&mut self, definition: String, keep: bool) -> (String, Option<String>) {
        let numbers = self.numbers.get(&definition);
        let free = numbers.into_iter().flatten().find(|number| !self.kept.contains(number)).copied();
        let number = free.unwrap_or(self.next);
        let table = format!("pg_temp.pgdetour_stage_{number}");
        if keep {
            self.kept.insert(number);
        }
        let is_filled = !self.filled.insert(number);
        if free.is_some() {
            return (table.clone(), is_filled.then(|| format!("truncate {table}")));
        }
        let make =
            format!("create temporary table pgdetour_stage_{number} ({definition}) on commit delete rows");
        self.next += 1;
        self.made.insert(number);
        self.numbers.entry(definition).or_default().push(number);
        (table, Some(make))
    }

    /// What is kept has been read.
    pub(super) fn release(&mut self) {
        self.kept.clear();
    }

    /// The transaction has been committed, and every temporary table is empty.
    pub(super) fn commit(&mut self) {
        self.filled.clear();
        self.made.clear();
    }

    /// It has been rolled back as a whole.
    pub(super) fn forget(&mut self) {
        self.undo();
        self.filled.clear();
    }

    /// It has been rolled back, all or in part: what it made may be gone.
    pub(super) fn undo(&mut self) {
        for numbers in self.numbers.values_mut() {
            numbers.retain(|number| !self.made.contains(number));
        }
        self.made.clear();
    }
}

impl Applier {
    /// Inserts `rows`; as many must be.
    pub(super) fn insert(&mut self, rule: &BoundRule, rows: &[Row]) -> std::result::Result<(), Failure> {
        // Rules of the subscriber's table, which COPY passes over, do not fire for the replica role anyway.
        let straight = self.replica_role && !self.stages.no_straight_copy;
        if rows.len() >= LEAST_ROWS && straight && statement::is_plain(&rule.rule) {
            let into = statement::copy_into(&rule.rule);
            let columns = statement::plain_columns(&rule.rule);
            let copied = self.copy(&into, rule, &columns, rows);
            if let Err(Failure::Server(error)) = &copied
                && error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
            {
                self.stages.no_straight_copy = true;
            }
            return expect_rows(copied?, rows.len());
        }
        self.execute_set(rule, rows, statement::insert)
    }

    /// Executes a statement for a set of rows; as many must be affected.
    pub(super) fn execute_set(
        &mut self,
        rule: &BoundRule,
        rows: &[Row],
        build: impl Fn(&TableRule, From<'_>) -> Statement,
    ) -> std::result::Result<(), Failure> {
        let statement = build(&rule.rule, From::Parameters);
        if !self.stages.allowed || rows.len() < LEAST_ROWS || statement.takes_count {
            return self.execute(rule, &statement, rows, &[]);
        }
        if !is_stageable(rule, &statement.columns, rows) {
            return self.execute(rule, &statement, rows, &[]);
        }
        let table = self.stage(rule, &statement.columns, rows)?;
        self.execute_staged(&build(&rule.rule, From::Table(&table)).text, rows.len())
    }

    /// Puts these old columns of the rows into a temporary table; its name.
    fn stage(
        &mut self,
        rule: &BoundRule,
        columns: &[usize],
        rows: &[Row],
    ) -> std::result::Result<String, Failure> {
        let (table, preparation) = self.stages.take(stage_definition(rule, columns), false);
        if let Some(preparation) = preparation {
            self.session.client().batch_execute(&preparation)?;
        }
        let copied = self.copy(&format!("copy {table} from stdin"), rule, columns, rows)?;
        expect_rows(copied, rows.len())?;
        Ok(table)
    }

    /// Executes a statement that reads a temporary table. Planned each time, since how many rows there are decides how they are joined.
    fn execute_staged(&mut self, text: &str, expected: usize) -> std::result::Result<(), Failure> {
        let mut found = 0;
        self.round_trips += 1;
        for message in self.session.client().simple_query(text)? {
            if let SimpleQueryMessage::CommandComplete(rows) = message {
                found = rows;
            }
        }
        expect_rows(found, expected)
    }

    /// Sends these old columns of the rows in the text format of COPY; how many the server took.
    fn copy(
        &mut self,
        text: &str,
        rule: &BoundRule,
        columns: &[usize],
        rows: &[Row],
    ) -> std::result::Result<u64, Failure> {
        let positions: Vec<usize> = columns.iter().map(|column| rule.positions[*column]).collect();
        let prepared = self.prepare(text)?;
        // One until the server is ready for the rows, one for its answer.
        self.round_trips += 2;
        let mut writer = self.session.client().copy_in(&prepared)?;
        let mut piece = Vec::with_capacity(PIECE + (PIECE >> 2));
        let mut values = Vec::new();
        for row in rows {
            values.clear();
            values.extend(row.values());
            put_row(&mut piece, &values, &positions)?;
            if piece.len() >= PIECE {
                // What the server has to say about it comes at the end.
                if writer.write_all(&piece).is_err() {
                    break;
                }
                piece.clear();
            }
        }
        // Likewise.
        let _ = writer.write_all(&piece);
        Ok(writer.finish()?)
    }
}

/// The columns of a temporary table for these old columns.
pub(super) fn stage_definition(rule: &BoundRule, columns: &[usize]) -> String {
    let column = |at: &usize| {
        let old = &rule.rule.old_columns[*at];
        format!("{} {}", sql::quote_identifier(&old.name), old.stage_type)
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// Whether the rows are small enough for a temporary table.
pub(super) fn is_stageable(rule: &BoundRule, columns: &[usize], rows: &[Row]) -> bool {
    let mut is_read = vec![false; rule.positions.len()];
    for at in columns {
        is_read[rule.positions[*at]] = true;
    }
    let read = |row: &Row| {
        let values = row.values().zip(&is_read).filter(|(_, is_read)| **is_read);
        values.map(|(value, _)| value.bytes().len()).sum::<usize>()
    };
    rows.iter().map(read).sum::<usize>() <= rows.len() * LARGEST_STAGED
}

fn expect_rows(found: u64, expected: usize) -> std::result::Result<(), Failure> {
    let expected = expected as u64;
    if found == expected { Ok(()) } else { Err(Failure::Rows { found, expected }) }
}

/// A line of COPY's text format.
pub(super) fn put_row(out: &mut Vec<u8>, values: &[Value<'_>], positions: &[usize]) -> Result<()> {
    for (at, position) in positions.iter().enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        match values[*position] {
            Value::Text(text) => put_text(out, text),
            Value::Null => out.extend_from_slice(b"\\N"),
            Value::Unchanged | Value::Binary(_) => return Err(unwritable()),
        }
    }
    out.push(b'\n');
    Ok(())
}

/// What a COPY in binary begins with, and what it ends with.
pub(super) const BINARY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub(super) const BINARY_TAIL: &[u8] = &(-1i16).to_be_bytes();

/// A row of COPY's binary format.
pub(super) fn put_binary_row(out: &mut Vec<u8>, values: &[Value<'_>], positions: &[usize]) -> Result<()> {
    out.extend_from_slice(&(positions.len() as i16).to_be_bytes());
    for position in positions {
        match values[*position] {
            Value::Binary(sent) => {
                out.extend_from_slice(&(sent.len() as i32).to_be_bytes());
                out.extend_from_slice(sent);
            }
            Value::Null => out.extend_from_slice(&(-1i32).to_be_bytes()),
            Value::Unchanged | Value::Text(_) => return Err(unwritable()),
        }
    }
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
    let mut rest = text;
    while let Some(at) = rest.iter().position(is_special) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_escapes_what_would_end_it() {
        let row = [Value::Text(b"a\tb\\N\nc\r"), Value::Null, Value::Text(b"\\."), Value::Text(b"")];
        let mut out = Vec::new();
        put_row(&mut out, &row, &[0, 1, 2, 3]).unwrap();
        assert_eq!(out, b"a\\tb\\\\N\\nc\\r\t\\N\t\\\\.\t\n");
        assert!(put_row(&mut out, &[Value::Unchanged], &[0]).is_err());
    }
}
