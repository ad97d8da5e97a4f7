//! `replay` itself: how it ends, what it tells, and how much memory it takes.

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::detour::Detour;
use crate::support::extent;
use crate::support::postgres::Shutdown;
use crate::support::wait::until;

/// Generous: the machine may have much else to do.
const LIMIT: Duration = Duration::from_secs(1200);

#[test]
fn following_ends_well_with_a_signal_and_tells_all() {
    for signal in [Signal::TERM, Signal::INT] {
        let detour = Detour::new().table("orders").detoured().writing();
        let child = detour.start("replay", &["--follow"]);
        detour.target.exec("insert into public.orders (note) values ('the last one')");
        until("the change has arrived", LIMIT, || {
            let query = "select count(*) from public.orders where note = 'the last one'";
            (detour.source.value::<i64>(query) == 1).then_some(())
        });
        let detour = detour
            .application_goes_on()
            .run("cutback")
            .exits(4)
            .hint("It follows until it is stopped: send it SIGTERM on the host where it runs, whose address is shown with it");
        assert!(detour.last().text_at("/error/detail").contains("\"pgdetour replay --follow\" of role"));
        child.signal(signal);
        let answer = child.end();
        assert_eq!(answer.code(), Some(0), "{}", answer.describe());
        let report = |field: &str| answer.at(&format!("/report/{field}")).clone();
        let has_nothing_left = report("lag_bytes") == 0;
        assert_eq!(report("caught_up"), Value::Bool(has_nothing_left), "{}", answer.describe());
        assert!(report("changes").as_u64() > Some(0), "{}", answer.describe());
        assert!(report("seconds").as_f64() > Some(0.0), "{}", answer.describe());
        assert!(report("changes_per_second").is_u64(), "{}", answer.describe());
        assert!(report("lag_bytes").is_u64(), "{}", answer.describe());
        detour
            .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
            .no_client_error()
            .no_row_lost();
    }
}

/// Another subscription does so, or a tool that loads rows.
#[test]
fn what_is_brought_under_an_origin_of_others_is_carried_on_in_both_directions() {
    let brought = |note: &str| {
        format!(
            "select pg_replication_origin_create('somebodys'); select pg_replication_origin_session_setup('somebodys');
             insert into public.orders (note) values ('{note}'); update public.orders set note = note || '!' where note = '{note}'"
        )
    };
    for sections in ["", "[capture]\nmethod = \"trigger\"", "[mirror]\ncarrier = \"pgdetour\""] {
        let detour = Detour::new().table("orders").configured(sections).mirrored();
        detour.source.exec(&brought("to the source"));
        let detour = detour.run("cutover").exits(0);
        let arrived = "select count(*) from public.orders where note = 'to the source!'";
        assert_eq!(detour.target.value::<i64>(arrived), 1, "{sections}");
        detour.target.exec(&brought("to the target"));
        let detour = detour.run("replay").exits(0).reports("/skipped", 0);
        let arrived = "select count(*) from public.orders where note = 'to the target!'";
        assert_eq!(detour.source.value::<i64>(arrived), 1, "{sections}");
        detour.run("verify").exits(0).reports("/equal", true).run("cutback").exits(0);
    }
}

/// What the run opened itself before it began to follow has not outlived the servers.
#[test]
fn following_ends_well_after_each_server_was_restarted() {
    let mut detour = Detour::new().table("orders").detoured();
    let child = detour.start("replay", &["--follow"]);
    let arrives = |detour: &Detour, note: &str| {
        detour.target.exec(&format!("insert into public.orders (note) values ('{note}')"));
        until("the change has arrived", LIMIT, || {
            let query = format!("select count(*) from public.orders where note = '{note}'");
            (detour.source.value::<i64>(&query) == 1).then_some(())
        });
    };
    arrives(&detour, "before");
    detour.source.restart(Shutdown::Immediate);
    arrives(&detour, "the source was restarted");
    detour.target.restart(Shutdown::Fast);
    arrives(&detour, "the target was restarted");
    child.signal(Signal::TERM);
    let answer = child.end();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    assert_eq!(answer.at("/report/quarantined").as_i64(), Some(0), "{}", answer.describe());
    detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true);
}

