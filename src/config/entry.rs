//! The value of an entry of `PgBouncer`'s `[databases]`, such as `host=db2 dbname=shop`.

use std::ops::Range;

/// The pairs of an entry's value, by `PgBouncer`'s rules, each with the value's place in the text; an error says what it would reject.
pub fn pairs(value: &str) -> Result<Vec<(String, String, Range<usize>)>, String> {
    let bytes = value.as_bytes();
    let skip_space = |mut at: usize| {
        while bytes.get(at) == Some(&b' ') {
            at += 1;
        }
        at
    };
    let mut found = Vec::new();
    let mut at = skip_space(0);
    while at < bytes.len() {
        let key_start = at;
        while bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            at += 1;
        }
        let key = &value[key_start..at];
        at = skip_space(at);
        if key.is_empty() || bytes.get(at) != Some(&b'=') {
            return Err(match key {
                "" => "something that is not a key".into(),
                key => format!("\"{key}\" without \"=\""),
            });
        }
        at = skip_space(at + 1);
        let start = at;
        let mut text = Vec::new();
        if bytes.get(at) == Some(&b'\'') {
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (None, _) => return Err(format!("\"{key}\" without closing quote")),
                    (Some(b'\''), Some(b'\'')) => at += 1,
                    (Some(b'\''), _) => break,
                    _ => {}
                }
                text.push(bytes[at]);
                at += 1;
            }
            at += 1;
            // Behind a closing quote PgBouncer drops one character, whatever it is.
            if bytes.get(at).is_some_and(|byte| *byte != b' ') {
                return Err(format!("no space behind the value of \"{key}\""));
            }
        } else {
            while bytes.get(at).is_some_and(|byte| *byte != b' ') {
                text.push(bytes[at]);
                at += 1;
            }
        }
        if text.is_empty() {
            return Err(format!("\"{key}\" without a value"));
        }
        let text = String::from_utf8(text).map_err(|_| format!("\"{key}\" is not UTF-8"))?;
        found.push((key.to_owned(), text, start..at));
        at = skip_space(at);
    }
    Ok(found)
}

/// What an entry's value says of one key; None when it does not name it, or is malformed.
pub fn value_of(value: &str, key: &str) -> Option<String> {
    pairs(value).ok()?.into_iter().find(|(name, ..)| name == key).map(|(_, text, _)| text)
}
