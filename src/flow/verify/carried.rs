//! Old rows read on the publisher and evaluated on the subscriber, a bounded number at a time: for what the subscriber alone
//! can evaluate, since an expression looks up its tables or calls its functions.

use std::collections::HashMap;

use postgres::types::ToSql;

use super::compare::{Hashed, Shape, value_of};
use crate::error::{Doing as _, Error, Result};
use crate::flow::apply::statement;
use crate::flow::mapping::{MappedColumn, TableRule};
use crate::pg::Session;
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
    /// Pages from all over the table, about twice as many as are needed.
    fn clause(self) -> String {
        let percent = 200.0 * self.rows as f64 / self.of.max(1.0);
        if percent < 100.0 { format!(" tablesample system ({percent})") } else { String::new() }
    }
}

/// Reads these old columns of all rows that a rule is for, or of a `sample`, as columns of text, in chunks of one snapshot;
/// until `take` has had enough.
pub(in crate::flow) fn read_old_rows(
    publisher: &mut Session,
    rule: &TableRule,
    columns: &[usize],
    sample: Option<Sample>,
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
    let (clause, limit) =
        sample.map_or_else(Default::default, |sample| (sample.clause(), format!(" limit {}", sample.rows)));
    let text =
        format!("select {} from {only}{} as \"old\"{clause}{limit}", list.join(", "), rule.from.quoted());
    let client = publisher.client();
    let mut transaction = client
        .build_transaction()
        .isolation_level(postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .map_err(|error| failed(&error))?;
    let portal = transaction.bind(&text, &[]).map_err(|error| failed(&error))?;
    let mut next = ROWS_AT_FIRST;
    loop {
        let rows = transaction.query_portal(&portal, next as i32).map_err(|error| failed(&error))?;
        if rows.is_empty() {
            return Ok(());
        }
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
pub(super) struct Carried<'a> {
    rule: &'a TableRule,
    columns: Vec<usize>,
    key: String,
    row: String,
    buckets: i64,
}

impl<'a> Carried<'a> {
    pub(in crate::flow) fn new(rule: &'a TableRule, shape: &Shape, buckets: i32) -> Carried<'a> {
        let text = |column: &MappedColumn| format!("(({}\n)::{})::text", column.expression, column.type_name);
        let (key, row) = shape.texts(rule, text);
        Carried { rule, columns: rule.all_reads(), key, row, buckets: i64::from(buckets) }
    }

    /// A select of the mapped rows over staged ones, whose parameters begin with `first`.
    fn rows(&self, first: usize) -> String {
        let condition = self.rule.condition.as_ref().map(|condition| condition.expression.clone());
        // As the column's own type writes it.
        let typed = |name: &str| {
            let column = self.rule.columns.iter().find(|column| column.name == name);
            let type_name = column.map_or("text", |column| column.type_name.as_str());
            format!("{}::{type_name}", value_of(self.rule, name))
        };
        let filter: Vec<String> = condition
            .into_iter()
            .chain(self.rule.is_filled(typed))
            .map(|test| format!(" where ({test}\n)"))
            .collect();
        format!(
            "select {} as key_text, {} as row_text from ({}) as \"old\"{}",
            self.key,
            self.row,
            statement::stage(self.rule, &self.columns, first),
            filter.concat()
        )
    }

    fn each(
        &self,
        source: &mut Session,
        target: &mut Session,
        text: &str,
        leading: &[&(dyn ToSql + Sync)],
        take: &mut dyn FnMut(&postgres::Row) -> Result<()>,
    ) -> Result<()> {
        read_old_rows(target, self.rule, &self.columns, None, &mut |chunk, rows| {
            let count = rows as i64;
            let mut params = leading.to_vec();
            params.extend(chunk.iter().map(|column| column as &(dyn ToSql + Sync)));
            if chunk.is_empty() {
                params.push(&count);
            }
            let found =
                source.query_text(text, &params).doing(|| format!("compare table \"{}\"", self.rule.to))?;
            found.iter().try_for_each(&mut *take)?;
            Ok(true)
        })
    }

    /// Adds rows and hash of each bucket.
    pub(super) fn hash_buckets(
        &self,
        source: &mut Session,
        target: &mut Session,
        into: &mut HashMap<i32, Hashed>,
    ) -> Result<()> {
        let text = sql::flow::HASH_BUCKETS.with(&[("rows", &self.rows(2))]);
        self.each(source, target, &text, &[&self.buckets], &mut |row| {
            into.entry(row.get(0)).or_default().add(Hashed::read(row.get(1), row.get(2))?);
            Ok(())
        })
    }

    /// Adds the rows in these buckets, by their key.
    pub(super) fn hash_rows(
        &self,
        source: &mut Session,
        target: &mut Session,
        buckets: &[i32],
        into: &mut HashMap<String, Hashed>,
    ) -> Result<()> {
        let text = sql::flow::HASH_ROWS.with(&[("rows", &self.rows(3))]);
        self.each(source, target, &text, &[&self.buckets, &buckets], &mut |row| {
            into.entry(row.get(0)).or_default().add(Hashed::read(row.get(1), row.get(2))?);
            Ok(())
        })
    }
}
