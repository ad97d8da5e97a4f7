//! What is refused, with which code and words, and that nothing is other than before.

use crate::support::detour::{Detour, Serving};
use crate::support::postgres::Shutdown;

/// Runs `command`, expects `code` and `kind`, and holds both servers and the pooler against what they were.
fn refused(detour: Detour, command: &str, code: i32, kind: &str) -> Detour {
    let before = detour.fingerprint();
    detour.run(command).exits(code).kind(kind).changed(false).unchanged_since(&before)
}

#[test]
fn a_command_in_the_wrong_phase_says_what_to_run_instead() {
    let mut detour = Detour::new().table("orders");
    for command in ["capture", "cutover", "replay", "cutback", "verify"] {
        detour = refused(detour, command, 3, "wrong_phase")
            .message(&format!("{command} cannot run in phase \"absent\""))
            .hint("mirror");
    }
    detour = detour.mirrored();
    for command in ["replay", "cutback"] {
        detour = refused(detour, command, 3, "wrong_phase").phase("mirrored").hint("cutover");
    }
    detour = detour.run("cutover").exits(0);
    detour = refused(detour, "mirror", 3, "wrong_phase").phase("detoured").hint("replay");
    // The target has what the source has not: it may not be dropped without a word.
    detour = detour.run("clean").exits(3).changed(false).serving(Serving::Target);
    detour = detour.run("replay").exits(0).run("cutback").exits(0);
    for command in ["mirror", "cutover", "replay"] {
        detour = refused(detour, command, 3, "wrong_phase").phase("returned").hint("clean");
    }
}

#[test]
fn swapped_sides_are_seen_by_their_stamps() {
    let mut detour = Detour::new().table("orders").mirrored();
    let (source, target) = (detour.source.conninfo("dba"), detour.target.conninfo("dba"));
    detour = detour.source_is(&target).target_is(&source);
    for command in ["mirror", "cutover", "clean"] {
        detour = refused(detour, command, 3, "sides_swapped").message("source").message("target");
    }
}

#[test]
fn another_database_in_the_targets_place_is_not_taken_for_the_end_of_the_detour() {
    let detour = Detour::new().table("orders").writing().detoured();
    detour.target.exec("create database other");
    let target = detour.target.conninfo("dba");
    let other = target.replace("dbname=shop", "dbname=other");
    assert_ne!(other, target);
    let mut detour = detour.target_is(&other);
    for command in ["clean", "mirror", "cutover", "replay", "cutback"] {
        detour = detour
            .run(command)
            .exits(3)
            .kind("stamp_missing")
            .changed(false)
            .message("\"detoured\"")
            .hint("[target]");
    }
    detour = detour.run("status").with(&["--check"]).exits(8).reports("/phase", "detoured");
    let told = detour.last().describe();
    assert!(!told.contains("pgdetour clean") && !told.contains("Point it to the source"), "{told}");
    detour = detour.target_is(&target).run("replay").exits(0).run("cutback").exits(0);
    detour.no_client_error().no_row_lost();
}

#[test]
fn the_source_cannot_be_its_own_target() {
    let detour = Detour::new().table("orders");
    let source = detour.source.conninfo("dba");
    let detour = detour.target_is(&source);
    refused(detour, "mirror", 3, "same_database").message("same database").hint("[target]");
}

#[test]
fn a_server_that_is_down_is_named() {
    let mut detour = Detour::new().table("orders");
    detour.target.stop(Shutdown::Fast);
    detour = refused(detour, "mirror", 5, "unreachable").message("could not connect to target");
    detour.target.start();
    detour.source.stop(Shutdown::Fast);
    refused(detour, "mirror", 5, "unreachable").message("could not connect to source");
}

