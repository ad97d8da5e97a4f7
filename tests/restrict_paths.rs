//! Every way to write to a restricted table, as one table: refused to the limited role, open to everybody else.

use std::io::Write as _;

use postgres::Client;
use postgres::error::DbError;

use super::support::detour::Detour;
use super::support::postgres::Postgres;

/// A schema with every kind of way to a table. `support` may do what `shop_app` may, and is not limited.
pub const SHOP: &str = r"
create role support login;
create table public.users (id int primary key, name text, email text unique);
create table public.accounts (id int primary key);
create table public.notes (
    id int primary key,
    account_id int references public.accounts on delete cascade on update cascade
);
create table public.parts (id int, at date) partition by range (at);
create table public.parts_a partition of public.parts for values from ('2024-01-01') to ('2025-01-01');
create table public.parts_b partition of public.parts for values from ('2025-01-01') to ('2026-01-01')
    partition by list (id);
create table public.parts_b1 partition of public.parts_b for values in (1);
create table public.events (id int, at date) partition by range (at);
create table public.events_old partition of public.events for values from ('2020-01-01') to ('2024-01-01');
create table public.events_new partition of public.events for values from ('2024-01-01') to ('2030-01-01');
create table public.base (id int);
create table public.frozen_child () inherits (public.base);
create table public.frozen_grandchild () inherits (public.frozen_child);
create table public.mine (id int primary key);
create table public.owned_parent (id int) partition by list (id);
create table public.owned_other (id int not null) partition by list (id);
create table public.open (id int primary key);
create view public.users_view as select * from public.users;
create view public.users_checked as select * from public.users where id > 0 with check option;
create view public.users_written as select id from public.users;
create function public.write_user() returns trigger language plpgsql as
    $$ begin insert into public.users values (new.id, 'by trigger'); return new; end $$;
create trigger instead instead of insert on public.users_written for each row execute function public.write_user();
create view public.notes_by_rule as select * from public.open;
create rule put as on insert to public.notes_by_rule do instead insert into public.users values (new.id, 'by rule');
create rule also as on delete to public.open do also delete from public.users where id = old.id;
create function public.add_user(n int) returns void language sql security definer
    as 'insert into public.users values (n, ''by function'')';
create function public.alter_users() returns void language plpgsql security definer
    as $$ begin alter table public.users add column added int; end $$;
insert into public.users select n, 'user ' || n, n || '@x' from generate_series(1, 5) as n;
insert into public.accounts select generate_series(1, 3);
insert into public.notes values (1, 1), (2, 2);
insert into public.parts values (1, '2024-05-05'), (1, '2025-05-05');
insert into public.events values (1, '2020-05-05'), (2, '2024-05-05');
insert into public.frozen_child values (1);
insert into public.frozen_grandchild values (2);
insert into public.open values (1);
alter table public.mine owner to shop_app;
alter table public.owned_parent owner to shop_app;
alter table public.owned_other owner to shop_app;
alter table public.parts_a replica identity full;
alter table public.parts_b1 replica identity full;
alter table public.events_old replica identity full;
alter table public.events_new replica identity full;
alter table public.base replica identity full;
alter table public.frozen_child replica identity full;
alter table public.frozen_grandchild replica identity full;
grant create on schema public to shop_app, staff;
grant all on all tables in schema public to shop_app, support;
grant execute on all functions in schema public to shop_app, support;
";

const RULES: &str = r#"
[[restrict]]
tables = ["public.users", "public.notes", "public.parts", "public.mine", "public.later_*"]
message = "Settings are read-only during maintenance."
[[restrict]]
tables = ["public.events_old", "public.frozen_child"]
message = "The archive is closed."
name = "archive"
sqlstate = "PX001"
"#;

const SETTINGS: (&str, &str) = ("25006", "Settings are read-only during maintenance.");
const ARCHIVE: (&str, &str) = ("PX001", "The archive is closed.");

