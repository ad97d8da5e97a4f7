//! What [mirror] selects: tables, rows and columns, the same for the copy, the stream and the way home.

use crate::support::detour::{Detour, Serving};
use crate::support::postgres::Postgres;

const EVENTS: &str = "
create table public.events (
    tenant int, id int, note text, secret text default 'default', big text, primary key (tenant, id)
);
insert into public.events
select t, n, 'n' || n, 'secret ' || n, repeat('x', 3000) from generate_series(1, 3) as t, generate_series(1, 100) as n;
create table public.logs (level int, what text);
alter table public.logs replica identity full;
insert into public.logs select n % 5, 'log ' || n from generate_series(1, 50) as n;
create table public.audit_log (id int primary key);
create table public.audit_mail (id int primary key);
create table public.later (id int primary key, log int references public.audit_log);
create view public.audit as select * from public.audit_log;
insert into public.audit_log values (1);
insert into public.later values (1, 1);
grant all on public.events, public.logs to shop_app;
";

const PARTS: &str = r#"
[mirror]
exclude = ["public.audit_*"]
[[mirror.table]]
name = "public.events"
where = "tenant = 2"
columns = ["tenant", "id", "note", "big"]
[[mirror.table]]
name = "public.logs"
where = "level > 2"
"#;

/// Rows come in, go out, and change inside and outside of the filter.
const CHANGES: &str = "
insert into public.events (tenant, id, note) values (2, 1000 + :n, 'new inside'), (3, 1000 + :n, 'new outside');
update public.events set note = note || ' :n' where id between 10 and 20;
update public.events set tenant = 2, id = 2000 + :n where tenant = 1 and id = 30 + :n;
update public.events set tenant = 3, id = 3000 + :n where tenant = 2 and id = 40 + :n;
update public.events set secret = 'changed' where id = 50;
delete from public.events where id = 60 + :n;
insert into public.logs values (4, 'in'), (1, 'out');
update public.logs set level = 4 where what = 'log 1';
update public.logs set level = level - 1 where what in ('log 3', 'log 8');
delete from public.logs where what = 'log 4';
";

fn changes(n: u32) -> String {
    CHANGES.replace(":n", &n.to_string())
}

/// Before 15, publications know neither.
fn knows_parts(detour: &Detour) -> bool {
    let version = "select current_setting('server_version_num')::int4";
    detour.source.value::<i32>(version) >= 150_000 && detour.target.value::<i32>(version) >= 150_000
}

#[test]
fn filters_and_column_lists_hold_for_copy_stream_and_the_way_home() {
    let detour = Detour::new().on_source(EVENTS).configured(PARTS);
    if !knows_parts(&detour) {
        detour.run("mirror").exits(3).finding("public.events", "cannot publish a part", "PostgreSQL 15");
        return;
    }
    let detour = detour
        .writing()
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_source(&changes(1))
        .run("mirror")
        .exits(0)
        .on_source(&changes(2))
        .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true));
    let objects = detour.answer_of("mirror").at("/report/objects").to_string();
    assert!(objects.contains("public.audit_log, public.audit_mail: left out by [mirror]"), "{objects}");
    let target = &detour.target;
    assert_eq!(target.value::<i64>("select count(*) from public.events where tenant <> 2"), 0);
    assert_eq!(target.value::<i64>("select count(*) from public.logs where level <= 2"), 0);
    assert_eq!(target.value::<i64>("select count(*) from public.events where secret <> 'default'"), 0);
    let inside = "select md5(string_agg(row(tenant, id, note, big)::text, ',' order by id)) from public.events where tenant = 2";
    assert_eq!(target.value::<String>(inside), detour.source.value::<String>(inside));
    let logs = "select md5(string_agg(l::text, ',' order by l::text collate \"C\")) from public.logs as l where level > 2";
    assert_eq!(target.value::<String>(logs), detour.source.value::<String>(logs));
    assert_eq!(target.value::<i64>("select count(*) from pg_class where relname like 'audit%'"), 0);

    let outside = "select md5(string_agg(e::text, ',' order by tenant, id)) from public.events as e where tenant in (1, 3)";
    let secrets = "select md5(string_agg(secret, ',' order by id)) from public.events where tenant = 2 and id between 70 and 90";
    let before: (String, String) = (detour.source.value(outside), detour.source.value(secrets));
    let detour = detour
        .on_target("insert into public.events (tenant, id) values (3, 77777)")
        .run("verify")
        .exits(8)
        .on_target("delete from public.events where id = 77777")
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application(
            "update public.events set note = 'from the target', secret = 'stays there' where id between 70 and 80;
             insert into public.events (tenant, id, note) values (2, 5000, 'inside'), (7, 5000, 'outside');
             update public.events set tenant = 8 where id = 90;
             insert into public.logs values (5, 'new inside'), (0, 'new outside')",
        )
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .run("cutback")
        .exits(0);
    let count = |what: &str| -> i64 { detour.source.value(&format!("select count(*) from {what}")) };
    assert_eq!(count("public.events where note = 'from the target' and secret like 'secret %'"), 11);
    assert_eq!(count("public.events where id = 5000"), 2);
    assert_eq!(count("public.events where tenant = 8 and id = 90 and secret = 'secret 90'"), 1);
    assert_eq!(count("public.logs where what like 'new %side'"), 2);
    assert_eq!(detour.source.value::<String>(outside), before.0);
    assert_eq!(count("public.events where secret = 'stays there'"), 0);
    detour.no_client_error().no_row_lost();
}

