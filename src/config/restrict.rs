//! `[[restrict]]`: what general traffic may not write on the target.

use super::Traffic;
use super::reader::Section;
use super::values::{filled, names, patterns};
use crate::error::Result;
use crate::pattern::{Pattern, Selection};

/// One `[[restrict]]`.
#[derive(Debug, Clone)]
pub struct Restrict {
    /// Patterns of the tables.
    pub tables: Vec<String>,
    /// Patterns of tables to leave out.
    pub except: Vec<String>,
    /// What is refused; empty on scratch tables.
    pub deny: Vec<Deny>,
    /// The only columns whose UPDATE is refused; empty means every one.
    pub columns: Vec<String>,
    /// SQL over a row's columns: only rows for which it is true are protected.
    pub condition: Option<String>,
    /// Whom; `traffic.roles` and the limited role when absent.
    pub roles: Option<Vec<String>>,
    /// What the application reads.
    pub message: Option<String>,
    /// SQLSTATE that it gets; 25006 when absent.
    pub sqlstate: Option<String>,
    /// What the error calls the rule.
    pub name: Option<String>,
    /// Writes pass and are never replayed.
    pub scratch: bool,
}

impl Restrict {
    /// The tables that it designates.
    pub fn selection(&self) -> Result<Selection> {
        Selection::parse(&self.tables, &self.except)
    }
}

/// A kind of statement that a restriction refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deny {
    /// INSERT, and COPY and MERGE where they insert.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl Deny {
    /// All four: read-only.
    pub const ALL: [Deny; 4] = [Deny::Insert, Deny::Update, Deny::Delete, Deny::Truncate];

    /// The word in the configuration, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Deny::Insert => "insert",
            Deny::Update => "update",
            Deny::Delete => "delete",
            Deny::Truncate => "truncate",
        }
    }
}

/// Every `[[restrict]]`. Mistakes are noted in the reader.
pub(super) fn read(root: &Section, traffic: &Traffic) -> Vec<Restrict> {
    let mut restricts: Vec<Restrict> = Vec::new();
    for section in root.sections("restrict") {
        let tables = patterns(&section, "tables");
        let tables = section.required("tables", tables, "Give patterns such as [\"public.users\"].");
        let scratch = section.flag("scratch").unwrap_or(false);
        let deny = read_deny(&section);
        let (denied, columns) = deny
            .clone()
            .unwrap_or_else(|| (if scratch { Vec::new() } else { Deny::ALL.to_vec() }, Vec::new()));
        let restrict = Restrict {
            tables: tables.unwrap_or_default(),
            except: patterns(&section, "except").unwrap_or_default(),
            deny: denied,
            columns,
            condition: filled(&section, "where"),
            roles: names(&section, "roles"),
            message: filled(&section, "message"),
            sqlstate: section.parsed("sqlstate", check_sqlstate),
            name: filled(&section, "name"),
            scratch,
        };
        if section.has("tables") && restrict.tables.is_empty() {
            section.mistake(
                "tables",
                "restrict.tables names no table",
                "Give patterns, or remove the entry.",
            );
        }
        if scratch && deny.is_some() {
            section.mistake(
                "deny",
                "restrict.deny contradicts scratch = true, which lets writes pass",
                "Keep one of the two.",
            );
        } else if deny.is_some_and(|(deny, _)| deny.is_empty()) {
            section.mistake("deny", "restrict.deny is empty", "Leave it out to deny all four, or name some.");
        }
        if scratch && restrict.condition.is_some() {
            section.mistake(
                "where",
                "restrict.where contradicts scratch = true, which lets writes pass",
                "Keep one of the two.",
            );
        }
        if restrict.roles.as_ref().is_some_and(Vec::is_empty) {
            section.mistake(
                "roles",
                "restrict.roles is empty",
                "Leave it out to limit the roles of [traffic], or name some.",
            );
        }
        if restrict.roles.is_none() && traffic.roles.is_empty() && !scratch {
            section.mistake(
                "roles",
                "restrict.roles is missing, and traffic.roles, which stands in for it, is empty",
                "Name the roles to limit.",
            );
        }
        for table in &restrict.tables {
            let twice = restricts.iter().any(|earlier| {
                earlier.condition == restrict.condition
                    && earlier.tables.iter().any(|other| same(other, table))
                    && overlap(earlier.roles.as_ref(), restrict.roles.as_ref(), &traffic.roles)
            });
            if twice {
                section.mistake(
                    "tables",
                    format!("\"{table}\" is restricted twice for the same roles"),
                    "Write one [[restrict]] for it, or give the two different roles.",
                );
            }
        }
        section.end();
        restricts.push(restrict);
    }
    restricts
}

