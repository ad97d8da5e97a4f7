use super::*;
use crate::pg::test_server::TestServer;
use crate::pg::{Conninfo, Server};
use crate::phase::Place;
use crate::plan::Plan;

fn session(test: &TestServer, user: &str, plan: &Plan) -> Session {
    let address = format!("host=127.0.0.1 port={} dbname=postgres user={user}", test.port);
    let conninfo = Conninfo::parse(&address).expect("our own text");
    let application_name = "pgdetour test".into();
    let server = Server {
        place: Place::Target,
        conninfo,
        application_name,
        plan: plan.clone(),
        conventions: crate::pg::Conventions::default(),
    };
    server.connect().expect("the test server lets us in")
}

fn enter(test: &TestServer, user: &str) -> postgres::Client {
    let address = format!("host=127.0.0.1 port={} dbname=postgres user={user}", test.port);
    postgres::Client::connect(&address, postgres::NoTls).expect("the test server lets us in")
}

fn install(us: &mut Session, rules: &[Rule]) -> Result<RestrictionOutcome> {
    super::install(us, rules, &mut false)
}

fn lift_all(us: &mut Session) -> Result<Vec<String>> {
    super::lift_all(us, &mut false)
}

fn rule(tables: &[&str], deny: &[Verb], roles: &[&str], message: &str) -> Rule {
    Rule {
        tables: tables.iter().map(|table| ("public".to_owned(), (*table).to_owned())).collect(),
        deny: deny.to_vec(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        message: message.into(),
        ..Rule::default()
    }
}

const TABLES: &str = "
    create role limited login;
    create role other login;
    create role staff;
    grant staff to limited;
    create table users (id int primary key, name text);
    create table notes (id int primary key, user_id int references users on delete cascade on update cascade);
    create table open (id int);
    create table parts (id int, at date) partition by range (at);
    create table parts_a partition of parts for values from ('2024-01-01') to ('2025-01-01');
    create table parts_b partition of parts for values from ('2025-01-01') to ('2026-01-01') partition by list (id);
    create table parts_b1 partition of parts_b for values in (1);
    create view users_view as select * from users;
    create view notes_by_rule as select * from notes;
    create rule put as on insert to notes_by_rule do instead insert into users values (new.id, 'by rule');
    create function add_user(n int) returns void language sql security definer
        as 'insert into public.users values (n, ''by function'')';
    create table \"Odd \"\"name\"\"\" (id int);
    insert into users select n, 'user' from generate_series(1, 5) as n;
    insert into notes values (1, 1), (2, 2);
    insert into parts values (1, '2024-05-05'), (1, '2025-05-05');
    grant all on all tables in schema public to limited, other, staff;
    grant execute on all functions in schema public to limited, other";

#[test]
fn every_way_to_write_is_refused_to_the_limited_role_alone() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    let mut us = session(&test, "postgres", &Plan::real());
    let message = "Nutzer sind schreibgeschützt: 'ne \\ Weile \u{1f6a7}.";
    let rules = [rule(&["users", "parts", "Odd \"name\""], &Verb::ALL, &["limited"], message)];
    let checked = check(&mut us, &rules, None).expect("it answers");
    assert!(checked.failures.is_empty() && checked.warnings.is_empty(), "{checked:?}");
    let outcome = install(&mut us, &rules).expect("it can be installed");
    let tables =
        ["public.Odd \"name\"", "public.parts", "public.parts_a", "public.parts_b", "public.parts_b1"];
    assert_eq!(outcome.changed, [&tables[..], &["public.users"]].concat());

    test.client().batch_execute("grant pg_read_server_files to limited, other").expect("for COPY");
    let (mut limited, mut other) = (enter(&test, "limited"), enter(&test, "other"));
    let writes = [
        ("INSERT", "users", "insert into users values (10, 'x')"),
        ("INSERT", "users", "insert into users select 1 where false"),
        ("UPDATE", "users", "update users set name = 'x' where id = 1"),
        ("DELETE", "users", "delete from users where id = 5"),
        ("TRUNCATE", "users", "truncate users cascade"),
        ("INSERT", "users", "insert into users values (1, 'x') on conflict (id) do update set name = 'y'"),
        ("INSERT", "users", "insert into users values (1, 'x') on conflict do nothing"),
        (
            "UPDATE",
            "users",
            "merge into users using (values (1)) as v (id) on users.id = v.id
            when matched then update set name = 'z'",
        ),
        (
            "INSERT",
            "users",
            "merge into users using (values (77)) as v (id) on users.id = v.id
            when not matched then insert values (v.id, 'z')",
        ),
        ("DELETE", "users", "with gone as (delete from users where id = 4 returning *) select * from gone"),
        ("INSERT", "users", "insert into users_view values (11, 'x')"),
        ("UPDATE", "users", "update users_view set name = 'x'"),
        ("INSERT", "users", "insert into notes_by_rule values (12, 1)"),
        ("INSERT", "users", "copy users from '/dev/null'"),
        ("INSERT", "users", "select add_user(13)"),
        ("INSERT", "users", "set role staff; insert into users values (14, 'x')"),
        ("INSERT", "users", "prepare p as insert into users values (15, 'x'); execute p"),
        ("DELETE", "users", "do $$ begin delete from public.users where id = 3; end $$"),
        ("INSERT", "parts", "insert into parts values (1, '2024-01-01')"),
        ("INSERT", "parts_a", "insert into parts_a values (1, '2024-01-01')"),
        ("INSERT", "parts_b", "insert into parts_b values (1, '2025-01-01')"),
        ("DELETE", "parts_b1", "delete from parts_b1"),
        ("TRUNCATE", "parts", "truncate parts"),
        ("TRUNCATE", "parts_a", "truncate parts_a"),
        ("INSERT", "\"Odd \"\"name\"\"\"", "insert into \"Odd \"\"name\"\"\" values (1)"),
    ];
    // MERGE and grants on parameters came with 15.
    let is_15 = us.version >= 150_000;
    for (verb, table, write) in writes.into_iter().filter(|(.., write)| is_15 || !write.starts_with("merge"))
    {
        let error = limited.batch_execute(&format!("begin; {write}; commit")).expect_err(write);
        let error = error.as_db_error().expect("the server refuses").clone();
        limited.batch_execute("rollback; reset role; deallocate all").expect("it answers");
        assert_eq!((error.code().code(), error.message()), ("25006", message), "{write}");
        let detail = format!("{verb} on table public.{table} is refused for role \"limited\".");
        assert_eq!(error.detail(), Some(detail.as_str()), "{write}");
        assert_eq!(error.schema(), Some("public"), "{write}");
        let write = write.replace("set role staff; ", "");
        other.batch_execute(&format!("begin; {write}; rollback; deallocate all")).expect(&write);
    }
    limited.batch_execute("insert into open values (1); select * from users").expect("the rest is open");
    if is_15 {
        let enlarged =
            "begin; set session_replication_role = replica; insert into users values (30, 'x'); rollback";
        test.client()
            .batch_execute("grant set on parameter session_replication_role to limited")
            .expect("15 has it");
        let error = limited.batch_execute(enlarged).expect_err("the triggers always fire");
        assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{error}");
        limited.batch_execute("rollback").expect("it answers");
    }

    // What applications can ask.
    let row = limited
        .query_one("select pgdetour.is_restricted('users'), pgdetour.is_restricted('open')", &[])
        .expect("everybody may ask");
    assert_eq!((row.get(0), row.get(1)), (true, false));
    let row = other.query_one("select pgdetour.is_restricted('users')", &[]).expect("everybody may ask");
    assert!(!row.get::<_, bool>(0));
    let query = "select deny, roles, message, applies from pgdetour.restriction where table_name = 'users'";
    let row = limited.query_one(query, &[]).expect("everybody may ask");
    assert_eq!(row.get::<_, Vec<String>>(0), ["insert", "update", "delete", "truncate"]);
    assert_eq!(row.get::<_, Vec<String>>(1), ["limited"]);
    assert_eq!((row.get::<_, &str>(2), row.get::<_, bool>(3)), (message, true));
}

