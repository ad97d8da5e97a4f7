//! How one side of a table is read for a comparison: keys and rows as text, hashed by the server.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::shape::Shape;
use super::{Buckets, Values};
use crate::error::{Doing as _, Result};
use crate::flow::apply::statement::read_text;
use crate::flow::mapping::{MappedColumn, TableName, TableRule};
use crate::pg::Session;
use crate::pg::parameter::Parameter;
use crate::sql::{self, quote_identifier};

/// Bytes of one page of a table.
const PAGE: u64 = 8192;
/// What one statement reads: long enough to be worth it, short enough that an ALTER does not wait for long, nor others behind it.
const RANGE: u64 = if cfg!(test) { 64 << 10 } else { 256 << 20 };

/// Pages `from..to` of a table, or of each of its partitions; without an end, all from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Range {
    from: u64,
    to: Option<u64>,
}

impl Range {
    /// Its first page.
    pub(super) fn begin(self) -> u64 {
        self.from
    }
}

/// A part of all rows, chosen by a hash of their key: the same rows on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Rows in a million.
    pub rows_in_a_million: u32,
    /// Another one chooses other rows.
    pub seed: i64,
}

impl Sample {
    /// SQL that is true for its rows, over the key as one text.
    pub(super) fn condition(self, key: &str) -> String {
        format!(
            "pg_catalog.abs(pg_catalog.hashtextextended({key} collate \"C\", {}) % 1000000) < {}",
            self.seed, self.rows_in_a_million
        )
    }
}

/// Key text → the rows that have it.
pub(super) type RowHashes = HashMap<String, Keyed>;

/// The rows of one side that share a key: one, where the key is one.
#[derive(Debug)]
pub(super) struct Keyed {
    /// The key's parts.
    pub(super) key: Values,
    /// Sum of hashes and number of the rows, as `sum/number`.
    pub(super) hash: String,
    /// Another one once any of them was written, be it to the same values; always the same where that cannot be told.
    pub(super) version: i128,
}

impl Keyed {
    /// How many they are.
    pub(super) fn rows(&self) -> i64 {
        read_hash(&self.hash).1
    }
}

/// Takes in what another part of the same side has; rows that share a key are hashed together.
pub(super) fn merge(into: &mut RowHashes, more: RowHashes) {
    for (text, more) in more {
        match into.entry(text) {
            Entry::Vacant(place) => drop(place.insert(more)),
            Entry::Occupied(mut there) => {
                let there = there.get_mut();
                let (sum, rows) = read_hash(&there.hash);
                let (other_sum, others) = read_hash(&more.hash);
                there.hash = format!("{}/{}", sum + other_sum, rows + others);
                there.version += more.version;
            }
        }
    }
}

