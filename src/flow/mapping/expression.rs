//! What the mapping's expressions read and whether their values can be stored: asked of the server, not parsed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use postgres::error::SqlState;
use postgres::types::Json;

use super::lint::{mentions, quoted_where_needed, toml_key, toml_text};
use super::{Condition, MappedColumn, OldColumn, TableName, TableRule, Unsteady, finding, is_column_name};
use crate::error::{Error, Finding, Result, ServerError};
use crate::pg::Session;
use crate::pg::catalog::{Column, Table};
use crate::sql;

/// One question to the server; tables with the same columns (partitions) ask it once.
#[derive(PartialEq, Eq, Hash)]
struct Question {
    stage: String,
    to: String,
    /// `None`: it decides which rows go there.
    column: Option<String>,
    expression: String,
}

/// What an expression depends on.
#[derive(Clone)]
struct Needs {
    /// Names of the old columns that it reads.
    columns: Vec<String>,
    /// Tables, functions or types that somebody made.
    others: bool,
    /// The tables among them, as far as can be told.
    tables: Vec<TableName>,
    /// Functions that may give another value each time.
    unsteady: Vec<String>,
}

/// What the expression depends on, or what the server says against it.
type Answer = std::result::Result<Needs, ServerError>;

/// Fills in which old columns and tables the expressions of `rules` read; what the server refuses is a finding.
/// Works in temporary objects of a transaction that is rolled back.
pub(super) fn resolve(
    session: &mut Session,
    publisher: &[Table],
    rules: &mut [TableRule],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut known: HashMap<Question, Answer> = HashMap::new();
    for rule in rules {
        let pending: Vec<MappedColumn> =
            rule.columns.iter().chain(&rule.key).filter(|column| is_open(column, rule)).cloned().collect();
        if pending.is_empty() && rule.condition.is_none() {
            continue;
        }
        let stage = stage_columns(&rule.old_columns);
        let mut answer = |column: Option<&str>, expression: &str| {
            let question = Question {
                stage: stage.clone(),
                to: rule.to.quoted(),
                column: column.map(str::to_owned),
                expression: expression.to_owned(),
            };
            match known.entry(question) {
                Entry::Occupied(entry) => Ok(entry.get().clone()),
                Entry::Vacant(entry) => {
                    let answer: Answer = ask(session, entry.key())?;
                    Ok::<Answer, Error>(entry.insert(answer).clone())
                }
            }
        };
        let names: Vec<String> = rule.old_columns.iter().map(|old| old.name.clone()).collect();
        let reads = |needs: &Needs| -> Vec<usize> {
            (0..names.len()).filter(|at| needs.columns.contains(&names[*at])).collect()
        };
        let mut answers: HashMap<(String, String), (Vec<usize>, bool)> = HashMap::new();
        for column in pending {
            match answer(Some(&column.name), &column.expression)? {
                Ok(needs) => {
                    let found = (reads(&needs), !needs.others);
                    rule.looks_up.extend(needs.tables);
                    note_unsteady(&mut rule.unsteady, Some(&column.name), needs.unsteady);
                    answers.insert((column.name, column.expression), found);
                }
                Err(said) => findings.push(refused(rule, publisher, &column, &said)),
            }
        }
        if let Some(condition) = &mut rule.condition {
            match answer(None, &condition.expression)? {
                Ok(needs) => {
                    condition.reads = reads(&needs);
                    condition.portable = !needs.others;
                    rule.looks_up.extend(needs.tables);
                    note_unsteady(&mut rule.unsteady, None, needs.unsteady);
                }
                Err(said) => findings.push(refused_condition(&rule.from, publisher, condition, &said)),
            }
        }
        for column in rule.columns.iter_mut().chain(&mut rule.key) {
            if let Some((reads, portable)) = answers.get(&(column.name.clone(), column.expression.clone())) {
                column.reads.clone_from(reads);
                column.portable = *portable;
            }
        }
    }
    Ok(findings)
}

fn note_unsteady(all: &mut Vec<Unsteady>, column: Option<&str>, functions: Vec<String>) {
    let column = column.map(str::to_owned);
    // A column of the key is asked about twice.
    if !functions.is_empty() && all.iter().all(|other| other.column != column) {
        all.push(Unsteady { column, functions });
    }
}

/// Whether only the server can say what the expression reads, or whether its value fits.
fn is_open(column: &MappedColumn, rule: &TableRule) -> bool {
    match column.reads.as_slice() {
        [at] => rule.old_columns[*at].stage_type != column.type_name,
        _ => true,
    }
}

