//! Which row of the subscriber a row of the publisher is: tables, columns and keys, by rule or by name.

pub mod bound;
mod checks;
mod definitions;
pub mod doubts;
mod draft;
pub mod drift;
mod expression;
mod facts;
pub mod filter;
pub mod foreign_key;
pub mod joins;
#[cfg(test)]
mod joins_tests;
pub mod lint;
#[cfg(test)]
mod lint_tests;
pub mod lossless;
pub mod moves;
#[cfg(test)]
mod moves_tests;
pub mod placeless;
pub mod triggers;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::checks::{check_apart, check_key, check_places, check_reads};
pub use self::definitions::Definitions;
use self::draft::draft;
pub use self::facts::list_defaulted;
use self::facts::{Facts, read_facts};
use self::filter::LeftOut;
use self::joins::Filled;
use crate::error::{Error, Finding, Result};
use crate::pg::Session;
use crate::pg::catalog::{self, Table};
use crate::sql;

/// One `[[map]]`: how rows of a table become rows of another. Expressions are SQL over the old row's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapRule {
    /// `schema.table` on the publisher.
    pub from: String,
    /// `schema.table` on the subscriber.
    pub to: String,
    /// New column and expression, over the old identity's columns; empty: the identity mapped to itself.
    pub key: Vec<(String, String)>,
    /// New column and expression.
    pub columns: Vec<(String, String)>,
    /// Old columns that have no place on the subscriber.
    pub drop: Vec<String>,
    /// SQL over the old row: rows for which it is not true do not go there.
    pub condition: Option<String>,
    /// Its rows fill columns of rows that another rule makes.
    pub joins: bool,
}

/// Schema and name of a table, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Name within it.
    pub name: String,
}

impl TableName {
    /// The name of `table`.
    pub fn of(table: &Table) -> TableName {
        TableName { schema: table.schema.clone(), name: table.name.clone() }
    }

    /// The name in the columns `schema_name` and `table_name` of `row`.
    pub fn in_row(row: &postgres::Row) -> TableName {
        TableName { schema: row.get("schema_name"), name: row.get("table_name") }
    }

    /// `"public"."orders"`, for statements.
    pub fn quoted(&self) -> String {
        sql::quote_qualified(&self.schema, &self.name)
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// One column of the publisher's table that streams carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldColumn {
    /// Name, unquoted.
    pub name: String,
    /// Its type, as `format_type` writes it on the publisher.
    pub publisher_type: String,
    /// The type that its values have on the subscriber while expressions read them.
    pub stage_type: String,
    /// Oid on the publisher of a type that is an enum. The values of one are the same bytes in binary form as in text, which is what
    /// they are staged as where the subscriber's type has not all of them.
    pub enum_oid: Option<u32>,
    /// As [`catalog::Column::equality`], on the publisher.
    pub equality: Option<String>,
}

/// One column of the subscriber's table and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumn {
    /// Name, unquoted.
    pub name: String,
    /// Its type, as `format_type` writes it.
    pub type_name: String,
    /// SQL over the old row's columns, the row itself being called `old`.
    pub expression: String,
    /// Which of [`TableRule::old_columns`] the expression reads.
    pub reads: Vec<usize>,
    /// Needs nothing but the old row and what every server has: the publisher finds the same value.
    pub portable: bool,
    /// False for GENERATED ALWAYS AS IDENTITY, which takes values in an INSERT only.
    pub updatable: bool,
    /// As [`catalog::Column::equality`].
    pub equality: Option<String>,
}

/// Which rows of a table go where a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// SQL over the old row's columns.
    pub expression: String,
    /// Which of [`TableRule::old_columns`] it reads.
    pub reads: Vec<usize>,
    /// As [`MappedColumn::portable`].
    pub portable: bool,
}

/// An expression of which a row's next UPDATE makes another value, though nobody has changed what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsteady {
    /// The column that it is for; `None`: it decides which rows go there.
    pub column: Option<String>,
    /// The functions in it that are so.
    pub functions: Vec<String>,
}

impl Unsteady {
    /// What may be meant.
    pub const HINT: &str = "For a value that a row gets once, give the new column a DEFAULT and map nothing to it; a function of \
                            your own that gives the same each time can be declared STABLE or IMMUTABLE.";

    /// What it comes to, for rows of `to`.
    pub fn message(&self, to: &TableName) -> String {
        let functions = self.functions.iter().map(|name| format!("{name}()")).collect::<Vec<_>>().join(", ");
        match &self.column {
            Some(column) => format!(
                "\"{column}\" of \"{to}\" is computed by {functions}, which may give another value each time: every later UPDATE \
                 of the row on the target changes it on the source"
            ),
            None => format!(
                "which rows go to \"{to}\" is decided by {functions}, which may give another value each time"
            ),
        }
    }
}

