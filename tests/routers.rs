//! The trip without PgBouncer and HAProxy: a program of the operator's, a person, clients that know both servers.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::support::binary;
use crate::support::detour::{Detour, Serving, quoted};
use crate::support::terminal;
use crate::support::wait::until;

#[test]
fn the_example_program_moves_clients_that_connect_by_a_service() {
    let detour = Detour::new().table("orders");
    let file = detour.configuration().with_file_name("pg_service.conf");
    let places = [&detour.source, &detour.target].map(|server| format!("127.0.0.1:{}", server.port()));
    let text = format!(
        "# shared\n[other]\nhost=db9\nport=5432\n\n[shop]\nhost=127.0.0.1\nport={}\ndbname=shop\nuser=shop_app\n",
        detour.source.port()
    );
    std::fs::write(&file, &text).expect("it can be written");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/point-clients");
    let words = [&program.display().to_string(), &file.display().to_string(), "shop", &places[0], &places[1]];
    let words: Vec<String> = words.map(quoted).into();
    let router = format!(
        "[router]\nkind = \"command\"\n[router.command]\nprogram = [{}]\ntimeout = \"4s\"",
        words.join(", ")
    );
    let detour = detour.routed(&router);
    // A real client of libpq, which reads the service each time.
    let insert = |note: &str| {
        let mut psql = binary::command("psql");
        psql.env("PGSERVICEFILE", &file).args(["-XqAt", "service=shop", "-c"]);
        psql.arg(format!("insert into public.orders (note) values ('{note}') returning inet_server_port()"));
        let output = psql.output().expect("psql is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let (source, target) = (detour.source.port().to_string(), detour.target.port().to_string());
    assert_eq!(insert("before"), source);
    let detour = detour.run("check").exits(0).mirrored().run("cutover").exits(0);
    assert_eq!(insert("meanwhile"), target);
    let detour = detour.run("status").with(&["--check"]).exits(0).reports("/router/0/side", "target");
    // Somebody who points clients elsewhere by hand is seen.
    std::fs::write(&file, &text).expect("it can be written");
    let detour = detour.run("status").with(&["--check"]).exits(8).reports("/router/0/right", false);
    let moved = text.replace(&format!("port={source}"), &format!("port={target}"));
    std::fs::write(&file, moved).expect("it can be written");
    let detour = detour.run("replay").exits(0).run("cutback").exits(0).phase("returned");
    assert_eq!(insert("after"), source);
    assert_eq!(std::fs::read_to_string(&file).expect("it can be read"), text, "byte for byte");
    let kept = "select count(*) from public.orders where note in ('before', 'meanwhile', 'after')";
    assert_eq!(detour.source.value::<i64>(kept), 3);
}

#[test]
fn a_program_that_fails_past_the_decision_is_asked_again_until_clients_are_where_they_belong() {
    let mut detour = Detour::new().table("orders");
    let folder = detour.configuration().with_file_name("router");
    std::fs::create_dir(&folder).expect("the scratch directory can be written");
    let (state, broken) = (folder.join("state"), folder.join("broken"));
    std::fs::write(&state, "source").expect("it can be written");
    // Clients of this one are nobody: what matters is what it is asked.
    let script = format!(
        "case $PGDETOUR_ACTION in\n\
         point) test ! -e {broken} || {{ sleep 1; echo 'no quorum' >&2; exit 1; }}; echo $PGDETOUR_SIDE > {state} ;;\n\
         show) cat {state} ;;\nesac\n",
        broken = broken.display(),
        state = state.display()
    );
    let program = folder.join("point");
    std::fs::write(&program, script).expect("it can be written");
    let words = quoted(&program.display().to_string());
    detour = detour
        .routed(&format!("[router]\nkind = \"command\"\n[router.command]\nprogram = [\"sh\", {words}]"))
        .mirrored();

    std::fs::write(&broken, "").expect("it can be written");
    let run = detour.start_until("cutover", &["--yes"], "after:decide");
    assert!(run.is_there());
    // One that is at work ends by itself.
    detour = detour.run("status").with(&["--check"]).exits(0).phase("cutting_over");
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(7), "{}", answer.describe());
    detour.keep(answer);
    detour = detour.phase("cutting_over").message("no quorum");
    // Whether a try is under way or not: nobody is served.
    let mut tries = HashSet::new();
    until("one look has met a try, and another none", Duration::from_secs(60), || {
        let answer = detour.ask("status", &["--check"]);
        assert_eq!(answer.code(), Some(8), "{}", answer.describe());
        assert_eq!(answer.text_at("/report/serving"), "nobody", "{}", answer.describe());
        assert_eq!(answer.text_at("/report/attention/0/check"), "unfinished", "{}", answer.describe());
        let running = answer.at("/report/running").as_str();
        assert!(running.is_none_or(|running| running.contains("pgdetour cutover (guardian)")), "{running:?}");
        tries.insert(running.is_some());
        (tries.len() == 2).then_some(())
    });
    std::fs::remove_file(&broken).expect("it was written");
    until("what was left is finished", Duration::from_secs(60), || {
        (detour.ask("status", &[]).text_at("/phase") == "detoured").then_some(())
    });
    assert_eq!(std::fs::read_to_string(&state).expect("it can be read").trim(), "target");
    detour = detour.run("cutover").exits(0).changed(false);

    // A run that dies with its whole host leaves it to the next one, which then has changed something.
    detour = detour.run("replay").exits(0).run("cutback").fault("after:decide").dies();
    detour.run("cutback").exits(0).changed(true).phase("returned").run("cutback").exits(0).changed(false);
}

#[test]
fn clients_that_know_both_servers_are_moved_by_the_fence_alone() {
    let mut detour = Detour::new().table("orders").without_router().writing().mirrored();
    assert_eq!(detour.who_really_serves(), Serving::Source);
    // A run that dies with both sides closed: the next one takes it back, or goes on.
    detour = detour.run("cutover").fault("after:fence source").dies();
    assert_eq!(detour.who_really_serves(), Serving::Nobody);
    detour = detour.run("status").with(&["--check"]).exits(8).reports("/attention/0/check", "unfinished");
    detour = detour
        .run("cutover")
        .exits(0)
        .phase("detoured")
        .reports("/moved_by", serde_json::Value::Null)
        .application_goes_on();
    assert_eq!(detour.who_really_serves(), Serving::Target);
    detour = detour.run("status").with(&["--check"]).exits(0).run("replay").exits(0);
    detour = detour.run("cutback").exits(0).phase("returned").application_goes_on();
    assert_eq!(detour.who_really_serves(), Serving::Source);
    // Sessions were ended and connections refused while neither side let anybody in; nothing else.
    for error in detour.client_errors() {
        let code = error.sqlstate.as_deref();
        assert!(matches!(code, None | Some("57P01" | "42501")), "{error}");
    }
    detour.run("clean").exits(0).no_row_lost();
}

#[test]
fn a_person_moves_the_clients_between_two_prompts() {
    let detour = Detour::new().table("orders").without_router().mirrored();
    let configuration = detour.configuration().display().to_string();
    let line = format!("{} cutover --config {configuration}", env!("CARGO_BIN_EXE_pgdetour"));
    let mut typed = terminal::start(&line);
    let mut keyboard = typed.stdin.take().expect("a pipe");
    let mut screen = typed.stdout.take().expect("a pipe");
    let mut shown = String::new();
    let mut wait_for = |what: &str| {
        let mut chunk = [0; 4096];
        while !shown.contains(what) {
            let read = screen.read(&mut chunk).expect("the screen can be read");
            assert!(read > 0, "it ended without {what:?}:\n{shown}");
            shown.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    };
    wait_for("Move general traffic to the target?");
    assert!(detour.source.try_client("shop_app").is_ok(), "nothing has happened yet");
    keyboard.write_all(b"y\n").expect("it reads what is typed");
    wait_for("Press Enter when that is done.");
    assert!(detour.source.try_client("shop_app").is_err(), "the source is closed");
    assert!(detour.target.try_client("shop_app").is_ok(), "the target is open");
    keyboard.write_all(b"\n").expect("it reads what is typed");
    wait_for("General traffic is on the target.");
    assert_eq!(typed.wait().expect("it ends").code(), Some(0));
    detour.run("status").with(&["--check"]).exits(0).phase("detoured");
}
