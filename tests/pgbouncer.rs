//! The trip through PgBouncer in the shapes that it has in the field.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::admin::Admin;
use crate::support::detour::{Detour, Serving, quoted};
use crate::support::disk::{Disk, MountedFile};
use crate::support::pgbouncer::{PgBouncer, entry};
use crate::support::postgres::DATABASE;
use crate::support::scratch::{SERVER_USER, give_to_server_user, write_as_server_user};
use crate::support::wait::until;

/// `[[router.pgbouncer]]` of one process.
fn section(console: &str, file: &Path, target: &str, more: &str) -> String {
    format!(
        "[[router.pgbouncer]]\nadmin = {}\ndatabase = \"{DATABASE}\"\nconfig = {}\ntarget = {}\n{more}\n",
        quoted(console),
        quoted(&file.display().to_string()),
        quoted(target)
    )
}

fn clients(pooler: &PgBouncer) -> usize {
    let shop = |row: &&Vec<(String, String)>| row.contains(&("database".into(), DATABASE.into()));
    pooler.console("show clients").iter().filter(shop).count()
}

#[test]
fn processes_that_share_a_port_move_together_and_look_passwords_up_on_the_side_that_serves() {
    const PASSWORD: &str = "the-application";
    let set = format!("alter role shop_app password '{PASSWORD}'");
    let mut detour = Detour::new()
        .table("orders")
        .on_source(
            "create role lookup login;
             create function public.lookup(name text) returns table (usename text, passwd text)
             language sql security definer set search_path = '' as
             $$ select s.usename::text, s.passwd from pg_catalog.pg_shadow as s where s.usename = name $$;
             revoke all on function public.lookup(text) from public;
             grant execute on function public.lookup(text) to lookup",
        )
        .on_source(&set)
        .on_target(&set);
    detour.pooler().look_passwords_up(PASSWORD);
    detour.pooler().reconfigure("so_reuseport = 1");
    let peer = detour.pooler().start_peer();
    let file = detour.pooler().databases_file();
    let target = entry(detour.target.port());
    let by_port = [&*detour.pooler(), &peer].map(|one| section(&one.console_conninfo(), &file, &target, ""));
    detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{}", by_port.concat()));
    detour = detour.run("check").exits(2).message("two [[router.pgbouncer]] are for database \"shop\"");
    detour = detour.hint("its own Unix socket");
    let consoles = [detour.pooler().own_console(), peer.own_console()];
    let both = consoles.map(|console| section(&console, &file, &target, "")).concat();
    detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{both}"));
    let original = std::fs::read(&file).expect("the file can be read");

    detour =
        detour.run("check").exits(3).finding("lookup", "may not connect to the target", "as on the source");
    detour = detour.on_target("create role lookup login").run("check").exits(0).writing();
    assert!(!detour.last().describe().contains("router_so_reuseport"), "{}", detour.last().describe());
    // The kernel spreads connections over the processes; both have some.
    let mut held = Vec::new();
    while clients(&peer) == 0 || clients(detour.pooler()) == 0 {
        assert!(held.len() < 60, "one process gets no client");
        held.push(detour.application_client());
    }
    detour = detour.mirrored().run("cutover").exits(0).serving(Serving::Target).application_goes_on();
    for pooler in [&peer, &*detour.pooler()] {
        assert_eq!(pooler.database("port"), target.split("port=").nth(1).map_or("", |rest| &rest[..5]));
        assert_eq!(pooler.database("paused"), "0");
    }
    for client in &mut held {
        client
            .batch_execute("insert into public.orders (note) values ('held')")
            .expect("no client was dropped");
    }
    // Somebody who comes only now is looked up on the target.
    detour = detour.application("insert into public.orders (note) values ('new')");
    detour = detour.run("status").with(&["--check"]).exits(0).reports("/router/1/right", true);
    detour =
        detour.run("replay").exits(0).run("cutback").exits(0).serving(Serving::Source).application_goes_on();
    assert_eq!(std::fs::read(&file).expect("the file can be read"), original, "byte for byte");
    let came_home = "select count(*) from public.orders where note in ('held', 'new')";
    assert_eq!(detour.source.value::<i64>(came_home), held.len() as i64 + 1);
    detour.no_client_error().no_row_lost();
}

