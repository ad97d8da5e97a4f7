//! Joins that could not work are refused with what mends them, and those that do fill without the replica role, too.

use super::MapRule;
use crate::error::Error;
use crate::flow::apply::test_pair::{Pair, drain, rule};
use crate::flow::mapping::joins;
use crate::phase::Side;

const OLD: &str = "
    create table users (id int primary key, name text);
    create table profiles (id int primary key references users on update cascade on delete cascade, bio text);
    create table loose (id int primary key, nick text);
    create table late (id int primary key references users deferrable, mood text)";

fn joined(from: &str) -> MapRule {
    MapRule { joins: true, ..rule(from, "public.people", &[], &[], &[]) }
}

/// Every finding as `object: message`, of what the catalogs say or of what the publisher's foreign keys do not.
fn refusals(pair: &Pair, rules: &[MapRule]) -> Vec<String> {
    let refused = match pair.mapping(rules) {
        Err(refused) => refused,
        Ok(mapping) => match joins::require_parents(&mapping, &mut pair.session(Side::Source)) {
            Err(refused) => refused,
            Ok(()) => return Vec::new(),
        },
    };
    let Error::ChecksFailed { findings } = refused else { panic!("{refused:?}") };
    assert!(findings.iter().all(|finding| finding.hint.ends_with(['.', ';'])), "{findings:#?}");
    let mut texts: Vec<String> =
        findings.iter().map(|finding| format!("{}: {}", finding.object, finding.message)).collect();
    texts.sort_unstable();
    texts
}

#[test]
fn a_join_that_could_lose_or_mix_rows_is_refused() {
    let others = "create table profiles (id int primary key, bio text); create table loose (id int primary key, nick text);
                  create table late (id int primary key, mood text);";
    let people = "create table people (id int primary key, name text, bio text, nick text default random()::text, mood text);";
    let pair = Pair::new(OLD, &format!("{others} {people}"));
    let users = || rule("public.users", "public.people", &[], &[], &[]);
    let of = |rules: &[MapRule]| refusals(&pair, rules);

    assert_eq!(of(&[users(), joined("public.profiles")]), [""; 0]);
    let nobody = of(&[rule("public.users", "public.profiles", &[], &[], &["name"]), joined("public.late")]);
    assert_eq!(nobody, ["public.late: it joins rows of \"public.people\", which no other [[map]] makes"]);
    let both =
        of(&[users(), rule("public.loose", "public.people", &[], &[], &[]), joined("public.profiles")]);
    assert_eq!(both, ["public.profiles: it joins rows of \"public.people\", which 2 [[map]] make"]);
    assert_eq!(
        of(&[users(), joined("public.loose")]),
        [
            "public.loose: column \"nick\" of \"public.people\" has a default that is no constant, so nobody can tell whether it is filled"
        ]
    );
    pair.target("alter table people alter nick set default 'none'");
    let missing = "a row of \"public.loose\" may be there without the row of \"public.users\" that it joins";
    assert_eq!(of(&[users(), joined("public.loose")]), [format!("public.loose: {missing}")]);
    // Until the end of a transaction it may be.
    assert_eq!(
        of(&[users(), joined("public.late")]),
        [format!("public.late: {}", missing.replace("loose", "late"))]
    );
    let twice = MapRule { columns: vec![("name".into(), "bio".into())], ..joined("public.profiles") };
    assert_eq!(
        of(&[users(), twice]),
        [
            "public.profiles: column \"name\" of \"public.people\" is written from \"public.profiles\" and from \"public.users\""
        ]
    );
    let some = MapRule { condition: Some("id > 5".into()), ..users() };
    assert_eq!(
        of(&[some, joined("public.profiles")]),
        [
            "public.profiles: the [[map]] from \"public.users\" has \"where\", so rows of \"public.profiles\" may find none to join"
        ]
    );
}

#[test]
fn rows_are_filled_and_emptied_without_the_replica_role_too() {
    let mut pair = Pair::new(
        "create table users (id int primary key, name text);
         create table profiles (id int primary key references users on update cascade on delete cascade, bio text, photo text);
         alter table profiles alter photo set storage external",
        "create table people (id int primary key, name text, bio text default 'none', photo text);
         grant all on people to writer; grant usage on schema pgdetour to writer;
         grant all on all tables in schema pgdetour to writer",
    );
    pair.subscriber_role = "writer";
    let rules = [rule("public.users", "public.people", &[], &[], &[]), joined("public.profiles")];
    let flow = pair.flow(&rules);
    let image = "select u.id, u.name, coalesce(p.bio, 'none') as bio, p.photo from users as u left join profiles as p using (id)";
    let check = || {
        let applied = drain(&flow).unwrap();
        assert!(!applied.replica_role);
        assert_eq!(pair.rows(Side::Source, image), pair.rows(Side::Target, "select * from people"));
    };
    pair.source(
        "insert into users select n, 'user' from generate_series(1, 500) as n;
         insert into profiles select n, 'bio', repeat(n::text, 3000) from generate_series(1, 400) as n",
    );
    check();
    pair.source("begin; insert into users values (1000, 'new'); insert into profiles values (1000, 'new', 'photo'); commit");
    pair.source("update users set id = 2000 where id = 1");
    pair.source("update profiles set id = 450 where id = 2");
    pair.source("delete from users where id between 10 and 20");
    pair.source("delete from profiles where id between 30 and 300");
    pair.source("update profiles set bio = 'changed' where id > 310");
    check();
    pair.source("truncate profiles");
    check();
}
