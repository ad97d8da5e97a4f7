use std::time::Instant;

use super::*;
use crate::pg::sessions::{SessionsEnded, end_sessions, list_sessions};
use crate::pg::test_server::TestServer;
use crate::pg::{Conninfo, Server};
use crate::phase::Place;
use crate::plan::Plan;

const CLOSED: FenceKind = FenceKind::Closed;

fn server(test: &TestServer, user: &str, database: &str, plan: &Plan) -> Server {
    let address = format!("host=127.0.0.1 port={} dbname={database} user={user}", test.port);
    let conninfo = Conninfo::parse(&address).expect("our own text");
    Server {
        place: Place::Source,
        conninfo,
        application_name: "pgdetour test".into(),
        plan: plan.clone(),
        conventions: crate::pg::Conventions::default(),
    }
}

fn session(test: &TestServer, user: &str, database: &str) -> Session {
    server(test, user, database, &Plan::real()).connect().expect("the test server lets us in")
}

fn enter(test: &TestServer, user: &str, database: &str) -> Result<postgres::Client, postgres::Error> {
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(test.port).dbname(database).user(user).connect(postgres::NoTls)
}

/// All grants on a database, the default ones when there are none: what "exactly as before" means.
fn grants(test: &TestServer, database: &str) -> Vec<String> {
    let query = "select distinct acl::text from pg_database as d, aclexplode(coalesce(datacl, acldefault('d', datdba)))
        as acl where datname = $1 order by 1";
    test.client().query(query, &[&database]).expect("it answers").iter().map(|row| row.get(0)).collect()
}