/// As a service manager ends it: nothing is left to do for a server that is away, and there is nobody to count what was set aside.
#[test]
fn following_ends_well_while_a_server_is_away() {
    for side in ["source", "target"] {
        let mut detour = Detour::new().table("orders").detoured();
        let child = detour.start("replay", &["--follow"]);
        detour.target.exec("insert into public.orders (note) values ('before')");
        until("the change has arrived", LIMIT, || {
            let query = "select count(*) from public.orders where note = 'before'";
            (detour.source.value::<i64>(query) == 1).then_some(())
        });
        let server = if side == "source" { &mut detour.source } else { &mut detour.target };
        server.stop(Shutdown::Immediate);
        child.signal(Signal::TERM);
        let answer = child.end();
        assert_eq!(answer.code(), Some(0), "{side} away: {}", answer.describe());
        assert!(answer.at("/report/changes").as_u64() >= Some(1), "{}", answer.describe());
        assert_eq!(answer.at("/report/quarantined").is_null(), side == "source", "{}", answer.describe());
        let server = if side == "source" { &mut detour.source } else { &mut detour.target };
        server.start();
        detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true);
    }
}

/// Maintenance holds a table for as long as it needs: VACUUM FULL, or an ALTER that rewrites it.
#[test]
fn following_waits_for_whoever_holds_a_table_and_ends_meanwhile_when_it_is_told_to() {
    let mut detour = Detour::new().table("orders").detoured();
    let mut admin = detour.source.client("dba");
    let lock = "begin; lock table public.orders in access exclusive mode";
    let write = |detour: &Detour, note: &str| {
        detour.target.exec(&format!("insert into public.orders (note) values ('{note}')"));
    };
    let arrives = |detour: &Detour, note: &str| {
        until("the change has arrived", LIMIT, || {
            let query = format!("select count(*) from public.orders where note = '{note}'");
            (detour.source.value::<i64>(&query) == 1).then_some(())
        });
    };
    let waiting = "select coalesce(array_agg(pid), '{}') from pg_stat_activity
                   where application_name = 'pgdetour replay --follow' and wait_event_type = 'Lock'";
    let is_waiting = |detour: &Detour| !detour.source.value::<Vec<i32>>(waiting).is_empty();
    admin.batch_execute(lock).expect("it may");
    let follower = detour.start("replay", &["--follow"]);
    until("it waits before it has begun", LIMIT, || is_waiting(&detour).then_some(()));
    admin.batch_execute("rollback").expect("it may");
    write(&detour, "one");
    arrives(&detour, "one");
    // However often a wait is over its limit: sessions are begun anew then.
    admin.batch_execute(lock).expect("it may");
    write(&detour, "two");
    let mut seen = HashSet::new();
    until("it has begun to apply anew", LIMIT, || {
        seen.extend(detour.source.value::<Vec<i32>>(waiting));
        (seen.len() > 2).then_some(())
    });
    admin.batch_execute("rollback").expect("it may");
    arrives(&detour, "two");
    admin.batch_execute(lock).expect("it may");
    write(&detour, "three");
    until("it waits", LIMIT, || is_waiting(&detour).then_some(()));
    until("status tells who is waited for", LIMIT, || {
        let waits_for = detour.ask("status", &[]).at("/report/replay/waits_for").to_string();
        waits_for.contains("lock table public.orders").then_some(())
    });
    until("it waits", LIMIT, || is_waiting(&detour).then_some(()));
    follower.signal(Signal::TERM);
    let detour = detour.ended(follower, 0);
    assert_eq!(detour.last().at("/report/caught_up"), &Value::Bool(false), "{}", detour.last().describe());
    let told = &detour.last().stderr;
    assert!(told.contains("waits on the source for a lock that another session holds: pid"), "{told}");
    admin.batch_execute("rollback").expect("it may");
    detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true);
}