fn refused(rule: &TableRule, publisher: &[Table], column: &MappedColumn, said: &ServerError) -> Finding {
    let (why, hint) = reason(&rule.from, publisher, &column.expression, said, || {
        format!(
            "Give an expression of type {} in the [[map]] from \"{}\": {} = \"...\".",
            column.type_name, rule.from, column.name
        )
    });
    // The server speaks of the text that the old value is here, which nobody has written.
    let hint = renamed_type(rule, column).unwrap_or(hint);
    let message = format!("column \"{}\" of \"{}\" cannot be written: {why}", column.name, rule.to);
    let place = format!("{}.{}", rule.to, column.name);
    Finding { column: Some(place), ..finding(&rule.from.to_string(), message, hint) }
}

/// What to write where a value goes over by name, and its type is not known under its old name.
fn renamed_type(rule: &TableRule, column: &MappedColumn) -> Option<String> {
    let is_it = |old: &&OldColumn| {
        old.stage_type != old.publisher_type && is_column_name(&column.expression, &old.name)
    };
    let old = rule.old_columns.iter().find(is_it)?;
    let expression = format!("{}::{}", quoted_where_needed(&old.name), column.type_name);
    Some(format!(
        "Type \"{}\" of the old column is not there under its name, or lacks values. Where it was renamed or moved, say so in a \
         [[map]] from \"{}\": columns = {{ {} = {} }}.",
        old.publisher_type,
        rule.from,
        toml_key(&column.name),
        toml_text(&expression)
    ))
}

fn refused_condition(
    from: &TableName,
    publisher: &[Table],
    condition: &Condition,
    said: &ServerError,
) -> Finding {
    let (why, hint) = reason(from, publisher, &condition.expression, said, || {
        "Write SQL over the old row's columns that is true or false, such as where = \"kind = 'person'\"."
            .into()
    });
    let message = format!("where = \"{}\" cannot be evaluated: {why}", condition.expression);
    finding(&from.to_string(), message, hint)
}

/// What is wrong with an expression and what mends it; `advice` is what does where nobody knows better.
fn reason(
    from: &TableName,
    publisher: &[Table],
    expression: &str,
    said: &ServerError,
    advice: impl FnOnce() -> String,
) -> (String, String) {
    if said.is(&SqlState::UNDEFINED_COLUMN)
        && let Some(column) = generated_in(from, publisher, expression)
    {
        let generation = column.generation.as_deref().unwrap_or_default();
        return (
            format!(
                "column \"{}\" of \"{from}\" is generated, so that its values are not recorded",
                column.name
            ),
            format!("Write in its place what it is generated from: {generation}."),
        );
    }
    (said.to_string(), said.hint.clone().unwrap_or_else(advice))
}

/// A column that an expression names although no change carries it.
fn generated_in<'a>(from: &TableName, publisher: &'a [Table], expression: &str) -> Option<&'a Column> {
    let table = publisher.iter().find(|table| TableName::of(table) == *from)?;
    table.columns.iter().find(|column| column.is_generated() && mentions(expression, &column.name))
}

fn stage_columns(columns: &[OldColumn]) -> String {
    let columns = columns.iter().map(|column| {
        let name = sql::quote_identifier(&column.name);
        format!("{name} {}", column.stage_type)
    });
    columns.collect::<Vec<_>>().join(", ")
}

