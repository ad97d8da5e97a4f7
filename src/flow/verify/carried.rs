//! Old rows read on the publisher and evaluated on the subscriber, a bounded number at a time: for what the subscriber alone
//! can evaluate, since an expression looks up its tables or calls its functions.

use std::collections::HashMap;
use std::sync::Arc;

use super::rows::{self, RowHashes};
use super::shape::Shape;
use super::snapshot::Snapshot;
use super::{Buckets, Values};
use crate::error::{Doing as _, Error, Result};
use crate::flow::apply::statement;
use crate::flow::mapping::{MappedColumn, TableName, TableRule};
use crate::pg::Session;
use crate::pg::parameter::Parameter;
use crate::sql;

/// How many rows are carried at once at most.
const ROWS_AT_ONCE: usize = 2000;
/// How many bytes are to be in memory: after a chunk of wide rows the next one has fewer of them.
const BYTES_AT_ONCE: usize = 4 << 20;
/// How many rows are read before it is known how wide they are.
const ROWS_AT_FIRST: usize = 50;

/// Values of one old column in a chunk of rows.
pub(in crate::flow) type Texts = Vec<Option<String>>;

/// Some rows of a table.
#[derive(Debug, Clone, Copy)]
pub(in crate::flow) struct Sample {
    /// At most so many.
    pub(in crate::flow) rows: u64,
    /// The planner's estimate of how many there are.
    pub(in crate::flow) of: f64,
}

impl Sample {
    /// Pages from all over the table, about twice as many as are needed; empty where that is all of them.
    fn clause(self) -> String {
        let percent = 200.0 * self.rows as f64 / self.of.max(1.0);
        if percent < 100.0 {
            format!(" tablesample system ({percent}) repeatable ({})", std::process::id())
        } else {
            String::new()
        }
    }
}

/// Reads these old columns of all rows that a rule is for, or of a `sample`, as columns of text, in chunks of one snapshot;
/// until `take` has had enough. Of a sample's pages there may be none: then it is of other rows. `adoption` is a statement by which
/// it reads under the snapshot of another session; rows of the partitions `except` are left out.
pub(in crate::flow) fn read_old_rows(
    publisher: &mut Session,
    rule: &TableRule,
    columns: &[usize],
    sample: Option<Sample>,
    (adoption, except): (Option<&str>, &[&TableName]),
    take: &mut dyn FnMut(&[Texts], usize) -> Result<bool>,
) -> Result<()> {
    let on = publisher.place.name();
    let doing = format!("read table \"{}\"", rule.from);
    let failed = |error: &postgres::Error| Error::sql(doing.clone(), on, error);
    let list: Vec<String> = columns
        .iter()
        .map(|at| format!("\"old\".{}::text", sql::quote_identifier(&rule.old_columns[*at].name)))
        .collect();
    let only = if rule.from_partitioned { "" } else { "only " };
    let table = format!("{only}{}", rule.from.quoted());
    let clause = sample.map_or_else(String::new, Sample::clause);
    let mut conditions: Vec<String> = except
        .iter()
        .map(|name| {
            let name = sql::quote_literal(&name.quoted());
            format!("\"old\".tableoid <> {name}::pg_catalog.regclass")
        })
        .collect();
    let select = |clause: &str, conditions: &[String], rows: Option<u64>| {
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" where {}", conditions.join(" and "))
        };
        let limit = rows.map_or_else(String::new, |rows| format!(" limit {rows}"));
        format!("select {} from {table} as \"old\"{clause}{filter}{limit}", list.join(", "))
    };
    let text = select(&clause, &conditions, sample.map(|sample| sample.rows));
    let client = publisher.client();
    let mut transaction = client
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .map_err(|error| failed(&error))?;
    if let Some(adoption) = adoption {
        transaction.batch_execute(adoption).map_err(|error| failed(&error))?;
    }
    let mut portal = transaction.bind(&text, &[]).map_err(|error| failed(&error))?;
    let mut next = ROWS_AT_FIRST;
    let (mut taken, mut is_of_pages) = (0, !clause.is_empty());
    loop {
        let rows = transaction.query_portal(&portal, next as i32).map_err(|error| failed(&error))?;
        if rows.is_empty() {
            let Some(sample) = sample.filter(|sample| is_of_pages && taken < sample.rows) else {
                return Ok(());
            };
            is_of_pages = false;
            conditions.push(format!(
                "(\"old\".tableoid, \"old\".ctid) not in (select t.tableoid, t.ctid from {table} as t{clause})"
            ));
            let text = select("", &conditions, Some(sample.rows - taken));
            portal = transaction.bind(&text, &[]).map_err(|error| failed(&error))?;
            continue;
        }
        taken += rows.len() as u64;
        let gather = |at: usize| -> Texts { rows.iter().map(|row| row.get(at)).collect() };
        let chunk: Vec<Texts> = (0..columns.len()).map(gather).collect();
        let texts = chunk.iter().flatten().flatten();
        let bytes: usize = texts.map(|text| text.len() + 32).sum();
        next = (BYTES_AT_ONCE * rows.len() / bytes.max(1)).clamp(1, ROWS_AT_ONCE);
        if !take(&chunk, rows.len())? {
            return Ok(());
        }
    }
}

