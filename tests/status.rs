//! What `status` tells people and monitoring, and that it is so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::binary;
use crate::support::detour::{Detour, Serving};
use crate::support::postgres::Shutdown;
use crate::support::terminal;
use crate::support::wait::until;

/// Runs `status --check`; it must end with this code, and a code other than 0 for this reason among others.
fn check(detour: Detour, code: i32, reason: &str) -> Detour {
    let kind = if code == 8 { "broken" } else { "attention" };
    let detour = detour.run("status").with(&["--check"]).exits(code);
    let answer = detour.last();
    let level = match code {
        0 => "well",
        3 => "attention",
        _ => "broken",
    };
    assert_eq!(answer.text_at("/report/health"), level, "{}", answer.describe());
    if code == 0 {
        return detour;
    }
    let failures = answer.at("/error/failures").as_array().expect("a list");
    assert!(failures.iter().any(|failure| failure["check"] == reason), "{}", answer.describe());
    detour.kind(kind)
}

#[test]
fn monitoring_hears_what_is_well_what_needs_attention_and_what_is_broken() {
    let mut detour = check(Detour::new().table("orders"), 0, "");
    detour.target.stop(Shutdown::Immediate);
    detour = check(detour, 3, "unreachable").phase("absent");
    let hint = detour.last().text_at("/report/attention/0/hint").to_owned();
    assert!(hint.starts_with("No detour is under way"), "{hint}");
    detour.target.start();
    detour = check(detour, 0, "").mirrored();
    detour = check(detour, 0, "");

    detour = detour.on_target("alter subscription pgdetour_mirror disable");
    detour = check(detour, 3, "mirror").on_target("alter subscription pgdetour_mirror enable");
    let worker = "select pid is not null from pg_stat_subscription where subname = 'pgdetour_mirror'";
    until("the mirror runs", Duration::from_secs(30), || detour.target.value::<bool>(worker).then_some(()));

    detour.pooler().console("pause shop");
    detour = check(detour, 8, "router_held").reports("/serving", "nobody");
    detour.pooler().console("resume shop");
    detour = check(detour, 0, "");

    // Clients that are connected stay; others get none of the server.
    detour.pooler().console("disable shop");
    detour = check(detour, 8, "router_disabled").reports("/router/0/disabled", true);
    detour = detour.reports("/router/0/right", false);
    detour.pooler().console("enable shop");
    detour = check(detour, 0, "");

    // Clients come to where its console is.
    detour.pooler().kill();
    detour =
        check(detour, 8, "router_down").reports("/router/0/down", true).reports("/router/0/right", false);
    detour.pooler().start();
    detour = check(detour, 0, "");

    // An entry that a reload would follow elsewhere.
    let file = detour.pooler().databases_file();
    let entry = std::fs::read_to_string(&file).expect("the file can be read");
    std::fs::write(&file, entry.replace("port=", "port=1")).expect("the file can be written");
    detour = check(detour, 3, "router_drift").reports("/router/0/right", false);
    std::fs::write(&file, &entry).expect("the file can be written");
    detour = check(detour, 0, "");

    // One that was reloaded with another entry, which has been put back since: where clients are now is what counts.
    let elsewhere = entry.replace(&detour.source.port().to_string(), &detour.target.port().to_string());
    std::fs::write(&file, elsewhere).expect("the file can be written");
    detour.pooler().console("reload");
    std::fs::write(&file, &entry).expect("the file can be written");
    detour = check(detour, 8, "router_side");
    detour.pooler().console("reload");

    detour.target.stop(Shutdown::Immediate);
    detour =
        check(detour, 3, "unreachable").reports("/phase", "mirrored").reports("/servers/1/reachable", false);
    let hint = detour.last().text_at("/report/attention/0/hint").to_owned();
    assert!(hint.contains("keeps all its WAL for the mirror"), "{hint}");
    detour.source.stop(Shutdown::Immediate);
    detour = check(detour, 8, "unreachable");
    // For people, nothing can be told then.
    detour = detour.run("status").exits(5).kind("unreachable");
    detour.source.start();
    detour.target.start();
    until("the mirror runs", Duration::from_secs(30), || detour.target.value::<bool>(worker).then_some(()));

    detour = detour.run("cutover").fault("after:hold clients").dies();
    detour = check(detour, 8, "unfinished");
    detour = check(detour.run("cutover").exits(0), 0, "").reports("/router/0/should", "target");

    // Somebody who goes past the pooler, where the fence has been opened by hand.
    detour = detour.on_source("grant connect on database shop to shop_app");
    let lost = detour.source.client("shop_app");
    detour = check(detour, 3, "wrong_side").reports("/wrong_side/0/role", "shop_app");
    drop(lost);
    detour = check(detour, 3, "fence").on_source("revoke connect on database shop from shop_app");
    until("the session is gone", Duration::from_secs(30), || {
        let sessions = "select count(*) from pg_stat_activity where usename = 'shop_app'";
        (detour.source.value::<i64>(sessions) == 0).then_some(())
    });
    detour = check(detour, 0, "");

    // Somebody who keeps the application out of where it is served; the hint is what lets it in.
    detour.target.exec("revoke connect on database shop from public, shop_app");
    detour = check(detour, 8, "fence");
    let findings = detour.last().at("/error/failures").as_array().expect("a list").clone();
    let fence = findings.iter().find(|finding| finding["check"] == "fence").expect("it was found");
    let hint = fence["hint"].as_str().and_then(|hint| hint.strip_prefix("Run ")).expect("it begins so");
    detour.target.exec(hint.strip_suffix(" there.").expect("it ends so"));
    detour = check(detour, 0, "");

    // Down for maintenance: the target serves on.
    detour.source.stop(Shutdown::Fast);
    detour = check(detour, 3, "unreachable").reports("/serving", "target");
    detour.source.start();

    detour = detour.on_target("select pg_drop_replication_slot('pgdetour_capture')");
    check(detour, 8, "capture");
}

