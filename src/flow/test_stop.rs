//! The end of what runs beside a test.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when it is dropped, at the latest as the test fails: threads of a scope that run until the flag is set would
/// keep a failed test from ending, and from saying why.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
