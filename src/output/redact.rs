//! The last guard: no password leaves this process, whatever text it is hidden in.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

/// Conninfo settings and URI parameters (quoted for libpq, quoted once more for SQL, or bare: then all up to the next
/// space, since nothing tells where a bare one ends), SQL's PASSWORD clause, and the password in a URI.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        (?<setting> \b\w*pass(?:word|phrase)\s*=\s* )
            (?: ''[^']+'' | '(?:[^'\\]|\\.|'')*' | \S+ )
        | (?<clause> \bpassword\s+ ) E?'(?:[^'\\]|\\.|'')*'
        | (?<user> \bpostgres(?:ql)?://[^\s:@/]*: ) [^\s@]*@
        ",
    )
    .expect("the expression is fixed, and a test uses it")
});

/// `text` with every password replaced by `***`.
pub fn redact(text: &str) -> String {
    SECRET
        .replace_all(text, |found: &Captures| {
            match (found.name("setting"), found.name("clause"), found.name("user")) {
                (Some(setting), _, _) => format!("{}***", setting.as_str()),
                (_, Some(clause), _) => format!("{}'***'", clause.as_str()),
                (_, _, Some(user)) => format!("{}***@", user.as_str()),
                _ => "***".into(),
            }
        })
        .into_owned()
}

/// Every string in `value` through `redact`.
pub fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            let redacted = redact(text);
            if redacted != *text {
                *text = redacted;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_value),
        Value::Object(fields) => fields.values_mut().for_each(redact_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_connection_strings_are_hidden() {
        for (text, hidden) in [
            ("host=a password=geheim user=b", "host=a password=*** user=b"),
            ("host=a PASSWORD = geheim", "host=a PASSWORD = ***"),
            ("password='ge heim\\'s' user=b", "password=*** user=b"),
            ("sslpassword=geheim", "sslpassword=***"),
            ("postgresql://dba:geheim@db1:5432/shop", "postgresql://dba:***@db1:5432/shop"),
            ("postgres://dba:ge/h:eim@db1/shop", "postgres://dba:***@db1/shop"),
            ("postgresql://db1/shop?password=geheim&user=x", "postgresql://db1/shop?password=***"),
            ("PGPASSWORD=geheim pg_dump", "PGPASSWORD=*** pg_dump"),
            ("target = \"host=a password=geheim\" there", "target = \"host=a password=*** there"),
        ] {
            assert_eq!(redact(text), hidden);
        }
    }

    #[test]
    fn passwords_within_statements_are_hidden() {
        for (text, hidden) in [
            ("create role a password 'ge''heim' login", "create role a password '***' login"),
            (
                "create subscription s connection 'host=a password=geheim' publication p",
                "create subscription s connection 'host=a password=*** publication p",
            ),
            (
                "create subscription s connection 'host=a password=''ge heim''' publication p",
                "create subscription s connection 'host=a password=***' publication p",
            ),
        ] {
            assert_eq!(redact(text), hidden);
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "password authentication failed for user \"dba\"",
            "postgresql://dba@db1:5432/shop",
            "no password supplied",
            "see https://example.org/a:b@c",
            "passfile=/home/dba/.pgpass",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_report_is_searched_to_its_leaves() {
        let mut value = serde_json::json!({"a": ["password=x", {"b": "password=y"}], "c": 1});
        redact_value(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["password=***", {"b": "password=***"}], "c": 1}));
    }
}