#[test]
fn a_file_elsewhere_is_replaced_by_a_command_and_a_second_database_is_the_lane_of_admins() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source("create table public.maintenance (id serial primary key, port int not null)")
        .on_source("grant insert on public.maintenance to shop_limited; grant usage on sequence public.maintenance_id_seq to shop_limited")
        .configured("[mirror]\nexclude = [\"public.maintenance\"]");
    let file = detour.pooler().databases_file();
    let lane = format!("; the DBAs' own way in\nlane = {} pool_size=2\n", entry(detour.source.port()));
    let entries = std::fs::read_to_string(&file).expect("the file can be read") + &lane;
    std::fs::write(&file, &entries).expect("the file can be written");
    detour.pooler().console("reload");
    let before = std::fs::metadata(&file).expect("it is there");

    // Through a path that only the command can resolve: pgdetour itself cannot get at the file.
    let command = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/replace-file");
    let elsewhere = file.with_file_name("not-here.ini");
    let wrapper = file.with_file_name("elsewhere");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {log}\nexec {} \"$1\" {}\n",
        command.display(),
        file.display(),
        log = wrapper.with_extension("log").display()
    );
    std::fs::write(&wrapper, script).expect("it can be written");
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let more = format!("file_command = [\"sh\", {}]", quoted(&wrapper.display().to_string()));
    let console = detour.pooler().console_conninfo();
    let target = entry(detour.target.port());
    let router = section(&console, &elsewhere, &target, &more);
    detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{router}")).writing();

    let port = detour.pooler().port();
    let admin = Admin::start(&format!("host=127.0.0.1 port={port} dbname=lane user=shop_limited"));
    detour = detour.run("check").exits(0).mirrored().run("cutover").exits(0).serving(Serving::Target);
    let now = std::fs::read_to_string(&file).expect("the file can be read");
    assert!(now.contains(&target) && now.ends_with(&lane), "{now}");
    detour = detour.run("status").with(&["--check"]).exits(0).application_goes_on();
    detour = detour.run("replay").exits(0).run("cutback").exits(0).serving(Serving::Source);
    assert_eq!(std::fs::read_to_string(&file).expect("the file can be read"), entries, "byte for byte");
    let after = std::fs::metadata(&file).expect("it is there");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));

    let written = admin.stop();
    assert!(written > 20, "only {written}");
    let on_source = format!("select count(*) from public.maintenance where port = {}", detour.source.port());
    assert_eq!(detour.source.value::<i64>(&on_source), written, "the admin never left the source");
    let calls = std::fs::read_to_string(wrapper.with_extension("log")).expect("it was called");
    assert!(["check ", "read ", "write "].iter().all(|call| calls.contains(call)), "{calls}");
    assert!(!calls.contains("host="), "what is written is in no argument: {calls}");
    detour.no_client_error().no_row_lost();
}

/// Past the decision it would be too late.
#[test]
fn a_file_that_there_is_no_room_for_is_named_before_anybody_is_held() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let folder = detour.configuration().with_file_name("etc");
    let Some(disk) = Disk::mount(&folder, "64k", "a router's disk full") else { return };
    give_to_server_user(&folder);
    let file = detour.pooler().databases_file();
    let elsewhere = disk.path().join("databases.ini");
    std::fs::copy(&file, &elsewhere).expect("there is room");
    give_to_server_user(&elsewhere);
    std::fs::remove_file(&file).expect("ours");
    std::os::unix::fs::symlink(&elsewhere, &file).expect("ours");
    let by_program =
        format!("file_command = [{:?}]", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/replace-file"));
    let (console, target) = (detour.pooler().console_conninfo(), entry(detour.target.port()));
    for more in ["", &by_program] {
        let section = section(&console, &file, &target, more);
        detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{section}"));
        disk.fill();
        detour = detour.run("check").exits(3).finding("databases.ini", "cannot be replaced", "room for them");
        detour =
            detour.run("cutover").exits(3).phase("mirrored").serving(Serving::Source).application_goes_on();
        disk.clear();
    }
    detour = detour.run("cutover").exits(0).run("replay").exits(0);
    disk.fill();
    detour = detour.run("cutback").exits(3).phase("detoured").serving(Serving::Target).application_goes_on();
    disk.clear();
    detour = detour.run("cutback").exits(0).application_goes_on().no_client_error().no_row_lost();
    // The folder that it is in goes with the detour.
    drop(disk);
    drop(detour);
}