/// A way in; the statement and the table that its refusal names; of which rule.
type Path = (&'static str, &'static str, &'static str, (&'static str, &'static str));

/// Refused to the limited role, open to everybody else.
const PATHS: &[Path] = &[
    ("insert", "insert into users values (10, 'x')", "INSERT users", SETTINGS),
    ("insert of no row", "insert into users select 1 where false", "INSERT users", SETTINGS),
    ("update", "update users set name = 'x' where id = 1", "UPDATE users", SETTINGS),
    ("delete", "delete from users where id = 5", "DELETE users", SETTINGS),
    ("truncate", "truncate users", "TRUNCATE users", SETTINGS),
    ("truncate of several", "truncate open, users", "TRUNCATE users", SETTINGS),
    ("truncate cascade", "truncate accounts cascade", "TRUNCATE notes", SETTINGS),
    ("copy from the client", "copy users from stdin", "INSERT users", SETTINGS),
    ("copy from a file", "copy users from '/dev/null'", "INSERT users", SETTINGS),
    ("merge that updates", MERGE_UPDATE, "UPDATE users", SETTINGS),
    ("merge that inserts", MERGE_INSERT, "INSERT users", SETTINGS),
    ("merge that deletes", MERGE_DELETE, "DELETE users", SETTINGS),
    ("on conflict do update", UPSERT, "INSERT users", SETTINGS),
    (
        "on conflict do nothing",
        "insert into users values (1) on conflict do nothing",
        "INSERT users",
        SETTINGS,
    ),
    ("with", "with gone as (delete from users returning *) select from gone", "DELETE users", SETTINGS),
    ("insert into a view", "insert into users_view values (11, 'x')", "INSERT users", SETTINGS),
    ("update of a view", "update users_view set name = 'x'", "UPDATE users", SETTINGS),
    ("view with check option", "delete from users_checked", "DELETE users", SETTINGS),
    ("instead of trigger", "insert into users_written values (12)", "INSERT users", SETTINGS),
    ("rule instead", "insert into notes_by_rule values (13)", "INSERT users", SETTINGS),
    ("rule also", "delete from open", "DELETE users", SETTINGS),
    ("cascade of a delete", "delete from accounts where id = 1", "DELETE notes", SETTINGS),
    ("cascade of an update", "update accounts set id = 100 where id = 1", "UPDATE notes", SETTINGS),
    ("security definer", "select add_user(14)", "INSERT users", SETTINGS),
    ("do block", "do $$ begin delete from public.users; end $$", "DELETE users", SETTINGS),
    ("exception block", SWALLOWED, "DELETE users", SETTINGS),
    ("prepared", "prepare p as insert into users values (15); execute p", "INSERT users", SETTINGS),
    ("cursor", CURSOR, "UPDATE users", SETTINGS),
    ("partitioned table", "insert into parts values (1, '2024-01-01')", "INSERT parts", SETTINGS),
    ("partition", "insert into parts_a values (1, '2024-01-01')", "INSERT parts_a", SETTINGS),
    ("partition with partitions", "delete from parts_b", "DELETE parts_b", SETTINGS),
    ("partition below it", "delete from parts_b1", "DELETE parts_b1", SETTINGS),
    ("truncate of a partition", "truncate parts_a", "TRUNCATE parts_a", SETTINGS),
    ("partition made later", "insert into parts_c values (1, '2026-01-01')", "INSERT parts_c", SETTINGS),
    ("table made later", "insert into later_one values (1)", "INSERT later_one", SETTINGS),
    ("table of the role's own", "insert into mine values (1)", "INSERT mine", SETTINGS),
    (
        "one partition by its parent",
        "insert into events values (3, '2021-01-01')",
        "INSERT events_old",
        ARCHIVE,
    ),
    (
        "update by its parent",
        "update events set id = 9 where at < '2024-01-01'",
        "UPDATE events_old",
        ARCHIVE,
    ),
    ("delete by its parent", "delete from events where at < '2024-01-01'", "DELETE events_old", ARCHIVE),
    (
        "move out by its parent",
        "update events set at = '2025-01-01' where id = 1",
        "UPDATE events_old",
        ARCHIVE,
    ),
    (
        "move in by its parent",
        "update events set at = '2021-01-01' where id = 2",
        "INSERT events_old",
        ARCHIVE,
    ),
    ("truncate by its parent", "truncate events", "TRUNCATE events_old", ARCHIVE),
    ("inheritance child", "delete from frozen_child", "DELETE frozen_child", ARCHIVE),
    ("child by its parent", "update base set id = 3", "UPDATE frozen_child", ARCHIVE),
    ("child below it by its parent", "delete from base where id = 2", "DELETE frozen_grandchild", ARCHIVE),
    ("truncate of children", "truncate base", "TRUNCATE frozen_child", ARCHIVE),
    ("made later below a child", "insert into heir values (1)", "INSERT heir", ARCHIVE),
    ("made later, by the parent", "update base set id = 3 where id = 77", "UPDATE heir", ARCHIVE),
    ("attached later, by the parent", "delete from owned_parent", "DELETE later_part", SETTINGS),
    ("disable trigger", "alter table mine disable trigger user", "ALTER TABLE mine", SETTINGS),
    ("disable triggers", "alter table mine disable trigger all", "ALTER TABLE mine", SETTINGS),
    ("drop trigger", "drop trigger pgdetour_restrict on mine", "DROP TRIGGER mine", SETTINGS),
    ("trigger that skips", SKIPPING, "CREATE TRIGGER mine", SETTINGS),
    ("rule on it", "create rule r as on insert to mine do instead nothing", "CREATE RULE mine", SETTINGS),
    ("column", "alter table mine add extra int", "ALTER TABLE mine", SETTINGS),
    ("index", "create index on mine (id)", "CREATE INDEX mine", SETTINGS),
    ("rename", "alter table mine rename to free", "ALTER TABLE free", SETTINGS),
    ("give away and back", "alter table mine owner to staff", "ALTER TABLE mine", SETTINGS),
    ("attach below an own table", ATTACH, "ALTER TABLE mine", SETTINGS),
    ("drop", "drop table mine", "DROP TABLE mine", SETTINGS),
    ("drop owned", "drop owned by shop_app cascade", "DROP OWNED mine", SETTINGS),
    ("drop of a column by cascade", "alter table mine drop id cascade", "ALTER TABLE mine", SETTINGS),
    ("ddl as security definer", "select alter_users()", "ALTER TABLE users", SETTINGS),
    ("replica", "set session_replication_role = replica; delete from users", "DELETE users", SETTINGS),
    ("set role", "set role staff; delete from users", "DELETE users", SETTINGS),
    ("reset role", "set role staff; reset role; delete from users", "DELETE users", SETTINGS),
    (
        "reset session authorization",
        "reset session authorization; delete from users",
        "DELETE users",
        SETTINGS,
    ),
    ("pretended run of ours", PRETENDED, "ALTER TABLE mine", SETTINGS),
];

const MERGE_UPDATE: &str = "merge into users using (values (1)) as v (id) on users.id = v.id
    when matched then update set name = 'z'";
const MERGE_INSERT: &str = "merge into users using (values (77)) as v (id) on users.id = v.id
    when not matched then insert values (v.id, 'z')";
const MERGE_DELETE: &str =
    "merge into users using (values (1)) as v (id) on users.id = v.id when matched then delete";
const UPSERT: &str = "insert into users values (1, 'x') on conflict (id) do update set name = 'y'";
const SWALLOWED: &str = "do $$ begin
    begin delete from public.users where id = 1; exception when undefined_table then null; end;
end $$";
const CURSOR: &str = "declare c cursor for select from users for update; fetch c;
    update users set name = 'x' where current of c";
const SKIPPING: &str = "create trigger aaa before insert on mine for each row
    execute function suppress_redundant_updates_trigger()";
const ATTACH: &str = "alter table owned_other attach partition mine for values in (7)";
const PRETENDED: &str = "set application_name = 'pgdetour restrict'; alter table mine disable trigger user";

/// What PostgreSQL itself refuses to the limited role, with its SQLSTATE, since only a superuser may.
const BARRED: &[(&str, &str)] = &[
    ("set session authorization dba", "42501"),
    ("alter event trigger pgdetour_guard disable", "42501"),
    ("drop event trigger pgdetour_guard", "42501"),
    ("drop function pgdetour.refuse() cascade", "42501"),
    ("create or replace function pgdetour.refuse() returns trigger language plpgsql as 'begin end'", "42501"),
    ("alter table users disable trigger user", "42501"),
    ("delete from pgdetour.rule", "42501"),
    ("insert into pgdetour.restricting values (1)", "42501"),
    ("alter role shop_app superuser", "42501"),
    ("select lo_import('/dev/null')", "42501"),
];

#[test]
fn every_way_in_is_refused_to_the_limited_role_and_to_nobody_else() {
    let detour = Detour::new()
        .on_target("create role support login; create role staff; grant staff to shop_app, support")
        .on_source("create role staff; grant staff to shop_app")
        .on_source(SHOP)
        .configured(RULES)
        .mirrored()
        .on_target("create table public.later_there (id int)")
        .run("restrict")
        .exits(0);
    let is_15 = detour.target.value::<i32>("select current_setting('server_version_num')::int") >= 150_000;
    // Made later, by an administrator and by the limited role.
    detour.target.exec(
        "create table public.parts_c partition of public.parts for values from ('2026-01-01') to ('2027-01-01');
         create table public.later_one (id int); create table public.later_part (id int);
         create table public.owned_too (id int) partition by list (id);
         alter table public.owned_parent attach partition public.later_part for values in (5);
         insert into public.owned_parent values (5);
         grant staff to support; grant pg_read_server_files to shop_app, support;
         grant all on all tables in schema public to shop_app, support, staff",
    );
    if is_15 {
        detour.target.exec("grant set on parameter session_replication_role to shop_app, support");
    }
    detour
        .target
        .client("shop_app")
        .batch_execute("create table public.heir () inherits (public.frozen_child)")
        .expect_err("who does not own the parent cannot");
    detour.target.exec(
        "create table public.heir () inherits (public.frozen_child); insert into public.heir values (77);
         grant all on public.heir to shop_app, support",
    );
    let mut wrong = Vec::new();
    let mut limited = detour.target.client("shop_app");
    let mut admins = [("dba", detour.target.client("dba")), ("support", detour.target.client("support"))];
    for (path, statement, of, (sqlstate, message)) in PATHS {
        if !is_15 && (statement.starts_with("merge") || *path == "replica") {
            continue;
        }
        let (verb, table) = of.rsplit_once(' ').expect("a verb and a table");
        match attempt(&detour.target, &mut limited, statement) {
            None => wrong.push(format!("{path}: the limited role passes")),
            Some(said) => {
                let detail = format!("{verb} on table public.{table} is refused for role \"shop_app\".");
                let rule = if *sqlstate == ARCHIVE.0 { Some("archive") } else { said.constraint() };
                let right = said.code().code() == *sqlstate
                    && said.message() == *message
                    && said.detail() == Some(&detail)
                    && (said.schema(), said.table()) == (Some("public"), Some(table))
                    && said.constraint().is_some_and(|it| {
                        it == "archive" || it.trim_start_matches('~').starts_with("pgdetour_restrict")
                    })
                    && said.constraint() == rule;
                if !right {
                    wrong.push(format!("{path}: {said:?}"));
                }
            }
        }
        for (role, admin) in &mut admins {
            // Only owners may change a table's definition; support owns none.
            let needs_owner =
                ["alter", "drop", "create", "truncate base"].iter().any(|it| statement.contains(it));
            if *role == "support" && needs_owner {
                continue;
            }
            if let Some(said) = attempt(&detour.target, admin, statement) {
                wrong.push(format!("{path}: {role} is refused: {said}"));
            }
        }
        // In the name of the limited role an administrator is limited too.
        if !statement.contains("session authorization") && !statement.contains("role") {
            let assumed = format!("set session authorization shop_app; {statement}");
            if attempt(&detour.target, &mut admins[0].1, &assumed)
                .is_none_or(|said| said.code().code() != *sqlstate)
            {
                wrong.push(format!("{path}: an administrator in the name of the limited role passes"));
            }
        }
    }
    for (statement, sqlstate) in BARRED {
        match attempt(&detour.target, &mut limited, statement) {
            Some(said) if said.code().code() == *sqlstate => {}
            said => wrong.push(format!("{statement}: {said:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    limited
        .batch_execute("select from users; insert into open values (2); delete from events where id = 2")
        .expect("the rest is open");
    // What applications can ask.
    let row = limited
        .query_one(
            "select pgdetour.is_restricted('users', 'update'), pgdetour.is_restricted('open', 'update'),
                    pgdetour.is_restricted('events_old'), (select count(*) from pgdetour.restriction where applies) > 10,
                    (select min(rule || ' ' || sqlstate || ' ' || message) from pgdetour.restriction
                      where table_name = 'events_old')",
            &[],
        )
        .expect("everybody may ask");
    let answers: Vec<bool> = (0..4).map(|at| row.get(at)).collect();
    assert_eq!(answers, [true, false, true, true]);
    assert_eq!(row.get::<_, &str>(4), "archive PX001 The archive is closed.");
    // The same list in status, for a web tier.
    let detour = detour.run("status").exits(0);
    let listed = detour.last().at("/report/restricted").as_array().expect("a list").clone();
    let old = listed.iter().find(|it| it["table"] == "public.events_old").expect("it is listed");
    assert_eq!((&old["rule"], &old["sqlstate"]), (&"archive".into(), &"PX001".into()), "{old}");
    assert_eq!(old["message"], ARCHIVE.1);
    assert_eq!(old["deny"], serde_json::json!(["insert", "update", "delete", "truncate"]));
}

/// Runs a statement in a transaction that is rolled back; what the server says against it.
fn attempt(server: &Postgres, client: &mut Client, statement: &str) -> Option<DbError> {
    if let Some((before, copy)) = statement
        .split_once("copy users from stdin")
        .map(|(before, _)| (before, "copy public.users from stdin"))
    {
        let role: String = client.query_one("select session_user::text", &[]).expect("it answers").get(0);
        // A session whose COPY was refused is of no more use to this client, which also misses the server's word where that
        // comes while it still sends: then it asks again.
        for _ in 0..50 {
            let mut client = server.client(&role);
            client.batch_execute(&format!("begin; {before}")).expect("it answers");
            let outcome = client.copy_in(copy).and_then(|mut writer| {
                writer.write_all(b"900\tx\ty\n").expect("it is only buffered");
                writer.finish()
            });
            let Err(error) = outcome else { return None };
            if let Some(said) = error.as_db_error() {
                return Some(said.clone());
            }
        }
        panic!("the server's word against {statement} never came");
    }
    client.batch_execute("begin; set local search_path = public").expect("it answers");
    let outcome = client.batch_execute(statement);
    let said = outcome.err().map(|error| error.as_db_error().expect("the server says it").clone());
    client.batch_execute("rollback; reset session authorization; reset role; reset all").expect("it answers");
    client.batch_execute("deallocate all").expect("it answers");
    said
}