#[test]
fn a_cascade_is_refused_as_well() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    let mut us = session(&test, "postgres", &Plan::real());
    install(&mut us, &[rule(&["notes"], &Verb::ALL, &["limited"], "No notes now.")])
        .expect("it can be installed");
    let mut limited = enter(&test, "limited");
    for write in
        ["delete from users where id = 1", "update users set id = 100 where id = 1", "truncate users cascade"]
    {
        let error = limited.batch_execute(write).expect_err(write);
        assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{write}: {error}");
        enter(&test, "other").batch_execute(&format!("begin; {write}; rollback")).expect(write);
    }
    let spared: i64 = limited.query_one("select count(*) from users", &[]).expect("it answers").get(0);
    assert_eq!(spared, 5);
}

#[test]
fn only_differences_are_changed() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    let mut us = session(&test, "postgres", &Plan::real());
    let users = rule(&["users"], &[Verb::Insert, Verb::Delete], &["limited"], "first");
    let open = rule(&["open"], &Verb::ALL, &["limited", "other"], "second");
    let outcome = install(&mut us, &[users.clone(), open.clone()]).expect("it can be installed");
    assert_eq!(outcome.changed, ["public.open", "public.users"]);
    let installed = vec![
        Restricted {
            table: "public.open".into(),
            deny: Verb::ALL.map(|verb| verb.name().to_owned()).to_vec(),
            roles: vec!["limited".into(), "other".into()],
            condition: None,
            rule: None,
            message: Some("second".into()),
            sqlstate: Some("25006".into()),
            scratch: false,
        },
        Restricted {
            table: "public.users".into(),
            deny: vec!["insert".into(), "delete".into()],
            roles: vec!["limited".into()],
            condition: None,
            rule: None,
            message: Some("first".into()),
            sqlstate: Some("25006".into()),
            scratch: false,
        },
    ];
    assert_eq!(outcome.restricted, installed);
    assert_eq!(list_restricted(&mut us).expect("it answers"), installed);
    enter(&test, "limited").batch_execute("update users set name = 'x'").expect("updates were not denied");

    let mut turned = open.clone();
    turned.roles.reverse();
    let again = install(&mut us, &[turned, users.clone()]).expect("it is installed");
    assert_eq!((again.changed.len(), &again.restricted), (0, &installed));

    let mut louder = users.clone();
    louder.message = "first!".into();
    let outcome = install(&mut us, &[louder.clone(), open.clone()]).expect("it can be changed");
    assert_eq!(outcome.changed, ["public.users"]);
    let second = rule(&["users"], &[Verb::Update], &["other"], "other words");
    let outcome = install(&mut us, &[louder.clone(), second.clone()]).expect("it can be changed");
    assert_eq!(outcome.changed, ["public.open", "public.users"]);
    assert_eq!(outcome.restricted.len(), 2);
    enter(&test, "limited").batch_execute("insert into open values (1)").expect("it was lifted");
    assert!(enter(&test, "other").batch_execute("update users set name = 'x'").is_err());

    test.client().batch_execute("alter table users disable trigger user").expect("a superuser may");
    let outcome = install(&mut us, &[louder.clone(), second.clone()]).expect("it can be mended");
    assert_eq!(outcome.changed, ["public.users"], "one that does not fire is put back");
    test.client().batch_execute("create table parts_c partition of parts default").expect("a new partition");

    assert_eq!(lift_all(&mut us).expect("it can be lifted"), ["public.users"]);
    assert!(lift_all(&mut us).expect("again has no effect").is_empty());
    let left = "select (select count(*) from pg_trigger where tgname like '%pgdetour%')
        + (select count(*) from pg_namespace where nspname = 'pgdetour')";
    assert_eq!(test.client().query_one(left, &[]).expect("it answers").get::<_, i64>(0), 0);

    let plan = Plan::dry();
    let outcome = install(&mut session(&test, "postgres", &plan), &[users]).expect("it is only noted");
    assert_eq!(outcome.changed, ["public.users"]);
    assert!(
        plan.actions().iter().any(|action| action.action.contains("create trigger \"pgdetour_restrict\""))
    );
    assert!(list_restricted(&mut us).expect("it answers").is_empty());
}

