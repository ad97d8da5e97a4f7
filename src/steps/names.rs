//! The fixed names of what we make on the servers, by which any later run finds it.

/// Publication on the source, read by the mirror.
pub const MIRROR_PUBLICATION: &str = "pgdetour_mirror";
/// Slot on the source, read by the mirror.
pub const MIRROR_SLOT: &str = "pgdetour_mirror";
/// Subscription on the target, which carries the mirror.
pub const MIRROR_SUBSCRIPTION: &str = "pgdetour_mirror";
/// Publication on the target, read by replay.
pub const CAPTURE_PUBLICATION: &str = "pgdetour_capture";
/// Slot on the target, read by replay.
pub const CAPTURE_SLOT: &str = "pgdetour_capture";