fn read_hash(text: &str) -> (i128, i64) {
    let (sum, rows) = text.split_once('/').unwrap_or((text, "1"));
    // As a server writes them: a sum of fewer than 2^63 hashes of 64 bits.
    (sum.parse().unwrap_or_default(), rows.parse().unwrap_or_default())
}

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
    /// All that the rule writes, be it compared or not.
    written: Vec<Cell>,
    /// SQL over the table's own columns.
    filter: Option<String>,
    /// What the rule asks of a row, over the row called `old`.
    condition: Option<String>,
    sample: Option<Sample>,
    /// Which transaction wrote a row is read with it. No expression of a user may read the row as a whole, then.
    is_versioned: bool,
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
    pub fn new(rule: &TableRule, shape: &Shape, bytes: u64) -> Rows {
        let cell = |column: &MappedColumn| {
            let name = quote_identifier(&column.name);
            let value = is_built_in(&column.type_name).then(|| (name.clone(), column.type_name.clone()));
            Cell { text: text_of(&name, &column.type_name), value }
        };
        let rows = Rows::build(rule, shape, (&rule.to, rule.to_partitioned), bytes, cell);
        Rows { condition: rule.is_filled(quote_identifier), is_versioned: true, ..rows }
    }

    /// The old table, on the target: the mapping's expressions, in the new column's type where the target knows it.
    pub fn old(target: &mut Session, rule: &TableRule, shape: &Shape, bytes: u64) -> Result<Rows> {
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
                let text = text_of(&format!("({value})"), &column.type_name);
                // A cast of a column to its own type is no cast, and an index finds it.
                let value = is_built_in(&column.type_name).then(|| (value, column.type_name.clone()));
                Cell { text, value }
            } else {
                Cell { text: format!("({}\n)::text", column.expression), value: None }
            }
        };
        let rows = Rows::build(rule, shape, (&rule.from, rule.from_partitioned), bytes, cell);
        let condition = has_image(rule, |column| format!("({}\n)", column.expression));
        Ok(Rows { condition, is_versioned: rule.is_by_name(), ..rows })
    }

    fn build(
        rule: &TableRule,
        shape: &Shape,
        (table, partitioned): (&TableName, bool),
        bytes: u64,
        cell: impl Fn(&MappedColumn) -> Cell,
    ) -> Rows {
        let only = if partitioned { "" } else { "only " };
        let columns: Vec<Cell> = shape.columns_of(rule).into_iter().map(&cell).collect();
        let mut key: Vec<Cell> = shape.key_of(rule).into_iter().map(&cell).collect();
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
            written: rule.columns.iter().map(&cell).collect(),
            filter: None,
            condition: None,
            sample: None,
            is_versioned: false,
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

    /// `select … as key_text, … as key_parts, … as row_text, … as version from …`
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
        let chosen = self.chosen(self.sample.map(|sample| sample.condition(&key)));
        let (version, with) = if self.is_versioned {
            ("\"pgdetour version\"::text", "xmin as \"pgdetour version\", ")
        } else {
            ("''", "")
        };
        format!(
            "select {key} as key_text, array[{}]::text[] as key_parts, {} as row_text, {version} as version \
             from (select {with}* from {}{conditions}) as old where {chosen}",
            parts.join(", "),
            self.row_text(),
            self.relation
        )
    }

    /// What the rule asks of a row, and another condition.
    fn chosen(&self, other: Option<String>) -> String {
        let condition = self.condition.as_ref().map(|condition| format!("({condition}\n)"));
        let all: Vec<String> = condition.into_iter().chain(other).collect();
        if all.is_empty() { "true".into() } else { all.join(" and ") }
    }

    /// Rows and sum of hashes of each bucket, in a range.
    pub fn hash_buckets(&self, session: &mut Session, buckets: i32, range: Option<Range>) -> Result<Buckets> {
        let text = sql::flow::HASH_BUCKETS.with(&[("rows", &self.select(range))]);
        let rows = session
            .query_text(&text, &[&i64::from(buckets)])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        Ok(rows.iter().map(bucket).collect())
    }

    /// The rows in these buckets, by their key.
    pub(super) fn hash_rows(&self, session: &mut Session, buckets: i32, wanted: &[i32]) -> Result<RowHashes> {
        let text = sql::flow::HASH_KEYED_ROWS.with(&[("rows", &self.select(None))]);
        let rows = session
            .query_text(&text, &[&i64::from(buckets), &wanted])
            .doing(|| format!("compare table \"{}\"", self.name))?;
        Ok(rows.iter().map(keyed_hash).collect())
    }

    /// `key = $n and …`, for the row whose key's parts are the parameters from `first` on.
    pub fn key_condition(&self, first: usize) -> String {
        let part = |(at, cell): (usize, &Cell)| {
            let parameter = format!("${}::text", first + at);
            // A key may differ only within a collation that takes both for equal.
            let exact = format!("({}) collate \"C\" is not distinct from {parameter}", cell.text);
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
        self.read_row(session, key, &self.columns, |text| format!("pg_catalog.md5({text})"))
    }

    /// All columns that the rule writes, of the row with this key, as text; none when it is not there.
    pub fn read_columns(
        &self,
        session: &mut Session,
        key: &[Option<String>],
    ) -> Result<Option<Vec<Option<String>>>> {
        self.read_row(session, key, &self.written, str::to_owned)
    }

    fn read_row(
        &self,
        session: &mut Session,
        key: &[Option<String>],
        cells: &[Cell],
        value: impl Fn(&str) -> String,
    ) -> Result<Option<Vec<Option<String>>>> {
        let values: Vec<String> = cells.iter().map(|cell| value(&cell.text)).collect();
        let filter = self.filter.as_ref().map_or_else(String::new, |filter| format!(" where ({filter}\n)"));
        let text = format!(
            "select array[{}]::text[] from (select * from {}{filter}) as old where {} limit 1",
            values.join(", "),
            self.relation,
            self.chosen(Some(self.key_condition(1)))
        );
        let parameters: Vec<&dyn Parameter> = key.iter().map(|part| part as &dyn Parameter).collect();
        let rows = session
            .query_text(&text, &parameters)
            .doing(|| format!("read a row of table \"{}\"", self.name))?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}

/// SQL that is true of an old row that a rule makes something of, from SQL for the value of a new column.
pub(super) fn has_image(rule: &TableRule, value: impl Fn(&MappedColumn) -> String) -> Option<String> {
    let condition = rule.condition.as_ref().map(|condition| condition.expression.clone());
    let filled = rule.is_filled(|name| {
        rule.columns.iter().find(|column| column.name == name).map_or_else(|| "null".to_owned(), &value)
    });
    let tests: Vec<String> = condition.into_iter().chain(filled).collect();
    if tests.is_empty() { None } else { Some(format!("({})", tests.join("\n) and ("))) }
}

/// A row of `hash_buckets`.
pub(super) fn bucket(row: &postgres::Row) -> (i32, (i64, i128)) {
    // A sum of fewer than 2^63 hashes of 64 bits.
    (row.get(0), (row.get(1), row.get::<_, &str>(2).parse().unwrap_or_default()))
}

/// A row of `hash_keyed_rows`.
pub(super) fn keyed_hash(row: &postgres::Row) -> (String, Keyed) {
    let version = row.get::<_, &str>(3).parse().unwrap_or_default();
    (row.get(0), Keyed { key: row.get(1), hash: row.get(2), version })
}

fn row_of(cells: &[Cell]) -> String {
    row_text(cells.iter().map(|cell| cell.text.as_str()))
}

/// One text of several.
pub(super) fn row_text<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("row({})::text", texts.collect::<Vec<_>>().join(", "))
}