/// In which order rows may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In any: the subscriber's table has no unique key beside the one that finds its rows, and so none of them meets a value that
    /// another one is about to give up.
    Any,
    /// As they came.
    AsTheyCame,
}

/// How rows of one table of the publisher become rows of one table of the subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRule {
    /// On the publisher.
    pub from: TableName,
    /// On the subscriber.
    pub to: TableName,
    /// Columns that streams carry, in the table's order.
    pub old_columns: Vec<OldColumn>,
    /// What finds the row of an UPDATE or DELETE; empty: the whole row does.
    pub key: Vec<MappedColumn>,
    /// All that an INSERT writes, those of the key included.
    pub columns: Vec<MappedColumn>,
    /// Which rows go there; `None`: all.
    pub condition: Option<Condition>,
    /// Tables of the subscriber that its expressions read beside the old row: what they hold at that moment makes the row.
    pub looks_up: HashSet<TableName>,
    /// What in its expressions may give another value each time that a row is written.
    pub unsteady: Vec<Unsteady>,
    /// Where its rows fill columns of rows that another rule makes: these columns. It makes and removes no row itself.
    pub fills: Option<Vec<Filled>>,
    /// Columns of the subscriber's table that nothing is written to and that are not generated.
    pub kept: Vec<String>,
    /// There are none, nor another rule that writes them, so that a row can be deleted and inserted again without loss.
    pub complete: bool,
    /// In which order its rows may be written.
    pub order: Order,
    /// Old columns that identify a row on the publisher; `None`: nothing does but the row as a whole.
    pub identity: Option<Vec<usize>>,
    /// Its rows on the publisher are in its partitions, and streamed under their names.
    pub from_partitioned: bool,
    /// The topmost table that it is a partition of on the publisher.
    pub from_root: Option<TableName>,
    /// Columns of the identity that decide on the publisher in which partition a row is.
    pub partition_key: Vec<usize>,
    /// Its rows on the subscriber are in its partitions.
    pub to_partitioned: bool,
    /// The topmost table that it is a partition of on the subscriber.
    pub to_root: Option<TableName>,
    /// The rule that it comes from; `None`: by name.
    pub(super) rule: Option<usize>,
}

/// How all tables of the publisher map to the subscriber's.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    tables: HashMap<TableName, Vec<Arc<TableRule>>>,
    rules: Vec<MapRule>,
    definitions: Definitions,
    left_out: LeftOut,
}

const CHECK: &str = "mapping";

impl Mapping {
    /// Maps `publisher`'s tables, which are those of the flow, to the subscriber's, on which `session` is, by `rules` and else by
    /// name. Keys must have been built there. Everything that does not fit is in one [`Error::ChecksFailed`].
    pub fn build(publisher: &[Table], rules: &[MapRule], session: &mut Session) -> Result<Mapping> {
        Mapping::build_of(publisher, rules, session, true)
    }

    /// The same, where the subscriber's tables were read a moment ago: for a look, since what is altered in between is not seen.
    pub fn build_to(
        publisher: &[Table],
        subscriber: &[Table],
        rules: &[MapRule],
        session: &mut Session,
    ) -> Result<Mapping> {
        let definitions = Definitions::read(session)?;
        Mapping::build_between((publisher, subscriber), definitions, rules, session, true)
    }

    /// The same for some of the flow's tables: what concerns others is not looked at unless it is the `whole` flow.
    fn build_of(
        publisher: &[Table],
        rules: &[MapRule],
        session: &mut Session,
        whole: bool,
    ) -> Result<Mapping> {
        // First, so that what is altered in between is seen as altered since.
        let definitions = Definitions::read(session)?;
        let subscriber = catalog::list_tables(session)?;
        Mapping::build_between((publisher, &subscriber), definitions, rules, session, whole)
    }

