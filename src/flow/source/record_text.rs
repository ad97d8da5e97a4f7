//! The text form of a row, `(1,"a ""b""",)`, taken apart.

use std::borrow::Cow;

/// The fields of a row's text form, `None` for a null; `None` when it is not one. A row without columns looks like one of a single null.
pub fn split(text: &str) -> Option<Vec<Option<Cow<'_, [u8]>>>> {
    let text = text.as_bytes();
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
            (true, _) => None,
            (false, true) => Some(Cow::Borrowed(&text[begin..at])),
            (false, false) => Some(unquote(&text[begin..at])),
        });
        if at == end {
            return Some(fields);
        }
        at += 1;
    }
}

/// A field that has quotes or backslashes; one that needs nothing else taken out is not copied.
fn unquote(field: &[u8]) -> Cow<'_, [u8]> {
    if field.len() >= 2
        && field[0] == b'"'
        && !field[1..field.len() - 1].iter().any(|b| matches!(b, b'"' | b'\\'))
    {
        return Cow::Borrowed(&field[1..field.len() - 1]);
    }
    let mut out = Vec::with_capacity(field.len());
    let (mut quoted, mut at) = (false, 0);
    while at < field.len() {
        match field[at] {
            b'"' if quoted && field.get(at + 1) == Some(&b'"') => {
                out.push(b'"');
                at += 1;
            }
            b'"' => quoted = !quoted,
            b'\\' => {
                at += 1;
                out.extend(field.get(at).copied());
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Option<Vec<Option<String>>> {
        let value = |field: Option<Cow<'_, [u8]>>| field.map(|text| String::from_utf8(text.into()).unwrap());
        split(text).map(|fields| fields.into_iter().map(value).collect())
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
