//! What becomes of each captured column in the other side's schema as it is, and what a mapping could say: proposed, never assumed.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::doubts::{Doubt, Keys, Way, list_doubts};
use super::lossless::keeps_values;
use super::{CHECK, MapRule, Mapping, TableRule, Unsteady, is_column_name, moves};
use crate::error::Finding;
use crate::pg::catalog::{Column, Table};
use crate::sql;

/// What becomes of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Written as they are.
    Kept,
    /// Written as another type or through an expression.
    Converted,
    /// Left out, as `drop` says.
    Dropped,
    /// No place is known for them.
    Impossible,
}

/// One captured column on its way to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnLint {
    /// Its name on the publisher.
    pub column: String,
    /// What becomes of it.
    pub fate: Fate,
    /// Where it goes; none when it is dropped or has no place.
    #[serde(rename = "to_column")]
    pub to: Option<String>,
    /// Its type on the publisher.
    pub from_type: String,
    /// The type that it becomes.
    pub to_type: Option<String>,
    /// Whether every value survives the conversion; none when an expression decides.
    pub lossless: Option<bool>,
}

/// One captured table on its way to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableLint {
    /// On the publisher.
    pub from: String,
    /// On the subscriber; none when no rule and no name says where.
    pub to: Option<String>,
    /// Each captured column.
    pub columns: Vec<ColumnLint>,
    /// Columns of the subscriber's table that are NOT NULL, have no default, and get no value.
    pub without_value: Vec<String>,
    /// What only the data can tell: a rehearsal does.
    pub doubts: Vec<Doubt>,
    /// What replay is refused for as things are.
    pub refused: Vec<Refusal>,
    /// Text of a `[[map]]` that might be meant.
    pub proposal: Option<String>,
}

/// Something for which replay is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What mends it.
    pub hint: String,
}

impl TableLint {
    /// Of which nothing is known but where it is.
    fn unknown(from: String) -> TableLint {
        TableLint {
            from,
            to: None,
            columns: Vec::new(),
            without_value: Vec::new(),
            doubts: Vec::new(),
            refused: Vec::new(),
            proposal: None,
        }
    }
}

/// The check that our role may write where rows go.
pub const RIGHTS: &str = "replay_rights";

/// Adds what checks of the mapping have found: one has had the server read its expressions.
pub fn add_refusals(lints: &mut Vec<TableLint>, publisher: &[Table], findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| [CHECK, RIGHTS].contains(&finding.check)) {
        let table = publisher.iter().find(|table| table.display() == finding.object);
        let root = table.and_then(|table| table.root.as_ref());
        let from = root.map_or_else(|| finding.object.clone(), |(schema, name)| format!("{schema}.{name}"));
        for lint in lints.iter_mut().filter(|lint| lint.from == from) {
            let to = lint.to.clone().unwrap_or_default();
            let is_it = |column: &&mut ColumnLint| {
                let place = column.to.as_ref().map(|name| format!("{to}.{name}"));
                place.is_some() && place == finding.column
            };
            for column in lint.columns.iter_mut().filter(is_it) {
                column.fate = Fate::Impossible;
                column.lossless = None;
            }
        }
        let at = lints.iter().position(|lint| lint.from == from).unwrap_or_else(|| {
            lints.push(TableLint::unknown(from));
            lints.len() - 1
        });
        let refusal = Refusal { message: finding.message.clone(), hint: finding.hint.clone() };
        lints[at].refused.push(refusal);
    }
}

/// Adds what the keys of both sides leave open.
pub fn add_doubts(
    lints: &mut [TableLint],
    tables: (&[Table], &[Table]),
    rules: &[MapRule],
    keys: (&Keys, &Keys),
) {
    let find = |tables: &'_ [Table], name: &str| tables.iter().position(|table| table.display() == name);
    let way = |lint: &TableLint| {
        let (from, to) = (find(tables.0, &lint.from)?, find(tables.1, lint.to.as_ref()?)?);
        let rule = rules.iter().find(|rule| rule.from == lint.from && Some(&rule.to) == lint.to.as_ref());
        Some(Way { from: &tables.0[from], to: &tables.1[to], rule })
    };
    let ways: Vec<Option<Way<'_>>> = lints.iter().map(way).collect();
    let all: Vec<Way<'_>> = ways.iter().flatten().copied().collect();
    for (lint, way) in lints.iter_mut().zip(&ways) {
        if let Some(way) = way {
            lint.doubts = list_doubts(*way, &all, keys.0, keys.1);
        }
    }
}

