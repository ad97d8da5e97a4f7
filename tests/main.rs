//! The whole binary against real servers that these tests start and stop themselves.

mod faults;
mod harness;
mod journey;
mod json;
mod refusals;
mod support;