#[test]
fn filters_and_column_lists_hold_through_a_backup_and_by_our_own_runs() {
    let by_us = PARTS.replace("[mirror]", "[mirror]\ncarrier = \"pgdetour\"");
    for (detour, parts) in [(Detour::new().with_backup(), PARTS), (Detour::new(), by_us.as_str())] {
        let mut detour = detour.on_source(EVENTS).configured(parts);
        if !knows_parts(&detour) {
            return;
        }
        detour = detour
            .run("mirror")
            .fault("after:copy tables")
            .dies()
            .on_source(&changes(1))
            .run("mirror")
            .exits(0)
            .on_source(&changes(2))
            .run("mirror")
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true);
        let inside = [
            "select count(*) || md5(string_agg(row(tenant, id, note, big)::text, ',' order by id)) from public.events
              where tenant = 2",
            "select count(*) || md5(string_agg(l::text, ',' order by l::text collate \"C\")) from public.logs as l
              where level > 2",
        ];
        let outside = "select (select count(*) from public.events where tenant <> 2 or secret <> 'default')
                            + (select count(*) from public.logs where level <= 2)";
        for query in inside {
            assert_eq!(detour.target.value::<String>(query), detour.source.value::<String>(query), "{query}");
        }
        assert_eq!(detour.target.value::<i64>(outside), 0);
    }
}

#[test]
fn a_part_that_the_stream_could_not_hold_to_is_refused_before_anything_is_done() {
    let detour = Detour::new().on_source(EVENTS);
    if !knows_parts(&detour) {
        return;
    }
    let before = detour.fingerprint();
    detour
        .on_source("create table public.strict (id int primary key, must text not null)")
        .on_source("create table public.cut (id int primary key) partition by range (id)")
        .configured(
            r#"
[[mirror.table]]
name = "public.events"
where = "note <> ''"
columns = ["id", "note", "nothing"]
[[mirror.table]]
name = "public.logs"
where = "no such thing"
[[mirror.table]]
name = "public.strict"
columns = ["id"]
[[mirror.table]]
name = "public.cut"
where = "id > 5"
[[mirror.table]]
name = "public.absent"
where = "true"
"#,
        )
        .run("mirror")
        .exits(3)
        .finding("public.events", "reads column \"note\"", "replica identity full")
        .finding("public.events", "column \"tenant\"", "columns")
        .finding("public.events", "\"nothing\"", "name")
        .finding("public.logs", "cannot be read", "")
        .finding("public.strict", "\"must\"", "columns")
        .finding("public.cut", "partitioned", "exclude")
        .finding("public.absent", "not a mirrored table", "name")
        .on_source("drop table public.strict, public.cut")
        .unchanged_since(&before);
}

#[test]
fn triggers_record_whole_tables_so_a_part_of_one_is_refused() {
    let part = |columns: &str| {
        format!("[mirror]\n%\n[[mirror.table]]\nname = \"public.logs\"\nwhere = \"level > 2\"\n{columns}")
    };
    let by_triggers = part("").replace('%', "method = \"trigger\"");
    let detour = Detour::new().on_source(EVENTS).configured(&by_triggers);
    let before = detour.fingerprint();
    let detour = detour
        .run("mirror")
        .exits(3)
        .finding("public.logs", "mirror.method = \"trigger\" records all of table", "\"wal\"")
        .unchanged_since(&before);
    // The way home brings what passes the filter and what does not, but not columns that were never copied.
    let home_by_triggers =
        part("columns = [\"level\"]").replace('%', "") + "\n[capture]\nmethod = \"trigger\"";
    detour
        .configured_anew(&home_by_triggers)
        .run("mirror")
        .exits(3)
        .finding("public.logs", "capture.method = \"trigger\" records all of table", "\"wal\"")
        .unchanged_since(&before);
}

