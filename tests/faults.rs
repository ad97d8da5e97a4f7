//! Each command killed before and after each of its steps: `status` tells the truth, and the trip goes on.

use crate::support::detour::{Detour, Serving};
use crate::support::extent;
use crate::support::postgres::Shutdown;

const RESTRICTED: &str =
    "[[restrict]]\ntables = [\"public.users\"]\nroles = [\"shop_limited\"]\nmessage = \"Read-only for now.\"";

fn shop() -> Detour {
    Detour::new().table("orders").table("users").configured(RESTRICTED).writing()
}

/// Kills `command` before its first step and after each, in one journey. Between a step and the next nothing happens, so
/// that each of these is the moment before the next one, too.
fn killed_at_every_step(detour: Detour, command: &str) -> Detour {
    killed_after(detour, command, |_| true)
}

/// The same, but only after those steps.
fn killed_after(mut detour: Detour, command: &str, is_meant: impl Fn(&str) -> bool) -> Detour {
    let plan = detour.ask(command, &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let steps = plan.at("/report/steps").as_array().expect("a list of steps");
    let names: Vec<String> =
        steps.iter().map(|step| step["name"].as_str().expect("a step has a name").to_owned()).collect();
    assert!(!names.is_empty(), "{command} has no steps");

    let first = is_meant(&names[0]).then(|| format!("before:{}", names[0])).into_iter();
    let meant: Vec<String> = names.iter().filter(|name| is_meant(name)).cloned().collect();
    assert!(!meant.is_empty(), "{command} has none of these steps: {names:?}");
    for fault in first.chain(meant.iter().map(|name| format!("after:{name}"))) {
        detour = detour.run(command).fault(&fault).dies();
        detour.status_tells_the_truth();
    }
    detour.run(command).exits(0)
}

/// From wherever the detour is after `command`: the rest of the trip, then the count of the rows.
fn the_rest_of_the_trip(mut detour: Detour, command: &str) {
    let trip = ["mirror", "restrict", "capture", "cutover", "replay", "cutback", "clean"];
    let done = trip.iter().position(|name| *name == command).expect("a command of the trip") + 1;
    for name in &trip[done..] {
        detour = detour.run(name).exits(0);
        if *name == "replay" {
            detour = detour.at_rest(|detour| {
                detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true)
            });
        }
    }
    detour.application_goes_on().no_client_error().no_row_lost();
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

/// The steps of the trip that do something else with triggers than with WAL.
const OF_TRIGGERS: [&str; 8] = [
    "create triggers",
    "arm capture",
    "drain to the marker",
    "decide",
    "begin the replay",
    "apply captured changes",
    "drop capture",
    "drop the record on the target",
];

#[test]
fn a_trip_recorded_by_triggers_is_killed_at_every_step_and_goes_on() {
    let mut detour = Detour::new()
        .table("orders")
        .table("users")
        .configured(RESTRICTED)
        .configured("[mirror]\nmethod = \"trigger\"\n[capture]\nmethod = \"trigger\"")
        .writing();
    for command in ["mirror", "capture", "cutover", "replay", "cutback", "clean"] {
        if command == "replay" {
            detour = detour.application_goes_on();
        }
        let all = extent::pick(false, true);
        detour = killed_after(detour, command, |step| all || OF_TRIGGERS.contains(&step));
    }
    let left = "select count(*) from pg_trigger where tgname like '%pgdetour%'";
    for server in [&detour.source, &detour.target] {
        assert_eq!(server.value::<i64>(left), 0, "a trigger is left");
    }
    detour.serving(Serving::Source).application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn clean_after_a_mirror_that_died_takes_everything_away() {
    let mut detour = shop();
    let plan = detour.ask("mirror", &["--dry-run"]);
    assert_eq!(plan.at("/warnings").to_string(), "[]", "of what is not there yet");
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

/// The servers answer a COMMIT before it is on disk: what pgdetour lets go of on one side is on the disk of the other by then.
#[test]
fn nothing_is_let_go_that_a_server_could_still_forget() {
    let mut detour = Detour::new().table("orders");
    for server in [&detour.source, &detour.target] {
        server.exec("alter system set synchronous_commit = off");
        server.exec("alter system set wal_writer_delay = '10s'");
        server.exec("select pg_reload_conf()");
    }
    detour = detour.detoured().reports("/late_writes", 0);
    assert!(
        !detour.answer_of("cutover").at("/warnings").to_string().contains("committed on the source after")
    );
    for note in ["first", "second", "third"] {
        detour = detour
            .application(&format!("insert into public.orders (note) values ('{note}')"))
            .run("replay")
            .exits(0);
        detour.source.restart(Shutdown::Immediate);
        let arrived = format!("select count(*) from public.orders where note = '{note}'");
        assert_eq!(detour.source.value::<i64>(&arrived), 1, "{note}");
    }
    detour = detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true);
    detour.run("cutback").exits(0).reports("/late_writes", 0).serving(Serving::Source);
}