#[test]
fn a_busy_table_is_tried_again_and_its_user_named() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    let mut us = session(&test, "postgres", &Plan::real());
    let rules = [rule(&["users"], &Verb::ALL, &["limited"], "no")];
    let mut busy = enter(&test, "other");
    busy.batch_execute("begin; update users set name = 'x' where id = 1").expect("it answers");
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(800));
        busy.batch_execute("commit").expect("it answers");
        busy
    });
    install(&mut us, &rules).expect("it waits in short attempts");
    let mut busy = release.join().expect("no panic");
    busy.batch_execute("begin; update users set name = 'x' where id = 1").expect("it answers");
    let error = lift_all(&mut us).expect_err("the table stays busy");
    let Error::TimedOut { detail: Some(detail), .. } = &error else { panic!("{error:?}") };
    assert!(detail.contains("of \"other\", idle in transaction, its transaction "), "{detail}");
    busy.batch_execute("commit").expect("it answers");
    lift_all(&mut us).expect("nobody is in the way");
}

#[test]
fn check_names_what_is_missing_and_who_could_undo_it() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "create role root login superuser; alter table open owner to staff; create role dba login",
        )
        .expect("it can be prepared");
    let rules = [rule(&["open", "nothing"], &Verb::ALL, &["limited", "root", "nobody", "postgres"], "no")];
    let mut us = session(&test, "postgres", &Plan::real());
    let checked = check(&mut us, &rules, None).expect("it answers");
    let brief = |findings: Vec<crate::error::Finding>| -> Vec<(String, String)> {
        findings.into_iter().map(|it| (it.object, it.message)).collect()
    };
    let finding = |object: &str, message: &str| (object.to_owned(), message.to_owned());
    assert_eq!(
        brief(checked.failures),
        [
            finding("target: public.nothing", "the table does not exist"),
            finding("target: role \"nobody\"", "it does not exist"),
            finding("target: role \"postgres\"", "it is the role that pgdetour connects as"),
            finding("target: role \"root\"", "it is a superuser, and could undo the restriction"),
        ],
        "the owner of public.open is kept from it by the event triggers"
    );
    assert_eq!(brief(checked.warnings), []);
    test.client()
        .batch_execute("grant root to staff; create role reader login; grant pg_write_server_files to reader")
        .expect("it can be granted");
    let through = [rule(&["open"], &Verb::ALL, &["limited", "reader"], "no")];
    assert_eq!(
        brief(check(&mut us, &through, None).expect("it answers").failures),
        [
            finding("target: role \"limited\"", "it may act as root, and could undo the restriction"),
            finding(
                "target: role \"reader\"",
                "it may act as pg_write_server_files, and could undo the restriction"
            ),
        ]
    );
    test.client()
        .batch_execute(
            "revoke root from staff; create role plain login createrole; grant staff to plain; alter table users owner to plain",
        )
        .expect("it can be prepared");
    // Who is no superuser has no event triggers to hold owners.
    let mut plain = session(&test, "plain", &Plan::real());
    let failures = check(&mut plain, &[rule(&["open", "users"], &Verb::ALL, &["limited"], "no")], None);
    let failures = failures.expect("it answers").failures;
    assert!(failures[0].hint.contains("[restrict_role]"), "{failures:?}");
    assert_eq!(
        brief(failures),
        [finding(
            "target: role \"limited\"",
            "it may act as the owner of public.open, and could drop the restriction"
        )]
    );
    test.client().batch_execute("alter schema public owner to limited").expect("it can be given");
    let failures = check(&mut plain, &[rule(&["users"], &Verb::ALL, &["limited"], "no")], None);
    assert_eq!(
        brief(failures.expect("it answers").failures),
        [finding(
            "target: role \"limited\"",
            "it may act as the owner of schema public, and could drop restricted tables"
        )]
    );
    test.client()
        .batch_execute("alter schema public owner to postgres; alter table users owner to postgres")
        .expect("it can be given back");
    assert_eq!(install(&mut us, &rules).expect_err("there is no such table").kind(), "no_such_table");
    let mut dba = session(&test, "dba", &Plan::real());
    let checked =
        check(&mut dba, &[rule(&["users"], &Verb::ALL, &["limited"], "no")], None).expect("it answers");
    assert_eq!(
        brief(checked.failures),
        [finding("target: public.users", "it belongs to \"postgres\", and only its owner can restrict it")]
    );
}

/// Runs `statement` as a transaction of its own; what the server says against it.
fn refusal(client: &mut postgres::Client, statement: &str) -> Option<postgres::error::DbError> {
    let outcome = client.batch_execute(&format!("begin; {statement}; rollback"));
    let error = outcome.err().map(|error| error.as_db_error().expect(statement).clone());
    client
        .batch_execute("rollback; reset session authorization; reset role; deallocate all")
        .expect("it answers");
    error
}