fn roles(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Raises and lowers a fence in every state of the grants that `prepare` makes, and asks who gets in.
fn try_fence(
    test: &TestServer,
    database: &str,
    prepare: &str,
    general: &[&str],
    admins: &[&str],
) -> FenceUndo {
    test.client().batch_execute(&format!("create database {database}")).expect("a new database");
    test.client().batch_execute(prepare).expect("it can be prepared");
    let before = grants(test, database);
    let general_roles = roles(general);
    let mut us = session(test, "postgres", database);
    let admitted: Vec<bool> = admins.iter().map(|role| enter(test, role, database).is_ok()).collect();
    let checked = check(&mut us, CLOSED, &general_roles, None).expect("it answers");
    // An owner is kept out, and refused all the same: it could let itself in again.
    let owns = prepare.contains("owner to app");
    let refused = checked.failures.iter().any(|finding| finding.message.starts_with("it owns database"));
    assert_eq!((checked.failures.len(), refused), (usize::from(owns), owns), "{:?}", checked.failures);
    let undo = plan_fence(&mut us, CLOSED, &general_roles, None).expect("nobody is locked out");
    let stored = serde_json::to_string(&undo).expect("it is JSON");
    let undo: FenceUndo = serde_json::from_str(&stored).expect("it was JSON");
    assert!(!is_raised(&mut us, CLOSED, &general_roles).expect("it answers"));
    for _ in 0..2 {
        raise(&mut us, &undo).expect("it can be raised, and again");
        assert!(is_raised(&mut us, CLOSED, &general_roles).expect("it answers"));
        for role in general {
            let error = enter(test, role, database).err().expect("the fence stands");
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{role}: {error}");
        }
        let now: Vec<bool> = admins.iter().map(|role| enter(test, role, database).is_ok()).collect();
        assert_eq!(now, admitted, "{admins:?}");
    }
    for lowers in [lower_at_once, lower] {
        lowers(&mut us, &undo).expect("it can be lowered, and again");
        assert_eq!(grants(test, database), before);
    }
    undo
}

#[test]
fn the_fence_is_exact_however_general_roles_get_in() {
    let test = TestServer::start("");
    test.client()
        .batch_execute(
            "create role app login; create role app2 login; create role dba login; create role report login;
             create role team; create role staff; create role outsider login; create role lead login;
             grant team to app, dba; grant staff to report, app2; grant staff to team",
        )
        .expect("new roles");
    let everybody = &["dba", "report", "lead", "outsider", "postgres"];

    let undo = try_fence(&test, "by_default", "", &["app"], everybody);
    assert_eq!(undo.revoked.len(), 1, "PUBLIC alone: {:?}", undo.revoked);
    assert_eq!(undo.granted, roles(&["app2", "dba", "lead", "outsider", "report"]));

    let by_group =
        "revoke connect on database by_group from public; grant connect on database by_group to staff;
        grant connect on database by_group to lead";
    let undo = try_fence(&test, "by_group", by_group, &["app", "app2"], everybody);
    assert_eq!(undo.granted, roles(&["dba", "report"]));

    let by_all = "grant connect on database by_all to app, team, staff, report, lead with grant option;
        grant create, temporary on database by_all to app; set role app; grant connect on database by_all to outsider
        with grant option; set role outsider; grant connect on database by_all to lead, app2; reset role";
    let undo = try_fence(&test, "by_all", by_all, &["app"], everybody);
    assert!(undo.revoked.iter().any(|grant| grant.grantor == "outsider"), "{:?}", undo.revoked);

    let owner = "alter database by_owner owner to app";
    try_fence(&test, "by_owner", owner, &["app"], everybody);

    let by_member = "alter database owned owner to team; revoke all on database owned from public";
    try_fence(&test, "owned", by_member, &["app"], everybody);
}

#[test]
fn what_others_grant_meanwhile_stays() {
    let test = TestServer::start("");
    test.client().batch_execute("create database shop").expect("a new database");
    test.client()
        .batch_execute(
            "create role app login; create role dba login; create role dba2 login; create role gone login;
            grant connect on database shop to gone, app",
        )
        .expect("a new database");
    let mut us = session(&test, "postgres", "shop");
    let general = roles(&["app"]);
    let undo = plan_fence(&mut us, CLOSED, &general, None).expect("nobody is locked out");
    raise(&mut us, &undo).expect("it can be raised");
    let meanwhile =
        "grant create on database shop to dba2; grant connect on database shop to dba with grant option;
        revoke all on database shop from gone; drop role gone";
    test.client().batch_execute(meanwhile).expect("we are not alone");
    lower_at_once(&mut us, &undo).expect("a dropped role is no hindrance");
    assert!(enter(&test, "app", "shop").is_ok());
    let after = grants(&test, "shop").join(" ");
    assert!(after.contains("CREATE"), "{after}");

    raise(&mut us, &undo).expect("the same plan serves again");
    test.client().batch_execute("grant connect on database shop to public").expect("we are not alone");
    assert!(!is_raised(&mut us, CLOSED, &general).expect("it answers"));
    let late = FenceUndo { revoked: Vec::new(), ..undo };
    let error = raise(&mut us, &late).expect_err("it does not take PUBLIC's grant away");
    assert_eq!(error.kind(), "fence_open", "{error:?}");
}

#[test]
fn check_names_who_cannot_be_fenced() {
    let test = TestServer::start("");
    test.client().batch_execute("create database shop").expect("a new database");
    test.client()
        .batch_execute("create role app login; create role boss login; create role dba login; create role lead login;
            alter database shop owner to boss; grant lead to app; grant boss to app; create role root login superuser")
        .expect("a new database");
    let messages = |user: &str, general: &[&str]| {
        let checked =
            check(&mut session(&test, user, "shop"), CLOSED, &roles(general), None).expect("it answers");
        checked.failures.into_iter().map(|it| it.message).collect::<Vec<_>>()
    };
    assert_eq!(
        messages("postgres", &["root", "nobody", "dba"]),
        ["it does not exist", "it is a superuser: no fence keeps it out"]
    );
    assert_eq!(messages("dba", &["dba"])[0], "it is the role that pgdetour connects as");
    assert!(messages("dba", &["lead"])[0].ends_with("cannot change who may connect to database \"shop\""));
    let locked_out = messages("boss", &["app"]);
    assert_eq!(
        locked_out,
        [
            "role \"boss\", as which pgdetour connects, would be kept out with \"app\", which is a member of it",
            "role \"lead\" would be kept out with \"app\", which is a member of it",
        ]
    );
    let error = plan_fence(&mut session(&test, "boss", "shop"), CLOSED, &roles(&["app"]), None)
        .expect_err("we would lock us out");
    assert_eq!(error.kind(), "fence_locks_out");
    // An owner who is no superuser can raise and lower it.
    test.client().batch_execute("revoke boss from app; revoke lead from app").expect("it can be mended");
    let mut us = session(&test, "boss", "shop");
    let before = grants(&test, "shop");
    let undo = plan_fence(&mut us, CLOSED, &roles(&["app"]), None).expect("nobody is locked out");
    raise(&mut us, &undo).expect("the owner may");
    assert!(enter(&test, "app", "shop").is_err() && enter(&test, "dba", "shop").is_ok());
    lower(&mut us, &undo).expect("the owner may");
    assert_eq!(grants(&test, "shop"), before);
    let rights = crate::pg::sessions::check(&mut us, &roles(&["app"])).expect("it answers");
    assert_eq!(rights.failures.len(), 2, "{rights:?}");
    test.client()
        .batch_execute("grant pg_signal_backend, pg_read_all_stats to boss")
        .expect("it can be mended");
    assert!(crate::pg::sessions::check(&mut us, &roles(&["app"])).expect("it answers").failures.is_empty());
}

#[test]
fn a_dry_run_shows_the_statements() {
    let test = TestServer::start("");
    test.client().batch_execute("create role app login; create role dba login").expect("new roles");
    let plan = Plan::dry();
    let mut us = server(&test, "postgres", "postgres", &plan).connect().expect("the test server lets us in");
    let undo = plan_fence(&mut us, CLOSED, &roles(&["app"]), None).expect("nobody is locked out");
    raise(&mut us, &undo).expect("it is only noted");
    let actions: Vec<String> = plan.actions().into_iter().map(|action| action.action).collect();
    let statements = "revoke connect on database \"postgres\" from public;\ngrant connect on database \"postgres\" to \"dba\";";
    assert_eq!(actions, ["begin", statements, "commit"]);
    assert!(enter(&test, "app", "postgres").is_ok());
}

/// Ended idle, ended in a transaction, and whether nobody is left.
fn counts(ended: &SessionsEnded) -> (u64, u64, bool) {
    (ended.idle, ended.in_transaction, ended.are_all())
}

fn soon(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

#[test]
fn sessions_end_when_they_are_idle_and_are_named_when_they_are_not() {
    let test = TestServer::start("max_prepared_transactions = 2");
    let setup =
        "create role app login; create role dba login; create table t (n int); grant all on t to public";
    test.client().batch_execute(setup).expect("new roles");
    let mut us = session(&test, "postgres", "postgres");
    let general = roles(&["app"]);
    let enter = |user: &str| enter(&test, user, "postgres").expect("there is no fence");

    let (mut idle, mut other, mut busy) = (enter("app"), enter("dba"), enter("app"));
    busy.batch_execute("begin; insert into t values (1)").expect("it answers");
    let ended = end_sessions(&mut us, &general, CLOSED, soon(200), None, &|| Ok(())).expect("it answers");
    let error = ended.require_all(Duration::from_millis(200)).expect_err("one has a transaction open");
    let Error::TimedOut { detail: Some(detail), hint, .. } = &error else { panic!("{error:?}") };
    assert!(detail.contains("of \"app\" from 127.0.0.1, idle in transaction for"), "{detail}");
    assert!(detail.contains(": begin; insert into t values (1)"), "{detail}");
    assert!(hint.contains("pg_terminate_backend("), "{hint}");
    assert!(idle.simple_query("select 1").is_err(), "an idle one is ended at once");
    assert!(other.simple_query("select 1").is_ok(), "others are left alone");
    let left = list_sessions(&mut us, &general).expect("it answers");
    assert_eq!((left.len(), left[0].idle), (1, false));

    busy.batch_execute("commit").expect("its transaction was left alone");
    let begun = Instant::now();
    let ended =
        end_sessions(&mut us, &general, CLOSED, soon(2000), None, &|| Ok(())).expect("it is idle now");
    assert_eq!(counts(&ended), (1, 0, true));
    println!("ended in {:?}", begun.elapsed());
    let begun = Instant::now();
    let all = end_sessions(&mut us, &general, CLOSED, soon(2000), None, &|| Ok(())).expect("it answers");
    assert_eq!(counts(&all), (0, 0, true), "nobody is left");
    println!("found nobody in {:?}", begun.elapsed());

    let mut stubborn = enter("app");
    stubborn.batch_execute("begin; insert into t values (2)").expect("it answers");
    let after = Some(Duration::from_millis(50));
    let ended = end_sessions(&mut us, &general, CLOSED, soon(2000), after, &|| Ok(())).expect("it is ended");
    assert_eq!(counts(&ended), (0, 1, true));

    enter("app")
        .batch_execute("begin; insert into t values (3); prepare transaction 'it''s'")
        .expect("it answers");
    let ended = end_sessions(&mut us, &general, CLOSED, soon(200), after, &|| Ok(())).expect("it answers");
    let error = ended.require_all(Duration::from_millis(200)).expect_err("nobody but its owner can decide");
    let Error::TimedOut { detail: Some(detail), hint, .. } = &error else { panic!("{error:?}") };
    assert!(detail.starts_with("prepared transaction 'it''s' of \"app\", "), "{detail}");
    assert!(hint.ends_with("ROLLBACK PREPARED 'it''s'."), "{hint}");
    enter("app").batch_execute("commit prepared 'it''s'").expect("its owner decides");
    let all = end_sessions(&mut us, &general, CLOSED, soon(2000), after, &|| Ok(())).expect("it answers");
    assert!(all.are_all(), "nobody is left");
    let rows: i64 = test.client().query_one("select count(*) from t", &[]).expect("it answers").get(0);
    assert_eq!(rows, 2, "what was committed, and nothing of what was ended");
}

#[test]
fn nobody_slips_in_while_the_fence_is_raised() {
    nobody_writes_behind(FenceKind::Closed, Duration::ZERO);
}

#[test]
fn nobody_writes_behind_a_read_only_fence_however_many_knock() {
    nobody_writes_behind(FenceKind::ReadOnly, Duration::ZERO);
    // Those who stay are not waited for.
    nobody_writes_behind(FenceKind::ReadOnly, Duration::from_millis(40));
}

/// Clients connect all the while, try to write, and stay for a time.
fn nobody_writes_behind(kind: FenceKind, stay: Duration) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let test = Arc::new(TestServer::start(""));
    let setup = "create role app login; create table t (n int); grant all on t to public";
    test.client().batch_execute(setup).expect("a new role");
    let mut us = session(&test, "postgres", "postgres");
    let general = roles(&["app"]);
    let undo = plan_fence(&mut us, kind, &general, None).expect("nobody is locked out");
    let stop = Arc::new(AtomicBool::new(false));
    let knocking = (0..4).map(|_| {
        let (test, stop) = (Arc::clone(&test), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(mut client) = enter(&test, "app", "postgres") {
                    let _ = client.batch_execute("insert into t values (1)");
                    thread::sleep(stay);
                }
            }
        })
    });
    let knocking: Vec<_> = knocking.collect();
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(30));
        raise(&mut us, &undo).expect("it can be raised");
        let ended = end_sessions(&mut us, &general, kind, soon(5000), None, &|| Ok(())).expect("it answers");
        assert!(ended.are_all(), "they end: {ended:?}");
        let rows = |us: &mut Session| -> i64 {
            us.query_text("select count(*) from public.t", &[]).expect("it answers")[0].get(0)
        };
        let at_fence = rows(&mut us);
        thread::sleep(Duration::from_millis(60));
        assert_eq!(rows(&mut us), at_fence, "a write behind the fence");
        lower_at_once(&mut us, &undo).expect("it can be lowered");
    }
    stop.store(true, Ordering::Relaxed);
    for thread in knocking {
        thread.join().expect("no panic");
    }
}