fn ask(session: &mut Session, question: &Question) -> Result<Answer> {
    let on = session.place.name();
    let failed = |error: &postgres::Error| Error::sql("examine the mapping's expressions", on, error);
    let answer = examine(session, question);
    session.client().batch_execute("rollback").map_err(|error| failed(&error))?;
    match answer {
        Ok(needs) => Ok(Ok(needs)),
        // An answer about the expression, not a failure of the server or of our rights to ask.
        Err(error) if error.as_db_error().is_some_and(|said| is_about_expression(said.code().code())) => {
            Ok(Err(ServerError::from(&error)))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Classes of SQLSTATE that blame a statement's text: data exceptions, syntax and names, unsupported features.
fn is_about_expression(sqlstate: &str) -> bool {
    ["22", "42", "0A"].iter().any(|class| sqlstate.starts_with(class)) && sqlstate != "42501"
}

fn examine(session: &mut Session, question: &Question) -> std::result::Result<Needs, postgres::Error> {
    let Question { to, column, expression, stage, .. } = question;
    let client = session.client();
    // In WHERE, since aggregates and set-returning functions, which would change the number of rows, are refused there.
    let test = if column.is_some() { "is null" } else { "is not true" };
    client.batch_execute(&format!(
        "begin; create temporary table pgdetour_stage ({stage}); \
         create temporary view pgdetour_expression as \
         select from pg_temp.pgdetour_stage as \"old\" where ({expression}\n) {test}"
    ))?;
    if let Some(column) = column {
        client.prepare(&format!(
            "insert into {to} ({column}) overriding system value \
             select s.v from (select ({expression}\n) as v from pg_temp.pgdetour_stage as \"old\") as s",
            column = sql::quote_identifier(column)
        ))?;
    }
    let row = client.query_typed_one(sql::flow::LIST_COLUMNS_READ.text, &[])?;
    let Json(tables): Json<Vec<(String, String)>> = row.get("tables");
    let table = |(schema, name)| TableName { schema, name };
    let mut needs = Needs {
        columns: row.get("columns"),
        others: row.get("needs_others"),
        tables: tables.into_iter().map(table).collect(),
        unsteady: row.get("unsteady"),
    };
    if row.get("whole_row") {
        let rows = client.query_typed(
            "select attname::text from pg_catalog.pg_attribute \
             where attrelid = pg_catalog.to_regclass('pg_temp.pgdetour_stage') and attnum > 0",
            &[],
        )?;
        needs.columns = rows.iter().map(|row| row.get(0)).collect();
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use crate::flow::apply::test_pair::{Pair, rule};

    #[test]
    fn it_is_known_which_functions_may_give_another_value_each_time() {
        let pair = Pair::new(
            "create table t (id int primary key, v text)",
            "create table t (id int primary key, v text);
             create sequence s;
             create function steady(v text) returns text language sql immutable as 'select v';
             create function plain(v text) returns text language sql as 'select v'",
        );
        for (expression, expected) in [
            ("old.v || ':funcid 3432 {SQLVALUEFUNCTION :op 3 '", ""),
            ("pg_catalog.to_char(old.id, '9')", ""),
            ("public.steady(v)", ""),
            ("current_user", ""),
            ("gen_random_uuid()::text", "gen_random_uuid"),
            ("now()::text || v", "now"),
            ("current_date", "current_timestamp"),
            ("age('2020-01-01'::timestamp)::text", "age"),
            ("age('2020-01-01'::timestamp, '2021-01-01')::text", ""),
            ("nextval('public.s')::text || random()", "nextval random"),
            ("case when v = '' then public.plain(v) end", "plain"),
        ] {
            let mapping =
                pair.mapping(&[rule("public.t", "public.t", &[], &[("v", expression)], &["v"])]).unwrap();
            let found = &mapping.rules_for("public", "t")[0].unsteady;
            let names: Vec<String> = found.iter().flat_map(|one| one.functions.clone()).collect();
            assert_eq!(names.join(" "), expected, "{expression}");
            assert!(found.iter().all(|one| one.column.as_deref() == Some("v")));
        }
    }

    #[test]
    fn it_is_known_which_tables_an_expression_looks_up() {
        let pair = Pair::new(
            "create table t (id int primary key, v int)",
            "create table t (id int primary key, v int);
             create table a (id int primary key, v int);
             create table \"B\" (id int primary key, v int);
             create table parts (id int primary key, v int) partition by range (id);
             create table part_1 partition of parts for values from (0) to (10);
             create table part_2 partition of parts for values from (10) to (20);
             create table \"länder\" (id int primary key, v int);
             create table \"order-items $1\" (id int primary key, v int);
             create view over_a as select * from a where v > 0;
             create function immutable_a(a int) returns int language sql immutable as 'select a + 1';
             create function elsewhere(wanted int) returns int language plpgsql stable as $$ begin
                 return (select v from public.\"länder\" where id = wanted) + (select v from \"order-items $1\" where id = wanted);
             end $$;
             create function declared(wanted int) returns int language sql return (select v from over_a where id = wanted);
             create function in_text(wanted int) returns int language sql as 'select v from public.a where id = wanted';
             create function in_quotes(wanted int) returns int language plpgsql
                 as $$ begin return (select v from \"B\" where id = in_text(wanted)); end $$;
             create function nothing_else(wanted int) returns int language plpgsql as $$ begin return wanted + 1; end $$",
        );
        for (expression, expected) in [
            ("old.v + 1", ""),
            ("(select a.v from public.a where a.id = old.v)", "a"),
            ("(select o.v from public.over_a as o where o.id = old.v)", "a"),
            ("(select p.v from public.parts as p where p.id = old.v)", "part_1 part_2 parts"),
            ("(select p.v from public.part_1 as p where p.id = old.v)", "part_1 part_2 parts"),
            ("(select x.v from public.t as x where x.id = old.v)", "t"),
            ("public.declared(old.v)", "a"),
            ("public.in_text(old.v)", "a"),
            ("public.in_quotes(old.v)", "B a"),
            ("public.nothing_else(old.v)", ""),
            ("public.immutable_a(old.v)", ""),
            ("public.elsewhere(old.v)", "länder order-items $1"),
        ] {
            let mapping =
                pair.mapping(&[rule("public.t", "public.t", &[], &[("v", expression)], &[])]).unwrap();
            let rules = mapping.rules_for("public", "t");
            let mut tables: Vec<&str> = rules[0].looks_up.iter().map(|table| table.name.as_str()).collect();
            tables.sort_unstable();
            assert_eq!(tables.join(" "), expected, "{expression}");
        }
    }
}
