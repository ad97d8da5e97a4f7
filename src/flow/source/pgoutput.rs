//! The messages of the server's `pgoutput` plugin, protocol version 1. Borrows; what it does not know is an error.

use bytes::Bytes;

use super::change::{Relation, RelationColumn};
use super::row::{Row, Value};

/// One message of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// 'B': a transaction begins.
    Begin {
        /// LSN of its commit record.
        final_lsn: u64,
        /// Its top-level xid, 32 bits of it.
        xid: u32,
    },
    /// 'C': the transaction ends.
    Commit {
        /// LSN after its commit record: the position to resume from.
        end_lsn: u64,
        /// When it was committed, by the server's clock, in microseconds since 2000-01-01 UTC.
        committed_at: i64,
    },
    /// 'O': the transaction was itself replicated from elsewhere.
    Origin {
        /// Name of the replication origin.
        name: &'a str,
    },
    /// 'M': written by `pg_logical_emit_message()`; its content is of no interest.
    Logical {
        /// It belongs to the transaction that it comes in; else it comes between transactions.
        transactional: bool,
        /// Says whose it is.
        prefix: &'a str,
    },
    /// 'R': describes a table before the first row of it.
    Relation(Relation),
    /// 'Y': describes a type; the names in the catalog serve us better.
    Type,
    /// 'I'.
    Insert {
        /// Relation's oid.
        relation: u32,
        /// The new row.
        new: Tuple<'a>,
    },
    /// 'U'.
    Update {
        /// Relation's oid.
        relation: u32,
        /// 'K': the identity's old values, or 'O': the whole old row.
        old: Option<Tuple<'a>>,
        /// The new row.
        new: Tuple<'a>,
    },
    /// 'D'.
    Delete {
        /// Relation's oid.
        relation: u32,
        /// The identity's values, or the whole row.
        old: Tuple<'a>,
    },
    /// 'T'.
    Truncate {
        /// Relations' oids.
        relations: Vec<u32>,
    },
}

/// The values of one row, checked when it was decoded, read when they are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    data: &'a [u8],
}

impl Tuple<'_> {
    /// How many columns it has.
    pub fn columns(&self) -> usize {
        usize::from(self.columns)
    }

    /// The row as a slice of `body`, the message that this was decoded from: nothing is copied.
    pub fn to_row(self, body: &Bytes) -> Row {
        Row::new(body.slice_ref(self.data))
    }
}

/// A message that protocol version 1 does not allow.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    /// The message ends before its last field.
    #[error("message \"{kind}\" is too short")]
    Short {
        /// First byte of the message.
        kind: char,
    },
    /// Bytes are left after the last field.
    #[error("message \"{kind}\" is longer than it should be by {extra} bytes")]
    Long {
        /// First byte of the message.
        kind: char,
        /// How many are left.
        extra: usize,
    },
    /// A byte that says what follows has no meaning here.
    #[error("message \"{kind}\" has an unknown {what} \"{byte}\"")]
    Unknown {
        /// First byte of the message.
        kind: char,
        /// What it should say.
        what: &'static str,
        /// The byte.
        byte: char,
    },
    /// A name is not UTF-8.
    #[error("message \"{kind}\" has a name that is not UTF-8")]
    NotUtf8 {
        /// First byte of the message.
        kind: char,
    },
}

/// Why a field could not be read; `decode` adds in which message.
enum Bad {
    Short,
    Unknown(&'static str, u8),
    NotUtf8,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Bad::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Bad::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Bad> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Bad> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn name(&mut self) -> Result<&'a str, Bad> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(Bad::Short)?;
        let name = std::str::from_utf8(self.take(end)?).map_err(|_| Bad::NotUtf8)?;
        self.u8()?;
        Ok(name)
    }

    fn value(&mut self) -> Result<Value<'a>, Bad> {
        let (value, rest) = Value::split_first(self.rest).ok_or_else(|| match self.rest.first() {
            None | Some(b'n' | b'u' | b't' | b'b') => Bad::Short,
            Some(other) => Bad::Unknown("kind of value", *other),
        })?;
        self.rest = rest;
        Ok(value)
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Bad> {
        let columns = self.u16()?;
        let from = self.rest;
        for _ in 0..columns {
            self.value()?;
        }
        Ok(Tuple { columns, data: &from[..from.len() - self.rest.len()] })
    }

