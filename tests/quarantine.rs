//! A change that does not fit is set aside, and stands in the way home until somebody has decided.

use crate::support::detour::{Detour, Serving};

#[test]
fn home_is_reached_past_the_quarantine_only_by_its_exact_count() {
    let detour = Detour::new()
        .table("orders")
        .configured("[replay]\non_conflict = \"quarantine\"")
        .writing()
        .detoured()
        .on_source(
            "delete from public.orders where id in (1, 2);
             alter table public.orders add constraint short check (length(note) < 20)",
        )
        .application(
            "update public.orders set note = 'a' where id = 1;
             update public.orders set note = 'b' where id = 1;
             delete from public.orders where id = 2;
             update public.orders set note = repeat('long', 20) where id = 3;
             update public.orders set note = 'fits' where id = 4",
        )
        .run("replay")
        .exits(0)
        .reports("/conflicts", 3)
        .reports("/quarantined", 4);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(
        warnings.contains(
            "3 changes set aside by this run, not fitting the source; 4 changes are in quarantine in all"
        ),
        "{warnings}"
    );
    let detour = detour
        .application_goes_on()
        .run("replay")
        .with(&["--quarantine", "list"])
        .exits(0)
        .changed(false)
        .reports("/entries/0/kind", "update_missing")
        .reports("/entries/1/kind", "follows")
        .reports("/entries/3/sqlstate", "23514")
        .reports("/entries/3/constraint", "short");
    assert_eq!(
        detour.source.value::<String>("select note from public.orders where id = 4"),
        "fits",
        "an unrelated change has arrived"
    );
    detour
        .run("cutback")
        .exits(3)
        .kind("checks_failed")
        .finding("source", "4 changes are in quarantine", "--accept-quarantined")
        .serving(Serving::Target)
        .run("replay")
        .with(&["--quarantine", "skip", "--id", "3"])
        .unconfirmed()
        .exits(2)
        .run("replay")
        .with(&["--quarantine", "skip", "--id", "3"])
        .exits(0)
        .reports("/quarantined", 3)
        .run("replay")
        .with(&["--quarantine", "retry", "--id", "2"])
        .exits(3)
        .kind("quarantine_order")
        .on_source("insert into public.orders (id, note) values (1, 'again')")
        .run("replay")
        .with(&["--quarantine", "retry"])
        .exits(0)
        .reports("/applied", 2)
        .reports("/quarantined", 1)
        .run("cutback")
        .with(&["--accept-quarantined", "2"])
        .exits(3)
        .finding("source", "1 change is in quarantine, and 2 accepted", "exact number")
        .run("cutback")
        .with(&["--accept-quarantined", "1"])
        .exits(0)
        .phase("returned")
        .serving(Serving::Source)
        // What was given up is still shown.
        .run("replay")
        .with(&["--quarantine", "list"])
        .exits(0)
        .reports("/quarantined", 1)
        .run("replay")
        .exits(3)
        .kind("wrong_phase")
        .no_client_error()
        .no_row_lost();
}

/// Whoever is to decide about each sees them all.
#[test]
fn a_long_quarantine_is_shown_in_parts_and_says_so() {
    let detour = Detour::new()
        .on_source("create table public.t (id int primary key, v text); grant all on public.t to shop_app")
        .configured("[replay]\non_conflict = \"quarantine\"")
        .detoured()
        .on_source("alter table public.t add check (v <> 'bad')")
        .application("insert into public.t select n, 'bad' from generate_series(1, 1001) as n")
        .run("replay")
        .exits(0)
        .reports("/quarantined", 1001)
        .run("replay")
        .with(&["--quarantine", "list"])
        .exits(0)
        .reports("/quarantined", 1001)
        .reports("/left", 1);
    let last = detour.last().at("/report/entries/999/id").to_string();
    let told = detour.last().text_at("/warnings/0").to_owned();
    assert!(told.starts_with("1000 of 1001 changes in quarantine are shown; 1 more"), "{told}");
    assert!(told.ends_with(&format!("--quarantine list --after {last}")), "{told}");
    let detour = detour
        .run("replay")
        .with(&["--quarantine", "list", "--after", &last])
        .exits(0)
        .reports("/quarantined", 1001)
        .reports("/left", 0);
    assert_eq!(detour.last().at("/report/entries").as_array().map(Vec::len), Some(1));
    assert_eq!(detour.last().at("/warnings"), &serde_json::json!([]), "{}", detour.last().describe());
    detour.run("replay").with(&["--quarantine", "skip", "--after", &last]).exits(2).kind("usage");
}

