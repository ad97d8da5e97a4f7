//! A plain `pg_dump` script, taken apart into its entries and their statements.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::pg::dump::lexer::{self, Kind, Lexer, Token};

/// One object of a dump, with the statements that make it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// `INDEX`, `FK CONSTRAINT`, …, as `pg_dump`'s comment says; empty before the first entry.
    pub kind: String,
    /// The schema that the comment gives, `-` where there is none.
    pub schema: String,
    /// The name that the comment gives, line ends replaced by spaces: for messages only.
    pub name: String,
    /// In order, each without its semicolon.
    pub statements: Vec<String>,
}

impl Entry {
    /// `index "orders_pkey"`, for messages.
    pub fn display(&self) -> String {
        format!("{} \"{}\"", self.kind.to_lowercase(), self.name)
    }

    /// The schema, where it is the schema itself that the entry makes, comments on or grants.
    pub fn schema_itself(&self) -> Option<String> {
        match self.kind.as_str() {
            "SCHEMA" => Some(self.name.clone()),
            // Here it is quoted, where that is needed.
            "ACL" | "COMMENT" => self.name.strip_prefix("SCHEMA ").map(|name| {
                let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
                quoted.map_or_else(|| name.to_owned(), |name| name.replace("\"\"", "\""))
            }),
            _ => None,
        }
    }

    /// Privileges on what is there, the default ones aside.
    pub fn is_privilege(&self) -> bool {
        self.kind == "ACL" || self.kind.starts_with("ACL ")
    }

    /// Reads `-- Name: orders; Type: TABLE; Schema: public; Owner: shop`.
    fn from_comment(comment: &str) -> Option<Entry> {
        let text = comment.strip_prefix("-- Name: ")?;
        let (name, rest) = text.rsplit_once("; Type: ")?;
        let (kind, rest) = rest.split_once("; Schema: ")?;
        let (schema, _) = rest.rsplit_once("; Owner: ")?;
        let [kind, schema, name] = [kind, schema, name].map(str::to_owned);
        Some(Entry { kind, schema, name, statements: Vec::new() })
    }
}

/// Takes a script apart. Backslash commands of psql and comments between statements are left out. Fails rather than take several
/// statements for one, which would run, and make but the first of them.
pub fn split(script: &str) -> Result<Vec<Entry>> {
    let mut entries = vec![Entry::default()];
    let mut lexer = Lexer::new(script);
    let mut statement = Statement::default();
    while let Some(token) = lexer.next() {
        match token.kind {
            Kind::LineComment if statement.start.is_none() => {
                entries.extend(Entry::from_comment(token.text(script)));
            }
            Kind::LineComment if Entry::from_comment(token.text(script)).is_some() => {
                return Err(statement.never_ended(script));
            }
            Kind::LineComment | Kind::BlockComment | Kind::Meta => {}
            Kind::Symbol if token.is_symbol(script, ';') && statement.is_complete() => {
                if let Some(start) = statement.start {
                    let text = script[start..token.start].trim_end();
                    if let Some(on) = standard_strings_setting(text) {
                        lexer.standard_strings = on;
                    }
                    entries.last_mut().expect("begins with one").statements.push(text.to_owned());
                }
                statement = Statement::default();
            }
            _ => statement.push(token, script),
        }
        lexer.between_statements = statement.start.is_none();
    }
    if statement.start.is_some() {
        return Err(statement.never_ended(script));
    }
    entries.retain(|entry| !entry.statements.is_empty());
    Ok(entries)
}

/// What `pg_dump` makes once the data are there, by the names of its types.
const POST_DATA: [&str; 12] = [
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "STATISTICS",
    "TRIGGER",
];

/// Parts a whole dump as `--section` would, at half the cost for the server: what holds data, and what comes after.
/// `pg_dump` writes the second behind the first; comments go with what they follow, and privileges, which it writes last, with
/// what they are on: a view whose grouping needs a key is made after that, and so is a function that holds such a query.
pub fn halve(entries: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
    let (mut pre_data, mut post_data) = (Vec::new(), Vec::new());
    // It holds until the next one, and so beyond the border.
    let mut tablespace = None;
    let mut made_late = HashSet::new();
    for entry in entries {
        if POST_DATA.contains(&entry.kind.as_str()) && post_data.is_empty() {
            let statements = tablespace.iter().cloned().collect();
            post_data.push(Entry { statements, ..Entry::default() });
        }
        let mut settings = entry.statements.iter().rev();
        let last = settings.find(|statement| statement.starts_with("SET default_tablespace = "));
        tablespace = last.cloned().or(tablespace);
        let is_early = if entry.is_privilege() {
            !entry.statements.iter().filter_map(|text| granted_on(text)).any(|name| made_late.contains(&name))
        } else {
            post_data.is_empty()
        };
        if is_early {
            pre_data.push(entry);
        } else {
            made_late.extend(entry.statements.iter().filter_map(|text| made(text)));
            post_data.push(entry);
        }
    }
    post_data.retain(|entry| !entry.statements.is_empty());
    (pre_data, post_data)
}

