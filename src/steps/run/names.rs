//! The fixed names of what we make on the servers, by which any later run finds it.

/// Publication on the source, and on the backup, read by the mirror.
pub const MIRROR_PUBLICATION: &str = "pgdetour_mirror";
/// Slot on the source, read by the mirror.
pub const MIRROR_SLOT: &str = "pgdetour_mirror";
/// Slot on the backup, read by the mirror's second stage. Slots are named server-wide, and both may be on one server.
pub const STAGE_SLOT: &str = "pgdetour_stage";
/// Subscription on the target, and on the backup, which carries the mirror.
pub const MIRROR_SUBSCRIPTION: &str = "pgdetour_mirror";
/// Publication on the target, read by replay.
pub const CAPTURE_PUBLICATION: &str = "pgdetour_capture";
/// Slot on the target, read by replay.
pub const CAPTURE_SLOT: &str = "pgdetour_capture";
/// Publication on the target, read by the backup while the target serves.
pub const BACKUP_PUBLICATION: &str = "pgdetour_backup";
/// Slot on the target, read by the backup while the target serves.
pub const BACKUP_SLOT: &str = "pgdetour_backup";
/// Subscription on the backup, which follows the target while that serves.
pub const BACKUP_SUBSCRIPTION: &str = "pgdetour_backup";
/// Table on the publisher, in place of a slot where triggers record changes.
pub const CHANGE_TABLE: &str = "pgdetour.change";
