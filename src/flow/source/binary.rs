//! Values in the binary form of their types, which servers make and read with less work than text: of which types, and what becomes of
//! a flow whose changes do not go that way.

use std::collections::HashSet;

use crate::error::Error;
use crate::flow::mapping::OldColumn;
use crate::pg::catalog::objects::are_intervals_alike;

const KIND: &str = "not_in_binary";
/// `interval` and `interval[]`.
const INTERVALS: [u32; 2] = [1186, 1187];
const UUID: u32 = 2950;
const TEXT: u32 = 25;
const TIMESTAMPTZ: u32 = 1184;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// The Julian day of 2000-01-01, where the server's time begins.
const FIRST_DAY: i64 = 2_451_545;

/// Types of every server, by oid and by name, that send equal values as equal bytes and read what another major sent; for
/// intervals, see [`Portable`].
const TYPES: &[(u32, &str)] = &[
    (16, "boolean"),
    (17, "bytea"),
    (18, "\"char\""),
    (19, "name"),
    (20, "bigint"),
    (21, "smallint"),
    (23, "integer"),
    (TEXT, "text"),
    (26, "oid"),
    (114, "json"),
    (199, "json[]"),
    (600, "point"),
    (601, "lseg"),
    (602, "path"),
    (603, "box"),
    (604, "polygon"),
    (628, "line"),
    (650, "cidr"),
    (651, "cidr[]"),
    (700, "real"),
    (701, "double precision"),
    (718, "circle"),
    (774, "macaddr8"),
    (790, "money"),
    (829, "macaddr"),
    (869, "inet"),
    (1000, "boolean[]"),
    (1001, "bytea[]"),
    (1005, "smallint[]"),
    (1007, "integer[]"),
    (1009, "text[]"),
    (1014, "character[]"),
    (1015, "character varying[]"),
    (1016, "bigint[]"),
    (1021, "real[]"),
    (1022, "double precision[]"),
    (1028, "oid[]"),
    (1041, "inet[]"),
    (1042, "character"),
    (1043, "character varying"),
    (1082, "date"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1115, "timestamp without time zone[]"),
    (1182, "date[]"),
    (TIMESTAMPTZ, "timestamp with time zone"),
    (1185, "timestamp with time zone[]"),
    (1186, "interval"),
    (1187, "interval[]"),
    (1231, "numeric[]"),
    (1266, "time with time zone"),
    (1560, "bit"),
    (1562, "bit varying"),
    (1700, "numeric"),
    (UUID, "uuid"),
    (2951, "uuid[]"),
    (3220, "pg_lsn"),
    (3614, "tsvector"),
    (3802, "jsonb"),
    (3807, "jsonb[]"),
    (3904, "int4range"),
    (3906, "numrange"),
    (3908, "tsrange"),
    (3910, "tstzrange"),
    (3912, "daterange"),
    (3926, "int8range"),
    (4451, "int4multirange"),
    (4532, "nummultirange"),
    (4533, "tsmultirange"),
    (4534, "tstzmultirange"),
    (4535, "datemultirange"),
    (4536, "int8multirange"),
];

/// What may go in binary between two servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portable {
    enums: HashSet<u32>,
    intervals: bool,
}

impl Portable {
    /// Between servers of these versions, where these types of the one that sends are enums.
    pub fn between(from: i32, to: i32, enums: HashSet<u32>) -> Portable {
        Portable { enums, intervals: are_intervals_alike(from, to) }
    }

    /// Whether values of this type may.
    pub(super) fn has(&self, type_oid: u32) -> bool {
        let is_alike = self.intervals || !INTERVALS.contains(&type_oid);
        is_alike && TYPES.iter().any(|(oid, _)| *oid == type_oid) || self.enums.contains(&type_oid)
    }
}

/// Whether `column`, where it is staged, takes what a type of this oid sends.
pub fn is_sent_to(type_oid: u32, column: &OldColumn) -> bool {
    let stage_type = column.stage_type.as_str();
    let bare = match stage_type.split_once('(') {
        Some((name, rest)) => format!("{name}{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => stage_type.to_owned(),
    };
    TYPES.iter().any(|(oid, name)| *oid == type_oid && *name == bare) || column.enum_oid == Some(type_oid)
}

/// What the types of our own markers send, as text.
pub(super) fn text_of(type_oid: u32, sent: &[u8]) -> Option<String> {
    match type_oid {
        TEXT => Some(String::from_utf8_lossy(sent).into_owned()),
        UUID => {
            let hex = format!("{:032x}", u128::from_be_bytes(sent.try_into().ok()?));
            let part = |range| hex.get(range);
            Some([part(0..8)?, part(8..12)?, part(12..16)?, part(16..20)?, part(20..32)?].join("-"))
        }
        TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(sent.try_into().ok()?);
            let (day, seconds) = (FIRST_DAY + micros.div_euclid(DAY), micros.rem_euclid(DAY) / 1_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let (seconds, micros) = (seconds % 60, micros.rem_euclid(1_000_000));
            Some(format!("J{day} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}+00"))
        }
        _ => None,
    }
}

/// What was read in binary cannot be applied as it is: it has to be read as text.
pub fn misfit() -> Error {
    Error::Conflict {
        kind: KIND,
        sqlstate: None,
        message: "the changes do not go in binary form".to_owned(),
        detail: None,
        hint: "Run the same command again.".to_owned(),
    }
}

/// Whether an error is a [`misfit`].
pub fn is_misfit(error: &Error) -> bool {
    matches!(error, Error::Conflict { kind: KIND, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_taken_by_columns_of_the_same_type_alone() {
        let column = |stage_type: &str, enum_oid| OldColumn {
            equality: None,
            name: "c".to_owned(),
            publisher_type: stage_type.to_owned(),
            stage_type: stage_type.to_owned(),
            enum_oid,
        };
        let is_taken = |type_oid, stage_type| is_sent_to(type_oid, &column(stage_type, None));
        assert!(is_taken(1700, "numeric(12,2)") && is_taken(1184, "timestamp(3) with time zone"));
        assert!(is_taken(1042, "character(84)") && is_taken(TEXT, "text"));
        assert!(!is_taken(20, "timestamp with time zone"), "as many bytes, but of something else");
        let is_known = |type_oid, enums| Portable::between(150_000, 150_000, enums).has(type_oid);
        assert!(!is_taken(99_999, "public.mood") && !is_known(99_999, HashSet::new()));
        let mood = column("public.mood", Some(99_999));
        assert!(is_sent_to(99_999, &mood) && is_known(99_999, HashSet::from([99_999])));
        assert!(!is_sent_to(20, &mood), "another type when it was written");
    }

    #[test]
    fn intervals_go_in_binary_where_both_servers_know_infinite_ones_or_neither_does() {
        for (from, to, alike) in
            [(160_004, 140_011, true), (180_000, 170_001, true), (180_000, 160_004, false)]
        {
            for (from, to) in [(from, to), (to, from)] {
                let portable = Portable::between(from, to, HashSet::new());
                assert_eq!((portable.has(1186), portable.has(1187)), (alike, alike), "{from} to {to}");
                assert!(portable.has(TEXT));
            }
        }
    }

    #[test]
    fn markers_are_read() {
        let uuid: Vec<u8> = (0..16).collect();
        assert_eq!(text_of(UUID, &uuid).as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        let before = (-1i64).to_be_bytes();
        assert_eq!(text_of(TIMESTAMPTZ, &before).as_deref(), Some("J2451544 23:59:59.999999+00"));
        assert_eq!(text_of(TIMESTAMPTZ, b"short"), None);
    }
}
