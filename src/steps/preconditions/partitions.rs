//! Partitions that a mirror cannot carry as they are.

use crate::config::SchemaMode;
use crate::error::{Checked, Result};
use crate::phase::Side;
use crate::sql;
use crate::steps::Run;
use crate::steps::mirror::carrier::Choice;
use crate::steps::run::facts::Carrier;

/// No partition is a foreign table, which a subscription of its root refuses.
pub fn foreign_partitions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.choice == Choice::Only(Carrier::Pgdetour) {
        return Ok(());
    }
    let tables = run.selected_tables(Side::Source)?;
    let oids: Vec<u32> = tables.iter().filter(|table| table.partitioned).map(|table| table.oid).collect();
    for row in run.source().query(&sql::catalog::LIST_FOREIGN_PARTITIONS, &[&oids])? {
        let name = format!("{}.{}", row.get::<_, &str>("schema_name"), row.get::<_, &str>("table_name"));
        let message = format!("foreign table \"{name}\" is a partition, and a subscription refuses its root");
        let hint = format!(
            "Run ALTER TABLE {} DETACH PARTITION {}; for as long as the mirror stands, or set mirror.carrier = \"pgdetour\".",
            sql::quote_qualified(row.get("parent_schema"), row.get("parent_name")),
            sql::quote_qualified(row.get("schema_name"), row.get("table_name"))
        );
        checked.fail("foreign_partition", &name, message, hint);
    }
    Ok(())
}

/// A row is in the same partition everywhere: the hash of an enum's value is that of its oid, which each database draws for itself.
pub fn hashed_alike(run: &mut Run, checked: &mut Checked) -> Result<()> {
    // One that goes over as one is parted anew.
    let mut tables = run.selected_tables(Side::Source)?;
    tables.retain(|table| table.partitioned && !table.part.through_root);
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for row in run.source().query(&sql::catalog::LIST_UNSTEADY_HASHES, &[&oids])? {
        let name = format!("{}.{}", row.get::<_, &str>("schema_name"), row.get::<_, &str>("table_name"));
        let message = format!(
            "table \"{name}\" is partitioned by the hash of an enum, which is another one in each database: its rows belong to other \
             partitions on the target"
        );
        let hint = "Make it on the target partitioned in another way, and set mirror.schema = \"existing\"; or leave it out with \
                    mirror.exclude.";
        // A target that was copied file by file has the same oids.
        if run.config.mirror.schema == SchemaMode::Existing {
            checked.warn("enum_hash", &name, message, hint);
        } else {
            checked.fail("enum_hash", &name, message, hint);
        }
    }
    Ok(())
}