/// Holds every statement of the table against what is expected of it: a detail of the refusal, or that it passes.
fn hold(client: &mut postgres::Client, message: &str, paths: &[(&str, Option<&str>)]) {
    for (statement, expected) in paths {
        let said = refusal(client, statement);
        let said =
            said.as_ref().map(|said| (said.code().code(), said.message(), said.detail().unwrap_or("")));
        assert_eq!(said, expected.map(|detail| ("25006", message, detail)), "{statement}");
    }
}

#[test]
fn an_update_is_refused_by_its_columns() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "alter table users add email text, add seen int; alter table parts add \"No, te\" text;
             drop view users_view; create view users_view as select email as mail, id, seen from users;
             grant all on users_view to limited",
        )
        .expect("it can be made");
    let mut us = session(&test, "postgres", &Plan::real());
    let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let users = Rule {
        columns: columns(&["email", "name"]),
        ..rule(&["users"], &[Verb::Update, Verb::Delete], &["limited"], "no")
    };
    let parts =
        Rule { columns: columns(&["No, te"]), ..rule(&["parts"], &[Verb::Update], &["limited"], "no") };
    let rules = [users, parts];
    assert_eq!(check(&mut us, &rules, None).expect("it answers").failures, []);
    let outcome = install(&mut us, &rules).expect("it can be installed");
    let of_users = outcome.restricted.iter().find(|it| it.table == "public.users").expect("it is restricted");
    assert_eq!(of_users.deny, ["update(email, name)", "delete"]);
    assert_eq!(list_restricted(&mut us).expect("it answers"), outcome.restricted);
    assert!(install(&mut us, &rules).expect("it is installed").changed.is_empty());
    let update = Some("UPDATE on table public.users is refused for role \"limited\".");
    let mut paths = vec![
        ("update users set seen = 1", None),
        ("update users set seen = 1, id = id where name = 'x'", None),
        ("update users set email = 'x'", update),
        ("update users set email = email where false", update),
        ("update users set (seen, name) = (1, 'x')", update),
        ("update users_view set seen = 1", None),
        ("update users_view set mail = 'x'", update),
        ("insert into users values (1) on conflict (id) do update set seen = 1", None),
        ("insert into users values (1) on conflict (id) do update set email = 'x'", update),
        ("insert into users values (100)", None),
        ("delete from users", Some("DELETE on table public.users is refused for role \"limited\".")),
        ("update parts set id = 1", None),
        (
            "update parts set \"No, te\" = 'x'",
            Some("UPDATE on table public.parts is refused for role \"limited\"."),
        ),
        (
            "update parts_b1 set \"No, te\" = 'x'",
            Some("UPDATE on table public.parts_b1 is refused for role \"limited\"."),
        ),
    ];
    if us.version >= 150_000 {
        paths.push((
            "merge into users using (values (1)) as v (id) on users.id = v.id when matched then update set email = 'x'",
            update,
        ));
        paths.push((
            "merge into users using (values (1)) as v (id) on users.id = v.id when matched then update set seen = 1",
            None,
        ));
    }
    hold(&mut enter(&test, "limited"), "no", &paths);
    let row = enter(&test, "limited")
        .query_one(
            "select columns, pgdetour.is_restricted('users', 'update'), pgdetour.is_restricted('users', 'INSERT')
             from pgdetour.restriction where table_name = 'users'",
            &[],
        )
        .expect("everybody may ask");
    assert_eq!(row.get::<_, Vec<String>>(0), ["name", "email"]);
    assert_eq!((row.get(1), row.get(2)), (true, false));
    let wrong = Rule { columns: columns(&["mail"]), ..rules[0].clone() };
    let failures = check(&mut us, &[wrong], None).expect("it answers").failures;
    assert_eq!(
        (failures[0].object.as_str(), failures[0].message.as_str()),
        ("target: public.users", "it has no column \"mail\"")
    );
}

