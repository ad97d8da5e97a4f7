//! Dies at a named point, so that tests can prove what a crash leaves behind. Does nothing in a release build.

/// Kills this process with SIGKILL when `PGDETOUR_FAULT` names this moment of this step, as `before:hold clients`.
pub fn point(moment: &str, step: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let wanted = std::env::var("PGDETOUR_FAULT").unwrap_or_default();
    if wanted.split_once(':') == Some((moment, step)) {
        // SIGKILL of ourselves: nothing may run after it, neither a destructor nor a flush.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
