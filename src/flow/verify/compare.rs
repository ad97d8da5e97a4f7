//! Compares a table with its image on the other side, through the mapping, row by row where hashes differ.

use std::collections::{BTreeMap, HashMap};

use super::carried::Carried;
use crate::error::{Doing as _, Error, Result};
use crate::flow::mapping::{MappedColumn, TableRule};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};

/// Rows that share a bucket are hashed together; a bucket whose hashes differ is read row by row.
const ROWS_PER_BUCKET: f64 = 4000.0;

/// How often rows that differ are read again before they count as still changing.
const ROUNDS: usize = 10;

/// How many differing rows are listed by their key.
const LISTED: usize = 20;

/// What was found out about one table.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Comparison {
    /// `schema.table` on the source.
    pub table: String,
    /// Rows counted on the source; of a sample, those in it.
    pub rows_source: i64,
    /// Rows counted on the target; of a sample, those in it.
    pub rows_target: i64,
    /// No row differs.
    pub equal: bool,
    /// Rows that are on the target alone.
    pub missing_on_source: usize,
    /// Rows that are on the source alone.
    pub missing_on_target: usize,
    /// Rows whose values differ.
    pub different: usize,
    /// Keys of the first differing rows.
    pub keys: Vec<String>,
    /// The first differing rows, and where each differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<DifferentRow>,
    /// Rows that kept changing while they were compared: neither equal nor different can be said of them.
    pub changing: usize,
    /// Rows that were made equal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repaired: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A row that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DifferentRow {
    /// The columns of its key, as text; empty for a table without one.
    pub key: BTreeMap<String, Option<String>>,
    /// `different`, `missing_on_source` or `missing_on_target`.
    pub state: String,
    /// Columns whose values differ, by their names on the source.
    pub columns: Vec<String>,
}

/// Compares a table of the source with what it is the image of on the target; `rules` are all that lead there, in the
/// direction of replay, target to source, those that make its rows first. `rows_estimate` is the planner's, for the number
/// of buckets. `settle` makes sure that what was written before is on both sides (a marker that has arrived), or does nothing
/// where no flow runs; it is called before rows that differ are read again.
pub fn compare_table(
    source: &mut Session,
    target: &mut Session,
    rules: &[&TableRule],
    rows_estimate: f64,
    settle: &mut dyn FnMut(&mut Session, &mut Session) -> Result<()>,
) -> Result<Comparison> {
    let makers = rules.iter().take_while(|rule| rule.fills.is_none()).count();
    let (making, filling) = rules.split_at(makers);
    let mut result = compare_rows(source, target, making, rows_estimate, settle)?;
    // What each fills is compared with the rows in which anything of it is filled.
    for rule in filling {
        let filled = compare_rows(source, target, &[rule], rows_estimate, settle)?;
        result.missing_on_source += filled.missing_on_source;
        result.missing_on_target += filled.missing_on_target;
        result.different += filled.different;
        result.changing += filled.changing;
        result.keys.extend(filled.keys);
        result.keys.truncate(LISTED);
        result.equal &= filled.equal;
    }
    Ok(result)
}