    fn tuple_marked(&mut self, marks: &[u8]) -> Result<Tuple<'a>, Bad> {
        match self.u8()? {
            mark if marks.contains(&mark) => self.tuple(),
            other => Err(Bad::Unknown("kind of row", other)),
        }
    }

    fn relation(&mut self) -> Result<Relation, Bad> {
        let id = self.u32()?;
        let schema = match self.name()? {
            // The protocol's way to say pg_catalog.
            "" => "pg_catalog",
            schema => schema,
        };
        let name = self.name()?;
        let full = match self.u8()? {
            b'f' => true,
            b'd' | b'n' | b'i' => false,
            other => return Err(Bad::Unknown("replica identity", other)),
        };
        let count = self.u16()?;
        let mut columns = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let key = self.u8()? & 1 != 0;
            let name = self.name()?.to_owned();
            let type_oid = self.u32()?;
            self.u32()?; // type modifier
            columns.push(RelationColumn { name, type_oid, key });
        }
        Ok(Relation { id, schema: schema.to_owned(), name: name.to_owned(), full, columns })
    }

    fn message(&mut self) -> Result<Message<'a>, Bad> {
        Ok(match self.u8()? {
            b'B' => {
                let final_lsn = self.u64()?;
                self.u64()?; // commit time
                Message::Begin { final_lsn, xid: self.u32()? }
            }
            b'C' => {
                self.u8()?; // flags, none defined
                self.u64()?; // start of the commit record
                let end_lsn = self.u64()?;
                Message::Commit { end_lsn, committed_at: self.u64()? as i64 }
            }
            b'O' => {
                self.u64()?; // commit position on the origin
                Message::Origin { name: self.name()? }
            }
            b'M' => {
                let transactional = self.u8()? & 1 != 0;
                self.u64()?; // position
                let prefix = self.name()?;
                let length = self.u32()? as usize;
                self.take(length)?;
                Message::Logical { transactional, prefix }
            }
            b'R' => Message::Relation(self.relation()?),
            b'Y' => {
                self.u32()?;
                self.name()?;
                self.name()?;
                Message::Type
            }
            b'I' => Message::Insert { relation: self.u32()?, new: self.tuple_marked(b"N")? },
            b'U' => {
                let relation = self.u32()?;
                match self.u8()? {
                    b'K' | b'O' => {
                        let old = self.tuple()?;
                        Message::Update { relation, old: Some(old), new: self.tuple_marked(b"N")? }
                    }
                    b'N' => Message::Update { relation, old: None, new: self.tuple()? },
                    other => return Err(Bad::Unknown("kind of row", other)),
                }
            }
            b'D' => Message::Delete { relation: self.u32()?, old: self.tuple_marked(b"KO")? },
            b'T' => {
                let count = self.u32()?;
                self.u8()?; // CASCADE is spelled out in the list; identities are not restarted
                let relations = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
                Message::Truncate { relations }
            }
            other => return Err(Bad::Unknown("kind", other)),
        })
    }
}