/// All that `ALTER ROLE` has set in any database.
fn settings(test: &TestServer) -> Vec<String> {
    let query = "select format('%s in %s: %s', coalesce(rolname, 'all'), setdatabase, setconfig)
        from pg_db_role_setting left join pg_roles as r on r.oid = setrole order by 1";
    test.client().query(query, &[]).expect("it answers").iter().map(|row| row.get(0)).collect()
}

/// Whether sessions of a role that begin now can write.
fn writes(test: &TestServer, role: &str) -> bool {
    let mut client = enter(test, role, "shop").expect("a read-only fence lets everybody in");
    match client.batch_execute("insert into t values (1)") {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION), "{role}: {error}");
            false
        }
    }
}

/// A database `shop` with a table that everybody may write, and what else `setup` makes.
fn shop(setup: &str) -> TestServer {
    let test = TestServer::start("");
    test.client().batch_execute("create database shop").expect("a new database");
    let mut client = enter(&test, "postgres", "shop").expect("a superuser gets in");
    client.batch_execute("create table t (n int); grant all on t to public").expect("a new table");
    client.batch_execute(setup).expect("it can be prepared");
    test
}

const READ_ONLY: FenceKind = FenceKind::ReadOnly;

#[test]
fn a_read_only_fence_is_exact_whatever_was_set_before() {
    let test = shop(
        "create role app login; create role \"Odd 'app\" login; create role tuned login; create role dba login;
         alter role app set default_transaction_read_only = off;
         alter role \"Odd 'app\" in database shop set default_transaction_read_only = 'FALSE';
         alter role tuned in database shop set work_mem = '8MB';
         alter role tuned in database shop set search_path = 'public', 'a=b'",
    );
    let general = roles(&["app", "Odd 'app", "tuned", "nobody"]);
    let before = settings(&test);
    let mut us = session(&test, "postgres", "shop");
    let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it only looks");
    let by_hand = opening_statements(READ_ONLY, &general[..3], "shop", Some(&undo));
    let stored = serde_json::to_string(&undo).expect("it is JSON");
    assert!(stored.contains("\"kind\":\"read-only\""), "{stored}");
    let undo: FenceUndo = serde_json::from_str(&stored).expect("it was JSON");
    assert!(!is_raised(&mut us, READ_ONLY, &general).expect("it answers"));
    try_to_raise(&mut us, &undo).expect("it can be raised");
    assert_eq!(settings(&test), before, "a trial leaves nothing");
    for lowers in [lower_at_once, lower] {
        for _ in 0..2 {
            raise(&mut us, &undo).expect("it can be raised, and again");
            assert!(is_raised(&mut us, READ_ONLY, &general).expect("it answers"));
            assert_eq!(general[..3].iter().filter(|role| writes(&test, role)).count(), 0);
            assert!(writes(&test, "dba") && writes(&test, "postgres"));
            // Once it stands, what it has set is not what was there.
            let again = plan_fence(&mut us, READ_ONLY, &general, Some(&undo)).expect("it only looks");
            assert_eq!(again, undo);
        }
        lowers(&mut us, &undo).expect("it can be lowered");
        assert_eq!(settings(&test), before);
        lower(&mut us, &undo).expect("and again");
        assert_eq!(settings(&test), before);
        assert!(general[..3].iter().all(|role| writes(&test, role)));
    }
    let plan = plan_lowering(&mut us, &undo).expect("it only looks");
    raise(&mut us, &undo).expect("it can be raised");
    lower_as_planned(&mut us, &undo, &plan, &mut false).expect_err("the plan is of a time without the fence");
    let plan = plan_lowering(&mut us, &undo).expect("it only looks");
    begin_to_lower(&mut us, &undo, &plan).expect("it can be lowered");
    assert!(!writes(&test, "app"), "not before the commit");
    us.change_script("commit").expect("it can be committed");
    assert_eq!(settings(&test), before);
    raise(&mut us, &undo).expect("it can be raised");
    us.change_script(&by_hand).expect("it is what status prints");
    assert_eq!(settings(&test), before, "{by_hand}");
}