#[test]
fn a_pooler_that_is_down_stops_cutover_before_anything_is_done() {
    let mut detour = Detour::new().table("orders").mirrored();
    detour.pooler().kill();
    detour = detour.run("cutover").exits(5).kind("unreachable").changed(false).message("pgbouncer");
    detour.pooler().start();
    detour.run("cutover").exits(0).serving(Serving::Target);
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    let detour = Detour::new().table("orders");
    let wrong = detour.target.conninfo("dba").replace("password=", "password=mistyped-");
    let detour = detour.target_is(&wrong);
    let detour = refused(detour, "mirror", 5, "unreachable").message("could not connect to target");
    let answer = detour.last();
    assert!(!format!("{}{}", answer.stdout, answer.stderr).contains("mistyped-"), "{}", answer.describe());
    assert!(
        answer.text_at("/error/detail").contains("password authentication failed"),
        "{}",
        answer.describe()
    );
}

#[test]
fn a_target_that_holds_tables_is_not_overwritten() {
    let detour = Detour::new()
        .table("orders")
        .on_target("create table public.orders (id int); insert into public.orders values (7)");
    let detour = refused(detour, "mirror", 3, "checks_failed").finding("public.orders", "target", "target");
    assert_eq!(detour.target.value::<i32>("select id from public.orders"), 7);
}

#[test]
fn a_role_without_the_privileges_hears_which_ones_it_needs() {
    let detour = Detour::new().table("orders");
    let owner = detour.source.conninfo("shop_owner");
    refused(detour.source_is(&owner), "mirror", 3, "checks_failed").finding(
        "source",
        "replication",
        "REPLICATION",
    );
}

#[test]
fn a_source_without_logical_wal_hears_the_setting() {
    let mut detour = Detour::new().table("orders");
    detour.source.set("wal_level", "replica");
    refused(detour, "mirror", 3, "checks_failed").finding("source", "wal_level", "logical");
}

#[test]
fn a_source_without_a_free_slot_hears_the_setting() {
    let mut detour = Detour::new().table("orders");
    detour.source.set("max_replication_slots", "2");
    detour.source.exec(
        "select pg_create_logical_replication_slot('one', 'pgoutput'), pg_create_logical_replication_slot('two', 'pgoutput')",
    );
    refused(detour, "mirror", 3, "checks_failed").finding("source", "slot", "max_replication_slots");
}

#[test]
fn a_table_without_a_key_is_named_before_its_updates_fail() {
    let detour =
        Detour::new().table("orders").on_source("create table public.log (at timestamptz, line text)");
    refused(detour, "mirror", 3, "checks_failed").finding("public.log", "replica identity", "alter table");
}

#[test]
fn all_findings_come_in_one_run() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source("create table public.log (at timestamptz, line text)")
        .on_target("create table public.orders (id int)");
    detour.source.set("wal_level", "replica");
    refused(detour, "mirror", 3, "checks_failed")
        .finding("source", "wal_level", "logical")
        .finding("public.log", "replica identity", "")
        .finding("public.orders", "target", "");
}

#[test]
fn an_index_made_by_another_version_of_its_collation_is_named() {
    let mut detour = Detour::new().on_source(
        "create collation public.german (provider = icu, locale = 'de');
         create table public.names (name text collate public.german primary key);
         update pg_catalog.pg_collation set collversion = '1.1' where collname = 'german'",
    );
    let answer = detour.ask("check", &[]);
    let warnings = answer.at("/warnings").to_string();
    assert!(warnings.contains("public.names_pkey"), "{}", answer.describe());
    assert!(warnings.contains("\\\"de\\\" of ICU was made for version 1.1"), "{}", answer.describe());
}

#[test]
fn a_second_run_waits_for_nobody() {
    let mut detour = Detour::new().table("orders");
    for side in [true, false] {
        let another = Detour::locked_by_another(if side { &detour.source } else { &detour.target });
        detour = refused(detour, "mirror", 4, "busy")
            .message("another pgdetour run is in progress")
            .message(if side { "source" } else { "target" });
        // status takes no lock.
        detour = detour.run("status").exits(0);
        drop(another);
    }
    detour.mirrored();
}

