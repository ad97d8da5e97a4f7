//! The text of the statements that apply staged rows, from a rule: arrays of text come in, typed rows are made of them,
//! expressions are evaluated over these by the server.

use crate::flow::mapping::{MappedColumn, TableRule};
use crate::sql;

/// Where a statement finds its rows.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// In its array parameters.
    Parameters,
    /// In this temporary table, whose columns are those that the statement reads.
    Table(&'a str),
}

/// A statement and which old columns its array parameters hold, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// SQL with `$1::text[]`, ….
    pub text: String,
    /// Parameters that hold rows: those after a change, except in a DELETE.
    pub columns: Vec<usize>,
    /// Parameters behind them that hold the one row before, for a change of key and for tables without one.
    pub old_columns: Vec<usize>,
    /// No column is read of the rows, so that their number comes as the first parameter.
    pub takes_count: bool,
}

/// Which of the old columns these expressions read, in order.
pub(super) fn columns_read<'a>(columns: impl Iterator<Item = &'a MappedColumn>) -> Vec<usize> {
    let mut read: Vec<usize> = columns.flat_map(|column| column.reads.iter().copied()).collect();
    read.sort_unstable();
    read.dedup();
    read
}

/// Typed rows of these old columns, named as they are, from parameters numbered on from `first`.
pub(in crate::flow) fn stage(rule: &TableRule, columns: &[usize], first: usize) -> String {
    stage_from(rule, columns, first, From::Parameters)
}

/// The same, from where they are.
pub(super) fn stage_from(rule: &TableRule, columns: &[usize], first: usize, from: From<'_>) -> String {
    if let From::Table(table) = from {
        let names = columns.iter().map(|column| sql::quote_identifier(&rule.old_columns[*column].name));
        return format!("select {} from {table}", names.collect::<Vec<_>>().join(", "));
    }
    if columns.is_empty() {
        return format!("select from pg_catalog.generate_series(1, ${first}::pg_catalog.int8)");
    }
    format!("{} from {}", typed(rule, columns, 0), unnested(first, columns.len()))
}

/// Values of these old columns, named as they are, from the [`unnested`] ones from `c`*first* on.
fn typed(rule: &TableRule, columns: &[usize], first: usize) -> String {
    let value = |(at, column): (usize, &usize)| {
        let old = &rule.old_columns[*column];
        let value = read_text(&format!("u.c{}", first + at), &old.stage_type);
        format!("{value} as {}", sql::quote_identifier(&old.name))
    };
    format!("select {}", columns.iter().enumerate().map(value).collect::<Vec<_>>().join(", "))
}

/// So many arrays from this parameter on as the columns `c0`, `c1`, … of `u`.
fn unnested(first: usize, count: usize) -> String {
    let arrays: Vec<String> = (first..first + count).map(unnest).collect();
    let names: Vec<String> = (0..count).map(|at| format!("c{at}")).collect();
    format!("rows from ({}) as u({})", arrays.join(", "), names.join(", "))
}

/// `text` read as a value of `type_name`, as that type's own input does.
pub(in crate::flow) fn read_text(text: &str, type_name: &str) -> String {
    match type_name {
        // The cast from text looks for a relation of that name, and refuses "-", which no relation at all is written as.
        "regclass" => format!("pg_catalog.regclassin(pg_catalog.textout({text}))::regclass"),
        _ => format!("{text}::{type_name}"),
    }
}

pub(super) fn unnest(parameter: usize) -> String {
    format!("pg_catalog.unnest(${parameter}::text[])")
}

/// Values of the expressions over staged rows, as `v0`, `v1`, …, and those of the key as `k0`, ….
pub(super) fn evaluated(values: &[&MappedColumn], key: &[MappedColumn], stage: &str) -> String {
    let value = |(at, column): (usize, &&MappedColumn)| format!("({}\n) as v{at}", column.expression);
    let part = |(at, column): (usize, &MappedColumn)| {
        format!("({}\n)::{} as k{at}", column.expression, column.type_name)
    };
    let list: Vec<String> =
        values.iter().enumerate().map(value).chain(key.iter().enumerate().map(part)).collect();
    format!("select {} from ({stage}) as \"old\"", list.join(", "))
}

