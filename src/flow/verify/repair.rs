//! Makes rows that differ equal: from the side that serves to the other, never the other way.

use std::collections::HashMap;

use postgres::error::SqlState;

use super::carried::What;
use super::constraints::{Refusal, is_of_foreign_key, refused, unreadable};
use super::pair::Old;
use super::rows::Rows;
use super::{Buckets, Difference, Job, Pair, Values, add};
use crate::error::{Error, Result};
use crate::flow::apply::statement::read_text;
use crate::flow::mapping::{MappedColumn, TableRule};
use crate::pg::Session;
use crate::pg::catalog::facts::may_set_replica_role;
use crate::pg::parameter::Parameter;
use crate::pg::server::AS_REPLICA;
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

/// A row that differs, and what it is on the serving side, if it is there.
struct Wanted<'a> {
    difference: &'a Difference,
    /// With the rule by which it is written.
    values: Option<(usize, Values)>,
}

/// What came of making a table equal.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Rows that were written.
    pub rows: usize,
    /// Those of them that were there before.
    pub overwritten: usize,
    /// Rows that could not be made equal.
    pub left: usize,
    /// The foreign key that refuses one of those, as long as other tables are not made equal, too.
    pub refusal: Option<Error>,
}

/// Makes tables equal one after the other: where foreign keys are held to with each row, those that one of them refuses again, as
/// long as there are fewer rows left each time.
pub fn in_order_of_keys<T: Copy>(
    mut tables: Vec<T>,
    mut repair: impl FnMut(T) -> Result<Repaired>,
) -> Result<()> {
    let mut left_before = usize::MAX;
    loop {
        let (mut rows, mut left, mut later, mut refusal) = (0, 0, Vec::new(), None);
        let before = tables.len();
        for table in tables {
            let repaired = repair(table)?;
            rows += repaired.rows;
            if let Some(error) = repaired.refusal {
                refusal.get_or_insert(error);
                left += repaired.left;
                later.push(table);
            }
        }
        // Rows that a trigger changes are written each time, and stay.
        let is_stuck = later.len() == before && (rows == 0 || left >= left_before);
        match refusal {
            None => return Ok(()),
            Some(error) if is_stuck => return Err(error),
            Some(_) => (tables, left_before) = (later, left),
        }
    }
}

