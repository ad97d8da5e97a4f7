//! Triggers and rules of the subscriber that act on rows that are carried over, and may make others of them.

use crate::error::Result;
use crate::pg::Session;
use crate::sql;

use super::TableName;
use super::doubts::Doubt;
use super::lint::TableLint;

/// A trigger that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTrigger {
    /// The table that it is on.
    pub table: TableName,
    /// The topmost table, where it is on a partition or on what has some.
    root: Option<TableName>,
    /// Its name, unquoted.
    pub name: String,
}

impl UserTrigger {
    /// Whether what is written to one of these tables may set it off: a partition's fires on what is written to its root.
    pub fn is_on(&self, is_written: impl Fn(&TableName) -> bool) -> bool {
        is_written(&self.table) || self.root.as_ref().is_some_and(is_written)
    }
}

/// All of the database that fire in sessions that act as a replica, too.
pub fn list_always_triggers(session: &mut Session) -> Result<Vec<UserTrigger>> {
    list_triggers(session, &["A", "R"])
}

/// All of the database that fire in ordinary sessions alone.
pub fn list_ordinary_triggers(session: &mut Session) -> Result<Vec<UserTrigger>> {
    list_triggers(session, &["O"])
}

fn list_triggers(session: &mut Session, enabled: &[&str]) -> Result<Vec<UserTrigger>> {
    let rows = session.query(&sql::flow::LIST_USER_TRIGGERS, &[&enabled])?;
    let trigger = |row: &postgres::Row| {
        let root: Option<String> = row.get("root_schema");
        UserTrigger {
            table: TableName::in_row(row),
            root: root.zip(row.get("root_table")).map(|(schema, name)| TableName { schema, name }),
            name: row.get("trigger_name"),
        }
    };
    Ok(rows.iter().map(trigger).collect())
}

/// A rule that somebody made for what is written to a table. Statements that name another table, a root among them, do not set it off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRule {
    /// The table that it is on.
    pub table: TableName,
    /// Its name, unquoted.
    pub name: String,
}

/// All of the database that act in sessions that act as a replica, or in ordinary ones.
pub fn list_rules(session: &mut Session, as_replica: bool) -> Result<Vec<UserRule>> {
    let enabled = if as_replica { ["A", "R"] } else { ["A", "O"] };
    let rows = session.query(&sql::flow::LIST_USER_RULES, &[&&enabled[..]])?;
    let rule = |row: &postgres::Row| UserRule { table: TableName::in_row(row), name: row.get("rule_name") };
    Ok(rows.iter().map(rule).collect())
}

/// Adds to each table's doubts the triggers that replay would set off.
pub fn add_doubts(lints: &mut [TableLint], triggers: &[UserTrigger]) {
    for lint in lints {
        let is_written = |table: &TableName| lint.to.as_ref() == Some(&table.to_string());
        let own = triggers.iter().filter(|trigger| trigger.is_on(is_written));
        let doubts: Vec<Doubt> = own.map(doubt).collect();
        lint.doubts.extend(doubts);
    }
}

fn doubt(trigger: &UserTrigger) -> Doubt {
    let UserTrigger { table, name, .. } = trigger;
    let message = format!(
        "trigger \"{name}\" of \"{table}\" is ENABLE ALWAYS or REPLICA: it fires on replayed rows, and may change them"
    );
    Doubt { kind: "trigger", message }
}
