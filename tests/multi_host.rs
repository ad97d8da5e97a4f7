//! Clients of libpq that know both servers (`target_session_attrs=read-write`), moved by a read-only fence and nobody else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::binary;
use crate::support::detour::{Detour, Serving};
use crate::support::postgres::{DATABASE, Postgres};
use crate::support::terminal;
use crate::support::wait::until;

/// What they write: a row each time, and in the same transaction how many there are.
const NOTES: &str = "
create table public.note (client text, number int, primary key (client, number));
create table public.noted (client text primary key, notes int not null);
grant select, insert, update on public.note, public.noted to shop_app;
";

/// All that `ALTER ROLE` and `ALTER DATABASE` have set.
const SETTINGS: &str = "select coalesce(string_agg(line, '; ' order by line), '') from (
    select format('%s in %s: %s', setrole::regrole, (select datname from pg_database where oid = setdatabase), setconfig)
        as line from pg_db_role_setting) as lines";

fn settings(server: &Postgres) -> String {
    server.value(SETTINGS)
}

/// How a client of libpq that knows both finds the one that it can write on, with the first place for one of them.
fn conninfo(first: &Postgres, second: &Postgres, role: &str) -> String {
    format!(
        "host=127.0.0.1,127.0.0.1 port={},{} dbname={DATABASE} user={role} target_session_attrs=read-write",
        first.port(),
        second.port()
    )
}

/// A psql that stays connected for as long as it is let, and writes what it is told.
struct Session {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn start(conninfo: &str) -> Session {
        let mut psql = binary::command("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", conninfo]).env("PGCONNECT_TIMEOUT", "5");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut psql = psql.spawn().expect("psql is installed");
        let (input, output) = (psql.stdin.take().expect("a pipe"), psql.stdout.take().expect("a pipe"));
        Session { psql, input, output: BufReader::new(output) }
    }

    /// The line that a statement answers with; none when the session has ended, and the statement may have been carried out.
    fn ask(&mut self, statement: &str) -> Option<String> {
        writeln!(self.input, "{statement}").ok()?;
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        line.ends_with('\n').then(|| line.trim().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

/// What became of a client's writes.
#[derive(Default)]
struct Log {
    /// Number, and the port of the server that took it.
    acknowledged: Vec<(i32, u16)>,
    in_doubt: Vec<i32>,
}

/// Clients that write until they are stopped.
struct Clients {
    stop: Arc<AtomicBool>,
    logs: Vec<(String, Arc<Mutex<Log>>)>,
    threads: Vec<JoinHandle<()>>,
}

fn locked(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    /// Two in each order of the servers: one that stays connected, and one that connects for each row.
    fn start(detour: &Detour) -> Clients {
        let mut clients = Clients { stop: Arc::default(), logs: Vec::new(), threads: Vec::new() };
        let (source, target) = (&detour.source, &detour.target);
        for (order, first, second) in [("source first", source, target), ("target first", target, source)] {
            for (habit, stays) in [("staying", true), ("coming and going", false)] {
                clients.add(format!("{order}, {habit}"), conninfo(first, second, "shop_app"), stays);
            }
        }
        clients.until_all_have_written_on(source);
        clients
    }

    fn add(&mut self, name: String, conninfo: String, stays: bool) {
        let log: Arc<Mutex<Log>> = Arc::default();
        self.logs.push((name.clone(), Arc::clone(&log)));
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            let mut session = None;
            for number in 1.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let statement = format!(
                    "with counted as (insert into public.noted values ('{name}', 1) on conflict (client) \
                     do update set notes = noted.notes + 1) insert into public.note values ('{name}', {number}) \
                     returning inet_server_port();"
                );
                let answer = session.get_or_insert_with(|| Session::start(&conninfo)).ask(&statement);
                let mut log = locked(&log);
                match answer.and_then(|port| port.parse().ok()) {
                    Some(port) => log.acknowledged.push((number, port)),
                    None => log.in_doubt.push(number),
                }
                if !stays || log.in_doubt.last() == Some(&number) {
                    session = None;
                }
                drop(log);
                std::thread::sleep(Duration::from_millis(10));
            }
        }));
    }

    /// Waits until each of them has written there, anew: nobody but itself has moved it.
    fn until_all_have_written_on(&self, server: &Postgres) {
        for (name, log) in &self.logs {
            let before = locked(log).acknowledged.len();
            until(&format!("the client \"{name}\" writes there"), Duration::from_secs(30), || {
                let log = locked(log);
                let last = log.acknowledged.get(before..)?.last()?;
                (last.1 == server.port()).then_some(())
            });
        }
    }

    /// Nobody writes anywhere else from now on.
    fn stop(mut self) -> Vec<(String, Log)> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
        let logs = self.logs.drain(..);
        logs.map(|(name, log)| (name, std::mem::take(&mut *locked(&log)))).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Every row that was acknowledged is there, once, and none that nobody has tried to write.
