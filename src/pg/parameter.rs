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