/// Space for recorded changes runs out: said before it does, and at once when it did, with what can still be done.
#[test]
fn recorded_changes_that_take_too_much_are_told_and_lost_ones_at_once() {
    let mut detour = Detour::new().table("orders").writing().detoured();
    detour = check(detour, 0, "");
    detour = detour.configured("[capture]\nwarn_retained = \"1kB\"");
    detour = detour.on_target("insert into public.orders (note) select 'note' from generate_series(1, 100)");
    detour = check(detour, 3, "capture");
    let capture = |detour: &Detour, key: &str| detour.last().at(&format!("/report/capture/{key}")).clone();
    assert!(capture(&detour, "retained_bytes").as_i64() > Some(1000), "{}", detour.last().describe());
    assert!(capture(&detour, "growth_bytes").as_i64() > Some(0), "{}", detour.last().describe());
    // So much is left of a limit, and for so long at the rate of late.
    detour = detour.reconfigured("warn_retained = \"1kB\"", "warn_before = \"90d\"");
    detour = detour.on_target("alter system set max_slot_wal_keep_size = '1GB'");
    detour = detour.on_target("select pg_reload_conf()");
    until("the limit is there", Duration::from_secs(30), || {
        (detour.target.value::<String>("show max_slot_wal_keep_size") == "1GB").then_some(())
    });
    detour = check(detour, 3, "capture");
    assert!(capture(&detour, "safe_bytes").as_i64() < Some(2 << 30), "{}", detour.last().describe());
    assert!(capture(&detour, "left_seconds").as_f64() > Some(0.0), "{}", detour.last().describe());

    detour = detour.on_target("alter system set max_slot_wal_keep_size = '1MB'");
    detour = detour.on_target("select pg_reload_conf()");
    until("the server has removed WAL that was needed", Duration::from_secs(60), || {
        detour.target.exec("create table if not exists public.filler (); drop table public.filler");
        detour.target.exec("select pg_switch_wal()");
        detour.target.exec("checkpoint");
        let lost =
            "select wal_status = 'lost' from pg_replication_slots where slot_name = 'pgdetour_capture'";
        detour.target.value::<bool>(lost).then_some(())
    });
    detour = check(detour, 8, "capture").reports("/capture/lost", true);
    assert!(
        capture(&detour, "safe_bytes").is_null() && capture(&detour, "alarm").is_null(),
        "{}",
        detour.last().describe()
    );
    detour = detour.run("capture").with(&["--anew", "--dry-run"]).exits(0).changed(false);
    assert!(
        detour.last().describe().contains("pg_create_logical_replication_slot"),
        "{}",
        detour.last().describe()
    );
    for command in ["replay", "cutback"] {
        detour = detour.run(command).exits(3).kind("checks_failed").finding(
            "pgdetour_capture",
            "has lost WAL that was not applied yet",
            "pgdetour clean --stay",
        );
    }
    let detour = detour.run("verify").exits(8).kind("differs");
    assert!(detour.last().text_at("/error/hint").contains("capture --anew"), "{}", detour.last().describe());
    detour.run("clean").with(&["--stay"]).exits(0).phase("absent").application_goes_on().no_row_lost();
}

