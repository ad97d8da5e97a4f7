//! A row in the form in which pgoutput sends it: its values behind each other, in memory that is shared.

use std::fmt;

use bytes::Bytes;

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL; in an old row that is not whole, also every column outside of the identity.
    Null,
    /// Stored out of line and not touched by the update: the value is not in the stream.
    Unchanged,
    /// The type's text output.
    Text(&'a [u8]),
    /// What the type sends in binary. A batch holds values of one of both forms only.
    Binary(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value that these bytes begin with, and what is behind it; none where they do not hold one.
    pub(super) fn split_first(bytes: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
        let (kind, rest) = bytes.split_first()?;
        let form = match kind {
            b'n' => return Some((Value::Null, rest)),
            b'u' => return Some((Value::Unchanged, rest)),
            b't' => Value::Text,
            b'b' => Value::Binary,
            _ => return None,
        };
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        Some((form(value), rest))
    }

    /// Its bytes; none without any.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Text(bytes) | Value::Binary(bytes) => bytes,
            Value::Null | Value::Unchanged => &[],
        }
    }
}

/// The values of a row in the order of its relation's columns. A clone shares them: batches are kept until they are applied in one
/// way or another. Rows are equal when all their values are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Row(Bytes);

impl Row {
    /// Of values as pgoutput sends them, which are looked at already.
    pub(super) fn new(values: Bytes) -> Row {
        Row(values)
    }

    /// All its values.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (value, behind) = Value::split_first(rest)?;
            rest = behind;
            Some(value)
        })
    }

    /// The value at a position, which is looked for from the first one on: whoever wants many takes [`Row::values`].
    pub fn value(&self, at: usize) -> Value<'_> {
        self.values().nth(at).expect("a row has the columns of its relation")
    }

    /// Whether the stream left out one of its values.
    pub fn has_unchanged(&self) -> bool {
        self.values().any(|value| value == Value::Unchanged)
    }

    /// What it takes in memory, in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// A row with a copy of these values.
impl<'a> FromIterator<Value<'a>> for Row {
    fn from_iter<I: IntoIterator<Item = Value<'a>>>(values: I) -> Row {
        let values: Vec<Value<'_>> = values.into_iter().collect();
        // No more than that, since a value may be large.
        let mut row = Vec::with_capacity(values.iter().map(|value| 5 + value.bytes().len()).sum());
        for value in values {
            let kind = match value {
                Value::Null => b'n',
                Value::Unchanged => b'u',
                Value::Text(_) => b't',
                Value::Binary(_) => b'b',
            };
            row.push(kind);
            if let Value::Text(bytes) | Value::Binary(bytes) = value {
                row.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                row.extend_from_slice(bytes);
            }
        }
        Row(row.into())
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.values()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_the_values_that_it_was_made_of() {
        let large = vec![b'x'; 70_000];
        let values = [
            Value::Null,
            Value::Text(b"a\0b"),
            Value::Unchanged,
            Value::Text(b""),
            Value::Binary(&large),
            Value::Null,
        ];
        let row = Row::from_iter(values);
        assert_eq!(row.values().collect::<Vec<_>>(), values);
        for (at, value) in values.iter().enumerate() {
            assert_eq!(row.value(at), *value);
        }
        assert!(row.has_unchanged() && !Row::from_iter([Value::Null, Value::Text(b"u")]).has_unchanged());
        assert_eq!(Row::from_iter([]).values().next(), None);
    }

    #[test]
    fn rows_are_equal_when_all_their_values_are() {
        let rows = [
            Row::from_iter([]),
            Row::from_iter([Value::Null]),
            Row::from_iter([Value::Unchanged]),
            Row::from_iter([Value::Text(b"")]),
            Row::from_iter([Value::Binary(b"")]),
            Row::from_iter([Value::Text(b"ab"), Value::Text(b"c")]),
            Row::from_iter([Value::Text(b"a"), Value::Text(b"bc")]),
        ];
        for (at, row) in rows.iter().enumerate() {
            for (other_at, other) in rows.iter().enumerate() {
                assert_eq!(row == other, at == other_at, "{row:?}, {other:?}");
            }
            assert_eq!(row.values().collect::<Row>(), *row);
        }
    }

    #[test]
    fn what_is_no_value_is_none() {
        for bytes in [&b""[..], b"x", b"t", b"t\0\0\0", b"t\0\0\0\x02a", b"b\xff\xff\xff\xffa"] {
            assert_eq!(Value::split_first(bytes), None, "{bytes:?}");
        }
        assert_eq!(Value::split_first(b"t\0\0\0\x01abn"), Some((Value::Text(b"a"), &b"bn"[..])));
    }
}
