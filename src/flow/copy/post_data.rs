//! The second half of a schema: which statement runs when, and the record of those that are done.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::{Doing as _, Error, Result};
use crate::pg::catalog::Table;
use crate::pg::catalog::objects::{ConstraintIndex, Name};
use crate::pg::dump::Entry;
use crate::pg::dump::lexer::{self, Token};
use crate::pg::{Session, record};
use crate::sql;

/// When a statement runs, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Builds an index of a table: as soon as its rows are there, several at once.
    Index,
    /// Needs the table for itself, or its indexes: after them, one by one.
    Constraint,
    /// Triggers, rules, policies, attached indexes, comments: after all tables.
    Other,
    /// Once the flow has caught up: not validated yet where possible. Before them, partitions of tables that stand already,
    /// whose foreign keys these get.
    ForeignKey,
    /// Validates a foreign key.
    Validate,
    /// Fills a materialized view.
    Refresh,
    /// Event triggers, and comments on what came late.
    Last,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Index,
        Kind::Constraint,
        Kind::Other,
        Kind::ForeignKey,
        Kind::Validate,
        Kind::Refresh,
        Kind::Last,
    ];

    /// The word in the record.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Index => "index",
            Kind::Constraint => "constraint",
            Kind::Other => "other",
            Kind::ForeignKey => "foreign_key",
            Kind::Validate => "validate",
            Kind::Refresh => "refresh",
            Kind::Last => "last",
        }
    }
}

/// One entry of the second half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostStatement {
    /// Its place in the order.
    pub ordinal: i32,
    /// When it runs.
    pub kind: Kind,
    /// The table that it belongs to.
    pub table: Option<Name>,
    /// One or more statements, run in one transaction.
    pub statement: String,
    /// It has been run.
    pub done: bool,
}

/// What the sorting of statements needs to know of the publisher.
pub struct Sorter<'a> {
    tables: HashMap<Name, &'a Table>,
    constraints: BTreeMap<(Name, String), ConstraintIndex>,
    /// `SET LOCAL default_tablespace = …` and its like, for the statements that follow.
    settings: BTreeMap<String, String>,
    sorted: Vec<PostStatement>,
}

impl<'a> Sorter<'a> {
    /// `constraints` are those whose index is built apart.
    pub fn new(tables: &'a [Table], constraints: BTreeMap<(Name, String), ConstraintIndex>) -> Self {
        let tables = tables.iter().map(|table| (table.full_name(), table)).collect();
        Sorter { tables, constraints, settings: BTreeMap::new(), sorted: Vec::new() }
    }

    /// Sorts a dump's second half; `late` are to run just before its foreign keys, and `views` to be filled in this order.
    pub fn sort(mut self, entries: &[Entry], late: &[Entry], views: &[Name]) -> Vec<PostStatement> {
        for entry in late {
            self.push(Kind::ForeignKey, None, entry.statements.join(";\n"));
        }
        for entry in entries {
            self.add_entry(entry);
        }
        for (schema, name) in views {
            let view = sql::quote_qualified(schema, name);
            self.push(Kind::Refresh, None, format!("refresh materialized view {view};\nanalyze {view}"));
        }
        let mut sorted = self.sorted;
        sorted.sort_by_key(|statement| statement.kind);
        for (ordinal, statement) in sorted.iter_mut().enumerate() {
            statement.ordinal = ordinal as i32 + 1;
        }
        sorted
    }

    fn push(&mut self, kind: Kind, table: Option<Name>, statement: String) {
        self.sorted.push(PostStatement { ordinal: 0, kind, table, statement, done: false });
    }

    fn add_entry(&mut self, entry: &Entry) {
        // What an entry's later statements belong to: the first one decides.
        let mut follow: Option<(Kind, Option<Name>)> = None;
        for statement in &entry.statements {
            let tokens = lexer::tokens(statement);
            let words = Words { statement, tokens: &tokens };
            if words.begin(&["set", "local"]) {
                // The others are set for the whole session that runs the statements.
                if words.name_at(2).starts_with("default_") {
                    self.settings.insert(words.name_at(2), statement.clone());
                }
                continue;
            }
            let found = words.classify(&self.tables);
            match (&mut follow, found) {
                (_, Some((Kind::Index, table))) => {
                    let text = self.with_settings(statement);
                    self.push(Kind::Index, Some(table.clone()), text);
                    follow = Some((Kind::Constraint, Some(table)));
                }
                (_, Some((Kind::Constraint, table))) => {
                    self.add_constraint(statement, &words, &table);
                    follow = Some((Kind::Constraint, Some(table)));
                }
                (_, Some((Kind::ForeignKey, table))) => {
                    self.add_foreign_key(statement, &words, &table);
                    follow = Some((Kind::Last, Some(table)));
                }
                (Some((_, table)), None) if matches!(entry.kind.as_str(), "INDEX" | "CONSTRAINT") => {
                    let table = table.clone();
                    self.push(Kind::Constraint, table, statement.clone());
                }
                (Some((kind, _)), _) => {
                    let kind = *kind;
                    self.append(kind, statement);
                }
                (None, _) => {
                    let kind = if words.comes_last() { Kind::Last } else { Kind::Other };
                    let text = self.with_settings(statement);
                    self.push(kind, None, text);
                    follow = Some((kind, None));
                }
            }
        }
    }