/// What the next replay would refuse, or has stopped at, is known before somebody runs it.
#[test]
fn a_flow_that_stands_still_is_told_and_a_source_that_went_back_in_time_at_once() {
    let detour = Detour::new()
        .on_source("create table public.t (id int primary key, v text); grant all on public.t to shop_app")
        .detoured()
        .on_source("insert into public.t values (1, 'mine')")
        .application("insert into public.t values (1, 'theirs')");
    let detour = check(detour, 0, "").run("replay").exits(8);
    let detour = check(detour, 3, "replay_stopped");
    let said = detour.last().at("/error/failures").to_string();
    assert!(said.contains("meets a row that exists on source") && said.contains("key (id)=(1)"), "{said}");
    assert!(said.contains("run pgdetour replay again"), "{said}");
    let detour = check(detour, 3, "replay_stopped").on_source("delete from public.t").run("replay").exits(0);
    let detour = check(detour, 0, "").on_source("update pgdetour.progress set lsn = '0/1'");
    let detour = check(detour, 8, "progress_behind").run("replay").exits(8).kind("progress_behind");
    let detour = check(detour, 8, "progress_behind").on_source("delete from pgdetour.progress");
    let detour = check(detour, 8, "progress_missing").on_source("drop schema pgdetour cascade");
    check(detour, 8, "stamp_missing").run("replay").exits(3).kind("stamp_missing");
}

/// A statement that fails for another reason than the change's data would fail again.
#[test]
fn a_flow_that_a_statement_stops_is_told_and_what_the_mapping_lacks_is_counted() {
    let columns: Vec<String> = (1..=12).map(|at| format!("c{at} int")).collect();
    let dropped: Vec<String> = (1..=12).map(|at| format!("drop c{at}")).collect();
    let detour = Detour::new()
        .on_source(&format!(
            "create table public.t (id int primary key, {}); grant all on public.t to shop_app;
             create function public.refuse() returns trigger language plpgsql as
                 $$ begin raise 'not now' using errcode = 'object_not_in_prerequisite_state'; end $$",
            columns.join(", ")
        ))
        .detoured()
        .on_source(
            "create trigger refuse before insert on public.t for each row execute function public.refuse();
             alter table public.t enable always trigger refuse",
        )
        .application("insert into public.t values (1)")
        .run("replay")
        .exits(3)
        .kind("statement_failed");
    let detour = check(detour, 3, "replay_stopped");
    let said = detour.last().at("/error/failures").to_string();
    assert!(said.contains("not now"), "{said}");
    let detour = detour.on_source("drop trigger refuse on public.t").run("replay").exits(0);
    let detour = check(detour, 0, "").on_source(&format!("alter table public.t {}", dropped.join(", ")));
    let detour = check(detour, 3, "mapping");
    let told = detour.last().at("/report/attention").as_array().expect("a list").clone();
    assert_eq!(told.len(), 11, "{told:?}");
    assert!(told[10]["message"].as_str().expect("a text").starts_with("2 more like these"), "{told:?}");
}

/// Whoever opened the side that is shut would have the application write there.
#[test]
fn a_router_that_went_astray_is_called_back_and_the_side_that_is_shut_stays_shut() {
    let mut detour = Detour::new().table("orders");
    let file = detour.pooler().databases_file();
    let read = || std::fs::read(&file).expect("the file can be read");
    let home = read();
    detour = detour.detoured().run("replay").exits(0);
    let away = read();
    for (command, astray, side) in [("cutover", &home, Serving::Target), ("cutback", &away, Serving::Source)]
    {
        if command == "cutback" {
            detour = detour.run("cutback").exits(0);
        }
        std::fs::write(&file, astray).expect("the file can be written");
        detour.pooler().console("reload");
        detour = check(detour, 8, "router_side");
        let told = detour.last().at("/report/attention").to_string();
        assert!(told.contains(&format!("Run pgdetour {command} again at once")), "{told}");
        assert!(!told.contains("GRANT") && !told.contains("\"fence\""), "{told}");
        detour = check(detour.run(command).exits(0).changed(true).serving(side), 0, "");
    }
    // An entry that leads to neither side serves nobody, whatever its file says of it.
    let nowhere = String::from_utf8(home.clone()).expect("it is text").replace("dbname=shop", "dbname=blog");
    std::fs::write(&file, nowhere).expect("the file can be written");
    detour.pooler().console("reload");
    detour = check(detour, 8, "router_drift");
    std::fs::write(&file, &home).expect("the file can be written");
    check(detour, 8, "router_drift");
}