/// As in a container: its folder can be written, and a rename to it is refused.
#[test]
fn a_file_that_is_mounted_by_itself_is_named_before_anybody_is_held() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let file = detour.pooler().databases_file();
    let by_program =
        format!("file_command = [{:?}]", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/replace-file"));
    let (console, target) = (detour.pooler().console_conninfo(), entry(detour.target.port()));
    let mut mounted = None;
    for (more, hint) in [(by_program.as_str(), ""), ("", "Mount its folder instead")] {
        let section = section(&console, &file, &target, more);
        detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{section}"));
        mounted = mounted.or_else(|| MountedFile::mount(&file, "a router's file that is mounted"));
        if mounted.is_none() {
            return;
        }
        for (command, arguments) in [("check", &[][..]), ("cutover", &["--rehearse"]), ("cutover", &[])] {
            detour = detour.run(command).with(arguments).exits(3).phase("mirrored");
            detour = detour.finding("databases.ini", "a mount of its own", hint);
        }
        detour = detour.serving(Serving::Source).application_goes_on();
    }
    drop(mounted);
    detour = detour.run("cutover").exits(0).run("replay").exits(0);
    let mounted = MountedFile::mount(&file, "nothing").expect("as before");
    detour = detour.run("cutback").exits(3).phase("detoured").serving(Serving::Target).application_goes_on();
    drop(mounted);
    detour.run("cutback").exits(0).application_goes_on().no_client_error().no_row_lost();
}

/// What comes back is the entry as it was when clients were moved, not as an earlier run has found it.
#[test]
fn an_entry_that_was_edited_after_a_rehearsal_comes_back_as_edited() {
    let detour = Detour::new().table("orders").writing().mirrored();
    let mut detour = detour.run("cutover").with(&["--rehearse", "--no-hold"]).exits(0);
    let file = detour.pooler().databases_file();
    let before = std::fs::read_to_string(&file).expect("the file can be read");
    let edited = before.replacen("port=", "pool_size=7 port=", 1);
    assert_ne!(before, edited);
    std::fs::write(&file, &edited).expect("the file can be written");
    detour.pooler().console("reload");
    let detour = detour.run("cutover").exits(0).run("replay").exits(0).run("cutback").exits(0);
    assert_eq!(std::fs::read_to_string(&file).expect("the file can be read"), edited, "byte for byte");
    detour.application_goes_on().no_client_error().no_row_lost();
}

