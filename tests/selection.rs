//! What [mirror] selects: tables, rows and columns, the same for the copy, the stream and the way home.

use crate::support::detour::{Detour, Serving};

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
