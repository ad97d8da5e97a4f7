//! Triggers and rules that act on what a flow writes, and may make other rows of it.

use std::collections::HashSet;

use crate::config::SchemaMode;
use crate::error::{Checked, Result};
use crate::flow::TableName;
use crate::flow::mapping::triggers::{list_always_triggers, list_ordinary_triggers, list_rules};
use crate::pg::catalog::facts::{may_set_replica_role, read_own_role};
use crate::phase::{Phase, Place, Side};
use crate::sql;
use crate::steps::Run;

/// No trigger of the source makes other rows of those that replay writes; without a mapping nobody knows yet which tables these are.
pub fn source_triggers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let Some(mapping) = &run.checked_mapping else { return Ok(()) };
    let written: HashSet<TableName> = mapping.pairs().map(|rule| rule.to.clone()).collect();
    for trigger in list_always_triggers(run.source())? {
        if !trigger.is_on(|table| written.contains(table)) {
            continue;
        }
        let message = format!(
            "trigger \"{}\" is ENABLE ALWAYS or REPLICA, and fires on replayed rows, which it may change",
            trigger.name
        );
        let hint = format!(
            "Unless that is wanted, run ALTER TABLE {} ENABLE TRIGGER {}; on the source, and make it as it was after cutback.",
            trigger.table.quoted(),
            sql::quote_identifier(&trigger.name)
        );
        checked.warn("source_trigger", &trigger.table.to_string(), message, hint);
    }
    Ok(())
}

/// No trigger makes other rows of those that are mirrored, where what we write fires them.
pub fn mirror_triggers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for (place, holder) in written_places(run) {
        if may_set_replica_role(run.session(place))? {
            continue;
        }
        let written = mirrored_tables(run)?;
        let remedy = remedy(run, place)?;
        for trigger in list_ordinary_triggers(run.session(holder))? {
            if !trigger.is_on(|table| written.contains(table)) {
                continue;
            }
            let message = format!(
                "trigger \"{}\" fires on the {place} again for mirrored rows, which it may change: our role may not set \
                 session_replication_role there",
                trigger.name
            );
            let hint = format!(
                "{remedy}; or, as soon as the table is there, run ALTER TABLE {} DISABLE TRIGGER {}; and enable it again \
                 right after cutover. What it has changed by then, pgdetour verify names.",
                trigger.table.quoted(),
                sql::quote_identifier(&trigger.name)
            );
            checked.warn("target_trigger", &trigger.table.to_string(), message, hint);
        }
    }
    Ok(())
}

/// No rule makes other rows of those that are mirrored, or none at all, where we write them: a rule acts on statements, which a
/// subscription does not use, and our own runs do.
pub fn mirror_rules(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for (place, holder) in written_places(run) {
        let as_replica = may_set_replica_role(run.session(place))?;
        let written = mirrored_tables(run)?;
        let (why, remedy) = if as_replica {
            ("it is ENABLE ALWAYS or REPLICA", "As".to_owned())
        } else {
            let remedy = remedy(run, place)?;
            ("our role may not set session_replication_role there", format!("{remedy}; or, as"))
        };
        for rule in list_rules(run.session(holder), as_replica)? {
            if !written.contains(&rule.table) {
                continue;
            }
            let (table, name) = (rule.table.quoted(), sql::quote_identifier(&rule.name));
            let message = format!(
                "rule \"{}\" acts on the {place} on what pgdetour writes of the mirrored rows, which it may change: {why}",
                rule.name
            );
            let hint = format!(
                "{remedy} soon as the table is there, run ALTER TABLE {table} DISABLE RULE {name}; and enable it again right \
                 after cutover. What it has changed by then, pgdetour verify names."
            );
            checked.warn("target_rule", &rule.table.to_string(), message, hint);
        }
    }
    Ok(())
}

/// Where the mirror's rows are written, each with the database that has its triggers and rules, or from which they are to come.
fn written_places(run: &Run) -> Vec<(Place, Place)> {
    // Those of the source come with its schema, before anything is caught up.
    let comes_from_source = run.config.mirror.schema == SchemaMode::Dump
        && matches!(run.phase(), Phase::Absent | Phase::Mirroring);
    let there = run.places();
    let subscribers = run.stages().iter().map(|stage| stage.subscriber());
    let holder = |place| if comes_from_source { Place::Source } else { place };
    subscribers.filter(|place| there.contains(place)).map(|place| (place, holder(place))).collect()
}

/// The tables that the mirror writes.
fn mirrored_tables(run: &mut Run) -> Result<HashSet<TableName>> {
    Ok(run.selected_tables(Side::Source)?.iter().map(TableName::of).collect())
}

/// What lets our role write as replication does.
fn remedy(run: &mut Run, place: Place) -> Result<String> {
    let role = sql::quote_identifier(&read_own_role(run.session(place))?.name);
    Ok(if run.session(place).version >= 150_000 {
        format!("Run GRANT SET ON PARAMETER session_replication_role TO {role}; on the {place}")
    } else {
        format!("Connect to the {place} as a superuser")
    })
}
