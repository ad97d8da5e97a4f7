//! From one server to the other: copy, changes, mapping, apply.

pub mod copy;
pub mod sequences;
pub mod subscription;
