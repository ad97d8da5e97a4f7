//! Against a real HAProxy with the example's configuration.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use super::HaProxy;
use crate::config::{self, HaProxySettings, RouterKind};
use crate::error::{Checked, Error};
use crate::phase::Side;
use crate::plan::Plan;
use crate::routers::haproxy::runtime::read_weight;
use crate::routers::haproxy::test_server::{MAP, TestHaProxy};
use crate::routers::{Router as _, RouterUndo, Routers};

/// How long a test looks on before it says that a client waits.
const A_WHILE: Duration = Duration::from_millis(150);

fn general(haproxy: &TestHaProxy) -> HaProxySettings {
    haproxy.settings("general", "source", "target")
}

fn web(haproxy: &TestHaProxy) -> HaProxySettings {
    haproxy.settings("web", "web_source", "web_target")
}

fn router(settings: &HaProxySettings) -> HaProxy {
    HaProxy::new(settings, &["127.0.0.2/32".into()], &[], &Plan::real())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(3)
}

/// Who answers, empty when the session was ended.
fn who(mut client: impl Read + Write) -> String {
    let mut answer = [0; 100];
    match client.write_all(b"x").and_then(|()| client.read(&mut answer)) {
        Ok(read) => String::from_utf8_lossy(&answer[..read]).into_owned(),
        Err(_) => String::new(),
    }
}

/// What a request is answered with, without the headers.
fn get(client: &mut TcpStream, path: &str) -> String {
    write!(client, "GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    read_response(client)
}

fn read_response(client: &mut TcpStream) -> String {
    let mut answer = [0; 1000];
    let read = client.read(&mut answer).expect("HAProxy answers");
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    text.split_once("\r\n\r\n").map_or(text.clone(), |(_, body)| body.to_owned())
}

/// Looks until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = soon() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether nothing comes for a while.
fn waits(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(A_WHILE)).expect("a duration");
    let mut byte = [0; 1];
    let error = client.peek(&mut byte).err();
    client.set_read_timeout(None).expect("no duration");
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn failures(checked: &Checked) -> Vec<&'static str> {
    checked.failures.iter().map(|finding| finding.check).collect()
}

#[test]
fn clients_wait_through_a_hold_and_go_on_at_the_target() {
    let haproxy = TestHaProxy::start();
    let mut router = router(&general(&haproxy));
    let (old, admin) = (haproxy.connect(), haproxy.connect_as_admin());
    assert_eq!((who(&old), who(&admin)), ("db1".into(), "db1".into()));
    assert_eq!(router.clients().expect("counted"), 1, "admins are not general traffic");

    router.hold(soon(), &|| Ok(())).expect("held");
    let state = router.state().expect("known");
    assert_eq!((state.held, state.side, state.detail), (true, Some(Side::Source), None));
    let mut waiting = haproxy.connect();
    waiting.write_all(b"x").expect("HAProxy reads");
    assert!(waits(&mut waiting));
    assert_eq!(who(&old), "db1", "a transaction may finish");
    assert_eq!(who(haproxy.connect_as_admin()), "db1", "admins do not wait");

    router.point_to(Side::Target).expect("pointed");
    let state = router.state().expect("known");
    assert_eq!((state.held, state.side, state.detail), (true, Some(Side::Target), None));
    assert!(waits(&mut waiting), "until they are told to go on");
    assert_eq!(who(&old), "", "the sessions left behind are ended");
    router.resume().expect("resumed");
    let mut name = [0; 3];
    waiting.read_exact(&mut name).expect("an answer");
    assert_eq!(&name, b"db2");
    assert_eq!(who(&haproxy.connect()), "db2");
    assert_eq!(who(&admin), "db1", "the admin has kept its session");

    router.hold(soon(), &|| Ok(())).expect("held");
    router.point_to(Side::Source).expect("pointed");
    router.resume().expect("resumed");
    assert_eq!(who(&waiting), "");
    assert_eq!(who(&haproxy.connect()), "db1");
    assert_eq!(std::fs::read_to_string(haproxy.path("pgdetour.map")).expect("readable"), MAP);
}

