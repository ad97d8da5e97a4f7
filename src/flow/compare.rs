//! Compares a table with its image on the other side, through the mapping, row by row where hashes differ.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Doing as _, Result};
use crate::flow::mapping::{MappedColumn, TableName, TableRule};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};

/// Rows that share a bucket are hashed together; a bucket whose hashes differ is read row by row.
const ROWS_PER_BUCKET: f64 = 4000.0;

/// How often rows that differ are read again before they count as still changing.
const ROUNDS: usize = 10;

/// How many differing rows are listed by their key.
const LISTED: usize = 20;

/// What was found out about one table.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Comparison {
    /// `schema.table` on the source.
    pub table: String,
    /// Rows counted on the source.
    pub rows_source: i64,
    /// Rows counted on the target.
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
    /// Rows that kept changing while they were compared: neither equal nor different can be said of them.
    pub changing: usize,
}

/// Compares a table of the target with its image on the source; `rule` maps in the direction of replay, target to
/// source. `rows_estimate` is the planner's, for the number of buckets. `settle` makes sure that what was written before is on both sides (a marker that has
/// arrived), or does nothing where no flow runs; it is called before rows that differ are read again.
pub fn compare_table(
    source: &mut Session,
    target: &mut Session,
    rule: &TableRule,
    rows_estimate: f64,
    settle: &mut dyn FnMut(&mut Session, &mut Session) -> Result<()>,
) -> Result<Comparison> {
    let buckets = (rows_estimate / ROWS_PER_BUCKET).ceil().clamp(1.0, 65_536.0) as i32;
    let new_side = HashedSide::new(rule, buckets);
    let old_side = HashedSide::old(target, rule, buckets)?;
    let (on_source, on_target) = at_once(
        source,
        target,
        |source| new_side.hash_buckets(source),
        |target| old_side.hash_buckets(target),
    )?;
    let mut result = Comparison {
        table: rule.to.to_string(),
        rows_source: on_source.values().map(|bucket| bucket.0).sum(),
        rows_target: on_target.values().map(|bucket| bucket.0).sum(),
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
        let (on_source, on_target) = at_once(
            source,
            target,
            |source| new_side.hash_rows(source, &suspects),
            |target| old_side.hash_rows(target, &suspects),
        )?;
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
type Differences = BTreeMap<String, (Option<String>, Option<String>)>;

fn differences(source: HashMap<String, String>, target: &HashMap<String, String>) -> Differences {
    let missing_on_source = target.iter().filter(|(key, _)| !source.contains_key(*key));
    let mut found: Differences =
        missing_on_source.map(|(key, hash)| (key.clone(), (None, Some(hash.clone())))).collect();
    for (key, hash) in source {
        let other = target.get(&key);
        if other != Some(&hash) {
            found.insert(key, (Some(hash), other.cloned()));
        }
    }
    found
}

/// How one side of a table is read: key and row as text, hashed by the server.
struct HashedSide {
    /// `select … as key, … as row from …`
    rows: String,
    buckets: i32,
    name: String,
}

impl HashedSide {
    /// The new table: its columns as they are.
    fn new(rule: &TableRule, buckets: i32) -> HashedSide {
        let text = |column: &MappedColumn| format!("{}::text", quote_identifier(&column.name));
        HashedSide::build(rule, &rule.to, rule.to_partitioned, buckets, text)
    }

    /// The old table: the mapping's expressions, in the new column's type where the target knows it.
    fn old(target: &mut Session, rule: &TableRule, buckets: i32) -> Result<HashedSide> {
        let mut known = HashMap::new();
        for column in rule.key.iter().chain(&rule.columns) {
            let row = target.query_one(&sql::flow::HAS_TYPE, &[&column.type_name])?;
            known.insert(column.type_name.clone(), row.get::<_, bool>(0));
        }
        let text = |column: &MappedColumn| match known.get(&column.type_name) {
            Some(true) => format!("(({})::{})::text", column.expression, column.type_name),
            _ => format!("({})::text", column.expression),
        };
        Ok(HashedSide::build(rule, &rule.from, rule.from_partitioned, buckets, text))
    }

    fn build(
        rule: &TableRule,
        table: &TableName,
        partitioned: bool,
        buckets: i32,
        text: impl Fn(&MappedColumn) -> String,
    ) -> HashedSide {
        let row = |columns: &[MappedColumn]| {
            let texts: Vec<String> = columns.iter().map(&text).collect();
            format!("row({})::text", texts.join(", "))
        };
        let all = row(&rule.columns);
        let key = if rule.key.is_empty() { all.clone() } else { row(&rule.key) };
        // Rows of inheriting tables are compared with those tables.
        let only = if partitioned { "" } else { "only " };
        let from = table.quoted();
        HashedSide {
            rows: format!(
                "select {key} as key_text, {all} as row_text from (select * from {only}{from}) as old"
            ),
            buckets,
            name: table.to_string(),
        }
    }

    /// Rows and hash of each bucket.
    fn hash_buckets(&self, session: &mut Session) -> Result<HashMap<i32, (i64, String)>> {
        let text = sql::flow::HASH_BUCKETS.with(&[("rows", &self.rows)]);
        let rows = session
            .query_text(&text, &[&i64::from(self.buckets)])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    /// Key → hash of the rows in these buckets; rows that share a key are hashed together.
    fn hash_rows(&self, session: &mut Session, buckets: &[i32]) -> Result<HashMap<String, String>> {
        let text = sql::flow::HASH_ROWS.with(&[("rows", &self.rows)]);
        let rows = session
            .query_text(&text, &[&i64::from(self.buckets), &buckets])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
