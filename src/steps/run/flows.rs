//! The flow home: where its changes come from, and how our own runs apply it.

use std::collections::{HashMap, HashSet};

use crate::config::{CaptureMethod, OnConflict};
use crate::error::Result;
use crate::flow::apply::follow::BATCH_BYTES;
use crate::flow::mapping::Mapping;
use crate::flow::{ChangeSource, Flow, FlowName, Origins, Snapshot, TableName, subscription};
use crate::pg::catalog::Table;
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::run::names;

impl Run {
    /// What records the changes that replay applies.
    pub fn recording(&self) -> ChangeSource {
        match self.config.capture.method {
            CaptureMethod::Wal => ChangeSource::Slot {
                slot: names::CAPTURE_SLOT.into(),
                publication: names::CAPTURE_PUBLICATION.into(),
            },
            CaptureMethod::Trigger => ChangeSource::Triggers,
        }
    }

    /// What is no change of the target's own: that which the mirror's subscription has brought there. What another subscription
    /// or a tool has brought under an origin of its own, the source does not have.
    pub fn mirrored_changes(&mut self) -> Result<Origins> {
        let origin = subscription::find_origin(self.target(), names::MIRROR_SUBSCRIPTION)?;
        Ok(origin.map_or(Origins::None, Origins::Named))
    }

    /// The replay flow through `mapping`.
    pub fn replay_flow(&mut self, mapping: Mapping) -> Result<Flow> {
        let mut snapshots = HashMap::new();
        // What was recorded before the source was made equal to the target is there already.
        if let Some(text) = self.facts()?.capture_anew.and_then(|anew| anew.snapshot) {
            let snapshot = Snapshot::parse(&text)?;
            let names = mapping.pairs().map(|rule| (rule.from.schema.clone(), rule.from.name.clone()));
            snapshots.extend(names.map(|name| (name, snapshot.clone())));
        }
        Ok(Flow {
            name: FlowName::Replay,
            detour: self.detour_id()?,
            publisher: self.server(Side::Target).clone(),
            subscriber: self.server(Side::Source).clone(),
            source: self.recording(),
            mapping,
            snapshots,
            passed_over: self.passed_over()?,
            left_out: self.mirrored_changes()?,
            batch_bytes: BATCH_BYTES,
            backlog: None,
            quarantine: self.config.replay.on_conflict == OnConflict::Quarantine,
        })
    }

    /// Tables of the target that `mirror.exclude` names: what is recorded of them has no place on the source. One that is only
    /// not selected may be one that is, under another name.
    pub fn passed_over(&mut self) -> Result<HashSet<TableName>> {
        let selection = self.config.mirror.selection()?;
        let is_left_out = |table: &&Table| match &table.root {
            Some((schema, name)) => selection.excludes(schema, name),
            None => selection.excludes(&table.schema, &table.name),
        };
        Ok(self.list_tables(Side::Target)?.iter().filter(is_left_out).map(TableName::of).collect())
    }
}
