//! The recorded changes as lines of JSON, read without being consumed.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::types::PgLsn;
use serde_json::{Map, Value as Json, json};

use super::ChangeSource;
use super::change::{Change, Relation, RelationColumn, Row, RowChange, Value};
use super::reader::Item;
use crate::error::{Error, Result};
use crate::flow::Origins;
use crate::pg::Server;

/// How long to wait for more before looking at the stop flag.
const GLANCE: Duration = Duration::from_millis(20);

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Transactions that changed something; those left out by their origin do not count.
    pub transactions: u64,
    /// Row changes and TRUNCATEs in them.
    pub changes: u64,
    /// Size of the lines, in bytes.
    pub bytes: u64,
}

/// One transaction that is being written.
struct Open {
    xid: u32,
    changes: u64,
    foreign: bool,
    scratch: bool,
}

/// Writes what `source` has recorded by now, each change a line, and a line for each commit.
/// Of what triggers record, only what comes behind `applied` is waiting still. Transactions of the origins in `left_out` are.
pub fn export_changes(
    source: &ChangeSource,
    publisher: &Server,
    applied: PgLsn,
    left_out: &Origins,
    out: &mut dyn Write,
    stop: &AtomicBool,
    report: &mut dyn FnMut(&Exported),
) -> Result<Exported> {
    let mut session = publisher.connect()?;
    source.require_intact(&mut session)?;
    let end = source.end(&mut session)?;
    let reader = source.open_copy(publisher, applied)?;
    let mut lines = Lines { out, done: Exported::default() };
    let mut open: Option<Open> = None;
    let mut position = PgLsn::from(0);
    while position < end && !stop.load(Ordering::Relaxed) {
        let Some(chunk) = reader.next(GLANCE)? else { continue };
        for item in chunk.items {
            match (item, &mut open) {
                (Item::Begin { xid, .. }, open) => {
                    *open = Some(Open { xid: xid.low(), changes: 0, foreign: false, scratch: false });
                }
                (Item::Origin { name }, Some(open)) => open.foreign = left_out.has(&name),
                (Item::Scratch, Some(open)) => open.scratch = true,
                (Item::Change(change), Some(open)) if !open.foreign => {
                    open.changes += 1;
                    lines.write_change(open.xid, &change)?;
                }
                (Item::Commit { end_lsn }, open) => {
                    position = end_lsn;
                    if let Some(open) = open.take().filter(|open| open.changes > 0) {
                        lines.write(&json!({
                            "xid": open.xid,
                            "operation": "commit",
                            "lsn": end_lsn.to_string(),
                            "changes": open.changes,
                            "scratch": open.scratch,
                        }))?;
                        lines.done.transactions += 1;
                        lines.done.changes += open.changes;
                    }
                    if position >= end {
                        break;
                    }
                }
                _ => {}
            }
        }
        if chunk.drained && open.is_none() {
            position = position.max(chunk.position.into());
        }
        report(&lines.done);
    }
    lines.out.flush().map_err(Error::io("write the exported changes"))?;
    Ok(lines.done)
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    done: Exported,
}

impl Lines<'_> {
    fn write(&mut self, line: &Json) -> Result<()> {
        let text = format!("{line}\n");
        self.out.write_all(text.as_bytes()).map_err(Error::io("write the exported changes"))?;
        self.done.bytes += text.len() as u64;
        Ok(())
    }

    fn write_change(&mut self, xid: u32, change: &Change) -> Result<()> {
        let (relation, change) = match change {
            Change::Row { relation, change } => (relation, change),
            Change::Truncate { relations } => {
                let tables: Vec<String> = relations.iter().map(|relation| relation.display()).collect();
                return self.write(&json!({ "xid": xid, "operation": "truncate", "tables": tables }));
            }
        };
        let (operation, old, new) = match change {
            RowChange::Insert { new } => ("insert", None, Some(new)),
            RowChange::Update { old, new } => ("update", old.as_ref(), Some(new)),
            RowChange::Delete { old } => ("delete", Some(old), None),
        };
        let mut line = json!({ "xid": xid, "operation": operation, "table": relation.display() });
        if let Some(old) = old {
            // Without FULL, what is not of the identity is not known, which is other than null.
            line["old"] =
                row(relation, old, |column, value| relation.full || column.key || value != Value::Null);
        }
        if let Some(new) = new {
            line["new"] = row(relation, new, |_, _| true);
        }
        self.write(&line)
    }
}

/// Values as the text that the server writes; unchanged ones that the record does not hold are left out.
fn row(relation: &Relation, row: &Row, is_known: impl Fn(&RelationColumn, Value<'_>) -> bool) -> Json {
    let mut values = Map::new();
    let all = relation.columns.iter().zip(row.values());
    for (column, value) in all.filter(|(column, value)| is_known(column, *value)) {
        match value {
            Value::Null => values.insert(column.name.clone(), Json::Null),
            Value::Text(text) => {
                values.insert(column.name.clone(), String::from_utf8_lossy(text).into_owned().into())
            }
            // An export asks for text.
            Value::Unchanged | Value::Binary(_) => None,
        };
    }
    Json::Object(values)
}
