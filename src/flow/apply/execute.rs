//! Statements of the applier: prepared once, their rows sent as arrays.

use bytes::{BufMut as _, BytesMut};
use postgres::types::{IsNull, ToSql, Type};

use super::Applier;
use super::conflict::Failure;
use super::statement::Statement;
use crate::error::{Error, Result};
use crate::flow::mapping::bound::BoundRule;
use crate::flow::source::change::{Row, Value};
use crate::pg::parameter::Typed;

/// Values of one old column, sent as a `text[]`. They are written where they are sent from: one may be large.
#[derive(Debug)]
pub(super) struct TextArray<'a> {
    rows: &'a [Row],
    position: usize,
    size: usize,
    has_null: bool,
}

impl ToSql for TextArray<'_> {
    /// The binary form of a one-dimensional array.
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.reserve(20 + self.size);
        out.put_i32(1);
        out.put_i32(i32::from(self.has_null));
        out.put_u32(Type::TEXT.oid());
        out.put_i32(self.rows.len() as i32);
        out.put_i32(1);
        for row in self.rows {
            if let Value::Text(text) = row.value(self.position) {
                out.put_i32(text.len() as i32);
                out.extend_from_slice(text);
            } else {
                out.put_i32(-1);
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT_ARRAY
    }

    postgres::types::to_sql_checked!();
}

impl Typed for TextArray<'_> {
    const TYPE: Type = Type::TEXT_ARRAY;
    const ARRAY: Type = Type::TEXT_ARRAY;
}

impl<'a> TextArray<'a> {
    /// The values at `position` of all rows, each of them text or NULL.
    pub(super) fn gather(rows: &'a [Row], position: usize) -> Result<TextArray<'a>> {
        let mut array = TextArray { rows, position, size: 0, has_null: false };
        for row in rows {
            match row.value(position) {
                Value::Text(text) => array.size += text.len(),
                Value::Null => array.has_null = true,
                Value::Unchanged | Value::Binary(_) => return Err(unwritable()),
            }
            array.size += 4;
        }
        Ok(array)
    }
}

/// A value that no statement can take.
pub(super) fn unwritable() -> Error {
    Error::Internal {
        message: "a value that the stream left out, or of another form, was about to be written".to_owned(),
    }
}

impl Applier {
    /// Executes a statement for `rows`, and `old` where it takes rows before; as many rows must be affected.
    pub(super) fn execute(
        &mut self,
        rule: &BoundRule,
        statement: &Statement,
        rows: &[Row],
        old: &[Row],
    ) -> std::result::Result<(), Failure> {
        let expected = rows.len().max(1) as u64;
        let found = self.affect(rule, statement, rows, old)?;
        if found == expected { Ok(()) } else { Err(Failure::Rows { found, expected }) }
    }

    /// The same, however many rows are affected; how many.
    pub(super) fn affect(
        &mut self,
        rule: &BoundRule,
        statement: &Statement,
        rows: &[Row],
        old: &[Row],
    ) -> std::result::Result<u64, Failure> {
        let mut arrays = Vec::with_capacity(statement.columns.len() + statement.old_columns.len());
        for column in &statement.columns {
            arrays.push(TextArray::gather(rows, rule.positions[*column])?);
        }
        for column in &statement.old_columns {
            if old.is_empty() {
                return Err(Error::Internal { message: "an old row is missing".into() }.into());
            }
            arrays.push(TextArray::gather(old, rule.positions[*column])?);
        }
        let count = rows.len().max(1) as i64;
        let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(arrays.len() + 1);
        params.extend(arrays.iter().map(|array| array as &(dyn ToSql + Sync)));
        if statement.takes_count {
            params.insert(0, &count);
        }
        let prepared = self.prepare(&statement.text)?;
        self.round_trips += 1;
        Ok(self.session.client().execute(&prepared, &params)?)
    }

    /// The JSON value that a statement gives for one row, if it gives one.
    pub(super) fn query_value(
        &mut self,
        rule: &BoundRule,
        statement: &Statement,
        row: &Row,
    ) -> std::result::Result<Option<serde_json::Value>, Failure> {
        let found = self.query_rows(rule, statement, std::slice::from_ref(row))?;
        Ok(found.first().map(|row| row.get(0)))
    }

    /// The number that a statement gives for these rows.
    pub(super) fn query_number(
        &mut self,
        rule: &BoundRule,
        statement: &Statement,
        rows: &[Row],
    ) -> std::result::Result<i64, Failure> {
        Ok(self.query_rows(rule, statement, rows)?.first().map_or(0, |row| row.get(0)))
    }

    pub(super) fn query_rows(
        &mut self,
        rule: &BoundRule,
        statement: &Statement,
        rows: &[Row],
    ) -> std::result::Result<Vec<postgres::Row>, Failure> {
        let arrays = statement
            .columns
            .iter()
            .map(|column| TextArray::gather(rows, rule.positions[*column]))
            .collect::<Result<Vec<TextArray<'_>>>>()?;
        let mut params: Vec<&(dyn ToSql + Sync)> =
            arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
        let count = rows.len() as i64;
        if statement.takes_count {
            params.push(&count);
        }
        let prepared = self.prepare(&statement.text)?;
        Ok(self.session.client().query(&prepared, &params)?)
    }

    /// Each statement is prepared once.
    pub(super) fn prepare(
        &mut self,
        text: &str,
    ) -> std::result::Result<postgres::Statement, postgres::Error> {
        if let Some(prepared) = self.statements.get(text) {
            return Ok(prepared.clone());
        }
        self.round_trips += 1;
        let prepared = self.session.client().prepare(text)?;
        self.statements.insert(text.to_owned(), prepared.clone());
        Ok(prepared)
    }
}
