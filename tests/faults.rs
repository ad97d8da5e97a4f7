//! Each command killed before and after each of its steps: `status` tells the truth, and the trip goes on.

use crate::support::detour::{Detour, Serving};

const RESTRICTED: &str =
    "[[restrict]]\ntables = [\"public.users\"]\nroles = [\"shop_limited\"]\nmessage = \"Read-only for now.\"";

fn shop() -> Detour {
    Detour::new().table("orders").table("users").configured(RESTRICTED).writing()
}

/// Kills `command` once before and once after each of its steps, in one journey.
fn killed_at_every_step(mut detour: Detour, command: &str) -> Detour {
    let plan = detour.ask(command, &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let steps = plan.at("/report/steps").as_array().expect("a list of steps");
    let names: Vec<String> =
        steps.iter().map(|step| step["name"].as_str().expect("a step has a name").to_owned()).collect();
    assert!(!names.is_empty(), "{command} has no steps");

    let mut missed = Vec::new();
    for name in &names {
        for moment in ["before", "after"] {
            let fault = format!("{moment}:{name}");
            detour = detour.run(command).fault(&fault).ends();
            if detour.last().was_killed() {
                detour.status_tells_the_truth();
            } else {
                assert_eq!(detour.last().code(), Some(0), "{}", detour.last().describe());
                missed.push(fault);
            }
        }
    }
    // A run that goes on where the last one died may have no more to do in a step; but no step may be missed both times.
    for name in &names {
        let both = ["before", "after"].map(|moment| format!("{moment}:{name}"));
        assert!(!both.iter().all(|fault| missed.contains(fault)), "{command} was never killed at {name:?}");
    }
    detour.run(command).exits(0)
}

/// From wherever the detour is after `command`: the rest of the trip, then the count of the rows.
fn the_rest_of_the_trip(mut detour: Detour, command: &str) {
    let trip = ["mirror", "restrict", "capture", "cutover", "replay", "cutback"];
    let done = trip.iter().position(|name| *name == command).map_or(trip.len(), |at| at + 1);
    for name in &trip[done..] {
        detour = detour.run(name).exits(0);
    }
    detour = detour.application_goes_on().no_client_error();
    if command == "clean" {
        detour.no_row_lost();
    } else {
        detour.run("verify").exits(0).reports("/equal", true).run("clean").exits(0).no_row_lost();
    }
}

#[test]
fn mirror_killed_at_every_step_goes_on() {
    let detour = killed_at_every_step(shop(), "mirror").phase("mirrored").serving(Serving::Source);
    the_rest_of_the_trip(detour, "mirror");
}

#[test]
fn restrict_killed_at_every_step_goes_on() {
    let detour = killed_at_every_step(shop().mirrored(), "restrict").serving(Serving::Source);
    the_rest_of_the_trip(detour, "restrict");
}

#[test]
fn capture_killed_at_every_step_goes_on() {
    let detour = killed_at_every_step(shop().mirrored(), "capture").serving(Serving::Source);
    the_rest_of_the_trip(detour, "capture");
}

#[test]
fn cutover_killed_at_every_step_goes_on() {
    let detour =
        killed_at_every_step(shop().mirrored(), "cutover").phase("detoured").serving(Serving::Target);
    the_rest_of_the_trip(detour, "cutover");
}

#[test]
fn replay_killed_at_every_step_goes_on() {
    let detour = shop().detoured().application_goes_on();
    let detour = killed_at_every_step(detour, "replay").phase("detoured").serving(Serving::Target);
    the_rest_of_the_trip(detour, "replay");
}

#[test]
fn cutback_killed_at_every_step_goes_on() {
    let detour = shop().detoured().application_goes_on().run("replay").exits(0);
    let detour = killed_at_every_step(detour, "cutback").phase("returned").serving(Serving::Source);
    the_rest_of_the_trip(detour, "cutback");
}

#[test]
fn clean_killed_at_every_step_goes_on() {
    let detour = shop().returned();
    let detour = killed_at_every_step(detour, "clean").phase("absent").serving(Serving::Source);
    the_rest_of_the_trip(detour, "clean");
}

#[test]
fn clean_after_a_mirror_that_died_takes_everything_away() {
    let mut detour = shop();
    let plan = detour.ask("mirror", &["--dry-run"]);
    let steps = plan.at("/report/steps").as_array().expect("a list of steps").clone();
    let middle = steps[steps.len() / 2]["name"].as_str().expect("a step has a name").to_owned();
    detour
        .run("mirror")
        .fault(&format!("after:{middle}"))
        .dies()
        .run("clean")
        .exits(0)
        .phase("absent")
        .serving(Serving::Source)
        .mirrored()
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .no_client_error()
        .no_row_lost();
}