/// Nothing of it is in what is followed, and nobody would look before the way home.
#[test]
fn following_names_a_table_that_is_made_on_the_target_beside_it() {
    let detour = Detour::new().table("orders").detoured();
    let waiting = detour.start_until("replay", &["--follow"], "after:check preconditions");
    let looks = "select count(*) from pg_stat_activity where state = 'idle' and query ~ 'pgdetour.recorded'
                     and query_start > coalesce((select max(happened_at) from public.made), 'infinity')
                     and application_name = 'pgdetour replay --follow'";
    detour.target.exec(
        "create table public.made (id int primary key, happened_at timestamptz); insert into public.made values (1, now())",
    );
    let follower = waiting.let_go();
    until("it has looked", LIMIT, || (detour.target.value::<i64>(looks) > 0).then_some(()));
    // It needs no place when others are mapped anew, either.
    detour.source.exec("alter table public.orders add extra text");
    detour.target.exec("insert into public.orders (id, note) values (5000, 'behind the ALTER')");
    until("the change has arrived", LIMIT, || {
        detour.source.value::<bool>("select exists (select from public.orders where id = 5000)").then_some(())
    });
    follower.signal(Signal::TERM);
    let detour = detour.ended(follower, 0);
    let warnings = detour.last().at("/warnings").to_string();
    let named = "table \\\"public.made\\\" was made on the target since recording began";
    assert!(warnings.contains(named) && warnings.contains("capture --anew"), "{warnings}");
    let detour = detour.run("status").with(&["--check"]).exits(8);
    assert!(detour.last().at("/error/failures").to_string().contains(named), "{}", detour.last().describe());
}

/// What triggers record is counted exactly, and lies in no slot.
#[test]
fn a_follow_that_has_nothing_left_has_caught_up() {
    let detour = Detour::new()
        .table("orders")
        .configured("[capture]\nmethod = \"trigger\"\nwarn_retained = \"1kB\"")
        .detoured()
        .application("insert into public.orders (note) select 'note' from generate_series(1, 100)")
        .run("status")
        .with(&["--check"])
        .exits(3)
        .finding("pgdetour.change", "", "give the target's disk more room");
    let child = detour.start("replay", &["--follow"]);
    until("the changes have arrived", LIMIT, || {
        let query = "select count(*) from public.orders where note = 'note'";
        (detour.source.value::<i64>(query) == 100).then_some(())
    });
    child.signal(Signal::TERM);
    let answer = child.end();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    assert_eq!(answer.at("/report/caught_up"), &Value::Bool(true), "{}", answer.describe());
    assert_eq!(answer.at("/report/lag_bytes"), 0, "{}", answer.describe());
}

/// Transactions before the one that does not fit are committed: neither a script nor a person is told that nothing happened.
#[test]
fn a_replay_that_stops_at_a_conflict_says_what_it_has_applied_before() {
    let detour = Detour::new()
        .on_source("create table public.t (id int primary key, v text); grant all on public.t to shop_app")
        .detoured()
        .application("insert into public.t values (1, 'fits')")
        .on_source("insert into public.t values (2, 'mine')")
        .application("insert into public.t values (2, 'theirs')")
        .run("replay")
        .exits(8)
        .kind("insert_exists")
        .changed(true)
        .reports("/changes", 1)
        .reports("/conflicts", 0)
        .reports("/quarantined", 0)
        .reports("/caught_up", false);
    assert!(detour.last().at("/report/lag_bytes").is_u64(), "{}", detour.last().describe());
    assert_eq!(detour.last().text_at("/error/sqlstate"), "23505", "{}", detour.last().describe());
    assert_eq!(detour.source.value::<i64>("select count(*) from public.t where v = 'fits'"), 1);
    let detour = detour
        .run("replay")
        .exits(8)
        .changed(false)
        .application("insert into public.t values (3, 'does not fit')")
        .on_source("delete from public.t where id = 2; insert into public.t values (3, 'mine')");
    let text = detour.as_text("replay", &[]);
    let said = String::from_utf8_lossy(&text.stderr);
    assert!(said.contains("next: what was applied stays, "), "{said}");
    assert!(said.contains("a person has to look at this before \"pgdetour replay\" is run again"), "{said}");
}

#[test]
fn until_caught_up_ends_while_others_write() {
    let detour = Detour::new().table("orders").detoured().writing();
    detour.target.exec("insert into public.orders (note) select 'note' from generate_series(1, 5000)");
    let detour = detour
        .run("replay")
        .with(&["--until-caught-up", "--max-lag", "1min"])
        .exits(0)
        .reports("/caught_up", true)
        .run("replay")
        .with(&["--until-caught-up", "--max-lag", "1GB"])
        .exits(0)
        .reports("/caught_up", true)
        .run("replay")
        .with(&["--max-lag", "1GB"])
        .exits(2)
        .run("replay")
        .with(&["--until-caught-up", "--max-lag", "soon"])
        .exits(2);
    detour
        .at_rest(|detour| {
            detour
                .run("replay")
                .exits(0)
                .reports("/lag_seconds", 0.0)
                .run("verify")
                .exits(0)
                .reports("/equal", true)
        })
        .no_client_error();
}

