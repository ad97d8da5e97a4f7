//! The whole binary against real servers that these tests start and stop themselves.

mod capture;
mod command_line;
mod faults;
mod generated;
mod haproxy;
mod harness;
mod journey;
mod json;
mod kills;
mod layers;
mod modes;
mod quarantine;
mod readme;
mod refusals;
mod replay;
mod support;
