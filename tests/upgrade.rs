//! The maintenance is an upgrade of the source to another major version, in place.

use crate::support::detour::{Detour, Serving};
use crate::support::postgres::{Programs, Shutdown};

/// Types and objects that an upgrade carries over in its own ways.
const TABLES: &str = "
create type public.mood as enum ('good', 'bad');
create table public.parted (id int, k int, v public.mood, primary key (id, k)) partition by list (k);
create table public.parted_1 partition of public.parted for values in (1);
create table public.parted_2 partition of public.parted for values in (2);
create table public.filled (id int generated always as identity primary key, v int, twice int generated always as (v * 2) stored);
create table public.wide (id int primary key, doc text, note text);
alter table public.wide alter column doc set storage external;
insert into public.parted select n, 1 + n % 2, 'good' from generate_series(1, 40) as n;
insert into public.filled (v) select n from generate_series(1, 40) as n;
insert into public.wide select n, repeat(md5(n::text), 200), 'n' from generate_series(1, 20) as n;
grant select, insert, update, delete on all tables in schema public to shop_app;";

/// Changes of each table.
const CHANGES: &str = "
insert into public.parted select n, 1 + n % 2, 'bad' from generate_series(101, 120) as n;
update public.parted set k = 3 - k where id < 10;
delete from public.filled where v > 30;
update public.filled set v = v + 1;
insert into public.filled (v) values (99);
update public.wide set note = 'changed';
update public.wide set id = id + 100 where id < 5";

#[test]
fn a_source_upgraded_in_place_takes_up_where_it_was_and_is_come_home_to() {
    let before = Programs::find("PGDETOUR_TEST_SOURCE");
    let Some(after) = before.find_newer("PGDETOUR_TEST_UPGRADE") else {
        println!(
            "skipped: an upgrade of the source, since there are no two majors with pg_upgrade here; \
             PGDETOUR_TEST_UPGRADE names the newer one's programs"
        );
        return;
    };
    let mut detour = Detour::new().table("orders").on_source(TABLES).writing().detoured();
    detour = detour.application_goes_on().application(CHANGES).run("replay").exits(0);
    detour.source.stop(Shutdown::Fast);
    detour = detour.application("update public.wide set note = 'while the source is down'");
    detour = detour.run("status").exits(0).phase("detoured").reports("/serving", "target");
    detour.source.upgrade(&after);
    detour = detour.application(&CHANGES.replace("101, 120", "201, 220").replace("id + 100", "id + 200"));
    detour = detour.run("status").exits(0).phase("detoured").reports("/serving", "target");
    detour.source.start();
    assert_eq!(
        detour.source.value::<i64>("select count(*) from pg_replication_slots"),
        0,
        "it brought no slot"
    );
    // Somebody else is where it was, or nobody.
    detour = detour.run("replay").exits(5);
    detour = detour.source_has_moved().run("status").exits(0).phase("detoured").reports("/serving", "target");
    detour = detour.application_goes_on().run("replay").exits(0).reports("/caught_up", true);
    detour =
        detour.at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true));
    detour
        .run("cutback")
        .exits(0)
        .phase("returned")
        .reports("/late_writes", 0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error()
        .run("clean")
        .exits(0)
        .no_row_lost();
}