/// Name of the view or routine that a statement makes.
fn made(statement: &str) -> Option<Vec<String>> {
    let tokens = lexer::tokens(statement);
    if !tokens.first()?.is_word(statement, "create") {
        return None;
    }
    let kinds = ["view", "function", "procedure", "aggregate"];
    let is_kind = |token: &Token| kinds.iter().any(|kind| token.is_word(statement, kind));
    let at = tokens.iter().take(4).position(is_kind)?;
    Some(lexer::qualified_name(statement, &tokens, at + 1)?.0)
}

/// Name of what `GRANT … ON TABLE name TO …` or its `REVOKE` is about; of overloaded functions all have the same.
fn granted_on(statement: &str) -> Option<Vec<String>> {
    let tokens = lexer::tokens(statement);
    let on = tokens.iter().position(|token| token.is_word(statement, "on"))?;
    Some(lexer::qualified_name(statement, &tokens, on + 2)?.0)
}

/// Whether a statement sets `standard_conforming_strings`, and how.
fn standard_strings_setting(statement: &str) -> Option<bool> {
    let value = statement.strip_prefix("SET standard_conforming_strings = ")?;
    Some(value == "on")
}

/// What has been seen of a statement, to know which semicolon ends it.
#[derive(Default)]
struct Statement {
    start: Option<usize>,
    words: Vec<String>,
    parentheses: usize,
    /// Open `BEGIN ATOMIC` and `CASE`, in the body of a function.
    blocks: usize,
    /// The last token was `BEGIN`, which without `ATOMIC` is a name like any other.
    begins: bool,
}

impl Statement {
    fn is_complete(&self) -> bool {
        self.parentheses == 0 && self.blocks == 0
    }

    fn never_ended(&self, script: &str) -> Error {
        let rest = self.start.map_or("", |start| &script[start..]);
        let line = rest.lines().next().unwrap_or_default();
        Error::Internal { message: format!("the end of a statement of pg_dump's was not found: {line}") }
    }

    fn push(&mut self, token: Token, script: &str) {
        self.start.get_or_insert(token.start);
        let follows_begin = std::mem::replace(&mut self.begins, token.is_word(script, "begin"));
        match token.kind {
            Kind::Symbol => match token.text(script) {
                "(" => self.parentheses += 1,
                ")" => self.parentheses = self.parentheses.saturating_sub(1),
                _ => {}
            },
            Kind::Word => {
                let word = token.text(script).to_ascii_lowercase();
                if self.makes_routine() && self.parentheses == 0 {
                    match word.as_str() {
                        "atomic" if follows_begin && self.blocks == 0 => self.blocks = 1,
                        "case" if self.blocks > 0 => self.blocks += 1,
                        "end" => self.blocks = self.blocks.saturating_sub(1),
                        _ => {}
                    }
                }
                if self.words.len() < 4 {
                    self.words.push(word);
                }
            }
            _ => {}
        }
    }