    fn build_between(
        (publisher, subscriber): (&[Table], &[Table]),
        definitions: Definitions,
        rules: &[MapRule],
        session: &mut Session,
        whole: bool,
    ) -> Result<Mapping> {
        let facts = read_facts(session, publisher)?;
        let (mut drafts, mut findings) = draft(publisher, subscriber, rules, &facts);
        let concerns = |rule: &&MapRule| whole || publisher.iter().any(|table| table.display() == rule.from);
        findings
            .extend(rules.iter().filter(concerns).flat_map(|rule| check_places(rule, publisher, subscriber)));
        findings.extend(expression::resolve(session, publisher, &mut drafts)?);
        for rule in &drafts {
            let siblings: Vec<&TableRule> = drafts.iter().filter(|other| other.from == rule.from).collect();
            check_reads(rule, rule.rule.map(|at| &rules[at]), &siblings, rules, &mut findings);
            check_key(rule, publisher, &facts, &mut findings);
        }
        check_apart(&drafts, rules, &mut findings);
        if whole {
            joins::check(&drafts, &facts, &mut findings);
        }
        if !findings.is_empty() {
            let mut seen = HashSet::new();
            findings.retain(|finding| seen.insert((finding.object.clone(), finding.message.clone())));
            return Err(Error::ChecksFailed { findings });
        }
        let mut tables: HashMap<TableName, Vec<Arc<TableRule>>> = HashMap::new();
        for rule in drafts {
            tables.entry(rule.from.clone()).or_default().push(Arc::new(rule));
        }
        Ok(Mapping { tables, rules: rules.to_vec(), definitions, left_out: LeftOut::default() })
    }

    /// Where rows of this table of the publisher go; empty for one that is not in the flow.
    pub fn rules_for(&self, schema: &str, name: &str) -> &[Arc<TableRule>] {
        let name = TableName { schema: schema.to_owned(), name: name.to_owned() };
        self.tables.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Whether what it makes of a row may depend on the session's conventions, as far as can be told without reading expressions.
    pub fn depends_on_conventions(&self) -> bool {
        self.pairs().any(|rule| rule.depends_on_conventions())
    }

    /// Columns of the subscriber that get a column's values as they are, with their tables.
    pub fn images_of(&self, table: &TableName, column: &str) -> Vec<(TableName, String)> {
        let rules = self.rules_for(&table.schema, &table.name).iter();
        let images = rules.flat_map(|rule| {
            let same = rule.columns.iter().filter(|mapped| is_column(&mapped.expression, column));
            same.map(|mapped| (rule.to.clone(), mapped.name.clone()))
        });
        images.collect()
    }

    /// All pairs of tables, in no order.
    pub fn pairs(&self) -> impl Iterator<Item = &Arc<TableRule>> {
        self.tables.values().flatten()
    }

    /// Enums of the publisher that columns are of, by oid.
    pub fn enums(&self) -> HashSet<u32> {
        self.pairs().flat_map(|rule| &rule.old_columns).filter_map(|column| column.enum_oid).collect()
    }

    /// The rules by the table of the subscriber that their rows are in, those that make rows first; a partition is left out
    /// where its root goes there too.
    pub fn by_target(&self) -> Vec<Vec<&Arc<TableRule>>> {
        let mut groups: HashMap<&TableName, Vec<&Arc<TableRule>>> = HashMap::new();
        for rule in self.pairs() {
            groups.entry(&rule.to).or_default().push(rule);
        }
        let mut groups: Vec<Vec<&Arc<TableRule>>> = groups.into_values().collect();
        for group in &mut groups {
            let names: HashSet<&TableName> = group.iter().map(|rule| &rule.from).collect();
            group.retain(|rule| rule.from_root.as_ref().is_none_or(|root| !names.contains(root)));
            group.sort_by_cached_key(|rule| {
                (rule.fills.is_some(), rule.from.schema.clone(), rule.from.name.clone())
            });
        }
        groups.sort_by(|one, other| one[0].to.to_string().cmp(&other[0].to.to_string()));
        groups
    }

    /// The same mapping, of tables of which the subscriber has rows that the mirror has left out.
    #[must_use]
    pub fn beside(self, left_out: LeftOut) -> Mapping {
        Mapping { left_out, ..self }
    }

    /// What the mirror has left out of the subscriber's tables, on the way home.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Partitions of a partitioned table's rule whose rows, which are streamed under their names, go to other tables than its own.
    pub fn list_partitions_elsewhere(&self, rule: &TableRule) -> Vec<&TableName> {
        if !rule.from_partitioned {
            return Vec::new();
        }
        let root = rule.from_root.as_ref().unwrap_or(&rule.from);
        let is_elsewhere = |rules: &&Vec<Arc<TableRule>>| {
            let has_rows =
                |one: &Arc<TableRule>| !one.from_partitioned && one.from_root.as_ref() == Some(root);
            rules.iter().any(has_rows) && rules.iter().all(|one| one.to != rule.to)
        };
        self.tables.values().filter(is_elsewhere).map(|rules| &rules[0].from).collect()
    }

    /// What the subscriber's tables were like when it was built.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The rules that it was built from.
    pub fn map_rules(&self) -> &[MapRule] {
        &self.rules
    }
}

impl TableRule {
    /// The subscriber's table for UPDATE, DELETE and TRUNCATE: rows of tables that inherit from it are not its own.
    pub fn target(&self) -> String {
        let only = if self.to_partitioned { "" } else { "only " };
        format!("{only}{}", self.to.quoted())
    }

