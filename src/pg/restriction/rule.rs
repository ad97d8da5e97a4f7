//! What a restriction says, and the triggers that make it so.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Purpose;
use super::condition::Resolved;
use crate::sql::{quote_identifier, quote_literal};

/// A kind of statement that can be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// INSERT, COPY, MERGE that may insert.
    Insert,
    /// UPDATE, INSERT … ON CONFLICT DO UPDATE, MERGE that may update.
    Update,
    /// DELETE, MERGE that may delete.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl Verb {
    /// All of them: a table is read-only.
    pub const ALL: [Verb; 4] = [Verb::Insert, Verb::Update, Verb::Delete, Verb::Truncate];

    /// As in SQL, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Truncate => "truncate",
        }
    }

    /// Its bit in `pg_trigger.tgtype`.
    pub(super) fn bit(self) -> i32 {
        match self {
            Verb::Insert => 4,
            Verb::Update => 16,
            Verb::Delete => 8,
            Verb::Truncate => 32,
        }
    }
}

/// What is refused, where, to whom, and in which words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Schema and name of each table, unquoted. Partitions and inheritors are included.
    pub tables: Vec<(String, String)>,
    /// Regular expressions for schema and name of tables that are to be restricted when they come later; none: `tables`.
    pub patterns: Vec<(String, String)>,
    /// The same for those that are to be left alone then.
    pub except: Vec<(String, String)>,
    /// Statements to refuse.
    pub deny: Vec<Verb>,
    /// The only columns whose UPDATE is refused; empty: every one.
    pub columns: Vec<String>,
    /// SQL over a row's columns: only rows for which it is true, before or after, are protected. TRUNCATE is refused as a whole.
    pub condition: Option<String>,
    /// Login roles to refuse them to.
    pub roles: Vec<String>,
    /// Primary message of the error.
    pub message: String,
    /// SQLSTATE of the error; 25006 when absent.
    pub sqlstate: Option<String>,
    /// What the error's field `constraint` says; the trigger's name when absent.
    pub name: Option<String>,
}

/// In `pg_trigger.tgtype`: for each row.
pub(super) const ROW_BIT: i32 = 1;

/// SQLSTATE of a refusal that is not configured: `read_only_sql_transaction`.
pub const SQLSTATE: &str = "25006";

/// One restriction of one table, as installed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restricted {
    /// `public.users`, unquoted.
    pub table: String,
    /// Statements that are refused: `insert`, `update(email)`.
    pub deny: Vec<String>,
    /// Login roles to which they are refused; nobody on scratch tables.
    pub roles: Vec<String>,
    /// SQL over a row's columns: only these rows are protected.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The rule's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What the application reads; none on scratch tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// SQLSTATE that the application gets; none on scratch tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// Writes pass, and are never replayed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scratch: bool,
}

impl Restricted {
    /// A table whose writes pass and are never replayed.
    pub fn scratch(table: String) -> Restricted {
        Restricted {
            table,
            deny: Vec::new(),
            roles: Vec::new(),
            condition: None,
            rule: None,
            message: None,
            sqlstate: None,
            scratch: true,
        }
    }
}

/// One trigger's meaning; equal definitions are equal triggers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Definition {
    pub deny: BTreeSet<Verb>,
    pub columns: BTreeSet<String>,
    pub condition: Option<String>,
    pub roles: BTreeSet<String>,
    pub message: String,
    pub sqlstate: Option<String>,
    pub rule: Option<String>,
    /// Fires for rows, for statements that name a table above this one and so fire none of its statement triggers.
    pub from_above: bool,
}

/// The trigger's argument: what `pg_trigger` cannot tell readably by itself.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Argument {
    pub message: String,
    pub roles: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub columns: BTreeSet<String>,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Rule {
    /// Its triggers: one for all statements, or one for each where the rows tell, since INSERT has no old row and
    /// DELETE no new one.
    pub(super) fn definitions(&self) -> Vec<Definition> {
        if self.deny.is_empty() || self.roles.is_empty() {
            return Vec::new();
        }
        let deny: BTreeSet<Verb> = self.deny.iter().copied().collect();
        let kinds = match self.condition {
            Some(_) => deny.into_iter().map(|verb| BTreeSet::from([verb])).collect(),
            None => vec![deny],
        };
        let definition = |deny: BTreeSet<Verb>| Definition {
            columns: if deny.contains(&Verb::Update) {
                self.columns.iter().cloned().collect()
            } else {
                BTreeSet::new()
            },
            deny,
            condition: self.condition.clone(),
            roles: self.roles.iter().cloned().collect(),
            message: self.message.clone(),
            sqlstate: self.sqlstate.clone().filter(|code| code != SQLSTATE),
            rule: self.name.clone(),
            from_above: false,
        };
        kinds.into_iter().map(definition).collect()
    }
}

impl Definition {
    /// Whether it looks at rows, so that partitions get it from their root.
    pub(super) fn is_by_row(&self) -> bool {
        self.from_above || self.condition.is_some() && !self.deny.contains(&Verb::Truncate)
    }