/// Adds the expressions that make another value each time, as the server has told when the mapping was built.
pub fn add_unsteady(lints: &mut [TableLint], mapping: &Mapping) {
    for lint in lints {
        let is_it = |rule: &&Arc<TableRule>| {
            let from = rule.from_root.as_ref().unwrap_or(&rule.from);
            from.to_string() == lint.from && Some(rule.to.to_string()) == lint.to
        };
        // Partitions have the rule of their root.
        let Some(rule) = mapping.pairs().find(is_it) else { continue };
        let doubt = |one: &Unsteady| Doubt {
            kind: "volatile",
            message: format!("{}. {}", one.message(&rule.to), Unsteady::HINT),
        };
        lint.doubts.extend(rule.unsteady.iter().map(doubt));
    }
}

/// Adds what rows lose that an UPDATE moves from one partition to another.
pub fn add_lost_by_moves(lints: &mut [TableLint], mapping: &Mapping) {
    for (from, message) in mapping.list_lost_by_moves() {
        for lint in lints.iter_mut().filter(|lint| lint.from == from) {
            let message = format!("{message}. {}", moves::HINT);
            lint.doubts.push(Doubt { kind: "moved_row", message });
        }
    }
}

/// Looks at all captured tables; `has_default` tells of a subscriber's column whether it fills itself.
pub fn lint(
    publisher: &[Table],
    subscriber: &[Table],
    rules: &[MapRule],
    has_default: &dyn Fn(&Table, &Column) -> bool,
) -> Vec<TableLint> {
    let find = |name: &str| subscriber.iter().find(|table| table.display() == name);
    let mut found = Vec::new();
    for table in publisher.iter().filter(|table| table.root.is_none()) {
        let name = table.display();
        let own: Vec<&MapRule> = rules.iter().filter(|rule| rule.from == name).collect();
        let parts: Vec<(&MapRule, &Table)> =
            own.iter().filter_map(|rule| Some((*rule, find(&rule.to)?))).collect();
        for (rule, to) in &parts {
            found.push(pair(table, to, Some(rule), &own, &parts, has_default));
        }
        if !own.is_empty() {
            continue;
        }
        found.push(match find(&name) {
            Some(to) => pair(table, to, None, &[], &[], has_default),
            None => match renamed(table, publisher, subscriber, rules) {
                Some(to) => TableLint { to: None, ..pair(table, to, None, &[], &[], has_default) },
                None => TableLint {
                    columns: written(table).map(without_place).collect(),
                    ..TableLint::unknown(name)
                },
            },
        });
    }
    found
}

fn written(table: &Table) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|column| !column.is_generated())
}

fn without_place(column: &Column) -> ColumnLint {
    ColumnLint {
        column: column.name.clone(),
        fate: Fate::Impossible,
        to: None,
        from_type: column.type_name.clone(),
        to_type: None,
        lossless: None,
    }
}

fn pair(
    from: &Table,
    to: &Table,
    rule: Option<&MapRule>,
    siblings: &[&MapRule],
    others: &[(&MapRule, &Table)],
    has_default: &dyn Fn(&Table, &Column) -> bool,
) -> TableLint {
    let empty = MapRule::default();
    let map = rule.unwrap_or(&empty);
    let explicit = |column: &Column| map.columns.iter().chain(&map.key).any(|(name, _)| *name == column.name);
    let is_plain_there = |column: &Column| to.column(&column.name).is_some_and(|new| !new.is_generated());
    // Where a table is split, a column that has no place here may have one in another part, and is told there.
    let is_elsewhere = |column: &Column| others.iter().any(|(rule, to)| has_place(&column.name, rule, to));
    let columns = from.columns.iter().filter_map(|column| {
        if column.is_generated() {
            return is_plain_there(column).then(|| generated_fate(column, to, map, &explicit));
        }
        let lint = column_fate(column, to, map, siblings, &explicit);
        (lint.fate != Fate::Impossible || !is_elsewhere(column)).then_some(lint)
    });
    let columns: Vec<ColumnLint> = columns.collect();
    let by_name = |column: &Column| {
        !map.drop.contains(&column.name) && written(from).any(|old| old.name == column.name)
    };
    let without_value: Vec<String> = written(to)
        .filter(|column| column.not_null && !explicit(column) && !by_name(column))
        .filter(|column| !has_default(to, column) && !map.joins)
        .map(|column| column.name.clone())
        .collect();
    let mut lint =
        TableLint { to: Some(to.display()), columns, without_value, ..TableLint::unknown(from.display()) };
    if rule.is_none() {
        lint.proposal = propose(from, to, &lint);
    }
    lint
}

/// Whether a rule writes a column of the old table somewhere.
pub(super) fn has_place(name: &str, rule: &MapRule, to: &Table) -> bool {
    let by_name =
        to.column(name).is_some_and(|new| !new.is_generated()) && !rule.drop.iter().any(|it| it == name);
    by_name || rule.columns.iter().chain(&rule.key).any(|(_, expression)| mentions(expression, name))
}

