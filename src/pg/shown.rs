//! Statements as a dry run shows them: without our comments, with their parameters as people write values.

use std::fmt::Write as _;

use crate::pg::parameter::Parameter;

/// The statement without the comments on top, which explain it to those who read the file.
pub fn strip_comments(text: &str) -> String {
    let lines = text.trim().lines().skip_while(|line| line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The statement, each parameter in a comment below it.
pub fn with_parameters(text: &str, params: &[&dyn Parameter]) -> String {
    let mut shown = strip_comments(text);
    for (index, value) in params.iter().enumerate() {
        let _ = write!(shown, "\n  -- ${} = {}", index + 1, plain(&format!("{value:?}")));
    }
    shown
}

/// What Rust shows of a value, without the names of Rust's types: `["a", null]` of `[Some("a"), None]`.
fn plain(debug: &str) -> String {
    let mut out = String::new();
    // Whether each parenthesis that is open is to be shown.
    let mut open = Vec::new();
    let mut rest = debug;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => quoted_length(rest),
            c if c.is_alphabetic() => rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match token {
            "Some" | "Number" | "String" | "Bool" if rest.starts_with('(') => {
                open.push(false);
                rest = &rest[1..];
            }
            "Object" | "Array" if rest.starts_with(" {") || rest.starts_with(" [") => rest = &rest[1..],
            "None" | "Null" => out.push_str("null"),
            "(" => {
                open.push(true);
                out.push('(');
            }
            ")" if open.pop() == Some(false) => {}
            token => out.push_str(token),
        }
    }
    out
}

/// Length of the quoted text that `text` begins with.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_shown_as_values_and_what_is_quoted_stays_as_it_is() {
        let value = json!({"a": [1, null, true], "b": "Some(\"x\") None"});
        let shown = with_parameters(
            "-- Why.\nselect $1, $2, $3, $4",
            &[&vec![Some("x"), None], &None::<i32>, &value, &Some(7)],
        );
        let lines = [
            "select $1, $2, $3, $4",
            "  -- $1 = [\"x\", null]",
            "  -- $2 = null",
            "  -- $3 = {\"a\": [1, null, true], \"b\": \"Some(\\\"x\\\") None\"}",
            "  -- $4 = 7",
        ];
        assert_eq!(shown, lines.join("\n"));
    }
}