fn assert_nothing_is_lost(server: &Postgres, logs: &[(String, Log)]) {
    for (name, log) in logs {
        let rows: Vec<i32> = server.value(&format!(
            "select array_agg(number order by number) from public.note where client = '{name}'"
        ));
        let lost: Vec<_> = log.acknowledged.iter().filter(|(number, _)| !rows.contains(number)).collect();
        assert!(lost.is_empty(), "{name}: {} rows are lost, such as {:?}", lost.len(), lost[0]);
        let tried =
            |row: &&i32| log.in_doubt.contains(row) || log.acknowledged.iter().any(|(it, _)| it == *row);
        assert_eq!(rows.iter().filter(tried).count(), rows.len(), "{name}: rows of nobody");
        let notes: i32 = server.value(&format!("select notes from public.noted where client = '{name}'"));
        assert_eq!(notes as usize, rows.len(), "{name}: what was counted in the same transactions");
        assert!(log.acknowledged.len() > 20, "{name} wrote {} rows only", log.acknowledged.len());
    }
}

fn shop() -> Detour {
    Detour::new().table("orders").on_source(NOTES).fenced_read_only()
}

#[test]
fn clients_of_libpq_move_by_themselves_in_either_order_of_the_servers() {
    // Its own value wins over the fence's in no place but this one.
    let detour = shop().on_source(
        "alter role shop_app in database shop set default_transaction_read_only = 'false';
         alter role shop_app set default_transaction_read_only = off;
         alter database shop set lock_timeout = '9s'",
    );
    let before = [settings(&detour.source), settings(&detour.target)];
    let detour = detour.mirrored();
    // What the source has set for the role is the target's, too, once the fence is lowered there.
    let objects = detour.last().at("/report/objects").as_array().expect("a list of kinds").clone();
    let kept = objects.iter().find(|kind| kind["kind"] == "database setting").expect("it has some");
    assert_eq!((&kept["mirrored"], &kept["unsupported"]), (&2.into(), &0.into()), "{kept}");
    let detour = detour.writing();
    let clients = Clients::start(&detour);
    let detour = detour.run("check").exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("can write on the side that does not serve"), "{warnings}");
    assert!(warnings.contains("target_session_attrs=read-write"), "{warnings}");
    let detour = detour.run("status").with(&["--check"]).exits(0).reports("/fenced/target", true);
    let detour = detour.run("mirror").exits(0).changed(false);

    let detour = detour.run("cutover").exits(0).phase("detoured").reports("/late_writes", 0);
    clients.until_all_have_written_on(&detour.target);
    let mut detour = detour.application_goes_on().serving(Serving::Target);
    detour = detour.run("status").with(&["--check"]).exits(0).reports("/fenced/source", true);
    assert_eq!(settings(&detour.source), before[0].replace("read_only=false", "read_only=on"));
    assert!(settings(&detour.target).contains("read_only=false"), "{}", settings(&detour.target));
    detour = detour.run("replay").exits(0);

    detour = detour.run("cutback").exits(0).phase("returned").reports("/late_writes", 0);
    clients.until_all_have_written_on(&detour.source);
    detour = detour.application_goes_on().serving(Serving::Source);
    assert_eq!(settings(&detour.source), before[0]);
    detour = detour.run("status").with(&["--check"]).exits(0).reports("/fenced/target", true);
    // A session is ended, or finds no server that can be written for a moment; nothing else.
    for error in detour.client_errors() {
        let code = error.sqlstate.as_deref();
        assert!(matches!(code, None | Some("57P01")), "{error}");
    }
    let logs = clients.stop();
    assert_nothing_is_lost(&detour.source, &logs);
    detour = detour.no_row_lost();
    detour = detour.run("clean").with(&["--drop-data"]).exits(0).phase("absent");
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
}