const CUT: &str = "
create table public.plain_here (id int primary key, note text);
insert into public.plain_here select n, 'n' || n from generate_series(1, 100) as n;
create table public.cut_here (id int, at int, note text, primary key (id, at)) partition by range (at);
create table public.cut_here_1 partition of public.cut_here for values from (0) to (50);
create table public.cut_here_2 partition of public.cut_here for values from (50) to (1000);
insert into public.cut_here select n, n, 'n' || n from generate_series(1, 99) as n;
create table public.cut_both (id int primary key, note text) partition by hash (id);
create table public.cut_both_1 partition of public.cut_both for values with (modulus 2, remainder 0);
create table public.cut_both_2 partition of public.cut_both for values with (modulus 2, remainder 1);
insert into public.cut_both select n, 'n' || n from generate_series(1, 100) as n;
create table public.busy (id int primary key, note text);
insert into public.busy select n, 'n' || n from generate_series(1, 10) as n;
grant all on all tables in schema public to shop_app;
";

/// The same tables, but cut in another way, and with triggers and rules that must not act on what is copied.
const CUT_OTHERWISE: &str = "
create table public.plain_here (id int primary key, note text) partition by range (id);
create table public.plain_here_low partition of public.plain_here for values from (minvalue) to (40);
create table public.plain_here_high partition of public.plain_here default;
create table public.cut_here (note text, id int, at int, primary key (id, at));
create table public.cut_both (id int primary key, note text) partition by range (id);
create table public.cut_both_a partition of public.cut_both for values from (minvalue) to (70);
create table public.cut_both_b partition of public.cut_both default;
create table public.busy (id int primary key, note text);
create function public.spoil() returns trigger language plpgsql as $$ begin new.note := 'spoiled'; return new; end $$;
create trigger spoil before insert or update on public.busy for each row execute function public.spoil();
create rule never as on delete to public.busy do instead nothing;
create table public.probe (id uuid primary key default gen_random_uuid());
grant all on all tables in schema public to shop_app;
";

const CUT_CHANGES: &str = "
update public.plain_here set id = id + 500 where id in (:n, :n + 10);
update public.cut_here set at = at + 40, note = note || :n where id < 30;
insert into public.cut_here (id, at, note) values (1000 + :n, 60, 'new');
delete from public.cut_here where id = 80 + :n;
update public.cut_both set note = note || :n where id > 50;
delete from public.cut_both where id = 60 + :n;
update public.busy set note = 'u' || :n where id < 5;
delete from public.busy where id = 5 + :n;
";

#[test]
fn tables_that_are_there_may_be_partitioned_in_another_way() {
    let changes = |n: u32| CUT_CHANGES.replace(":n", &n.to_string());
    let detour = Detour::new().on_source(CUT).on_target(CUT_OTHERWISE).configured(
        "[mirror]\nschema = \"existing\"\ntables = [\"public.plain*\", \"public.cut*\", \"public.busy\"]",
    );
    let detour = detour
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .on_source(&changes(1))
        .run("mirror")
        .exits(0)
        .on_source(&changes(2))
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .on_target("update public.cut_here set note = 'x' where id = 50; delete from public.plain_here where id = 77")
        .run("verify")
        .exits(8)
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .reports("/equal", true);
    let target = &detour.target;
    assert_eq!(target.value::<i64>("select count(*) from public.busy where note = 'spoiled'"), 0);
    assert_eq!(target.value::<i64>("select count(*) from public.busy"), 8);
    let detour = detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .on_target(&CUT_CHANGES.replace(":n", "3").replace("public.busy", "public.plain_here"))
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .run("cutback")
        .exits(0);
    for table in ["plain_here", "cut_here", "cut_both"] {
        let rows = format!(
            "select md5(string_agg(row(id, note)::text, ',' order by row(id, note)::text collate \"C\")) from public.{table}"
        );
        assert_eq!(detour.source.value::<String>(&rows), detour.target.value::<String>(&rows), "{table}");
    }
}