/// The source commits what replay applied, and the answer never comes: the progress row tells, and nothing comes twice.
#[test]
fn a_commit_whose_answer_is_lost_is_applied_once() {
    for (method, on_conflict) in [("wal", "stop"), ("trigger", "quarantine")] {
        let mut detour = Detour::new()
            .on_source(
                "create table public.counted (id int primary key, v int);
                 grant select, insert, update, delete on public.counted to shop_app",
            )
            .configured(&format!(
                "[capture]\nmethod = \"{method}\"\n[replay]\non_conflict = \"{on_conflict}\""
            ))
            .detoured()
            // Each row that is really written, in the transaction that writes it.
            .on_source(
                "create table public.written (id int, operation text);
                 create function public.note() returns trigger language plpgsql as $$ begin
                     insert into public.written values (coalesce(new.id, old.id), tg_op); return null; end $$;
                 create trigger note after insert or update or delete on public.counted
                     for each row execute function public.note();
                 alter table public.counted enable always trigger note",
            )
            .through_proxies();
        let changes = [
            "insert into public.counted select n, 0 from generate_series(1, 300) as n",
            "update public.counted set v = v + 1",
            "delete from public.counted",
        ];
        for (round, change) in changes.iter().enumerate() {
            detour = detour.application(change);
            // Nobody but the applier sends this.
            detour.proxies().source.lose_answer_to(";\ncommit");
            detour = detour.run("replay").exits(0).reports("/caught_up", true).reports("/conflicts", 0);
            let done = round as i64 + 1;
            assert_eq!(detour.proxies().source.answers_lost() as i64, done, "{}", detour.last().describe());
            let written = |query: &str| detour.source.value::<i64>(query);
            assert_eq!(written("select count(*) from public.written"), done * 300);
            assert_eq!(written("select count(distinct (id, operation)) from public.written"), done * 300);
            assert_eq!(
                written("select changes::bigint from pgdetour.progress where flow = 'replay'"),
                done * 300
            );
        }
        detour.run("verify").exits(0).reports("/equal", true);
    }
}

/// Sessions that act as a replica set off what is ENABLE ALWAYS or REPLICA: a rewritten row is seen by a comparison at the earliest.
#[test]
fn triggers_that_fire_on_replayed_rows_are_told_before() {
    let detour = Detour::new()
        .table("orders")
        .on_source(
            "create table public.left_out (id int primary key);
             create table public.parts (id int primary key, note text) partition by range (id);
             create table public.part partition of public.parts for values from (0) to (10)",
        )
        .configured("[mirror]\nexclude = [\"public.left_out\"]")
        .detoured()
        .on_source(
            "create function public.again() returns trigger language plpgsql as $$ begin return new; end $$;
             create trigger plain before insert on public.orders for each row execute function public.again();
             create trigger \"The one\" before insert on public.orders for each row execute function public.again();
             alter table public.orders enable always trigger \"The one\";
             create trigger all_parts before insert on public.parts for each row execute function public.again();
             alter table public.parts enable replica trigger all_parts;
             create trigger one_part before insert on public.part for each row execute function public.again();
             alter table public.part enable always trigger one_part;
             create trigger unseen before insert on public.left_out for each row execute function public.again();
             alter table public.left_out enable always trigger unseen",
        )
        .run("check")
        .exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    let warned = |detour: &Detour| {
        let checks = detour.last().at("/report/checks").as_array().expect("a list").clone();
        let own = checks.into_iter().filter(|line| line["check"] == "source triggers");
        own.map(|line| (line["object"].as_str().unwrap_or_default().to_owned(), line)).collect::<Vec<_>>()
    };
    let told = warned(&detour);
    let objects: Vec<&str> = told.iter().map(|(object, _)| object.as_str()).collect();
    assert_eq!(objects, ["public.orders", "public.part", "public.parts"], "{warnings}");
    assert_eq!(told[0].1["state"], "warns");
    assert_eq!(
        told[0].1["message"],
        "trigger \"The one\" is ENABLE ALWAYS or REPLICA, and fires on replayed rows, which it may change"
    );
    let fix = told[0].1["fix"].as_str().unwrap_or_default();
    assert!(
        fix.contains("run ALTER TABLE \"public\".\"orders\" ENABLE TRIGGER \"The one\"; on the source"),
        "{fix}"
    );

    let detour = detour.run("replay").with(&["--lint"]).exits(0);
    let lint = detour.last().at("/report/lint").as_array().expect("a list").clone();
    let doubts = |table: &str| {
        let own = lint.iter().find(|entry| entry["from"] == table).map(|entry| entry["doubts"].to_string());
        own.unwrap_or_default()
    };
    let orders = doubts("public.orders");
    assert!(
        orders.contains("trigger \\\"The one\\\" of \\\"public.orders\\\" is ENABLE ALWAYS or REPLICA"),
        "{orders}"
    );
    assert!(!orders.contains("plain"), "{orders}");
    let parts = doubts("public.parts");
    assert!(parts.contains("all_parts") && parts.contains("one_part"), "{parts}");
    assert!(!parts.contains("of \\\"public.part\\\" is ENABLE REPLICA"), "the root's is named once: {parts}");
    detour.run("replay").exits(0);
}

