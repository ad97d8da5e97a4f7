//! A copy killed at random instants under write load and run again: identical each time.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::detour::Detour;
use crate::support::extent::pick;

/// A small generator, so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn a_copy_killed_at_random_instants_under_write_load_is_identical_when_resumed() {
    let kills = pick(3, 50);
    let seed = 20_260_801;
    let mut random = Random(seed);
    let mut detour = Detour::new().table("orders").table("users").on_source(
        "create table public.wide (id int primary key, filler text not null, more jsonb);
         insert into public.wide
         select n, repeat(md5(n::text), 20), jsonb_build_object('n', n) from generate_series(1, 30000) as n;
         create index on public.wide (filler);
         create table public.parts (id int primary key, order_id bigint references public.orders);",
    );
    detour = detour.writing();
    let mut killed = 0;
    while killed < kills {
        let run = detour.start("mirror", &["--max-rate", "16MB/s"]);
        thread::sleep(Duration::from_millis(random.below(2500)));
        run.signal(Signal::KILL);
        let answer = run.end();
        if answer.was_killed() {
            killed += 1;
        }
        if random.below(4) == 0 || answer.code() == Some(0) || killed == kills {
            detour = detour
                .run("mirror")
                .exits(0)
                .phase("mirrored")
                .at_rest(|detour| detour.run("verify").exits(0).reports("/equal", true));
            if killed < kills {
                detour = detour.run("clean").exits(0);
            }
        }
    }
    detour.application_goes_on().no_client_error().no_row_lost();
}

#[test]
fn a_transaction_of_many_rows_during_the_copy_takes_bounded_memory() {
    let rows: i64 = pick(300_000, 5_000_000);
    let detour = Detour::new()
        .table("orders")
        .on_source("create table public.many (id bigint primary key, note text)");
    let mut detour = detour.run("mirror").fault("after:copy tables").dies();
    detour.source.exec(&format!(
        "begin; insert into public.many select n, 'note ' || n from generate_series(1, {rows}) as n;
         update public.many set note = 'again ' || id where id % 2 = 0; commit"
    ));
    let (answer, peak) = detour.start("mirror", &[]).end_measured();
    assert_eq!(detour.keep(answer).code(), Some(0), "{}", detour.last().describe());
    // Without bound, five million rows would take gigabytes.
    assert!(peak <= 64 << 10, "a peak of {peak} kB");
    let count: i64 = detour.target.value("select count(*) from public.many where note = 'again ' || id");
    assert_eq!(count, rows / 2);
    detour.run("verify").exits(0).reports("/equal", true);
}