/// The entry leads to where `[source]` does at the cutover, whatever a rehearsal before it was given.
#[test]
fn a_source_that_is_named_otherwise_after_a_rehearsal_has_not_moved() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    detour = detour.run("cutover").with(&["--rehearse", "--no-hold"]).exits(0);
    let otherwise = detour.source.conninfo("dba").replace("127.0.0.1", "localhost");
    detour = detour.source_is(&otherwise).run("cutover").exits(0).run("replay").exits(0);
    let detour = detour.run("cutback").exits(0).serving(Serving::Source);
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn a_source_that_has_moved_is_not_come_home_to_by_the_entry_of_before() {
    let mut detour = Detour::new().table("orders").writing().detoured().run("replay").exits(0);
    let moved = detour.source.conninfo("dba").replace("127.0.0.1", "localhost");
    detour = detour.source_is(&moved);
    for command in ["check", "cutback"] {
        let hint = "Write source = ";
        detour = detour.run(command).exits(3).changed(false).finding("of shop", "led to 127.0.0.1:", hint);
    }
    detour = detour.serving(Serving::Target).no_client_error();
    detour = detour.source_has_moved().source_is(&moved).run("cutback").exits(0);
    detour.serving(Serving::Source).application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn a_pooler_that_waits_long_after_a_failed_login_keeps_nobody_waiting_and_has_its_setting_back() {
    let mut detour = Detour::new().table("orders");
    detour.pooler().reconfigure("server_login_retry = 60");
    detour = detour.writing().mirrored().run("cutover").exits(0);
    assert_eq!(detour.pooler().setting("server_login_retry"), "60");
    // As a run leaves it that dies the moment that clients go on.
    detour.pooler().console("SET server_login_retry = 0");
    detour = detour.serving(Serving::Target).application_goes_on().run("cutback").exits(0);
    assert_eq!(detour.pooler().setting("server_login_retry"), "60");
    detour = detour.serving(Serving::Source).application_goes_on();
    detour.no_client_error().no_row_lost();
}

/// A detour through two poolers with a file each, the second of them in its own hands.
fn with_two_poolers() -> (Detour, PgBouncer) {
    let mut detour = Detour::new().table("orders");
    let folder = detour.directory().join("second");
    std::fs::create_dir(&folder).expect("the scratch directory can be written");
    let second = PgBouncer::start_new(&folder, detour.source.port());
    let target = entry(detour.target.port());
    let both = [&*detour.pooler(), &second]
        .map(|pooler| section(&pooler.own_console(), &pooler.databases_file(), &target, ""))
        .concat();
    (detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{both}")), second)
}

/// The server to which the pooler takes a client, if it lets one in.
fn server_behind(pooler: &PgBouncer) -> Option<i32> {
    let mut client = postgres::Client::connect(&pooler.conninfo("shop_app"), postgres::NoTls).ok()?;
    Some(client.query_one("select pg_catalog.inet_server_port()", &[]).ok()?.get(0))
}

#[test]
fn a_finished_switch_that_is_run_again_while_a_pooler_is_away_moves_nobody() {
    let (detour, mut second) = with_two_poolers();
    let mut detour = detour.writing().mirrored().run("cutover").exits(0).serving(Serving::Target);
    for (command, phase, side) in
        [("cutover", "detoured", Serving::Target), ("cutback", "returned", Serving::Source)]
    {
        if command == "cutback" {
            detour = detour.run("cutback").exits(0).serving(side);
        }
        let port = i32::from(detour.serving_server().port());
        second.kill();
        detour = detour.run(command).exits(5).changed(false).phase(phase).serving(side).application_goes_on();
        second.start();
        assert_eq!(server_behind(&second), Some(port), "its file is as it was");
        detour = detour.run(command).exits(0).changed(false).phase(phase);
    }
    detour.no_client_error().no_row_lost();
}

#[test]
fn a_pooler_that_dies_past_the_decision_keeps_no_client_of_the_other_and_follows_when_it_is_back() {
    let (detour, mut second) = with_two_poolers();
    let mut detour = detour.writing().mirrored();
    for (command, phase, at) in
        [("cutover", "detoured", "after:decide"), ("cutback", "returned", "after:open source")]
    {
        let run = detour.start_until(command, &["--yes"], at);
        assert!(run.is_there());
        second.kill();
        let answer = run.go_on();
        assert_eq!(answer.code(), Some(7), "{}", answer.describe());
        let side = if command == "cutover" { "target" } else { "source" };
        assert_eq!(answer.text_at("/serving"), side, "{}", answer.describe());
        let told = answer.at("/warnings").to_string();
        assert!(told.contains("have gone on there") && told.contains("are not served until"), "{told}");
        detour.keep(answer);
        detour = detour.application_goes_on();
        second.start();
        until("what was left is finished", Duration::from_secs(60), || {
            (detour.ask("status", &[]).text_at("/phase") == phase).then_some(())
        });
        let port = i32::from(detour.serving_server().port());
        assert_eq!(server_behind(&second), Some(port));
        detour = detour.run(command).exits(0).changed(false).phase(phase);
    }
    detour.no_client_error().no_row_lost();
}

/// The fence and the restrictions know the application by the roles that are named.
#[test]
fn a_role_that_an_entry_makes_of_all_clients_and_nobody_has_named_is_refused() {
    let rights = "create role web_app login; grant all on all tables in schema public to web_app";
    let detour = Detour::new().table("orders").on_source(rights).on_target("create role web_app login");
    let mut detour = detour.logging_in_as("shop_app", "web_app").mirrored();
    for command in ["check", "cutover"] {
        let message = "all its clients are \"web_app\" on the target";
        detour = detour.run(command).exits(3).finding("pgbouncer", message, "under traffic.roles");
    }
    detour = detour.serving(Serving::Source);
    // The other way round: whom the entry that clients have now makes of them.
    let detour = detour.logging_in_as("web_app", "shop_app");
    detour.run("check").exits(3).finding("pgbouncer", "\"web_app\" on the source", "under traffic.roles");
}

#[test]
fn a_role_of_a_restriction_that_an_entry_makes_of_all_clients_is_restricted_and_fenced() {
    let rights = "create role web_app login; grant all on all tables in schema public to web_app";
    let detour =
        Detour::new().table("orders").table("users").on_source(rights).on_target("create role web_app login");
    let detour = detour.configured("[[restrict]]\ntables = [\"public.users\"]\nroles = [\"web_app\"]\n");
    let detour = detour.logging_in_as("shop_app", "web_app").mirrored().run("check").exits(0);
    let detour = detour.run("restrict").exits(0).run("cutover").exits(0).run("cutback").exits(0);
    let may_connect = "select has_database_privilege('web_app', current_database(), 'connect')";
    assert!(!detour.target.value::<bool>(may_connect));
    assert!(detour.source.value::<bool>(may_connect));
}

#[test]
fn what_pools_sessions_on_either_side_or_for_the_application_is_refused_before_anybody_is_held() {
    let mut detour = Detour::new().table("orders");
    let (file, console) = (detour.pooler().databases_file(), detour.pooler().console_conninfo());
    let target = entry(detour.target.port());
    let router =
        |target: &str| format!("[router]\nkind = \"pgbouncer\"\n{}", section(&console, &file, target, ""));
    let detour = detour.routed(&router(&format!("{target} pool_mode=session")));
    let detour = detour.run("check").exits(3).finding(
        "pgbouncer",
        "\"target\" pools sessions",
        "pool_mode=transaction",
    );
    let mut detour = detour.routed(&router(&target)).run("check").exits(0);
    detour.pooler().reconfigure("[users]\nshop_app = pool_mode=session");
    detour.run("check").exits(3).finding("pgbouncer", "user \"shop_app\" pools sessions", "under [users]");
}

/// `PgBouncer` goes by the last one that it reads.
#[test]
fn an_entry_that_stands_in_another_file_too_is_refused_before_anybody_is_held() {
    let mut detour = Detour::new().table("orders").mirrored();
    let again = format!("{DATABASE} = {}", entry(detour.source.port()));
    detour.pooler().reconfigure(&format!("[databases]\n{again}"));
    for arguments in [&["--rehearse"][..], &[]] {
        detour = detour.run("cutover").with(arguments).exits(3);
        detour = detour.finding("databases.ini", "pgbouncer.ini:", "remove");
    }
    detour.run("check").exits(3).serving(Serving::Source);
}

/// The main file, and the text that it had.
fn main_file(pooler: &PgBouncer) -> (PathBuf, String) {
    let path = pooler.databases_file().with_file_name("pgbouncer.ini");
    let text = std::fs::read_to_string(&path).expect("it can be read");
    (path, text)
}

/// A line that nobody but PgBouncer can follow, who knows its working directory: so that what it reads is not known from here.
fn known_to_pgbouncer_alone(pooler: &PgBouncer) -> String {
    let empty = pooler.databases_file().with_file_name("empty.ini");
    write_as_server_user(&empty, ";\n");
    format!("%include {}\n", empty.strip_prefix("/").expect("an absolute path").display())
}

fn shows_no_proof(pooler: &PgBouncer) -> bool {
    let rows = pooler.console("show databases");
    !rows.iter().flatten().any(|(_, value)| value.contains("pgdetour_proof"))
}

/// It shows with the next RELOAD only, which would be the one past the decision.
#[test]
fn an_old_mistake_in_its_files_is_found_before_anybody_is_held() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let file = detour.pooler().databases_file();
    let (main, right) = main_file(detour.pooler());
    let unseen = known_to_pgbouncer_alone(detour.pooler());
    let before = std::fs::read(&file).expect("the file can be read");
    let number = std::fs::metadata(&file).expect("it is there").ino();
    for (mistake, told) in [
        ("pool_mode = foo", "pool_mode = foo"),
        ("max_client_conn = 10x", "max_client_conn = 10x"),
        ("no_such_key = 1", "\"no_such_key\""),
        ("default_pool_size 5", "setting without \"=\""),
        ("[databases]\ncrmx = host=1.1.1.1 port=x", "port \"x\""),
    ] {
        write_as_server_user(&main, &format!("{right}{mistake}\n"));
        detour = detour.run("check").exits(3).finding("pgbouncer", told, "run RELOAD");
    }
    detour = detour.run("cutover").exits(3).kind("checks_failed");

    // What was set by hand is neither lost nor what a mistake makes of it.
    detour.pooler().console("SET query_wait_timeout = '77'");
    let settings = detour.pooler().console("show config");
    let mistake = "[pgbouncer]\nmax_client_conn = 10x\n";
    let entry = "[databases]\ncrmx = hots=1.1.1.1\n";
    for (text, told) in [
        (format!("{unseen}{mistake}{right}"), "has no effect"),
        (format!("{unseen}{entry}{right}"), "has no effect"),
        (format!("{unseen}{right}{mistake}"), "does not read all of its configuration"),
        (format!("{unseen}{right}{entry}"), "does not read all of its configuration"),
    ] {
        write_as_server_user(&main, &text);
        detour = detour.run("check").exits(0);
        for arguments in [&["--rehearse"][..], &["--rehearse", "--no-hold"], &[]] {
            detour = detour.run("cutover").with(arguments).exits(3).phase("mirrored").message(told);
            detour = detour.hint("See its log");
            assert_eq!(detour.pooler().console("show config"), settings, "{text}");
        }
        detour = detour.serving(Serving::Source).application_goes_on();
        assert_eq!(std::fs::read(&file).expect("the file can be read"), before, "byte for byte");
        assert_eq!(std::fs::metadata(&file).expect("it is there").ino(), number, "the very same file");
    }
    write_as_server_user(&main, &right);
    detour = detour.run("cutover").exits(0).run("replay").exits(0);
    assert!(shows_no_proof(detour.pooler()));
    // The way home is proven as well.
    write_as_server_user(&main, &format!("{unseen}{mistake}{right}"));
    detour = detour.run("cutback").exits(3).phase("detoured").message("has no effect");
    detour = detour.serving(Serving::Target).application_goes_on();
    write_as_server_user(&main, &right);
    let mut detour = detour.run("cutback").exits(0).serving(Serving::Source);
    assert!(shows_no_proof(detour.pooler()));
    assert_eq!(std::fs::read(&file).expect("the file can be read"), before, "byte for byte");
    detour.no_client_error().no_row_lost();
}

/// As with a file that is mounted alone into a container: what takes its place is not what PgBouncer goes on to read.
#[test]
fn a_file_that_pgbouncer_does_not_really_read_is_found_before_anybody_is_held() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let file = detour.pooler().databases_file();
    let (main, right) = main_file(detour.pooler());
    let unseen = known_to_pgbouncer_alone(detour.pooler());
    let inside = file.with_file_name("inside.ini");
    std::fs::hard_link(&file, &inside).expect("ours");
    let number = std::fs::metadata(&file).expect("it is there").ino();
    let by_other_name = |name: &str| right.replace("/databases.ini", name);
    write_as_server_user(&main, &format!("{unseen}{}", by_other_name("/inside.ini")));
    detour.pooler().console("reload");
    detour = detour.run("check").exits(0);
    for arguments in [&["--rehearse"][..], &[]] {
        detour = detour.run("cutover").with(arguments).exits(3).phase("mirrored").message("has no effect");
        detour = detour.hint("mount the folder of").serving(Serving::Source).application_goes_on();
        assert_eq!(std::fs::metadata(&file).expect("it is there").ino(), number, "still the one it reads");
    }
    // Another entry that comes later, where nobody but PgBouncer can see it.
    let again = format!("[databases]\n{DATABASE} = {}\n", entry(detour.source.port()));
    write_as_server_user(&main, &format!("{unseen}{right}{again}"));
    detour.pooler().console("reload");
    detour = detour.run("cutover").exits(3).phase("mirrored").message("by another entry of \"shop\"");
    detour = detour.serving(Serving::Source);
    write_as_server_user(&main, &right);
    detour.pooler().console("reload");
    detour.run("cutover").exits(0).run("cutback").exits(0).no_client_error().no_row_lost();
}