    fn makes_routine(&self) -> bool {
        let mut words = self.words.iter().map(String::as_str);
        let what = match (words.next(), words.next()) {
            (Some("create"), Some("or")) => words.nth(1),
            (Some("create"), what) => what,
            _ => None,
        };
        matches!(what, Some("function" | "procedure"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(script: &str) -> Vec<String> {
        split(script).unwrap().into_iter().flat_map(|entry| entry.statements).collect()
    }

    #[test]
    fn semicolons_inside_quotes_and_comments_end_nothing() {
        let script = "select ';', E'\\';', \"a;\"\"b\", $$;$$, $x$ ; $$ ; $x$ -- ;\n /* ; /* ; */ ; */ ;select U&'\\0041;';";
        assert_eq!(statements(script).len(), 2);
        assert!(statements(script)[0].starts_with("select ';'"));
    }

    #[test]
    fn backslashes_escape_only_when_strings_are_not_standard() {
        assert_eq!(statements("select 'a\\'; select 2;"), ["select 'a\\'", "select 2"]);
        let script = "SET standard_conforming_strings = off;\nselect 'a\\'; select 2;';\nselect 3;";
        assert_eq!(statements(script).len(), 3);
    }

    #[test]
    fn a_rule_with_several_statements_is_one_statement() {
        let script = "CREATE RULE r AS ON UPDATE TO v DO INSTEAD ( INSERT INTO a VALUES (1);\n DELETE FROM a;\n);\nselect 1;";
        assert_eq!(statements(script).len(), 2);
    }

    #[test]
    fn an_atomic_body_is_one_statement() {
        let script = "CREATE OR REPLACE FUNCTION f(x integer) RETURNS integer\n LANGUAGE sql\n BEGIN ATOMIC\n SELECT CASE WHEN (x > 1) THEN CASE x WHEN 2 THEN 3 END ELSE 2 END AS \"end\";\n SELECT (CASE WHEN true THEN 1 END);\nEND;\nselect 1;";
        assert_eq!(statements(script).len(), 2);
        let procedure =
            "CREATE PROCEDURE public.p() LANGUAGE sql BEGIN ATOMIC DELETE FROM a; END;\nselect 1;";
        assert_eq!(statements(procedure).len(), 2);
    }

    #[test]
    fn begin_is_a_name_unless_a_body_begins_with_it() {
        let script = "CREATE FUNCTION public.begin() RETURNS integer LANGUAGE sql AS $$select 1$$;\nselect 1;\n\
             CREATE FUNCTION f() RETURNS date LANGUAGE sql BEGIN ATOMIC SELECT s.begin, CASE WHEN true THEN s.begin END \
             FROM slot s, begin;\n SELECT begin.atomic FROM begin ORDER BY begin.begin;\nEND;\nselect 2;\n\
             CREATE FUNCTION begin(begin date) RETURNS public.begin LANGUAGE sql BEGIN ATOMIC SELECT begin; END;\nselect 3;";
        assert_eq!(statements(script).len(), 6);
    }

    #[test]
    fn a_statement_without_an_end_is_no_statement() {
        let open = "CREATE FUNCTION f() RETURNS integer BEGIN ATOMIC SELECT 1;\n";
        let next = "--\n-- Name: t; Type: TABLE; Schema: public; Owner: o\n--\n\nCREATE TABLE t ();\nEND;\n";
        for script in [open, "select ';", "select 1", &format!("{open}{next}")] {
            let error = split(script).unwrap_err().to_string();
            assert!(error.contains(script.lines().next().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_function_with_a_quoted_body_ends_at_its_semicolon() {
        let script =
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$ begin return $1; end; $_$;\nselect 1;";
        assert_eq!(statements(script).len(), 2);
    }

    #[test]
    fn psql_commands_are_left_out_between_statements_only() {
        let script = "\\restrict abc;\n\nselect '\n\\unrestrict abc\n';\n\\unrestrict abc\n";
        assert_eq!(statements(script), ["select '\n\\unrestrict abc\n'"]);
    }

    #[test]
    fn entries_carry_type_and_name() {
        let script = "SET a = 1;\n--\n-- Name: t; Type: x i; Type: INDEX; Schema: public; Owner: o\n--\n\nCREATE INDEX i ON t;\n\nALTER TABLE t CLUSTER ON i;\n--\n-- Name: e; Type: COMMENT; Schema: -; Owner: \n--\n";
        let entries = split(script).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].kind.as_str(), entries[1].name.as_str()), ("INDEX", "t; Type: x i"));
        assert_eq!(entries[1].statements.len(), 2);
    }

    #[test]
    fn what_follows_the_data_is_parted_from_what_holds_them_and_keeps_the_settings() {
        let entry = |kind: &str, statements: &[&str]| Entry {
            kind: kind.into(),
            schema: "public".into(),
            name: "x".into(),
            statements: statements.iter().map(|text| (*text).to_owned()).collect(),
        };
        let (pre, post) = halve(vec![
            entry("", &["SET default_tablespace = ''"]),
            entry("TABLE", &["CREATE TABLE t ()", "SET default_tablespace = 'other'"]),
            entry("INDEX", &["CREATE INDEX i ON t (x)"]),
            entry("COMMENT", &["COMMENT ON INDEX i IS 'i'"]),
            entry("MATERIALIZED VIEW", &["CREATE MATERIALIZED VIEW public.\"m v\" AS SELECT 1"]),
            entry("FUNCTION", &["CREATE OR REPLACE FUNCTION public.f(a integer) RETURNS integer"]),
            entry("ACL", &["GRANT SELECT ON TABLE public.t TO x"]),
            entry("ACL", &["REVOKE ALL ON FUNCTION public.f(a integer) FROM x"]),
            entry("ACL", &["SET SESSION AUTHORIZATION y", "GRANT SELECT(n) ON TABLE public.\"m v\" TO x"]),
            entry("DEFAULT ACL", &["ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO x"]),
        ]);
        let kinds = |entries: &[Entry]| entries.iter().map(|entry| entry.kind.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(&pre), ["", "TABLE", "ACL"]);
        let late = ["", "INDEX", "COMMENT", "MATERIALIZED VIEW", "FUNCTION", "ACL", "ACL", "DEFAULT ACL"];
        assert_eq!(kinds(&post), late);
        assert_eq!(post[0].statements, ["SET default_tablespace = 'other'"]);
    }

    #[test]
    fn words_may_hold_dollars_and_other_letters() {
        assert_eq!(statements("select a$b$c, größe; select 1;").len(), 2);
    }
}