#[test]
fn rows_are_told_apart_by_a_condition() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "alter table users add role text, add \"Old\" int default 0; update users set role = 'admin' where id = 2;
             create table child () inherits (users); insert into child values (50, 'c', 'admin');
             grant all on child to limited, other",
        )
        .expect("it can be prepared");
    let mut us = session(&test, "postgres", &Plan::real());
    let condition = "role = 'admin' -- and nothing else";
    let users =
        Rule { condition: Some(condition.into()), ..rule(&["users"], &Verb::ALL, &["limited"], "no") };
    let parts = Rule {
        condition: Some("at < '2024-07-01' and id > 0".into()),
        ..rule(&["parts"], &[Verb::Insert, Verb::Update, Verb::Delete], &["limited"], "no")
    };
    let rules = [users.clone(), parts];
    assert_eq!(check(&mut us, &rules, None).expect("it answers").failures, []);
    let outcome = install(&mut us, &rules).expect("it can be installed");
    assert_eq!(outcome.changed, ["public.child", "public.parts", "public.users"]);
    assert_eq!(outcome.restricted.len(), 3, "{:?}", outcome.restricted);
    assert_eq!(outcome.restricted[2].deny, ["insert", "update", "delete", "truncate"]);
    assert_eq!(outcome.restricted[2].condition.as_deref(), Some(condition));
    assert_eq!(list_restricted(&mut us).expect("it answers"), outcome.restricted);
    assert!(install(&mut us, &rules).expect("it is installed").changed.is_empty());
    test.client()
        .batch_execute(
            "create table parts_0 partition of parts for values from ('2020-01-01') to ('2024-01-01')",
        )
        .expect("a partition that is made later");
    test.client().batch_execute("grant all on parts_0 to limited, other").expect("it can be granted");
    let on = |verb: &str, table: &str, rows: &str| {
        format!("{verb} on table public.{table} is refused for role \"limited\"{rows}.")
    };
    let admins = format!(" on rows where {condition}");
    let (insert, update, delete) =
        (on("INSERT", "users", &admins), on("UPDATE", "users", &admins), on("DELETE", "users", &admins));
    let early = " on rows where at < '2024-07-01' and id > 0";
    let (truncate, child) = (on("TRUNCATE", "users", ""), on("UPDATE", "child", &admins));
    let (part_a, part_0) = (on("INSERT", "parts_a", early), on("INSERT", "parts_0", early));
    let gone = on("DELETE", "parts_a", early);
    let paths = [
        ("insert into users values (10, 'x', 'user')", None),
        ("insert into users values (10, 'x', null)", None),
        ("insert into users values (10, 'x', 'admin')", Some(insert.as_str())),
        ("update users set name = 'x' where id = 1", None),
        ("update users set name = 'x' where id = 2", Some(update.as_str())),
        ("update users set role = 'user' where id = 2", Some(&update)),
        ("update users set role = 'admin' where id = 1", Some(&update)),
        ("update users set name = 'x' where false", None),
        ("update users set name = 'x' where id = 50", Some(&child)),
        ("delete from users where id = 3", None),
        ("delete from users where id = 2", Some(&delete)),
        ("truncate users cascade", Some(&truncate)),
        ("insert into users_view values (10, 'x')", None),
        ("insert into parts values (1, '2024-01-01')", Some(&part_a)),
        ("insert into parts_a values (1, '2024-01-01')", Some(&part_a)),
        ("insert into parts values (1, '2025-05-01')", None),
        ("insert into parts values (1, '2023-05-01')", Some(&part_0)),
        ("insert into parts_0 values (1, '2023-05-01')", Some(&part_0)),
        ("insert into parts_0 values (0, '2023-05-01')", None),
        ("delete from parts_a", Some(&gone)),
    ];
    hold(&mut enter(&test, "limited"), "no", &paths);
    let passing: Vec<(&str, Option<&str>)> = paths.iter().map(|(statement, _)| (*statement, None)).collect();
    hold(&mut enter(&test, "other"), "no", &passing);
    for (wrong, why) in [
        ("role =", "syntax error at or near \")\" (SQLSTATE 42601)"),
        ("rank = 1", "column \"rank\" does not exist (SQLSTATE 42703)"),
        ("exists (select from public.open)", "cannot use subquery in check constraint (SQLSTATE 0A000)"),
        ("id", "argument of CHECK must be type boolean, not type integer (SQLSTATE 42804)"),
    ] {
        let rule = Rule { condition: Some(wrong.into()), ..users.clone() };
        let failures = check(&mut us, &[rule], None).expect("it answers").failures;
        assert_eq!(failures[0].message, format!("its condition cannot be used: {why}"));
    }
    assert_eq!(
        lift_all(&mut us).expect("it can be lifted"),
        ["public.child", "public.parts", "public.users"]
    );
    let left = "select count(*) from pg_trigger where tgname like '%pgdetour%'";
    assert_eq!(test.client().query_one(left, &[]).expect("it answers").get::<_, i64>(0), 0);
}

/// Names of our triggers on a table.
fn triggers(test: &TestServer, table: &str) -> Vec<String> {
    let query = "select tgname::text from pg_trigger
        where tgrelid = $1::text::regclass and tgname like '%pgdetour%' order by tgname";
    test.client().query(query, &[&table]).expect("it answers").iter().map(|row| row.get(0)).collect()
}

#[test]
fn triggers_of_every_level_of_partitions_have_names_of_their_own() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "create table apart (id int, at date); create table apart_too (id int, at date);
             grant all on apart, apart_too to limited",
        )
        .expect("it can be made");
    let mut us = session(&test, "postgres", &Plan::real());
    let among = |table: &str, condition: &str| Rule {
        condition: Some(condition.into()),
        ..rule(&[table], &Verb::ALL, &["limited"], "no")
    };
    let rules = [
        among("parts", "id = 1"),
        among("parts_b", "id = 2"),
        among("parts_b1", "id = 3"),
        among("apart", "id = 1"),
    ];
    let outcome = install(&mut us, &rules).expect("it can be installed");
    assert_eq!(
        outcome.changed,
        ["public.apart", "public.parts", "public.parts_a", "public.parts_b", "public.parts_b1"]
    );
    assert!(install(&mut us, &rules).expect("it is installed").changed.is_empty());
    // One that has its own already, one that gets them, and one that is made below.
    test.client()
        .batch_execute(
            "alter table parts attach partition apart for values from ('2030-01-01') to ('2031-01-01');
             alter table parts attach partition apart_too for values from ('2031-01-01') to ('2032-01-01');
             create table parts_b2 partition of parts_b for values in (2); grant all on parts_b2 to limited",
        )
        .expect("no name is in the way");
    let refused = |verb: &str, table: &str, rows: &str| {
        let rows = if rows.is_empty() { String::new() } else { format!(" on rows where {rows}") };
        format!("{verb} on table public.{table} is refused for role \"limited\"{rows}.")
    };
    let (first, second) = (refused("INSERT", "parts_b1", "id = 1"), refused("INSERT", "parts_b2", "id = 2"));
    let (apart, apart_too) = (refused("INSERT", "apart", "id = 1"), refused("DELETE", "apart_too", "id = 1"));
    let truncate = refused("TRUNCATE", "apart_too", "");
    test.client().batch_execute("insert into apart_too values (1, '2031-01-01')").expect("it is free");
    let paths = [
        ("insert into parts values (1, '2025-01-01')", Some(first.as_str())),
        ("insert into parts_b values (2, '2025-01-01')", Some(second.as_str())),
        ("insert into parts values (1, '2030-01-01')", Some(&apart)),
        ("insert into parts values (2, '2030-01-01')", None),
        ("delete from parts where at = '2031-01-01'", Some(&apart_too)),
        ("truncate apart_too", Some(&truncate)),
    ];
    hold(&mut enter(&test, "limited"), "no", &paths);
    lift_all(&mut us).expect("it can be lifted");
    for table in ["parts", "parts_a", "parts_b", "parts_b1", "parts_b2", "apart", "apart_too"] {
        assert!(triggers(&test, table).is_empty(), "{table}");
    }
}

