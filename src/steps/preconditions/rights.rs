//! What general roles may do with the users' tables: the same on the target as where they work now.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Checked, Result};
use crate::flow::sequences::list_sequences;
use crate::pg::catalog::facts::{RightOn, Role, list_role_rights, list_roles};
use crate::phase::{Phase, Side};
use crate::sql::{quote_identifier, quote_qualified};
use crate::steps::Run;

/// How many objects are named.
const NAMED: usize = 5;

/// General roles may do with what is on the target all that they may do with it on the source. Grants go over with the tables,
/// but not what roles are members of, which is the business of the whole server.
pub fn rights_on_target(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let roles = run.config.traffic.roles.clone();
    let (source, target) = run.both();
    let here = list_role_rights(source, &roles)?;
    let there = list_role_rights(target, &roles)?;
    let (of_source, of_target) = (list_roles(source, &roles)?, list_roles(target, &roles)?);
    let present = objects(run)?;
    let lacking = lacking(here, &there, &present);
    for role in &of_target {
        let groups = missing_groups(role, &of_source);
        let Some(missing) = lacking.get(&role.name) else {
            if !groups.is_empty() {
                let message =
                    format!("it is a member of {} on the source, and not on the target", groups.join(", "));
                checked.warn("role_member", &role.name, message, grant_groups(role, &groups));
            }
            continue;
        };
        let named: Vec<&str> = missing.iter().take(NAMED).map(|(text, _)| text.as_str()).collect();
        let more = missing.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let message =
            format!("on the source it may, and on the target it may not: {}{more}", named.join("; "));
        let hint = if groups.is_empty() {
            format!("Run on the target: {}", missing[0].1)
        } else {
            grant_groups(role, &groups)
        };
        checked.fail("role_rights", &role.name, message, hint);
    }
    Ok(())
}

/// What of the mirror is on the target: schemas, and tables and sequences with theirs.
fn objects(run: &mut Run) -> Result<BTreeSet<(String, Option<String>)>> {
    // Before the mirror stands there is nothing.
    if matches!(run.phase(), Phase::Absent | Phase::Mirroring) {
        return Ok(BTreeSet::new());
    }
    let tables = run.selected_tables(Side::Target)?;
    let schemas: BTreeSet<String> = tables.iter().map(|table| table.schema.clone()).collect();
    let sequences = list_sequences(run.target())?;
    let sequences = sequences.into_iter().filter(|sequence| schemas.contains(&sequence.schema));
    let mut all: BTreeSet<(String, Option<String>)> =
        tables.into_iter().map(|table| (table.schema, Some(table.name))).collect();
    all.extend(sequences.map(|sequence| (sequence.schema, Some(sequence.name))));
    all.extend(schemas.into_iter().map(|schema| (schema, None)));
    Ok(all)
}

/// By role, what it lacks of what is there, and the statement that gives it.
fn lacking(
    here: BTreeMap<RightOn, BTreeSet<String>>,
    there: &BTreeMap<RightOn, BTreeSet<String>>,
    present: &BTreeSet<(String, Option<String>)>,
) -> BTreeMap<String, Vec<(String, String)>> {
    let mut lacking: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (on, may) in here {
        if !present.contains(&(on.schema.clone(), on.object.clone())) {
            continue;
        }
        let missing: Vec<String> = match there.get(&on) {
            Some(known) => may.difference(known).cloned().collect(),
            None => may.into_iter().collect(),
        };
        if missing.is_empty() {
            continue;
        }
        let what = missing.join(", ");
        let role = quote_identifier(&on.role);
        let (text, statement) = match &on.object {
            Some(name) => {
                let kind = if missing == ["USAGE"] { "SEQUENCE" } else { "TABLE" };
                let place = quote_qualified(&on.schema, name);
                (
                    format!("{what} on \"{}.{name}\"", on.schema),
                    format!("GRANT {what} ON {kind} {place} TO {role};"),
                )
            }
            None => (
                format!("{what} of schema \"{}\"", on.schema),
                format!("GRANT {what} ON SCHEMA {} TO {role};", quote_identifier(&on.schema)),
            ),
        };
        lacking.entry(on.role).or_default().push((text, statement));
    }
    lacking
}

fn missing_groups(role: &Role, of_source: &[Role]) -> Vec<String> {
    let there = of_source.iter().find(|there| there.name == role.name);
    let groups = there.map(|there| there.member_of.clone()).unwrap_or_default();
    groups.into_iter().filter(|group| !role.member_of.contains(group)).collect()
}

fn grant_groups(role: &Role, groups: &[String]) -> String {
    let groups: Vec<String> = groups.iter().map(|group| quote_identifier(group)).collect();
    format!("Run on the target: GRANT {} TO {};", groups.join(", "), quote_identifier(&role.name))
}
