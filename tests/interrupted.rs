//! What a person at the terminal, or a signal, stops: every wait in which clients are held, and every question.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::detour::{Detour, Serving};
use crate::support::terminal::Typed;
use crate::support::wait::until;

/// Within it clients have to be where they were, though the pause may be much longer.
const PROMPTLY: Duration = Duration::from_secs(8);
/// The pause that is allowed.
const LONG: &str = "30s";

/// Signals `command` once it holds clients, who wait for a transaction that stays open: taken back, and at once.
fn is_taken_back(detour: &mut Detour, command: &str, signal: Signal, code: i32) {
    let run = detour.start(command, &["--yes", "--max-pause", LONG]);
    let is_held = detour.look_for_hold();
    until("clients are held", Duration::from_secs(60), || is_held().then_some(()));
    let signalled = Instant::now();
    run.signal(signal);
    let answer = run.end();
    let took = signalled.elapsed();
    assert_eq!(answer.code(), Some(code), "{}", answer.describe());
    assert_eq!(answer.text_at("/error/kind"), "interrupted");
    assert!(took < PROMPTLY, "it took {took:?}\n{}", answer.describe());
    assert!(!is_held(), "clients are still held");
    detour.keep(answer);
}

#[test]
fn a_signal_ends_a_hold_that_waits_for_a_transaction_in_the_pooler_or_past_it() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let begin = "begin; select 1 from public.orders limit 1";
    let mut waiting = detour.application_client();
    waiting.batch_execute(begin).expect("it may");
    is_taken_back(&mut detour, "cutover", Signal::INT, 130);
    waiting.batch_execute("commit").expect("nobody has ended it");
    let mut past_it = detour.source.client("shop_app");
    past_it.batch_execute(begin).expect("it may");
    is_taken_back(&mut detour, "cutover", Signal::TERM, 143);
    past_it.batch_execute("commit").expect("nobody has ended it");
    drop((waiting, past_it));
    let mut detour = detour
        .phase("mirrored")
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error()
        .run("cutover")
        .exits(0)
        .application_goes_on();
    let mut waiting = detour.application_client();
    waiting.batch_execute(begin).expect("it may");
    is_taken_back(&mut detour, "cutback", Signal::TERM, 143);
    waiting.batch_execute("commit").expect("nobody has ended it");
    drop(waiting);
    let detour = detour.phase("detoured").serving(Serving::Target).application_goes_on();
    detour.run("cutback").exits(0).serving(Serving::Source).no_client_error().no_row_lost();
}

#[test]
fn a_signal_ends_a_hold_that_waits_for_a_transaction_behind_haproxy() {
    let mut detour = Detour::new().table("orders").behind_haproxy().mirrored();
    let mut waiting = detour.application_client();
    waiting.batch_execute("begin; select 1 from public.orders limit 1").expect("it may");
    is_taken_back(&mut detour, "cutover", Signal::INT, 130);
    waiting.batch_execute("commit").expect("nobody has ended it");
    drop(waiting);
    detour.phase("mirrored").serving(Serving::Source).run("cutover").exits(0).serving(Serving::Target);
}

/// Types `answer` when `command` asks; its exit code.
fn answered(detour: &Detour, command: &str, question: &str, answer: &[u8]) -> Option<i32> {
    let mut typed = Typed::start(detour, command);
    typed.wait_for(question);
    typed.type_in(answer);
    typed.end()
}

#[test]
fn only_a_whole_yes_confirms() {
    let detour = Detour::new().table("orders").mirrored();
    let (cutover, clean) = ("Move general traffic to the target? [y/N]", "? [y/N]");
    for answer in ["not yet\n", "n\n", "\n", "yesterday\n", "\u{4}"] {
        assert_eq!(answered(&detour, "cutover", cutover, answer.as_bytes()), Some(2), "{answer:?}");
    }
    assert_eq!(answered(&detour, "clean --drop-data", clean, b"not yet\n"), Some(2));
    assert_eq!(answered(&detour, "cutover", cutover, b"\x03"), Some(130));
    let detour = detour.run("status").exits(0).phase("mirrored");
    assert_eq!(answered(&detour, "cutover", cutover, b"Yes\n"), Some(0));
    detour.run("status").exits(0).phase("detoured");
}

#[test]
fn a_switch_that_waits_for_a_person_stops_at_a_signal_and_at_the_end_of_the_input_and_status_says_who_serves()
{
    let mut detour = Detour::new().table("orders").without_router().mirrored();
    let asked = "Press Enter when that is done.";
    let mut typed = Typed::start(&detour, "cutover");
    typed.wait_for("Move general traffic to the target? [y/N]");
    typed.type_in(b"y\n");
    typed.wait_for(asked);
    detour = detour.run("status").with(&["--check"]).exits(0).reports("/serving", "target");
    typed.type_in(b"\x03");
    assert_eq!(typed.end(), Some(7), "{}", typed.shown());
    assert!(typed.shown().contains("interrupted by SIGINT"), "{}", typed.shown());
    detour =
        detour.run("status").with(&["--check"]).exits(3).phase("cutting_over").reports("/serving", "target");
    let finding = detour.last().at("/report/attention/0").to_string();
    assert!(finding.contains("it is decided, and the target lets clients in"), "{finding}");
    assert!(finding.contains("Point the clients to the target"), "{finding}");
    assert_eq!(detour.who_really_serves(), Serving::Target);
    // Closed by Ctrl-D, then done.
    for (keys, code) in [(b"\x04", 7), (b"\n", 0)] {
        let mut typed = Typed::start(&detour, "cutover");
        typed.wait_for(asked);
        typed.type_in(keys);
        assert_eq!(typed.end(), Some(code), "{}", typed.shown());
    }
    detour.run("status").with(&["--check"]).exits(0).phase("detoured").reports("/serving", "target");
}
