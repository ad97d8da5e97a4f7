//! The whole binary against real servers that these tests start and stop themselves.

mod command_line;
mod generated;
mod harness;
mod layers;
mod support;