#[test]
fn a_pooler_in_session_mode_cannot_hold_clients() {
    let mut detour = Detour::new().table("orders");
    let file = detour.pooler().databases_file();
    let entry = std::fs::read_to_string(&file).expect("the pooler's file can be read");
    std::fs::write(&file, entry.trim_end().to_owned() + " pool_mode=session\n").expect("it can be written");
    detour.pooler().console("reload");
    refused(detour, "check", 3, "checks_failed").finding("pgbouncer", "session", "transaction");
}

#[test]
fn a_transaction_that_does_not_end_takes_the_cutover_back() {
    let detour = Detour::new().table("orders").writing().mirrored();
    let mut open = detour.application_client();
    open.batch_execute("begin; update public.orders set note = 'held' where id = 1").expect("it can begin");
    let detour = detour
        .run("cutover")
        .with(&["--max-pause", "1s"])
        .exits(6)
        .kind("timed_out")
        .phase("mirrored")
        .serving(Serving::Source)
        .application_goes_on();
    open.batch_execute("commit").expect("it was never ended");
    // Nor one that no session has any more: only a person can end it, who is told before clients are held.
    let mut open = detour.source.client("shop_app");
    open.batch_execute(
        "begin; insert into public.orders (note) values ('in doubt'); prepare transaction 'it''s open'",
    )
    .expect("it can be prepared");
    let detour = detour
        .run("cutover")
        .with(&["--max-pause", "500ms", "--retries", "1"])
        .exits(6)
        .reports("/blockers/0/gid", "it's open")
        .phase("mirrored")
        .serving(Serving::Source);
    let warnings = detour.answer_of("cutover").at("/warnings").to_string();
    assert!(warnings.contains("ROLLBACK PREPARED 'it''s open'"), "{warnings}");
    detour.source.exec("rollback prepared 'it''s open'");
    // A pause that is too short for anything is no server that is away.
    let detour = detour
        .run("cutover")
        .with(&["--max-pause", "0s"])
        .exits(6)
        .kind("timed_out")
        .phase("mirrored")
        .serving(Serving::Source);
    detour.run("cutover").exits(0).serving(Serving::Target).no_client_error().no_row_lost();
}

/// Who is a member of what is the business of the whole server: no mirror brings it over.
#[test]
fn what_a_general_role_may_do_on_the_source_alone_is_named_before_it_moves() {
    let make = "create role readers; create role nothing";
    let detour = Detour::new()
        .on_source(make)
        .on_target(make)
        .on_source(
            "create table public.notes (id int primary key); grant select, insert on public.notes to readers;
             grant readers, nothing to shop_app",
        )
        .run("check")
        .exits(0);
    let told = |detour: &Detour| detour.last().describe();
    assert!(told(&detour).contains("it is a member of nothing, readers on the source"), "{}", told(&detour));
    let detour = detour.mirrored();
    let grant = "GRANT \"nothing\", \"readers\" TO \"shop_app\"";
    let detour = detour.run("cutover").exits(3).changed(false).finding(
        "shop_app",
        "on the target it may not: INSERT, SELECT on \"public.notes\"",
        grant,
    );
    let detour = detour.on_target("grant readers to shop_app").run("cutover").exits(0);
    assert!(told(&detour).contains("it is a member of nothing on the source"), "{}", told(&detour));
}