/// One rule whose rows are compared that way.
pub struct Carried {
    rule: Arc<TableRule>,
    reads: Vec<usize>,
    /// The key as one text.
    key: String,
    /// Its parts.
    parts: Vec<String>,
    /// What is compared.
    columns: Vec<String>,
    /// All that the rule writes.
    written: Vec<String>,
    sample: Option<rows::Sample>,
}

/// What is read of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Hashes of what is compared.
    Hashes,
    /// The texts of all that the rule writes.
    Texts,
}

impl Carried {
    /// How the rows of `rule` are read.
    pub fn new(rule: &Arc<TableRule>, shape: &Shape, sample: Option<rows::Sample>) -> Carried {
        let text = |column: &MappedColumn| {
            let value = format!("(({}\n)::{})", column.expression, column.type_name);
            rows::text_of(&value, &column.type_name)
        };
        let columns: Vec<String> = shape.columns_of(rule).into_iter().map(text).collect();
        let mut parts: Vec<String> = shape.key_of(rule).into_iter().map(text).collect();
        if parts.is_empty() {
            // Nothing but the row itself tells it from others.
            parts.push(rows::row_text(columns.iter().map(String::as_str)));
        }
        Carried {
            rule: Arc::clone(rule),
            reads: rule.all_reads(),
            key: rows::row_text(parts.iter().map(String::as_str)),
            parts,
            columns,
            written: rule.columns.iter().map(text).collect(),
            sample,
        }
    }

    /// A select of this over staged rows, whose parameters begin with `first`.
    fn select(&self, what: &str, first: usize, other: Option<String>) -> String {
        // As the column's own type writes it.
        let typed = |column: &MappedColumn| format!("({}\n)::{}", column.expression, column.type_name);
        let condition = rows::has_image(&self.rule, typed).map(|condition| format!("({condition}\n)"));
        let chosen: Vec<String> = condition.into_iter().chain(other).collect();
        let filter =
            if chosen.is_empty() { String::new() } else { format!(" where {}", chosen.join(" and ")) };
        format!(
            "select {what} from ({}) as \"old\"{filter}",
            statement::stage(&self.rule, &self.reads, first)
        )
    }

    fn rows(&self, first: usize) -> String {
        let row = rows::row_text(self.columns.iter().map(String::as_str));
        let what = format!(
            "{} as key_text, array[{}]::text[] as key_parts, {row} as row_text, '' as version",
            self.key,
            self.parts.join(", ")
        );
        self.select(&what, first, self.sample.map(|sample| sample.condition(&self.key)))
    }

    fn each(
        &self,
        source: &mut Session,
        target: &mut Session,
        (text, snapshot): (&str, Option<&Snapshot>),
        leading: &[&dyn Parameter],
        take: &mut dyn FnMut(&postgres::Row),
    ) -> Result<()> {
        let adoption = snapshot.map(Snapshot::adoption);
        read_old_rows(
            target,
            &self.rule,
            &self.reads,
            None,
            (adoption.as_deref(), &[]),
            &mut |chunk, rows| {
                let count = rows as i64;
                let mut params = leading.to_vec();
                params.extend(chunk.iter().map(|column| column as &dyn Parameter));
                if chunk.is_empty() {
                    params.push(&count);
                }
                let found = source
                    .query_text(text, &params)
                    .doing(|| format!("compare table \"{}\"", self.rule.to))?;
                found.iter().for_each(&mut *take);
                Ok(true)
            },
        )
    }

    /// Rows and sum of hashes of each bucket.
    pub(super) fn hash_buckets(
        &self,
        source: &mut Session,
        target: &mut Session,
        buckets: i32,
        snapshot: Option<&Snapshot>,
    ) -> Result<Buckets> {
        let text = sql::flow::HASH_BUCKETS.with(&[("rows", &self.rows(2))]);
        let mut into = Buckets::new();
        self.each(source, target, (&text, snapshot), &[&i64::from(buckets)], &mut |row| {
            super::add(&mut into, rows::bucket(row));
        })?;
        Ok(into)
    }

    /// The rows in these buckets, by their key.
    pub(super) fn hash_rows(
        &self,
        source: &mut Session,
        target: &mut Session,
        buckets: i32,
        wanted: &[i32],
    ) -> Result<RowHashes> {
        let text = sql::flow::HASH_KEYED_ROWS.with(&[("rows", &self.rows(3))]);
        let mut into = RowHashes::new();
        self.each(source, target, (&text, None), &[&i64::from(buckets), &wanted], &mut |row| {
            rows::merge(&mut into, RowHashes::from([rows::keyed_hash(row)]));
        })?;
        Ok(into)
    }

    /// What there is of these rows, by their key's text. All of the table is read for it.
    pub(super) fn read(
        &self,
        source: &mut Session,
        target: &mut Session,
        keys: &[&str],
        what: What,
    ) -> Result<HashMap<String, Values>> {
        let values: Vec<String> = match what {
            What::Texts => self.written.clone(),
            What::Hashes => self.columns.iter().map(|text| format!("pg_catalog.md5({text})")).collect(),
        };
        let list = format!("{}, array[{}]::text[]", self.key, values.join(", "));
        let text = self.select(&list, 2, Some(format!("{} = any($1)", self.key)));
        let mut found = HashMap::new();
        self.each(source, target, (&text, None), &[&keys], &mut |row| {
            found.insert(row.get(0), row.get(1));
        })?;
        Ok(found)
    }
}
