//! Which row of the subscriber a row of the publisher is: tables, columns and keys, by rule or by name.

pub mod bound;
mod checks;
pub mod doubts;
pub mod drift;
mod expression;
pub mod filter;
pub mod joins;
#[cfg(test)]
mod joins_tests;
pub mod lint;
#[cfg(test)]
mod lint_tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::checks::{check_key, check_places, check_reads};
use self::joins::Filled;
use crate::error::{Error, Finding, Result};
use crate::pg::Session;
use crate::pg::catalog::{Identity, Table};
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Where its rows fill columns of rows that another rule makes: these columns. It makes and removes no row itself.
    pub fills: Option<Vec<Filled>>,
    /// Every column of the subscriber's table is written, so that a row can be deleted and inserted again without loss.
    pub complete: bool,
    /// Old columns that identify a row on the publisher; `None`: nothing does but the row as a whole.
    pub identity: Option<Vec<usize>>,
    /// Its rows on the publisher are in its partitions, and streamed under their names.
    pub from_partitioned: bool,
    /// The topmost table that it is a partition of on the publisher.
    pub from_root: Option<TableName>,
    /// Its rows on the subscriber are in its partitions.
    pub to_partitioned: bool,
    /// The rule that it comes from; `None`: by name.
    pub(super) rule: Option<usize>,
}

/// How all tables of the publisher map to the subscriber's.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    tables: HashMap<TableName, Vec<Arc<TableRule>>>,
    rules: Vec<MapRule>,
}

/// What the subscriber's catalog says about writing to its tables.
#[derive(Debug, Default)]
pub(super) struct Facts {
    defaulted: HashSet<(TableName, String)>,
    /// Defaults that are constants.
    constants: HashMap<(TableName, String), String>,
    always_identity: HashSet<(TableName, String)>,
    pub(super) unique_keys: HashMap<TableName, Vec<Vec<String>>>,
    pub(super) indexed_keys: HashMap<TableName, Vec<Vec<String>>>,
    /// With the values of enums.
    known_types: HashMap<String, Vec<String>>,
}

const CHECK: &str = "mapping";
const FIRST_USER_OID: u32 = 16384;

impl Mapping {
    /// Maps `publisher`'s tables, which are those of the flow, to `subscriber`'s, which are all that there are, by `rules` and
    /// else by name. `session` is on the subscriber, whose keys must have been built; it reads the expressions.
    /// Everything that does not fit is in one [`Error::ChecksFailed`].
    pub fn build(
        publisher: &[Table],
        subscriber: &[Table],
        rules: &[MapRule],
        session: &mut Session,
    ) -> Result<Mapping> {
        Mapping::build_of(publisher, subscriber, rules, session, true)
    }

    /// The same for some of the flow's tables: what concerns others is not looked at unless it is the `whole` flow.
    fn build_of(
        publisher: &[Table],
        subscriber: &[Table],
        rules: &[MapRule],
        session: &mut Session,
        whole: bool,
    ) -> Result<Mapping> {
        let facts = read_facts(session, publisher)?;
        let (mut drafts, mut findings) = draft(publisher, subscriber, rules, &facts);
        let concerns = |rule: &&MapRule| whole || publisher.iter().any(|table| table.display() == rule.from);
        findings
            .extend(rules.iter().filter(concerns).flat_map(|rule| check_places(rule, publisher, subscriber)));
        findings.extend(expression::resolve(session, &mut drafts)?);
        for rule in &drafts {
            let siblings: Vec<&TableRule> = drafts.iter().filter(|other| other.from == rule.from).collect();
            check_reads(rule, rule.rule.map(|at| &rules[at]), &siblings, rules, &mut findings);
            check_key(rule, publisher, &facts, &mut findings);
        }
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
        Ok(Mapping { tables, rules: rules.to_vec() })
    }

