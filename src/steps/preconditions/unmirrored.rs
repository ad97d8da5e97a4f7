//! Tables of both sides that no flow carries: what users write into them on the target would be on the source no more.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::config::SchemaMode;
use crate::error::{Checked, Result};
use crate::flow::copy;
use crate::pg::catalog::Table;
use crate::pg::catalog::facts::{RightOn, list_grants, list_writable_tables};
use crate::pg::catalog::objects::Name;
use crate::pg::restriction::{self, Restricted};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::preconditions::rights::revocations;
use crate::steps::run::selection::is_designated;

/// How many tables are named.
const NAMED: usize = 20;

/// Nobody writes on the target into a table that the source has, too, and that is not replayed, as one that `[mirror]` selects no more, unless
/// the configuration says that its changes stay behind.
pub fn written_by_users(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let tables = left_alone(run)?;
    if tables.is_empty() {
        return Ok(());
    }
    let roles = run.config.general_roles(Side::Target);
    let mut writable = list_writable_tables(run.target(), &roles)?;
    writable.retain(|on, _| tables.contains_key(&name(on)));
    let restricted = restriction::list_restricted(run.target())?;
    for (on, may) in &mut writable {
        may.retain(|verb| !restricted.iter().any(|one| refuses(one, on, verb)));
    }
    writable.retain(|_, may| !may.is_empty());
    let written: HashSet<Name> = writable.keys().map(name).collect();
    // Who may write into the root reaches its partitions.
    writable.retain(|on, _| tables[&name(on)].root.as_ref().is_none_or(|root| !written.contains(root)));
    let mut by_table: BTreeMap<Name, Vec<(RightOn, BTreeSet<String>)>> = BTreeMap::new();
    for (on, may) in writable {
        by_table.entry(name(&on)).or_default().push((on, may));
    }
    // Where the tables were there before, one that was never copied may have been left out on purpose.
    let may_be_meant = run.config.mirror.schema == SchemaMode::Existing;
    let copied: HashSet<Name> =
        copy::list_table_copies(run.target())?.into_iter().map(|copy| copy.name).collect();
    for (table, rights) in by_table.iter().take(NAMED) {
        let grants = list_grants(run.target(), &roles, &[(&table.0, Some(&table.1))])?;
        let mut statements = BTreeSet::new();
        for (on, may) in rights {
            let of_role = grants.iter().filter(|grant| grant.on == *on && may.contains(&grant.may));
            statements.extend(revocations(on, &of_role.collect::<Vec<_>>()));
        }
        let who: Vec<String> = rights.iter().map(|(on, _)| format!("\"{}\"", on.role)).collect();
        let message = format!(
            "{} may write into it on the target, and it is not replayed: what is written there would be lost on the way home",
            who.join(", ")
        );
        let instead = if statements.is_empty() {
            ".".to_owned()
        } else {
            format!("; or run on the target: {}", Vec::from_iter(statements).join(" "))
        };
        let hint = format!(
            "Mirror it (mirror.tables, mirror.exclude); or give it a [[restrict]] and run pgdetour restrict, or one with \
             scratch = true where the source needs none of it{instead}"
        );
        let object = format!("{}.{}", table.0, table.1);
        if may_be_meant && !copied.contains(table) {
            checked.warn("unmirrored", &object, message, hint);
        } else {
            checked.fail("unmirrored", &object, message, hint);
        }
    }
    if let Some(more @ 1..) = by_table.len().checked_sub(NAMED) {
        let message =
            format!("{more} more tables that are not replayed, and that general roles may write into there");
        if may_be_meant && !by_table.keys().any(|table| copied.contains(table)) {
            checked.warn("unmirrored", "target", message, "Do the same with them.");
        } else {
            checked.fail("unmirrored", "target", message, "Do the same with them.");
        }
    }
    Ok(())
}

/// Logged tables of both sides that are neither selected nor scratch.
fn left_alone(run: &mut Run) -> Result<HashMap<Name, Table>> {
    let key = |table: &Table| (table.schema.clone(), table.name.clone());
    let logged = |tables: Vec<Table>| tables.into_iter().filter(|table| !table.unlogged);
    let source: HashSet<Name> = logged(run.list_tables(Side::Source)?).map(|table| key(&table)).collect();
    let selected: HashSet<Name> = run.matching_tables(Side::Target)?.iter().map(key).collect();
    let scratch = run.scratch_selections()?;
    let tables = logged(run.list_tables(Side::Target)?).filter(|table| {
        source.contains(&key(table))
            && !selected.contains(&key(table))
            && !scratch.iter().any(|selection| is_designated(selection, table))
    });
    Ok(tables.map(|table| (key(&table), table)).collect())
}

fn name(on: &RightOn) -> Name {
    (on.schema.clone(), on.object.clone().unwrap_or_default())
}

/// Whether a restriction that is in force refuses all statements of the kind to the role.
fn refuses(restricted: &Restricted, on: &RightOn, verb: &str) -> bool {
    let (schema, name) = name(on);
    restricted.table == format!("{schema}.{name}")
        && restricted.condition.is_none()
        && restricted.roles.contains(&on.role)
        && restricted.deny.iter().any(|deny| deny.eq_ignore_ascii_case(verb))
}