pub(super) fn key_condition(rule: &TableRule, from: &str) -> String {
    let equal = |(at, column): (usize, &MappedColumn)| {
        let equality = column.equality.as_deref().unwrap_or("=");
        format!("t.{} {equality} {from}.k{at}", sql::quote_identifier(&column.name))
    };
    rule.key.iter().enumerate().map(equal).collect::<Vec<_>>().join(" and ")
}

pub(super) fn assignments(rule: &TableRule, values: &[&MappedColumn]) -> String {
    if values.is_empty() {
        // Nothing to change, but that the row is there is still to be seen.
        let column = rule.columns.iter().find(|column| column.updatable).or(rule.columns.first());
        let name = column.map_or_else(String::new, |column| sql::quote_identifier(&column.name));
        return format!("{name} = t.{name}");
    }
    let assign =
        |(at, column): (usize, &&MappedColumn)| format!("{} = s.v{at}", sql::quote_identifier(&column.name));
    values.iter().enumerate().map(assign).collect::<Vec<_>>().join(", ")
}

/// Writes new rows.
pub fn insert(rule: &TableRule, from: From<'_>) -> Statement {
    let columns = columns_read(rule.columns.iter());
    let values: Vec<&MappedColumn> = rule.columns.iter().collect();
    let into = &rule.to.quoted();
    let staged = stage_from(rule, &columns, 1, from);
    let text = if values.is_empty() {
        format!("insert into {into} {staged}")
    } else {
        let names: Vec<String> = values.iter().map(|column| sql::quote_identifier(&column.name)).collect();
        let picked: Vec<String> = (0..values.len()).map(|at| format!("s.v{at}")).collect();
        format!(
            "insert into {into} ({}) overriding system value select {} from ({}) as s",
            names.join(", "),
            picked.join(", "),
            evaluated(&values, &[], &staged)
        )
    };
    Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
}

/// Whether the old row's values are the new row's, so that their text is all that an INSERT needs.
pub fn is_plain(rule: &TableRule) -> bool {
    !rule.columns.is_empty() && rule.columns.iter().all(|column| taken_as_it_is(rule, column).is_some())
}

/// The old column whose value this one takes as it is, if it does.
pub(super) fn taken_as_it_is(rule: &TableRule, column: &MappedColumn) -> Option<usize> {
    let [at] = column.reads.as_slice() else { return None };
    let old = &rule.old_columns[*at];
    let is_same = old.stage_type == column.type_name && column.expression == sql::quote_identifier(&old.name);
    is_same.then_some(*at)
}

/// The old columns that a plain rule's columns take, in their order.
pub fn plain_columns(rule: &TableRule) -> Vec<usize> {
    rule.columns.iter().flat_map(|column| column.reads.iter().copied()).collect()
}

/// Takes new rows of a plain rule as text.
pub fn copy_into(rule: &TableRule) -> String {
    let names: Vec<String> = rule.columns.iter().map(|column| sql::quote_identifier(&column.name)).collect();
    format!("copy {} ({}) from stdin", rule.to.quoted(), names.join(", "))
}

/// Deletes rows by their key.
pub fn delete(rule: &TableRule, from: From<'_>) -> Statement {
    let columns = columns_read(rule.key.iter());
    let text = format!(
        "delete from {} as t using ({}) as s where {}",
        rule.target(),
        evaluated(&[], &rule.key, &stage_from(rule, &columns, 1, from)),
        key_condition(rule, "s")
    );
    Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
}

/// Fills columns of rows that another rule makes, found by their key.
pub fn fill(rule: &TableRule, from: From<'_>) -> Statement {
    update(rule, from, |_| true)
}