#[test]
fn a_switch_that_is_taken_back_leaves_the_source_writable_and_the_target_not() {
    let mut detour = shop().mirrored().writing();
    let before = [settings(&detour.source), settings(&detour.target)];
    assert!(before[1].contains("{default_transaction_read_only=on}"), "{}", before[1]);
    let mut busy = detour.source.client("shop_app");
    busy.batch_execute("begin; insert into public.orders (note) values ('busy')").expect("the source serves");
    detour = detour.run("cutover").with(&["--max-pause", "2s"]).exits(6).phase("mirrored");
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
    busy.batch_execute("commit").expect("nobody has ended it");
    detour = detour.application_goes_on();
    detour = detour.run("cutover").with(&["--rehearse"]).exits(0);
    busy.batch_execute("select 1").expect("a rehearsal ends no session");
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
    let plan = detour.ask("cutover", &["--dry-run"]);
    let fence = plan.at("/report/steps").as_array().expect("a list of steps").iter();
    let fence: Vec<String> = fence
        .filter(|step| step["name"] == "fence source" || step["name"] == "point router to target")
        .map(|step| step["actions"].to_string())
        .collect();
    let role = r#"alter role \"shop_app\" in database \"shop\""#;
    assert!(fence[0].contains(&format!("{role} set default_transaction_read_only = on")), "{fence:?}");
    assert!(fence[1].contains(&format!("{role} reset default_transaction_read_only")), "{fence:?}");
    detour = detour.run("cutover").exits(0).phase("detoured");
    detour.run("cutback").exits(0).no_row_lost();
}

#[test]
fn nobody_is_asked_to_move_clients_that_move_by_themselves() {
    let detour = shop().mirrored();
    let configuration = detour.configuration().display().to_string();
    let line = format!("{} cutover --config {configuration}", env!("CARGO_BIN_EXE_pgdetour"));
    let mut typed = terminal::start(&line);
    typed.stdin.take().expect("a pipe").write_all(b"y\n").expect("it reads what is typed");
    let mut shown = Vec::new();
    typed.stdout.take().expect("a pipe").read_to_end(&mut shown).expect("the screen can be read");
    let shown = String::from_utf8_lossy(&shown);
    assert_eq!(typed.wait().expect("it ends").code(), Some(0), "{shown}");
    assert!(
        shown.contains("The target lets clients write") && shown.contains("move by themselves"),
        "{shown}"
    );
    assert!(!shown.contains("Press Enter") && !shown.contains("point them"), "{shown}");
    assert_eq!(detour.who_really_serves(), Serving::Target);
}

