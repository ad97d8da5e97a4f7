//! The examples that scripts are made from, run as they stand with the real programs.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::json;

use crate::support::binary;
use crate::support::detour::{Detour, Serving};
use crate::support::wait::until;

const MAINTENANCE: &str = "
alter table public.orders add tag text;
update public.orders set tag = 'n ' || coalesce(note, '');
alter table public.orders drop note;
";

const MAP: &str = "[[map]]\nfrom = \"public.orders\"\nto = \"public.orders\"\n\
                   columns = { tag = \"'n ' || coalesce(note, '')\" }\ndrop = [\"note\"]";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Two servers, a table that gets another shape during maintenance, and the file of statements that does it.
fn shop() -> (Detour, PathBuf) {
    let detour = Detour::new().table("orders").table("users");
    let detour = detour.configured("[[restrict]]\ntables = [\"public.users\"]").configured(MAP);
    let file = detour.configuration().with_file_name("maintenance.sql");
    std::fs::write(&file, MAINTENANCE).expect("the scratch directory can be written");
    (detour.writing(), file)
}

/// How psql reaches the source, password and all.
fn psql(detour: &Detour, file: &Path) -> [String; 6] {
    let file = file.display().to_string();
    ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", &file].map(str::to_owned).map(|word| match word.as_str() {
        "-X" => format!("--dbname={}", detour.source.conninfo("dba")),
        _ => word,
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A number of Ansible's recap.
fn recap(output: &Output, what: &str) -> u32 {
    let text = text(output);
    let line = text.lines().find(|line| line.starts_with("localhost") && line.contains("ok="));
    let line = line.unwrap_or_else(|| panic!("there is no recap:\n{text}"));
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(what)?.strip_prefix('='));
    word.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {what} in {line}"))
}

#[test]
fn the_playbook_takes_the_whole_trip_and_a_second_run_changes_nothing() {
    let (detour, file) = shop();
    let home = detour.configuration().with_file_name("ansible");
    let play = |detour: &Detour, stay_out: bool| {
        let maintenance = if stay_out { Vec::new() } else { vec![psql(detour, &file)] };
        let variables = json!({
            "pgdetour": env!("CARGO_BIN_EXE_pgdetour"),
            "pgdetour_config": detour.configuration(),
            "maintenance": maintenance,
            "stay_out": stay_out,
            "pause": 1,
        });
        let mut command = binary::command("ansible-playbook");
        command
            .args(["-i", "localhost,", "-c", "local", "-e", &variables.to_string()])
            .arg(example("ansible/detour.yml"))
            .env("ANSIBLE_LOCAL_TEMP", &home)
            .env("ANSIBLE_REMOTE_TEMP", &home)
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8");
        command.output().expect("ansible-playbook is installed: run scripts/install first")
    };

    // Another run holds the lock when the playbook begins, and lets go of it: exit code 4 is waited out.
    let other = Detour::locked_by_another(&detour.source);
    let out = std::thread::scope(|scope| {
        let out = scope.spawn(|| play(&detour, true));
        until("a step is tried again", Duration::from_secs(60), || {
            let waits = "select count(*) from pg_stat_activity where application_name = 'pgdetour mirror'";
            (detour.source.value::<i64>(waits) > 0).then_some(())
        });
        drop(other);
        out.join().expect("it ran")
    });
    assert!(out.status.success(), "{}", text(&out));
    // Mirror, restrict and cutover.
    assert_eq!((recap(&out, "changed"), recap(&out, "failed")), (3, 0), "{}", text(&out));
    assert_eq!(detour.who_really_serves(), Serving::Target);
    let detour = detour.application("insert into public.orders (note) values ('on the target')");

    let back = play(&detour, false);
    assert!(back.status.success(), "{}", text(&back));
    // The maintenance, replay and cutback.
    assert_eq!((recap(&back, "changed"), recap(&back, "failed")), (3, 0), "{}", text(&back));
    assert_eq!(detour.who_really_serves(), Serving::Source);
    let kept = "select count(*) from public.orders where tag = 'n on the target'";
    assert_eq!(detour.source.value::<i64>(kept), 1);

    let again = play(&detour, false);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!((recap(&again, "changed"), recap(&again, "failed")), (0, 0), "{}", text(&again));
    detour.no_client_error().no_row_lost();
}

#[test]
fn the_runbook_takes_the_whole_trip_and_may_be_run_again_anywhere() {
    let (detour, file) = shop();
    let run = |detour: &Detour, arguments: &[String]| {
        let mut command = binary::command("sh");
        command
            .arg(example("runbook.sh"))
            .args(arguments)
            .env("PGDETOUR", env!("CARGO_BIN_EXE_pgdetour"))
            .env("PGDETOUR_CONFIG", detour.configuration())
            .env("PAUSE", "1");
        command.output().expect("sh can be started")
    };
    let word = |word: &str| [word.to_owned()];
    let expect = |detour: &Detour, arguments: &[String], code: i32, says: &str| {
        let output = run(detour, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(says), "{arguments:?} does not say {says:?}: {}", text(&output));
    };
    expect(&detour, &word("somewhere"), 2, "runbook.sh home");
    expect(&detour, &word("home"), 3, "nothing leads home from phase \"absent\"");
    let maintain: Vec<String> = word("maintain").into_iter().chain(psql(&detour, &file)).collect();
    expect(&detour, &maintain, 3, "the target does not serve");
    // As if it had been cut short behind the mirror: what is to be restricted still is.
    let detour = detour.run("mirror").exits(0).run("cutover").with(&["--rehearse"]).exits(0);
    let told = detour.last().at("/warnings").to_string();
    assert!(told.contains("is configured, and not in force"), "{told}");
    expect(&detour, &word("out"), 0, "maintain the source");
    assert_eq!(detour.who_really_serves(), Serving::Target);
    let detour = detour.application_is_refused("delete from public.users", "25006");
    expect(&detour, &word("out"), 0, "on the target already");
    let detour = detour.application("insert into public.orders (note) values ('on the target')");
    expect(&detour, &maintain, 0, "");
    // A run that died on the way home is finished by the same call.
    let detour = detour.run("cutback").fault("after:decide").dies();
    expect(&detour, &word("home"), 0, "traffic is home");
    assert_eq!(detour.who_really_serves(), Serving::Source);
    expect(&detour, &word("home"), 0, "traffic is home already");
    expect(&detour, &word("out"), 3, "nothing leads out from phase \"returned\"");
    let kept = "select count(*) from public.orders where tag = 'n on the target'";
    assert_eq!(detour.source.value::<i64>(kept), 1);
    detour.no_client_error().no_row_lost();
}

#[test]
fn shellcheck_finds_nothing_in_any_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = [
        "examples/runbook.sh",
        "examples/replace-file",
        "examples/point-clients",
        "scripts/install",
        ".ci/run",
    ];
    let mut command = binary::command("shellcheck");
    command.args(scripts).current_dir(root);
    let output = command.output().expect("shellcheck is installed: run scripts/install first");
    assert!(output.status.success(), "{}", text(&output));
}