/// Empties what such a rule has filled, in rows found by their key.
pub fn empty(rule: &TableRule, from: From<'_>) -> Statement {
    let columns = columns_read(rule.key.iter());
    let text = format!(
        "{} from ({}) as s where {}",
        empty_all(rule),
        evaluated(&[], &rule.key, &stage_from(rule, &columns, 1, from)),
        key_condition(rule, "s")
    );
    Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
}

/// Empties what such a rule has filled, in all rows.
pub fn empty_all(rule: &TableRule) -> String {
    let filled = rule.fills.iter().flatten();
    let emptied: Vec<String> =
        filled.map(|column| format!("{} = default", sql::quote_identifier(&column.name))).collect();
    let emptied = if emptied.is_empty() { assignments(rule, &[]) } else { emptied.join(", ") };
    format!("update {} as t set {emptied}", rule.target())
}

/// Deletes all rows of a rule that shares its table with others, by what tells them apart.
pub fn delete_own(rule: &TableRule) -> String {
    let equal = |column: &MappedColumn| {
        let equality = column.equality.as_deref().unwrap_or("=");
        let MappedColumn { name, expression, type_name, .. } = column;
        format!("t.{} {equality} (({expression})::{type_name})", sql::quote_identifier(name))
    };
    let conditions: Vec<String> = rule.constants().map(equal).collect();
    format!("delete from {} as t where {}", rule.target(), conditions.join(" and "))
}

/// Columns that an update writes, when those of `rule.old_columns` for which `present` is false are not known.
pub(super) fn updated<'a>(rule: &'a TableRule, present: &impl Fn(usize) -> bool) -> Vec<&'a MappedColumn> {
    let is_key = |column: &MappedColumn| rule.key.iter().any(|key| key.name == column.name);
    let wanted = |column: &&MappedColumn| {
        column.updatable && !is_key(column) && column.reads.iter().all(|at| present(*at))
    };
    rule.columns.iter().filter(wanted).collect()
}

/// The same where the key changes too.
pub(super) fn moved<'a>(rule: &'a TableRule, present: &impl Fn(usize) -> bool) -> Vec<&'a MappedColumn> {
    let made_anew = rule.is_moved_by_insert();
    let wanted = |column: &&MappedColumn| {
        (column.updatable || made_anew) && column.reads.iter().all(|at| present(*at))
    };
    rule.columns.iter().filter(wanted).collect()
}

/// Gives the row with the key of the staged row `old` the values `new`, which are those of `values`. Where the key takes no UPDATE,
/// a new row gets what the old one has beside them.
pub(super) fn moving(rule: &TableRule, values: &[&MappedColumn], new: &str, old: &str) -> String {
    let key = evaluated(&[], &rule.key, old);
    let condition = key_condition(rule, "o");
    if !rule.is_moved_by_insert() {
        let assignments = assignments(rule, values);
        return format!(
            "update {} as t set {assignments} from ({new}) as s, ({key}) as o where {condition}",
            rule.target()
        );
    }
    let given = |name: &String| values.iter().position(|column| column.name == *name);
    let (names, taken): (Vec<String>, Vec<String>) = (rule.columns.iter().map(|column| &column.name))
        .chain(&rule.kept)
        .map(|name| {
            let quoted = sql::quote_identifier(name);
            let taken = given(name).map_or_else(|| format!("g.{quoted}"), |at| format!("s.v{at}"));
            (quoted, taken)
        })
        .unzip();
    format!(
        "with \"pgdetour gone\" as (delete from {} as t using ({key}) as o where {condition} returning t.*) \
         insert into {} ({}) overriding system value select {} from \"pgdetour gone\" as g, ({new}) as s",
        rule.target(),
        rule.to.quoted(),
        names.join(", "),
        taken.join(", "),
    )
}

/// Updates rows by their key, which does not change; only columns whose inputs are all `present` are written.
pub fn update(rule: &TableRule, from: From<'_>, present: impl Fn(usize) -> bool) -> Statement {
    let values = updated(rule, &present);
    let columns = columns_read(values.iter().copied().chain(&rule.key));
    let text = format!(
        "update {} as t set {} from ({}) as s where {}",
        rule.target(),
        assignments(rule, &values),
        evaluated(&values, &rule.key, &stage_from(rule, &columns, 1, from)),
        key_condition(rule, "s")
    );
    Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
}