/// The same for rules that share their columns.
fn compare_rows(
    source: &mut Session,
    target: &mut Session,
    rules: &[&TableRule],
    rows_estimate: f64,
    settle: &mut dyn FnMut(&mut Session, &mut Session) -> Result<()>,
) -> Result<Comparison> {
    let buckets = (rows_estimate / ROWS_PER_BUCKET).ceil().clamp(1.0, 65_536.0) as i32;
    let shape = Shape::of(rules);
    let new_side = HashedSide::new(rules[0], &shape, buckets);
    let old_side = OldSide::new(target, rules, &shape, buckets)?;
    let (on_source, mut on_target) = at_once(
        source,
        target,
        |source| new_side.hash_buckets(source),
        |target| old_side.hash_buckets(target),
    )?;
    old_side.carry_buckets(source, target, &mut on_target)?;
    let mut result = Comparison {
        table: rules[0].to.to_string(),
        rows_source: on_source.values().map(|bucket| bucket.rows).sum(),
        rows_target: on_target.values().map(|bucket| bucket.rows).sum(),
        equal: true,
        ..Comparison::default()
    };
    let suspects: Vec<i32> =
        (0..buckets).filter(|bucket| on_source.get(bucket) != on_target.get(bucket)).collect();
    if suspects.is_empty() {
        return Ok(result);
    }

    // A difference counts when two readings, with a settled flow between them, show the same two rows.
    // What was equal once is done with: rows that begin to change later must not keep the comparison going.
    let mut earlier = Differences::new();
    for round in 0..ROUNDS {
        settle(source, target)?;
        let (on_source, mut on_target) = at_once(
            source,
            target,
            |source| new_side.hash_rows(source, &suspects),
            |target| old_side.hash_rows(target, &suspects),
        )?;
        old_side.carry_rows(source, target, &suspects, &mut on_target)?;
        let mut now = differences(on_source, &on_target);
        if round > 0 {
            now.retain(|key, _| earlier.contains_key(key));
        }
        result.changing = now.iter().filter(|(key, pair)| earlier.get(*key) != Some(pair)).count();
        result.count(&now, &earlier);
        if result.changing == 0 {
            break;
        }
        earlier = now;
    }
    Ok(result)
}

impl Comparison {
    /// Takes over the differences that an earlier reading showed as well.
    fn count(&mut self, now: &Differences, earlier: &Differences) {
        let lasting = || now.iter().filter(|(key, pair)| earlier.get(*key) == Some(pair));
        self.missing_on_source = lasting().filter(|(_, pair)| pair.0.is_none()).count();
        self.missing_on_target = lasting().filter(|(_, pair)| pair.1.is_none()).count();
        self.different = lasting().count() - self.missing_on_source - self.missing_on_target;
        self.keys = lasting().take(LISTED).map(|(key, _)| key.clone()).collect();
        self.equal = lasting().next().is_none();
    }
}

/// Reads both sides at the same time, so that little is written between the two snapshots.
fn at_once<T: Send>(
    source: &mut Session,
    target: &mut Session,
    on_source: impl FnOnce(&mut Session) -> Result<T> + Send,
    on_target: impl FnOnce(&mut Session) -> Result<T>,
) -> Result<(T, T)> {
    std::thread::scope(|scope| {
        let source = scope.spawn(|| on_source(source));
        let target = on_target(target);
        let source = source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((source?, target?))
    })
}

/// Key → hash on the source and hash on the target, of rows that differ.
type Differences = BTreeMap<String, (Option<Hashed>, Option<Hashed>)>;

fn differences(source: HashMap<String, Hashed>, target: &HashMap<String, Hashed>) -> Differences {
    let missing_on_source = target.iter().filter(|(key, _)| !source.contains_key(*key));
    let mut found: Differences =
        missing_on_source.map(|(key, hash)| (key.clone(), (None, Some(*hash)))).collect();
    for (key, hash) in source {
        let other = target.get(&key).copied();
        if other != Some(hash) {
            found.insert(key, (Some(hash), other));
        }
    }
    found
}

/// How many rows there are and the sum of their hashes: the same for the same rows in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hashed {
    /// Rows.
    pub(super) rows: i64,
    /// Sum of 64-bit hashes.
    pub(super) sum: i128,
}

impl Hashed {
    /// From a row count and a `numeric`'s text.
    pub(super) fn read(rows: i64, sum: &str) -> Result<Hashed> {
        let sum =
            sum.parse().map_err(|_| Error::Internal { message: format!("\"{sum}\" is no sum of hashes") })?;
        Ok(Hashed { rows, sum })
    }

    /// Takes more rows in.
    pub(super) fn add(&mut self, more: Hashed) {
        self.rows += more.rows;
        self.sum += more.sum;
    }
}

