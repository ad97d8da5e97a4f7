//! A mirror that no subscription carries: followed in the foreground, caught up now and then, or copied once.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::detour::{Detour, Serving};
use crate::support::extent::pick;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);
const CARRIED_BY_US: &str = "[mirror]\ncarrier = \"pgdetour\"";

fn subscriptions(detour: &Detour) -> i64 {
    detour.target.value("select count(*) from pg_subscription")
}

/// A change of the source arrives on the target with no command being run.
fn until_a_change_arrives(detour: &Detour, note: &str) {
    detour.source.exec(&format!("insert into public.orders (note) values ('{note}')"));
    until("the change arrives", LIMIT, || {
        let arrived: i64 =
            detour.target.value(&format!("select count(*) from public.orders where note = '{note}'"));
        (arrived == 1).then_some(())
    });
}

fn until_mirrored(detour: &Detour) {
    until("the mirror is followed", LIMIT, || {
        let exists: bool = detour.target.value("select to_regclass('pgdetour.event') is not null");
        let follows = exists
            && detour
                .target
                .value::<i64>("select count(*) from pgdetour.event where message = 'follows the source'")
                > 0;
        follows.then_some(())
    });
}

#[test]
fn a_mirror_is_followed_until_a_signal_and_cutover_takes_over_from_a_run_that_follows() {
    let detour = Detour::new().table("orders").writing();
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    until_a_change_arrives(&detour, "followed");
    assert_eq!(subscriptions(&detour), 0);
    // Other commands run beside it, but no second one follows.
    let detour = detour
        .run("mirror")
        .exits(4)
        .run("restrict")
        .exits(0)
        .run("capture")
        .exits(0)
        .run("status")
        .exits(0)
        .reports("/mirror/carried_by", "pgdetour")
        .reports("/mirror/running", true);
    follower.signal(Signal::TERM);
    let detour = detour.ended(follower, 0).changed(true).phase("mirrored").reports("/carrier", "pgdetour");

    let follower = detour.start("mirror", &["--follow"]);
    until_a_change_arrives(&detour, "followed again");
    let detour = detour
        .run("cutover")
        .exits(0)
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .ended(follower, 0)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .run("cutback")
        .exits(0)
        .run("clean")
        .exits(0);
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn mirror_run_again_catches_up_and_cutover_drains_what_is_left() {
    let detour = Detour::new().table("orders").configured(CARRIED_BY_US).writing().mirrored();
    assert_eq!(subscriptions(&detour), 0);
    let detour = detour
        .application_goes_on()
        .run("mirror")
        .exits(0)
        .changed(true)
        .reports("/carrier", "pgdetour")
        .at_rest(|detour| {
            detour
                .run("mirror")
                .exits(0)
                .run("mirror")
                .exits(0)
                .changed(false)
                .run("verify")
                .exits(0)
                .reports("/equal", true)
        })
        .application_goes_on()
        .run("cutover")
        .exits(0)
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .serving(Serving::Source);
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn cutover_of_a_mirror_that_we_carry_killed_at_every_step_goes_on() {
    let mut detour = Detour::new().table("orders").configured(CARRIED_BY_US).writing().mirrored();
    let plan = detour.ask("cutover", &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let steps = plan.at("/report/steps").as_array().expect("a list of steps");
    let names: Vec<String> =
        steps.iter().map(|step| step["name"].as_str().expect("a step has a name").to_owned()).collect();
    // The steps at which it is another flow than a subscription; the others are killed with one, too.
    let ours = [
        "take the mirror flow over",
        "wait until the lag is small",
        "hold clients",
        "drain to the marker",
        "drop the mirror flow",
    ];
    assert!(ours.iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
    let names = pick(ours.map(str::to_owned).to_vec(), names);
    for name in names {
        detour = detour.run("cutover").fault(&format!("after:{name}")).dies();
        detour.status_tells_the_truth();
    }
    detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

#[test]
fn a_batch_mirror_is_one_copy_and_cutover_loses_nothing_that_was_written_after_it() {
    let detour = Detour::new().table("orders").configured("[mirror]\nmode = \"batch\"").writing();
    let detour = detour.run("mirror").with(&["--follow"]).exits(2).mirrored().reports("/mode", "batch");
    assert_eq!(subscriptions(&detour), 0);
    detour.source.exec("insert into public.orders (note) values ('after the copy')");
    let detour = detour
        .application_goes_on()
        .run("cutover")
        .exits(0)
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on();
    let count: i64 = detour.target.value("select count(*) from public.orders where note = 'after the copy'");
    assert_eq!(count, 1);
    detour.no_client_error().no_row_lost();
}

#[test]
fn a_target_that_cannot_reach_the_source_is_mirrored_without_a_subscription() {
    let detour = Detour::new().table("orders");
    let unreachable = "host=127.0.0.1 port=1 dbname=shop user=nobody connect_timeout=2";
    let detour = detour.target_reaches_source_by(unreachable).run("mirror").exits(0).phase("mirrored");
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("cannot subscribe") && warnings.contains("mirror --follow"), "{warnings}");
    let detour = detour.reports("/carrier", "pgdetour");
    assert_eq!(subscriptions(&detour), 0);
    detour.source.exec("insert into public.orders (note) values ('later')");
    let detour = detour.run("mirror").exits(0).changed(true);
    let count: i64 = detour.target.value("select count(*) from public.orders where note = 'later'");
    assert_eq!(count, 1);
    // Where a subscription is asked for by name, it is that or nothing.
    detour
        .configured("[mirror]\ncarrier = \"subscription\"")
        .run("mirror")
        .exits(1)
        .message("subscription \"pgdetour_mirror\"")
        .phase("mirrored");
}

#[test]
fn stop_ends_whatever_carries_the_mirror_and_mirror_goes_on_from_there() {
    let detour = Detour::new().table("orders").run("mirror").with(&["--stop"]).exits(3).kind("no_mirror");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    let detour = detour
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .reports("/stopped", "flow")
        .ended(follower, 0)
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .changed(false)
        .run("clean")
        .exits(0);

    let detour =
        detour.mirrored().run("mirror").with(&["--stop"]).exits(0).reports("/stopped", "subscription");
    detour.source.exec("insert into public.orders (note) values ('while stopped')");
    let enabled: bool = detour.target.value("select subenabled from pg_subscription");
    assert!(!enabled);
    let detour = detour
        .run("cutover")
        .exits(3)
        .finding("pgdetour_mirror", "disabled", "pgdetour mirror")
        .run("mirror")
        .exits(0)
        .changed(true);
    until_a_change_arrives(&detour, "going on");
    let count: i64 = detour.target.value("select count(*) from public.orders where note = 'while stopped'");
    assert_eq!(count, 1);
}

#[test]
fn a_run_that_follows_survives_the_loss_of_either_server() {
    let mut detour = Detour::new().table("orders");
    let follower = detour.start("mirror", &["--follow"]);
    until_mirrored(&detour);
    detour.source.restart(crate::support::postgres::Shutdown::Immediate);
    until_a_change_arrives(&detour, "after the source came back");
    detour.target.restart(crate::support::postgres::Shutdown::Immediate);
    until_a_change_arrives(&detour, "after the target came back");
    follower.signal(Signal::INT);
    detour.ended(follower, 0).phase("mirrored").run("mirror").exits(0);
}
