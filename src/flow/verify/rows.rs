//! How one side of a table is read for a comparison: keys and rows as text, hashed by the server.

use std::collections::HashMap;

use super::Buckets;
use crate::error::{Doing as _, Result};
use crate::flow::apply::statement::read_text;
use crate::flow::mapping::{MappedColumn, TableName, TableRule};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};

/// Bytes of one page of a table.
const PAGE: u64 = 8192;
/// What one statement reads: long enough to be worth it, short enough not to hold back vacuum.
const RANGE: u64 = if cfg!(test) { 64 << 10 } else { 256 << 20 };

/// Pages `from..to` of a table, or of each of its partitions; without an end, all from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    from: u64,
    to: Option<u64>,
}

/// A part of all rows, chosen by a hash of their key: the same rows on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Rows in a million.
    pub rows_in_a_million: u32,
    /// Another one chooses other rows.
    pub seed: i64,
}

/// Key and row hashes by key text.
type RowHashes = HashMap<String, (Vec<Option<String>>, String)>;

/// One side of a table.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Size on disk.
    pub bytes: u64,
    name: TableName,
    /// `only "public"."t"`: rows of inheriting tables are compared with those tables.
    relation: String,
    key: Vec<Cell>,
    columns: Vec<Cell>,
    /// SQL over the table's own columns.
    filter: Option<String>,
    sample: Option<Sample>,
}

/// A column of the image, read on this side.
#[derive(Debug, Clone)]
struct Cell {
    /// SQL that gives its text.
    text: String,
    /// SQL that gives its value, and the value's type, where an index may find it.
    value: Option<(String, String)>,
}

impl Rows {
    /// The new table, on the source: its columns as they are.
    pub fn new(rule: &TableRule, bytes: u64) -> Rows {
        let cell = |column: &MappedColumn| {
            let name = quote_identifier(&column.name);
            let value = is_built_in(&column.type_name).then(|| (name.clone(), column.type_name.clone()));
            Cell { text: format!("{name}::text"), value }
        };
        Rows::build(rule, &rule.to, rule.to_partitioned, bytes, cell)
    }

    /// The old table, on the target: the mapping's expressions, in the new column's type where the target knows it.
    pub fn old(target: &mut Session, rule: &TableRule, bytes: u64) -> Result<Rows> {
        let mut known = HashMap::new();
        for column in rule.key.iter().chain(&rule.columns) {
            if !known.contains_key(&column.type_name) {
                let row = target.query_one(&sql::flow::HAS_TYPE, &[&column.type_name])?;
                known.insert(column.type_name.clone(), row.get::<_, bool>(0));
            }
        }
        let cell = |column: &MappedColumn| {
            if known.get(&column.type_name) == Some(&true) {
                let value = format!("({}\n)::{}", column.expression, column.type_name);
                let text = format!("({value})::text");
                // A cast of a column to its own type is no cast, and an index finds it.
                let value = is_built_in(&column.type_name).then(|| (value, column.type_name.clone()));
                Cell { text, value }
            } else {
                Cell { text: format!("({}\n)::text", column.expression), value: None }
            }
        };
        Ok(Rows::build(rule, &rule.from, rule.from_partitioned, bytes, cell))
    }

    fn build(
        rule: &TableRule,
        table: &TableName,
        partitioned: bool,
        bytes: u64,
        cell: impl Fn(&MappedColumn) -> Cell,
    ) -> Rows {
        let only = if partitioned { "" } else { "only " };
        let columns: Vec<Cell> = rule.columns.iter().map(&cell).collect();
        let mut key: Vec<Cell> = rule.key.iter().map(&cell).collect();
        if key.is_empty() {
            // Nothing but the row itself tells it from others.
            key.push(Cell { text: row_of(&columns), value: None });
        }
        Rows {
            bytes,
            name: table.clone(),
            relation: format!("{only}{}", table.quoted()),
            key,
            columns,
            filter: None,
            sample: None,
        }
    }

    /// Only rows for which this is true.
    pub fn filtered(mut self, filter: Option<String>) -> Rows {
        self.filter = filter;
        self
    }

    /// Only a sample.
    pub fn sampled(mut self, sample: Option<Sample>) -> Rows {
        self.sample = sample;
        self
    }

    /// The ranges that are read one by one; a single open one for a table that is small.
    pub fn ranges(&self, jobs: usize) -> Vec<Option<Range>> {
        let pages = self.bytes.div_ceil(PAGE);
        let size = (RANGE / PAGE).min((pages / jobs.max(1) as u64).max(RANGE / PAGE / 8)).max(1);
        if pages <= size {
            return vec![None];
        }
        let count = pages.div_ceil(size);
        let range = |at: u64| Range { from: at * size, to: (at + 1 < count).then_some((at + 1) * size) };
        (0..count).map(range).map(Some).collect()
    }

    /// The whole row as one text.
    fn row_text(&self) -> String {
        row_of(&self.columns)
    }

    /// What tells rows apart, as one text.
    fn key_text(&self) -> String {
        row_of(&self.key)
    }

