//! The trip with HAProxy in front of both servers: general clients move, admins of their own network stay.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::support::admin::Admin;
use crate::support::detour::{Detour, Serving};
use crate::support::haproxy::{HaProxy, MAP};
use crate::support::port::Port;
use crate::support::postgres::DBA_PASSWORD;
use crate::support::wait::until;

/// Threads of the harness's writer, each of which has one session.
const SESSIONS: usize = 2;

fn map(detour: &Detour) -> String {
    std::fs::read_to_string(detour.balancer().map_file()).expect("the map can be read")
}

/// Each session of the application was ended once for each of so many switches, and nothing else went wrong.
fn only_ended_sessions(detour: &Detour, switches: usize) {
    // A session that was ended hears of it with its next statement.
    let errors = until("each session was ended", Duration::from_secs(60), || {
        let errors = detour.client_errors();
        (errors.len() >= SESSIONS * switches).then_some(errors)
    });
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), SESSIONS * switches, "{text:?}");
    for error in &errors {
        assert!(error.sqlstate.is_none() || error.sqlstate.as_deref() == Some("57P01"), "{text:?}");
    }
}

#[test]
fn through_haproxy_the_application_moves_and_the_admin_network_stays() {
    let detour = Detour::new()
        .table("orders")
        .on_source("create table public.maintenance (id serial primary key, port int not null)")
        .configured("[mirror]\nexclude = [\"public.maintenance\"]")
        .behind_haproxy()
        .writing();
    let conninfo = format!("{} password={DBA_PASSWORD}", detour.balancer().admin_conninfo("dba"));
    let admin = Admin::start(&conninfo);
    let detour = detour
        .run("check")
        .exits(0)
        .mirrored()
        .no_client_error()
        .run("cutover")
        .exits(0)
        .changed(true)
        .phase("detoured")
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on();
    only_ended_sessions(&detour, 1);
    assert_eq!(map(&detour), MAP.replace("general  source", "general  target"));
    let detour = detour.run("cutover").exits(0).changed(false);
    let detour = detour
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .phase("returned")
        .serving(Serving::Source)
        .application_goes_on();
    only_ended_sessions(&detour, 2);
    assert_eq!(map(&detour), MAP, "home, byte for byte");

    let written = admin.stop();
    let source = detour.source.port();
    let count = |condition: &str| -> i64 {
        detour.source.value(&format!("select count(*) from public.maintenance where {condition}"))
    };
    assert!(written > 20, "only {written}");
    assert_eq!(count(&format!("port = {source}")), written);
    assert_eq!(count(&format!("port <> {source}")), 0);
    detour.no_row_lost();
}