/// Of a column that no change carries: its values are computed anew, or left out.
fn generated_fate(
    column: &Column,
    to: &Table,
    map: &MapRule,
    explicit: &dyn Fn(&Column) -> bool,
) -> ColumnLint {
    let lint = without_place(column);
    match to.column(&column.name).filter(|new| explicit(new)) {
        Some(new) => ColumnLint {
            fate: Fate::Converted,
            to: Some(new.name.clone()),
            to_type: Some(new.type_name.clone()),
            ..lint
        },
        None if map.drop.contains(&column.name) => ColumnLint { fate: Fate::Dropped, ..lint },
        None => lint,
    }
}

fn column_fate(
    column: &Column,
    to: &Table,
    map: &MapRule,
    siblings: &[&MapRule],
    explicit: &dyn Fn(&Column) -> bool,
) -> ColumnLint {
    let to_type = |name: &str| to.column(name).map(|new| new.type_name.clone());
    let mut lint = without_place(column);
    if let Some(new) = to.column(&column.name)
        && !new.is_generated()
        && !explicit(new)
        && !map.drop.contains(&column.name)
    {
        lint.to = Some(new.name.clone());
        lint.to_type = Some(new.type_name.clone());
        lint.fate = if new.type_name == column.type_name { Fate::Kept } else { Fate::Converted };
        lint.lossless = Some(keeps_values(column, new));
        return lint;
    }
    let all = || map.columns.iter().chain(&map.key);
    let plain = all().find(|(_, expression)| is_column_name(expression, &column.name));
    if let Some((name, _)) = plain {
        lint.to = Some(name.clone());
        lint.to_type = to_type(name);
        let same = lint.to_type.as_ref() == Some(&column.type_name);
        lint.fate = if same { Fate::Kept } else { Fate::Converted };
        lint.lossless = to.column(name).map(|new| keeps_values(column, new));
        return lint;
    }
    if let Some((name, _)) = all().find(|(_, expression)| mentions(expression, &column.name)) {
        lint.to = Some(name.clone());
        lint.to_type = to_type(name);
        lint.fate = Fate::Converted;
        return lint;
    }
    let drops = |rule: &&MapRule| rule.drop.contains(&column.name);
    if map.drop.contains(&column.name) || siblings.iter().any(drops) {
        lint.fate = Fate::Dropped;
    }
    lint
}

/// Whether the column's name stands in an expression as a word of its own.
pub(super) fn mentions(expression: &str, name: &str) -> bool {
    let quoted = sql::quote_identifier(name);
    if expression.contains(&quoted) {
        return true;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let lower = expression.to_lowercase();
    lower
        .match_indices(name)
        .any(|(at, _)| !lower[..at].ends_with(is_word) && !lower[at + name.len()..].starts_with(is_word))
}

/// The one table, not known under its name on the publisher, that has most of the table's columns.
fn renamed<'a>(
    table: &Table,
    publisher: &[Table],
    subscriber: &'a [Table],
    rules: &[MapRule],
) -> Option<&'a Table> {
    let is_free = |other: &&Table| {
        let name = other.display();
        other.root.is_none()
            && publisher.iter().all(|old| old.display() != name)
            && rules.iter().all(|rule| rule.to != name)
    };
    let shared = |other: &Table| {
        let same = |(at, old): (usize, &Column)| {
            other.column(&old.name).is_some()
                || other.columns.get(at).is_some_and(|new| new.type_name == old.type_name)
        };
        table.columns.iter().enumerate().filter(|(at, old)| same((*at, *old))).count()
    };
    let mut candidates: Vec<(usize, &Table)> = subscriber
        .iter()
        .filter(is_free)
        .map(|other| (shared(other), other))
        .filter(|(count, _)| count * 2 > table.columns.len())
        .collect();
    candidates.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    match candidates.as_slice() {
        [(_, only)] => Some(only),
        // Two that fit equally well are none.
        [(first, best), (second, _), ..] if first > second => Some(best),
        _ => None,
    }
}

/// A `[[map]]` for what has another name, or no place; none when everything goes by name.
fn propose(from: &Table, to: &Table, lint: &TableLint) -> Option<String> {
    let homeless: Vec<&ColumnLint> =
        lint.columns.iter().filter(|column| column.fate == Fate::Impossible).collect();
    if from.display() == to.display() && homeless.is_empty() {
        return None;
    }
    let (pairs, lost) = find_places(&homeless, from, to);
    let mut text =
        format!("[[map]]\nfrom = {}\nto = {}\n", toml_table(&from.display()), toml_table(&to.display()));
    if !pairs.is_empty() {
        let texts: Vec<String> =
            pairs.iter().map(|(name, sql)| format!("{} = {}", toml_key(name), toml_text(sql))).collect();
        let _ = writeln!(text, "columns = {{ {} }}", texts.join(", "));
    }
    if !lost.is_empty() {
        let is_paired = |name: &str| pairs.iter().any(|(paired, _)| *paired == name);
        let unfilled: Vec<&str> = list_new_columns(from, to).filter(|name| !is_paired(name)).collect();
        let _ = writeln!(text, "{}", drop_line(&lost, &unfilled));
    }
    for column in lint.without_value.iter().filter(|column| pairs.iter().all(|(name, _)| name != column)) {
        let _ = writeln!(text, "# {column} is NOT NULL and needs an expression in columns");
    }
    Some(text)
}