    /// Adds to the entry's statement before it, so that both run in one transaction.
    fn append(&mut self, kind: Kind, statement: &str) {
        match self.sorted.last_mut() {
            Some(last) if last.kind == kind => last.statement = format!("{};\n{statement}", last.statement),
            _ => self.push(kind, None, statement.to_owned()),
        }
    }

    fn with_settings(&self, statement: &str) -> String {
        let settings = self.settings.values().filter(|setting| !setting.ends_with("= ''"));
        let lines: Vec<&str> = settings.map(String::as_str).chain([statement]).collect();
        lines.join(";\n")
    }

    fn add_constraint(&mut self, statement: &str, words: &Words, table: &Name) {
        let apart = words.constraint_name().and_then(|name| {
            let index = self.constraints.get(&(table.clone(), name.clone()))?;
            Some((name, index.clone()))
        });
        let Some((name, index)) = apart else {
            let text = self.with_settings(statement);
            return self.push(Kind::Constraint, Some(table.clone()), text);
        };
        let build = self.with_settings(&index.definition);
        self.push(Kind::Index, Some(table.clone()), build);
        let (qualified, quoted) = (sql::quote_qualified(&table.0, &table.1), sql::quote_identifier(&name));
        let attach = format!(
            "alter table only {qualified} add constraint {quoted} {} using index {quoted} {}",
            index.kind, index.deferral
        );
        self.push(Kind::Constraint, Some(table.clone()), attach.trim_end().to_owned());
    }

    /// A foreign key between ordinary tables is made at once and validated later, without keeping writers out.
    fn add_foreign_key(&mut self, statement: &str, words: &Words, table: &Name) {
        let is_ordinary = |name: &Name| self.tables.get(name).is_some_and(|table| !table.partitioned);
        let later = words.begin(&["alter", "table", "only"])
            && is_ordinary(table)
            && words.referenced().as_ref().is_some_and(is_ordinary)
            && !words.ends_with(&["not", "valid"])
            && !words.ends_with(&["not", "enforced"]);
        let name = words.constraint_name().filter(|_| later);
        let Some(name) = name else {
            return self.push(Kind::ForeignKey, Some(table.clone()), statement.to_owned());
        };
        let qualified = sql::quote_qualified(&table.0, &table.1);
        self.push(Kind::ForeignKey, Some(table.clone()), format!("{statement} NOT VALID"));
        let validate =
            format!("alter table {qualified} validate constraint {}", sql::quote_identifier(&name));
        self.push(Kind::Validate, Some(table.clone()), validate);
    }
}

/// A statement with its tokens.
struct Words<'a> {
    statement: &'a str,
    tokens: &'a [Token],
}