/// Makes a table of the side that does not serve equal to the serving side's.
///
/// A row of the serving side is read, then the flow is waited for, then the row is written only where the other side still
/// holds what was seen to differ: what the flow brings meanwhile is newer, and stays.
pub fn repair_table(
    job: &Job,
    pair: &Pair,
    serving: Side,
    source: &mut Session,
    target: &mut Session,
) -> Result<Repaired> {
    let (mut on_source, mut on_target) = (Buckets::new(), Buckets::new());
    for part in 0..=pair.old.len() {
        let side = if part == 0 { &mut on_source } else { &mut on_target };
        let found = pair.hash_buckets(part, None, None, (&mut *source, &mut *target));
        for bucket in found.map_err(|error| unreadable(pair, error))? {
            add(side, bucket);
        }
    }
    let suspects = pair.suspects(&on_source, &on_target);
    let written_to = match serving {
        Side::Source => &mut *target,
        Side::Target => &mut *source,
    };
    // Where it is not allowed, triggers fire, and rows go one by one.
    let replica = may_set_replica_role(written_to)?;
    if replica {
        written_to.change_script(AS_REPLICA)?;
    }
    let mut repaired = Repaired::default();
    let mut refused = None;
    for suspects in suspects.chunks(BUCKETS_AT_ONCE) {
        let (mut left, mut refusal) = (0, None);
        // Once more than rows are written, to see what came of the last time.
        for round in 0..=ROUNDS {
            let (found, _) = super::confirm(job, pair, suspects, source, target)?;
            left = found.len();
            if found.is_empty() || round == ROUNDS {
                break;
            }
            let differences: Vec<&Difference> = found.values().collect();
            let before = repaired.rows;
            refusal = None;
            let mut rest = differences.as_slice();
            while !rest.is_empty() {
                let taken;
                (taken, rest) = read_wanted(pair, serving, rest, source, target)?;
                (job.settle)(source, target)?;
                let into = match serving {
                    Side::Source => &mut *target,
                    Side::Target => &mut *source,
                };
                let writer = Writer::new(pair, serving, replica)?;
                let written = writer.write(into, &taken, &mut refusal)?;
                repaired.rows += written;
                repaired.overwritten +=
                    taken.iter().filter(|row| row.is_change(serving)).count().min(written);
            }
            if repaired.rows == before {
                break;
            }
        }
        repaired.left += left;
        if left > 0 {
            refused = refused.or(refusal);
        }
    }
    if let Some(refusal) = refused {
        let into = match serving {
            Side::Source => target,
            Side::Target => source,
        };
        repaired.refusal = Some(refusal.with_other_table(pair, serving, into)?);
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
    let next = &differences[..differences.len().min(ROWS_AT_ONCE)];
    // A mapping that only the source can evaluate reads all of its table: for many rows at once, then.
    let mut old = match serving {
        Side::Target if pair.is_carried() => pair.read_old(next, What::Texts, source, target)?,
        _ => HashMap::new(),
    };
    let mut taken = Vec::new();
    let mut bytes = 0;
    for difference in next {
        let values = match serving {
            Side::Source => pair.new.read_columns(source, &difference.key)?.map(|values| (0, values)),
            Side::Target if pair.is_carried() => old.remove(&difference.text),
            Side::Target => {
                pair.read_old(&[difference], What::Texts, source, target)?.remove(&difference.text)
            }
        };
        bytes += values.iter().flat_map(|(_, values)| values).flatten().map(String::len).sum::<usize>();
        taken.push(Wanted { difference, values });
        if bytes >= BYTES_AT_ONCE {
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
    fn new(pair: &'a Pair, serving: Side, replica: bool) -> Result<Self> {
        let (rows, name) = match (serving, pair.old.as_slice()) {
            (Side::Target, _) => (&pair.new, pair.rules[0].to.quoted()),
            (Side::Source, [Old::There(rows)]) => (rows, pair.rules[0].from.quoted()),
            (Side::Source, _) => {
                let message = format!("table \"{}\" of the target is no image to repair", pair.name());
                return Err(Error::Internal { message });
            }
        };
        Ok(Writer { pair, rows, serving, name, replica })
    }

    /// What maps to the row.
    fn rule(&self, row: &Wanted) -> &TableRule {
        &self.pair.rules[row.values.as_ref().map_or(0, |(rule, _)| *rule)]
    }

    /// Writes these rows; how many were written. What a foreign key refuses, which is held to with each row where triggers fire, is
    /// `refusal` in the end, unless it can be written after others of them.
    fn write(&self, into: &mut Session, rows: &[Wanted], refusal: &mut Option<Refusal>) -> Result<usize> {
        let failed = |row: &Wanted, error| refused(self.pair, row.difference, self.serving, error);
        let has_key = !self.pair.shape.key.is_empty();
        let mut written = 0;
        let mut together = Vec::new();
        let mut waiting: Vec<&Wanted> = rows.iter().collect();
        loop {
            let (before, mut later, mut first) = (written, Vec::new(), None);
            for row in waiting {
                let done = if has_key {
                    self.write_keyed(into, row)
                } else {
                    into.atomically(|into| self.write_whole(into, row))
                };
                match done {
                    // Another row that differs too is in the way: values of a unique column were swapped.
                    Err(error)
                        if error.is_sqlstate(&SqlState::UNIQUE_VIOLATION)
                            && has_key
                            && self.may_replace() =>
                    {
                        together.push(row);
                    }
                    Err(error) if is_of_foreign_key(&error) => {
                        first.get_or_insert_with(|| {
                            Refusal::new(self.pair, row.difference, self.serving, error)
                        });
                        later.push(row);
                    }
                    outcome => written += outcome.map_err(|error| failed(row, error))?,
                }
            }
            if later.is_empty() || written == before {
                *refusal = refusal.take().or(first);
                break;
            }
            waiting = later;
        }
        if !together.is_empty() {
            written += into.atomically(|into| {
                let mut gone = Vec::new();
                for row in &together {
                    if row.difference_there(self.serving).is_none()
                        || self.delete(into, row).map_err(|error| failed(row, error))? > 0
                    {
                        gone.push(row);
                    }
                }
                let mut count = 0;
                for row in gone {
                    count += self.insert(into, row).map_err(|error| failed(row, error))?;
                }
                Ok(count)
            })?;
        }
        Ok(written)
    }

    /// Whether a row can be deleted and inserted again: nothing hangs on it, and no column would be lost.
    fn may_replace(&self) -> bool {
        self.replica && (self.serving == Side::Source || self.pair.rules.iter().all(|rule| rule.complete))
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
        let Some((_, values)) = &row.values else { return Ok(0) };
        let rule = self.rule(row);
        let hash = row.difference_there(self.serving);
        let is_key = |column: &MappedColumn| rule.key.iter().any(|key| key.name == column.name);
        let columns = rule.columns.iter().zip(values);
        let written: Vec<_> = columns.filter(|(column, _)| column.updatable && !is_key(column)).collect();
        if written.is_empty() {
            return Ok(0);
        }
        let first = row.difference.key.len() + 2;
        let set = |(at, (column, _)): (usize, &(&MappedColumn, &Option<String>))| {
            format!("{} = {}", quote_identifier(&column.name), self.read(rule, first + at, column))
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
        given.extend(written.iter().map(|(_, value)| *value as &dyn Parameter));
        Ok(into.change(&text, &given)? as usize)
    }

    fn insert(&self, into: &mut Session, row: &Wanted) -> Result<usize> {
        let condition = self.rows.key_condition(self.rule(row).columns.len() + 1);
        let absent =
            format!(" where not exists (select from {} as old where {condition})", self.rows.relation());
        self.insert_values(into, row, &absent)
    }

    fn insert_values(&self, into: &mut Session, row: &Wanted, condition: &str) -> Result<usize> {
        let Some((_, values)) = &row.values else { return Ok(0) };
        let rule = self.rule(row);
        let columns = &rule.columns;
        if columns.is_empty() {
            return Ok(into.change(&format!("insert into {} default values", self.name), &[])? as usize);
        }
        let names: Vec<String> = columns.iter().map(|column| quote_identifier(&column.name)).collect();
        let read: Vec<String> =
            columns.iter().enumerate().map(|(at, column)| self.read(rule, at + 1, column)).collect();
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
    fn read(&self, rule: &TableRule, parameter: usize, column: &MappedColumn) -> String {
        let there = rule.old_columns.iter().find(|old| old.name == column.name);
        let type_name = match (self.serving, there) {
            (Side::Source, Some(old)) => &old.publisher_type,
            _ => &column.type_name,
        };
        read_text(&format!("${parameter}::text"), type_name)
    }
}

impl Wanted<'_> {
    /// Whether the row is on both sides.
    fn is_change(&self, serving: Side) -> bool {
        self.values.is_some() && self.difference_there(serving).is_some()
    }

    /// Hash of the row on the side that is repaired, if it is there.
    fn difference_there(&self, serving: Side) -> Option<String> {
        match serving {
            Side::Source => self.difference.target.clone(),
            Side::Target => self.difference.source.clone(),
        }
    }
}

fn parameters(values: &[Option<String>]) -> Vec<&dyn Parameter> {
    values.iter().map(|value| value as &dyn Parameter).collect()
}