/// The names of the columns that are compared and of those that a row is told by, the same for all that leads to a table.
pub(super) struct Shape {
    columns: Vec<String>,
    key: Vec<String>,
}

impl Shape {
    fn of(rules: &[&TableRule]) -> Shape {
        let mut columns: Vec<String> = rules[0].columns.iter().map(|column| column.name.clone()).collect();
        // What one of several tables does not write has a value that the other side does not know.
        columns
            .retain(|name| rules.iter().all(|rule| rule.columns.iter().any(|column| column.name == *name)));
        let key_of = |rule: &TableRule| {
            let mut key: Vec<String> = rule.key.iter().map(|column| column.name.clone()).collect();
            key.sort_unstable();
            key
        };
        let mut key = key_of(rules[0]);
        if key.is_empty() || rules.iter().any(|rule| key_of(rule) != key) {
            key.clone_from(&columns);
        }
        Shape { columns, key }
    }

    /// `row(…)::text` of the key and of all columns.
    pub(super) fn texts(&self, rule: &TableRule, text: impl Fn(&MappedColumn) -> String) -> (String, String) {
        let row = |names: &[String], from: &[MappedColumn]| {
            let find = |name: &String| {
                from.iter().chain(&rule.columns).find(|column| column.name == *name).map(&text)
            };
            let texts: Vec<String> = names.iter().filter_map(find).collect();
            format!("row({})::text", texts.join(", "))
        };
        (row(&self.key, &rule.key), row(&self.columns, &rule.columns))
    }
}

/// How one side of a table is read: key and row as text, hashed by the server.
struct HashedSide {
    /// `select … as key_text, … as row_text from …`
    rows: String,
    buckets: i32,
    name: String,
}

/// What leads to a table: what the target can evaluate itself, and what only the source can.
struct OldSide<'a> {
    own: Option<HashedSide>,
    carried: Vec<Carried<'a>>,
}

impl<'a> OldSide<'a> {
    fn new(target: &mut Session, rules: &[&'a TableRule], shape: &Shape, buckets: i32) -> Result<Self> {
        let (mut own, mut carried) = (Vec::new(), Vec::new());
        for rule in rules {
            match select_own(target, rule, shape)? {
                Some(select) => own.push(select),
                None => carried.push(Carried::new(rule, shape, buckets)),
            }
        }
        let name = rules.iter().map(|rule| rule.from.to_string()).collect::<Vec<_>>().join("\", \"");
        let own = (!own.is_empty()).then(|| HashedSide { rows: own.join(" union all "), buckets, name });
        Ok(OldSide { own, carried })
    }

    fn hash_buckets(&self, session: &mut Session) -> Result<HashMap<i32, Hashed>> {
        self.own.as_ref().map_or_else(|| Ok(HashMap::new()), |own| own.hash_buckets(session))
    }

    fn hash_rows(&self, session: &mut Session, buckets: &[i32]) -> Result<HashMap<String, Hashed>> {
        self.own.as_ref().map_or_else(|| Ok(HashMap::new()), |own| own.hash_rows(session, buckets))
    }

    fn carry_buckets(
        &self,
        source: &mut Session,
        target: &mut Session,
        into: &mut HashMap<i32, Hashed>,
    ) -> Result<()> {
        self.carried.iter().try_for_each(|carried| carried.hash_buckets(source, target, into))
    }

    fn carry_rows(
        &self,
        source: &mut Session,
        target: &mut Session,
        buckets: &[i32],
        into: &mut HashMap<String, Hashed>,
    ) -> Result<()> {
        self.carried.iter().try_for_each(|carried| carried.hash_rows(source, target, buckets, into))
    }
}

/// The mapping's expressions over the old table, in the new column's type where the target knows it; `None` where it
/// might find another value than the source, or none.
fn select_own(target: &mut Session, rule: &TableRule, shape: &Shape) -> Result<Option<String>> {
    let condition = rule.condition.as_ref();
    if !is_evaluable_there(rule) {
        return Ok(None);
    }
    let mut known = HashMap::new();
    for column in rule.key.iter().chain(&rule.columns) {
        let row = target.query_one(&sql::flow::HAS_TYPE, &[&column.type_name])?;
        known.insert(column.type_name.clone(), row.get::<_, bool>(0));
    }
    let text = |column: &MappedColumn| match known.get(&column.type_name) {
        Some(true) => format!("(({}\n)::{})::text", column.expression, column.type_name),
        _ => format!("({}\n)::text", column.expression),
    };
    let (key, all) = shape.texts(rule, text);
    let condition = condition.map(|condition| condition.expression.clone());
    let filled = rule.is_filled(|name| value_of(rule, name));
    let filter: Vec<String> =
        condition.into_iter().chain(filled).map(|test| format!(" where ({test}\n)")).collect();
    // Rows of inheriting tables are compared with those tables.
    let only = if rule.from_partitioned { "" } else { "only " };
    Ok(Some(format!(
        "select {key} as key_text, {all} as row_text from (select * from {only}{}) as \"old\"{}",
        rule.from.quoted(),
        filter.concat()
    )))
}

impl HashedSide {
    /// The new table: its columns as they are.
    fn new(rule: &TableRule, shape: &Shape, buckets: i32) -> HashedSide {
        let text = |column: &MappedColumn| format!("n.{}::text", quote_identifier(&column.name));
        let (key, all) = shape.texts(rule, text);
        let only = if rule.to_partitioned { "" } else { "only " };
        let filled = rule.is_filled(|name| format!("n.{}", quote_identifier(name)));
        let filter = filled.map_or_else(String::new, |filled| format!(" where {filled}"));
        HashedSide {
            rows: format!(
                "select {key} as key_text, {all} as row_text from {only}{} as n{filter}",
                rule.to.quoted()
            ),
            buckets,
            name: rule.to.to_string(),
        }
    }