impl Words<'_> {
    fn is(&self, at: usize, keyword: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(self.statement, keyword))
    }

    fn begin(&self, keywords: &[&str]) -> bool {
        keywords.iter().enumerate().all(|(at, keyword)| self.is(at, keyword))
    }

    fn ends_with(&self, keywords: &[&str]) -> bool {
        let from = self.tokens.len().saturating_sub(keywords.len());
        keywords.iter().enumerate().all(|(at, keyword)| self.is(from + at, keyword))
    }

    fn name_at(&self, at: usize) -> String {
        self.tokens.get(at).and_then(|token| token.name(self.statement)).unwrap_or_default()
    }

    fn relation_at(&self, at: usize) -> Option<(Name, usize)> {
        let (parts, next) = lexer::qualified_name(self.statement, self.tokens, at)?;
        let [schema, name] = <[String; 2]>::try_from(parts).ok()?;
        Some(((schema, name), next))
    }

    /// The relation of `ALTER TABLE [ONLY] relation …`, and the index after it.
    fn altered(&self) -> Option<(Name, usize)> {
        if !self.begin(&["alter", "table"]) {
            return None;
        }
        self.relation_at(2 + usize::from(self.is(2, "only")))
    }

    fn constraint_name(&self) -> Option<String> {
        let (_, next) = self.altered()?;
        (self.is(next, "add") && self.is(next + 1, "constraint")).then(|| self.name_at(next + 2))
    }

    fn referenced(&self) -> Option<Name> {
        let at = (0..self.tokens.len()).find(|at| self.is(*at, "references"))?;
        Some(self.relation_at(at + 1)?.0)
    }

    /// Kind and table of a statement that belongs to one of the tables.
    fn classify(&self, tables: &HashMap<Name, &Table>) -> Option<(Kind, Name)> {
        if self.begin(&["create", "index"]) || self.begin(&["create", "unique", "index"]) {
            let on = (0..self.tokens.len()).find(|at| self.is(*at, "on"))?;
            let (table, _) = self.relation_at(on + 1 + usize::from(self.is(on + 1, "only")))?;
            return tables.contains_key(&table).then_some((Kind::Index, table));
        }
        if self.begin(&["create", "statistics"]) {
            let from = (0..self.tokens.len()).rfind(|at| self.is(*at, "from"))?;
            let (table, _) = self.relation_at(from + 1 + usize::from(self.is(from + 1, "only")))?;
            return tables.contains_key(&table).then_some((Kind::Constraint, table));
        }
        let (table, next) = self.altered()?;
        if !(self.is(next, "add") && self.is(next + 1, "constraint") && tables.contains_key(&table)) {
            return None;
        }
        let what = next + 3;
        let kind = match () {
            () if self.is(what, "foreign") => Kind::ForeignKey,
            () if ["primary", "unique", "exclude"].iter().any(|word| self.is(what, word)) => Kind::Constraint,
            () => return None,
        };
        Some((kind, table))
    }

    /// The relation that a statement is about, where it names one.
    fn subject(&self) -> Option<Name> {
        if let Some((relation, _)) = self.altered() {
            return Some(relation);
        }
        let is_rule = self.begin(&["create", "rule"]);
        let kinds = ["trigger", "policy", "rule", "constraint", "index", "unique"];
        let names_relation = match () {
            () if self.is(0, "create") => kinds.iter().any(|kind| self.is(1, kind)),
            () => self.begin(&["comment", "on"]) && kinds.iter().any(|kind| self.is(2, kind)),
        };
        if !names_relation {
            return None;
        }
        let before = if is_rule { "to" } else { "on" };
        // Behind the name, which may be a word, too; COMMENT ON has one more.
        let at = (3..self.tokens.len()).find(|at| self.is(*at, before))?;
        Some(self.relation_at(at + 1 + usize::from(self.is(at + 1, "only")))?.0)
    }

    /// The constraint of `ALTER TABLE … VALIDATE CONSTRAINT …`.
    fn validated(&self) -> Option<String> {
        let (_, next) = self.altered()?;
        (self.is(next, "validate") && self.is(next + 1, "constraint")).then(|| self.name_at(next + 2))
    }

    fn comes_last(&self) -> bool {
        self.begin(&["create", "event", "trigger"])
            || self.begin(&["comment", "on", "event", "trigger"])
            || self.begin(&["comment", "on", "constraint"])
    }
}

/// Those of the statements that are about one of `tables`, or about a foreign key that refers to one, by their places in the order.
pub fn list_of(statements: &[PostStatement], tables: &HashSet<Name>) -> HashSet<i32> {
    let mut found = HashSet::new();
    if tables.is_empty() {
        return found;
    }
    let mut keys = HashSet::new();
    for one in statements {
        let lines = one.statement.lines().filter(|line| !line.starts_with("SET LOCAL "));
        let statement = lines.collect::<Vec<_>>().join("\n");
        let tokens = lexer::tokens(&statement);
        let words = Words { statement: &statement, tokens: &tokens };
        let table = one.table.clone().or_else(|| words.subject());
        let key = words.constraint_name().or_else(|| words.validated());
        let refers =
            one.kind == Kind::ForeignKey && words.referenced().is_some_and(|to| tables.contains(&to));
        let is_found = match (&table, &key) {
            _ if table.as_ref().is_some_and(|table| tables.contains(table)) || refers => true,
            // A key comes before what validates it.
            (Some(table), Some(key)) => keys.contains(&(table.clone(), key.clone())),
            _ => false,
        };
        if is_found {
            keys.extend(table.zip(key));
            found.insert(one.ordinal);
        }
    }
    found
}

