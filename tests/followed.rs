//! What the mirror's flow loses: tables that are not those which were copied, though they are defined alike.

use crate::support::detour::{Detour, Serving};

const TABLES: &str = "
create table public.report (id int primary key, v int);
insert into public.report select n, 1 from generate_series(1, 10) as n;
create table public.parted (id int, k int, primary key (id, k)) partition by list (k);
create table public.parted_1 partition of public.parted for values in (1);
create table public.parted_2 partition of public.parted for values in (2);
insert into public.parted select n, 1 + n % 2 from generate_series(1, 20) as n;
create table public.whole (id int, k int, primary key (id, k)) partition by list (k);
create table public.whole_1 partition of public.whole for values in (1);
insert into public.whole select n, 1 from generate_series(1, 20) as n;
create table public.remade (id int primary key, v int default 1);
insert into public.remade values (1), (2);
create table public.stamped (id int primary key);
insert into public.stamped values (1), (2);
create table public.doubled (id int primary key, v int);
insert into public.doubled values (1, 10), (2, 20);
";

/// What is filled anew each night, and a column whose values nobody streams.
const MADE_AGAIN: &str = "
begin; drop table public.report; create table public.report (id int primary key, v int);
insert into public.report select n, 2 from generate_series(1, 30) as n; commit;
begin; drop table public.parted_1; create table public.parted_1 partition of public.parted for values in (1);
insert into public.parted values (100, 1); commit;
begin; drop table public.whole; create table public.whole (id int, k int, primary key (id, k)) partition by list (k);
create table public.whole_1 partition of public.whole for values in (1); insert into public.whole values (7, 1); commit;
alter table public.remade drop column v, add column v int default 7;
alter table public.stamped add column made timestamptz not null default clock_timestamp();
";

const CUT: &str = "
create table public.cut (id int primary key, v int) partition by range (id);
create table public.cut_1 partition of public.cut for values from (0) to (100);
insert into public.cut select n, n from generate_series(1, 20) as n;
";

/// Other values in the same definition.
const ALTERED: &str = "alter table public.doubled alter v type int using v * 2; alter table public.cut alter v type int using v * 2";

const COPIED_AGAIN: &str = "Run pgdetour mirror, which copies it again";

/// Before 15, publications know neither columns nor filters.
fn parts_are_known() -> bool {
    Detour::new().source.value::<i32>("select current_setting('server_version_num')::int") >= 150_000
}

fn is_equal(detour: Detour) -> Detour {
    detour.run("verify").exits(0).reports("/equal", true)
}

#[test]
fn a_table_that_is_made_again_on_the_source_is_named_and_copied_again() {
    for carried in ["", "[mirror]\ncarrier = \"pgdetour\"", "[mirror]\nmethod = \"trigger\""] {
        let mut detour = Detour::new()
            .table("orders")
            .on_source(TABLES)
            .configured(carried)
            .writing()
            .mirrored()
            .run("check")
            .exits(0)
            .on_target(
                "alter table public.stamped add column made timestamptz not null default clock_timestamp()",
            )
            .on_source(MADE_AGAIN)
            .run("status")
            .with(&["--check"])
            .exits(3);
        assert!(detour.last().at("/report/attention").to_string().contains("public.parted_1"));
        for command in ["check", "cutover"] {
            detour = detour
                .run(command)
                .exits(3)
                .phase("mirrored")
                .finding("public.report", "was dropped or renamed on the source", COPIED_AGAIN)
                .finding("public.parted_1", "another one is in its place", COPIED_AGAIN)
                .finding("public.whole", "another one is in its place", COPIED_AGAIN)
                .finding("public.remade", "another column \"v\"", COPIED_AGAIN)
                .finding("public.stamped", "column \"made\"", COPIED_AGAIN);
        }
        let detour = detour.run("mirror").exits(0).changed(true).phase("mirrored");
        detour.source.exec("insert into public.report values (1000, 3); insert into public.parted values (1000, 1), (1001, 2)");
        detour
            .source
            .exec("insert into public.whole values (1000, 1); update public.stamped set id = 3 where id = 2");
        detour
            .run("check")
            .exits(0)
            .at_rest(|detour| is_equal(detour.run("mirror").exits(0)))
            .run("cutover")
            .exits(0)
            .serving(Serving::Target)
            .application_goes_on()
            .no_client_error()
            .no_row_lost();
    }
}

