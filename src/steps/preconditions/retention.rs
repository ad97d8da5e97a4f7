//! Whether the source can keep what it writes while it is copied, and as long as the flow stands still.

use crate::config::CaptureMethod;
use crate::error::{Checked, Result};
use crate::flow::source::space::free_bytes;
use crate::phase::{Phase, Side};
use crate::steps::Run;

const MIB: i64 = 1 << 20;

/// The source keeps WAL for as long as the copy takes, as far as that can be told.
pub fn source_keeps_wal(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.mirror.method == CaptureMethod::Trigger || run.phase() != Phase::Absent {
        return Ok(());
    }
    let limit = run.source().query_text(
        "select pg_catalog.pg_size_bytes(s.setting || s.unit) from pg_catalog.pg_settings as s \
         where s.name = 'max_slot_wal_keep_size' and s.setting <> '-1'",
        &[],
    )?;
    let limit = limit.first().map(|row| row.get::<_, i64>(0));
    let copied = run.selected_tables(Side::Source)?.iter().map(|table| table.data_bytes).sum();
    let free = free_bytes(run.source(), "pg_wal")?;
    judge(limit, free, copied, run.config.mirror.watch.retained.is_some(), checked);
    Ok(())
}

/// `limit` is what a slot may keep, if there is one, `free` the room on the disk, if it is known. As much as is `copied` may well
/// be written meanwhile. `watched` says that the operator has set a threshold of his own.
fn judge(limit: Option<i64>, free: Option<i64>, copied: i64, watched: bool, checked: &mut Checked) {
    let mut warn = |message: String, hint: &str| checked.warn("wal_kept", "source", message, hint);
    let (kept, to_copy) = (limit.map(|limit| limit / MIB), copied / MIB);
    if let Some(kept) = kept.filter(|kept| *kept < to_copy) {
        warn(
            format!("max_slot_wal_keep_size is {kept} MB, less than the {to_copy} MB that are to be copied"),
            "If more WAL than that is written while the copy runs, the mirror has to begin again: raise it (ALTER \
             SYSTEM, then reload), as far as the disk allows.",
        );
    }
    match free.map(|free| free / MIB) {
        Some(free) if free < kept.unwrap_or(to_copy) => warn(
            format!(
                "the source's disk has {free} MB left, and its slot may keep {}",
                kept.map_or_else(|| "WAL without a limit".to_owned(), |kept| format!("{kept} MB of WAL"))
            ),
            "A full disk stops the source: make room, or bound what a slot keeps with max_slot_wal_keep_size, at the price \
             of a mirror that has to begin again.",
        ),
        None if limit.is_none() && !watched => warn(
            "a slot keeps WAL there without a limit, and how much room its disk has cannot be seen from here"
                .into(),
            "Look (df, where pg_wal is), and set mirror.warn_retained, so that status warns in time; or bound what a slot \
             keeps with max_slot_wal_keep_size, at the price of a mirror that has to begin again.",
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limit: Option<i64>, free: Option<i64>, copied: i64, watched: bool) -> Vec<String> {
        let mut checked = Checked::default();
        judge(limit.map(|it| it * MIB), free.map(|it| it * MIB), copied * MIB, watched, &mut checked);
        checked.warnings.into_iter().map(|found| found.message).collect()
    }

    #[test]
    fn room_for_as_much_wal_as_is_copied_is_enough() {
        assert!(told(None, Some(1000), 1000, false).is_empty());
        assert!(told(Some(1000), Some(1000), 900, false).is_empty());
        assert!(told(Some(1000), None, 900, false).is_empty(), "the limit keeps the disk from filling");
    }

    #[test]
    fn a_slot_that_could_be_lost_or_fill_the_disk_is_told() {
        assert!(
            told(Some(10), Some(1000), 900, false)[0].starts_with("max_slot_wal_keep_size is 10 MB, less")
        );
        assert!(
            told(None, Some(899), 900, false)[0]
                .contains("899 MB left, and its slot may keep WAL without a limit")
        );
        assert!(told(Some(950), Some(940), 900, false)[0].contains("may keep 950 MB of WAL"));
    }

    #[test]
    fn a_disk_that_cannot_be_seen_is_told_until_somebody_has_set_a_threshold() {
        assert!(told(None, None, 1, false)[0].contains("cannot be seen from here"));
        assert!(told(None, None, 1, true).is_empty());
    }
}