#[test]
fn following_sees_what_maintenance_alters_beside_it() {
    let detour = Detour::new()
        .on_source("create table public.parent (id int primary key, n text); insert into public.parent values (1, 'a');")
        .on_source("create table public.child (id int primary key, parent int)")
        .detoured();
    let follower = detour.start("replay", &["--follow"]);
    let arrives = |query: &str| {
        until("the change has arrived", LIMIT, || detour.source.value::<bool>(query).then_some(()));
    };
    detour.target.exec("update public.parent set n = 'b'");
    arrives("select n = 'b' from public.parent");
    detour.source.exec("alter table public.parent add extra text; update public.parent set extra = 'filled'");
    detour.target.exec("update public.parent set id = 2");
    arrives("select id = 2 from public.parent");
    let extra: Option<String> = detour.source.value("select extra from public.parent");
    assert_eq!(extra.as_deref(), Some("filled"), "the row was not made anew without it");
    // However often, and however little it matters.
    for number in 0..12 {
        detour.source.exec(&format!("alter table public.parent alter n set statistics {number}"));
        detour.target.exec(&format!("update public.parent set n = '{number}'"));
        arrives(&format!("select n = '{number}' from public.parent"));
    }
    // What nobody but the flow looks after, as it applies with triggers switched off.
    detour.source.exec("alter table public.child add foreign key (parent) references public.parent");
    detour.target.exec("insert into public.child values (1, 2)");
    arrives("select exists (select from public.child)");
    detour.target.exec("insert into public.child values (2, 4711)");
    let detour = detour.ended(follower, 8);
    assert!(detour.last().describe().contains("child_parent_fkey"), "{}", detour.last().describe());
    assert_eq!(detour.source.value::<i64>("select count(*) from public.child"), 1);
}

/// By the name that a table had then its changes have no place any more.
#[test]
fn changes_of_tables_that_were_dropped_or_renamed_on_the_target_since() {
    for method in ["wal", "trigger"] {
        Detour::new()
            .table("orders")
            .table("notes")
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .detoured()
            .on_target("insert into public.notes (note) values ('soon gone'); drop table public.notes")
            .on_target(
                "alter table public.orders rename to purchases;
                 insert into public.purchases (id, note) values (5000, 'under another name');
                 alter table public.purchases rename to orders;
                 insert into public.orders (id, note) values (5001, 'under its own')",
            )
            .run("replay")
            .exits(3)
            .finding("public.notes", "was dropped on the target", "Drop it on the source, too")
            .on_source("drop table public.notes")
            .run("replay")
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true)
            .run("cutback")
            .exits(0);
    }
}

