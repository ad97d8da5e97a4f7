//! The text form of a row, `(1,"a ""b""",)`, taken apart.

use bytes::{BufMut, Bytes, BytesMut};

use super::change::Value;

/// The fields of a row's text form; `None` when it is not one. A row without columns looks like one of a single null.
pub fn split(text: &Bytes) -> Option<Vec<Value>> {
    let inner = text.strip_prefix(b"(")?.strip_suffix(b")")?.len();
    let (mut at, end) = (1, 1 + inner);
    let mut fields = Vec::new();
    loop {
        let begin = at;
        let (mut quoted, mut plain) = (false, true);
        while at < end && (quoted || text[at] != b',') {
            match text[at] {
                b'"' => {
                    quoted = !quoted;
                    plain = false;
                }
                b'\\' => {
                    at += 1;
                    plain = false;
                }
                _ => {}
            }
            at += 1;
        }
        if quoted || at > end {
            return None;
        }
        fields.push(match (begin == at, plain) {
            (true, _) => Value::Null,
            (false, true) => Value::Text(text.slice(begin..at)),
            (false, false) => Value::Text(unquote(text, begin, at)),
        });
        if at == end {
            return Some(fields);
        }
        at += 1;
    }
}

/// A field that has quotes or backslashes; one that needs nothing else taken out is not copied.
fn unquote(text: &Bytes, begin: usize, end: usize) -> Bytes {
    let field = &text[begin..end];
    if field.len() >= 2
        && field[0] == b'"'
        && !field[1..field.len() - 1].iter().any(|b| matches!(b, b'"' | b'\\'))
    {
        return text.slice(begin + 1..end - 1);
    }
    let mut out = BytesMut::with_capacity(field.len());
    let (mut quoted, mut at) = (false, 0);
    while at < field.len() {
        match field[at] {
            b'"' if quoted && field.get(at + 1) == Some(&b'"') => {
                out.put_u8(b'"');
                at += 1;
            }
            b'"' => quoted = !quoted,
            b'\\' => {
                at += 1;
                out.extend(field.get(at).copied());
            }
            byte => out.put_u8(byte),
        }
        at += 1;
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Option<Vec<Option<String>>> {
        let value = |value: Value| match value {
            Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Value::Null | Value::Unchanged | Value::Binary(_) => None,
        };
        split(&Bytes::copy_from_slice(text.as_bytes())).map(|fields| fields.into_iter().map(value).collect())
    }

    #[test]
    fn a_row_is_taken_apart_as_the_server_put_it_together() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(fields("(1,a,)"), Some(vec![some("1"), some("a"), None]));
        assert_eq!(fields("(\"\",\" \")"), Some(vec![some(""), some(" ")]));
        assert_eq!(
            fields(r#"("a,b","say ""x""","c:\\d","(1,""{""""}"")",ü)"#),
            Some(vec![some("a,b"), some("say \"x\""), some("c:\\d"), some("(1,\"{\"\"}\")"), some("ü")])
        );
        assert_eq!(fields("()"), Some(vec![None]));
        assert_eq!(fields("(,)"), Some(vec![None, None]));
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for text in ["", "(", "1,2", "(\"a)", "(\\)"] {
            assert_eq!(fields(text), None, "{text:?}");
        }
    }
}