/// Maintenance makes an object anew, and its grants are not made with it.
#[test]
fn what_a_general_role_may_do_on_the_target_alone_is_named_before_it_comes_home() {
    let detour = Detour::new()
        .table("notes")
        .table("orders")
        .on_source(
            "create function public.price(integer) returns integer language sql return $1;
             create sequence public.numbers;
             grant usage on sequence public.numbers to shop_app;
             create schema extra;
             create table extra.parts (id int primary key);
             grant usage on schema extra to shop_app;
             grant select, insert on extra.parts to shop_app;
             create view public.glance as select id from public.notes;
             grant select on public.glance to shop_app",
        )
        .configured(
            "[[map]]\nfrom = \"public.orders\"\nto = \"public.purchases\"\n[[restrict]]\ntables = [\"public.notes\"]",
        )
        .mirrored()
        .run("restrict")
        .exits(0)
        .run("cutover")
        .exits(0)
        .on_source(
            "drop view public.glance;
             create table public.fresh (id bigint generated by default as identity primary key, note text);
             insert into public.fresh select * from public.notes;
             drop table public.notes;
             alter table public.fresh rename to notes;
             create table public.purchases (id bigint generated by default as identity primary key, note text, number serial);
             insert into public.purchases select * from public.orders;
             drop table public.orders;
             revoke execute on function public.price(integer) from public;
             revoke usage on sequence public.numbers from shop_app;
             revoke usage on schema extra from shop_app",
        );
    let all = "on the source it may not: USAGE of schema \"extra\"; DELETE, INSERT, SELECT, UPDATE on \"public.notes\"; \
               USAGE on \"public.numbers\"; EXECUTE of \"public.price(integer)\"; DELETE, INSERT, SELECT, UPDATE on \
               \"public.purchases\"";
    let grants = "GRANT USAGE ON SCHEMA \"extra\" TO \"shop_app\"; \
                  GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE \"public\".\"notes\" TO \"shop_app\"; \
                  GRANT USAGE ON SEQUENCE \"public\".\"numbers\" TO \"shop_app\"; \
                  GRANT EXECUTE ON ROUTINE \"public\".\"price\"(integer) TO \"shop_app\"; \
                  GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE \"public\".\"purchases\" TO \"shop_app\";";
    let detour = detour.run("check").exits(3).finding("shop_app", all, grants);
    let detour =
        detour.run("cutback").exits(3).changed(false).phase("detoured").finding("shop_app", all, grants);
    let warnings = detour.last().at("/warnings").to_string();
    for part in ["has none of that name: SELECT on", "public.glance", "public.purchases_number_seq"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    detour
        .on_source(grants)
        .on_source("grant usage on sequence public.purchases_number_seq to shop_app")
        .run("check")
        .exits(0)
        .run("cutback")
        .exits(0)
        .application("insert into public.notes (note) values ('home'); insert into public.purchases (note) values ('home')");
}

/// A subscription carries rows: whatever else is made on the source while it is mirrored is not on the target.
#[test]
fn what_was_made_on_the_source_since_it_was_mirrored_is_named_before_cutover() {
    let detour = Detour::new()
        .table("orders")
        .table("notes")
        .on_source(
            "create function public.price(integer) returns integer language plpgsql as 'begin return $1; end';
             create view public.glance as select o.id, n.note from public.orders o join public.notes n using (id)
                 where o.note like any (array['a%', 'b%']) and n.id between 1 and 5;
             create type public.mood as enum ('good', 'bad');
             create domain public.amount as numeric(10, 2) default 1 check (value > 0);
             alter table public.notes enable row level security;
             create policy own on public.notes using (note <> current_user)",
        )
        .configured("[mirror]\nexclude = [\"junk.*\"]")
        .mirrored();
    let left_out = "select (facts -> 'left_out')::text from pgdetour.detour";
    assert_eq!(detour.target.value::<String>(left_out), "[]");
    let detour = detour
        .run("check")
        .exits(0)
        .run("status")
        .with(&["--check"])
        .exits(0)
        .on_source(
            "create view public.later as select id from public.orders;
             grant select on public.later to shop_app;
             create view public.unused as select id from public.orders;
             create or replace function public.price(integer) returns integer language plpgsql as 'begin return $1 + 1; end';
             create function public.rebate(integer) returns integer language sql return $1;
             grant execute on function public.rebate to shop_app;
             create function public.of_everybody(integer) returns integer language sql return $1;
             create sequence public.numbers;
             grant usage on sequence public.numbers to shop_app;
             create type public.colour as enum ('red');
             grant usage on type public.colour to shop_app;
             create schema junk; create function junk.price(integer) returns integer language sql return $1;
             grant usage on schema junk to shop_app; grant execute on function junk.price to shop_app;
             alter type public.mood add value 'fair';
             create unique index notes_note on public.notes (note, id);
             alter table public.orders add constraint short check (length(note) < 10000) not valid;
             alter table public.orders alter note set default 'none';
             create trigger watch before update on public.orders for each row execute function suppress_redundant_updates_trigger();
             alter table public.orders enable row level security;
             create policy all_of_it on public.orders using (true);
             create table public.fresh (id int primary key, note text)",
        )
        .run("status")
        .with(&["--check"])
        .exits(3);
    let attention = detour.last().at("/report/attention").to_string();
    assert!(attention.contains("public.later"), "{attention}");
    assert!(attention.contains("Run pgdetour mirror, which adds it"), "{attention}");
    let mut detour = detour;
    for command in ["check", "cutover"] {
        detour = detour
            .run(command)
            .exits(3)
            .phase("mirrored")
            .finding("public.later", "view public.later is not on the target", "Make it on the target")
            .finding("public.rebate(integer)", "function", "Make it on the target")
            .finding("public.numbers", "sequence", "Make it on the target")
            .finding("public.colour", "type", "Make it on the target")
            .finding("public.orders", "row level security", "ENABLE ROW LEVEL SECURITY")
            .finding("all_of_it on public.orders", "policy", "Make it on the target")
            .finding("public.fresh", "is not on the target", "Run pgdetour mirror, which adds it");
        let warnings = detour.last().at("/warnings").to_string();
        for part in [
            "public.unused",
            "public.of_everybody(integer) is not",
            "function public.price(integer) has another definition",
            "type public.mood has another definition",
            "unique index public.notes_note is not",
            "constraint short on public.orders is not",
            "default note of public.orders is not",
            "trigger watch on public.orders is not",
        ] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        let failures = detour.last().at("/error/failures").to_string();
        assert!(!failures.contains("fresh_pkey"), "what belongs to a new table goes with it: {failures}");
        assert!(!failures.contains("junk.price"), "its schema is left out: {failures}");
    }
    // What the hints say.
    detour
        .on_target(
            "create view public.later as select id from public.orders;
             create function public.rebate(integer) returns integer language sql return $1;
             create sequence public.numbers;
             create type public.colour as enum ('red');
             alter table public.orders enable row level security;
             create policy all_of_it on public.orders using (true);
             grant select on public.later to shop_app; grant usage on sequence public.numbers to shop_app",
        )
        .run("mirror")
        .exits(0)
        .run("cutover")
        .exits(0);
}

#[test]
fn a_table_that_was_dropped_on_the_source_keeps_cutover_from_beginning() {
    let gone = "is not on the source any more";
    Detour::new()
        .table("orders")
        .table("notes")
        .mirrored()
        .on_source("drop table public.notes")
        .run("cutover")
        .exits(3)
        .phase("mirrored")
        .finding("public.notes", gone, "DROP TABLE \"public\".\"notes\"")
        .on_target("drop table public.notes")
        .run("cutover")
        .exits(0)
        .run("replay")
        .exits(0);
}

#[test]
fn a_target_that_lets_the_application_in_less_than_the_source_is_named() {
    let mut detour = Detour::new().table("orders").on_source("alter role shop_app password 'one'").on_target(
        "alter role shop_app password 'one'; alter database shop set default_transaction_isolation = 'serializable';
         alter role shop_app connection limit 0 valid until '2001-01-01';
         alter role shop_app in database shop set default_transaction_read_only = on",
    );
    for _ in ["before the mirror", "behind it"] {
        detour = detour.run("check").exits(3);
        detour = detour.finding("shop_app", "connection limit is 0", "CONNECTION LIMIT -1");
        detour = detour.finding("shop_app", "valid no more", "VALID UNTIL 'infinity'");
        detour = detour.finding("shop_app", "default_transaction_read_only", "RESET");
        let warnings = detour.last().at("/warnings").to_string();
        assert!(warnings.contains("default_transaction_isolation is"), "{warnings}");
        detour = detour.on_target(
            "alter database shop reset default_transaction_isolation; alter database shop connection limit 7;
             alter role shop_app connection limit 5 valid until 'infinity' password null;
             alter role shop_app in database shop reset default_transaction_read_only;
             alter role shop_app reset default_transaction_read_only;
             alter role shop_app set statement_timeout = '2s'; alter role shop_app set lock_timeout = '1h'",
        );
        detour = detour.on_source("alter role shop_app set statement_timeout = 10000; alter role shop_app set lock_timeout = '30min'");
        detour = detour.run("check").exits(0);
        let warnings = detour.last().at("/warnings").to_string();
        for part in [
            "its CONNECTION LIMIT is 5 on the target",
            "its CONNECTION LIMIT is 7 on the target",
            "it has a password on the source, and none on the target",
            "statement_timeout is \\\"2s\\\" for it on the target, and \\\"10000\\\" on the source",
        ] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        assert!(!warnings.contains("lock_timeout is"), "{warnings}");
        detour = detour.run("mirror").exits(0).on_target(
            "alter database shop set default_transaction_isolation = 'serializable';
             alter role shop_app connection limit 0 valid until '2001-01-01';
             alter role shop_app set default_transaction_read_only = on",
        );
    }
}

#[test]
fn a_read_only_fence_is_no_setting_of_somebody_else() {
    let detour = Detour::new().table("orders").fenced_read_only().run("check").exits(0).mirrored();
    let fenced =
        "select count(*) from pg_db_role_setting where array_to_string(setconfig, ' ') ~ 'read_only=on'";
    assert_eq!(detour.target.value::<i64>(fenced), 1);
    let mut detour = detour.run("check").exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(!warnings.contains("default_transaction_read_only is set"), "{warnings}");
    detour = detour.on_target("alter role shop_app set default_transaction_read_only = on");
    detour.run("check").exits(3).finding("shop_app", "cannot write there", "RESET");
}

#[test]
fn a_general_role_that_only_others_log_in_through_is_told_with_these() {
    let roles = "alter role shop_app nologin; create role \"app 1\" login in role shop_app; create role part in role shop_app;
                 create role app_2 login in role part; create role idle in role shop_app";
    let detour = Detour::new().table("orders").without_router().on_source(roles).on_target(roles);
    let detour = detour.run("check").exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("it cannot log in, so that no connection is its"), "{warnings}");
    assert!(warnings.contains("these are members of it: app 1, app_2."), "{warnings}");
}