#[test]
fn who_mirrors_partitions_as_one_table_is_told_that_a_truncate_of_one_is_not_carried() {
    let detour = Detour::new()
        .on_source(CUT)
        .on_target(CUT_OTHERWISE)
        .configured("[mirror]\nschema = \"existing\"\ntables = [\"public.plain*\", \"public.cut*\"]");
    let told = |detour: &Detour| {
        let warnings = detour.last().at("/warnings").as_array().cloned().unwrap_or_default();
        let of_truncate =
            warnings.iter().filter_map(|warning| warning.as_str().filter(|text| text.contains("a TRUNCATE")));
        of_truncate.map(|text| text.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let mut detour = detour.run("check").exits(0);
    for command in ["mirror", "check"] {
        assert_eq!(told(&detour), ["public.cut_both", "public.cut_here"], "{}", detour.last().describe());
        detour = detour.run(command).exits(0);
    }
    assert_eq!(told(&detour), ["public.cut_both", "public.cut_here"], "{}", detour.last().describe());
    detour
        .on_source("truncate public.cut_here_1")
        .run("verify")
        .exits(8)
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .run("cutover")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
}

#[test]
fn a_subscription_makes_no_texts_of_the_nulls_in_arrays() {
    let table =
        "create table public.lists (id int primary key, words text[]); grant all on public.lists to shop_app";
    let off = "alter database shop set array_nulls = off";
    let mirroring = || Detour::new().on_source(table);
    for detour in [mirroring().on_source(off), mirroring().on_target(off)] {
        detour
            .run("mirror")
            .exits(3)
            .finding("target", "array_nulls is off", "ALTER ROLE")
            .on_target("alter role current_user in database shop set array_nulls = on")
            .run("mirror")
            .exits(0)
            .on_source("insert into public.lists values (1, array['a', null])")
            .run("cutover")
            .exits(0)
            .on_target("insert into public.lists values (2, array[null, 'b'])")
            .run("replay")
            .exits(0)
            .run("verify")
            .exits(0)
            .reports("/equal", true);
    }
}

#[test]
fn a_subscription_is_not_ended_by_transaction_timeout_in_the_middle_of_each_large_transaction() {
    let mirroring = || Detour::new().table("orders");
    let detour = mirroring();
    let version = "select current_setting('server_version_num')::int4";
    for (server, place) in [(&detour.source, "source"), (&detour.target, "target")] {
        if server.value::<i32>(version) < 170_000 {
            continue;
        }
        let limited = "alter database shop set transaction_timeout = '700ms'";
        let freed = "alter role current_user in database shop set transaction_timeout = 0";
        let mut detour = mirroring();
        let on = |detour: Detour, text: &str| match place {
            "source" => detour.on_source(text),
            _ => detour.on_target(text),
        };
        detour = on(detour, limited).run("mirror").exits(3);
        detour = detour.finding(place, "transaction_timeout", "ALTER ROLE \"dba\" IN DATABASE \"shop\"");
        let target_knows = detour.target.value::<i32>(version) >= 170_000;
        if place == "source" && target_knows {
            // The mirror would give it to the target, too.
            detour = detour.finding("target", "transaction_timeout", "ALTER ROLE").on_target(freed);
        }
        detour = on(detour, freed).mirrored();
        detour = on(detour, "alter role current_user in database shop reset transaction_timeout");
        detour.run("cutover").exits(3).finding(place, "transaction_timeout", "ALTER ROLE");
    }
}

#[test]
fn a_column_whose_values_a_subscription_would_make_otherwise_than_the_copy_is_refused() {
    let table = |kind: &str| format!("create table public.moments (id int primary key, at {kind}, day date)");
    Detour::new()
        .on_source(&table("timestamp"))
        .on_target(&table("timestamptz"))
        .on_target("alter database shop set timezone = 'America/New_York'")
        .configured("[mirror]\nschema = \"existing\"\ntables = [\"public.moments\"]")
        .on_source("insert into public.moments values (1, '2024-01-01 12:00')")
        .run("mirror")
        .exits(3)
        .finding("public.moments", "\"at\" of \"public.moments\"", "mirror.carrier = \"pgdetour\"")
        .configured_anew(
            "[mirror]\nschema = \"existing\"\ncarrier = \"pgdetour\"\ntables = [\"public.moments\"]",
        )
        .run("mirror")
        .exits(0)
        .on_source("insert into public.moments values (2, '2024-01-01 12:00')")
        .run("mirror")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
}

/// Replay would stop at the first change of it, when the source is down or has been altered.
#[test]
fn a_column_that_the_target_alone_has_is_refused_before_traffic_moves_until_the_mapping_says_what_becomes_of_it()
 {
    let table = |more: &str| format!("create table public.guests (id int primary key, name text{more})");
    let placeless = "column \"fax\" of \"public.guests\" is mapped nowhere";
    let detour = Detour::new()
        .on_source(&table(""))
        .on_target(&table(", fax text"))
        .on_target("grant all on public.guests to shop_app")
        .on_source("grant all on public.guests to shop_app")
        .configured("[mirror]\nschema = \"existing\"\ntables = [\"public.guests\"]")
        .mirrored()
        .run("check")
        .exits(3)
        .finding("public.guests", placeless, "from = \"public.guests\", to = \"public.guests\"");
    let failures = detour.last().at("/error/failures").as_array().expect("a list").len();
    assert_eq!(failures, 1, "{}", detour.last().describe());
    let detour = detour
        .run("cutover")
        .exits(3)
        .changed(false)
        .finding("public.guests", placeless, "drop = [\"fax\"]")
        .phase("mirrored")
        .serving(Serving::Source);
    // A rule to a table that maintenance is yet to make says enough.
    let rule = "[[map]]\nfrom = \"public.guests\"\nto = \"public.people\"\n";
    let detour = detour
        .configured(&format!("{rule}columns = {{ name = \"name || fax\" }}"))
        .run("cutover")
        .with(&["--rehearse"])
        .exits(0)
        .reconfigured("public.people", "public.guests")
        .reconfigured("columns = { name = \"name || fax\" }", "drop = [\"fax\"]")
        .run("cutover")
        .exits(0)
        .on_target("insert into public.guests values (1, 'one', '1')")
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0);
    assert_eq!(detour.source.value::<String>("select name from public.guests"), "one");
}

/// With thousands of tables that takes a while, and longer than all the rest.
#[test]
fn check_reads_the_tables_of_each_side_once() {
    let detour =
        Detour::new().table("orders").configured("[[restrict]]\ntables = [\"public.orders\"]").mirrored();
    for server in [&detour.source, &detour.target] {
        server.exec("alter role dba set log_statement = 'all'");
    }
    let reads =
        |server: &Postgres| server.log().matches("-- Ordinary and partitioned tables that are not").count();
    let before = [&detour.source, &detour.target].map(reads);
    let detour = detour.run("check").exits(0);
    let after = [&detour.source, &detour.target].map(reads);
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 1]);
}