#[test]
fn a_proof_that_was_cut_short_is_taken_back_by_whatever_comes_next() {
    let mut detour = Detour::new().table("orders");
    let file = detour.pooler().databases_file();
    let limited = format!("[databases]\n{DATABASE} = {} max_db_connections=9\n", entry(detour.source.port()));
    write_as_server_user(&file, &limited);
    detour.pooler().console("reload");
    let text = || std::fs::read_to_string(&file).expect("the file can be read");
    let names = || std::fs::read_dir(file.parent().expect("a folder")).expect("it can be read").count();
    let number_of_names = names();
    let dies = |detour: Detour, command: &str, limit: &str| {
        let mut detour = detour.run(command).fault("in:prove the router").dies();
        assert!(text().contains("\n;pgdetour-proof "), "{}", text());
        assert_eq!(detour.pooler().database("max_connections"), limit);
        detour.application_goes_on()
    };
    // The same command.
    detour = detour.writing().mirrored();
    detour = dies(detour, "cutover", "10").run("status").exits(0).phase("mirrored");
    detour = detour.run("check").exits(0).run("cutover").exits(0);
    assert!(shows_no_proof(detour.pooler()) && !text().contains("pgdetour-proof"));
    let away = text();
    detour = dies(detour, "cutback", "1000000")
        .run("status")
        .exits(0)
        .phase("detoured")
        .run("status")
        .with(&["--check"])
        .exits(0);
    detour = detour.run("cutback").exits(0);
    assert_eq!((text(), names()), (limited.clone(), number_of_names), "byte for byte");
    assert!(shows_no_proof(detour.pooler()) && away != limited);
    // The end of the detour.
    detour = detour.run("clean").with(&["--drop-data"]).exits(0).mirrored();
    detour = dies(detour, "cutover", "10").run("clean").exits(0);
    assert_eq!((text(), names()), (limited.clone(), number_of_names), "byte for byte");
    assert!(shows_no_proof(detour.pooler()));
    assert_eq!(detour.pooler().database("max_connections"), "9");
    // What a run that is killed has left beside it.
    detour = detour.mirrored();
    let run = detour.start_until("cutover", &["--yes"], "in:prove the router");
    assert!(run.is_there() && text() != limited);
    run.signal(Signal::KILL);
    let answer = run.go_on();
    assert!(answer.was_killed(), "{}", answer.describe());
    detour.keep(answer);
    until("the file is as it was", Duration::from_secs(30), || {
        (text() == limited && shows_no_proof(detour.pooler())).then_some(())
    });
    assert_eq!(names(), number_of_names);
    detour.run("cutover").exits(0).no_client_error().no_row_lost();
}