    /// Where rows of this table of the publisher go; empty for one that is not in the flow.
    pub fn rules_for(&self, schema: &str, name: &str) -> &[Arc<TableRule>] {
        let name = TableName { schema: schema.to_owned(), name: name.to_owned() };
        self.tables.get(&name).map_or(&[], Vec::as_slice)
    }

    /// All pairs of tables, in no order.
    pub fn pairs(&self) -> impl Iterator<Item = &Arc<TableRule>> {
        self.tables.values().flatten()
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

    /// Old columns that its key expressions read.
    pub fn key_reads(&self) -> BTreeSet<usize> {
        self.key.iter().flat_map(|column| column.reads.iter().copied()).collect()
    }
}

/// Columns of the server's tables that fill themselves when an INSERT names them not.
pub fn list_defaulted(session: &mut Session) -> Result<HashSet<(TableName, String)>> {
    Ok(read_facts(session, &[])?.defaulted)
}

/// Columns of the unique keys of the server's tables that hold for all rows and at once.
pub fn list_unique_keys(session: &mut Session) -> Result<HashMap<TableName, Vec<Vec<String>>>> {
    Ok(read_facts(session, &[])?.unique_keys)
}

fn read_facts(session: &mut Session, publisher: &[Table]) -> Result<Facts> {
    let mut facts = Facts::default();
    for row in session.query(&sql::flow::LIST_WRITE_FACTS, &[])? {
        let table = TableName { schema: row.get("schema_name"), name: row.get("table_name") };
        for column in row.get::<_, Vec<String>>("defaulted") {
            facts.defaulted.insert((table.clone(), column));
        }
        for column in row.get::<_, Vec<String>>("always_identity") {
            facts.always_identity.insert((table.clone(), column));
        }
        let constants: postgres::types::Json<HashMap<String, String>> = row.get("constants");
        for (column, default) in constants.0 {
            facts.constants.insert((table.clone(), column), default);
        }
        let keys: postgres::types::Json<Vec<Vec<String>>> = row.get("unique_keys");
        facts.unique_keys.insert(table.clone(), keys.0);
        let keys: postgres::types::Json<Vec<Vec<String>>> = row.get("indexed_keys");
        facts.indexed_keys.insert(table, keys.0);
    }
    let custom: BTreeSet<&str> = publisher
        .iter()
        .flat_map(|table| &table.columns)
        .filter(|column| column.type_oid >= FIRST_USER_OID)
        .map(|column| column.type_name.as_str())
        .collect();
    let custom: Vec<&str> = custom.into_iter().collect();
    if !custom.is_empty() {
        let rows = session.query(&sql::flow::LIST_KNOWN_TYPES, &[&custom])?;
        let labels = |row: &postgres::Row| {
            let labels: Option<&str> = row.get("labels");
            labels.and_then(|labels| serde_json::from_str(labels).ok()).unwrap_or_default()
        };
        facts.known_types = rows.iter().map(|row| (row.get("name"), labels(row))).collect();
    }
    Ok(facts)
}

/// The rules of all tables, with what explicit expressions read still to be found out, and what does not fit.
fn draft(
    publisher: &[Table],
    subscriber: &[Table],
    rules: &[MapRule],
    facts: &Facts,
) -> (Vec<TableRule>, Vec<Finding>) {
    let targets: HashMap<String, &Table> = subscriber.iter().map(|table| (table.display(), table)).collect();
    let mut findings = Vec::new();
    let mut drafts = Vec::new();
    for table in publisher {
        let root = table.root.as_ref().map(|(schema, name)| format!("{schema}.{name}"));
        let mut own = rules_from(rules, &table.display());
        if own.is_empty() {
            own = root.as_deref().map_or_else(Vec::new, |root| rules_from(rules, root));
        }
        if own.is_empty() {
            let target =
                targets.get(&table.display()).or_else(|| root.as_deref().and_then(|root| targets.get(root)));
            match target {
                Some(target) => drafts.push(pair(table, target, None, facts, &mut findings)),
                None => findings.push(finding(
                    &table.display(),
                    format!("table \"{}\" does not exist on the other side", table.display()),
                    "Say in a [[map]] where its rows go, or leave it out of the mirrored tables.",
                )),
            }
        }
        for at in own {
            if let Some(target) = targets.get(&rules[at].to) {
                drafts.push(pair(table, target, Some((at, &rules[at])), facts, &mut findings));
            }
        }
    }
    (drafts, findings)
}

fn rules_from(rules: &[MapRule], table: &str) -> Vec<usize> {
    (0..rules.len()).filter(|at| rules[*at].from == table).collect()
}

/// The rule for one pair of tables.
fn pair(
    from: &Table,
    to: &Table,
    rule: Option<(usize, &MapRule)>,
    facts: &Facts,
    findings: &mut Vec<Finding>,
) -> TableRule {
    let empty = MapRule::default();
    let (at, map) = rule.map_or((None, &empty), |(at, rule)| (Some(at), rule));
    let object = rule.map_or_else(|| from.display(), |(_, rule)| rule.from.clone());
    let to_name = TableName::of(to);
    let old_columns: Vec<OldColumn> = from
        .columns
        .iter()
        .filter(|column| !column.generated)
        .map(|column| {
            // An enum that lacks a value here cannot hold the old row; its text can.
            let has_all = |labels: &Vec<String>| column.labels.iter().all(|label| labels.contains(label));
            let known = column.type_oid < FIRST_USER_OID
                || facts.known_types.get(&column.type_name).is_some_and(has_all);
            let stage_type = if known { column.type_name.clone() } else { "text".to_owned() };
            OldColumn { name: column.name.clone(), publisher_type: column.type_name.clone(), stage_type }
        })
        .collect();
    let position = |name: &str| old_columns.iter().position(|column| column.name == name);

    for (name, _) in map.columns.iter().chain(&map.key) {
        match to.column(name) {
            None => findings.push(finding(
                &object,
                format!("column \"{name}\" does not exist in \"{to_name}\""),
                format!("Correct the name in the [[map]] from \"{}\".", map.from),
            )),
            Some(column) if column.generated => findings.push(finding(
                &object,
                format!("column \"{name}\" of \"{to_name}\" is generated and cannot be written"),
                format!("Take it out of the [[map]] from \"{}\".", map.from),
            )),
            Some(_) => {}
        }
    }
    for name in &map.drop {
        if position(name).is_none() && from.column(name).is_none() {
            findings.push(finding(
                &object,
                format!("column \"{name}\", named in \"drop\", does not exist in \"{}\"", from.display()),
                format!("Correct the name in the [[map]] from \"{}\".", map.from),
            ));
        }
    }

    let mut columns = Vec::new();
    let mut complete = true;
    for column in to.columns.iter().filter(|column| !column.generated) {
        let explicit = map.columns.iter().chain(&map.key).find(|(name, _)| *name == column.name);
        let by_name = position(&column.name).filter(|_| !map.drop.contains(&column.name));
        let place = (to_name.clone(), column.name.clone());
        let (expression, reads) = match (explicit, by_name) {
            (Some((_, expression)), _) => (typed_literal(expression, &column.type_name), Vec::new()),
            (None, Some(at)) => (by_name_expression(&old_columns[at], &column.type_name), vec![at]),
            (None, None) => {
                complete = false;
                if column.not_null && !map.joins && !facts.defaulted.contains(&place) {
                    findings.push(finding(
                        &object,
                        format!("column \"{}\" of \"{to_name}\" is NOT NULL, has no default, and nothing is mapped to it", column.name),
                        format!("Give it an expression in a [[map]], or run: ALTER TABLE {} ALTER COLUMN {} SET DEFAULT …;",
                            to_name.quoted(), sql::quote_identifier(&column.name)),
                    ));
                }
                continue;
            }
        };
        let updatable = !facts.always_identity.contains(&place);
        let old_is_identity = by_name.is_some() && from.column(&column.name).is_some_and(|old| old.identity);
        let in_key = map.key.iter().any(|(name, _)| *name == column.name) || from.key.contains(&column.name);
        if !updatable && !old_is_identity && !in_key {
            findings.push(finding(
                &object,
                format!("column \"{}\" of \"{to_name}\" is GENERATED ALWAYS AS IDENTITY, so updates cannot be written to it", column.name),
                format!("Run: ALTER TABLE {} ALTER COLUMN {} SET GENERATED BY DEFAULT;",
                    to_name.quoted(), sql::quote_identifier(&column.name)),
            ));
        }
        columns.push(MappedColumn {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            expression,
            reads,
            portable: true,
            updatable,
        });
    }

    // A whole old row comes with every change under FULL, so a primary key serves as well as an identity.
    let identity_names = if from.identity == Identity::Full { &from.primary_key } else { &from.key };
    let identity: Option<Vec<usize>> = (!identity_names.is_empty())
        .then(|| identity_names.iter().filter_map(|name| position(name)).collect());
    let mut key = Vec::new();
    if map.key.is_empty() {
        for name in identity_names {
            let mapped = columns.iter().find(|column| {
                column.name == *name && !map.columns.iter().any(|(explicit, _)| explicit == name)
                    || is_column_name(&column.expression, name)
            });
            match mapped {
                Some(column) => key.push(column.clone()),
                None => findings.push(finding(
                    &object,
                    format!("column \"{name}\" of the key of \"{}\" is not mapped", from.display()),
                    format!("Say in the [[map]] how to find a row: key = {{ new_column = \"{name}\" }}."),
                )),
            }
        }
    } else {
        let named = |column: &&MappedColumn| map.key.iter().any(|(name, _)| *name == column.name);
        key = columns.iter().filter(named).cloned().collect();
        for column in &mut key {
            if let Some((_, expression)) = map.key.iter().find(|(name, _)| *name == column.name) {
                column.expression = typed_literal(expression, &column.type_name);
            }
        }
    }
    // A row that is deleted and inserted again would lose what the other rule wrote.
    complete &= !map.joins;
    let fills = map.joins.then(|| joins::filled(&to_name, &columns, &key, facts));
    TableRule {
        from: TableName::of(from),
        to: to_name,
        fills,
        old_columns,
        key,
        columns,
        condition: map.condition.as_ref().map(|expression| Condition {
            expression: expression.clone(),
            reads: Vec::new(),
            portable: true,
        }),
        complete,
        identity,
        from_partitioned: from.partitioned,
        from_root: from
            .root
            .as_ref()
            .map(|(schema, name)| TableName { schema: schema.clone(), name: name.clone() }),
        to_partitioned: to.partitioned,
        rule: at,
    }
}

/// A literal alone has the column's type, as it has in an INSERT; other expressions are left as they are.
fn typed_literal(expression: &str, type_name: &str) -> String {
    let text = expression.trim();
    let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let is_literal = text.eq_ignore_ascii_case("null")
        || inner.is_some_and(|inner| !inner.replace("''", "").contains(['\'', '\\']));
    if is_literal { format!("{text}::{type_name}") } else { expression.to_owned() }
}

/// A column by its name; a value of a type of the same name whose old text was kept is read as the new type reads it.
fn by_name_expression(old: &OldColumn, new_type: &str) -> String {
    let name = sql::quote_identifier(&old.name);
    let is_text = old.stage_type != old.publisher_type;
    if is_text && old.publisher_type == new_type { format!("{name}::{new_type}") } else { name }
}

/// Whether an expression is nothing but this column.
pub(super) fn is_column_name(expression: &str, name: &str) -> bool {
    let expression = expression.trim();
    expression == name || expression == sql::quote_identifier(name)
}

/// One finding of the mapping.
pub(super) fn finding(object: &str, message: String, hint: impl Into<String>) -> Finding {
    Finding { check: CHECK, object: object.to_owned(), message, hint: hint.into() }
}