#[test]
fn what_the_source_generates_has_to_be_generated_by_a_target_that_is_there() {
    let table = |twice| format!("create table public.computed (id int primary key, a int, twice int{twice})");
    Detour::new()
        .on_source(&table(" generated always as (a * 2) stored"))
        .on_target(&table(""))
        .configured("[mirror]\nschema = \"existing\"\ntables = [\"public.computed\"]")
        .run("mirror")
        .exits(3)
        .finding("public.computed", "\"twice\" of \"public.computed\" is generated", "generated there too")
        .on_target("drop table public.computed")
        .on_target(&table(" generated always as (a * 2) stored"))
        .on_source("insert into public.computed (id, a) values (1, 1)")
        .run("mirror")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true);
}

#[test]
fn a_part_stays_what_it_was_when_mirroring_began() {
    let detour = Detour::new().on_source(EVENTS).configured(PARTS);
    if !knows_parts(&detour) {
        return;
    }
    detour
        .run("mirror")
        .fault("after:copy tables")
        .dies()
        .configured("[[mirror.table]]\nname = \"public.later\"\nwhere = \"id > 0\"")
        .run("mirror")
        .exits(3)
        .finding("public.later", "not as it was", "clean");
}

const MAINTAINED_PARTS: &str = r#"
[[map]]
from = "public.events"
to = "public.happenings"
columns = { customer = "tenant", tenant = "5" }
[[map]]
from = "public.logs"
to = "public.logs"
drop = ["level"]
"#;

#[test]
fn a_filter_holds_after_a_maintenance_that_renames_what_it_reads_and_where_it_drops_it_that_is_told() {
    let detour = Detour::new().on_source(EVENTS).configured(PARTS);
    if !knows_parts(&detour) {
        return;
    }
    let detour = detour
        .writing()
        .detoured()
        // What is called tenant now is something else.
        .on_source(
            "alter table public.events rename to happenings; alter table public.happenings rename tenant to customer;
             alter table public.happenings alter customer type bigint, add tenant int default 5;
             alter table public.logs drop level",
        )
        .configured(MAINTAINED_PARTS)
        .on_target(
            "update public.events set note = 'newer' where id < 10; delete from public.events where id = 20;
             insert into public.events (tenant, id, note) values (2, 5000, 'inside'), (7, 5000, 'outside');
             insert into public.logs values (5, 'new'); update public.logs set what = 'changed' where what = 'log 4'",
        )
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true));
    let warnings = detour.last().at("/warnings").to_string();
    assert!(
        warnings.contains("rows of table \\\"public.logs\\\" that the target lacks are not compared"),
        "{warnings}"
    );
    assert!(!warnings.contains("happenings"), "{warnings}");
    let detour = detour
        .on_source(
            "update public.happenings set note = 'damaged' where customer = 2 and id = 1;
             delete from public.happenings where customer = 2 and id = 2;
             insert into public.happenings (customer, id) values (2, 6000);
             update public.happenings set note = 'none of the mirror' where customer = 3;
             delete from public.logs where what = 'new'",
        )
        .run("verify")
        .exits(8);
    let tables = detour.last().at("/report/tables").as_array().expect("tables").clone();
    let counts = |name: &str| -> Vec<i64> {
        let table = tables.iter().find(|table| table["table"] == name).expect("it is compared");
        let fields = ["different", "missing_on_source", "missing_on_target"];
        fields.iter().map(|field| table[field].as_i64().expect("a count")).collect()
    };
    assert_eq!(counts("public.happenings"), [1, 1, 1]);
    assert_eq!(counts("public.logs"), [0, 1, 0]);
    let detour = detour.run("verify").with(&["--repair"]).exits(8).message("1 table differs");
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains("\\\"public.logs\\\" cannot be repaired row by row"), "{warnings}");
    let left = "select count(*) from public.happenings where customer = 3 and note = 'none of the mirror'";
    assert_eq!(detour.source.value::<i64>(left), 100);
    let mended = "select count(*) from public.happenings where customer = 2 and (id in (1, 2) and note = 'newer' or id = 6000)";
    assert_eq!(detour.source.value::<i64>(mended), 2);
}