/// Changes one row whose key changes too.
pub fn change_key(rule: &TableRule, present: impl Fn(usize) -> bool) -> Statement {
    let values = moved(rule, &present);
    let columns = columns_read(values.iter().copied());
    let old_columns = columns_read(rule.key.iter());
    let new = evaluated_or_one(&values, &stage(rule, &columns, 1));
    let text = moving(rule, &values, &new, &stage(rule, &old_columns, columns.len().max(1) + 1));
    Statement { text, takes_count: columns.is_empty(), columns, old_columns }
}

/// The same for many rows, of which all is known, each old one beside its new one; `None` where it takes a statement for each.
pub fn change_keys(rule: &TableRule) -> Option<Statement> {
    let values = moved(rule, &|_| true);
    let columns = columns_read(values.iter().copied());
    let old_columns = columns_read(rule.key.iter());
    if columns.is_empty() || old_columns.is_empty() || rule.is_moved_by_insert() {
        return None;
    }
    let text = format!(
        "update {} as t set {} from {}, lateral ({}) as s, lateral ({}) as o where {}",
        rule.target(),
        assignments(rule, &values),
        unnested(1, columns.len() + old_columns.len()),
        evaluated(&values, &[], &typed(rule, &columns, 0)),
        evaluated(&[], &rule.key, &typed(rule, &old_columns, columns.len())),
        key_condition(rule, "o")
    );
    Some(Statement { text, takes_count: false, columns, old_columns })
}

pub(super) fn evaluated_or_one(values: &[&MappedColumn], stage: &str) -> String {
    if values.is_empty() { stage.to_owned() } else { evaluated(values, &[], stage) }
}

/// What a whole row holds: the mapped values over the old row, and the columns of `x`, in the same order.
fn whole_values(rule: &TableRule) -> (String, String) {
    let value = |column: &MappedColumn| format!("({}\n)::{}", column.expression, column.type_name);
    let name = |column: &MappedColumn| format!("x.{}", sql::quote_identifier(&column.name));
    let list =
        |text: &dyn Fn(&MappedColumn) -> String| rule.columns.iter().map(text).collect::<Vec<_>>().join(", ");
    (list(&value), list(&name))
}

/// One row of the table that equals the staged one in every mapped column, bit for bit: works for every type, uses no index.
fn whole_row(rule: &TableRule, first: usize) -> (String, Vec<usize>) {
    let columns = columns_read(rule.columns.iter());
    let (values, names) = whole_values(rule);
    let text = format!(
        "select x.tableoid as o, x.ctid as c from (select row({values}) as r from ({}) as \"old\") as e, {} as x \
         where row({names}) operator(pg_catalog.*=) e.r limit 1",
        stage(rule, &columns, first),
        rule.target()
    );
    (text, columns)
}

/// Deletes one row that equals the old one.
pub fn delete_whole(rule: &TableRule) -> Statement {
    let (hit, old_columns) = whole_row(rule, 1);
    let text = format!(
        "delete from {} as t using ({hit}) as h where t.tableoid = h.o and t.ctid = h.c",
        rule.target()
    );
    Statement { text, takes_count: false, columns: Vec::new(), old_columns }
}

/// Deletes, for each row that is given, one that equals it as text: as many of equal rows as are given. Reads the table once.
pub fn delete_wholes(rule: &TableRule, from: From<'_>) -> Statement {
    let columns = columns_read(rule.columns.iter());
    let (values, names) = whole_values(rule);
    let text = format!(
        "with wanted as materialized (select e.r, pg_catalog.count(*) as n from \
         (select row({values})::text as r from ({}) as \"old\") as e group by e.r), \
         found as (select x.tableoid as o, x.ctid as c, w.n, pg_catalog.row_number() over (partition by w.r) as k \
         from wanted as w join {} as x on row({names})::text = w.r) \
         delete from {} as t using found as h where h.k <= h.n and t.tableoid = h.o and t.ctid = h.c",
        stage_from(rule, &columns, 1, from),
        rule.target(),
        rule.target()
    );
    Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
}

