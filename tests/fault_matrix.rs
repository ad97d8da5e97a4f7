//! Everything that can break, before and after the steps of both switches, with the application writing all the while:
//! whatever happens, one side serves or clients wait for the same command, which finishes or takes back; no row is lost.
//!
//! `PGDETOUR_TEST_CELLS`, a part of a line of the table such as `after:decide`, or several with a semicolon between, has these
//! alone run. All of them go on several trips beside each other, since most of what takes time there is waiting.

mod disk;
mod harm;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use self::disk::SmallDisk;
use self::harm::{HARMS, Harm, Part};
use crate::support::detour::{Detour, Serving, Waiting};
use crate::support::extent;
use crate::support::hold::Watch;
use crate::support::postgres::Shutdown;
use crate::support::wait::until;

/// The budget that every run gets in which something happens.
const BUDGET: &str = "5s";
/// How long a run may wait for the mirror, or replay, before it holds anybody: where a disk is full, that is all of it.
const DRAIN: &str = "30s";
/// [`BUDGET`] again.
const LONGEST_HOLD: Duration = Duration::from_secs(5);
/// What the runs between them get, however many of them are beside each other.
const PATIENTLY: &[&str] = &["--max-pause", "30s", "--drain-timeout", DRAIN];

/// One harm at one moment of one step.
struct Cell {
    at: String,
    harm: Harm,
}

/// A trip on which one thing after the other happens.
struct Matrix {
    /// Before the detour, whose folder it is in: they go in this order.
    disk: Option<SmallDisk>,
    detour: Detour,
    /// Who was held for too long; told at the end, so that the table is whole.
    complaints: Vec<String>,
}

