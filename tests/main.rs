//! The whole binary against real servers that these tests start and stop themselves.

mod automation;
mod capture;
mod cases;
mod clean;
mod command_line;
mod fault_matrix;
mod faults;
mod generated;
mod haproxy;
mod harness;
mod injection;
mod journey;
mod json;
mod kills;
mod layers;
mod modes;
mod privileges;
mod quarantine;
mod random;
mod readme;
mod refusals;
mod replay;
mod status;
mod support;
mod switch;
