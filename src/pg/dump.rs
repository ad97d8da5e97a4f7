//! The schema of a database, by `pg_dump`, as statements that another server can take.

pub mod fit;
pub mod lexer;
pub mod program;
pub mod script;

pub use fit::{Abilities, LeftOut};
pub use script::Entry;

use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::pg::{Server, Session};
use crate::sql;

/// A schema in two halves: what holds data, and what is better made once the data are there.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// Types, functions, tables, views, their owners and grants.
    pub pre_data: Vec<Entry>,
    /// Indexes, constraints, triggers, rules, policies.
    pub post_data: Vec<Entry>,
    /// What the receiving server cannot take and is left out.
    pub warnings: Vec<String>,
}

/// Dumps the schema of `publisher` without the relations in `abilities.absent`, fitted to a server of
/// version `receiving_version` with these `abilities`. It is of one snapshot, which `keeper`, a session there, keeps.
/// Unless `only` is empty, nothing but these tables, and what hangs on them, is dumped.
pub fn dump_schema(
    publisher: &Server,
    mut keeper: Session,
    receiving_version: i32,
    abilities: &Abilities,
    only: &[(String, String)],
    stop: &AtomicBool,
) -> Result<Schema> {
    let program = program::find_pg_dump(keeper.version.max(receiving_version) / 10_000)?;
    let snapshot = export_snapshot(&mut keeper)?;
    let mut options: Vec<String> = abilities
        .absent
        .iter()
        .map(|(schema, name)| format!("--exclude-table={}", sql::quote_qualified(schema, name)))
        .collect();
    options.sort();
    options
        .extend(only.iter().map(|(schema, name)| format!("--table={}", sql::quote_qualified(schema, name))));
    options.push(format!("--snapshot={snapshot}"));
    let mut left_out = LeftOut::default();
    let script = program::run_pg_dump(&program, publisher, &options, stop)?;
    let (pre_data, post_data) = script::halve(script::split(&script)?);
    let mut fitted = |half: Vec<Entry>| fit::fit(half, abilities, &mut left_out);
    let (pre_data, mut post_data) = (fitted(pre_data), fitted(post_data));
    // Triggers of ours on the publisher's tables call functions of schema "pgdetour", which is not dumped.
    post_data.retain(|entry| !entry.statements.iter().any(|statement| is_ours(statement)));
    Ok(Schema { pre_data, post_data, warnings: left_out.warnings() })
}

/// Dumps schemas themselves, and nothing of what is in them: who owns them, what is said of them and who may use them.
pub fn dump_bare_schemas(
    publisher: &Server,
    version: i32,
    abilities: &Abilities,
    names: &[&str],
    stop: &AtomicBool,
) -> Result<Schema> {
    let program = program::find_pg_dump(version / 10_000)?;
    let mut options = vec!["--exclude-table=*.*".to_owned()];
    options.extend(names.iter().map(|name| format!("--schema={}", sql::quote_identifier(name))));
    let script = program::run_pg_dump(&program, publisher, &options, stop)?;
    let mut entries = script::split(&script)?;
    entries.retain(|entry| entry.schema_itself().is_some());
    let mut left_out = LeftOut::default();
    let pre_data = fit::fit(entries, abilities, &mut left_out);
    Ok(Schema { pre_data, post_data: Vec::new(), warnings: left_out.warnings() })
}

fn is_ours(statement: &str) -> bool {
    [
        "CREATE TRIGGER \"!pgdetour_",
        "CREATE TRIGGER \"~pgdetour_",
        "CREATE TRIGGER pgdetour_",
        "CREATE EVENT TRIGGER pgdetour_",
    ]
    .iter()
    .any(|begin| statement.trim_start().starts_with(begin))
}

/// Begins a transaction that keeps a snapshot for others until the session ends; the snapshot's name.
pub fn export_snapshot(session: &mut Session) -> Result<String> {
    session.query_text("begin isolation level repeatable read, read only", &[])?;
    let rows = session.query_text("select pg_catalog.pg_export_snapshot()", &[])?;
    Ok(rows[0].get(0))
}
