//! Dies or waits at a named point, so that tests can prove what a crash leaves behind. Does nothing in a release build.

use std::path::Path;
use std::time::Duration;

/// When `PGDETOUR_FAULT` names this moment of this step, as `before:hold clients`: kills this process with SIGKILL; or, when
/// `PGDETOUR_FAULT_FILE` names a file, makes that file and waits until somebody has removed it.
pub fn point(moment: &str, step: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let wanted = std::env::var("PGDETOUR_FAULT").unwrap_or_default();
    if wanted.split_once(':') != Some((moment, step)) {
        return;
    }
    let Some(file) = std::env::var_os("PGDETOUR_FAULT_FILE") else {
        // SIGKILL of ourselves: nothing may run after it, neither a destructor nor a flush.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        return;
    };
    let file = Path::new(&file);
    if std::fs::write(file, b"").is_ok() {
        while file.exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether this process is to die by itself, as with its whole host: nothing that it has started is left then.
pub fn takes_the_host() -> bool {
    cfg!(debug_assertions)
        && std::env::var_os("PGDETOUR_FAULT").is_some()
        && std::env::var_os("PGDETOUR_FAULT_FILE").is_none()
}
