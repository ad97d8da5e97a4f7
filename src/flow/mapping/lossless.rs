//! Whether a change of type keeps every value, and whether everybody makes the same of it.

use crate::pg::catalog::Column;

/// Whether every value of one column has a place of its own in another. A domain holds no other values than the type that it is over.
pub fn keeps_values(old: &Column, new: &Column) -> bool {
    let held = old.base_type.as_ref().unwrap_or(&old.type_name);
    old.type_name == new.type_name || is_lossless(held, &new.type_name)
}

/// Whether it depends on the settings of the sessions that write and read it what a value of one column, sent as text, is in another.
pub fn depends_on_settings(old: &Column, new: &Column) -> bool {
    let (from, to) = (kind_of(old), kind_of(new));
    // Its zone, its form or its currency is the writer's choice; what lacks one gets the reader's.
    let is_written_by_choice = |kind: &str| ["timestamp with time zone", "bytea", "money"].contains(&kind);
    let is_read_by_choice =
        |kind: &str| ["timestamp with time zone", "time with time zone", "money"].contains(&kind);
    let is_text = |kind: &str| ["text", "character varying", "character"].contains(&kind);
    let has_forms = |kind: &str| ["date", "timestamp without time zone", "interval"].contains(&kind);
    from != to && (is_written_by_choice(&from) || is_read_by_choice(&to) || is_text(&from) && has_forms(&to))
}

/// The type of a column's values, or of their elements, without its size: `timestamp with time zone` of `timestamp(3) with time zone[]`.
fn kind_of(column: &Column) -> String {
    let held = column.base_type.as_ref().unwrap_or(&column.type_name).trim_end_matches("[]");
    match held.split_once('(').and_then(|(base, rest)| Some((base, rest.split_once(')')?.1))) {
        Some((base, rest)) => format!("{base}{rest}"),
        None => held.to_owned(),
    }
}

/// Whether every value of one type has a place of its own in another.
fn is_lossless(from: &str, to: &str) -> bool {
    if from == to {
        return true;
    }
    let (base, size) = split_type(from);
    let (new_base, new_size) = split_type(to);
    let rank = |name: &str| ["smallint", "integer", "bigint"].iter().position(|known| *known == name);
    match (base, new_base) {
        ("character varying", "character varying") => match (size, new_size) {
            (_, None) => true,
            (Some(old), Some(new)) => old.parse::<u64>().ok() <= new.parse::<u64>().ok(),
            (None, Some(_)) => false,
        },
        ("character", "text" | "character varying") => false,
        ("numeric" | "smallint" | "integer" | "bigint", "numeric") => {
            new_size.is_none() || has_digits_for(digits(base, size), digits(new_base, new_size))
        }
        // The text output of every type is read back as the same value.
        (_, "text")
        | ("real" | "smallint" | "integer", "double precision")
        | ("smallint", "real")
        | ("date", "timestamp without time zone")
        | ("jsonb", "json")
        | ("cidr", "inet") => true,
        _ => match (rank(base), rank(new_base)) {
            (Some(old), Some(new)) => old <= new,
            _ => false,
        },
    }
}

/// Digits before and behind the point of a type's largest value; `None`: any number.
fn digits(base: &str, size: Option<&str>) -> Option<(i64, i64)> {
    match base {
        "smallint" => Some((5, 0)),
        "integer" => Some((10, 0)),
        "bigint" => Some((19, 0)),
        _ => {
            let (precision, scale) = size?.split_once(',')?;
            let (precision, scale): (i64, i64) = (precision.parse().ok()?, scale.parse().ok()?);
            Some((precision - scale, scale))
        }
    }
}

fn has_digits_for(old: Option<(i64, i64)>, new: Option<(i64, i64)>) -> bool {
    old.zip(new).is_some_and(|(old, new)| old.0 <= new.0 && old.1 <= new.1)
}

/// `character varying` and `40` of `character varying(40)`.
fn split_type(name: &str) -> (&str, Option<&str>) {
    match name.split_once('(') {
        Some((base, rest)) if rest.ends_with(')') => (base, rest.strip_suffix(')')),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{depends_on_settings, is_lossless};
    use crate::pg::catalog::Column;

    #[test]
    fn types_lose_values_or_do_not() {
        for (from, to, lossless) in [
            ("integer", "bigint", true),
            ("bigint", "integer", false),
            ("character varying(40)", "character varying(50)", true),
            ("character varying(40)", "character varying(9)", false),
            ("character varying", "character varying(9)", false),
            ("character varying(9)", "text", true),
            ("character(9)", "text", false),
            ("json", "jsonb", false),
            ("timestamp without time zone", "timestamp with time zone", false),
            ("bigint", "double precision", false),
            ("integer", "numeric", true),
            ("integer", "numeric(3,0)", false),
            ("integer", "numeric(10,0)", true),
            ("bigint", "numeric(20,2)", false),
            ("numeric(10,2)", "numeric(12,3)", true),
            ("numeric(10,2)", "numeric(10,3)", false),
            ("numeric(12,3)", "numeric(12,2)", false),
            ("numeric", "numeric(12,3)", false),
            ("public.mood", "text", true),
        ] {
            assert_eq!(is_lossless(from, to), lossless, "{from} to {to}");
        }
    }

    #[test]
    fn what_a_value_becomes_is_a_matter_of_settings_or_not() {
        let column = |type_name: &str| Column {
            name: "c".into(),
            number: 1,
            type_name: type_name.into(),
            type_oid: 0,
            base_type: None,
            not_null: false,
            generation: None,
            identity: false,
            toastable: false,
            labels: Vec::new(),
            equality: None,
        };
        for (from, to, depends) in [
            ("timestamp without time zone", "timestamp with time zone", true),
            ("timestamp(3) with time zone", "timestamp(3) without time zone", true),
            ("timestamp(3) with time zone", "timestamp with time zone", false),
            ("date", "timestamp without time zone", false),
            ("date[]", "timestamp with time zone[]", true),
            ("text", "date", true),
            ("interval", "text", false),
            ("bytea", "text", true),
            ("integer", "bigint", false),
        ] {
            assert_eq!(depends_on_settings(&column(from), &column(to)), depends, "{from} to {to}");
        }
    }
}