/// Else its hint would lead round in a circle: the changes that are recorded already stay there.
#[test]
fn changes_of_a_table_that_is_left_out_later_are_passed_over_and_told() {
    for method in ["wal", "trigger"] {
        let detour = Detour::new()
            .table("orders")
            .table("notes")
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .detoured()
            // An earlier version made the record.
            .on_target("alter table pgdetour.recorded drop column passed_over")
            .on_target("insert into public.notes (note) values ('nowhere to go'); truncate public.notes")
            .on_target("insert into public.orders (id, note) values (5000, 'home')")
            .on_source("drop table public.notes")
            .run("replay")
            .exits(3)
            .finding("public.notes", "does not exist on the other side", "mirror.exclude")
            .configured("[mirror]\nexclude = [\"public.notes\"]")
            .run("replay")
            .exits(0);
        let warnings = detour.last().at("/warnings").to_string();
        assert!(
            warnings.contains("public.notes") && warnings.contains("passed over"),
            "{method}: {warnings}"
        );
        let mut detour = detour.run("verify").exits(0).reports("/equal", true);
        // They are recorded no more: to select it again does not bring them back.
        detour = detour
            .configured_anew(&format!("[capture]\nmethod = \"{method}\""))
            .on_source("create table public.notes (id bigint primary key, note text); grant all on public.notes to shop_app")
            .on_target("insert into public.notes (id, note) values (5000, 'home')");
        for command in ["replay", "cutback", "capture"] {
            detour = detour.run(command).exits(3).finding("public.notes", "passed over", "capture --anew");
        }
        detour
            .run("status")
            .with(&["--check"])
            .exits(8)
            .run("capture")
            .with(&["--anew"])
            .exits(0)
            .on_target("insert into public.notes (id, note) values (5001, 'home, too')")
            .run("replay")
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true)
            .run("cutback")
            .exits(0);
    }
}

/// What is recorded has the names of then.
#[test]
fn tables_that_take_names_of_each_other_on_the_target_are_not_taken_for_each_other() {
    for method in ["wal", "trigger"] {
        let configuration = format!("[capture]\nmethod = \"{method}\"");
        let mapped =
            "[mirror]\nexclude = [\"public.notes\"]\n[[map]]\nfrom = \"public.old\"\nto = \"public.notes\"";
        Detour::new()
            .table("orders")
            .table("notes")
            .configured(&configuration)
            .detoured()
            .on_target("insert into public.notes (id, note) values (5000, 'a note')")
            .on_target(
                "alter table public.notes rename to away; alter table public.orders rename to notes;
                 alter table public.away rename to orders",
            )
            .on_target("insert into public.notes (id, note) values (6000, 'an order')")
            .run("replay")
            .exits(3)
            .finding("public.notes", "another one was recorded under the name", "capture --anew")
            .finding("public.orders", "another one was recorded under the name", "Rename it back")
            .run("status")
            .with(&["--check"])
            .exits(8)
            .run("capture")
            .with(&["--anew"])
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true)
            // One that is new, under the name of one that was recorded, and is to be left out.
            .on_target("update public.notes set note = 'precious' where id = 6000")
            .on_target(
                "alter table public.notes rename to old; create table public.notes (id bigint primary key);
                 update public.old set note = 'and more' where id = 1",
            )
            .configured_anew(&format!("{configuration}\n{mapped}"))
            .run("replay")
            .exits(8)
            .kind("table_unknown")
            .hint("capture --anew")
            .run("cutback")
            .exits(8)
            .run("capture")
            .with(&["--anew"])
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true)
            .run("cutback")
            .exits(0);
    }
}

#[test]
fn a_table_that_is_renamed_while_it_is_followed_is_named_by_both_of_its_names() {
    for method in ["wal", "trigger"] {
        let detour =
            Detour::new().table("orders").configured(&format!("[capture]\nmethod = \"{method}\"")).detoured();
        let follower = detour.start("replay", &["--follow"]);
        detour.target.exec("insert into public.orders (id, note) values (5000, 'before')");
        until("the change has arrived", LIMIT, || {
            let query = "select count(*) from public.orders where note = 'before'";
            (detour.source.value::<i64>(query) == 1).then_some(())
        });
        detour.target.exec(
            "alter table public.orders rename to \"Orders\"; insert into public.\"Orders\" (id, note) values (5001, 'after')",
        );
        let map = "from = 'public.\"Orders\"', to = \"public.orders\"";
        detour
            .ended(follower, 8)
            .kind("table_unknown")
            .message("was recorded as \"public.orders\" and has been renamed")
            .hint(map)
            .run("replay")
            .exits(3)
            .finding("public.Orders", "was recorded as \"public.orders\" and has been renamed", map)
            .configured(&format!("[[map]]\n{}", map.replace(", to", "\nto")))
            .run("replay")
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true);
    }
}