/// Verbs, and the columns to which `update(a, b)` limits UPDATE.
fn read_deny(section: &Section) -> Option<(Vec<Deny>, Vec<String>)> {
    let kinds = Deny::ALL.map(|deny| (deny.name(), deny));
    let texts = section.texts("deny")?;
    let (mut deny, mut columns, mut whole) = (Vec::new(), Vec::new(), false);
    for text in &texts {
        let Some((verb, list)) = text.split_once('(') else {
            let verb = section.one_of("deny", text, &kinds)?;
            whole |= verb == Deny::Update;
            deny.push(verb);
            continue;
        };
        let verb = section.one_of("deny", verb.trim_end(), &kinds)?;
        let named = list.trim_end().strip_suffix(')').and_then(read_columns);
        match named {
            Some(named) if verb == Deny::Update => columns.extend(named),
            _ => {
                section.mistake(
                    "deny",
                    format!("restrict.deny cannot be \"{text}\""),
                    "Columns can be named of an update: \"update(email, name)\".",
                );
                return None;
            }
        }
        deny.push(verb);
    }
    if whole && !columns.is_empty() {
        section.mistake(
            "deny",
            "restrict.deny names columns of an update, and update as a whole",
            "Keep one of the two.",
        );
    }
    deny.sort_unstable();
    deny.dedup();
    Some((deny, columns))
}

/// Column names as in SQL: commas between them, lower case without double quotes; none when it cannot be read.
fn read_columns(list: &str) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    let mut rest = list.trim();
    loop {
        let (column, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"')?;
            (quoted[..end].to_owned(), quoted[end + 1..].trim_start())
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let name = rest[..end].trim();
            if name.contains(|c: char| c.is_whitespace() || c == '"' || c == '(') {
                return None;
            }
            (name.to_lowercase(), &rest[end..])
        };
        if column.is_empty() {
            return None;
        }
        columns.push(column);
        match after.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if after.is_empty() => return Some(columns),
            None => return None,
        }
    }
}

/// An SQLSTATE that a client takes for a failure, and that is no category of others.
fn check_sqlstate(text: &str) -> Result<String, (String, String)> {
    let is_code = text.len() == 5 && text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    let is_failure = !["00", "01", "02"].iter().any(|class| text.starts_with(class));
    if is_code && is_failure && !text.ends_with("000") {
        return Ok(text.to_owned());
    }
    Err((
        format!("restrict.sqlstate cannot be \"{}\"", text.escape_debug()),
        "Give five digits or capital letters of a failure, such as \"25006\"; not of class 00, 01 or 02, nor ending in 000."
            .into(),
    ))
}

/// Whether two patterns are the same one, however quoted.
fn same(one: &str, other: &str) -> bool {
    let parse = |text| Pattern::parse(text).ok();
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.means_as(&other),
        _ => false,
    }
}

/// Whether two lists of roles, absent meaning those of `[traffic]`, share one.
fn overlap(one: Option<&Vec<String>>, other: Option<&Vec<String>>, default: &Vec<String>) -> bool {
    let (one, other) = (one.unwrap_or(default), other.unwrap_or(default));
    one.iter().any(|role| other.contains(role))
}
