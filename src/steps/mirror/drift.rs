//! What has changed on the source since it was mirrored, beside its rows: a subscription carries no view, function or policy, so that
//! the application would miss it once the target serves.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Checked, Finding, Result};
use crate::pg::catalog::Table;
use crate::pg::catalog::definitions::{Definition, list_definitions};
use crate::pg::catalog::facts::list_table_owners;
use crate::pg::catalog::objects::Name;
use crate::phase::Side;
use crate::sql;
use crate::steps::Run;
use crate::steps::mirror::inventory::{self, UnlikeSetting};

/// How many objects of a kind are named.
const NAMED: usize = 20;

/// Kinds that the application cannot do without where it may use them.
const NEEDED: [&str; 11] = [
    "schema",
    "table",
    "foreign table",
    "view",
    "materialized view",
    "sequence",
    "function",
    "procedure",
    "aggregate",
    "type",
    "domain",
];

/// Kinds that keep rows from whom they are not for.
const GUARDS: [&str; 2] = ["row security", "policy"];

/// How an object of the source is on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Missing,
    Other,
    /// It is on the target alone.
    Extra,
}

/// One object that is not the same on both sides.
struct Difference<'a> {
    object: &'a Definition,
    how: How,
}

impl Difference<'_> {
    /// By which it is remembered.
    fn key(&self) -> String {
        format!("{} {}", self.object.kind, self.object.identity)
    }
}

/// What the source holds before its schema is copied, for [`left_out`].
pub fn look_at_source(run: &mut Run) -> Result<Vec<Definition>> {
    if run.plan.is_dry() || run.facts()?.left_out.is_some() {
        return Ok(Vec::new());
    }
    list(run, Side::Source)
}

/// What of this the target has not, or not in the same words, now that the mirror is made: what the report accounts for, and what
/// servers put differently, is no change. None where an earlier run has noted that.
pub fn left_out(run: &mut Run, before: &[Definition]) -> Result<Option<BTreeSet<String>>> {
    if run.plan.is_dry() || run.facts()?.left_out.is_some() {
        return Ok(None);
    }
    let target = list(run, Side::Target)?;
    let found = compare(before, &target, of_one_major(run));
    let unlike = list_unlike(run)?.into_iter().map(|(key, _)| key);
    Ok(Some(found.iter().map(Difference::key).chain(unlike).collect()))
}

/// Settings of the database and owners of tables that are not the same on both sides, by what they are remembered by.
fn list_unlike(run: &mut Run) -> Result<Vec<(String, Finding)>> {
    let mut unlike = Vec::new();
    for UnlikeSetting { setting, there, statement } in inventory::list_unlike_settings(run)? {
        let (name, value) = (setting.display(), &setting.value);
        let there = there.map_or_else(|| "not set".to_owned(), |value| format!("\"{value}\""));
        let message =
            format!("setting {name} of the database is \"{value}\" on the source, and {there} on the target");
        let hint = format!("Run on the target: {statement};");
        unlike.push((format!("setting {name} {value}"), Finding::new("schema", name.clone(), message, hint)));
    }
    let mut owners = |side: Side| -> Result<BTreeMap<Name, String>> {
        let oids: Vec<u32> = run.selected_tables(side)?.iter().map(|table| table.oid).collect();
        list_table_owners(run.session(side), &oids)
    };
    let (source, target) = (owners(Side::Source)?, owners(Side::Target)?);
    for (name, owner) in source {
        let Some(other) = target.get(&name).filter(|other| **other != owner) else { continue };
        let table = format!("{}.{}", name.0, name.1);
        let message = format!(
            "table \"{table}\" belongs to \"{owner}\" on the source, and to \"{other}\" on the target"
        );
        let hint = format!(
            "Run on the target: ALTER TABLE {} OWNER TO {};",
            sql::quote_qualified(&name.0, &name.1),
            sql::quote_identifier(&owner)
        );
        unlike.push((format!("owner {table} {owner}"), Finding::new("schema", table, message, hint)));
    }
    Ok(unlike)
}

/// Whatever else the application may need is on the target as it is on the source.
pub fn objects_as_mirrored(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let Some(known) = run.facts()?.left_out else { return Ok(()) };
    let (source, target) = (list(run, Side::Source)?, list(run, Side::Target)?);
    let absent = inventory::absent(run)?;
    // What is amiss with a table that is mirrored is a finding of its own.
    let name = |table: Table| (table.schema, table.name);
    let mirrored: HashSet<Name> = run.selected_tables(Side::Source)?.into_iter().map(name).collect();
    let there: HashSet<&Name> = relations(&target).collect();
    let left_out = schemas_left_out(run, &source)?;
    let mut by_kind: BTreeMap<(&str, bool), Vec<Finding>> = BTreeMap::new();
    for difference in compare(&source, &target, of_one_major(run)) {
        let Difference { object, how } = &difference;
        let is_absent = [&object.relation, &object.referenced]
            .into_iter()
            .flatten()
            .any(|relation| absent.contains(relation));
        let relation = object.relation.as_ref();
        let is_table = object.kind == "table" && relation.is_some_and(|name| mirrored.contains(name));
        // What belongs to a table or view that is not there is made with it.
        let goes_with_another = *how == How::Missing
            && !is_relation(object)
            && relation.is_some_and(|relation| !there.contains(relation));
        // The schema itself, too.
        let name = format!("{}.", object.identity);
        let is_left_out = left_out.iter().any(|schema| name.starts_with(schema));
        if is_absent || is_left_out || is_table || goes_with_another || known.contains(&difference.key()) {
            continue;
        }
        let is_guard = GUARDS.contains(&object.kind.as_str());
        let fails = match how {
            How::Missing => is_guard || object.used && NEEDED.contains(&object.kind.as_str()),
            How::Other => is_guard,
            How::Extra => false,
        };
        by_kind.entry((&object.kind, fails)).or_default().push(finding(object, *how));
    }
    let unlike = list_unlike(run)?.into_iter();
    by_kind
        .entry(("settings and owners", false))
        .or_default()
        .extend(unlike.filter(|(key, _)| !known.contains(key)).map(|(_, finding)| finding));
    for ((kind, fails), mut findings) in by_kind {
        if let Some(more @ 1..) = findings.len().checked_sub(NAMED) {
            findings.truncate(NAMED);
            let message = format!("{more} more that are not the same on the target as on the source");
            findings.push(Finding::new("schema", kind, message, AGAIN));
        }
        if fails { checked.failures.extend(findings) } else { checked.warnings.extend(findings) }
    }
    Ok(())
}