/// Which new column each column without a place might have become, with its expression, and those for which there is none.
fn find_places<'a>(
    homeless: &[&'a ColumnLint],
    from: &Table,
    to: &'a Table,
) -> (Vec<(&'a str, String)>, Vec<&'a str>) {
    let mut pairs = Vec::new();
    let mut lost = Vec::new();
    for column in homeless {
        let old = from.column(&column.column);
        let new = old.and_then(|old| in_place_of(old, from, to)).filter(|new| {
            new.type_name == column.from_type && from.column(&new.name).is_none() && !new.is_generated()
        });
        let generation = old.and_then(|old| old.generation.clone());
        match (generation, new) {
            (Some(generation), _) => pairs.push((column.column.as_str(), generation)),
            (None, Some(new)) => pairs.push((new.name.as_str(), quoted_where_needed(&column.column))),
            (None, None) => lost.push(column.column.as_str()),
        }
    }
    (pairs, lost)
}

/// The new column that stands where an old one stood, as far as that tells: a rename keeps a column's number. Where those of columns
/// that kept their names do not agree, since one of the tables had lost some before it was mirrored, as many columns have to stand
/// between two of these on either side.
fn in_place_of<'a>(old: &Column, from: &Table, to: &'a Table) -> Option<&'a Column> {
    let is_shared =
        |column: &Column| from.column(&column.name).is_some() && to.column(&column.name).is_some();
    let agrees = |column: &Column| to.column(&column.name).is_none_or(|new| new.number == column.number);
    if from.columns.iter().all(agrees) {
        return to.columns.iter().find(|new| new.number == old.number);
    }
    let at = from.columns.iter().position(|column| column.name == old.name)?;
    let after = from.columns[..at].iter().rfind(|column| is_shared(column));
    let before = from.columns[at..].iter().find(|column| is_shared(column));
    let (own, there) = (gap(from, after, before), gap(to, after, before));
    let columns = to.columns.get(there).unwrap_or_default();
    if columns.len() == own.len() { columns.get(at - own.start) } else { None }
}

/// Where the columns of a table stand that are between these two, as they are called there.
fn gap(table: &Table, after: Option<&Column>, before: Option<&Column>) -> Range<usize> {
    let place = |column: &Column| table.columns.iter().position(|other| other.name == column.name);
    after.and_then(place).map_or(0, |at| at + 1)..before.and_then(place).unwrap_or(table.columns.len())
}

/// Columns that can be written and whose names the old table does not know.
fn list_new_columns<'a>(from: &Table, to: &'a Table) -> impl Iterator<Item = &'a str> {
    written(to).filter(|new| from.column(&new.name).is_none()).map(|new| new.name.as_str())
}

/// Leaves out what has no place; only as a comment where a new column gets nothing, since the values may belong there.
fn drop_line(lost: &[&str], unfilled: &[&str]) -> String {
    let texts: Vec<String> = lost.iter().map(|name| toml_text(name)).collect();
    let drop = format!("drop = [{}]", texts.join(", "));
    if unfilled.is_empty() {
        return drop;
    }
    // A line break in a name would end the comment.
    let names: Vec<String> = unfilled.iter().map(|name| toml_text(name)).collect();
    let verb = if unfilled.len() == 1 { "gets" } else { "get" };
    format!(
        "# {drop} would lose these values, while {} {verb} none: say in columns what becomes of them",
        names.join(", ")
    )
}

/// A column's name as SQL, in quotes only where they are needed.
pub(super) fn quoted_where_needed(name: &str) -> String {
    let plain = name
        .chars()
        .enumerate()
        .all(|(at, c)| c.is_ascii_lowercase() || c == '_' || at > 0 && c.is_ascii_digit());
    if plain { name.to_owned() } else { sql::quote_identifier(name) }
}

/// A table's name, given as `schema.name`, as a `[[map]]` takes it.
pub(in crate::flow) fn toml_table(name: &str) -> String {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    toml_text(&format!("{}.{}", quoted_where_needed(schema), quoted_where_needed(table)))
}

/// As a literal string where there is something in it that would have to be escaped otherwise.
pub(super) fn toml_text(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains(|c: char| c == '\'' || c.is_control()) {
        return format!("'{text}'");
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"))
}

pub(super) fn toml_key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { toml_text(name) }
}