const LEFT_OUT: &str = "
create table public.kind (id int primary key);
create table public.ev (tenant int, id int, v text, kind int references public.kind, primary key (tenant, id));
create table public.note (tenant int, id int, ev int, primary key (tenant, id), foreign key (tenant, ev) references public.ev);
create table public.lost (tenant int, id int, primary key (tenant, id));
insert into public.kind values (1), (2);
insert into public.ev values (7, 1, 'x', 1), (8, 2, 'left out', null), (9, 3, 'left out', 2);
insert into public.note values (7, 1, 1), (8, 2, 2);
insert into public.lost values (7, 1), (8, 2), (9, 3);
grant all on public.kind, public.ev, public.note, public.lost to shop_app
";

fn of_tenant(tables: &[&str]) -> String {
    let part = |name: &&str| format!("[[mirror.table]]\nname = \"public.{name}\"\nwhere = \"tenant = 7\"\n");
    tables.iter().map(part).collect()
}

/// Whoever empties a table of the target has never seen what the filter left out.
#[test]
fn a_truncate_on_the_target_leaves_what_the_mirror_has_left_out() {
    for method in ["wal", "trigger"] {
        let mut detour = Detour::new()
            .on_source(LEFT_OUT)
            .configured(&format!("[capture]\nmethod = \"{method}\""))
            .configured(&of_tenant(&["ev", "note", "lost"]));
        if !knows_parts(&detour) {
            return;
        }
        detour = detour
            .detoured()
            .on_source(
                "alter table public.note rename tenant to customer;
                 alter table public.lost drop tenant, add primary key (id)",
            )
            .configured(
                "[[map]]\nfrom = \"public.note\"\nto = \"public.note\"\ncolumns = { customer = \"tenant\" }\n\
                 [[map]]\nfrom = \"public.lost\"\nto = \"public.lost\"\nkey = { id = \"id\" }\ndrop = [\"tenant\"]\n",
            )
            .on_target("truncate public.note, public.ev")
            .on_target("insert into public.ev values (7, 5, 'new', 1), (8, 6, 'new', 1); insert into public.note values (7, 5, 5)")
            .run("replay")
            .exits(0)
            .run("verify")
            .exits(0);
        let rows = |detour: &Detour, query: &str| -> String { detour.source.value(query) };
        let events = "select string_agg(tenant || ' ' || id || ' ' || v, ', ' order by id) from public.ev";
        let notes = "select string_agg(customer || ' ' || id, ', ' order by id) from public.note";
        assert_eq!(rows(&detour, events), "8 2 left out, 9 3 left out, 7 5 new, 8 6 new");
        assert_eq!(rows(&detour, notes), "8 2, 7 5");
        if method == "wal" {
            detour = detour.on_target("truncate public.lost").run("replay").exits(8).kind("truncate");
            assert!(
                detour
                    .last()
                    .text_at("/error/detail")
                    .contains("those that the mirror's filter has left out"),
                "{}",
                detour.last().describe()
            );
            assert_eq!(detour.source.value::<i64>("select count(*) from public.lost"), 3);
        } else {
            // A row that was left out refers to what goes as a whole.
            detour =
                detour.on_target("truncate public.kind cascade").run("replay").exits(8).kind("foreign_key");
            assert_eq!(rows(&detour, events), "8 2 left out, 9 3 left out, 7 5 new, 8 6 new");
        }
    }
}