/// SQL for the text of a value as changes and copies have it: of xml, what its output shows, without the declaration that a cast
/// to text keeps; of a `"char"` beyond ASCII, the octal form, for which servers before 16 give a bare byte that is no text.
pub(super) fn text_of(value: &str, type_name: &str) -> String {
    match type_name {
        "xml" => format!("pg_catalog.textin(pg_catalog.xml_out({value}))"),
        "\"char\"" => format!(
            "(select case when byte >= 0 then \"char\"::text else pg_catalog.concat(pg_catalog.chr(92), (byte + 256) / 64, \
             (byte + 256) / 8 % 8, (byte + 256) % 8) end \
             from (select {value} as \"char\", ({value})::int4 as byte) as one)"
        ),
        _ => format!("{value}::text"),
    }
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
            written: Vec::new(),
            filter: None,
            condition: None,
            sample: None,
            is_versioned: false,
        };
        assert_eq!(rows(0).ranges(4), [None]);
        assert_eq!(rows(PAGE).ranges(4), [None]);
        let ranges = rows(PAGE * 20).ranges(1);
        let covered: Vec<_> = ranges.iter().flatten().map(|range| (range.from, range.to)).collect();
        assert_eq!(covered, [(0, Some(8)), (8, Some(16)), (16, None)]);
    }
}
