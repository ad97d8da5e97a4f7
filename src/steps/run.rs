//! The parts of a run that every command has.

pub mod connecting;
pub mod facts;
pub mod flows;
pub mod names;
pub mod open;
pub mod outcome;
pub mod seen;
pub mod selection;
pub mod signals;