/// `setfacl -m u:postgres:r`, in the kernel's own form.
fn let_server_user_read(path: &Path, user: u32) -> bool {
    let everybody = u32::MAX;
    let list =
        [(1_u16, 6_u16, everybody), (2, 4, user), (4, 4, everybody), (16, 4, everybody), (32, 0, everybody)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, who) in list {
        bytes.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(who.to_le_bytes()));
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &bytes, flags).is_ok()
}

#[test]
fn a_file_that_pgbouncer_may_read_by_a_list_of_its_own_stays_readable() {
    let mut detour = Detour::new().table("orders");
    let file = detour.pooler().databases_file();
    let Some((user, _)) = *SERVER_USER else {
        println!("skipped: a file that is root's, since these tests are not");
        return;
    };
    std::os::unix::fs::chown(&file, Some(0), Some(0)).expect("root may");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("root may");
    if !let_server_user_read(&file, user) {
        println!("skipped: a list of who may read a file, since this file system has none");
        return;
    }
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/replace-file");
    let (console, target) = (detour.pooler().console_conninfo(), entry(detour.target.port()));
    for more in [String::new(), format!("file_command = [{program:?}]")] {
        let section = section(&console, &file, &target, &more);
        detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{section}")).mirrored();
        detour = detour.run("cutover").exits(0).serving(Serving::Target);
        detour = detour.run("cutback").exits(0).serving(Serving::Source);
        detour = detour.run("clean").with(&["--drop-data"]).exits(0);
    }
}

