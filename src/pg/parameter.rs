//! Parameters of statements that know their types, so that nobody has to ask the server for them first.

use postgres::types::{PgLsn, ToSql, Type};

/// A value for `$1`. As its type goes with it, a statement takes one round trip, where one that is prepared first takes two;
/// PostgreSQL takes the type for granted and converts the value where another is wanted, as it does for an expression.
pub trait Parameter: ToSql + Sync {
    /// The type as which it is sent.
    fn sql_type(&self) -> Type;

    /// What it holds.
    fn value(&self) -> &(dyn ToSql + Sync);
}

impl<T: Typed + ToSql + Sync> Parameter for T {
    fn sql_type(&self) -> Type {
        T::TYPE
    }

    fn value(&self) -> &(dyn ToSql + Sync) {
        self
    }
}

/// A type of Rust's that always is sent as the same one of PostgreSQL's.
pub trait Typed {
    /// Of one value.
    const TYPE: Type;
    /// Of an array of them.
    const ARRAY: Type;
    /// Of an array of such arrays: PostgreSQL has no other type for it, but for bytes, whose arrays are values.
    const ARRAYS: Type = Self::ARRAY;
}

macro_rules! typed {
    ($($rust:ty: $type:ident, $array:ident;)*) => {
        $(impl Typed for $rust {
            const TYPE: Type = Type::$type;
            const ARRAY: Type = Type::$array;
        })*
    };
}

typed! {
    bool: BOOL, BOOL_ARRAY;
    i16: INT2, INT2_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    u32: OID, OID_ARRAY;
    f64: FLOAT8, FLOAT8_ARRAY;
    str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    PgLsn: PG_LSN, PG_LSN_ARRAY;
    serde_json::Value: JSONB, JSONB_ARRAY;
}

impl Typed for u8 {
    const TYPE: Type = Type::CHAR;
    const ARRAY: Type = Type::BYTEA;
    const ARRAYS: Type = Type::BYTEA_ARRAY;
}

impl<T: Typed + ?Sized> Typed for &T {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
    const ARRAYS: Type = T::ARRAYS;
}

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Typed> Typed for [T] {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAYS;
}

impl<T: Typed> Typed for Vec<T> {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAYS;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::test_server::TestServer;
    use crate::phase::Side;
    use crate::sql::Sql;

    #[test]
    fn every_value_goes_as_its_type_also_when_its_statement_is_prepared() {
        let test = TestServer::start("");
        let mut session = test.server(Side::Source).connect().expect("it answers");
        let bytes = [vec![0_u8, 255], vec![]];
        let values: [(&dyn Parameter, &str, &str); 14] = [
            (&true, "boolean", "true"),
            (&7_i16, "smallint", "7"),
            (&7_i32, "integer", "7"),
            (&i64::MIN, "bigint", "-9223372036854775808"),
            (&u32::MAX, "oid", "4294967295"),
            (&0.5_f64, "double precision", "0.5"),
            (&"it's", "text", "it's"),
            (&Some("x".to_owned()), "text", "x"),
            (&PgLsn::from(0x1_0000_00ff), "pg_lsn", "1/FF"),
            (&serde_json::json!({"a": [1, null]}), "jsonb", r#"{"a": [1, null]}"#),
            (&vec![Some("a"), None], "text[]", "{a,NULL}"),
            (&[1_i64, 2].as_slice(), "bigint[]", "{1,2}"),
            (&bytes[0], "bytea", r"\x00ff"),
            (&bytes.to_vec(), "bytea[]", r#"{"\\x00ff","\\x"}"#),
        ];
        for (value, kind, text) in values {
            let question = "select pg_catalog.pg_typeof($1)::text, $1::text";
            let row = &session.query_text(question, &[value]).expect("it is understood")[0];
            assert_eq!((row.get(0), row.get(1)), (kind, text));
        }

        let often = Sql {
            name: "double",
            text: "select 2 * $1::int4, (select count(*) from pg_prepared_statements)",
        };
        let prepared: Vec<i64> = (1..=5)
            .map(|value| {
                let row = session.query_one(&often, &[&value]).expect("it is understood");
                assert_eq!(row.get::<_, i32>(0), 2 * value);
                row.get(1)
            })
            .collect();
        assert_eq!(prepared, [0, 0, 0, 1, 1], "what is run again and again is planned once");
    }
}