    /// The subscriber's table that its rows are in, whatever partition of that they are written to.
    pub fn place(&self) -> &TableName {
        self.to_root.as_ref().unwrap_or(&self.to)
    }

    /// Whether a row whose key changes has to be made anew, since GENERATED ALWAYS AS IDENTITY takes no other value in an UPDATE.
    pub fn is_moved_by_insert(&self) -> bool {
        self.key.iter().any(|column| !column.updatable)
    }

    /// Whether it is by name alone: no expression in it is a user's.
    pub fn is_by_name(&self) -> bool {
        self.rule.is_none()
    }

    /// Whether the identity of a row alone tells if it goes there, so that an update cannot change it.
    pub fn is_decided_by_identity(&self) -> bool {
        let known = |at: &usize| self.identity.as_ref().is_some_and(|identity| identity.contains(at));
        self.condition.as_ref().is_none_or(|condition| condition.reads.iter().all(known))
    }

    /// Whether a row may come to it by a change of its key alone, which does not bring all of the row's values along.
    pub fn may_lack_rows(&self) -> bool {
        self.condition.is_some() && self.is_decided_by_identity()
    }

    /// Old columns that anything of it reads, in order.
    pub fn all_reads(&self) -> Vec<usize> {
        let columns = self.columns.iter().chain(&self.key).flat_map(|column| &column.reads);
        let reads: BTreeSet<usize> =
            columns.chain(self.condition.iter().flat_map(|condition| &condition.reads)).copied().collect();
        reads.into_iter().collect()
    }

    /// Columns of the key that have one value in all of its rows.
    pub fn constants(&self) -> impl Iterator<Item = &MappedColumn> {
        self.key.iter().filter(|column| {
            let text = column.expression.as_str();
            column.reads.is_empty() && (text.starts_with('\'') || text.parse::<f64>().is_ok())
        })
    }

    /// Whether its rows are never those of another rule for the same table: a constant of the key tells them apart.
    pub fn is_apart_from(&self, other: &TableRule) -> bool {
        self.constants().any(|column| {
            other.constants().any(|its| its.name == column.name && its.expression != column.expression)
        })
    }

    /// As [`Mapping::depends_on_conventions`].
    fn depends_on_conventions(&self) -> bool {
        let depends = |column: &MappedColumn| {
            let mut old = self.old_columns.iter();
            match old.find(|old| is_column(&column.expression, &old.name)) {
                Some(old) => old.publisher_type != column.type_name,
                // A constant does not.
                None => !column.reads.is_empty() || !column.portable,
            }
        };
        self.condition.is_some() || self.columns.iter().chain(&self.key).any(depends)
    }

    /// Old columns that its key expressions read.
    pub fn key_reads(&self) -> BTreeSet<usize> {
        self.key.iter().flat_map(|column| column.reads.iter().copied()).collect()
    }
}

/// Whether an expression is nothing but this column.
pub(super) fn is_column_name(expression: &str, name: &str) -> bool {
    let expression = expression.trim();
    expression == name || expression == sql::quote_identifier(name)
}

/// The same, or this column as another type.
pub(in crate::flow) fn is_column(expression: &str, name: &str) -> bool {
    let Some((column, type_name)) = expression.split_once("::") else {
        return is_column_name(expression, name);
    };
    // Behind the type there may be more: `id::bigint + 1000`.
    let is_of_type = |letter: char| letter.is_alphanumeric() || " _.,\"()[]".contains(letter);
    is_column_name(column, name) && type_name.chars().all(is_of_type)
}

/// One finding of the mapping.
pub(super) fn finding(object: &str, message: String, hint: impl Into<String>) -> Finding {
    Finding::new(CHECK, object, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cast_column_is_still_that_column_unless_something_is_done_with_it() {
        for plain in
            ["id", " \"id\" ", "id::bigint", "id::\"My\".\"type\"", "id::numeric(10, 2)", "id::int4[]"]
        {
            assert!(is_column(plain, "id"), "{plain}");
        }
        for computed in ["id + 1", "id::bigint + 100000", "id::bigint * 2", "id::text || 'x'", "no::bigint"] {
            assert!(!is_column(computed, "id"), "{computed}");
        }
    }
}