/// As after a restore, or by somebody's hand.
#[test]
fn a_source_that_is_open_to_the_application_is_told_and_closed_again() {
    let acl = "select coalesce(datacl, acldefault('d', datdba))::text from pg_database where datname = current_database()";
    let detour = Detour::new().table("orders").writing();
    let before: String = detour.source.value(acl);
    let mut detour = check(detour.detoured(), 0, "");
    detour.source.exec("grant connect on database shop to public");
    let stray = detour.source.client("shop_app");
    detour = check(detour, 3, "fence");
    let hint = "Run pgdetour cutover again";
    assert!(detour.last().describe().contains(hint), "{}", detour.last().describe());
    detour = detour.run("replay").exits(0);
    assert!(detour.last().at("/warnings").to_string().contains(hint), "{}", detour.last().describe());
    detour = detour.run("cutover").exits(0).changed(true);
    assert!(
        detour.last().at("/warnings").to_string().contains("pgdetour verify"),
        "{}",
        detour.last().describe()
    );
    detour = detour.serving(Serving::Target).application_goes_on();
    drop(stray);
    detour = check(detour, 0, "").run("cutover").exits(0).changed(false);
    detour = detour.run("cutback").exits(0).serving(Serving::Source).application_goes_on();
    assert_eq!(detour.source.value::<String>(acl), before);
    detour.no_client_error().no_row_lost();
}

/// What it has taken away is missed by nobody, and nothing says that all is well while the rest is there.
#[test]
fn a_clean_that_stopped_part_way_is_told_as_that_until_another_ends_it() {
    let cleans = |mut detour: Detour, steps: &[&str]| {
        for step in steps {
            detour = detour.run("clean").fault(&format!("after:{step}")).dies();
            detour = check(detour, 3, "unfinished").reports("/next", serde_json::json!(["clean"]));
            let hint = detour.last().text_at("/report/attention/0/hint").to_owned();
            assert!(hint.starts_with("Run pgdetour clean again"), "{hint}");
            let told = detour.last().at("/report/attention").as_array().map(Vec::len);
            assert_eq!(told, Some(1), "{}", detour.last().describe());
        }
        let detour = detour.run("clean").exits(0).phase("absent");
        check(detour, 0, "")
    };
    let steps =
        ["drop the mirror flow", "lower the fences", "drop the copies", "drop the record on the source"];
    let detour = cleans(Detour::new().table("orders").fenced_read_only().mirrored(), &steps);
    // A mirror that is begun in its place is no clean any more.
    let detour = detour.run("mirror").fault("after:copy tables").dies();
    let detour = detour.run("clean").fault("after:drop the mirror flow").dies().run("mirror").exits(0);
    let detour = check(detour, 0, "").run("cutover").exits(0).run("cutback").exits(0);
    cleans(check(detour, 0, ""), &["drop the mirror flow", "drop the record on the source"]);
}

#[test]
fn a_recording_by_triggers_that_is_gone_is_told() {
    let detour = Detour::new().table("orders").configured("[capture]\nmethod = \"trigger\"").mirrored();
    // A clean that has removed nothing has not begun.
    let mut blocker = detour.target.client("dba");
    blocker.batch_execute("begin; lock table pg_subscription in share mode").expect("nobody else holds it");
    let detour = check(detour.run("clean").exits(7).phase("mirrored"), 0, "");
    drop(blocker);
    // As one leaves it that was killed before it could; cutover goes on, and that one is over.
    let killed = "update pgdetour.detour set facts = facts || '{\"cleaning\": true}'";
    let detour = check(detour.on_target(killed), 3, "unfinished").run("cutover").exits(0);
    let is_over = "select (facts ->> 'cleaning')::boolean from pgdetour.detour";
    assert!(!detour.target.value::<bool>(is_over), "cutover has ended it");
    // As long as the recording is there, nobody is told to throw it away, and all is said of it.
    let detour = check(detour.on_target(killed), 0, "");
    assert_eq!(detour.last().text_at("/report/next/0"), "replay");
    let detour = detour.run("clean").with(&["--stay"]).fault("after:drop capture").dies();
    // As it looks where nobody has begun to clean.
    let detour =
        check(detour, 3, "unfinished").on_target("update pgdetour.detour set facts = facts - 'cleaning'");
    check(detour, 8, "capture").run("clean").with(&["--stay"]).exits(0);
}