#[test]
fn another_entry_that_leads_to_the_source_is_named_unless_it_is_for_administrators() {
    let mut detour = Detour::new().table("orders");
    let file = detour.pooler().databases_file();
    let to_source = entry(detour.source.port());
    let entries = std::fs::read_to_string(&file).expect("the file can be read");
    let more = format!(
        "shop_web = {to_source}\nas_app = {to_source} user=shop_app\nlane = {to_source} user=dba\nlane2 = {to_source}\n\
         elsewhere = host=127.0.0.1 port=1 dbname=shop\n"
    );
    std::fs::write(&file, format!("{entries}{more}")).expect("it can be written");
    detour.pooler().console("reload");
    // Whoever has come that way is an administrator.
    let lane = detour.pooler().conninfo("shop_limited").replace("dbname=shop", "dbname=lane2");
    let mut admin = postgres::Client::connect(&lane, postgres::NoTls).expect("it lets in");
    admin.batch_execute("select 1").expect("it leads to the source");
    let warned = |detour: &Detour, name: &str| {
        let warnings = detour.last().at("/warnings").to_string();
        warnings.contains(&format!("its entry \\\"{name}\\\" leads to the same database"))
    };
    detour = detour.run("check").exits(0);
    let named = ["shop_web", "as_app", "lane", "lane2", "elsewhere", "*"].map(|name| warned(&detour, name));
    assert_eq!(named, [true, true, false, false, false, false], "{}", detour.last().describe());
    // One that is moved as well.
    let console = detour.pooler().console_conninfo();
    let target = entry(detour.target.port());
    let both = ["", "shop_web"].map(|name| {
        let section = section(&console, &file, &target, "");
        if name.is_empty() { section } else { section.replace("\"shop\"", &format!("\"{name}\"")) }
    });
    detour =
        detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{}", both.concat())).run("check").exits(0);
    assert!(!warned(&detour, "shop_web") && !warned(&detour, "shop") && warned(&detour, "as_app"));
    // The one for databases without an entry, under the name of the source's own.
    let wildcard =
        format!("[databases]\nshop_app = {to_source}\n* = host=127.0.0.1 port={}\n", detour.source.port());
    std::fs::write(&file, wildcard).expect("it can be written");
    detour.pooler().console("reload");
    let section = section(&console, &file, &target, "").replace("\"shop\"", "\"shop_app\"");
    detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{section}")).run("check").exits(0);
    assert!(warned(&detour, "*"), "{}", detour.last().describe());
}