/// They came home as all others did; or have to, after the recording was lost.
#[test]
fn rows_that_the_target_has_written_outside_of_the_filter_are_compared_and_made_equal() {
    let detour = Detour::new().on_source(LEFT_OUT).on_source(
        "create table public.logs (level int, what text); alter table public.logs replica identity full;
         insert into public.logs values (1, 'same'), (5, 'in'); grant all on public.logs to shop_app; delete from public.note",
    );
    if !knows_parts(&detour) {
        return;
    }
    let detour = detour
        .configured(&of_tenant(&["ev", "note"]))
        .configured("[[mirror.table]]\nname = \"public.logs\"\nwhere = \"level > 2\"\n")
        .detoured()
        .on_target(
            "insert into public.ev values (8, 50, 'new'), (7, 6, 'n'); update public.ev set tenant = 8 where id = 1;
             insert into public.logs values (1, 'same'), (0, 'new')",
        )
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/tables/1/table", "public.ev")
        .reports("/tables/1/rows_source", 3)
        .reports("/tables/1/rows_target", 3)
        .on_source("update public.ev set v = 'corrupt' where id in (50, 6); delete from public.logs where what = 'new'")
        .run("verify")
        .exits(8)
        .message("2 tables differ")
        .reports("/tables/1/different", 2)
        .run("verify")
        .with(&["--repair"])
        .exits(0)
        .reports("/tables/1/repaired", 2);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(
        warnings.contains("1 row of table \\\"public.ev\\\" outside of the mirror's filter had the key"),
        "{warnings}"
    );
    let detour = detour
        .on_target("select pg_drop_replication_slot('pgdetour_capture')")
        .on_target(
            "insert into public.ev values (8, 60, 'new order'); insert into public.logs values (2, 'unrecorded')",
        )
        .run("capture")
        .with(&["--anew"])
        .exits(0)
        .on_target("update public.ev set v = 'later' where id = 50")
        .run("replay")
        .exits(0)
        .run("verify")
        .exits(0)
        .reports("/equal", true)
        .run("cutback")
        .exits(0);
    let events = "select string_agg(tenant || ' ' || id || ' ' || v, ', ' order by id) from public.ev";
    assert_eq!(
        detour.source.value::<String>(events),
        "8 1 x, 8 2 left out, 9 3 left out, 7 6 n, 8 50 later, 8 60 new order"
    );
    let logs = "select string_agg(what, ', ' order by level, what) from public.logs";
    assert_eq!(detour.source.value::<String>(logs), "new, same, same, unrecorded, in");
}

#[test]
fn a_table_that_inherits_is_in_the_flow_where_it_is_selected_itself() {
    let inheriting = "
        create table public.parent (id int primary key, n text);
        create table public.kid (x int) inherits (public.parent);
        create table public.heir (primary key (id)) inherits (public.parent);
        insert into public.parent values (1, 'a'), (10, 'b');
        insert into public.kid values (2, 'k', 1);
        insert into public.heir values (3, 'h'), (30, 'h');
        grant select, insert, update, delete on public.parent, public.kid, public.heir to shop_app";
    let configured = r#"
[mirror]
exclude = ["public.kid"]
[[mirror.table]]
name = "public.parent"
where = "id < 5"
[[restrict]]
tables = ["public.heir"]
scratch = true
"#;
    let mut detour = Detour::new().on_source(inheriting);
    let can_filter = knows_parts(&detour);
    let part = configured.find("[[mirror.table]]").zip(configured.find("[[restrict]]")).unwrap();
    let whole = [&configured[..part.0], &configured[part.1..]].concat();
    detour = detour.configured(if can_filter { configured } else { &whole }).mirrored();
    let members = |of: &str| {
        format!(
            "select string_agg(tablename, ',' order by tablename) from pg_publication_tables
             where pubname = '{of}' and tablename in ('parent', 'kid', 'heir')"
        )
    };
    assert_eq!(detour.source.value::<String>(&members("pgdetour_mirror")), "heir,parent");
    detour
        .application("update public.kid set x = 2; insert into public.kid values (4, 'k', 3); update public.heir set n = 'i'")
        .run("verify")
        .exits(0)
        .run("cutover")
        .exits(0)
        .application("insert into public.heir values (5, 'scratch'); update public.parent set n = 'home' where id = 1")
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .application("select 1 / (select count(*) from only public.parent where n = 'home')")
        .application("select 1 / (1 - (select count(*) from public.heir where n = 'scratch'))");
}

#[test]
fn what_needs_an_excluded_table_is_left_out_or_named_before_anything_is_made() {
    let mut detour = Detour::new().table("orders").without_router().configured("[mirror]\nexclude = [\"public.audit\"]\n").on_source(
        "create table public.audit (id serial primary key, o int);
         create view public.seen as select id from public.audit;
         create rule r as on insert to public.orders do also insert into public.audit (o) values (new.id);
         comment on rule r on public.orders is 'notes';
         create function public.\"All\"(n int) returns setof public.audit language sql as 'select * from public.audit limit n';
         create function public.\"All\"(n text) returns text language sql as 'select n';
         create function public.audited() returns bigint language sql begin atomic select count(*) from public.seen; end;
         create aggregate public.every_audit(public.audit) (sfunc = array_append, stype = public.audit[]);
         grant execute on function public.\"All\"(int), public.\"All\"(text) to shop_app;
         comment on function public.audited() is 'counts';
         create view public.counted as select public.audited()",
    );
    let lacking = [
        (
            "create policy own on public.orders using (id in (select o from public.audit))",
            "policy own on table public.orders",
        ),
        (
            "create policy own on public.orders using (public.audited() > 0)",
            "policy own on table public.orders",
        ),
        ("create table public.heir (primary key (id)) inherits (public.audit)", "table public.heir"),
        (
            "alter table public.orders add extra int default nextval('public.audit_id_seq')",
            "default value for column extra",
        ),
        ("alter table public.orders add extra public.audit", "column extra of table public.orders"),
    ];
    for (made, identity) in lacking {
        detour = detour.on_source(made).run("check").exits(3);
        detour = detour.finding(identity, "which is not mirrored", "mirror.exclude");
        detour = detour.run("mirror").exits(3).kind("checks_failed").changed(false);
        detour.source.exec(
            "drop policy if exists own on public.orders; drop table if exists public.heir;
             alter table public.orders drop column if exists extra",
        );
    }
    detour = detour.run("check").exits(0).run("mirror").exits(0);
    let told = &detour.last().stdout;
    for left_out in [
        "rule \\\"orders r\\\"",
        "function \\\"All(integer)\\\"",
        "function \\\"audited()\\\"",
        "aggregate \\\"every_audit(public.audit)\\\"",
    ] {
        assert!(told.contains(left_out), "{left_out}: {}", detour.last().describe());
    }
    let there = "select string_agg(oid::regprocedure::text, ' ') from pg_proc where pronamespace = 'public'::regnamespace";
    assert_eq!(detour.target.value::<String>(there), "\"All\"(text)");
    detour.run("verify").exits(0).run("cutover").exits(0);
}

