//! One `initdb` for each installation and run of the tests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::postgres::{Programs, Template};
use super::scratch::Scratch;

struct Made {
    /// Goes with the process: nothing drops it before.
    scratch: Scratch,
    templates: HashMap<Programs, Template>,
}

static MADE: Mutex<Option<Made>> = Mutex::new(None);

/// The template of the source's installation; the environment may name another than the newest.
pub fn of_source() -> Template {
    of(Programs::find("PGDETOUR_TEST_SOURCE"))
}

/// The template of the target's installation; the environment may name another than the newest.
pub fn of_target() -> Template {
    of(Programs::find("PGDETOUR_TEST_TARGET"))
}

fn of(programs: Programs) -> Template {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_with(|| Made { scratch: Scratch::new(), templates: HashMap::new() });
    let data = made.scratch.path().join(format!("template{}", made.templates.len()));
    made.templates
        .entry(programs)
        .or_insert_with_key(|programs| Template::make(data, programs.clone()))
        .clone()
}