#[test]
fn a_cutover_that_dies_while_clients_wait_is_taken_back_by_the_next() {
    let detour = Detour::new().table("orders").behind_haproxy().writing().mirrored();
    let detour = detour
        .run("cutover")
        .fault("after:hold clients")
        .dies()
        .run("status")
        .exits(0)
        .reports("/serving", "nobody")
        .reports("/router/0/held", true);
    assert_eq!(map(&detour), MAP, "until the decision the file leads to the source");
    detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .fault("before:resume clients")
        .dies()
        .run("cutback")
        .exits(0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_row_lost();
}

#[test]
fn a_network_that_is_missing_in_the_acl_is_refused() {
    let detour = Detour::new().table("orders").behind_haproxy();
    let acl = detour.balancer().map_file().with_file_name("admin_networks.acl");
    std::fs::write(acl, "10.9.0.0/16\n").expect("the scratch directory can be written");
    let missing = format!("lacks {}", HaProxy::ADMIN_NETWORK);
    detour.run("check").exits(3).finding("haproxy", &missing, "reload HAProxy");
}

#[test]
fn one_that_serves_nobody_is_told_as_such_and_a_key_that_is_gone_comes_back_with_the_switch() {
    let mut detour = Detour::new().table("orders").behind_haproxy().detoured();
    let broken = |detour: Detour, code: i32| detour.run("status").with(&["--check"]).exits(code);
    let first = "/attention/0/check";
    detour = broken(detour, 0);
    detour.balancer_to_break().end();
    detour = broken(detour, 8).reports(first, "router_down").reports("/router/0/down", true);
    detour.balancer_to_break().start();
    detour = broken(detour, 0);
    detour.balancer().ask("disable server target/db2");
    detour = broken(detour, 8).reports(first, "router_down");
    let told = detour.last().text_at("/report/attention/0/message").to_owned();
    assert_eq!(told, "no client is served: backend \"target\" has no server that is up");
    detour.balancer().ask("enable server target/db2");
    detour = broken(detour, 0);
    let map_file = detour.balancer().map_file();
    detour.balancer().ask(&format!("del map {} general", map_file.display()));
    detour = broken(detour, 8).reports(first, "router_drift");
    let hint = detour.last().text_at("/report/attention/0/hint").to_owned();
    assert!(hint.starts_with("Run pgdetour cutover again"), "{hint}");
    detour = detour.run("cutover").exits(0).changed(true).serving(Serving::Target);
    broken(detour, 0).run("cutover").exits(0).changed(false);
}

/// An application server: each request writes a row, through a session to the database of its group.
fn serve(port: &Port, conninfo: String) {
    let listener = TcpListener::bind(("127.0.0.1", port.number())).expect("the port is ours");
    std::thread::spawn(move || {
        let mut session: Option<Client> = None;
        for stream in listener.incoming().flatten() {
            answer(stream, &conninfo, &mut session);
        }
    });
}

fn answer(mut stream: TcpStream, conninfo: &str, session: &mut Option<Client>) {
    let mut request = [0; 4096];
    if stream.read(&mut request).unwrap_or(0) == 0 {
        return;
    }
    // A session that was ended while this group had no requests is replaced, as every pool does.
    if session.as_mut().is_none_or(|client| client.batch_execute("select").is_err()) {
        *session = Client::connect(conninfo, NoTls).ok();
    }
    let insert = "insert into public.requests default values returning inet_server_port()";
    let row = session.as_mut().and_then(|client| client.query_one(insert, &[]).ok());
    let (status, body) = match row {
        Some(row) => ("200 OK", row.get::<_, i32>(0).to_string()),
        None => ("500 Oops", "no".into()),
    };
    let _ = write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

/// What a request through HAProxy's HTTP frontend is answered.
fn request(port: u16) -> String {
    let mut answer = String::new();
    // While HAProxy is started anew, nobody listens.
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return answer };
    let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let _ = asked.and_then(|()| stream.read_to_string(&mut answer).map(drop));
    answer
}

#[test]
fn in_front_of_application_servers_no_request_fails_and_a_reload_that_forgets_is_seen() {
    let applications = [Port::claim(), Port::claim()];
    let mut detour = Detour::new()
        .table("orders")
        .on_source(
            "create table public.requests (id bigint generated always as identity primary key);
             grant insert, select on public.requests to shop_app",
        )
        .behind_haproxy_with([applications[0].number(), applications[1].number()]);
    serve(&applications[0], detour.source.conninfo("shop_app"));
    serve(&applications[1], detour.target.conninfo("shop_app"));
    let both = format!("{}\n{}", detour.balancer().section(), detour.balancer().web_section());
    detour = detour.routed(&both);
    let http = detour.balancer().http_port();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let browser = std::thread::spawn(move || {
        let mut answers = Vec::new();
        while !told.load(Ordering::SeqCst) {
            answers.push(request(http));
            std::thread::sleep(Duration::from_millis(3));
        }
        answers
    });
    detour = detour.run("check").exits(0).mirrored().run("cutover").exits(0).phase("detoured");
    let port = |detour: &Detour, server: &str| match server {
        "source" => detour.source.port().to_string(),
        _ => detour.target.port().to_string(),
    };
    assert!(request(http).ends_with(&port(&detour, "target")));
    assert_eq!(
        map(&detour),
        MAP.replace("general  source", "general  target").replace("web web_source", "web web_target")
    );

    // A reload with files that pgdetour has written changes nothing; one with files from elsewhere is seen.
    detour.balancer_to_break().restart();
    detour = detour.run("status").with(&["--check"]).exits(0);
    let written = map(&detour);
    std::fs::write(detour.balancer().map_file(), written.replace("general  target", "general  source"))
        .expect("ours");
    detour = detour.run("status").with(&["--check"]).exits(3);
    detour.balancer_to_break().restart();
    detour = detour.run("status").with(&["--check"]).exits(8).reports("/router/0/should", "target");
    detour = detour.run("cutover").exits(0).changed(true).run("status").with(&["--check"]).exits(0);
    assert_eq!(map(&detour), written, "the same command has mended it");
    detour = detour.run("cutover").exits(0).changed(false);

    detour = detour.run("replay").exits(0).run("cutback").exits(0).phase("returned");
    assert!(request(http).ends_with(&port(&detour, "source")));
    assert_eq!(map(&detour), MAP, "byte for byte");
    stop.store(true, Ordering::SeqCst);
    let answers = browser.join().expect("every request was answered");
    let failed: Vec<&String> = answers.iter().filter(|answer| !answer.contains("200 OK")).collect();
    // Requests that a killed process had in hand are no fault of a switch.
    let lost = failed.iter().filter(|answer| answer.is_empty()).count();
    assert_eq!(failed.len(), lost, "{failed:?}");
    for server in ["source", "target"] {
        let count = answers.iter().filter(|answer| answer.ends_with(&port(&detour, server))).count();
        assert!(count > 5, "only {count} of {} on the {server}", answers.len());
    }
    let rows: i64 = detour.source.value("select count(*) from public.requests");
    let answered = answers.iter().filter(|answer| answer.contains("200 OK")).count() as i64 + 2;
    assert!(rows >= answered, "{answered} were acknowledged, {rows} are there");
}

#[test]
fn a_part_of_the_requests_moves_by_weight_and_comes_home() {
    let mut detour = Detour::new().table("orders").behind_haproxy();
    let weights = "weights = { \"shared/app1\" = \"64\", \"shared/app2\" = \"192\" }";
    let both = format!("{}\n{}\n{weights}", detour.balancer().section(), detour.balancer().web_section());
    detour = detour.routed(&both);
    let shares = |detour: &Detour| ["app1", "app2"].map(|server| detour.balancer().weight(server));
    let before = shares(&detour);
    assert_eq!(before, ["30 (initial 30)", "0 (initial 0)"]);
    detour = detour.mirrored().run("cutover").with(&["--rehearse", "--no-hold"]).exits(0);
    // What comes back is what they were when clients were moved.
    detour.balancer().ask("set weight shared/app1 40");
    let before = shares(&detour);
    assert_eq!(before, ["40 (initial 30)", "0 (initial 0)"]);
    detour = detour.run("cutover").exits(0).phase("detoured");
    assert_eq!(shares(&detour), ["64 (initial 30)", "192 (initial 0)"]);
    detour = detour.run("status").with(&["--check"]).exits(0);
    // A restart forgets them.
    detour.balancer_to_break().restart();
    detour = detour.run("status").with(&["--check"]).exits(3).reports("/router/1/right", false);
    detour = detour.run("cutover").exits(0).changed(true);
    assert_eq!(shares(&detour), ["64 (initial 30)", "192 (initial 0)"]);
    detour = detour.run("replay").exits(0).run("cutback").exits(0).phase("returned");
    assert_eq!((shares(&detour), map(&detour).as_str()), (before, MAP));
    detour.run("clean").exits(0);
}

#[test]
fn two_processes_move_their_clients_together_or_not_at_all() {
    let mut detour = Detour::new().table("orders").behind_haproxy().writing();
    let folder = detour.directory().join("second");
    std::fs::create_dir(&folder).expect("the scratch directory can be written");
    let ports = [detour.source.port(), detour.target.port()];
    let mut second = HaProxy::start_new(&folder, ports, ports);
    let instances = |text: String| text.split_once("[[router.haproxy]]").expect("it has one").1.to_owned();
    let both = format!("{}\n[[router.haproxy]]{}", detour.balancer().section(), instances(second.section()));
    detour = detour.routed(&both).mirrored();
    let port_behind = |second: &HaProxy| -> i32 {
        let mut client = Client::connect(&second.conninfo("shop_app"), NoTls).expect("it lets clients in");
        client.query_one("select inet_server_port()", &[]).expect("a server answers").get(0)
    };
    assert_eq!(port_behind(&second), i32::from(ports[0]));

    second.end();
    detour = detour.run("cutover").exits(5).phase("mirrored").serving(Serving::Source).no_client_error();
    assert_eq!(map(&detour), MAP);
    second.start();
    // One that goes away while clients are held takes the other back with it.
    let run = detour.start_until("cutover", &["--yes"], "before:decide");
    assert!(run.is_there());
    second.end();
    let answer = run.go_on();
    assert!(matches!(answer.code(), Some(5 | 7)), "{}", answer.describe());
    detour.keep(answer);
    second.start();
    detour = detour.run("cutover").exits(0).phase("detoured").serving(Serving::Target);
    assert_eq!(port_behind(&second), i32::from(ports[1]));
    detour = detour.run("status").with(&["--check"]).exits(0);
    // Somebody moves one of them: the same command brings it back.
    std::fs::write(second.map_file(), MAP).expect("ours");
    second.restart();
    detour = detour.run("status").with(&["--check"]).exits(8).run("cutover").exits(0).changed(true);
    assert_eq!(port_behind(&second), i32::from(ports[1]));

    detour = detour.run("replay").exits(0).run("cutback").exits(0).phase("returned").serving(Serving::Source);
    assert_eq!(port_behind(&second), i32::from(ports[0]));
    let kept = std::fs::read_to_string(second.map_file()).expect("the map can be read");
    assert_eq!((map(&detour).as_str(), kept.as_str()), (MAP, MAP), "home, byte for byte");
    detour.application_goes_on().no_row_lost();
}
