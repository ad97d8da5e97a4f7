//! Makes rows that differ equal: from the side that serves to the other, never the other way.

use postgres::error::SqlState;
use postgres::types::ToSql;

use super::{Difference, Job, Pair, Rows};
use crate::error::{Doing as _, Result};
use crate::flow::apply::statement::read_text;
use crate::flow::mapping::MappedColumn;
use crate::pg::Session;
use crate::pg::catalog::facts::may_set_replica_role;
use crate::phase::Side;
use crate::sql::quote_identifier;

/// Buckets that are made equal at the same time.
const BUCKETS_AT_ONCE: usize = 16;
/// How often a table's rows are looked at again until nothing differs.
const ROUNDS: usize = 5;
/// Rows that are read before one wait for the flow.
const ROWS_AT_ONCE: usize = 200;
/// Bytes of values that are kept for that.
const BYTES_AT_ONCE: usize = 16 << 20;

type Values = Vec<Option<String>>;

/// A row that differs, and what it is on the serving side, if it is there.
struct Wanted<'a> {
    difference: &'a Difference,
    values: Option<Values>,
}

/// Makes a table of the side that does not serve equal to the serving side's; how many rows were written.
///
/// A row of the serving side is read, then the flow is waited for, then the row is written only where the other side still
/// holds what was seen to differ: what the flow brings meanwhile is newer, and stays.
pub fn repair_table(
    job: &Job,
    pair: &Pair,
    serving: Side,
    source: &mut Session,
    target: &mut Session,
) -> Result<usize> {
    let buckets = pair.buckets();
    let on_source = pair.new.hash_buckets(source, buckets, None)?;
    let on_target = pair.old.hash_buckets(target, buckets, None)?;
    let suspects: Vec<i32> =
        (0..buckets).filter(|bucket| on_source.get(bucket) != on_target.get(bucket)).collect();
    let written_to = match serving {
        Side::Source => &mut *target,
        Side::Target => &mut *source,
    };
    // Where it is not allowed, triggers fire, and rows go one by one.
    let replica = may_set_replica_role(written_to)?;
    if replica {
        written_to.change_script("set session_replication_role = replica")?;
    }
    let mut repaired = 0;
    for suspects in suspects.chunks(BUCKETS_AT_ONCE) {
        for _ in 0..ROUNDS {
            let (found, _) = super::confirm(job, pair, suspects, source, target)?;
            if found.is_empty() {
                break;
            }
            let differences: Vec<&Difference> = found.values().collect();
            let before = repaired;
            let mut rest = differences.as_slice();
            while !rest.is_empty() {
                let taken;
                (taken, rest) = read_wanted(pair, serving, rest, source, target)?;
                (job.settle)(source, target)?;
                let into = match serving {
                    Side::Source => &mut *target,
                    Side::Target => &mut *source,
                };
                let writer = Writer::new(pair, serving, replica);
                repaired += writer.write(into, &taken)?;
            }
            if repaired == before {
                break;
            }
        }
    }
    Ok(repaired)
}

/// The next rows as the serving side has them, and the differences that are left.
fn read_wanted<'a, 'd>(
    pair: &Pair,
    serving: Side,
    differences: &'d [&'a Difference],
    source: &mut Session,
    target: &mut Session,
) -> Result<(Vec<Wanted<'a>>, &'d [&'a Difference])> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for difference in differences {
        let values = match serving {
            Side::Source => pair.new.read_columns(source, &difference.key)?,
            Side::Target => pair.old.read_columns(target, &difference.key)?,
        };
        bytes += values.iter().flatten().flatten().map(String::len).sum::<usize>();
        taken.push(Wanted { difference, values });
        if taken.len() == ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
            break;
        }
    }
    let rest = &differences[taken.len()..];
    Ok((taken, rest))
}

/// What writes to the table that is repaired.
struct Writer<'a> {
    pair: &'a Pair,
    rows: &'a Rows,
    serving: Side,
    name: String,
    replica: bool,
}

impl<'a> Writer<'a> {
    fn new(pair: &'a Pair, serving: Side, replica: bool) -> Self {
        let (rows, name) = match serving {
            Side::Source => (&pair.old, pair.rule.from.quoted()),
            Side::Target => (&pair.new, pair.rule.to.quoted()),
        };
        Writer { pair, rows, serving, name, replica }
    }

    /// Writes these rows; how many were written.
    fn write(&self, into: &mut Session, rows: &[Wanted]) -> Result<usize> {
        let action = || format!("repair table {}", self.name);
        if self.pair.rule.key.is_empty() {
            let mut written = 0;
            for row in rows {
                written += into.atomically(|into| self.write_whole(into, row)).doing(action)?;
            }
            return Ok(written);
        }
        let mut written = 0;
        let mut together = Vec::new();
        for row in rows {
            match self.write_keyed(into, row) {
                // Another row that differs too is in the way: values of a unique column were swapped.
                Err(error) if error.is_sqlstate(&SqlState::UNIQUE_VIOLATION) && self.may_replace() => {
                    together.push(row);
                }
                outcome => written += outcome.doing(action)?,
            }
        }
        if !together.is_empty() {
            written += into
                .atomically(|into| {
                    let mut gone = Vec::new();
                    for row in &together {
                        if row.difference_there(self.serving).is_none() || self.delete(into, row)? > 0 {
                            gone.push(row);
                        }
                    }
                    let mut count = 0;
                    for row in gone {
                        count += self.insert(into, row)?;
                    }
                    Ok(count)
                })
                .doing(action)?;
        }
        Ok(written)
    }

