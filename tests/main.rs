//! The whole binary against real servers that these tests start and stop themselves.

mod banner;
mod capture;
mod cases;
mod command_line;
mod fault_matrix;
mod faults;
mod generated;
mod haproxy;
mod harness;
mod journey;
mod json;
mod layers;
mod modes;
mod quarantine;
mod random;
mod readme;
mod refusals;
mod replay;
mod restrict;
mod restrict_paths;
mod support;