/// What names of objects begin with that are in a schema of which `mirror.exclude` leaves out whatever there is.
fn schemas_left_out(run: &Run, source: &[Definition]) -> Result<Vec<String>> {
    let selection = run.config.mirror.selection()?;
    let is_excluded = |schema: &str| selection.exclude.iter().any(|pattern| pattern.matches(schema, "\u{1}"));
    let schemas =
        source.iter().filter(|object| object.kind == "schema").map(|object| object.identity.as_str());
    let unquoted = |identity: &str| match identity.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(name) => name.replace("\"\"", "\""),
        None => identity.to_owned(),
    };
    Ok(schemas
        .filter(|identity| is_excluded(&unquoted(identity)))
        .map(|identity| format!("{identity}."))
        .collect())
}

/// As general roles may use it. The limited role that `restrict` makes on the target is in policies beside theirs.
fn list(run: &mut Run, side: Side) -> Result<Vec<Definition>> {
    let roles = run.config.traffic.roles.clone();
    let limited = run.config.restrict_role.as_ref().map(|role| role.name.clone());
    list_definitions(run.session(side), &roles, limited.as_deref())
}

const AGAIN: &str = "Make the same change on the target, or run pgdetour clean and mirror again.";

fn finding(object: &Definition, how: How) -> Finding {
    let Definition { kind, identity, .. } = object;
    let what = match (kind.as_str(), how) {
        ("row security", How::Missing) => {
            "row level security is enabled on the source, and not on the target".to_owned()
        }
        ("row security", How::Other) => "row level security is not forced alike on both sides".to_owned(),
        ("row security", How::Extra) => {
            "row level security is enabled on the target, and not on the source".to_owned()
        }
        (_, How::Missing) => format!("{kind} {identity} is not on the target"),
        (_, How::Other) => {
            format!("{kind} {identity} has another definition on the source than on the target")
        }
        (_, How::Extra) => format!("{kind} {identity} is on the target, and not on the source any more"),
    };
    let hint = match (kind.as_str(), how) {
        ("row security", How::Missing) => {
            format!("Run on the target: ALTER TABLE {identity} ENABLE ROW LEVEL SECURITY; {AGAIN}")
        }
        ("schema", How::Missing) => "Run pgdetour mirror, which makes it with the tables that it adds; where there are none in it, make \
                                     it on the target, too, by the statement that made it on the source."
            .to_owned(),
        (_, How::Missing) => "Make it on the target, too, by the statement that made it on the source, or run pgdetour clean and mirror \
                              again."
            .to_owned(),
        _ => AGAIN.to_owned(),
    };
    Finding::new("schema", identity.clone(), what, hint)
}

/// Objects of the source that the target has not, or not as they are there, and guards that it has alone.
fn compare<'a>(
    source: &'a [Definition],
    target: &'a [Definition],
    of_one_major: bool,
) -> Vec<Difference<'a>> {
    let by_name = |definitions: &'a [Definition]| -> HashMap<(&'a str, &'a str), &'a Definition> {
        let key = |one: &'a Definition| ((one.kind.as_str(), one.identity.as_str()), one);
        definitions.iter().map(key).collect()
    };
    let (here, there) = (by_name(source), by_name(target));
    let differs = |object: &Definition, other: &Definition| {
        object.portable != other.portable || of_one_major && object.shown != other.shown
    };
    let mut found = Vec::new();
    for object in source {
        match there.get(&(object.kind.as_str(), object.identity.as_str())) {
            None => found.push(Difference { object, how: How::Missing }),
            Some(other) if differs(object, other) => found.push(Difference { object, how: How::Other }),
            Some(_) => {}
        }
    }
    let guards = target.iter().filter(|object| GUARDS.contains(&object.kind.as_str()));
    let extra = guards.filter(|object| !here.contains_key(&(object.kind.as_str(), object.identity.as_str())));
    found.extend(extra.map(|object| Difference { object, how: How::Extra }));
    found
}

fn is_relation(object: &Definition) -> bool {
    matches!(object.kind.as_str(), "table" | "foreign table" | "view" | "materialized view")
}

fn relations(definitions: &[Definition]) -> impl Iterator<Item = &Name> {
    definitions.iter().filter(|object| is_relation(object)).filter_map(|object| object.relation.as_ref())
}

/// Whether both servers put a definition in the same words.
fn of_one_major(run: &mut Run) -> bool {
    run.source().version / 10_000 == run.target().version / 10_000
}
