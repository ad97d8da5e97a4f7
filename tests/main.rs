//! The whole binary against real servers that these tests start and stop themselves.

mod harness;
mod support;
