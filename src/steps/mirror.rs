//! Copies the source to the target and hands over to PostgreSQL's own replication.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::SchemaMode;
use crate::error::{Error, Result};
use crate::flow::{Flow, FlowName, Until, copy, marker, publication, slot, subscription};
use crate::pg::Conninfo;
use crate::pg::catalog::Table;
use crate::pg::record;
use crate::phase::{Phase, Serving, Side};
use crate::steps::facts::Facts;
use crate::steps::{Needs, Run, preconditions};

/// Publication on the source.
pub const PUBLICATION: &str = "pgdetour_mirror";
/// Slot on the source.
pub const SLOT: &str = "pgdetour_mirror";
/// Subscription on the target.
pub const SUBSCRIPTION: &str = "pgdetour_mirror";

/// How long creating the slot may wait for transactions that are older, and as long again until they have ended.
const OLDER_TRANSACTIONS_BUDGET: Duration = Duration::from_secs(120);
/// How long the last reader of the slot may take to leave it.
const SLOT_BUDGET: Duration = Duration::from_secs(30);

/// Runs the command; its report.
pub fn run(run: &mut Run, jobs: Option<u16>) -> Result<Value> {
    run.open(Needs::Both)?;
    if run.phase() == Phase::Mirrored {
        return Ok(run.facts()?.mirror.unwrap_or_default());
    }
    let begun = Instant::now();
    let jobs = jobs.map_or(run.config.mirror.jobs, usize::from);
    run.step("check preconditions", |run| run.require(&[preconditions::MIRROR]))?;
    run.step("begin the record", begin_record)?;
    let tables = run.selected_tables(Side::Source)?;
    run.step("create publication", |run| publication::ensure(run.source(), PUBLICATION, &tables))?;
    run.step("create slot", |run| slot::create(run.source(), SLOT, OLDER_TRANSACTIONS_BUDGET))?;
    run.step("wait for older transactions", |run| slot::wait_for_horizon(run.source(), OLDER_TRANSACTIONS_BUDGET))?;
    run.step("copy schema", |run| copy_schema(run, &tables))?;
    let copied = run.step("copy tables", |run| copy_tables(run, &tables, jobs))?;
    run.step("complete schema", |run| copy::complete_schema(run, jobs))?;
    run.step("catch up", catch_up)?;
    run.step("add foreign keys", |run| copy::add_foreign_keys(run, jobs))?;
    run.step("hand over to a subscription", hand_over)?;
    run.step("finish the mirror", |run| finish(run, &copied, begun.elapsed()))
}