    /// `select … as key_text, … as key_parts, … as row_text from …`
    fn select(&self, range: Option<Range>) -> String {
        let from = range.map(|range| format!("ctid >= '({},0)'", range.from));
        let to = range.and_then(|range| range.to).map(|to| format!("ctid < '({to},0)'"));
        let filter = self.filter.as_ref().map(|filter| format!("({filter}\n)"));
        let conditions: Vec<String> = from.into_iter().chain(to).chain(filter).collect();
        let conditions = if conditions.is_empty() {
            String::new()
        } else {
            format!(" where {}", conditions.join(" and "))
        };
        let parts: Vec<&str> = self.key.iter().map(|cell| cell.text.as_str()).collect();
        let key = self.key_text();
        let sample = self.sample.map_or_else(String::new, |sample| {
            format!(
                " where pg_catalog.abs(pg_catalog.hashtextextended({key} collate \"C\", {}) % 1000000) < {}",
                sample.seed, sample.rows_in_a_million
            )
        });
        format!(
            "select {key} as key_text, array[{}]::text[] as key_parts, {} as row_text \
             from (select * from {}{conditions}) as old{sample}",
            parts.join(", "),
            self.row_text(),
            self.relation
        )
    }

    /// Rows and sum of hashes of each bucket, in a range.
    pub fn hash_buckets(&self, session: &mut Session, buckets: i32, range: Option<Range>) -> Result<Buckets> {
        let text = sql::flow::HASH_BUCKETS.with(&[("rows", &self.select(range))]);
        let rows = session
            .query_text(&text, &[&i64::from(buckets)])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        // A sum of fewer than 2^63 hashes of 64 bits.
        let sum = |row: &postgres::Row| row.get::<_, &str>(2).parse::<i128>().unwrap_or_default();
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), sum(row)))).collect())
    }

    /// Key → its parts, and hash of the rows in these buckets; rows that share a key are hashed together.
    pub(super) fn hash_rows(&self, session: &mut Session, buckets: i32, wanted: &[i32]) -> Result<RowHashes> {
        let text = sql::flow::HASH_KEYED_ROWS.with(&[("rows", &self.select(None))]);
        let rows = session
            .query_text(&text, &[&i64::from(buckets), &wanted])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    /// `key = $n and …`, for the row whose key's parts are the parameters from `first` on.
    pub fn key_condition(&self, first: usize) -> String {
        let part = |(at, cell): (usize, &Cell)| {
            let parameter = format!("${}::text", first + at);
            let exact = format!("{} is not distinct from {parameter}", cell.text);
            match &cell.value {
                Some((value, type_name)) => {
                    format!("{value} = {} and {exact}", read_text(&parameter, type_name))
                }
                None => exact,
            }
        };
        self.key.iter().enumerate().map(part).collect::<Vec<_>>().join(" and ")
    }

    /// SQL for the hash of the row, as [`Rows::hash_rows`] gives it for a key of one row.
    pub fn row_hash(&self) -> String {
        format!("pg_catalog.hashtextextended({} collate \"C\", 0)::numeric::text || '/1'", self.row_text())
    }

    /// The relation, with ONLY where its rows are its own.
    pub fn relation(&self) -> &str {
        &self.relation
    }

    /// Hash of each column of the row with this key; none when it is not there.
    pub(super) fn hash_columns(
        &self,
        session: &mut Session,
        key: &[Option<String>],
    ) -> Result<Option<Vec<Option<String>>>> {
        self.read_row(session, key, |text| format!("pg_catalog.md5({text})"))
    }

    /// The columns of the row with this key as text; none when it is not there.
    pub fn read_columns(
        &self,
        session: &mut Session,
        key: &[Option<String>],
    ) -> Result<Option<Vec<Option<String>>>> {
        self.read_row(session, key, str::to_owned)
    }

    fn read_row(
        &self,
        session: &mut Session,
        key: &[Option<String>],
        value: impl Fn(&str) -> String,
    ) -> Result<Option<Vec<Option<String>>>> {
        let values: Vec<String> = self.columns.iter().map(|cell| value(&cell.text)).collect();
        let filter = self.filter.as_ref().map_or_else(String::new, |filter| format!(" where ({filter}\n)"));
        let text = format!(
            "select array[{}]::text[] from (select * from {}{filter}) as old where {} limit 1",
            values.join(", "),
            self.relation,
            self.key_condition(1)
        );
        let parameters: Vec<&(dyn postgres::types::ToSql + Sync)> =
            key.iter().map(|part| part as &(dyn postgres::types::ToSql + Sync)).collect();
        let rows = session
            .query_text(&text, &parameters)
            .doing(|| format!("read a row of table \"{}\"", self.name))?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

fn row_of(cells: &[Cell]) -> String {
    let texts: Vec<&str> = cells.iter().map(|cell| cell.text.as_str()).collect();
    format!("row({})::text", texts.join(", "))
}

/// Types of other schemas are written with them; their operators are not in the `search_path`.
fn is_built_in(type_name: &str) -> bool {
    !type_name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_page_and_the_last_one_is_open() {
        let rows = |bytes| Rows {
            bytes,
            name: TableName { schema: "s".into(), name: "t".into() },
            relation: "s.t".into(),
            key: Vec::new(),
            columns: Vec::new(),
            filter: None,
            sample: None,
        };
        assert_eq!(rows(0).ranges(4), [None]);
        assert_eq!(rows(PAGE).ranges(4), [None]);
        let ranges = rows(PAGE * 20).ranges(1);
        let covered: Vec<_> = ranges.iter().flatten().map(|range| (range.from, range.to)).collect();
        assert_eq!(covered, [(0, Some(8)), (8, Some(16)), (16, None)]);
    }
}