/// Updates one row that equals the old one.
pub fn update_whole(rule: &TableRule) -> Statement {
    let values = moved(rule, &|_| true);
    let columns = columns_read(values.iter().copied());
    let (hit, old_columns) = whole_row(rule, columns.len().max(1) + 1);
    let text = format!(
        "update {} as t set {} from ({}) as s, ({hit}) as h where t.tableoid = h.o and t.ctid = h.c",
        rule.target(),
        assignments(rule, &values),
        evaluated_or_one(&values, &stage(rule, &columns, 1)),
    );
    Statement { text, takes_count: columns.is_empty(), columns, old_columns }
}

/// Reads what would be written, as one JSON object by column, as far as its inputs are `present`; no row where the
/// condition, as far as it can be told, says that nothing is.
pub fn values(rule: &TableRule, present: impl Fn(usize) -> bool) -> Statement {
    let is_known = |column: &&MappedColumn| column.reads.iter().all(|at| present(*at));
    let values: Vec<&MappedColumn> = rule.columns.iter().filter(is_known).collect();
    let condition = rule.condition.as_ref().filter(|condition| condition.reads.iter().all(|at| present(*at)));
    let mut columns = columns_read(values.iter().copied());
    columns.extend(condition.iter().flat_map(|condition| condition.reads.iter().copied()));
    columns.sort_unstable();
    columns.dedup();
    let mut staged = stage(rule, &columns, 1);
    if let Some(condition) = condition {
        staged = format!("select * from ({staged}) as \"old\" where ({}\n)", condition.expression);
    }
    let pair = |(at, column): (usize, &&MappedColumn)| {
        format!("s.v{at}::text as {}", sql::quote_identifier(&column.name))
    };
    let list: Vec<String> = values.iter().enumerate().map(pair).collect();
    let text = format!(
        "select pg_catalog.to_jsonb(m.*) from (select {} from ({}) as s) as m",
        list.join(", "),
        evaluated_or_one(&values, &staged),
    );
    Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
}

/// Old columns that are not `present` though an expression reads them beside one that is.
pub fn columns_to_fetch(rule: &TableRule, present: impl Fn(usize) -> bool) -> Vec<usize> {
    let mixed = |column: &&MappedColumn| column.reads.iter().any(|at| present(*at));
    let mut wanted: Vec<usize> = rule
        .columns
        .iter()
        .filter(mixed)
        .flat_map(|column| column.reads.iter().copied())
        .filter(|at| !present(*at))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Reads the present values of `wanted` on the publisher, by key: its position among those asked for, then the values as text.
pub fn fetch(rule: &TableRule, identity: &[usize], wanted: &[usize]) -> String {
    let name = |at: &usize| sql::quote_identifier(&rule.old_columns[*at].name);
    let values: Vec<String> = wanted.iter().map(|at| format!("t.{}::text", name(at))).collect();
    let arrays: Vec<String> = (1..=identity.len()).map(unnest).collect();
    let names: Vec<String> = (0..identity.len()).map(|at| format!("c{at}")).collect();
    let equal = |(at, column): (usize, &usize)| {
        let old = &rule.old_columns[*column];
        let value = read_text(&format!("u.c{at}"), &old.publisher_type);
        format!("t.{} {} {value}", name(column), old.equality.as_deref().unwrap_or("="))
    };
    format!(
        "select u.position, {} from rows from ({}) with ordinality as u({}, position) \
         join only {} as t on {}",
        values.join(", "),
        arrays.join(", "),
        names.join(", "),
        rule.from.quoted(),
        identity.iter().enumerate().map(equal).collect::<Vec<_>>().join(" and ")
    )
}