#[test]
fn partitions_that_a_mirror_cannot_carry_are_named() {
    let detour = Detour::new().on_source(
        "create extension postgres_fdw; create server far foreign data wrapper postgres_fdw;
         create table public.days (id int, day int) partition by list (day); alter table public.days replica identity full;
         create table public.days_1 partition of public.days for values in (1); alter table public.days_1 replica identity full;
         create foreign table public.days_0 partition of public.days for values in (0) server far;
         create type public.mood as enum ('good', 'bad');
         create table public.moods (id int, mood public.mood, primary key (id, mood)) partition by hash (mood);
         create table public.moods_0 partition of public.moods for values with (modulus 2, remainder 0);
         create table public.moods_1 partition of public.moods for values with (modulus 2, remainder 1);
         create table public.texts (id int, mood text, primary key (id, mood)) partition by hash (mood);
         create table public.texts_0 partition of public.texts for values with (modulus 1, remainder 0)",
    );
    let before = detour.fingerprint();
    let detour = detour
        .run("mirror")
        .exits(3)
        .finding("public.days_0", "is a partition", "DETACH PARTITION \"public\".\"days_0\"")
        .finding("public.moods", "hash of an enum", "mirror.exclude")
        .unchanged_since(&before);
    let findings = detour.last().at("/error/failures").to_string();
    assert!(!findings.contains("public.texts"), "{findings}");
    detour
        .on_source("alter table public.days detach partition public.days_0; drop table public.moods")
        .run("mirror")
        .exits(0);
}