/// What users write into its copy would be on the target alone, with no word of it.
#[test]
fn a_table_that_is_excluded_after_its_copy_was_made_is_not_written_unseen() {
    let excluded = "[mirror]\nexclude = [\"public.users\", \"public.days\"]\n";
    let restricted = format!("{excluded}[[restrict]]\ntables = [\"public.users\"]\n");
    let revoke = "REVOKE DELETE, INSERT, UPDATE ON TABLE \"public\".\"users\" FROM \"shop_app\";";
    let mut detour = Detour::new()
        .table("orders")
        .table("users")
        .on_source(
            "create table public.days (id int primary key) partition by range (id);
             create table public.day partition of public.days for values from (0) to (10);
             grant insert on public.day to shop_app",
        )
        .mirrored()
        .configured(excluded);
    for command in ["check", "cutover"] {
        detour = detour.run(command).exits(3).changed(false).phase("mirrored");
        detour = detour.finding("public.users", "\"shop_app\" may write into it on the target", revoke);
        // Nobody may write into its root.
        detour = detour.finding("public.day", "would be lost", "FROM \"shop_app\"");
        assert_eq!(detour.last().at("/error/failures").as_array().map(Vec::len), Some(2), "{command}");
    }
    detour = detour
        .on_target("grant insert on public.days to public")
        .run("check")
        .exits(3)
        .finding("public.days", "would be lost", "REVOKE INSERT ON TABLE \"public\".\"days\" FROM PUBLIC;")
        .on_target("revoke all on public.days from public; revoke all on public.day from shop_app")
        // Where the configuration says that they stay behind, or nobody may make any, nothing is lost.
        .configured_anew(&format!("{restricted}scratch = true"))
        .run("check")
        .exits(0)
        .configured_anew(&format!("{restricted}deny = [\"insert\", \"update\"]"))
        .run("restrict")
        .exits(0)
        .run("check")
        .exits(3)
        .finding("public.users", "may write", "REVOKE DELETE ON TABLE")
        .configured_anew(&restricted)
        .run("restrict")
        .exits(0)
        .run("check")
        .exits(0)
        .run("restrict")
        .with(&["--lift"])
        .exits(0)
        .configured_anew(excluded)
        .run("check")
        .exits(3);
    detour.on_target(revoke).run("check").exits(0).run("cutover").exits(0).serving(Serving::Target);
}

#[test]
fn a_partition_that_is_excluded_by_its_own_name_is_told_and_not_copied_in_silence() {
    let detour = Detour::new()
        .table("orders")
        .on_source(
            "create table public.days (id int primary key) partition by range (id);
             create table public.day_1 partition of public.days for values from (0) to (10);
             create table public.plain_1 (id int primary key)",
        )
        .configured("[mirror]\nexclude = [\"public.day_1\"]");
    let before = detour.fingerprint();
    let told = "public.day_1 of \"public.days\", which is mirrored";
    let detour = detour
        .run("mirror")
        .exits(3)
        .finding("public.day_1", told, "DETACH PARTITION")
        .unchanged_since(&before)
        // One that leaves out other tables does so.
        .reconfigured("public.day_1", "public.*_1")
        .run("check")
        .exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(warnings.contains(&told.replace('"', "\\\"")), "{warnings}");
    let detour = detour.reconfigured("public.*_1", "public.day*").run("mirror").exits(0);
    let warnings = detour.last().at("/warnings").to_string();
    assert!(!warnings.contains("public.day_1"), "{warnings}");
    assert!(!detour.target.value::<bool>("select exists (select from pg_class where relname = 'days')"));
}