/// Of a small table no page may be in a sample; and a row that goes by its partition's name does not go by its root's, too.
#[test]
fn a_rehearsal_tries_rows_of_every_table_and_none_twice() {
    let small = |name: &str| {
        format!(
            "create table public.{name} (id int primary key, v text);
             insert into public.{name} select g, repeat('x', 30) from generate_series(1, 300) g;"
        )
    };
    let tables: String = ["one", "two", "three", "four", "five"].map(small).concat();
    let detour = Detour::new()
        .on_source(&format!(
            "{tables} create table public.parts (id int primary key) partition by range (id);
             create table public.part_1 partition of public.parts for values from (0) to (100);
             create table public.part_2 partition of public.parts for values from (100) to (500);
             insert into public.parts select g from generate_series(0, 499) g"
        ))
        .detoured()
        .on_target("analyze")
        .on_source(
            "drop table public.part_2; create table public.part_rest partition of public.parts default",
        )
        .run("replay")
        .with(&["--rehearse"])
        .exits(0)
        .reports("/rows", 2000)
        .run("replay")
        .with(&["--rehearse", "--sample", "5"])
        .exits(0);
    let mut tried = detour.last().at("/report/rehearsed").as_array().cloned().unwrap_or_default();
    // What every detour of these tests has, and nothing in it.
    let empty = ["public.entry", "public.probe", "public.tally"];
    tried.retain(|table| !empty.iter().any(|name| table["table"] == *name));
    assert_eq!(tried.len(), 7, "{}", detour.last().describe());
    assert!(tried.iter().all(|table| table["rows"] == 5), "{}", detour.last().describe());
}

#[test]
fn following_begins_in_spite_of_sessions_that_are_ended_before() {
    let mut detour = Detour::new().table("orders").detoured();
    let is_ours = "application_name = 'pgdetour replay --follow'";
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where {is_ours}");
    // Its locks are lost too where all of its sessions are ended; those of locks are known by their statement.
    let first = format!("{end} and query not like '%advisory%'");
    for (note, end) in [("one", &first), ("all", &end)] {
        let waiting = detour.start_until("replay", &["--follow"], "before:check preconditions");
        assert!(waiting.is_there());
        for server in [&detour.source, &detour.target] {
            server.exec(end);
        }
        let follower = waiting.let_go();
        detour = detour.application(&format!("insert into public.orders (note) values ('{note}')"));
        until("the change has arrived", LIMIT, || {
            let query = format!("select count(*) from public.orders where note = '{note}'");
            (detour.source.value::<i64>(&query) == 1).then_some(())
        });
        let locks = format!(
            "select count(*) from pg_locks join pg_stat_activity using (pid) where locktype = 'advisory' and {is_ours}
             and objid = 1"
        );
        assert!(detour.target.value::<i64>(&locks) > 0, "it holds its lock");
        follower.signal(Signal::TERM);
        detour = detour.ended(follower, 0);
        let told = &detour.last().stderr;
        assert!(told.contains("tries again"), "{told}");
    }
}

#[test]
fn one_huge_transaction_takes_no_more_memory_than_a_small_one() {
    let rows = extent::pick(300_000, 5_000_000);
    let detour =
        Detour::new().on_source(&format!(
            "create table public.huge (id int primary key, v int, note text); insert into public.huge \
             select g, 0, 'a note of some length, so that rows are not all overhead ' || g from generate_series(1, {rows}) g"
        )).detoured();
    detour.target.exec("update public.huge set v = v + 1");
    let (answer, peak) = detour.start("replay", &[]).end_measured();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    assert_eq!(answer.at("/report/changes").as_u64(), Some(rows), "{}", answer.describe());
    assert_eq!(detour.source.value::<i64>("select count(*) from public.huge where v = 1"), rows as i64);
    // 64 MiB and a batch of 8 MiB; the transaction is many times that.
    assert!(peak < 72 << 10, "{} MiB", peak >> 10);
}

