//! From one server to the other: copy, changes, mapping, apply.

pub mod apply;
pub mod behind;
pub mod copy;
pub mod mapping;
pub mod marker;
pub mod sequences;
pub mod snapshot;
pub mod source;
pub mod subscription;
#[cfg(test)]
mod test_stop;
pub mod verify;

pub use apply::follow::{Applied, Flow, Origins, Progress, Until, apply_until};
pub use mapping::TableName;
pub use snapshot::{Snapshot, Xid};
pub use source::ChangeSource;

/// Which way changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowName {
    /// Source to target, or from the backup database to it.
    Mirror,
    /// Source to backup database: what the mirror goes through before.
    Backup,
    /// Target to source.
    Replay,
}

impl FlowName {
    /// The word in markers and progress.
    pub fn name(self) -> &'static str {
        match self {
            FlowName::Mirror => "mirror",
            FlowName::Backup => "backup",
            FlowName::Replay => "replay",
        }
    }
}

impl std::fmt::Display for FlowName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