#[test]
fn who_stays_on_the_side_that_does_not_serve_is_seen() {
    let mut detour = shop().detoured().run("status").with(&["--check"]).exits(0);
    // One that is content with reading, and one that writes whatever the fence says.
    let mut reader = detour.source.client("shop_app");
    reader.batch_execute("select count(*) from public.orders").expect("it may read");
    let refused = reader.batch_execute("delete from public.orders").expect_err("and nothing else");
    assert_eq!(refused.code().map(postgres::error::SqlState::code), Some("25006"));
    detour = detour.run("status").with(&["--check"]).exits(3).reports("/attention/0/check", "wrong_side");
    drop(reader);
    let mut writer = detour.source.client("shop_app");
    writer.batch_execute("set default_transaction_read_only = off").expect("everybody may");
    let insert = "insert into public.orders (note) values ('on the wrong side')";
    writer.batch_execute(insert).expect("this is what check warns of");
    detour = detour.run("status").with(&["--check"]).exits(3).reports("/wrong_side/0/side", "source");
    drop(writer);
    // Somebody takes the fence away.
    let reset = "alter role shop_app in database shop reset default_transaction_read_only";
    detour = detour.on_source(reset).run("status").with(&["--check"]).exits(3);
    detour = detour.reports("/attention/0/check", "fence").reports("/fenced/source", false);
    let hint = detour.last().text_at("/report/attention/0/hint").to_owned();
    assert!(hint.contains("Run pgdetour cutover again"), "{hint}");
    detour = detour.run("cutover").exits(0).changed(true).run("status").with(&["--check"]).exits(0);

    // The target stays in service, and the source as it was left.
    detour = detour.run("clean").with(&["--stay"]).exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("the source stays read-only for") && warnings.contains("RESET"), "{warnings}");
    assert_eq!(settings(&detour.target), "");
    assert!(settings(&detour.source).contains("default_transaction_read_only=on"));
    assert_eq!(detour.who_really_serves(), Serving::Target);
    detour = detour.run("status").with(&["--check"]).exits(0).reports("/serving", "target");
    // The next detour would take that for a setting of somebody's own.
    detour.run("check").exits(3).finding("shop_app", "is on for it", "RESET default_transaction_read_only");
}

#[test]
fn a_run_that_dies_at_any_of_its_fences_is_gone_on_with() {
    let mut detour = shop();
    let before = [settings(&detour.source), settings(&detour.target)];
    for fault in ["before:fence target", "after:fence target"] {
        detour = detour.run("mirror").fault(fault).dies();
    }
    // The first copy that is given up leaves no fence.
    detour = detour.run("clean").exits(0);
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
    detour = detour.mirrored().writing();
    for fault in [
        "after:plan to close the target",
        "after:fence target",
        "before:fence source",
        "after:fence source",
        "after:drain to the marker",
        "before:decide",
    ] {
        detour = detour.run("cutover").fault(fault).dies();
        let is_fenced = settings(&detour.target).contains("default_transaction_read_only=on");
        assert!(is_fenced, "nobody writes on the target at {fault}");
    }
    detour = detour.run("cutover").fault("after:decide").dies();
    detour = detour.run("cutover").fault("after:point router to target").dies();
    detour = detour.run("cutover").exits(0).phase("detoured").application_goes_on();
    assert_eq!(detour.who_really_serves(), Serving::Target);
    for fault in
        ["after:plan the fence", "after:fence target", "after:end open transactions", "before:decide"]
    {
        detour = detour.run("cutback").fault(fault).dies();
    }
    detour = detour.run("cutback").fault("after:decide").dies();
    detour = detour.run("cutback").fault("after:open source").dies();
    detour = detour.run("cutback").exits(0).phase("returned").application_goes_on();
    assert_eq!(settings(&detour.source), before[0]);
    detour = detour.run("clean").fault("after:lower the fences").dies();
    detour = detour.run("clean").exits(0).no_row_lost();
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
}