#[test]
fn large_values_are_held_a_few_at_a_time_however_many_there_are() {
    let size = 20 << 20;
    let detour = Detour::new().on_source("create table public.large (id int primary key, t text)").detoured();
    detour.target.exec(&format!(
        "alter table public.large alter t set storage external; \
         insert into public.large select g, repeat('x', {size}) from generate_series(1, 20) g"
    ));
    let (answer, peak) = detour.start("replay", &[]).end_measured();
    assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    assert_eq!(detour.source.value::<i64>("select sum(length(t)) from public.large"), 20 * size);
    // One that waits in each of reader, queue and batch, and three of the one that is written; what was freed may be kept.
    assert!(peak < 12 * (size as u64 >> 10), "{} MiB", peak >> 10);
}

#[test]
fn an_expression_that_is_another_value_each_time_is_told_before_it_is_replayed() {
    let map = "[[map]]\nfrom = \"public.orders\"\nto = \"public.orders\"\ncolumns = { stamp = \"gen_random_uuid()\" }";
    let mut detour = Detour::new().table("orders").detoured();
    detour = detour.on_source("alter table public.orders add stamp uuid").configured(map);
    let message = "\"stamp\" of \"public.orders\" is computed by gen_random_uuid(), which may give another value each time";
    for (command, arguments) in [("check", &[][..]), ("replay", &["--lint"][..])] {
        detour = detour.run(command).with(arguments).exits(0);
        let report = detour.last().at("/report/lint").clone();
        let of_orders =
            report.as_array().and_then(|lint| lint.iter().find(|table| table["from"] == "public.orders"));
        let doubts = of_orders.expect("a line for the table")["doubts"].clone();
        assert_eq!(doubts[0]["kind"], "volatile", "{doubts}");
        assert!(doubts[0]["message"].as_str().is_some_and(|text| text.starts_with(message)), "{doubts}");
    }
    let warnings = detour.answer_of("check").at("/warnings").to_string();
    assert!(warnings.contains("is computed by gen_random_uuid()"), "{warnings}");
}

/// A row that an UPDATE moves is a DELETE and an INSERT in what is recorded. Changes behind it wait with it wherever the row is by then.
#[test]
fn a_row_that_goes_to_another_partition_keeps_what_the_source_has_beside() {
    for method in ["wal", "trigger"] {
        let detour = Detour::new()
            .on_source(
                "create table public.p (id int, k int, v text, primary key (id, k)) partition by list (k);
                 create table public.p1 partition of public.p for values in (1);
                 create table public.p2 partition of public.p for values in (2);
                 create table public.h (id int primary key, v text) partition by hash (id);
                 create table public.h0 partition of public.h for values with (modulus 2, remainder 0);
                 create table public.h1 partition of public.h for values with (modulus 2, remainder 1);
                 insert into public.p select n, 1, 'old' from generate_series(1, 5) as n;
                 grant all on public.p, public.h to shop_app",
            )
            .configured(&format!("[capture]\nmethod = \"{method}\"\n[replay]\non_conflict = \"quarantine\""))
            .detoured()
            .on_source(
                "alter table public.p add extra text; update public.p set extra = 'kept ' || id; alter table public.h add extra text;
                 alter table public.p add constraint nobad check (v <> 'bad')",
            )
            .application("update public.p set k = 2 where id = 1")
            .application("update public.p set k = 2, v = 'new' where id in (2, 3)")
            .application("update public.p set k = 2, v = 'bad' where id = 4")
            .application("update public.p set v = 'good' where id = 4")
            .run("replay")
            .with(&["--lint"])
            .exits(0);
        let doubts = detour.last().at("/report/lint").to_string();
        assert_eq!(doubts.matches("moved_row").count(), 1, "{doubts}");
        let detour = detour.run("replay").exits(0).reports("/conflicts", 1).reports("/quarantined", 2);
        let warnings = detour.last().at("/warnings").to_string();
        assert!(warnings.contains("moves to another partition of \\\"public.h\\\""), "{warnings}");
        let lost = "select count(*) from public.p where extra is distinct from 'kept ' || id";
        assert_eq!(detour.source.value::<i64>(lost), 0, "{method}");
        let detour = detour
            .on_source("alter table public.p drop constraint nobad")
            .run("replay")
            .with(&["--quarantine", "retry"])
            .exits(0)
            .reports("/quarantined", 0)
            .run("verify")
            .exits(0)
            .reports("/equal", true);
        assert_eq!(detour.source.value::<i64>(lost), 0, "{method}");
    }
}