#[test]
fn nobody_stays_read_only_once_the_fence_is_lowered() {
    let test = shop("create role app login; create role dba login");
    let general = roles(&["app"]);
    let mut us = session(&test, "postgres", "shop");
    let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it only looks");
    let planned = |us: &mut Session, undo: &FenceUndo| {
        let plan = plan_lowering(us, undo)?;
        lower_as_planned(us, undo, &plan, &mut false)
    };
    let begun = |us: &mut Session, undo: &FenceUndo| {
        let plan = plan_lowering(us, undo)?;
        begin_to_lower(us, undo, &plan)?;
        commit_lowering(us, undo, &plan)
    };
    let enter = |role| enter(&test, role, "shop").expect("a read-only fence lets everybody in");
    for lowers in [lower, lower_at_once, planned, begun] {
        let mut before = enter("app");
        raise(&mut us, &undo).expect("it can be raised");
        let (mut idle, mut busy, mut other) = (enter("app"), enter("app"), enter("dba"));
        busy.batch_execute("begin; select 1").expect("it may read");
        lowers(&mut us, &undo).expect("it can be lowered");
        assert!(idle.batch_execute("select 1").is_err(), "it would stay read-only");
        before.batch_execute("insert into t values (1)").expect("it never was read-only");
        assert!(busy.batch_execute("select 1").is_ok() && other.batch_execute("select 1").is_ok());
        let mut fresh = enter("app");
        lower(&mut us, &undo).expect("nothing is left to lower");
        fresh
            .batch_execute("insert into t values (1)")
            .expect("nobody ends a session of the side that serves");
    }
    // Another process, as that of the cutback is, does not know since when it stands.
    raise(&mut us, &undo).expect("it can be raised");
    let mut idle = enter("app");
    lower(&mut session(&test, "postgres", "shop"), &undo).expect("it can be lowered");
    assert!(idle.batch_execute("select 1").is_err(), "it would stay read-only");
}