    /// Whether a row can be deleted and inserted again: nothing hangs on it, and no column would be lost.
    fn may_replace(&self) -> bool {
        self.replica && (self.serving == Side::Source || self.pair.rule.complete)
    }

    fn write_keyed(&self, into: &mut Session, row: &Wanted) -> Result<usize> {
        match (&row.values, row.difference_there(self.serving)) {
            (None, Some(_)) => self.delete(into, row),
            (Some(_), None) => self.insert(into, row),
            (Some(_), Some(_)) => self.update(into, row),
            (None, None) => Ok(0),
        }
    }

    /// A row of a table without a key: as many as the serving side has, each equal to it.
    fn write_whole(&self, into: &mut Session, row: &Wanted) -> Result<usize> {
        let text =
            format!("delete from {} as old where {}", self.rows.relation(), self.rows.key_condition(1));
        let removed = into.change(&text, &parameters(&row.difference.key))?;
        let count = match self.serving {
            Side::Source => &row.difference.source,
            Side::Target => &row.difference.target,
        };
        // `sum of hashes/number of rows`
        let count =
            count.as_ref().and_then(|hash| hash.rsplit('/').next()?.parse::<usize>().ok()).unwrap_or(0);
        for _ in 0..count {
            self.insert_values(into, row, "")?;
        }
        Ok(count.max(removed as usize))
    }

    fn delete(&self, into: &mut Session, row: &Wanted) -> Result<usize> {
        let hash = row.difference_there(self.serving);
        let at = row.difference.key.len() + 1;
        let text = format!(
            "delete from {} as old where {} and {} = ${at}::text",
            self.rows.relation(),
            self.rows.key_condition(1),
            self.rows.row_hash()
        );
        let mut values = parameters(&row.difference.key);
        values.push(&hash);
        Ok(into.change(&text, &values)? as usize)
    }

    fn update(&self, into: &mut Session, row: &Wanted) -> Result<usize> {
        let Some(values) = &row.values else { return Ok(0) };
        let hash = row.difference_there(self.serving);
        let is_key = |column: &MappedColumn| self.pair.rule.key.iter().any(|key| key.name == column.name);
        let columns = self.pair.rule.columns.iter().zip(values);
        let written: Vec<_> = columns.filter(|(column, _)| column.updatable && !is_key(column)).collect();
        if written.is_empty() {
            return Ok(0);
        }
        let first = row.difference.key.len() + 2;
        let set = |(at, (column, _)): (usize, &(&MappedColumn, &Option<String>))| {
            format!("{} = {}", quote_identifier(&column.name), self.read(first + at, column))
        };
        let text = format!(
            "update {} as old set {} where {} and {} = ${}::text",
            self.rows.relation(),
            written.iter().enumerate().map(set).collect::<Vec<_>>().join(", "),
            self.rows.key_condition(1),
            self.rows.row_hash(),
            first - 1
        );
        let mut given = parameters(&row.difference.key);
        given.push(&hash);
        given.extend(written.iter().map(|(_, value)| *value as &(dyn ToSql + Sync)));
        Ok(into.change(&text, &given)? as usize)
    }

    fn insert(&self, into: &mut Session, row: &Wanted) -> Result<usize> {
        let condition = self.rows.key_condition(self.pair.rule.columns.len() + 1);
        let absent =
            format!(" where not exists (select from {} as old where {condition})", self.rows.relation());
        self.insert_values(into, row, &absent)
    }

    fn insert_values(&self, into: &mut Session, row: &Wanted, condition: &str) -> Result<usize> {
        let Some(values) = &row.values else { return Ok(0) };
        let columns = &self.pair.rule.columns;
        if columns.is_empty() {
            return Ok(into.change(&format!("insert into {} default values", self.name), &[])? as usize);
        }
        let names: Vec<String> = columns.iter().map(|column| quote_identifier(&column.name)).collect();
        let read: Vec<String> =
            columns.iter().enumerate().map(|(at, column)| self.read(at + 1, column)).collect();
        let text = format!(
            "insert into {} ({}) overriding system value select {}{condition}",
            self.name,
            names.join(", "),
            read.join(", ")
        );
        let mut given = parameters(values);
        if !condition.is_empty() {
            given.extend(parameters(&row.difference.key));
        }
        Ok(into.change(&text, &given)? as usize)
    }

    /// The parameter as a value of the column's type, on the side that is written to.
    fn read(&self, parameter: usize, column: &MappedColumn) -> String {
        let there = self.pair.rule.old_columns.iter().find(|old| old.name == column.name);
        let type_name = match (self.serving, there) {
            (Side::Source, Some(old)) => &old.publisher_type,
            _ => &column.type_name,
        };
        read_text(&format!("${parameter}::text"), type_name)
    }
}

impl Wanted<'_> {
    /// Hash of the row on the side that is repaired, if it is there.
    fn difference_there(&self, serving: Side) -> Option<String> {
        match serving {
            Side::Source => self.difference.target.clone(),
            Side::Target => self.difference.source.clone(),
        }
    }
}

fn parameters(values: &[Option<String>]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}