/// The way that the hint names is a way out.
#[test]
fn a_truncate_of_what_is_one_table_on_the_source_is_set_aside_and_given_up() {
    let detour = Detour::new()
        .on_source(
            "create table public.p (id int, d int, primary key (id, d)) partition by list (d);
             create table public.p_1 partition of public.p for values in (1);
             create table public.p_2 partition of public.p for values in (2);
             insert into public.p values (1, 1), (2, 2);
             grant all on all tables in schema public to shop_app",
        )
        .detoured()
        .on_source(
            "create table public.p_new (id int, d int, primary key (id, d));
             insert into public.p_new select * from public.p;
             drop table public.p;
             alter table public.p_new rename to p",
        )
        .application("truncate public.p_2")
        .application("insert into public.p values (3, 2)")
        .run("replay")
        .exits(8)
        .kind("truncate")
        .hint("pgdetour replay --quarantine skip --id N")
        .configured("[replay]\non_conflict = \"quarantine\"")
        .run("replay")
        .exits(0)
        .on_source("delete from public.p where d = 2 and id = 2")
        .run("replay")
        .with(&["--quarantine", "list"])
        .exits(0);
    let id = detour.last().at("/report/entries/0/id").to_string();
    detour
        .run("replay")
        .with(&["--quarantine", "skip", "--id", &id])
        .exits(0)
        .run("replay")
        .with(&["--quarantine", "retry"])
        .exits(0)
        .reports("/quarantined", 0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
}

#[test]
fn a_mapping_that_is_missing_is_proposed_and_not_assumed() {
    let detour = Detour::new()
        .table("orders")
        .detoured()
        .on_source(
            "alter table public.orders rename to purchases; alter table public.purchases rename note to remark",
        )
        .run("check")
        .exits(3)
        .finding("public.orders", "does not exist on the other side", "[[map]]")
        .run("replay")
        .with(&["--lint"])
        .exits(3)
        .kind("checks_failed")
        .changed(false)
        .proposes("public.orders", PROPOSED)
        .run("replay")
        .exits(3)
        .configured(PROPOSED)
        .application("insert into public.orders (id, note) values (5000, 'through the proposal')")
        .run("replay")
        .exits(0)
        .reports("/caught_up", true);
    assert_eq!(
        detour.source.value::<String>("select remark from public.purchases where id = 5000"),
        "through the proposal"
    );
}

#[test]
fn a_column_that_the_target_alone_generates_is_refused_until_the_mapping_says_what_becomes_of_it() {
    let detour = Detour::new()
        .on_source(COMPUTED)
        .detoured()
        .on_source("alter table public.computed alter twice drop expression")
        .application("update public.computed set a = 50 where id = 1; insert into public.computed (id, a) values (2, 7)")
        .run("check")
        .exits(3)
        .finding("public.computed", "column \"twice\" of \"public.computed\" is generated", "twice = \"(a * 2)\"")
        .run("replay")
        .with(&["--lint"])
        .exits(3)
        .kind("checks_failed")
        .changed(false)
        .reports("/lint/0/columns/2/fate", "impossible")
        .proposes("public.computed", COMPUTED_ANEW);
    let detour = ["replay", "verify", "cutback"].into_iter().fold(detour, |detour, command| {
        let refused = detour.run(command).exits(3).kind("checks_failed");
        refused.finding("public.computed", "is generated", "drop = [\"twice\"]")
    });
    let detour = detour
        .configured(COMPUTED_ANEW)
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .on_source("update public.computed set twice = 0 where id = 2")
        .run("verify")
        .exits(8)
        .on_source("update public.computed set twice = a * 2");
    assert_eq!(detour.source.value::<i64>("select sum(twice) from public.computed"), 114);
    detour.run("cutback").exits(0);
}

const COMPUTED: &str = "
    create table public.computed (id int primary key, a int, twice int generated always as (a * 2) stored);
    insert into public.computed (id, a) values (1, 1);
    grant select, insert, update, delete on public.computed to shop_app";

const COMPUTED_ANEW: &str =
    "[[map]]\nfrom = \"public.computed\"\nto = \"public.computed\"\ncolumns = { twice = \"(a * 2)\" }\n";

const PROPOSED: &str =
    "[[map]]\nfrom = \"public.orders\"\nto = \"public.purchases\"\ncolumns = { remark = \"note\" }\n";

impl Detour {
    /// The proposal for a table, in the latest answer.
    fn proposes(self, table: &str, text: &str) -> Detour {
        let lint = self.last().at("/report/lint").as_array().cloned().unwrap_or_default();
        let found = lint.iter().find(|entry| entry["from"] == table).map(|entry| entry["proposal"].clone());
        assert_eq!(found, Some(text.into()), "{}", self.last().describe());
        self
    }
}

/// What waits is older: tried again, it would undo what came since.
#[test]
fn what_comes_behind_a_change_in_quarantine_waits_there_though_replay_is_to_stop_by_now() {
    let detour = Detour::new()
        .on_source(
            "create table public.t (id int primary key, v text); create table public.u (id int primary key, v text);
             create table public.emptied (id int primary key, v text);
             insert into public.t select n, 'old' from generate_series(1, 5) as n;
             insert into public.u select n, 'old' from generate_series(1, 5) as n;
             insert into public.emptied select n, 'old' from generate_series(1, 5) as n;
             grant all on public.t, public.u, public.emptied to shop_app",
        )
        .configured("[replay]\non_conflict = \"quarantine\"")
        .detoured()
        .on_source(
            "alter table public.t add constraint nobad check (v <> 'bad');
             alter table public.emptied add constraint nobad check (v <> 'bad')",
        )
        .application(
            "update public.t set v = 'bad' where id = 1;
             update public.emptied set v = 'bad' where id = 1",
        )
        .run("replay")
        .exits(0)
        .reports("/quarantined", 2)
        .reconfigured("\"quarantine\"", "\"stop\"")
        .application("update public.t set v = 'good' where id = 1")
        .application("update public.t set id = 9 where id = 1; update public.t set v = 'new' where id in (2, 9)")
        .application("update public.u set v = 'new' where id = 1; update public.emptied set v = 'waits' where id = 1")
        .application("truncate public.emptied; insert into public.emptied values (1, 'again')")
        .run("replay")
        .exits(0)
        .reports("/caught_up", true)
        .reports("/conflicts", 0)
        .reports("/quarantined", 4);
    let told = detour.last().at("/warnings").to_string();
    assert!(told.contains("4 changes are in quarantine, though replay.on_conflict is"), "{told}");
    let rows = |detour: &Detour, table: &str| {
        let rows = format!("select string_agg(id || ' ' || v, ', ' order by id) from public.{table}");
        detour.source.value::<String>(&rows)
    };
    assert_eq!(rows(&detour, "t"), "1 old, 2 new, 3 old, 4 old, 5 old");
    assert_eq!(rows(&detour, "u"), "1 new, 2 old, 3 old, 4 old, 5 old");
    assert_eq!(rows(&detour, "emptied"), "1 again");

    // What does not fit stops it as ever, after what fits.
    let detour = detour
        .application(
            "update public.t set v = 'newer' where id = 9; update public.u set v = 'newer' where id = 1",
        )
        .application(
            "update public.t set v = 'newer' where id = 3; update public.t set v = 'bad' where id = 4",
        )
        .run("replay")
        .exits(8)
        .kind("check");
    assert_eq!(rows(&detour, "t"), "1 old, 2 new, 3 old, 4 old, 5 old");
    assert_eq!(rows(&detour, "u"), "1 newer, 2 old, 3 old, 4 old, 5 old");
    detour
        .on_source("alter table public.t drop constraint nobad")
        .run("replay")
        .exits(0)
        .reports("/quarantined", 5)
        .run("replay")
        .with(&["--quarantine", "retry"])
        .exits(0)
        .reports("/applied", 5)
        .reports("/quarantined", 0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .run("cutback")
        .exits(0);
}

/// A parent can't go before its child that waits; the rest of the flow goes on.
#[test]
fn a_parent_that_goes_with_a_child_in_quarantine_is_set_aside_too() {
    let detour = Detour::new()
        .on_source(
            "create table public.par (id int primary key, v text);
             create table public.chi (id int primary key, pid int references public.par (id), v text);
             insert into public.par select n, 'old' from generate_series(1, 6) as n;
             insert into public.chi select n, n, 'old' from generate_series(1, 5) as n;
             grant all on public.par, public.chi to shop_app",
        )
        .configured("[replay]\non_conflict = \"quarantine\"")
        .detoured()
        .on_source("alter table public.chi add constraint nobad check (v <> 'bad')")
        .application("update public.chi set v = 'bad' where id = 1")
        .run("replay")
        .exits(0)
        .reports("/quarantined", 1)
        .application("update public.par set v = 'new' where id = 6")
        .application("delete from public.chi where id = 1; delete from public.par where id = 1")
        .application("delete from public.chi where id = 2; delete from public.par where id = 2")
        .run("replay")
        .exits(0)
        .reports("/conflicts", 1)
        .reports("/quarantined", 3)
        // Here the child is set aside by the very transaction that takes its parent.
        .application(
            "update public.par set v = 'new' where id = 5; update public.chi set v = 'bad' where id = 3",
        )
        .application(
            "insert into public.chi values (8, 6, 'bad'); update public.chi set v = 'bad' where id = 4;
             update public.chi set id = 40 where id = 4; delete from public.chi where id = 40;
             delete from public.par where id = 4",
        )
        .application("update public.par set v = 'newer' where id = 6")
        .run("replay")
        .exits(0)
        .reports("/caught_up", true);
    let orphans = "select count(*) from public.chi as c where not exists (select from public.par as p where p.id = c.pid)";
    assert_eq!(detour.source.value::<i64>(orphans), 0);
    assert_eq!(detour.source.value::<String>("select v from public.par where id = 6"), "newer");
    detour
        .on_source("alter table public.chi drop constraint nobad")
        .run("replay")
        .with(&["--quarantine", "retry"])
        .exits(0)
        .reports("/quarantined", 0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .run("cutback")
        .exits(0);
}
