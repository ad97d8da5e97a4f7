//! One table of the source, and what it is the image of on the target.

use std::collections::HashMap;
use std::sync::Arc;

use super::carried::{Carried, What};
use super::progress::Partial;
use super::rows::{self, Keyed, Range, RowHashes, Rows, Sample};
use super::shape::Shape;
use super::snapshot::{self, Snapshot};
use super::{Buckets, Difference, Values};
use crate::error::{Result, ServerError};
use crate::flow::TableName;
use crate::flow::mapping::TableRule;
use crate::pg::Session;

/// Rows that share a bucket are hashed together; a bucket whose hashes differ is read row by row.
const ROWS_PER_BUCKET: f64 = 4000.0;

/// A table, what leads to it, and how each is read.
pub struct Pair {
    /// All that make its rows, in the direction of replay, target to source; or one that fills columns of them, which is
    /// compared with the rows in which anything is filled.
    pub rules: Vec<Arc<TableRule>>,
    /// One rule makes its rows and others fill columns of them, each a pair of its own.
    pub is_joined: bool,
    /// The mirror has left out rows of the source, and nothing tells which: rows that the source alone has are no difference.
    pub has_left_out: bool,
    /// It is about nothing but rows that the mirror's filter does not let through.
    pub is_outside: bool,
    pub(super) shape: Shape,
    pub(super) new: Rows,
    /// How the rows of each rule are read, in their order.
    pub(super) old: Vec<Old>,
    buckets: i32,
    /// What an interrupted run has read already.
    pub(super) partial: Option<Partial>,
}

/// How a table of the target is read through the mapping.
pub(super) enum Old {
    /// By the target alone.
    There(Rows),
    /// By the source, which alone can evaluate the mapping.
    Carried(Carried),
}

/// How large the tables of a pair are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Bytes on disk, of the largest of its partitions.
    pub bytes: u64,
    /// Rows, as the planner estimates.
    pub rows: f64,
}

/// Row filters, SQL over each side's own columns.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Of the source's table.
    pub new: Option<String>,
    /// Of the target's.
    pub old: Option<String>,
    /// What is left out cannot be told of the source's rows.
    pub are_unknown: bool,
    /// They let through what the mirror's do not.
    pub are_outside: bool,
}

impl Filters {
    /// Those of the rows that these do not let through, where both sides tell. Which of them were left out is not to be told.
    pub fn outside(&self) -> Option<Filters> {
        let other = |filter: &String| format!("({filter}\n) is not true");
        let (new, old) = (self.new.as_ref().map(other)?, self.old.as_ref().map(other)?);
        Some(Filters { new: Some(new), old: Some(old), are_unknown: true, are_outside: true })
    }
}

/// Which of a table's rows, or columns, a pair is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Its rows.
    Rows,
    /// Columns that another rule fills in the same rows.
    Filled,
    /// Rows that the mirror's filter does not let through.
    Outside,
}

impl Pair {
    /// How the table of the source that all of `rules` lead to is compared with what they make of it. `size` tells how large a table is of the source
    /// (`true`) or of the target.
    pub fn new(
        target: &mut Session,
        rules: Vec<Arc<TableRule>>,
        size: &dyn Fn(bool, &TableName) -> Size,
        filters: &Filters,
        sample: Option<Sample>,
    ) -> Result<Pair> {
        let shape = Shape::of(&rules);
        let new_size = size(true, &rules[0].to);
        let new = Rows::new(&rules[0], &shape, new_size.bytes).filtered(filters.new.clone()).sampled(sample);
        let mut old_rows = 0.0;
        let mut old = Vec::new();
        for rule in &rules {
            let size = size(false, &rule.from);
            old_rows += size.rows;
            old.push(if is_evaluable_there(rule) {
                let rows = Rows::old(target, rule, &shape, size.bytes)?;
                Old::There(rows.filtered(filters.old.clone()).sampled(sample))
            } else {
                Old::Carried(Carried::new(rule, &shape, sample))
            });
        }
        let buckets = (new_size.rows.max(old_rows) / ROWS_PER_BUCKET).ceil().clamp(1.0, 65_536.0) as i32;
        let (has_left_out, is_outside) = (filters.are_unknown, filters.are_outside);
        Ok(Pair {
            rules,
            is_joined: false,
            has_left_out,
            is_outside,
            shape,
            new,
            old,
            buckets,
            partial: None,
        })
    }