#[test]
fn what_had_other_names_before_is_taken_over() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    let mut us = session(&test, "postgres", &Plan::real());
    let some = Rule {
        condition: Some("id = 1".into()),
        ..rule(&["parts"], &[Verb::Insert, Verb::Update, Verb::Delete], &["limited"], "no")
    };
    let all = Rule { deny: Verb::ALL.to_vec(), ..some.clone() };
    let old_names = "do $$ declare t record; begin
        for t in
            select tgname, 'pgdetour_restrict' || coalesce('_' || nullif(row_number() over (order by tgname), 1), '') as old
            from pg_trigger where tgrelid = 'parts'::regclass and tgname like '~%'
        loop execute format('alter trigger %I on parts rename to %I', t.tgname, t.old); end loop;
        create or replace function pgdetour.guard() returns event_trigger language plpgsql as 'begin end';
    end $$";
    for way in ["restricted anew", "restricted with more", "lifted"] {
        install(&mut us, std::slice::from_ref(&some)).expect("it can be installed");
        let names = triggers(&test, "parts");
        test.client().batch_execute(old_names).expect("as an earlier version had it");
        assert_ne!(triggers(&test, "parts"), names);
        if way == "lifted" {
            lift_all(&mut us).expect("it can be lifted");
            assert!(triggers(&test, "parts").is_empty() && triggers(&test, "parts_a").is_empty());
            continue;
        }
        let rules = [if way == "restricted anew" { some.clone() } else { all.clone() }];
        let outcome = install(&mut us, &rules).expect("it can be installed");
        assert!(outcome.guard_changed, "its functions were those of an earlier version");
        assert!(triggers(&test, "parts").iter().filter(|name| name.starts_with('~')).eq(&names));
        let again = install(&mut us, &rules).expect("it is installed");
        assert!(again.changed.is_empty() && !again.guard_changed, "{again:?}");
    }
}

#[test]
fn a_condition_is_asked_of_the_row_that_other_triggers_have_made() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "create function name_it() returns trigger language plpgsql as
                 $$ begin new.name := coalesce(new.name, 'admin'); return new; end $$;
             create trigger set_name before insert or update on users for each row execute function name_it()",
        )
        .expect("it can be made");
    let mut us = session(&test, "postgres", &Plan::real());
    let rules = [Rule {
        condition: Some("name = 'admin'".into()),
        ..rule(&["users"], &[Verb::Insert, Verb::Update], &["limited"], "no")
    }];
    install(&mut us, &rules).expect("it can be installed");
    let rows = "on table public.users is refused for role \"limited\" on rows where name = 'admin'.";
    let (insert, update) = (format!("INSERT {rows}"), format!("UPDATE {rows}"));
    let paths = [
        ("insert into users values (10, 'x')", None),
        ("insert into users values (10, null)", Some(insert.as_str())),
        ("update users set name = null where id = 1", Some(&update)),
    ];
    hold(&mut enter(&test, "limited"), "no", &paths);
}

