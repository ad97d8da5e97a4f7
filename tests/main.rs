//! The whole binary against real servers that these tests start and stop themselves.

mod clean;
mod command_line;
mod faults;
mod generated;
mod haproxy;
mod harness;
mod injection;
mod journey;
mod json;
mod layers;
mod privileges;
mod quarantine;
mod readme;
mod refusals;
mod status;
mod support;