#[test]
fn a_recording_by_triggers_that_went_back_in_time_is_told() {
    let detour = Detour::new()
        .table("orders")
        .configured("[capture]\nmethod = \"trigger\"")
        .detoured()
        .application("insert into public.orders (note) values ('one')")
        .application("insert into public.orders (note) values ('two')")
        .run("replay")
        .exits(0)
        .on_target("select setval(pg_get_serial_sequence('pgdetour.change_order', 'position'), 1)");
    check(detour, 8, "progress_ahead").run("replay").exits(8).kind("progress_ahead");
}

#[test]
fn what_the_source_keeps_for_a_mirror_is_told_by_the_limits_of_the_configuration() {
    let mut detour = Detour::new().table("orders").mirrored();
    detour.target.exec("alter subscription pgdetour_mirror disable");
    detour.source.exec(
        "select pg_logical_emit_message(false, 'filler', repeat('x', 100000)) from generate_series(1, 40)",
    );
    detour = detour.configured_anew("[mirror]\nwarn_retained = \"1MB\"");
    detour = check(detour, 3, "mirror");
    let told = detour.last().at("/report/attention").to_string();
    assert!(told.contains("and 1048576 are the limit"), "{told}");
    // The servers are on this machine: the room is that of its disk, which takes less than ten thousand years to fill.
    detour = detour.configured_anew("[mirror]\nwarn_before = \"87600000h\"");
    detour = check(detour, 3, "mirror");
    let told = detour.last().at("/report/attention").to_string();
    assert!(told.contains("is full in"), "{told}");
    let room = detour.last().at("/report/mirror/safe_bytes").as_i64().unwrap_or_default();
    assert!(room > 0, "{}", detour.last().describe());
}

#[test]
fn what_a_crash_leaves_is_told_until_it_is_cleaned() {
    let detour = Detour::new().table("orders").on_source("create publication pgdetour_mirror");
    let detour = check(detour, 3, "orphan").reports("/orphans/0/name", "pgdetour_mirror");
    check(detour.run("clean").exits(0).changed(true), 0, "").reports("/orphans", serde_json::json!([]));
}

/// Samples by metric with their labels, read by the rules of Prometheus's text format; panics at what breaks them.
fn parse_metrics(text: &str) -> BTreeMap<String, i64> {
    let name = r"[a-zA-Z_:][a-zA-Z0-9_:]*";
    let label = r#"[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*""#;
    let regex = |text: &str| regex::Regex::new(text).expect("the expression is fixed");
    let sample = regex(&format!(r"^({name})(\{{{label}(?:,{label})*\}})? (-?[0-9.]+(?:e-?[0-9]+)?)$"));
    let help = regex(&format!(r"^# HELP ({name}) \S.*\.$"));
    let kind = regex(&format!(r"^# TYPE ({name}) (gauge|counter)$"));
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut samples, mut begun) = (BTreeMap::new(), BTreeSet::new());
    let mut current = (String::new(), String::new());
    for line in text.lines() {
        if let Some(found) = help.captures(line) {
            assert!(begun.insert(found[1].to_owned()), "{line}: once for each metric");
            current = (found[1].to_owned(), String::new());
        } else if let Some(found) = kind.captures(line) {
            assert_eq!(found[1], current.0, "{line}: behind its HELP");
            assert_eq!(&found[2] == "counter", found[1].ends_with("_total"), "{line}");
            found[2].clone_into(&mut current.1);
        } else if let Some(found) = sample.captures(line) {
            assert_eq!(found[1], current.0, "{line}: samples of a metric stand together");
            assert!(!current.1.is_empty(), "{line}: without TYPE");
            let key = format!("{}{}", &found[1], found.get(2).map_or("", |labels| labels.as_str()));
            let value: f64 = found[3].parse().expect("a number");
            assert!(samples.insert(key, value as i64).is_none(), "{line}: twice");
        } else {
            panic!("{line:?} is no line of Prometheus's text format");
        }
    }
    samples
}

