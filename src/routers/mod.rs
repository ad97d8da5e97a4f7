//! Where clients are sent: hold them, point them to a side, let them go on.