/// As PgBouncer takes it.
#[test]
fn a_target_with_blanks_names_its_user_and_leaves_no_trace_in_the_file() {
    let mut detour = Detour::new().table("orders");
    let file = detour.pooler().databases_file();
    let port = detour.source.port();
    detour.pooler().log_in_as(port, "shop_app");
    let before = std::fs::read(&file).expect("the file can be read");
    let target = format!("  {} user = shop_lim \t", entry(detour.target.port()));
    let console = detour.pooler().console_conninfo();
    let section = section(&console, &file, &target, "");
    detour = detour.configured("[restrict_role]\nname = \"shop_lim\"\n");
    detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{section}")).run("check").ends();
    let told = detour.last().describe();
    assert!(matches!(detour.last().code(), Some(0 | 3)) && !told.contains("does not name user="), "{told}");
    detour = detour.configured_anew("").logging_in_as("shop_app", "shop_app");
    let target = format!("  {} user = shop_app \t", entry(detour.target.port()));
    let section = self::section(&console, &file, &target, "");
    detour = detour.routed(&format!("[router]\nkind = \"pgbouncer\"\n{section}")).mirrored();
    for _ in 0..2 {
        detour = detour.run("cutover").exits(0).run("cutback").exits(0);
        assert_eq!(std::fs::read(&file).expect("the file can be read"), before, "byte for byte");
        detour = detour.run("clean").with(&["--drop-data"]).exits(0).mirrored();
    }
}

#[test]
fn a_pooler_all_of_whose_databases_are_paused_is_seen_and_refused() {
    let mut detour = Detour::new().table("orders").writing().mirrored();
    let (message, hint) = ("all its databases are paused already", "RESUME;");
    detour.pooler().console("PAUSE");
    for command in ["check", "cutover"] {
        detour = detour.run(command).exits(3).changed(false).finding("pgbouncer", message, hint);
    }
    // Those who wait tell.
    until("the application waits", Duration::from_secs(60), || {
        let pools = detour.pooler().console("SHOW POOLS");
        let waits = |row: &Vec<(String, String)>| {
            row.iter().any(|(name, value)| name == "cl_waiting" && value != "0")
        };
        pools.iter().any(waits).then_some(())
    });
    detour = detour.run("status").with(&["--check"]).exits(8).reports("/serving", "nobody");
    assert_eq!(detour.last().text_at("/report/attention/0/check"), "router_held");
    assert!(detour.last().text_at("/report/attention/0/hint").contains(hint), "{}", detour.last().describe());
    detour.pooler().console("RESUME");
    detour = detour.run("status").with(&["--check"]).exits(0).serving(Serving::Source).application_goes_on();

    // Somebody does it in the last moment.
    let run = detour.start_until("cutover", &["--yes"], "before:hold clients");
    assert!(run.is_there());
    detour.pooler().console("PAUSE");
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(3), "{}", answer.describe());
    assert_eq!(answer.text_at("/error/kind"), "router_paused");
    detour.keep(answer);
    detour = detour.changed(false).phase("mirrored").hint(hint);
    detour.pooler().console("RESUME");
    detour = detour.serving(Serving::Source).application_goes_on().run("cutover").exits(0);
    detour.serving(Serving::Target).application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn a_pooler_that_dies_before_the_decision_keeps_no_client_of_another_one_and_who_serves_is_told() {
    let (detour, mut second) = with_two_poolers();
    let mut detour = detour.writing().mirrored();
    let run = detour.start_until("cutover", &["--yes"], "after:hold clients");
    assert!(run.is_there());
    second.kill();
    let answer = run.go_on();
    assert_eq!(answer.code(), Some(7), "{}", answer.describe());
    assert_eq!(answer.text_at("/serving"), "source", "{}", answer.describe());
    detour.keep(answer);
    detour = detour.application_goes_on();
    assert_eq!(detour.ask("status", &[]).text_at("/serving"), "source");
    second.start();
    until("the guardian has taken back what was left", Duration::from_secs(60), || {
        (detour.ask("status", &[]).text_at("/phase") == "mirrored").then_some(())
    });
    detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}
