//! What the mapping's expressions read and whether their values can be stored: asked of the server, not parsed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::mapping::{MappedColumn, OldColumn, TableRule, finding};
use crate::error::{Error, Finding, Result, ServerError};
use crate::pg::Session;
use crate::sql;

/// One question to the server; tables with the same columns (partitions) ask it once.
#[derive(PartialEq, Eq, Hash)]
struct Question {
    stage: String,
    to: String,
    column: String,
    expression: String,
}

/// Names of the columns read, or what the server says against the expression.
type Answer = std::result::Result<Vec<String>, ServerError>;

/// Fills in which old columns the expressions of `rules` read; what the server refuses is a finding.
/// Works in temporary objects of a transaction that is rolled back.
pub(super) fn resolve(session: &mut Session, rules: &mut [TableRule]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut known = HashMap::new();
    for rule in rules {
        let pending: Vec<MappedColumn> =
            rule.columns.iter().chain(&rule.key).filter(|column| is_open(column, rule)).cloned().collect();
        if pending.is_empty() {
            continue;
        }
        let stage = stage_columns(&rule.old_columns);
        let mut answers: HashMap<(String, String), Vec<usize>> = HashMap::new();
        for column in pending {
            let question = Question {
                stage: stage.clone(),
                to: rule.to.quoted(),
                column: column.name.clone(),
                expression: column.expression.clone(),
            };
            let answer = match known.entry(question) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let answer = ask(session, entry.key())?;
                    entry.insert(answer)
                }
            };
            match answer {
                Ok(names) => {
                    let is_read = |at: &usize| names.contains(&rule.old_columns[*at].name);
                    let reads = (0..rule.old_columns.len()).filter(is_read).collect();
                    answers.insert((column.name, column.expression), reads);
                }
                Err(said) => findings.push(refused(rule, &column, said)),
            }
        }
        for column in rule.columns.iter_mut().chain(&mut rule.key) {
            if let Some(reads) = answers.get(&(column.name.clone(), column.expression.clone())) {
                column.reads.clone_from(reads);
            }
        }
    }
    Ok(findings)
}

/// Whether only the server can say what the expression reads, or whether its value fits.
fn is_open(column: &MappedColumn, rule: &TableRule) -> bool {
    match column.reads.as_slice() {
        [at] => rule.old_columns[*at].stage_type != column.type_name,
        _ => true,
    }
}

fn refused(rule: &TableRule, column: &MappedColumn, said: &ServerError) -> Finding {
    let hint = said.hint.clone().unwrap_or_else(|| {
        format!(
            "Give an expression of type {} in the [[map]] from \"{}\": {} = \"…\".",
            column.type_name, rule.from, column.name
        )
    });
    let message = format!("column \"{}\" of \"{}\" cannot be written: {said}", column.name, rule.to);
    finding(&rule.from.to_string(), message, hint)
}

fn stage_columns(columns: &[OldColumn]) -> String {
    let columns = columns.iter().map(|column| {
        let name = sql::quote_identifier(&column.name);
        format!("{name} {}", column.stage_type)
    });
    columns.collect::<Vec<_>>().join(", ")
}

fn ask(session: &mut Session, question: &Question) -> Result<Answer> {
    let on = session.side.name();
    let failed = |error: &postgres::Error| Error::sql("examine the mapping's expressions", on, error);
    let stage = format!("begin; create temporary table pgdetour_stage ({})", question.stage);
    let staged = session.client().batch_execute(&stage);
    let answer = match staged {
        Ok(()) => examine(session, question),
        Err(error) => Err(error),
    };
    session.client().batch_execute("rollback").map_err(|error| failed(&error))?;
    match answer {
        Ok(reads) => Ok(Ok(reads)),
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

fn examine(session: &mut Session, question: &Question) -> std::result::Result<Vec<String>, postgres::Error> {
    let Question { to, column, expression, .. } = question;
    let client = session.client();
    // In WHERE, since aggregates and set-returning functions, which would change the number of rows, are refused there.
    client.batch_execute(&format!(
        "create temporary view pgdetour_expression as \
         select from pg_temp.pgdetour_stage as \"old\" where ({expression}\n) is null"
    ))?;
    client.prepare(&format!(
        "insert into {to} ({column}) overriding system value \
         select s.v from (select ({expression}\n) as v from pg_temp.pgdetour_stage as \"old\") as s",
        column = sql::quote_identifier(column)
    ))?;
    let row = client.query_one(sql::flow::LIST_COLUMNS_READ.text, &[])?;
    if row.get("whole_row") {
        let rows = client.query(
            "select attname::text from pg_catalog.pg_attribute \
             where attrelid = pg_catalog.to_regclass('pg_temp.pgdetour_stage') and attnum > 0",
            &[],
        )?;
        return Ok(rows.iter().map(|row| row.get(0)).collect());
    }
    Ok(row.get("columns"))
}