    /// Goes on where an interrupted run has come to.
    pub fn resume(&mut self, partial: Partial) {
        self.buckets = partial.buckets;
        self.partial = Some(partial);
    }

    /// `schema.table` on the source.
    pub fn name(&self) -> String {
        self.rules[0].to.to_string()
    }

    /// Whether it is about columns that a rule fills in rows of another.
    pub fn is_filling(&self) -> bool {
        self.rules[0].fills.is_some()
    }

    /// What of its table it is about.
    pub fn share(&self) -> Share {
        if self.is_outside {
            Share::Outside
        } else if self.is_filling() {
            Share::Filled
        } else {
            Share::Rows
        }
    }

    /// What it is called in the record.
    pub fn record_name(&self) -> String {
        match self.share() {
            Share::Rows => self.name(),
            Share::Filled => format!("{} from {}", self.rules[0].to, self.rules[0].from),
            Share::Outside => format!("{} outside of the filter", self.rules[0].to),
        }
    }

    /// The buckets in which rows may differ.
    pub(super) fn suspects(&self, source: &Buckets, target: &Buckets) -> Vec<i32> {
        let differs = |bucket: &i32| {
            source.get(bucket) != target.get(bucket) && (!self.has_left_out || target.contains_key(bucket))
        };
        (0..self.buckets).filter(differs).collect()
    }

    /// Whether rows that share a key differ.
    pub(super) fn is_different(&self, source: &Keyed, target: Option<&Keyed>) -> bool {
        let Some(target) = target else { return !self.has_left_out };
        if self.has_left_out && self.shape.key.is_empty() {
            // Of rows that are the same, the source may have some that were left out.
            return source.rows() < target.rows();
        }
        source.hash != target.hash
    }

    /// How many buckets its rows are sorted into.
    pub(super) fn buckets(&self) -> i32 {
        self.buckets
    }

    /// Size of its largest part.
    pub(super) fn bytes(&self) -> u64 {
        let old = self.old.iter().map(|old| match old {
            Old::There(rows) => rows.bytes,
            Old::Carried(_) => 0,
        });
        old.fold(self.new.bytes, u64::max)
    }

    /// What is read one by one: the source's table is part 0, those of the target follow.
    pub(super) fn ranges(&self, jobs: usize) -> Vec<(usize, Option<Range>)> {
        let mut all: Vec<_> = self.new.ranges(jobs).into_iter().map(|range| (0, range)).collect();
        for (at, old) in self.old.iter().enumerate() {
            let ranges = match old {
                Old::There(rows) => rows.ranges(jobs),
                Old::Carried(_) => vec![None],
            };
            all.extend(ranges.into_iter().map(|range| (at + 1, range)));
        }
        all.sort_by_key(|(_, range)| range.map_or(0, Range::begin));
        all
    }

    /// Rows and sum of hashes of each bucket, in a range of a part, as the part's side is in `snapshot`.
    pub(super) fn hash_buckets(
        &self,
        part: usize,
        range: Option<Range>,
        snapshot: Option<&Snapshot>,
        (source, target): (&mut Session, &mut Session),
    ) -> Result<Buckets> {
        let hash = |rows: &Rows, session: &mut Session| match snapshot {
            Some(snapshot) => {
                snapshot.read(session, |session| rows.hash_buckets(session, self.buckets, range))
            }
            None => rows.hash_buckets(session, self.buckets, range),
        };
        let found = match part.checked_sub(1).map(|at| &self.old[at]) {
            None => hash(&self.new, source),
            Some(Old::There(rows)) => hash(rows, target),
            Some(Old::Carried(carried)) => carried.hash_buckets(source, target, self.buckets, snapshot),
        };
        found.map_err(|error| snapshot.and_then(Snapshot::loss).unwrap_or(error))
    }

