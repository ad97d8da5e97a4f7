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
