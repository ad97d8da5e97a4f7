//! The whole binary against real servers that these tests start and stop themselves.

mod capture;
mod command_line;
mod faults;
mod generated;
mod haproxy;
mod harness;
mod journey;
mod json;
mod layers;
mod modes;
mod objects;
mod quarantine;
mod readme;
mod refusals;
mod replay;
mod selection;
mod support;
mod verify;