#[test]
fn what_a_record_of_before_there_was_a_choice_says_is_a_closed_fence() {
    let undo: FenceUndo = serde_json::from_str(
        r#"{"roles": ["app"], "revoked": [{"grantor": "dba", "grantee": null, "grantable": false, "by_owner": true}],
            "granted": ["dba"]}"#,
    )
    .expect("it was stored so");
    assert_eq!((undo.kind, undo.settings.len(), undo.revoked.len()), (FenceKind::Closed, 0, 1));
}

#[test]
fn what_others_set_meanwhile_stays() {
    let test = shop(
        "create role app login; create role other login; create role gone login; create role back login;
         alter role back in database shop set default_transaction_read_only = off",
    );
    let general = roles(&["app", "other", "gone", "back"]);
    let mut us = session(&test, "postgres", "shop");
    let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it only looks");
    raise(&mut us, &undo).expect("it can be raised");
    let meanwhile = "alter role other in database shop set default_transaction_read_only = 'false';
        alter role app in database shop set work_mem = '8MB'; drop role gone;
        alter role back in database shop reset default_transaction_read_only";
    test.client().batch_execute(meanwhile).expect("we are not alone");
    assert!(!is_raised(&mut us, READ_ONLY, &general).expect("it answers"), "two of them write");
    lower(&mut us, &undo).expect("a dropped role is no hindrance");
    let after = settings(&test).join("; ");
    assert!(after.contains("other in") && after.contains("default_transaction_read_only=false"), "{after}");
    assert!(after.contains("{work_mem=8MB}") && !after.contains("back in"), "{after}");
    assert!(writes(&test, "app") && writes(&test, "back"));

    // At once where it has just been raised; a role that has gone since is no hindrance there either.
    test.client().batch_execute("create role late login").expect("a new role");
    let general = roles(&["app", "late"]);
    let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it only looks");
    raise(&mut us, &undo).expect("it can be raised");
    test.client().batch_execute("drop role late").expect("we are not alone");
    lower_at_once(&mut us, &undo).expect("it looks again");
    assert!(writes(&test, "app"));

    // One that comes between plan and fence is no part of it.
    let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it only looks");
    test.client().batch_execute("create role late login").expect("we are not alone");
    let error = raise(&mut us, &undo).expect_err("it would write");
    assert_eq!(error.kind(), "fence_open", "{error:?}");
    assert!(writes(&test, "app") && writes(&test, "late"), "it was lowered again");
}