#[test]
fn tables_made_later_are_restricted_and_limited_roles_cannot_undo_it() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "grant create on schema public to limited;
             alter table users owner to limited; alter table parts owner to limited;
             alter table parts_a owner to limited; alter table open owner to limited",
        )
        .expect("it can be prepared");
    let mut us = session(&test, "postgres", &Plan::real());
    let rules = [
        Rule {
            patterns: vec![("public".into(), "users".into()), ("public".into(), "later_.*".into())],
            except: vec![("public".into(), "later_not".into())],
            ..rule(&["users"], &Verb::ALL, &["limited"], "100% frozen: 'no'")
        },
        rule(&["parts"], &Verb::ALL, &["limited"], "100% frozen: 'no'"),
        Rule {
            condition: Some("id = 7 and name like '7%'".into()),
            patterns: vec![("public".into(), "rows.*".into()), ("public".into(), "users".into())],
            ..rule(&["users"], &[Verb::Insert], &["other"], "seven")
        },
    ];
    let outcome = install(&mut us, &rules).expect("it can be installed");
    assert!(outcome.guard_changed);
    let again = install(&mut us, &rules).expect("it is installed");
    assert!(!again.guard_changed && again.changed.is_empty(), "{again:?}");
    let mut limited = enter(&test, "limited");
    // Made by the limited role itself, which owns what it makes.
    limited
        .batch_execute(
            "create table later_one (id int primary key); create table later_not (id int);
             create table parts_c partition of parts for values from ('2026-01-01') to ('2027-01-01');
             create table heir () inherits (users); create table later_two as select 1 as id;
             create table rows_other (id int); create table rows_seven (id int, name text);
             create temporary table later_temporary (id int);
             grant all on rows_seven, rows_other, later_one to other",
        )
        .expect("a limited role may make tables");
    let detail = |what: &str| format!("{what} is refused for role \"limited\".");
    let named: Vec<(String, Option<String>)> = [
        ("insert into later_one values (1)", Some("INSERT on table public.later_one")),
        ("insert into later_two values (1)", Some("INSERT on table public.later_two")),
        ("insert into later_not values (1)", None),
        ("insert into later_temporary values (1)", None),
        ("insert into parts_c values (1, '2026-02-02')", Some("INSERT on table public.parts_c")),
        ("insert into heir values (1, 'x')", Some("INSERT on table public.heir")),
        ("insert into rows_other values (7)", None),
        ("alter table users disable trigger user", Some("ALTER TABLE on table public.users")),
        ("alter table users disable trigger pgdetour_restrict", Some("ALTER TABLE on table public.users")),
        (
            "set role staff; reset role; alter table users add x int",
            Some("ALTER TABLE on table public.users"),
        ),
        ("alter table users rename to free", Some("ALTER TABLE on table public.free")),
        ("create index on users (name)", Some("CREATE INDEX on table public.users")),
        ("create rule r as on delete to users do instead nothing", Some("CREATE RULE on table public.users")),
        ("drop trigger pgdetour_restrict on users", Some("DROP TRIGGER on table public.users")),
        ("drop table users cascade", Some("DROP TABLE on table public.users")),
        ("drop table later_one", Some("DROP TABLE on table public.later_one")),
        ("alter table parts detach partition parts_a", Some("ALTER TABLE on table public.parts")),
        ("alter table open add x int", None),
        ("drop table open", None),
        (
            "alter table open rename to later_three; insert into later_three values (1)",
            Some("INSERT on table public.later_three"),
        ),
    ]
    .into_iter()
    .map(|(statement, what)| (statement.to_owned(), what.map(detail)))
    .collect();
    let paths: Vec<(&str, Option<&str>)> =
        named.iter().map(|(statement, what)| (statement.as_str(), what.as_deref())).collect();
    hold(&mut limited, "100% frozen: 'no'", &paths);
    let mut other = enter(&test, "other");
    other
        .batch_execute("insert into later_one values (1); insert into rows_seven values (7, 'x')")
        .expect("it is free");
    let said = refusal(&mut other, "insert into rows_seven values (7, '7th')").expect("it is refused");
    assert_eq!((said.code().code(), said.message()), ("25006", "seven"));
    // Who is not limited may do as they please, also in the name of one who is.
    let passing = [
        ("alter table users add x int", None),
        ("drop table parts", None),
        ("set role limited; alter table users disable trigger user", None),
    ];
    let mut admin = test.client();
    hold(&mut admin, "", &passing);
    let detail = "UPDATE on table public.users is refused for role \"limited\".";
    hold(
        &mut admin,
        "100% frozen: 'no'",
        &[
            ("set session authorization limited; update users set name = 'x'", Some(detail)),
            ("reset session authorization; update users set name = 'x'", None),
        ],
    );
    let lifted = lift_all(&mut us).expect("it can be lifted");
    assert!(lifted.contains(&"public.later_one".to_owned()), "{lifted:?}");
    let left = "select (select count(*) from pg_event_trigger) + (select count(*) from pg_trigger where tgname like '%pgdetour%')
        + (select count(*) from pg_namespace where nspname = 'pgdetour')";
    assert_eq!(test.client().query_one(left, &[]).expect("it answers").get::<_, i64>(0), 0);
    limited.batch_execute("alter table users add x int").expect("it is lifted");
}

#[test]
fn owners_go_on_making_partitions() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "grant create on schema public to limited, other; grant limited to other;
             alter table parts owner to limited; alter table parts_b owner to other",
        )
        .expect("it can be prepared");
    let mut us = session(&test, "postgres", &Plan::real());
    let rules = [Rule {
        condition: Some("id = 7".into()),
        patterns: vec![("public".into(), "parts".into()), ("public".into(), "rows".into())],
        ..rule(&["parts"], &Verb::ALL, &["limited"], "no")
    }];
    observe(&mut us, &rules, &mut false).expect("it can be observed");
    let (mut limited, mut other) = (enter(&test, "limited"), enter(&test, "other"));
    limited
        .batch_execute(
            "create table parts_c partition of parts for values from ('2026-01-01') to ('2027-01-01')",
        )
        .expect("what is only counted");
    other
        .batch_execute("create table parts_b2 partition of parts_b for values in (7)")
        .expect("on each level");
    stop_observing(&mut us, &mut false).expect("it can be taken away");

    install(&mut us, &rules).expect("it can be installed");
    assert_eq!(install(&mut us, &rules).expect("it is installed").changed, [""; 0]);
    limited
        .batch_execute(
            "create table parts_d partition of parts for values from ('2027-01-01') to ('2028-01-01');
             create table rows (id int) partition by list (id); create table rows_7 partition of rows for values in (7)",
        )
        .expect("what is restricted to some rows");
    other
        .batch_execute("create table parts_b3 partition of parts_b for values in (8)")
        .expect("on each level");
    test.client()
        .batch_execute("alter table rows owner to other; grant all on rows to limited")
        .expect("a superuser may");
    other
        .batch_execute("create table rows_8 partition of rows for values in (8)")
        .expect("whoever the owner is");
    let refused = |table: &str| {
        format!("INSERT on table public.{table} is refused for role \"limited\" on rows where id = 7.")
    };
    let (part, row) = (refused("parts_d"), refused("rows_7"));
    let paths = [
        ("insert into parts values (7, '2027-01-01')", Some(part.as_str())),
        ("insert into rows values (7)", Some(row.as_str())),
        ("insert into rows values (8)", None),
    ];
    hold(&mut limited, "no", &paths);
}

