//! A run that dies, or is stopped, while it holds clients: they go on all the same, and nobody has to run anything for it.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::detour::{Detour, Serving};
use crate::support::hold::Watch;

/// The budget of the pause, and what its end may take beyond it: a stopped run is waited for two seconds, and what ends
/// the hold connects anew.
const BUDGET: &str = "3s";
const KILLED: Duration = Duration::from_secs(3);
const STOPPED: Duration = Duration::from_secs(6);

/// A run that gets a signal at a step of the hold; how long clients were held, and who serves then.
fn signalled(detour: &mut Detour, command: &str, at: &str, signal: Signal) -> Serving {
    let run = detour.start_until(command, &["--yes", "--max-pause", BUDGET], at);
    assert!(run.is_there(), "{command} never came to {at}");
    let watch = Watch::begin(detour);
    run.signal(signal);
    // Its end is the guardian's, which has the same standard error.
    let answer = run.go_on();
    let held = watch.end();
    assert!(answer.was_killed(), "{}", answer.describe());
    assert!(answer.stderr.contains("the run that held clients is gone"), "{}", answer.describe());
    let longest = if signal == Signal::STOP { STOPPED } else { KILLED };
    assert!(held > Duration::ZERO && held <= longest, "held for {held:?}\n{}", answer.describe());
    detour.keep(answer);
    detour.status_tells_the_truth()
}

fn whoever_holds_clients_and_dies_leaves_them_served(detour: Detour) {
    let mut detour = detour.writing().mirrored();
    for signal in [Signal::KILL, Signal::STOP] {
        assert_eq!(signalled(&mut detour, "cutover", "after:fence source", signal), Serving::Source);
        detour = detour.phase("mirrored").application_goes_on();
    }
    assert_eq!(signalled(&mut detour, "cutover", "after:decide", Signal::STOP), Serving::Target);
    detour = detour.phase("detoured").application_goes_on().run("replay").exits(0);
    assert_eq!(signalled(&mut detour, "cutback", "after:write marker", Signal::STOP), Serving::Target);
    detour = detour.phase("detoured").application_goes_on();
    assert_eq!(signalled(&mut detour, "cutback", "after:decide", Signal::KILL), Serving::Source);
    detour.phase("returned").application_goes_on().run("clean").exits(0).no_row_lost();
}

#[test]
fn clients_of_pgbouncer_go_on_when_the_run_that_holds_them_is_killed_or_stopped() {
    whoever_holds_clients_and_dies_leaves_them_served(Detour::new().table("orders"));
}

#[test]
fn clients_of_haproxy_go_on_when_the_run_that_holds_them_is_killed_or_stopped() {
    whoever_holds_clients_and_dies_leaves_them_served(Detour::new().table("orders").behind_haproxy());
}

#[test]
fn a_guardian_lets_clients_go_on_although_the_target_is_away() {
    let mut detour = Detour::new().table("orders").through_proxies().writing().mirrored();
    let run = detour.start_until("cutover", &["--yes", "--max-pause", BUDGET], "after:fence source");
    assert!(run.is_there());
    detour.proxies().target.cut();
    let watch = Watch::begin(&detour);
    run.signal(Signal::KILL);
    let look = detour.look_for_hold();
    crate::support::wait::until("clients go on", KILLED, || (!look()).then_some(()));
    detour = detour.application_goes_on();
    // The record is put right as soon as it can be written.
    detour.proxies().target.mend();
    let answer = run.go_on();
    assert!(watch.end() <= KILLED, "{}", answer.describe());
    detour.keep(answer);
    assert_eq!(detour.status_tells_the_truth(), Serving::Source);
    detour.phase("mirrored").run("cutover").exits(0).application_goes_on().no_row_lost();
}

#[test]
fn a_guardian_shows_nothing_of_the_configuration_and_ends_with_its_run() {
    let detour = Detour::new().table("orders").mirrored();
    let run = detour.start_until("cutover", &["--yes"], "after:hold clients");
    assert!(run.is_there());
    let guardian = run.children();
    assert_eq!(guardian.len(), 1, "{guardian:?}");
    let (pid, arguments) = &guardian[0];
    assert_eq!(arguments.len(), 2, "{arguments:?}");
    assert_eq!(arguments[1], "guardian-of-a-hold");
    let pid = *pid;
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
