//! One document on stdout in every case: done, refused, unreachable, misused.

use crate::support::detour::Detour;

#[test]
fn every_command_answers_with_one_document_in_every_phase() {
    let mut detour = Detour::new().table("orders");
    let commands = [
        "check", "mirror", "restrict", "capture", "cutover", "replay", "cutback", "verify", "status", "clean",
    ];
    // The answer itself is held against the contract wherever it is read.
    for stop in ["absent", "mirror", "cutover", "cutback"] {
        if stop != "absent" {
            detour = detour.run(stop).exits(0);
        }
        for command in commands {
            let code = detour.ask(command, &["--dry-run"]).code();
            assert!(matches!(code, Some(0 | 3)), "{}", detour.last().describe());
        }
    }
}

#[test]
fn mistakes_in_the_call_are_documents_too() {
    let mut detour = Detour::new();
    let wrong_option = detour.ask("status", &["--no-such-option"]);
    assert_eq!(wrong_option.code(), Some(2));
    assert_eq!(wrong_option.text_at("/error/kind"), "usage");

    detour = detour.configured("[mirrror]\njobs = 1");
    let unknown_key = detour.ask("status", &[]);
    assert_eq!(unknown_key.code(), Some(2));
    assert_eq!(unknown_key.text_at("/error/kind"), "configuration");
    assert!(unknown_key.text_at("/error/message").contains("mirrror"), "{}", unknown_key.describe());
    assert!(unknown_key.text_at("/error/hint").contains("mirror"), "{}", unknown_key.describe());
}

#[test]
fn what_moves_traffic_or_drops_data_wants_a_confirmation() {
    let detour = Detour::new().table("orders").mirrored();
    let before = detour.fingerprint();
    detour
        .run("cutover")
        .unconfirmed()
        .exits(2)
        .kind("usage")
        .hint("--yes")
        .run("clean")
        .unconfirmed()
        .exits(2)
        .kind("usage")
        .hint("--yes")
        .unchanged_since(&before);
}

#[test]
fn status_answers_with_either_side_down() {
    use crate::support::postgres::Shutdown;
    let mut detour = Detour::new().table("orders").mirrored();
    detour.target.stop(Shutdown::Immediate);
    detour = detour.run("status").exits(0).reports("/serving", "source");
    detour.target.start();
    detour = detour.run("cutover").exits(0);
    detour.source.stop(Shutdown::Immediate);
    detour = detour.run("status").exits(0).reports("/serving", "target").reports("/phase", "detoured");
    detour.source.start();
    detour.run("replay").exits(0);
}