#[test]
fn values_that_an_alter_may_have_rewritten_are_doubted() {
    let detour = Detour::new()
        .on_source(TABLES)
        .mirrored()
        .on_source("alter table public.doubled alter v type int using v * 2")
        .on_source("vacuum full public.report")
        .run("check")
        .exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("public.doubled") && warnings.contains("column \\\"v\\\""), "{warnings}");
    assert!(!warnings.contains("public.report"), "its rows are the same in a new file: {warnings}");
    detour
        .run("verify")
        .with(&["--table", "public.doubled"])
        .exits(8)
        .doubts("public.doubled", true)
        .run("mirror")
        .with(&["--table", "public.doubled", "--again"])
        .exits(0)
        .doubts("public.doubled", false)
        .run("verify")
        .exits(0);
}

#[test]
fn a_comparison_that_finds_the_rows_equal_ends_a_doubt_of_what_was_altered_before() {
    let detour = Detour::new()
        .on_source(TABLES)
        .on_source(CUT)
        .mirrored()
        .on_source(ALTERED)
        .on_target(ALTERED)
        .doubts("public.doubled", true)
        .doubts("public.cut_1", true)
        // A part of the rows tells of no other.
        .run("verify")
        .with(&["--sample", "50%"])
        .exits(0)
        .doubts("public.doubled", true)
        // What was written before may be on its way.
        .run("mirror")
        .with(&["--stop"])
        .exits(0)
        .run("verify")
        .exits(0)
        .run("mirror")
        .exits(0)
        .doubts("public.doubled", true)
        .run("verify")
        .with(&["--table", "public.doubled"])
        .exits(0)
        .reports("/equal", true)
        .doubts("public.doubled", false)
        .doubts("public.cut_1", true);
    // Partitions are compared with their root.
    let detour = is_equal(detour).doubts("public.cut_1", false);
    // Another one, which nobody has made on the target.
    let detour = detour.on_source(ALTERED).doubts("public.doubled", true).doubts("public.cut_1", true);
    detour
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .doubts("public.doubled", false)
        .doubts("public.cut_1", false);
}

impl Detour {
    /// Whether `check` warns that values of a table may have been rewritten.
    pub fn doubts(self, table: &str, wanted: bool) -> Detour {
        let detour = self.run("check").exits(0);
        let warnings = detour.last().at("/warnings").to_string();
        let doubt = format!("table \\\"{table}\\\" may have other values");
        assert_eq!(warnings.contains(&doubt), wanted, "{table}: {warnings}");
        detour
    }
}

/// A default that is there no more has filled older rows on the source, and a column was made anew on the target alone.
const FILLED: [&str; 2] = [
    "alter table public.report add status text default 'active'; alter table public.report alter status drop default",
    "alter table public.report add status text; alter table public.doubled drop v; alter table public.doubled add v int",
];

#[test]
fn a_column_whose_older_rows_differ_is_copied_again_and_nothing_of_it_is_lost_on_the_way_home() {
    for is_older in [false, true] {
        let mut detour = Detour::new()
            .on_source(TABLES)
            .mirrored()
            .on_source(FILLED[0])
            .on_target(FILLED[1])
            .on_source("update public.report set v = 7 where id = 1");
        if is_older {
            // As an earlier version has left it: nothing tells what the target's columns were.
            detour.target.exec("update pgdetour.table_copy set origin = origin - 'image'");
            detour
                .target
                .exec("drop table public.doubled; create table public.doubled (id int primary key, v int)");
        }
        for command in ["check", "cutover"] {
            detour = detour
                .run(command)
                .exits(3)
                .phase("mirrored")
                .finding("public.report", "column \"status\"", COPIED_AGAIN)
                .finding("public.doubled", "on the target", COPIED_AGAIN);
        }
        let detour = is_equal(detour.run("mirror").exits(0).changed(true));
        let detour = detour
            .run("cutover")
            .exits(0)
            .on_target("update public.report set v = 9; update public.doubled set id = id")
            .run("replay")
            .exits(0);
        assert_eq!(
            detour.source.value::<String>(
                "select (select count(*) from public.report where status = 'active' and v = 9) || ' '
                     || (select string_agg(v::text, ',' order by id) from public.doubled)"
            ),
            "10 10,20"
        );
    }
}