    /// The trigger that stands beside this one on a table that can be written to through one above it. TRUNCATE fires
    /// every table's own triggers, and what looks at rows anyway needs no other.
    pub(super) fn beside_it(&self) -> Option<Definition> {
        let deny: BTreeSet<Verb> = self.deny.iter().copied().filter(|verb| *verb != Verb::Truncate).collect();
        let is_needed = self.condition.is_none() && !deny.is_empty();
        is_needed.then(|| Definition { deny, from_above: true, ..self.clone() })
    }

    /// The trigger's argument, in ASCII.
    pub(super) fn argument(&self) -> String {
        ascii_json(&Argument {
            message: self.message.clone(),
            roles: self.roles.clone(),
            columns: self.columns.clone(),
            condition: self.condition.clone(),
            sqlstate: self.sqlstate.clone(),
            rule: self.rule.clone(),
        })
    }

    /// The bits of `pg_trigger.tgtype`: before, of what, and whether for each row.
    pub(super) fn kind(&self) -> i32 {
        let verbs: i32 = self.deny.iter().map(|verb| verb.bit()).sum();
        2 + verbs + if self.is_by_row() { ROW_BIT } else { 0 }
    }

    /// Statements that put trigger `name` on `table`, both quoted. `resolved` is its condition over the old and the new row.
    pub(super) fn create_trigger(
        &self,
        name: &str,
        table: &str,
        resolved: Option<&Resolved>,
        purpose: Purpose,
    ) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| quote_identifier(column)).collect();
        let verbs: Vec<String> = self
            .deny
            .iter()
            .map(|verb| match verb {
                Verb::Update if !columns.is_empty() => format!("update of {}", columns.join(", ")),
                _ => verb.name().to_owned(),
            })
            .collect();
        let roles: Vec<String> = self.roles.iter().map(|role| quote_literal(role)).collect();
        let mut when = format!("session_user in ({})", roles.join(", "));
        let mut arguments = quote_literal(&self.argument());
        let (each, only) = if self.is_by_row() { ("row", "") } else { ("statement", "only ") };
        if let Some(Resolved { old, new }) = resolved.filter(|_| self.is_by_row()) {
            if self.deny.contains(&Verb::Insert) {
                when = format!("{when} and ({new})");
            } else if self.deny.contains(&Verb::Delete) {
                when = format!("{when} and ({old})");
            } else {
                when = format!("{when} and (({old}) or ({new}))");
            }
        }
        let mut when = format!(" when ({when})");
        if let Purpose::Observe { generation } = purpose {
            let _ = write!(arguments, ", 'pgdetour.observed_{generation}_', {}", roles.join(", "));
            // The function looks at the role itself, in less time than PostgreSQL takes to prepare a condition.
            if !self.is_by_row() {
                when.clear();
            }
        }
        format!(
            "create trigger {name} before {} on {table} for each {each}{when} \
             execute function pgdetour.{}({arguments});\nalter table {only}{table} enable always trigger {name};\n",
            verbs.join(" or "),
            purpose.function(),
        )
    }
}

/// What triggers on one table refuse, in few words: those that differ in the statement alone are one.
pub(super) fn summarize(table: &str, definitions: impl IntoIterator<Item = Definition>) -> Vec<Restricted> {
    let mut merged: Vec<Definition> = Vec::new();
    for definition in definitions.into_iter().filter(|definition| !definition.from_above) {
        let same = merged.iter_mut().find(|other| {
            (&other.roles, &other.message, &other.condition, &other.sqlstate, &other.rule)
                == (
                    &definition.roles,
                    &definition.message,
                    &definition.condition,
                    &definition.sqlstate,
                    &definition.rule,
                )
                && other.deny.is_disjoint(&definition.deny)
        });
        match same {
            Some(other) => {
                other.deny.extend(definition.deny);
                other.columns.extend(definition.columns);
            }
            None => merged.push(definition),
        }
    }
    merged.sort();
    let restricted = merged.into_iter().map(|definition| {
        let columns: Vec<&str> = definition.columns.iter().map(String::as_str).collect();
        let deny = definition.deny.iter().map(|verb| match verb {
            Verb::Update if !columns.is_empty() => format!("update({})", columns.join(", ")),
            _ => verb.name().to_owned(),
        });
        Restricted {
            table: table.to_owned(),
            deny: deny.collect(),
            roles: definition.roles.iter().cloned().collect(),
            condition: definition.condition.clone(),
            rule: definition.rule.clone(),
            message: Some(definition.message.clone()),
            sqlstate: Some(definition.sqlstate.clone().unwrap_or_else(|| SQLSTATE.into())),
            scratch: false,
        }
    });
    restricted.collect()
}

/// The rule in a trigger's first argument as the catalog gives it back: ASCII, backslashes doubled.
pub(super) fn read_argument(escaped: &str) -> Option<Argument> {
    serde_json::from_str(&escaped.replace("\\\\", "\\")).ok()
}

/// JSON in ASCII, so that it is the same bytes in every server encoding.
pub(super) fn ascii_json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings and sets of strings become JSON");
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    json.encode_utf16().map(escape).collect::<Vec<_>>().concat()
}
