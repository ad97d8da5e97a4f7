//! A server that is there and says nothing, as a stopped one: clients do not wait for it longer than the budget allows.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::binary;
use crate::support::detour::{Detour, Serving};
use crate::support::hold::Watch;
use crate::support::proxy::Proxy;
use crate::support::wait::until;

/// The budget, half of it for an answer that was asked for at its very end, and a second for the last try to connect anew;
/// the rest is a busy machine's.
const BUDGET: &str = "2s";
const LONGEST: Duration = Duration::from_secs(5);

/// A run during whose hold a server falls silent; its exit code.
fn silenced(detour: &mut Detour, command: &str, at: &str, which: fn(&Detour) -> &Proxy) -> Option<i32> {
    let run = detour.start_until(command, &["--yes", "--max-pause", BUDGET], at);
    assert!(run.is_there(), "{command} never came to {at}");
    which(detour).fall_silent();
    let watch = Watch::begin(detour);
    let answer = run.go_on();
    let held = watch.end();
    assert!(held > Duration::ZERO && held <= LONGEST, "held for {held:?}\n{}", answer.describe());
    detour.keep(answer).code()
}

fn source(detour: &Detour) -> &Proxy {
    &detour.proxies().source
}

fn target(detour: &Detour) -> &Proxy {
    &detour.proxies().target
}

#[test]
fn clients_go_on_where_they_were_when_the_other_server_says_nothing() {
    let mut detour = Detour::new().table("orders").through_proxies().writing().mirrored();
    assert_eq!(silenced(&mut detour, "cutover", "after:write marker", target), Some(6));
    let detail = detour.last().text_at("/error/detail").to_owned();
    assert!(detail.contains("no answer for"), "{}", detour.last().describe());
    assert_eq!(detour.last().text_at("/serving"), "source");
    assert_eq!(detour.who_really_serves(), Serving::Source);
    target(&detour).mend();
    detour = detour.application_goes_on().run("cutover").exits(0).phase("detoured").run("replay").exits(0);

    assert_eq!(silenced(&mut detour, "cutback", "after:write marker", source), Some(6));
    assert_eq!(detour.status_tells_the_truth(), Serving::Target);
    source(&detour).mend();
    detour = detour.application_goes_on().run("cutback").exits(0).phase("returned");
    detour.serving(Serving::Source).run("clean").exits(0).no_row_lost();
}

#[test]
fn the_router_lets_clients_go_on_when_the_server_that_serves_says_nothing_to_us() {
    let mut detour = Detour::new().table("orders").through_proxies();
    // Far longer than clients would have to wait.
    detour.pooler().reconfigure("server_login_retry = 120");
    detour = detour.writing().mirrored();
    assert_eq!(silenced(&mut detour, "cutover", "after:fence source", source), Some(7));
    assert_eq!(detour.who_really_serves(), Serving::Nobody);
    source(&detour).mend();
    // Its fence could not be lowered: what was left behind does that as soon as it can.
    until("the source lets clients in", Duration::from_secs(30), || {
        (detour.who_really_serves() == Serving::Source).then_some(())
    });
    detour = detour.application_goes_on();
    until("the pooler waits as it did", Duration::from_secs(30), || {
        (detour.pooler().setting("server_login_retry") == "120").then_some(())
    });
    detour = detour.run("cutover").exits(0).phase("detoured").serving(Serving::Target);
    detour.application_goes_on().no_row_lost();
}

#[test]
fn a_signal_does_not_wait_for_a_server_that_takes_connections_and_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let configuration = directory.path().join("pgdetour.toml");
    let server =
        |name: &str| format!("[{name}]\nconninfo = \"host=127.0.0.1 port={port} dbname=shop user=dba\"\n");
    let text = format!("{}{}[router]\nkind = \"none\"\n", server("source"), server("target"));
    std::fs::write(&configuration, text).expect("the directory is ours");
    let configuration = configuration.to_str().expect("temporary paths are UTF-8");
    for (command, signal) in [
        ("mirror", Signal::TERM),
        ("cutover", Signal::INT),
        ("verify", Signal::TERM),
        ("check", Signal::INT),
        ("status", Signal::TERM),
        ("clean", Signal::TERM),
    ] {
        let arguments = [command, "--json", "--yes", "-c", configuration].map(str::to_owned);
        let running = binary::start(&arguments, &[]);
        let heard = silent.accept().expect("it connects");
        running.signal(signal);
        let told = Instant::now();
        let answer = running.end();
        assert!(told.elapsed() < Duration::from_secs(3), "{command}: {:?}", told.elapsed());
        assert_eq!(answer.code(), Some(128 + signal.as_raw()), "{}", answer.describe());
        assert_eq!(answer.text_at("/error/kind"), "interrupted", "{}", answer.describe());
        assert_eq!(answer.at("/changed"), false, "{}", answer.describe());
        drop(heard);
        // Those of its other sessions.
        silent.set_nonblocking(true).expect("it is a socket");
        while silent.accept().is_ok() {}
        silent.set_nonblocking(false).expect("it is a socket");
    }
}