#[test]
fn a_run_that_is_killed_between_two_fences_leaves_clients_that_go_on_by_themselves() {
    let mut detour = shop().mirrored().writing();
    for (command, at, phase, serving) in [
        ("cutover", "after:fence source", "mirrored", Serving::Source),
        ("cutover", "after:decide", "detoured", Serving::Target),
        ("cutback", "after:fence target", "detoured", Serving::Target),
        ("cutback", "after:decide", "returned", Serving::Source),
    ] {
        let run = detour.start_until(command, &["--yes"], at);
        assert!(run.is_there(), "{command} never came to {at}");
        run.signal(Signal::KILL);
        // Its end is that of the guardian, which has the same standard error.
        let answer = run.go_on();
        assert!(answer.stderr.contains("the run that held clients is gone"), "{}", answer.describe());
        detour.keep(answer);
        detour = detour.run("status").with(&["--check"]).exits(0).phase(phase).application_goes_on();
        assert_eq!(detour.who_really_serves(), serving, "{command} {at}");
    }
    detour.run("clean").exits(0).no_row_lost();
}

#[test]
fn another_kind_of_fence_in_the_configuration_forgets_none_that_stands() {
    let closed = "[router]\nkind = \"none\"";
    let read_only = "fence = \"read-only\"\n[router]\nkind = \"none\"";
    // Made closed, then read-only: the mirror run again raises what is missing.
    let mut detour = shop().routed(closed);
    let before = [settings(&detour.source), settings(&detour.target)];
    detour = detour.mirrored().run("status").with(&["--check"]).exits(0).routed(read_only);
    detour = detour.run("status").with(&["--check"]).exits(3).reports("/attention/0/object", "target");
    detour = detour.run("mirror").exits(0).changed(true).run("mirror").exits(0).changed(false);
    detour = detour.run("status").with(&["--check"]).exits(0).reports("/fenced/target", true);

    // A role that is general traffic for a while only gets its own back.
    let file = detour.configuration();
    let text = std::fs::read_to_string(&file).expect("it can be read");
    std::fs::write(&file, text.replace("[\"shop_app\"]", "[\"shop_app\", \"shop_limited\"]"))
        .expect("it can be written");
    detour = detour.run("mirror").exits(0).changed(true);
    assert_eq!(settings(&detour.target).matches("read_only=on").count(), 2);
    detour = detour.routed(read_only).run("mirror").exits(0).changed(true);
    let standing = settings(&detour.target);
    assert!(standing.matches("read_only=on").count() == 1 && standing.contains("shop_app"), "{standing}");
    detour = detour.routed(closed).run("cutover").fault("after:plan to close the target").dies();
    assert_eq!(settings(&detour.target), standing, "it stands until the target serves");

    // Read-only, then closed at the cutover, then read-only again for the way home.
    detour = detour.routed(closed).run("cutover").exits(0).phase("detoured");
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
    assert!(detour.source.try_client("shop_app").is_err(), "the source is closed");
    assert_eq!(detour.who_really_serves(), Serving::Target);
    detour = detour.routed(read_only).run("status").with(&["--check"]).exits(0);
    detour = detour.run("cutback").exits(0).phase("returned");
    assert_eq!(detour.who_really_serves(), Serving::Source);
    assert!(settings(&detour.target).contains("default_transaction_read_only=on"));
    detour = detour.routed(closed).run("clean").exits(0);
    assert_eq!([settings(&detour.source), settings(&detour.target)], before);
}

#[test]
fn a_router_that_is_configured_after_the_mirror_finds_the_target_writable() {
    let mut detour = shop().mirrored();
    let section = detour.pooler().console_conninfo();
    let file = detour.pooler().databases_file();
    let target = crate::support::pgbouncer::entry(detour.target.port());
    detour = detour.routed(&format!(
        "[router]\nkind = \"pgbouncer\"\n[[router.pgbouncer]]\nadmin = \"{section}\"\ndatabase = \"shop\"\n\
         config = \"{}\"\ntarget = \"{target}\"",
        file.display()
    ));
    detour = detour.run("cutover").exits(0).phase("detoured");
    assert_eq!(settings(&detour.target), "");
    detour
        .target
        .client("shop_app")
        .batch_execute("insert into public.orders (note) values ('x')")
        .expect("it serves");
}
