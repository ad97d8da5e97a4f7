//! From one server to the other: copy, changes, mapping, apply.

pub mod copy;
