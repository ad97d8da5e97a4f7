//! Table patterns as psql's `\d` takes them, and selections made of them.

use std::fmt;

use regex::Regex;

use crate::error::{Error, Result};

/// One pattern such as `public.*`, `audit_?`, `"Orders"` or `public.log_[0-9]+`. Without a schema it means any schema.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    schema: Regex,
    name: Regex,
    literal: Option<TableName>,
}

impl Pattern {
    /// Reads a pattern; an `Error::Usage` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern> {
        let mut parts = split_at_dots(text)?;
        let name = parts.pop().unwrap_or_default();
        let schema = parts.pop();
        if !parts.is_empty() {
            return Err(wrong(text, "has more than one dot"));
        }
        if name.regex.is_empty() || schema.as_ref().is_some_and(|schema| schema.regex.is_empty()) {
            return Err(wrong(text, "has an empty name"));
        }
        let literal = match (schema.as_ref().and_then(|schema| schema.literal.clone()), name.literal) {
            (Some(schema), Some(name)) => Some(TableName { schema, name }),
            _ => None,
        };
        let compile = |part: &str| {
            Regex::new(&format!("^(?s:{part})$"))
                .map_err(|_| wrong(text, "is not a valid regular expression"))
        };
        Ok(Pattern {
            text: text.trim().to_owned(),
            schema: compile(schema.as_ref().map_or(".*", |schema| &schema.regex))?,
            name: compile(&name.regex)?,
            literal,
        })
    }

    /// Whether the table `schema.name` (unquoted) is meant.
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        self.schema.is_match(schema) && self.name.is_match(name)
    }

    /// Regular expressions for the schema and the name, without anchors, as PostgreSQL's own take them.
    pub fn regexes(&self) -> (String, String) {
        let body = |regex: &Regex| {
            let text = regex.as_str();
            text.strip_prefix("^(?s:").and_then(|text| text.strip_suffix(")$")).unwrap_or(text).to_owned()
        };
        (body(&self.schema), body(&self.name))
    }

    /// Whether `other` is the same pattern, however it is quoted and folded.
    pub fn means_as(&self, other: &Pattern) -> bool {
        self.schema.as_str() == other.schema.as_str() && self.name.as_str() == other.name.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A table's schema and name, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

impl TableName {
    /// Reads `public.orders` or `public."Orders"`: SQL's rules, the schema required.
    pub fn parse(text: &str) -> Result<TableName> {
        let pattern = Pattern::parse(text)?;
        pattern.literal.ok_or_else(|| Error::Usage {
            message: format!("\"{text}\" does not name one table"),
            hint: "Write schema and name, such as public.orders; double quotes keep upper case.".into(),
        })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Tables that match one of `include` and none of `exclude`.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// At least one of these must match.
    pub include: Vec<Pattern>,
    /// None of these may match.
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Reads both lists; an `Error::Usage` names the pattern that is wrong.
    pub fn parse(include: &[impl AsRef<str>], exclude: &[impl AsRef<str>]) -> Result<Selection> {
        Ok(Selection { include: parse_all(include)?, exclude: parse_all(exclude)? })
    }

    /// Whether the table `schema.name` (unquoted) is selected.
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        self.include.iter().any(|pattern| pattern.matches(schema, name)) && !self.excludes(schema, name)
    }

    /// Whether the table `schema.name` (unquoted) is left out by name.
    pub fn excludes(&self, schema: &str, name: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(schema, name))
    }

    /// The patterns of `include` that match none of `tables` (schema, name): most likely a slip of the pen.
    pub fn idle<'a>(&'a self, tables: &[(&str, &str)]) -> Vec<&'a Pattern> {
        let unused = |pattern: &&Pattern| !tables.iter().any(|(schema, name)| pattern.matches(schema, name));
        self.include.iter().filter(unused).collect()
    }
}

/// Reads several patterns.
pub fn parse_all(texts: &[impl AsRef<str>]) -> Result<Vec<Pattern>> {
    texts.iter().map(|text| Pattern::parse(text.as_ref())).collect()
}

/// The part of a pattern before or after the dot.
struct Part {
    /// What it means as a regular expression, without anchors.
    regex: String,
    /// The identifier that it is, when nothing in it stands for other characters.
    literal: Option<String>,
}

impl Default for Part {
    fn default() -> Self {
        Part { regex: String::new(), literal: Some(String::new()) }
    }
}

impl Part {
    fn literal(&mut self, c: char) {
        self.regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        if let Some(literal) = &mut self.literal {
            literal.push(c);
        }
    }

    /// A character that is itself, and may stand in a character class: `-` must not be escaped there.
    fn ordinary(&mut self, c: char) {
        self.regex.push(c);
        if let Some(literal) = &mut self.literal {
            literal.push(c);
        }
    }

    fn special(&mut self, regex: &str) {
        self.regex.push_str(regex);
        self.literal = None;
    }
}