#[test]
fn requests_in_flight_are_answered_before_a_hold_of_http_is_complete() {
    let haproxy = TestHaProxy::start();
    let mut router = router(&web(&haproxy));
    let mut busy = haproxy.connect_http();
    let mut kept_alive = haproxy.connect_http();
    assert_eq!(get(&mut kept_alive, "/"), "app1");
    write!(busy, "GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    std::thread::sleep(Duration::from_millis(50));

    let begun = Instant::now();
    let error = router.hold(Instant::now() + Duration::from_millis(50), &|| Ok(())).expect_err("too short");
    let Error::TimedOut { detail, .. } = error else { panic!("{error:?}") };
    assert_eq!(detail.as_deref(), Some("backend web_source still answers 1 requests"));
    assert!(!router.state().expect("known").held, "clients go on");
    assert_eq!(get(&mut kept_alive, "/"), "app1");

    router.hold(soon(), &|| Ok(())).expect("held");
    assert!(begun.elapsed() > Duration::from_millis(200), "the slow request was waited for");
    assert_eq!(read_response(&mut busy), "app1");
    write!(kept_alive, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    assert!(waits(&mut kept_alive), "also on a connection that is open already");
    router.point_to(Side::Target).expect("pointed");
    router.resume().expect("resumed");
    assert_eq!(read_response(&mut kept_alive), "app2");
}

#[test]
fn no_client_is_forgotten_where_the_process_is_kept_from_running_while_they_wait() {
    let haproxy = TestHaProxy::start();
    let mut router = router(&general(&haproxy));
    router.hold(soon(), &|| Ok(())).expect("held");
    let mut waiting: Vec<TcpStream> = (0..400).map(|_| haproxy.connect()).collect();
    for client in &mut waiting {
        client.write_all(b"x").expect("HAProxy reads");
    }
    // With so many of them some are about to sleep at each of these instants.
    for _ in 0..60 {
        haproxy.stop_for(Duration::from_millis(12));
        thread::sleep(Duration::from_millis(13));
    }
    router.resume().expect("resumed");
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_served = |client: &mut TcpStream| {
        let rest = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        client.set_read_timeout(Some(rest)).expect("a duration");
        client.read_exact(&mut [0; 3]).is_ok()
    };
    let served = waiting.iter_mut().map(is_served).filter(|is_served| *is_served).count();
    assert_eq!(served, waiting.len());
}

#[test]
fn a_hold_can_be_taken_back_and_each_act_may_be_repeated() {
    let haproxy = TestHaProxy::start();
    let mut first = router(&general(&haproxy));
    first.hold(soon(), &|| Ok(())).expect("held");
    first.hold(soon(), &|| Ok(())).expect("held already");
    // Another process takes it back.
    let mut second = router(&general(&haproxy));
    second.resume().expect("resumed");
    second.resume().expect("resumed already");
    let state = second.state().expect("known");
    assert_eq!((state.held, state.side), (false, Some(Side::Source)));
    second.point_to(Side::Target).expect("pointed without a hold");
    second.point_to(Side::Target).expect("pointed already");
    assert_eq!(who(&haproxy.connect()), "db2");
    assert_eq!(second.state().expect("known").side, Some(Side::Target));
}

#[test]
fn a_restart_keeps_the_side_and_ends_a_hold() {
    let mut haproxy = TestHaProxy::start();
    let mut router = router(&general(&haproxy));
    router.hold(soon(), &|| Ok(())).expect("held");
    router.point_to(Side::Target).expect("pointed");
    haproxy.restart();
    let state = router.state().expect("known");
    assert_eq!((state.held, state.side), (false, Some(Side::Target)));
    router.resume().expect("nothing is left to do");
    assert_eq!(who(&haproxy.connect()), "db2");
}

#[test]
fn a_reload_in_a_hold_is_seen_once_clients_go_on() {
    let mut haproxy = TestHaProxy::start();
    let (mut of_tcp, mut of_http) = (router(&general(&haproxy)), router(&web(&haproxy)));
    of_tcp.hold(soon(), &|| Ok(())).expect("held");
    of_http.hold(soon(), &|| Ok(())).expect("held");
    haproxy.reload();
    of_tcp.point_to(Side::Target).expect("pointed");
    assert_eq!(who(haproxy.connect()), "db2", "the process of before ends no sessions any more");
    of_http.point_to(Side::Target).expect("pointed");
    for router in [&mut of_tcp, &mut of_http] {
        router.resume().expect("resumed");
        assert!(!router.state().expect("known").held);
    }
    let mut client = haproxy.connect_http();
    assert_eq!(get(&mut client, "/"), "app1", "only the process of before was told");
    of_tcp.settle().expect("nothing is left to do");
    of_http.settle().expect("the new one is told");
    assert_eq!((get(&mut client, "/"), who(haproxy.connect())), ("app2".into(), "db2".into()));
    for router in [&mut of_tcp, &mut of_http] {
        let state = router.state().expect("known");
        assert_eq!((state.held, state.side, state.detail), (false, Some(Side::Target), None));
    }
}

#[test]
fn clients_that_wait_in_a_process_that_is_reloaded_away_go_on_with_all_others() {
    let mut haproxy = TestHaProxy::start();
    let (mut of_tcp, mut of_http) = (router(&general(&haproxy)), router(&web(&haproxy)));
    of_tcp.hold(soon(), &|| Ok(())).expect("held");
    of_http.hold(soon(), &|| Ok(())).expect("held");
    let (mut client, mut browser) = (haproxy.connect(), haproxy.connect_http());
    client.write_all(b"x").expect("HAProxy reads");
    write!(browser, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    assert!(waits(&mut client) && waits(&mut browser));
    haproxy.reload();
    for router in [&mut of_tcp, &mut of_http] {
        router.answer().expect("it answers");
        assert!(router.state().expect("known").held, "the new process holds its clients, too");
        router.point_to(Side::Target).expect("pointed");
    }
    assert!(waits(&mut client) && waits(&mut browser));
    for router in [&mut of_tcp, &mut of_http] {
        router.resume().expect("resumed");
        router.settle().expect("settled");
    }
    let mut name = [0; 3];
    client.read_exact(&mut name).expect("an answer");
    assert_eq!((&name, read_response(&mut browser)), (b"db2", "app2".into()));
    assert_eq!(
        (who(haproxy.connect()), get(&mut haproxy.connect_http(), "/")),
        ("db2".into(), "app2".into())
    );
}

#[test]
fn a_reload_while_requests_are_waited_for_lets_none_of_them_through() {
    let mut haproxy = TestHaProxy::start();
    let mut router = router(&web(&haproxy));
    let mut busy = haproxy.connect_http();
    assert_eq!(get(&mut busy, "/"), "app1");
    write!(busy, "GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    until(|| router.clients().expect("counted") == 1);
    let mut router = thread::scope(|scope| {
        let holding = scope.spawn(move || {
            router.hold(soon(), &|| Ok(())).expect("held");
            router
        });
        haproxy.reload();
        holding.join().expect("it holds")
    });
    assert_eq!(read_response(&mut busy), "app1", "it was answered before the hold was complete");
    router.answer().expect("it answers");
    let mut client = haproxy.connect_http();
    write!(client, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    assert!(waits(&mut client));
    router.resume().expect("resumed");
    assert_eq!(read_response(&mut client), "app1");
}

#[test]
fn a_client_that_nobody_releases_in_a_process_of_before_goes_where_the_file_says() {
    let mut haproxy = TestHaProxy::start_with("    setenv PGDETOUR_PATIENCE 1\n");
    let mut router = router(&web(&haproxy));
    router.hold(soon(), &|| Ok(())).expect("held");
    let mut client = haproxy.connect_http();
    write!(client, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n").expect("HAProxy reads");
    assert!(waits(&mut client));
    haproxy.reload();
    drop(router);
    assert_eq!(read_response(&mut client), "app1");
}

#[test]
fn servers_whose_health_checks_the_fence_refuses_are_called_back() {
    let haproxy = TestHaProxy::start();
    let settings = haproxy.settings("web", "refused", "web_target");
    haproxy.act(&format!("set map {} web web_target", settings.map));
    let map = std::fs::read_to_string(&settings.file).expect("readable");
    std::fs::write(&settings.file, map.replace("web_source", "web_target")).expect("writable");
    until(|| haproxy.ask("show servers state refused").contains(" four 127.0.0.1 0 "));
    let mut router = router(&settings);
    let checked = router.check(Duration::from_secs(5));
    assert_eq!(failures(&checked), [""; 0]);
    assert!(
        checked.warnings.iter().any(|finding| finding.message.contains("refused/four answer health checks"))
    );
    router.hold(soon(), &|| Ok(())).expect("held");
    router.point_to(Side::Source).expect("pointed");
    router.resume().expect("resumed");
    assert_eq!(get(&mut haproxy.connect_http(), "/"), "app1");
}

#[test]
fn one_that_was_restarted_in_a_hold_is_pointed_as_it_is_now() {
    let mut haproxy = TestHaProxy::start();
    let mut router = router(&general(&haproxy));
    router.hold(soon(), &|| Ok(())).expect("held");
    haproxy.restart();
    let old = haproxy.connect();
    assert_eq!(who(&old), "db1", "its file still names the source");
    router.point_to(Side::Target).expect("pointed");
    assert_eq!((who(&old), who(haproxy.connect())), (String::new(), "db2".into()));
    router.resume().expect("nobody waits");
    router.settle().expect("nothing is left to do");
    assert_eq!(router.state().expect("known").side, Some(Side::Target));
}

#[test]
fn a_side_that_the_file_does_not_know_is_a_drift() {
    let haproxy = TestHaProxy::start();
    let settings = general(&haproxy);
    let mut router = router(&settings);
    assert_eq!(failures(&router.check(Duration::from_secs(5))), [""; 0]);
    let set = |value: &str| {
        haproxy.act(&format!("set map {} general {value}", settings.map));
    };
    set("target");
    let state = router.state().expect("known");
    assert_eq!(state.side, None);
    let detail = "it sends clients to the target, and its file to the source: a reload would move them";
    assert_eq!(state.detail.as_deref(), Some(detail));
    assert_eq!(failures(&router.check(Duration::from_secs(5))), ["router_drift"]);
    set("elsewhere");
    assert_eq!(failures(&router.check(Duration::from_secs(5))), ["router_entry"]);
    set("hold");
    assert_eq!(failures(&router.check(Duration::from_secs(5))), ["router_held"]);
}

#[test]
fn a_process_that_is_gone_or_has_no_server_for_clients_serves_nobody() {
    let mut haproxy = TestHaProxy::start();
    let state = |settings: &HaProxySettings| {
        let router = config::Router {
            kind: RouterKind::Haproxy,
            haproxy: vec![settings.clone()],
            ..config::Router::default()
        };
        let mut routers = Routers::new(&router, &[], &[], &Plan::real(), "test").expect("one router");
        routers.states().swap_remove(0)
    };
    let (settings, of_http) = (general(&haproxy), web(&haproxy));
    haproxy.act("disable server source/db1");
    let seen = state(&settings);
    assert_eq!((seen.down, seen.side), (true, Some(Side::Source)));
    assert_eq!(seen.detail.as_deref(), Some("backend \"source\" has no server that is up"));
    assert!(!state(&of_http).down, "another backend has");
    haproxy.act("enable server source/db1");
    assert!(!state(&settings).down);

    // Of several in TCP mode, nobody tells which one asks the map.
    haproxy.act("disable frontend postgresql");
    assert!(!state(&settings).disabled);
    haproxy.act("disable frontend from_admin_network");
    assert!(state(&settings).disabled);
    assert!(!state(&of_http).disabled);
    haproxy.act("enable frontend postgresql");
    assert!(!state(&settings).disabled);

    for socket in [settings.socket.clone(), haproxy.runtime_address()] {
        haproxy.end();
        let settings = HaProxySettings { socket, ..settings.clone() };
        let seen = state(&settings);
        assert_eq!((seen.down, seen.side), (true, None), "{seen:?}");
        haproxy.restart();
        assert!(!state(&settings).down);
    }
    // One that is silent may serve clients all the same.
    let silent = std::os::unix::net::UnixListener::bind(haproxy.path("silent.sock")).expect("a socket");
    let socket = haproxy.path("silent.sock").display().to_string();
    let seen = state(&HaProxySettings { socket, ..settings });
    assert!(!seen.down && seen.mend.is_some(), "{seen:?}");
    drop(silent);
}

#[test]
fn a_key_that_somebody_has_taken_out_of_the_process_is_put_back() {
    let haproxy = TestHaProxy::start();
    let settings = general(&haproxy);
    let map = &settings.map;
    let mut router = router(&settings);
    router.point_to(Side::Target).expect("pointed");
    let found = |router: &mut HaProxy| {
        let checked = router.check(Duration::from_secs(5));
        assert_eq!(failures(&checked), ["router_map"]);
        checked.failures[0].hint.clone()
    };
    haproxy.act(&format!("del map {map} general"));
    let state = router.state().expect("known");
    let detail = format!("map {map} has no key \"general\" in the process");
    assert_eq!((state.side, state.live, state.detail), (None, None, Some(detail)));
    let hint = found(&mut router);
    assert!(hint.starts_with(&format!("Run \"add map {map} general target\" in its runtime API")), "{hint}");
    router.point_to(Side::Target).expect("put back");
    assert_eq!(router.state().expect("known").side, Some(Side::Target));
    assert_eq!(who(haproxy.connect()), "db2");
    // In a hold, too.
    router.hold(soon(), &|| Ok(())).expect("held");
    haproxy.act(&format!("del map {map} general"));
    router.resume().expect("resumed");
    assert_eq!(who(haproxy.connect()), "db2");

    haproxy.act(&format!("add map {map} general source"));
    let hint = found(&mut router);
    for command in [format!("del map {map} general"), format!("add map {map} general target")] {
        assert!(hint.contains(&format!("\"{command}\"")), "{hint}");
        haproxy.act(&command);
    }
    assert_eq!(failures(&router.check(Duration::from_secs(5))), [""; 0]);
}

#[test]
fn the_runtime_api_may_listen_on_tcp() {
    let haproxy = TestHaProxy::start();
    let mut settings = general(&haproxy);
    settings.socket = haproxy.runtime_address();
    let mut router = router(&settings);
    assert_eq!(failures(&router.check(Duration::from_secs(5))), [""; 0]);
    router.hold(soon(), &|| Ok(())).expect("held");
    router.resume().expect("resumed");
    assert_eq!(router.name(), format!("haproxy {} general", settings.socket));
}

#[test]
fn every_wrong_setting_is_a_finding() {
    let haproxy = TestHaProxy::start();
    let found = |change: &dyn Fn(&mut HaProxySettings)| {
        let mut settings = general(&haproxy);
        change(&mut settings);
        let checked = router(&settings).check(Duration::from_secs(5));
        checked
            .failures
            .iter()
            .map(|finding| format!("{}: {}", finding.check, finding.message))
            .collect::<Vec<_>>()
    };
    let user = haproxy.path("user.sock").display().to_string();
    assert_eq!(
        found(&|it| it.socket.clone_from(&user)),
        ["router_admin: the socket has level user, which may not end sessions"]
    );
    let missing = found(&|it| it.socket = "/nonexistent/admin.sock".into());
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0].starts_with("router_reachable: could not connect to haproxy /nonexistent/"),
        "{missing:?}"
    );
    let map = found(&|it| it.map = "/nonexistent.map".into());
    assert!(map.len() == 1 && map[0].contains("Unknown map identifier"), "{map:?}");
    let key = found(&|it| it.key = "nobody".into());
    assert!(key.len() == 2 && key[0].contains("no line for that key"), "{key:?}");
    assert!(key[1].starts_with("router_map: ") && key[1].contains("has no key \"nobody\""), "{key:?}");
    let backend = found(&|it| it.target = "nowhere".into());
    assert!(backend.len() == 1 && backend[0].contains("it has no backend \"nowhere\""), "{backend:?}");
    let file = found(&|it| it.file = "/nonexistent.map".into());
    assert!(file.len() == 1 && file[0].starts_with("router_file: "), "{file:?}");
    let wanted = ["127.0.0.2/32".into(), "10.9.0.0/16".into()];
    let networks =
        HaProxy::new(&general(&haproxy), &wanted, &[], &Plan::real()).check(Duration::from_secs(5));
    assert_eq!(networks.failures.len(), 2, "in the process and in the file: {networks:?}");
    let message = &networks.failures[0].message;
    assert!(message.contains("lacks 10.9.0.0/16: their clients are moved"), "{message}");
    haproxy.act("disable server target/db2");
    assert_eq!(found(&|_| {}), ["router_backend: backend \"target\" has no server that is up"]);

    let mut settings = general(&haproxy);
    settings.admin_acl = None;
    haproxy.act("enable server target/db2");
    let checked = router(&settings).check(Duration::from_secs(5));
    assert_eq!(checked.warnings.len(), 1, "{checked:?}");
}

#[test]
fn the_file_keeps_its_mode() {
    let haproxy = TestHaProxy::start();
    let path = haproxy.path("pgdetour.map");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    router(&general(&haproxy)).point_to(Side::Target).expect("pointed");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), MAP.replace("\t source", "\t target"));
}

#[test]
fn a_dry_run_shows_the_commands_and_does_nothing() {
    let haproxy = TestHaProxy::start();
    let plan = Plan::dry();
    let mut router = HaProxy::new(&general(&haproxy), &[], &[], &plan);
    router.hold(soon(), &|| Ok(())).expect("noted");
    router.point_to(Side::Target).expect("noted");
    router.resume().expect("noted");
    let map = haproxy.path("pgdetour.map").display().to_string();
    let actions: Vec<String> = plan.actions().into_iter().map(|action| action.action).collect();
    assert_eq!(
        actions,
        [
            format!("set map {map} general hold"),
            format!("rewrite {map}:2\n- general source\n+ general target"),
            "shutdown sessions server source/db1".into(),
            format!("set map {map} general target"),
        ]
    );
    let live = HaProxy::new(&general(&haproxy), &[], &[], &Plan::real()).live();
    assert_eq!(live.expect("known").as_deref(), Some("source"));
    assert_eq!(std::fs::read_to_string(&map).expect("readable"), MAP);
}

#[test]
fn two_processes_are_held_together_or_not_at_all_and_one_that_went_keeps_no_client_of_the_other() {
    let first = TestHaProxy::start();
    let mut second = TestHaProxy::start();
    let router = config::Router {
        kind: RouterKind::Haproxy,
        haproxy: vec![general(&first), general(&second)],
        ..config::Router::default()
    };
    let mut routers = Routers::new(&router, &[], &[], &Plan::real(), "test").expect("two routers");
    routers.hold(soon(), &|| Ok(())).expect("held");
    routers.point_to(Side::Target).expect("pointed");
    routers.resume().expect("resumed");
    assert_eq!((who(&first.connect()), who(&second.connect())), ("db2".into(), "db2".into()));
    second.end();
    routers.hold(soon(), &|| Ok(())).expect_err("one is down");
    let states = routers.states();
    assert!(!states[0].held && states[1].detail.is_some(), "{states:?}");
    assert_eq!(who(&first.connect()), "db2", "its clients go on");
    second.restart();
    routers.hold(soon(), &|| Ok(())).expect("held");
    second.end();
    routers.point_to(Side::Source).expect_err("one is down");
    assert_eq!(who(&first.connect()), "db1", "its clients are where they were sent");
    // Its file was within reach, so that it comes back as it is to be; the same done again has no effect.
    second.restart();
    assert_eq!(who(&second.connect()), "db1");
    routers.point_to(Side::Source).expect("both answer");
    routers.resume().expect("resumed");
    assert_eq!(who(&second.connect()), "db1");
}

/// Whom so many requests to the servers of both sides came to.
fn shares(haproxy: &TestHaProxy, requests: usize) -> [usize; 2] {
    let answers: Vec<String> = (0..requests)
        .map(|_| {
            let mut client =
                std::os::unix::net::UnixStream::connect(haproxy.path("shared.sock")).expect("it listens");
            client.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").expect("it reads");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("it answers");
            answer
        })
        .collect();
    ["app1", "app2"].map(|name| answers.iter().filter(|answer| answer.ends_with(name)).count())
}

#[test]
fn a_part_of_the_traffic_moves_by_weight_and_the_weights_of_before_come_back() {
    let mut haproxy = TestHaProxy::start();
    let weights = vec![("shared/one".to_owned(), 64), ("shared/two".to_owned(), 192)];
    let settings = HaProxySettings { weights, ..web(&haproxy) };
    let mut first = router(&settings);
    assert_eq!(failures(&first.check(Duration::from_secs(5))), [""; 0]);
    assert_eq!(shares(&haproxy, 8), [8, 0]);
    let undo = first.prepare().expect("the weights can be read").expect("they are kept");
    first.hold(soon(), &|| Ok(())).expect("held");
    first.point_to(Side::Target).expect("pointed");
    first.resume().expect("resumed");
    assert_eq!(first.state().expect("known").side, Some(Side::Target));
    assert_eq!(shares(&haproxy, 8), [2, 6]);

    // A reload forgets them, which is seen, and mended by pointing there again.
    haproxy.restart();
    let state = first.state().expect("known");
    let drift = "server shared/one has weight 30, and 64 while the target serves";
    assert_eq!((state.side, state.detail.as_deref()), (None, Some(drift)));
    first.point_to(Side::Target).expect("pointed again");
    assert_eq!(shares(&haproxy, 8), [2, 6]);

    // Another process takes them home, in whatever order they are configured by now.
    let weights = settings.weights.iter().rev().cloned().collect();
    let reordered = HaProxySettings { weights, ..settings.clone() };
    let mut second = HaProxy::new(&reordered, &[], std::slice::from_ref(&undo), &Plan::real());
    second.hold(soon(), &|| Ok(())).expect("held");
    second.point_to(Side::Source).expect("pointed");
    second.resume().expect("resumed");
    let weight = |server: &str| read_weight(&haproxy.ask(&format!("get weight {server}")));
    assert_eq!((weight("shared/one"), weight("shared/two")), (Some(30), Some(0)));
    assert_eq!(shares(&haproxy, 8), [8, 0]);

    // Two maps of one process may have one key.
    let each = settings
        .weights
        .iter()
        .map(|weight| HaProxySettings { weights: vec![weight.clone()], ..settings.clone() });
    let each: Vec<HaProxySettings> = each.collect();
    let prepared =
        each.iter().map(|one| router(one).prepare().expect("the weights can be read").expect("kept"));
    let undo: Vec<RouterUndo> = prepared.collect();
    for one in &each {
        router(one).point_to(Side::Target).expect("pointed");
    }
    assert_eq!((weight("shared/one"), weight("shared/two")), (Some(64), Some(192)));
    for one in &each {
        HaProxy::new(one, &[], &undo, &Plan::real()).point_to(Side::Source).expect("pointed");
    }
    assert_eq!((weight("shared/one"), weight("shared/two")), (Some(30), Some(0)));

    let agents = HaProxySettings { weights: vec![("agents/three".to_owned(), 64)], ..settings.clone() };
    let mut third = router(&agents);
    let checked = third.check(Duration::from_secs(5));
    assert_eq!((failures(&checked).len(), checked.warnings.len()), (0, 1), "{checked:?}");
    assert!(checked.warnings[0].message.starts_with("its agent may set another weight"), "{checked:?}");
    third.point_to(Side::Target).expect("pointed");
    haproxy.act("set weight agents/three 1");
    assert_eq!(third.state().expect("known").detail, None, "the agent would set it again");
    haproxy.act("disable agent agents/three");
    assert!(third.state().expect("known").detail.is_some());

    let wrong = HaProxySettings { weights: vec![("shared/three".to_owned(), 1)], ..settings };
    assert_eq!(failures(&router(&wrong).check(Duration::from_secs(5))), ["router_weight"]);
}

#[test]
fn two_maps_of_one_process_are_told_apart() {
    let haproxy = TestHaProxy::start();
    let first = general(&haproxy);
    let mut second = first.clone();
    second.map = "/nowhere/other.map".into();
    let router = config::Router {
        kind: RouterKind::Haproxy,
        haproxy: vec![first, second],
        ..config::Router::default()
    };
    let mut routers = Routers::new(&router, &[], &[], &Plan::real(), "test").expect("two routers");
    let names: Vec<String> = routers.states().into_iter().map(|state| state.name).collect();
    assert!(names[0] != names[1] && names[1].ends_with(" in /nowhere/other.map"), "{names:?}");
}