#[test]
fn values_that_either_side_may_have_rewritten_stay_doubted_until_a_look_at_the_rows() {
    for carried in ["", "[mirror]\ncarrier = \"pgdetour\""] {
        let detour = Detour::new()
            .on_source(TABLES)
            .configured(carried)
            .mirrored()
            .on_source(FILLED[0])
            .on_source("vacuum full public.report")
            .on_target("alter table public.report add status text")
            .on_target("alter table public.doubled alter v type int using v * 2")
            .on_target("vacuum full public.stamped")
            .run("check")
            .exits(0)
            // Which finds the same definition on both sides.
            .run("mirror")
            .exits(0)
            .run("check")
            .exits(0);
        let warnings = detour.last().at("/warnings").to_string();
        for doubt in [
            "table \\\"public.report\\\" may have other values in column \\\"status\\\"",
            "an ALTER may have rewritten them on the target",
        ] {
            assert!(warnings.contains(doubt), "{doubt}: {warnings}");
        }
        assert!(!warnings.contains("public.stamped"), "its rows are the same in a new file: {warnings}");
        let detour = detour
            .run("verify")
            .exits(8)
            .run("mirror")
            .with(&["--table", "public.report", "--table", "public.doubled", "--again"])
            .exits(0);
        let detour = is_equal(detour).run("check").exits(0);
        let warnings = detour.last().at("/warnings").to_string();
        assert!(!warnings.contains("may have other values"), "{warnings}");
    }
}

#[test]
fn what_a_publication_that_somebody_has_altered_may_have_missed_is_copied_again() {
    let parts = "[[mirror.table]]\nname = \"public.report\"\nwhere = \"id < 100\"";
    let has_parts = parts_are_known();
    let mut detour = Detour::new()
        .on_source(TABLES)
        .configured(if has_parts { parts } else { "" })
        .mirrored()
        .run("mirror")
        .exits(0)
        .changed(false)
        .run("check")
        .exits(0);
    let mut altered = vec![
        (
            "alter publication pgdetour_mirror set (publish = 'insert')",
            "leaves out every update and delete and truncate",
            "public.parted_1",
        ),
        (
            "alter publication pgdetour_mirror drop table only public.doubled; update public.doubled set v = 3;
             alter publication pgdetour_mirror add table only public.doubled",
            "was without it for a while",
            "public.doubled",
        ),
    ];
    if has_parts {
        altered.push((
            "alter publication pgdetour_mirror drop table only public.doubled;
             alter publication pgdetour_mirror add table only public.doubled (id)",
            "publishes other columns or rows of it",
            "public.doubled",
        ));
        altered.push((
            "alter publication pgdetour_mirror drop table only public.report;
             alter publication pgdetour_mirror add table only public.report where (id < 0)",
            "publishes other columns or rows of it",
            "public.report",
        ));
    }
    for (statements, message, table) in altered {
        detour = detour
            .on_source(statements)
            .on_source("update public.doubled set v = v + 1; update public.report set v = v + 1; delete from public.parted where id = (select min(id) from public.parted)")
            .run("status")
            .with(&["--check"])
            .exits(3);
        for command in ["check", "cutover"] {
            detour = detour.run(command).exits(3).finding(table, message, COPIED_AGAIN);
        }
        detour = is_equal(detour.run("mirror").exits(0).changed(true)).run("check").exits(0);
    }
    detour.run("mirror").exits(0).changed(false);
}