/// Stores the statements in the record, behind those that are there.
pub fn insert(session: &mut Session, statements: &[PostStatement]) -> Result<()> {
    let last = list(session)?.last().map_or(0, |statement| statement.ordinal);
    let ordinals: Vec<i32> = statements.iter().map(|s| last + s.ordinal).collect();
    let kinds: Vec<&str> = statements.iter().map(|s| s.kind.name()).collect();
    let part = |pick: fn(&Name) -> &str| -> Vec<Option<&str>> {
        statements.iter().map(|s| s.table.as_ref().map(pick)).collect()
    };
    let (schemas, tables) = (part(|name| name.0.as_str()), part(|name| name.1.as_str()));
    let texts: Vec<&str> = statements.iter().map(|s| s.statement.as_str()).collect();
    session
        .change(sql::flow::INSERT_POST_DATA.text, &[&ordinals, &kinds, &schemas, &tables, &texts])
        .doing(|| "record what completes the schema".into())?;
    Ok(())
}

/// All statements of the record, in order; none when there is no record.
pub fn list(session: &mut Session) -> Result<Vec<PostStatement>> {
    if !record::has_table(session, "post_data")? {
        return Ok(Vec::new());
    }
    let rows = session.query(&sql::flow::LIST_POST_DATA, &[])?;
    let statement = |row: &postgres::Row| {
        let name: &str = row.get("kind");
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let message = format!("the record names a kind \"{name}\" that does not exist");
            Error::Internal { message }
        })?;
        let schema: Option<String> = row.get("schema_name");
        Ok(PostStatement {
            ordinal: row.get("ordinal"),
            kind,
            table: schema.zip(row.get("table_name")),
            statement: row.get("statement"),
            done: row.get("done"),
        })
    };
    rows.iter().map(statement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::catalog::Identity;
    use crate::pg::dump::script;

    fn table(name: &str, partitioned: bool) -> Table {
        Table {
            oid: 1,
            schema: "public".into(),
            name: name.into(),
            partitioned,
            root: None,
            partition_key: Vec::new(),
            unlogged: false,
            identity: Identity::Default,
            key: Vec::new(),
            primary_key: Vec::new(),
            bytes: 0,
            data_bytes: 0,
            rows_estimate: 0.0,
            columns: Vec::new(),
            part: crate::pg::catalog::Part::default(),
        }
    }

    fn sort(dump: &str) -> Vec<(Kind, Option<String>, String)> {
        let tables = [table("a", false), table("b", false), table("p", true)];
        let name = ("public".to_owned(), "a".to_owned());
        let index = ConstraintIndex {
            kind: "primary key".into(),
            definition: "CREATE UNIQUE INDEX a_pkey ON public.a USING btree (id)".into(),
            deferral: String::new(),
        };
        let constraints = BTreeMap::from([((name, "a_pkey".to_owned()), index)]);
        let statements = Sorter::new(&tables, constraints).sort(&script::split(dump).unwrap(), &[], &[]);
        statements.into_iter().map(|s| (s.kind, s.table.map(|table| table.1), s.statement)).collect()
    }

    fn entry(kind: &str, statements: &str) -> String {
        format!("--\n-- Name: x; Type: {kind}; Schema: public; Owner: o\n--\n\n{statements}\n")
    }

    #[test]
    fn a_key_is_built_as_an_index_first_and_what_hangs_on_it_follows() {
        let dump = entry(
            "CONSTRAINT",
            "ALTER TABLE ONLY public.a\n ADD CONSTRAINT a_pkey PRIMARY KEY (id);\nALTER TABLE public.a CLUSTER ON a_pkey;",
        );
        let sorted = sort(&dump);
        assert_eq!(sorted[0].0, Kind::Index);
        assert!(sorted[1].2.ends_with("add constraint \"a_pkey\" primary key using index \"a_pkey\""));
        assert_eq!(
            (sorted[2].0, sorted[2].2.as_str()),
            (Kind::Constraint, "ALTER TABLE public.a CLUSTER ON a_pkey")
        );
        assert!(sorted.iter().all(|(_, table, _)| table.as_deref() == Some("a")));
    }

    #[test]
    fn a_replica_identity_comes_with_its_index() {
        let dump = entry(
            "INDEX",
            "CREATE UNIQUE INDEX i ON public.b USING btree (n);\nALTER TABLE ONLY public.b REPLICA IDENTITY USING INDEX i;",
        );
        let kinds: Vec<_> = sort(&dump).into_iter().map(|s| (s.0, s.1.unwrap())).collect();
        assert_eq!(kinds, [(Kind::Index, "b".into()), (Kind::Constraint, "b".into())]);
    }

    #[test]
    fn an_index_of_something_that_is_no_table_keeps_its_place() {
        let dump = [
            entry("MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW public.mv AS SELECT 1 WITH NO DATA;"),
            entry("INDEX", "CREATE UNIQUE INDEX i ON public.mv USING btree (n);"),
        ];
        let kinds: Vec<_> = sort(&dump.concat()).into_iter().map(|s| s.0).collect();
        assert_eq!(kinds, [Kind::Other, Kind::Other]);
    }

    #[test]
    fn foreign_keys_come_late_and_are_validated_apart_where_that_is_possible() {
        let dump = [
            entry(
                "FK CONSTRAINT",
                "ALTER TABLE ONLY public.a ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES public.b(id) DEFERRABLE;",
            ),
            entry(
                "FK CONSTRAINT",
                "ALTER TABLE public.p ADD CONSTRAINT g FOREIGN KEY (b) REFERENCES public.b(id);",
            ),
            entry("COMMENT", "COMMENT ON CONSTRAINT f ON public.a IS 'x';"),
            entry("TRIGGER", "CREATE TRIGGER t BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION f();"),
        ];
        let sorted = sort(&dump.concat());
        let kinds: Vec<_> = sorted.iter().map(|s| s.0).collect();
        assert_eq!(kinds, [Kind::Other, Kind::ForeignKey, Kind::ForeignKey, Kind::Validate, Kind::Last]);
        assert!(sorted[1].2.ends_with("DEFERRABLE NOT VALID"));
        assert!(sorted[2].2.ends_with("public.b(id)"));
    }

    #[test]
    fn a_tablespace_goes_with_the_indexes_that_follow_it() {
        let dump = format!(
            "SET LOCAL default_tablespace = fast;\n{}SET LOCAL default_tablespace = '';\n{}",
            entry("INDEX", "CREATE INDEX i ON public.a USING btree (n);"),
            entry("INDEX", "CREATE INDEX j ON public.a USING btree (n);")
        );
        let sorted = sort(&dump);
        assert!(sorted[0].2.starts_with("SET LOCAL default_tablespace = fast;\nCREATE INDEX i"));
        assert!(sorted[1].2.starts_with("CREATE INDEX j"));
    }

    #[test]
    fn what_is_about_a_table_or_refers_to_it_is_known() {
        let about = [
            "CREATE TRIGGER t BEFORE INSERT OR UPDATE OF on_, x ON public.a FOR EACH ROW EXECUTE FUNCTION f()",
            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION f()",
            "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON public.a FOR SELECT USING (true)",
            "CREATE RULE r AS ON INSERT TO public.a DO NOTHING",
            "SET LOCAL default_tablespace = fast;\nCREATE UNIQUE INDEX i ON public.a USING btree (n)",
            "COMMENT ON TRIGGER t ON public.a IS 'on public.b'",
            "ALTER TABLE ONLY public.b ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES public.a(id) NOT VALID",
            "alter table \"public\".\"b\" validate constraint \"f\"",
        ];
        let others = [
            "CREATE TRIGGER t BEFORE INSERT ON public.b FOR EACH ROW EXECUTE FUNCTION a()",
            "ALTER TABLE ONLY public.b ADD CONSTRAINT g FOREIGN KEY (n) REFERENCES public.p(id) NOT VALID",
            "alter table \"public\".\"b\" validate constraint \"g\"",
            "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION a()",
        ];
        let statements = about.iter().chain(&others).enumerate().map(|(at, statement)| PostStatement {
            ordinal: at as i32,
            kind: if statement.contains("FOREIGN KEY") { Kind::ForeignKey } else { Kind::Other },
            table: None,
            statement: (*statement).to_owned(),
            done: false,
        });
        let tables = HashSet::from([("public".to_owned(), "a".to_owned())]);
        let found = list_of(&statements.collect::<Vec<_>>(), &tables);
        assert_eq!(found, (0..about.len() as i32).collect());
    }

    #[test]
    fn an_entry_of_several_statements_runs_as_one() {
        let dump = entry(
            "FUNCTION",
            "CREATE FUNCTION f() RETURNS int;\nALTER FUNCTION f() OWNER TO o;\nGRANT x TO y;",
        );
        assert_eq!(sort(&dump).len(), 1);
        let statistics =
            entry("STATISTICS", "CREATE STATISTICS s ON m, n FROM public.a;\nALTER STATISTICS s OWNER TO o;");
        let sorted = sort(&statistics);
        assert_eq!((sorted.len(), sorted[0].0), (1, Kind::Constraint));
    }
}