fn metrics(detour: &Detour) -> BTreeMap<String, i64> {
    let output = detour.as_text("status", &["--format", "prometheus"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    parse_metrics(&String::from_utf8(output.stdout).expect("it is text"))
}

#[test]
fn prometheus_reads_every_phase_and_every_outage() {
    let mut detour = Detour::new().table("orders");
    let seen = metrics(&detour);
    assert_eq!(seen["pgdetour_phase{phase=\"absent\"}"], 1);
    assert_eq!(seen["pgdetour_up{side=\"target\"}"], 1);
    detour = detour.mirrored();
    let seen = metrics(&detour);
    assert_eq!((seen["pgdetour_phase{phase=\"mirrored\"}"], seen["pgdetour_mirror_running"]), (1, 1));
    assert!(seen["pgdetour_mirror_retained_bytes"] >= 0);
    detour = detour.run("cutover").exits(0).application("insert into public.orders (note) values ('new')");
    let seen = metrics(&detour);
    assert_eq!(seen["pgdetour_serving{side=\"target\"}"], 1);
    assert_eq!(seen["pgdetour_fenced{side=\"source\"}"], 1);
    assert!(seen["pgdetour_replay_lag_bytes"] > 0, "{seen:?}");
    let router = seen.keys().find(|key| key.starts_with("pgdetour_router_right{"));
    assert_eq!(router.map(|key| seen[key]), Some(1), "{seen:?}");
    detour.source.stop(Shutdown::Fast);
    let seen = metrics(&detour);
    assert_eq!((seen["pgdetour_up{side=\"source\"}"], seen["pgdetour_health{level=\"attention\"}"]), (0, 1));
    assert!(!seen.contains_key("pgdetour_replay_lag_bytes"), "not known is not 0");
    detour.target.stop(Shutdown::Fast);
    let seen = metrics(&detour);
    assert_eq!(seen["pgdetour_health{level=\"broken\"}"], 1);
    detour.source.start();
    detour.target.start();
    detour = detour.run("replay").exits(0);
    assert!(metrics(&detour)["pgdetour_replay_transactions_total"] >= 1);
}

#[test]
fn watching_writes_blocks_into_a_pipe_and_redraws_a_terminal_until_interrupted() {
    let detour = Detour::new().table("orders").mirrored();
    let configuration = detour.configuration().display().to_string();
    let watch = ["status", "--config", &configuration, "--watch", "--interval", "50ms"];
    let mut piped = binary::command(env!("CARGO_BIN_EXE_pgdetour")).args(watch).spawn().expect("it starts");
    let mut lines = BufReader::new(piped.stdout.take().expect("a pipe")).lines();
    for _ in 0..3 {
        let is_head = |line: String| line.starts_with("Phase \"mirrored\"; the source serves.");
        assert!(lines.by_ref().map_while(Result::ok).any(is_head), "three blocks");
    }
    let pid = Pid::from_raw(piped.id() as i32).expect("a pid");
    kill_process(pid, Signal::INT).expect("it runs");
    let end = lines.map_while(Result::ok).last();
    assert_eq!(piped.wait().expect("it ends").code(), Some(0), "{end:?}");

    // Somebody who closes the pipe has seen enough.
    let mut closed = binary::command(env!("CARGO_BIN_EXE_pgdetour")).args(watch).spawn().expect("it starts");
    drop(closed.stdout.take());
    assert_eq!(closed.wait().expect("it ends").code(), Some(0));

    // Its shell makes way: one that stays is interrupted too, and some shells then end with 130 whatever their child did.
    let line = format!("exec {} {}", env!("CARGO_BIN_EXE_pgdetour"), watch.join(" "));
    let mut typed = terminal::start(&line);
    let mut screen = typed.stdout.take().expect("a pipe");
    let mut shown = Vec::new();
    let mut chunk = [0; 4096];
    let draws = |shown: &[u8]| String::from_utf8_lossy(shown).matches("\u{1b}[HPhase \"mirrored\"").count();
    while draws(&shown) < 3 {
        let read = screen.read(&mut chunk).expect("the screen can be read");
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&chunk[..read]);
    }
    typed.stdin.take().expect("a pipe").write_all(b"\x03").expect("it reads what is typed");
    assert_eq!(typed.wait().expect("it ends").code(), Some(0));
}