#[test]
fn settings_and_owners_that_are_given_on_the_source_later_are_told_with_the_statement_for_the_target() {
    let detour = Detour::new()
        .table("orders")
        .on_source(TABLES)
        .on_source(
            "do $$ begin execute format('alter database %I set work_mem = ''5MB''', current_database()); end $$",
        )
        .mirrored()
        .run("check")
        .exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(!warnings.contains("Run on the target"), "{warnings}");
    let detour = detour
        .on_source(
            "do $$ begin
                 execute format('alter database %I set work_mem = ''6MB''', current_database());
                 execute format('alter role shop_app in database %I set statement_timeout = ''9s''', current_database());
             end $$;
             create role keeper; alter table public.report owner to keeper",
        )
        .on_target("create role keeper")
        .run("check")
        .exits(0);
    let warnings = detour.last().at("/warnings").to_string().to_lowercase();
    for told in [
        "set \\\"work_mem\\\" to '6mb'",
        "alter role \\\"shop_app\\\" in database",
        "set \\\"statement_timeout\\\" to '9s'",
        "alter table \\\"public\\\".\\\"report\\\" owner to \\\"keeper\\\"",
    ] {
        assert!(warnings.contains(told), "{told}: {warnings}");
    }
    let detour = detour.run("cutover").exits(0);
    assert!(detour.answer_of("cutover").at("/warnings").to_string().contains("statement_timeout"));
}

#[test]
fn a_table_that_either_end_of_the_flow_forgets_is_named_and_copied_again() {
    let mut detour = Detour::new()
        .table("orders")
        .on_source(TABLES)
        .mirrored()
        .on_source("alter publication pgdetour_mirror drop table public.remade")
        .on_source("alter publication pgdetour_mirror drop table public.report")
        .on_target("alter subscription pgdetour_mirror refresh publication with (copy_data = false)")
        .on_source("alter publication pgdetour_mirror add table public.report")
        .on_target("drop table public.doubled; create table public.doubled (id int primary key, v int)")
        .on_source(
            "update public.doubled set v = 3; update public.remade set v = 3; update public.report set v = 3",
        );
    for is_older in [false, true] {
        if is_older {
            // As an earlier version has left it: membership alone tells.
            detour.target.exec("alter table pgdetour.table_copy drop column origin, drop column image");
        }
        let doubled = if is_older { "not in the mirror's subscription" } else { "renamed on the target" };
        detour = detour
            .run("cutover")
            .exits(3)
            .finding("public.doubled", doubled, COPIED_AGAIN)
            .finding("public.remade", "not among what is recorded on the source", COPIED_AGAIN)
            .finding("public.report", "not in the mirror's subscription", COPIED_AGAIN);
    }
    detour = detour.run("mirror").exits(0).changed(true).run("verify").exits(0);
    detour.on_source("drop publication pgdetour_mirror").run("cutover").exits(3).finding(
        "pgdetour_mirror",
        "publication on the source is missing",
        "clean",
    );
}

#[test]
fn a_mirror_that_an_earlier_version_made_goes_on() {
    Detour::new()
        .table("orders")
        .on_source(TABLES)
        .writing()
        .mirrored()
        .on_target("alter table pgdetour.table_copy drop column origin, drop column image")
        .run("check")
        .exits(0)
        .on_source("create table public.later (id int primary key)")
        .run("mirror")
        .exits(0)
        .changed(true)
        .at_rest(is_equal)
        .run("cutover")
        .exits(0)
        .application_goes_on()
        .no_client_error()
        .no_row_lost();
}

/// The subscription applies changes already when the next run finds out that there is more to copy.
#[test]
fn a_run_that_died_after_it_had_handed_over_goes_on_with_what_is_to_be_copied_since() {
    for detour in [Detour::new(), Detour::new().with_backup()] {
        detour
            .table("orders")
            .on_source(TABLES)
            .writing()
            .run("mirror")
            .fault("after:hand over to a subscription")
            .dies()
            .on_source("create table public.later (id int primary key); insert into public.later values (1)")
            .run("mirror")
            .fault("after:hand over to a subscription")
            .dies()
            .on_source("insert into public.later values (2)")
            .run("mirror")
            .with(&["--table", "public.orders", "--again"])
            .exits(0)
            .phase("mirrored")
            .on_source("insert into public.later values (3)")
            .run("check")
            .exits(0)
            .at_rest(is_equal)
            .run("cutover")
            .exits(0)
            .application_goes_on()
            .no_client_error()
            .no_row_lost();
    }
}