fn names_of_steps(detour: &mut Detour, command: &str) -> Vec<String> {
    let plan = detour.ask(command, &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let steps = plan.at("/report/steps").as_array().expect("a list of steps");
    steps.iter().map(|step| step["name"].as_str().expect("a step has a name").to_owned()).collect()
}

/// The given ones; to the full extent all of these harms, before the first step and after each. Between a step and the next
/// nothing happens.
fn cells(detour: &mut Detour, command: &str, some: &[(&str, Harm)]) -> Vec<Cell> {
    let steps = names_of_steps(detour, command);
    let some =
        || some.iter().map(|(at, harm)| Cell { at: (*at).to_owned(), harm: *harm }).collect::<Vec<_>>();
    // After the last step nothing is left to break.
    let every = || {
        let moments = std::iter::once(format!("before:{}", steps[0]))
            .chain(steps[..steps.len() - 1].iter().map(|step| format!("after:{step}")));
        let every = moments.flat_map(|at| HARMS.iter().map(move |harm| Cell { at: at.clone(), harm: *harm }));
        every.collect::<Vec<Cell>>()
    };
    let named = std::env::var("PGDETOUR_TEST_CELLS").unwrap_or_default();
    let mut cells = if extent::pick(false, true) { every() } else { some() };
    cells.retain(|cell| {
        let line = format!("{command} {} {}", cell.at, cell.harm);
        named.split(';').any(|part| line.contains(part))
    });
    cells
}

impl Matrix {
    fn begin(detour: Detour, disk: Option<SmallDisk>) -> Matrix {
        Matrix { disk, detour, complaints: Vec::new() }
    }

    fn phase(&mut self) -> String {
        self.detour.ask("status", &[]).text_at("/phase").to_owned()
    }

    fn run(&mut self, command: &str, arguments: &[&str]) {
        let arguments = [&["--yes"], arguments].concat();
        let answer = self.detour.ask(command, &arguments);
        assert_eq!(answer.code(), Some(0), "{}", answer.describe());
    }

    /// Brings the trip to where `command` begins.
    fn be_ready_for(&mut self, command: &str) {
        if command == "cutover" && self.phase() == "detoured" {
            self.run("cutback", PATIENTLY);
        }
        if self.phase() == "returned" {
            self.run("clean", &["--drop-data"]);
            // Recovery makes again what was dropped since the last checkpoint, which the small disk has no room for.
            self.detour.target.exec("checkpoint");
            self.run("mirror", &[]);
        }
        if command == "cutback" && matches!(self.phase().as_str(), "mirrored" | "cutting_over") {
            self.run("cutover", PATIENTLY);
        }
    }

    /// A run that waits at a moment.
    fn begin_run(&mut self, command: &str, at: &str) -> Waiting {
        self.be_ready_for(command);
        let start = |detour: &Detour| {
            detour.start_until(command, &["--yes", "--max-pause", BUDGET, "--drain-timeout", DRAIN], at)
        };
        let mut run = start(&self.detour);
        if !run.is_there() {
            let answer = run.go_on();
            // The switch before had ended on the other side, which this run has found out and finished.
            assert_eq!(answer.code(), Some(0), "{command} never came to {at}\n{}", answer.describe());
            self.detour.keep(answer);
            self.be_ready_for(command);
            run = start(&self.detour);
        }
        assert!(run.is_there(), "{command} never came to {at}\n{}", self.detour.last().describe());
        run
    }

    /// Lets one thing happen, and holds what comes of it against the promise.
    fn fill(&mut self, command: &str, cell: &Cell) {
        let Cell { at, harm } = cell;
        if *harm == Harm::FullDisk && self.disk.is_none() {
            return;
        }
        let run = self.begin_run(command, at);
        harm.befall(&mut self.detour, &run, self.disk.as_ref());
        // What the harness itself waited for is nobody's pause.
        let watch = Watch::begin(&self.detour);
        let answer = harm::end(run, &self.detour, *harm);
        let held = watch.end();
        harm::mend(&self.detour, self.disk.as_ref());
        let code = answer.code();
        // Before anything is changed, a server that has no room refuses.
        let is_refused = *harm == Harm::FullDisk && code == Some(3) && answer.at("/changed") == false;
        let is_promised = is_refused || matches!(code, Some(0 | 5 | 6 | 7 | 130 | 143));
        assert!(is_promised || answer.was_killed(), "{harm} at {at}\n{}", answer.describe());
        self.detour.keep(answer);

        // What the run could not do is tried on by what it has left behind.
        until("clients are served", Duration::from_secs(30), || {
            (self.detour.who_really_serves() != Serving::Nobody).then_some(())
        });
        let serving = self.detour.status_tells_the_truth();
        let exit = code.map_or("killed".to_owned(), |code| format!("exit {code}"));
        println!(
            "{command:8} {at:38} {:40} {exit:9} {serving} serves, held {:.1} s",
            harm.to_string(),
            held.as_secs_f64()
        );
        let last = || self.detour.last().describe();
        if held >= LONGEST_HOLD {
            self.complaints.push(format!("held for {held:?} by {harm} at {at}\n{}", last()));
        }
        // What was decided is finished by the same command; what was not is taken back by it, which the next cell begins with.
        let is_decided = "select exists (select from pgdetour.detour where decided is not null)";
        if self.phase().starts_with("cutting") && self.detour.target.value::<bool>(is_decided) {
            self.run(command, PATIENTLY);
        }
    }

    /// The rest of the trip, and the count of the rows.
    fn end(mut self) {
        self.be_ready_for("cutback");
        self.run("cutback", PATIENTLY);
        assert_eq!(self.detour.status_tells_the_truth(), Serving::Source);
        self.run("clean", &[]);
        let is_behind_haproxy = self.detour.has_balancer();
        let login_retry = self.detour.pooler().setting("server_login_retry");
        assert!(is_behind_haproxy || login_retry == "1", "left at {login_retry}");
        self.detour.no_row_lost();
        assert!(self.complaints.is_empty(), "{}", self.complaints.join("\n"));
    }
}

/// Several trips, begun alike.
struct Lanes(Vec<Matrix>);

impl Lanes {
    fn begin(one: impl Fn() -> Matrix) -> Lanes {
        Lanes((0..extent::pick(1, 3)).map(|_| one()).collect())
    }

    /// Each takes the next cell that is left.
    fn fill(&mut self, command: &str, some: &[(&str, Harm)]) {
        self.0[0].be_ready_for(command);
        let left = Mutex::new(VecDeque::from(cells(&mut self.0[0].detour, command, some)));
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        thread::scope(|scope| {
            for matrix in &mut self.0 {
                scope.spawn(|| {
                    while let Some(cell) = next() {
                        matrix.fill(command, &cell);
                    }
                });
            }
        });
    }

    fn end(self) {
        self.0.into_iter().for_each(Matrix::end);
    }
}

/// Two servers behind PgBouncer, the network to each and the target's disk in our hands.
fn behind_pgbouncer() -> Matrix {
    let detour = Detour::new().table("orders").through_proxies();
    let disk = SmallDisk::mount(&detour);
    Matrix::begin(detour.writing().mirrored().run("capture").exits(0), disk)
}

#[test]
fn whatever_breaks_in_a_cutover_one_side_serves_and_the_same_command_ends_it() {
    use Harm::{Break, Cut, Delay, FullDisk, KillRouter, Restart, Signal as Sent, Silence};
    let mut lanes = Lanes::begin(behind_pgbouncer);
    let some = [
        ("after:plan sequences", Sent(Signal::INT)),
        ("after:post a guardian", Delay(Part::Target)),
        ("after:hold clients", Sent(Signal::TERM)),
        ("after:hold clients", KillRouter),
        ("after:fence source", Sent(Signal::KILL)),
        ("after:fence source", Delay(Part::Router)),
        ("after:end open transactions", Sent(Signal::STOP)),
        ("after:fence source", Restart(Part::Source, Shutdown::Immediate)),
        ("after:fence source", Cut(Part::Target)),
        ("after:write marker", Restart(Part::Target, Shutdown::Fast)),
        ("after:write marker", Break(Part::Source)),
        ("after:write marker", Delay(Part::Target)),
        ("after:write marker", Silence(Part::Target)),
        ("after:end open transactions", FullDisk),
        ("after:stop the mirror", Break(Part::Target)),
        ("after:decide", Sent(Signal::KILL)),
        ("after:point router to target", Restart(Part::Source, Shutdown::Immediate)),
    ];
    lanes.fill("cutover", &some);
    lanes.end();
}

#[test]
fn whatever_breaks_in_a_cutback_one_side_serves_and_the_same_command_ends_it() {
    use Harm::{Break, Cut, Delay, Restart, Signal as Sent, Silence};
    let mut lanes = Lanes::begin(behind_pgbouncer);
    let some = [
        ("after:start replay", Sent(Signal::TERM)),
        ("after:hold clients", Break(Part::Target)),
        ("after:fence target", Restart(Part::Target, Shutdown::Immediate)),
        ("after:write marker", Sent(Signal::KILL)),
        ("after:write marker", Restart(Part::Source, Shutdown::Fast)),
        ("after:prepare the router", Delay(Part::Source)),
        ("after:drain to the marker", Silence(Part::Source)),
        ("after:decide", Cut(Part::Source)),
        ("after:decide", Sent(Signal::KILL)),
        ("after:open source", Break(Part::Router)),
        ("after:resume clients", Restart(Part::Target, Shutdown::Immediate)),
    ];
    lanes.fill("cutback", &some);
    lanes.end();
}

#[test]
fn whatever_breaks_behind_haproxy_one_side_serves_and_the_same_command_ends_it() {
    use Harm::{Cut, Delay, KillRouter, Restart, Signal as Sent, Silence};
    let mut lanes = Lanes::begin(|| {
        let detour = Detour::new().table("orders").behind_haproxy().through_proxies();
        Matrix::begin(detour.writing().mirrored().run("capture").exits(0), None)
    });
    let out = [
        ("after:hold clients", KillRouter),
        ("after:fence source", Cut(Part::Target)),
        ("after:fence source", Delay(Part::Router)),
        ("after:point router to target", Sent(Signal::KILL)),
    ];
    lanes.fill("cutover", &out);
    let home = [
        ("after:write marker", Restart(Part::Target, Shutdown::Immediate)),
        ("after:write marker", Silence(Part::Router)),
        ("after:point router to source", KillRouter),
    ];
    lanes.fill("cutback", &home);
    lanes.end();
}

#[test]
fn a_second_run_is_told_that_one_is_busy_and_a_decision_whose_answer_is_lost_is_kept() {
    let mut detour = Detour::new().table("orders").through_proxies().writing().mirrored();
    for (command, phase, serving) in
        [("cutover", "detoured", Serving::Target), ("cutback", "returned", Serving::Source)]
    {
        let run = detour.start_until(command, &["--yes", "--max-pause", "45s"], "before:decide");
        assert!(run.is_there());
        let busy = detour.ask(command, &["--yes"]);
        assert_eq!(busy.code(), Some(4), "{}", busy.describe());
        // Only the deciding statement writes where the marker was.
        detour.proxies().target.lose_answer_to("switch_position");
        let answer = run.go_on();
        assert_eq!(detour.proxies().target.answers_lost(), if command == "cutover" { 1 } else { 2 });
        assert_eq!(answer.code(), Some(0), "{}", answer.describe());
        detour.keep(answer);
        detour.proxies().target.mend();
        detour = detour.phase(phase).serving(serving).application_goes_on();
    }
    detour.no_client_error().no_row_lost();
}

/// The answer to the decision is lost, and the target cannot be asked any more; `is_decided` says whether it got it.
fn the_target_does_not_say(mut detour: Detour, command: &str, is_decided: bool) -> Detour {
    let run = detour.start_until(command, &["--yes", "--max-pause", "2s"], "before:decide");
    assert!(run.is_there());
    let target = &detour.proxies().target;
    if is_decided {
        target.lose_answer_and_stay_away("switch_position");
    } else {
        target.cut();
    }
    let watch = Watch::begin(&detour);
    let answer = run.go_on();
    let held = watch.end();
    assert_eq!(answer.code(), Some(7), "{}", answer.describe());
    assert_eq!(answer.text_at("/serving"), "source");
    assert!(held < Duration::from_secs(4), "held for {held:?}\n{}", answer.describe());
    let warnings = answer.at("/warnings").to_string();
    assert!(warnings.contains("did not say whether the switch"), "{warnings}");
    detour.keep(answer);
    assert_eq!(detour.who_really_serves(), Serving::Source);
    let recorded = "select decided is not null from pgdetour.detour";
    assert_eq!(detour.target.value::<bool>(recorded), is_decided);
    detour.proxies().target.mend();
    detour.application_goes_on()
}

#[test]
fn a_decision_that_the_target_does_not_tell_of_ends_on_the_source_and_is_mended_by_the_same_command() {
    let mut detour = Detour::new().table("orders").through_proxies().writing().mirrored();
    for is_decided in [true, false] {
        detour = the_target_does_not_say(detour, "cutover", is_decided).serving(Serving::Source);
    }
    detour = detour.run("cutover").exits(0).phase("detoured").serving(Serving::Target).application_goes_on();
    detour = the_target_does_not_say(detour, "cutback", false);
    detour = detour.run("cutback").exits(0).phase("returned").reports("/late_writes", 0);
    detour = detour.serving(Serving::Source).application_goes_on();
    detour = detour.run("clean").with(&["--drop-data"]).exits(0).detoured().application_goes_on();
    detour = the_target_does_not_say(detour, "cutback", true);
    detour = detour.run("cutback").exits(0).phase("returned").serving(Serving::Source);
    detour.application_goes_on().no_row_lost();
}