    /// Rows and hash of each bucket.
    fn hash_buckets(&self, session: &mut Session) -> Result<HashMap<i32, Hashed>> {
        let text = sql::flow::HASH_BUCKETS.with(&[("rows", &self.rows)]);
        let rows = session
            .query_text(&text, &[&i64::from(self.buckets)])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        rows.iter().map(|row| Ok((row.get(0), Hashed::read(row.get(1), row.get(2))?))).collect()
    }

    /// Key → hash of the rows in these buckets; rows that share a key are hashed together.
    fn hash_rows(&self, session: &mut Session, buckets: &[i32]) -> Result<HashMap<String, Hashed>> {
        let text = sql::flow::HASH_ROWS.with(&[("rows", &self.rows)]);
        let rows = session
            .query_text(&text, &[&i64::from(self.buckets), &buckets])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        rows.iter().map(|row| Ok((row.get(0), Hashed::read(row.get(1), row.get(2))?))).collect()
    }
}

/// Whether the target alone can tell what all rows of the image should be; what only the source can evaluate is carried
/// there by [`compare_table`].
pub fn is_simple(rules: &[&TableRule]) -> bool {
    let [rule] = rules else { return false };
    rule.condition.is_none() && rule.fills.is_none() && is_evaluable_there(rule)
}

/// SQL over the old row for the value of a new column.
pub(super) fn value_of(rule: &TableRule, name: &str) -> String {
    let column = rule.columns.iter().find(|column| column.name == name);
    column.map_or_else(|| "null".to_owned(), |column| format!("({}\n)", column.expression))
}

/// The old table's server finds the same values as the new one's.
fn is_evaluable_there(rule: &TableRule) -> bool {
    let knows_empty = rule.fills.iter().flatten().all(|column| column.default.is_none());
    let is_portable = rule.condition.as_ref().is_none_or(|condition| condition.portable)
        && rule.columns.iter().chain(&rule.key).all(|column| column.portable);
    is_portable
        && knows_empty
        && rule.all_reads().iter().all(|at| {
            let old = &rule.old_columns[*at];
            old.stage_type == old.publisher_type
        })
}