/// Reads one message.
pub fn decode(body: &[u8]) -> Result<Message<'_>, Malformed> {
    let kind = body.first().copied().map_or('?', char::from);
    let mut reader = Reader { rest: body };
    let message = reader.message().map_err(|bad| match bad {
        Bad::Short => Malformed::Short { kind },
        Bad::Unknown(what, byte) => Malformed::Unknown { kind, what, byte: char::from(byte) },
        Bad::NotUtf8 => Malformed::NotUtf8 { kind },
    })?;
    match reader.rest.len() {
        0 => Ok(message),
        extra => Err(Malformed::Long { kind, extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Vec<u8> {
        let mut bytes = vec![b't'];
        bytes.extend((value.len() as u32).to_be_bytes());
        bytes.extend(value.as_bytes());
        bytes
    }

    fn tuple(values: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = (values.len() as u16).to_be_bytes().to_vec();
        bytes.extend(values.concat());
        bytes
    }

    fn row(body: &[u8], pick: impl for<'a> Fn(Message<'a>) -> Tuple<'a>) -> Row {
        let body = Bytes::copy_from_slice(body);
        pick(decode(&body).unwrap()).to_row(&body)
    }

    #[test]
    fn begin_and_commit_carry_xid_and_end() {
        let begin =
            [b"B".as_slice(), &7u64.to_be_bytes(), &1u64.to_be_bytes(), &42u32.to_be_bytes()].concat();
        assert_eq!(decode(&begin), Ok(Message::Begin { final_lsn: 7, xid: 42 }));
        let commit =
            [b"C\0".as_slice(), &7u64.to_be_bytes(), &9u64.to_be_bytes(), &1u64.to_be_bytes()].concat();
        assert_eq!(decode(&commit), Ok(Message::Commit { end_lsn: 9, committed_at: 1 }));
        assert_eq!(decode(&commit[..20]), Err(Malformed::Short { kind: 'C' }));
        let long = [commit.as_slice(), b"x"].concat();
        assert_eq!(decode(&long), Err(Malformed::Long { kind: 'C', extra: 1 }));
    }

    #[test]
    fn relation_says_columns_and_identity() {
        let mut body = b"R".to_vec();
        body.extend(5u32.to_be_bytes());
        body.extend(b"public\0orders\0f\0\x02");
        body.extend(b"\x01id\0");
        body.extend([20u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat());
        body.extend(b"\0note\0");
        body.extend([25u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat());
        let column = |name: &str, type_oid, key| RelationColumn { name: name.into(), type_oid, key };
        let expected = Relation {
            id: 5,
            schema: "public".into(),
            name: "orders".into(),
            full: true,
            columns: vec![column("id", 20, true), column("note", 25, false)],
        };
        assert_eq!(decode(&body), Ok(Message::Relation(expected)));
    }

    #[test]
    fn rows_hold_null_unchanged_and_text() {
        let new = tuple(&[text("1"), b"n".to_vec(), b"u".to_vec(), text("")]);
        let insert = [b"I\0\0\0\x05N".as_slice(), &new].concat();
        let expected = [Value::Text(b"1"), Value::Null, Value::Unchanged, Value::Text(b"")];
        let new_of = |message: Message<'_>| match message {
            Message::Insert { relation: 5, new } => Ok(new.columns()),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(new_of(decode(&insert).unwrap()), Ok(4));
        let row = row(&insert, |message| match message {
            Message::Insert { new, .. } => new,
            _ => panic!("not an insert"),
        });
        assert_eq!(row, Row::from_iter(expected));
    }

    #[test]
    fn updates_carry_an_old_row_or_none() {
        let old = tuple(&[text("1")]);
        let new = tuple(&[text("2")]);
        for mark in [b"K", b"O"] {
            let update = [b"U\0\0\0\x05".as_slice(), mark, &old, b"N", &new].concat();
            let old = row(&update, |message| match message {
                Message::Update { old: Some(old), .. } => old,
                _ => panic!("no old row"),
            });
            assert_eq!(old, Row::from_iter([Value::Text(b"1")]));
        }
        let update = [b"U\0\0\0\x05N".as_slice(), &new].concat();
        assert!(matches!(decode(&update), Ok(Message::Update { old: None, .. })));
        let delete = [b"D\0\0\0\x05K".as_slice(), &old].concat();
        assert!(matches!(decode(&delete), Ok(Message::Delete { relation: 5, .. })));
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        let unknown = |kind, what, byte| Err(Malformed::Unknown { kind, what, byte });
        assert_eq!(decode(b"S\0"), unknown('S', "kind", 'S'));
        assert_eq!(decode(b""), Err(Malformed::Short { kind: '?' }));
        assert_eq!(decode(b"I\0\0\0\x05K\0\0"), unknown('I', "kind of row", 'K'));
        let odd = b"I\0\0\0\x05N\0\x01c\0\0\0\x01x";
        assert_eq!(decode(odd), unknown('I', "kind of value", 'c'));
        assert_eq!(decode(b"D\0\0\0\x05K\0\x01t\0\0\0\x09x"), Err(Malformed::Short { kind: 'D' }));
        assert_eq!(
            decode(b"T\0\0\0\x02\0\0\0\0\x05\0\0\0\x06"),
            Ok(Message::Truncate { relations: vec![5, 6] })
        );
        assert_eq!(decode(b"O\0\0\0\0\0\0\0\x01other\0"), Ok(Message::Origin { name: "other" }));
        assert_eq!(
            decode(b"M\x01\0\0\0\0\0\0\0\x01mine\0\0\0\0\x01x"),
            Ok(Message::Logical { transactional: true, prefix: "mine" })
        );
        assert_eq!(decode(b"Y\0\0\0\x01s\0t\0"), Ok(Message::Type));
    }
}
