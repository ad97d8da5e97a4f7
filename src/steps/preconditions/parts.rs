//! What row filters and column lists of `[[mirror.table]]` have to be like: the stream must be able to hold to them.

use crate::config::CaptureMethod;
use crate::error::{Checked, Result};
use crate::flow::TableName;
use crate::flow::mapping::list_defaulted;
use crate::pg::catalog::{self, Identity, Table, inventory};
use crate::phase::{Place, Side};
use crate::steps::Run;

/// The oldest major whose publications can have row filters and column lists.
const PARTS_SINCE: i32 = 150_000;

/// Every part can be copied and followed, on both sides.
pub fn parts_fit(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.parts.is_empty() {
        return Ok(());
    }
    let parts = run.config.mirror.parts.clone();
    let selected = run.selected_tables(Side::Source)?;
    let all = run.list_tables(Side::Source)?;
    let defaulted = list_defaulted(run.source())?;
    let versions: Vec<(Place, i32)> =
        run.places().into_iter().map(|place| (place, run.session(place).version)).collect();
    for part in &parts {
        let name = part.table.to_string();
        let same = |table: &&Table| table.schema == part.table.schema && table.name == part.table.name;
        let (Some(table), Some(whole)) = (selected.iter().find(same), all.iter().find(same)) else {
            let message = format!("[[mirror.table]] names \"{name}\", which is not a mirrored table");
            checked.fail(
                "mirror_table",
                &name,
                message,
                "Correct the name, mirror.tables or mirror.exclude.",
            );
            continue;
        };
        for (place, version) in &versions {
            // What is recorded on the target has all rows, but only the mirrored columns.
            let needed = part.columns.is_some() || *place != Place::Target;
            if needed && *version < PARTS_SINCE {
                let message = format!(
                    "PostgreSQL {} of the {place} cannot publish a part of table \"{name}\"",
                    version / 10_000
                );
                checked.fail("mirror_table", &name, message, "Parts of tables need PostgreSQL 15 or later.");
            }
        }
        if whole.partitioned || whole.root.is_some() {
            let message = format!("table \"{name}\" is partitioned, and only a whole one can be mirrored");
            let hint = "Remove its [[mirror.table]], or exclude the table.";
            checked.fail("mirror_table", &name, message, hint);
        }
        let recorded = [
            ("mirror.method", run.config.mirror.method, true),
            ("capture.method", run.config.capture.method, part.columns.is_some()),
        ];
        for (key, method, matters) in recorded {
            if matters && method == CaptureMethod::Trigger {
                let message = format!("{key} = \"trigger\" records all of table \"{name}\", not a part");
                let hint = format!("Use {key} = \"wal\", or mirror the whole table.");
                checked.fail("mirror_table", &name, message, hint);
            }
        }
        if let Some(columns) = &part.columns {
            check_columns(columns, whole, checked);
            let is_filled = |column: &catalog::Column| {
                let place = (TableName::of(whole), column.name.clone());
                !column.not_null || defaulted.contains(&place) || column.is_generated()
            };
            for column in whole.columns.iter().filter(|c| !columns.contains(&c.name) && !is_filled(c)) {
                let message = format!(
                    "column \"{}\" of table \"{name}\" is NOT NULL without a default, and is not mirrored",
                    column.name
                );
                let hint = "Add it to columns: without it no row can be written.";
                checked.fail("mirror_table", &name, message, hint);
            }
        }
        check_filter(run, table, checked)?;
    }
    Ok(())
}

fn check_columns(columns: &[String], table: &Table, checked: &mut Checked) {
    let name = table.display();
    for column in columns {
        match table.column(column) {
            None => {
                let message =
                    format!("[[mirror.table]] names column \"{column}\", which \"{name}\" does not have");
                checked.fail("mirror_table", &name, message, "Correct the name.");
            }
            Some(found) if found.is_generated() => {
                let message = format!("column \"{column}\" of table \"{name}\" is generated");
                let hint = "Take it out of columns: the target computes it.";
                checked.fail("mirror_table", &name, message, hint);
            }
            Some(_) => {}
        }
    }
    if table.identity == Identity::Full {
        let message = format!("table \"{name}\" has REPLICA IDENTITY FULL, which needs every column");
        let hint = "Use its primary key or a unique index as its replica identity, or remove columns.";
        checked.fail("mirror_table", &name, message, hint);
    }
    for column in table.key.iter().filter(|column| !columns.contains(column)) {
        let message =
            format!("column \"{column}\" of table \"{name}\" identifies its rows, and is not mirrored");
        checked.fail("mirror_table", &name, message, "Add it to columns.");
    }
}

/// Columns outside of the replica identity would make the application's own UPDATE and DELETE fail.
fn check_filter(run: &mut Run, table: &Table, checked: &mut Checked) -> Result<()> {
    let name = table.display();
    match inventory::list_filter_columns(run.source(), table)? {
        Err(said) => {
            let message = format!("the filter of table \"{name}\" cannot be read: {said}");
            let hint = said.hint.unwrap_or_else(|| "Write SQL over the table's columns.".into());
            checked.fail("mirror_table", &name, message, hint);
        }
        Ok(columns) => {
            for column in columns.iter().filter(|column| !table.key.contains(column)) {
                let message = format!(
                    "the filter of table \"{name}\" reads column \"{column}\", which is not in its replica identity"
                );
                let hint = format!(
                    "Run ALTER TABLE {} REPLICA IDENTITY FULL; otherwise the application's updates would fail.",
                    table.quoted()
                );
                checked.fail("mirror_table", &name, message, hint);
            }
        }
    }
    Ok(())
}

/// The parts are those that were copied: rows and columns that came or went since would be nowhere.
pub fn parts_unchanged(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let Some(before) = run.facts()?.parts else { return Ok(()) };
    let now = run.parts();
    for name in before.keys().chain(now.keys().filter(|name| !before.contains_key(*name))) {
        if before.get(name) != now.get(name) {
            let message = format!("[[mirror.table]] of \"{name}\" is not as it was when mirroring began");
            let hint = "Write it as it was, or run pgdetour clean and mirror again.";
            checked.fail("mirror_table", name, message, hint);
        }
    }
    Ok(())
}