/// psql's rules: outside double quotes, letters fold to lower case, `*` and `?` are wildcards, a dot separates,
/// `$` is itself and other regular expression characters keep their meaning; inside, every character is itself.
fn split_at_dots(text: &str) -> Result<Vec<Part>> {
    let mut parts = vec![Part::default()];
    let mut characters = text.trim().chars().peekable();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        let part = parts.last_mut().expect("there is always a last part: it begins with one");
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.literal('"');
            }
            '"' => quoted = !quoted,
            _ if quoted => part.literal(c),
            '.' => parts.push(Part::default()),
            '*' => part.special(".*"),
            '?' => part.special("."),
            '$' => part.literal('$'),
            // "[]" is more likely the end of a type's name than a character class.
            '[' if characters.peek() == Some(&']') => {
                characters.next();
                part.literal('[');
                part.literal(']');
            }
            '|' | '+' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '\\' => part.special(&c.to_string()),
            _ => part.ordinary(c.to_ascii_lowercase()),
        }
    }
    if quoted {
        return Err(wrong(text, "has an unbalanced double quote"));
    }
    Ok(parts)
}

fn wrong(text: &str, why: &str) -> Error {
    Error::Usage {
        message: format!("table pattern \"{text}\" {why}"),
        hint: "Patterns are psql's: public.orders, public.*, audit_?, public.\"Mixed Case\".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, table: &str) -> bool {
        let (schema, name) = table.split_once('.').expect("the test gives schema.name");
        Pattern::parse(pattern).expect("the pattern is valid").matches(schema, name)
    }

    fn message(pattern: &str) -> String {
        Pattern::parse(pattern).expect_err("the pattern is wrong").to_string()
    }

    #[test]
    fn letters_fold_to_lower_case_outside_double_quotes_only() {
        assert!(matches("FOO", "public.foo"));
        assert!(!matches("FOO", "public.FOO"));
        assert!(matches("\"FOO\"", "public.FOO"));
        assert!(matches("FOO\"BAR\"baz", "public.fooBARbaz"));
        assert!(!matches("FOO\"BAR\"baz", "public.foobarbaz"));
        assert!(matches("\"FOO\"\"BAR\"", "public.FOO\"BAR"));
    }

    #[test]
    fn a_star_is_any_characters_and_a_question_mark_is_one() {
        assert!(matches("foo*", "public.foo"));
        assert!(matches("foo*", "public.foo_bar"));
        assert!(!matches("foo*", "public.a_foo"));
        assert!(matches("audit_?", "public.audit_1"));
        assert!(!matches("audit_?", "public.audit_12"));
        assert!(!matches("audit_?", "public.audit_"));
        assert!(matches("*", "any.thing"));
        assert!(matches("a*b", "public.a\nb"));
    }

    #[test]
    fn a_dot_separates_schema_and_table() {
        assert!(matches("foo*.*bar*", "foo_1.a_bar_b"));
        assert!(!matches("foo*.*bar*", "bar.foo"));
        assert!(matches("public.*", "public.orders"));
        assert!(!matches("public.*", "private.orders"));
        let dotted = Pattern::parse("\"a.b\".c").expect("a quoted dot is part of the name");
        assert!(dotted.matches("a.b", "c"));
        assert!(!dotted.matches("a", "b.c"));
    }

    #[test]
    fn no_schema_means_any_schema() {
        assert!(matches("orders", "public.orders"));
        assert!(matches("orders", "archive.orders"));
        assert!(!matches("orders", "public.orders_old"));
    }

    #[test]
    fn character_classes_and_alternatives_work_outside_double_quotes() {
        assert!(matches("log_[0-9]+", "public.log_2024"));
        assert!(!matches("log_[0-9]+", "public.log_x"));
        assert!(matches("(users|roles)", "public.roles"));
        assert!(!matches("users|roles", "public.users_old"));
        assert!(matches("\"log_[0-9]\"", "public.log_[0-9]"));
        assert!(!matches("\"log_[0-9]\"", "public.log_1"));
        assert!(!matches("\"a*\"", "public.ab"));
        assert!(matches("\"a*\"", "public.a*"));
    }

    #[test]
    fn a_dollar_sign_is_an_ordinary_character() {
        assert!(matches("a$b", "public.a$b"));
        assert!(matches("pg$", "public.pg$"));
    }

    #[test]
    fn empty_brackets_are_ordinary_characters() {
        assert!(matches("int[]", "public.int[]"));
    }

    #[test]
    fn wrong_patterns_are_refused_with_the_reason() {
        assert_eq!(message("a.b.c"), "table pattern \"a.b.c\" has more than one dot");
        assert_eq!(message("public."), "table pattern \"public.\" has an empty name");
        assert_eq!(message(".orders"), "table pattern \".orders\" has an empty name");
        assert_eq!(message(""), "table pattern \"\" has an empty name");
        assert_eq!(message("\"a"), "table pattern \"\"a\" has an unbalanced double quote");
        assert_eq!(message("a[0-"), "table pattern \"a[0-\" is not a valid regular expression");
    }

    #[test]
    fn a_pattern_without_wildcards_names_one_table() {
        let name = TableName::parse("Public.\"Order Lines\"").expect("it names one table");
        assert_eq!(name, TableName { schema: "public".into(), name: "Order Lines".into() });
        assert_eq!(name.to_string(), "public.Order Lines");
        assert!(TableName::parse("orders").is_err());
        assert!(TableName::parse("public.*").is_err());
    }

    #[test]
    fn a_selection_is_what_is_included_and_not_excluded() {
        let selection = Selection::parse(&["public.*", "shop.item"], &["*.audit_*"]).expect("valid");
        assert!(selection.matches("public", "orders"));
        assert!(selection.matches("shop", "item"));
        assert!(!selection.matches("public", "audit_log"));
        assert!(!selection.matches("private", "orders"));
        let idle = selection.idle(&[("public", "orders")]);
        assert_eq!(idle.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop.item"]);
    }
}
