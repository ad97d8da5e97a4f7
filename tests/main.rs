//! The whole binary against real servers that these tests start and stop themselves.

mod banner;
mod command_line;
mod faults;
mod generated;
mod haproxy;
mod harness;
mod journey;
mod json;
mod layers;
mod modes;
mod quarantine;
mod readme;
mod refusals;
mod restrict;
mod restrict_paths;
mod support;