    /// The rows in these buckets by their key, on the source and on the target.
    pub(super) fn hash_rows(
        &self,
        wanted: &[i32],
        source: &mut Session,
        target: &mut Session,
    ) -> Result<(RowHashes, RowHashes)> {
        let there = self.old.iter().filter_map(|old| match old {
            Old::There(rows) => Some(rows),
            Old::Carried(_) => None,
        });
        let there: Vec<&Rows> = there.collect();
        let read_all = |target: &mut Session| {
            let mut all = RowHashes::new();
            for rows in &there {
                rows::merge(&mut all, rows.hash_rows(target, self.buckets, wanted)?);
            }
            Ok::<_, crate::error::Error>(all)
        };
        // A row that moves from one table to another is in one of them.
        let read_there = |target: &mut Session| {
            if there.len() > 1 { snapshot::read_at_once(target, read_all) } else { read_all(target) }
        };
        let (on_source, mut on_target) = std::thread::scope(|scope| {
            let on_source = scope.spawn(|| self.new.hash_rows(source, self.buckets, wanted));
            let on_target = read_there(target);
            let on_source = on_source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, crate::error::Error>((on_source?, on_target?))
        })?;
        for old in &self.old {
            if let Old::Carried(carried) = old {
                let more = carried.hash_rows(source, target, self.buckets, wanted)?;
                rows::merge(&mut on_target, more);
            }
        }
        Ok((on_source, on_target))
    }

    /// These rows as the mapping makes them of the target's: by the key's text, with the rule that makes each.
    pub(super) fn read_old(
        &self,
        differences: &[&Difference],
        what: What,
        source: &mut Session,
        target: &mut Session,
    ) -> Result<HashMap<String, (usize, Values)>> {
        let mut found = HashMap::new();
        for (at, old) in self.old.iter().enumerate() {
            let left: Vec<&&Difference> =
                differences.iter().filter(|difference| !found.contains_key(&difference.text)).collect();
            if left.is_empty() {
                break;
            }
            match old {
                Old::There(rows) => {
                    for difference in left {
                        let values = match what {
                            What::Hashes => rows.hash_columns(target, &difference.key)?,
                            What::Texts => rows.read_columns(target, &difference.key)?,
                        };
                        if let Some(values) = values {
                            found.insert(difference.text.clone(), (at, values));
                        }
                    }
                }
                Old::Carried(carried) => {
                    let keys: Vec<&str> = left.iter().map(|difference| difference.text.as_str()).collect();
                    let values = carried.read(source, target, &keys, what)?;
                    found.extend(values.into_iter().map(|(text, values)| (text, (at, values))));
                }
            }
        }
        Ok(found)
    }

    /// Whether a rule's rows are evaluated by the source.
    pub(super) fn is_carried(&self) -> bool {
        self.old.iter().any(|old| matches!(old, Old::Carried(_)))
    }

    /// Whether rows of the source that differ can be made equal to what the mapping makes of the target's: told apart by a
    /// key, or as wholes that nothing else belongs to.
    pub fn is_told_apart(&self) -> bool {
        !self.shape.key.is_empty() || self.rules.len() == 1 || self.rules.iter().all(|rule| rule.complete)
    }
}

/// Whether the old table has rows that this filter does not let through, as far as it can be evaluated for all of them.
pub fn has_rows_outside(target: &mut Session, rule: &TableRule, filter: &str) -> Result<bool> {
    let only = if rule.from_partitioned { "" } else { "only " };
    let text =
        format!("select exists (select from {only}{} where ({filter}\n) is not true)", rule.from.quoted());
    match target.query_text(&text, &[]) {
        Ok(rows) => Ok(rows[0].get(0)),
        Err(error) if error.server_error().is_some_and(ServerError::is_of_evaluation) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The old table's server finds the same values as the new one's.
pub fn is_evaluable_there(rule: &TableRule) -> bool {
    let is_portable = rule.condition.as_ref().is_none_or(|condition| condition.portable)
        && rule.columns.iter().chain(&rule.key).all(|column| column.portable);
    let knows_empty = rule.fills.iter().flatten().all(|column| column.default.is_none());
    is_portable
        && knows_empty
        && rule.all_reads().iter().all(|at| {
            let old = &rule.old_columns[*at];
            old.stage_type == old.publisher_type
        })
}