#[test]
fn no_part_of_a_restricted_table_goes_with_what_a_limited_role_owns() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "create domain address as text; create domain place as text; create sequence numbers;
             create function is_short(text) returns bool immutable language sql as 'select length($1) < 9';
             create table accounts (id int primary key);
             alter table users add e address, add n int default nextval('numbers'),
                 add constraint short check (is_short(name));
             alter table notes add foreign key (id) references accounts not valid;
             alter table open add p place, add n int default nextval('numbers');
             create function forbid() returns trigger language plpgsql as 'begin return null; end';
             create trigger pgdetour_restricted before insert on open for each row execute function forbid();
             alter domain address owner to limited; alter domain place owner to limited;
             alter sequence numbers owner to limited; alter function is_short owner to limited;
             alter table accounts owner to limited; alter table open owner to limited",
        )
        .expect("it can be prepared");
    let mut us = session(&test, "postgres", &Plan::real());
    install(&mut us, &[rule(&["users", "notes"], &[Verb::Insert], &["limited"], "no")])
        .expect("it can be installed");
    let refused = |what: &str| format!("{what} is refused for role \"limited\".");
    let domain = refused("DROP DOMAIN on table public.users");
    let sequence = refused("DROP SEQUENCE on table public.users");
    let function = refused("DROP FUNCTION on table public.users");
    let key = refused("DROP TABLE on table public.notes");
    let paths = [
        ("drop domain address cascade", Some(domain.as_str())),
        ("drop domain place cascade", None),
        ("drop sequence numbers cascade", Some(&sequence)),
        ("drop function is_short cascade", Some(&function)),
        ("drop table accounts cascade", Some(&key)),
        ("alter table open drop n", None),
    ];
    hold(&mut enter(&test, "limited"), "no", &paths);
    let passing: Vec<(&str, Option<&str>)> = paths.iter().map(|(statement, _)| (*statement, None)).collect();
    hold(&mut test.client(), "no", &passing);
}

#[test]
fn a_condition_over_generated_columns_is_refused_at_check() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute("alter table users add loud text generated always as (upper(name)) stored")
        .expect("it can be prepared");
    let mut us = session(&test, "postgres", &Plan::real());
    let among = |deny: &[Verb], condition: &str| {
        [Rule { condition: Some(condition.into()), ..rule(&["users"], deny, &["limited"], "no") }]
    };
    for (condition, what) in [("loud = 'USER'", "generated"), ("tableoid > 0", "system")] {
        let failures = check(&mut us, &among(&Verb::ALL, condition), None).expect("it answers").failures;
        let said = format!("BEFORE trigger's WHEN condition cannot reference NEW {what} columns");
        assert!(
            failures[0].message.starts_with(&format!("its condition cannot be used: {said}")),
            "{failures:?}"
        );
    }
    // What is deleted has all its values.
    let rules = among(&[Verb::Delete], "loud = 'USER'");
    assert_eq!(check(&mut us, &rules, None).expect("it answers").failures, []);
    install(&mut us, &rules).expect("it can be installed");
    let refused = "DELETE on table public.users is refused for role \"limited\" on rows where loud = 'USER'.";
    hold(&mut enter(&test, "limited"), "no", &[("delete from users", Some(refused))]);
}

#[test]
fn who_could_write_as_a_role_of_his_own_making_is_named() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    test.client()
        .batch_execute(
            "create role maker createrole; grant maker to limited; create role heir login createrole;
             create schema own; revoke create on schema public from public",
        )
        .expect("it can be prepared");
    let mut us = session(&test, "postgres", &Plan::real());
    let rules = [rule(&["users"], &Verb::ALL, &["heir", "limited"], "no")];
    let mut named = |prepared: &str| -> Vec<String> {
        test.client().batch_execute(prepared).expect(prepared);
        let failures = check(&mut us, &rules, None).expect("it answers").failures;
        failures
            .into_iter()
            .inspect(|one| {
                assert_eq!(one.message, "it could make a role that no rule restricts, and write as that");
            })
            .map(|one| format!("{}: {}", one.object, one.hint.split(',').next().unwrap_or_default()))
            .collect()
    };
    let limited = "target: role \"limited\": Run ALTER ROLE maker NOCREATEROLE";
    let heir = "target: role \"heir\": Run ALTER ROLE heir NOCREATEROLE";
    let version: i32 = test
        .client()
        .query_one("select current_setting('server_version_num')::int4", &[])
        .expect("it answers")
        .get(0);
    if version < 160_000 {
        assert_eq!(named("select"), [heir, limited]);
        assert_eq!(named("alter role maker nocreaterole; alter role heir nocreaterole"), [""; 0]);
        return;
    }
    // It may write, and has nothing to hand that on by.
    assert_eq!(named("select"), [""; 0]);
    for (given, taken) in [
        ("grant create on schema own to limited", "revoke create on schema own from limited"),
        ("grant create on database postgres to limited", "revoke create on database postgres from limited"),
        (
            "grant update (name) on users to limited with grant option",
            "revoke grant option for update (name) on users from limited",
        ),
        ("grant staff to limited with admin option", "revoke admin option for staff from limited"),
    ] {
        assert_eq!(named(given), [limited], "{given}");
        assert_eq!(named(taken), [""; 0], "{taken}");
    }
    assert_eq!(named("grant insert on users to public"), [heir, limited]);
}

#[test]
fn who_may_switch_event_triggers_off_is_named() {
    let test = TestServer::start("");
    test.client().batch_execute(TABLES).expect("a new server takes it");
    let mut us = session(&test, "postgres", &Plan::real());
    let rules = [rule(&["users"], &Verb::ALL, &["limited"], "no")];
    let mut warned = || -> Vec<String> {
        let checked = check(&mut us, &rules, None).expect("it can be checked");
        checked
            .warnings
            .into_iter()
            .filter(|one| one.check == "restrict_later")
            .map(|one| one.object)
            .collect()
    };
    assert!(warned().is_empty());
    if test.client().batch_execute("grant set on parameter event_triggers to staff, public").is_err() {
        println!("skipped: before 17 nobody can be given this right");
        return;
    }
    assert_eq!(warned(), ["target: role \"staff\"", "target: role public"]);
}
