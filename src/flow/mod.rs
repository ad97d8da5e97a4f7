//! From one server to the other: copy, changes, mapping, apply.

pub mod apply;
#[cfg(test)]
mod apply_tests;
pub mod batch;
#[cfg(test)]
mod batch_tests;
pub mod behind;
pub mod bound;
mod carried;
pub mod change;
mod change_reader;
pub mod change_table;
#[cfg(test)]
mod change_tests;
pub mod compare;
mod conditional;
pub mod conflict;
pub mod copy;
pub mod doubts;
mod drift;
pub mod export;
mod expression;
pub mod follow;
#[cfg(test)]
mod follow_tests;
pub mod lag;
pub mod late;
pub mod lint;
#[cfg(test)]
mod lint_tests;
pub mod mapping;
mod mapping_checks;
pub mod marker;
pub mod pace;
pub mod pgoutput;
pub mod publication;
pub mod quarantine;
#[cfg(test)]
mod quarantine_tests;
mod reader;
mod record_text;
mod references;
pub mod rehearse;
pub mod resume;
pub mod sequences;
mod settle;
pub mod slot;
pub mod snapshot;
pub mod source;
pub mod space;
mod stage;
mod statement;
pub mod stream;
pub mod subscription;

pub use follow::{Applied, Flow, Progress, Until, apply_until};
pub use mapping::TableName;
pub use snapshot::Snapshot;
pub use source::ChangeSource;

/// Which way changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowName {
    /// Source to target.
    Mirror,
    /// Target to source.
    Replay,
}

impl FlowName {
    /// The word in markers and progress.
    pub fn name(self) -> &'static str {
        match self {
            FlowName::Mirror => "mirror",
            FlowName::Replay => "replay",
        }
    }
}

impl std::fmt::Display for FlowName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
