//! What one step leaves for later ones in the record, typed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::pg::catalog::Part;
use crate::pg::catalog::emptiness::Emptiness;
use crate::pg::catalog::inventory::DatabaseSetting;
use crate::pg::fence::FenceUndo;
use crate::pg::record::{self, Detour};
use crate::pg::{PgLsn, Session};
use crate::routers::RouterUndo;

/// The keys of `pgdetour.detour.facts`. A key that is absent was not found out yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    /// `mirror`'s report, for a second run of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Value>,
    /// What of the source was not on the target, or not in the same words, as the mirror was made: kind and identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<BTreeSet<String>>,
    /// Who carries the mirror.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// Somebody asks the runs of `mirror` to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_requested: Option<bool>,
    /// The mirror goes by way of a backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<bool>,
    /// Position on the target from which the backup has to follow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_start: Option<String>,
    /// What the backup held before it was filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_before: Option<Emptiness>,
    /// What the target held before it was filled, where its schema is of our making.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_before: Option<Emptiness>,
    /// What of each table named in `[[mirror.table]]` is mirrored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<BTreeMap<String, Part>>,
    /// Settings that the target's database got from the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_added: Option<Vec<DatabaseSetting>>,
    /// Position on the target from which replay has to apply: nothing that general traffic wrote is before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_start: Option<String>,
    /// The recording that was begun anew since cutover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_anew: Option<CaptureAnew>,
    /// The change that replay has stopped at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_stop: Option<ReplayStop>,
    /// What the router's files held before the detour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_original: Option<Vec<RouterUndo>>,
    /// Where the source was when `router_original` was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_place: Option<String>,
    /// How to lower the fence on the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_fence: Option<FenceUndo>,
    /// How to lower the fence on the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_fence: Option<FenceUndo>,
    /// Id of the switch in progress, which is its marker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// Where the marker of the switch in progress was written, for the count of late writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_position: Option<String>,
    /// When clients were held, in milliseconds of the Unix epoch, for a pause that a second run ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_at: Option<u64>,
    /// When they went on, by the same clock and the length of the pause; of an earlier switch where that is before `held_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<u64>,
    /// How many clients were held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients_held: Option<u64>,
    /// Row changes that were found on the side left behind, for a run that finds the slot gone already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_writes: Option<i64>,
    /// The report of `cutover --rehearse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutover_rehearsal: Option<Value>,
    /// The report of `cutback --rehearse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutback_rehearsal: Option<Value>,
    /// `clean` has begun to take away what cannot be had again, and has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<bool>,
    /// `cutover`'s report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutover: Option<Value>,
    /// `cutback`'s report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutback: Option<Value>,
}

/// Who carries the changes of a mirror that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// PostgreSQL's own replication, with no process of ours.
    Subscription,
    /// Our own runs: `mirror --follow`, `mirror` again, and `cutover` for the last changes.
    Pgdetour,
}

/// How far a recording that is begun anew has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CaptureAnew {
    /// Position behind which all is recorded; none before it is.
    pub start: Option<String>,
    /// `pg_current_snapshot()` of the target that the source was made equal to.
    pub snapshot: Option<String>,
    /// Replay may go on.
    pub done: bool,
}

/// Where replay has stopped, and why: for as long as the source is applied up to there and no further.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayStop {
    /// Position on the target up to which all was applied.
    pub applied_lsn: String,
    /// What did not fit.
    pub message: String,
    /// Table, key and what the server said.
    pub detail: Option<String>,
    /// What mends it.
    pub hint: Option<String>,
}

impl Facts {
    /// The facts in a record.
    pub fn of(detour: &Detour) -> Result<Facts> {
        serde_json::from_value(detour.facts.clone()).map_err(|error| Error::Internal {
            message: format!("the record's facts cannot be read: {error}"),
        })
    }

    /// Adds these facts to the record; keys that are absent here stay as they are there.
    pub fn merge(&self, target: &mut Session) -> Result<()> {
        record::merge_facts(target, &serde_json::json!(self))
    }

    /// Adds these facts to a copy of the record's.
    pub fn merge_into(&self, facts: &mut Value) {
        if let (Some(known), Value::Object(fresh)) = (facts.as_object_mut(), serde_json::json!(self)) {
            known.extend(fresh);
        }
    }
}

/// A position in the form that the record keeps.
pub fn parse_lsn(text: &str) -> Result<PgLsn> {
    text.parse()
        .map_err(|_| Error::Internal { message: format!("\"{text}\" in the record is not a WAL position") })
}