#[test]
fn who_may_raise_a_read_only_fence_is_known_ahead() {
    let test = shop(
        "create role app login; create role root login superuser; create role dba login; create role friend login;
         create role maker login createrole; grant app to friend; alter database shop owner to app",
    );
    let general = roles(&["app"]);
    let messages = |user: &str, roles: &[String]| {
        let checked = check(&mut session(&test, user, "shop"), READ_ONLY, roles, None).expect("it answers");
        checked.failures.into_iter().map(|it| (it.message, it.hint)).collect::<Vec<_>>()
    };
    let refused = messages("dba", &general);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, "\"dba\" cannot change its default_transaction_read_only in database \"shop\"");
    assert!(refused[0].1.starts_with("Run GRANT \"app\" TO \"dba\""), "{refused:?}");
    let undo = plan_fence(&mut session(&test, "dba", "shop"), READ_ONLY, &general, None).expect("it looks");
    raise(&mut session(&test, "dba", "shop"), &undo).expect_err("it may not");
    assert_eq!(messages("postgres", &roles(&["root"])).len(), 1, "a superuser is no application");

    let is_16 = session(&test, "postgres", "shop").version >= 160_000;
    for (user, as_itself, may) in
        [("postgres", false, true), ("friend", true, true), ("maker", is_16, !is_16)]
    {
        assert_eq!(messages(user, &general).is_empty(), may, "{user}");
        let mut us = session(&test, user, "shop");
        let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it looks");
        assert_eq!(undo.settings[0].as_itself, as_itself, "{user}");
        if may {
            for lowers in [lower_at_once, lower] {
                raise(&mut us, &undo).expect("it may");
                assert!(!writes(&test, "app"));
                lowers(&mut us, &undo).expect("it may");
                assert!(writes(&test, "app"));
            }
        }
    }

    // Where it is on before, the application writes in spite of it.
    let mut us = session(&test, "postgres", "shop");
    let undo = plan_fence(&mut us, READ_ONLY, &general, None).expect("it looks");
    raise(&mut us, &undo).expect("it can be raised");
    assert!(messages("postgres", &general)[0].0.starts_with("default_transaction_read_only is on for it"));
    let ours = check(&mut us, READ_ONLY, &general, Some(&undo)).expect("it answers");
    assert!(ours.failures.is_empty(), "unless we have set it: {ours:?}");
}

#[test]
fn a_dry_run_shows_the_statements_of_a_read_only_fence() {
    let test = TestServer::start("");
    test.client().batch_execute("create role app login").expect("a new role");
    let plan = Plan::dry();
    let mut us = server(&test, "postgres", "postgres", &plan).connect().expect("the test server lets us in");
    let undo = plan_fence(&mut us, READ_ONLY, &roles(&["app"]), None).expect("it only looks");
    raise(&mut us, &undo).expect("it is only noted");
    lower(&mut us, &undo).expect("there is nothing to lower");
    let actions: Vec<String> = plan.actions().into_iter().map(|action| action.action).collect();
    let statement = "alter role \"app\" in database \"postgres\" set default_transaction_read_only = on;";
    assert_eq!(actions, ["begin", statement, "commit"]);
    assert_eq!(settings(&test), [""; 0]);
}
