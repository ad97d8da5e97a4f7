//! Everything that can break, before and after the steps of both switches, with the application writing all the while:
//! whatever happens, one side serves or clients wait for the same command, which finishes or takes back; no row is lost.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::detour::{Detour, Serving};
use crate::support::extent;
use crate::support::postgres::Shutdown;
use crate::support::proxy::Proxy;
use crate::support::scratch::give_to_server_user;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Source,
    Target,
    Pooler,
}

/// What happens to a run while it is at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// The run itself gets a signal.
    Signal(Signal),
    /// A server is restarted.
    Restart(Part, Shutdown),
    /// The pooler is killed and started again.
    KillPooler,
    /// Connections break; new ones can be made.
    Break(Part),
    /// Connections break, and none can be made until the run has ended.
    Cut(Part),
    /// Each direction takes a second.
    Delay(Part),
    /// The target's disk is full until the run has ended.
    FullDisk,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |part: &Part| format!("{part:?}").to_lowercase();
        let text = match self {
            Harm::Signal(Signal::KILL) => "SIGKILL".to_owned(),
            Harm::Signal(Signal::INT) => "SIGINT".to_owned(),
            Harm::Signal(_) => "SIGTERM".to_owned(),
            Harm::Restart(part, shutdown) => {
                format!("{shutdown:?} restart of the {}", name(part)).to_lowercase()
            }
            Harm::KillPooler => "pooler killed".to_owned(),
            Harm::Break(part) => format!("connections to the {} break", name(part)),
            Harm::Cut(part) => format!("no network to the {}", name(part)),
            Harm::Delay(part) => format!("2 s round trip to the {}", name(part)),
            Harm::FullDisk => "target's disk full".to_owned(),
        };
        f.write_str(&text)
    }
}

/// What can happen at any step.
const HARMS: [Harm; 17] = [
    Harm::Signal(Signal::KILL),
    Harm::Signal(Signal::INT),
    Harm::Signal(Signal::TERM),
    Harm::Restart(Part::Source, Shutdown::Fast),
    Harm::Restart(Part::Source, Shutdown::Immediate),
    Harm::Restart(Part::Target, Shutdown::Fast),
    Harm::Restart(Part::Target, Shutdown::Immediate),
    Harm::KillPooler,
    Harm::Break(Part::Source),
    Harm::Break(Part::Target),
    Harm::Break(Part::Pooler),
    Harm::Cut(Part::Source),
    Harm::Cut(Part::Target),
    Harm::Cut(Part::Pooler),
    Harm::Delay(Part::Source),
    Harm::Delay(Part::Target),
    Harm::FullDisk,
];

/// One harm at one moment of one step.
struct Cell {
    at: String,
    harm: Harm,
}

/// A small disk that holds what the target writes; nothing where we may not mount one.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(detour: &Detour) -> Option<SmallDisk> {
        let path = detour.configuration().with_file_name("disk");
        std::fs::create_dir(&path).expect("the scratch directory can be written");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64M", "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: the target's disk full, since no file system can be mounted here");
            return None;
        }
        let space = path.join("space");
        std::fs::create_dir(&space).expect("the new file system is empty");
        give_to_server_user(&space);
        detour.target.exec(&format!("create tablespace small location '{}'", space.display()));
        let elsewhere = detour.target.conninfo("dba").replace("dbname=shop", "dbname=postgres");
        let mut client = postgres::Client::connect(&elsewhere, postgres::NoTls).expect("the target answers");
        client.batch_execute("alter database shop set tablespace small").expect("nobody is connected yet");
        Some(SmallDisk { path })
    }

    fn fill(&self) {
        // Ends when the file system has no more room.
        let _ = Command::new("dd").arg("if=/dev/zero").arg("bs=64k").arg(self.of()).output();
    }

    fn clear(&self) {
        let _ = std::fs::remove_file(self.path.join("ballast"));
    }

    fn of(&self) -> String {
        format!("of={}", self.path.join("ballast").display())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

/// The table that is printed, a line a cell.
#[derive(Default)]
struct Matrix {
    lines: Vec<String>,
}

impl Drop for Matrix {
    fn drop(&mut self) {
        println!("{}", self.lines.join("\n"));
    }
}

impl Matrix {
    /// Lets one thing happen, and holds what comes of it against the promise.
    fn fill(&mut self, mut detour: Detour, disk: Option<&SmallDisk>, command: &str, cell: &Cell) -> Detour {
        let Cell { at, harm } = cell;
        if *harm == Harm::FullDisk && disk.is_none() {
            return detour;
        }
        let run = detour.start_until(command, &["--yes", "--max-pause", "5s"], at);
        if !run.is_there() {
            let answer = run.go_on();
            panic!("{command} never came to {at}\n{}", answer.describe());
        }
        let proxy = |part: Part| -> &Proxy {
            let proxies = detour.proxies();
            match part {
                Part::Source => &proxies.source,
                Part::Target => &proxies.target,
                Part::Pooler => &proxies.pooler,
            }
        };
        match *harm {
            Harm::Signal(signal) => run.signal(signal),
            Harm::Restart(Part::Source, shutdown) => detour.source.restart(shutdown),
            Harm::Restart(_, shutdown) => detour.target.restart(shutdown),
            Harm::KillPooler => {
                detour.pooler().kill();
                detour.pooler().start();
            }
            Harm::Break(part) => {
                proxy(part).cut();
                proxy(part).mend();
            }
            Harm::Cut(part) => proxy(part).cut(),
            Harm::Delay(part) => proxy(part).delay(Duration::from_secs(1)),
            Harm::FullDisk => {
                disk.expect("checked above").fill();
                // More than the pages that the target has already.
                detour.source.exec(
                    "insert into public.orders (note) select repeat(md5(n::text), 20) from generate_series(1, 5000) as n",
                );
            }
        }
        let answer = run.go_on();
        if let Some(disk) = disk {
            disk.clear();
        }
        for part in [Part::Source, Part::Target, Part::Pooler] {
            let proxies = detour.proxies();
            match part {
                Part::Source => proxies.source.mend(),
                Part::Target => proxies.target.mend(),
                Part::Pooler => proxies.pooler.mend(),
            }
        }
        let code = answer.code();
        let is_promised = matches!(code, Some(0 | 5 | 6 | 7 | 130 | 143));
        assert!(is_promised || answer.was_killed(), "{harm} at {at}\n{}", answer.describe());
        detour.keep(answer);

        let serving = detour.status_tells_the_truth();
        // With everything in place again, only a run that could not act leaves clients waiting.
        let may_wait = matches!(
            harm,
            Harm::Signal(Signal::KILL) | Harm::Cut(_) | Harm::KillPooler | Harm::Break(Part::Pooler)
        );
        let exit = code.map_or("killed".to_owned(), |code| format!("exit {code}"));
        self.lines.push(format!("{command:8} {at:38} {:40} {exit:9} {serving} serves", harm.to_string()));
        assert!(
            serving != Serving::Nobody || may_wait,
            "clients wait after {harm} at {at}\n{}",
            detour.last().describe()
        );
        detour
    }
}

fn names_of_steps(detour: &mut Detour, command: &str) -> Vec<String> {
    let plan = detour.ask(command, &["--dry-run"]);
    assert_eq!(plan.code(), Some(0), "{}", plan.describe());
    let steps = plan.at("/report/steps").as_array().expect("a list of steps");
    steps.iter().map(|step| step["name"].as_str().expect("a step has a name").to_owned()).collect()
}

/// All harms at all steps, in the order of the steps; or those given.
fn cells(detour: &mut Detour, command: &str, some: &[(&str, Harm)]) -> Vec<Cell> {
    let steps = names_of_steps(detour, command);
    let some = some.iter().map(|(at, harm)| Cell { at: (*at).to_owned(), harm: *harm }).collect();
    // The way back from the last step is another command's.
    let every = || {
        let moments =
            steps[..steps.len() - 1].iter().flat_map(|step| ["before", "after"].map(|moment| (moment, step)));
        let at = moments.filter(|(moment, step)| *moment == "after" || *step == &steps[0]);
        at.flat_map(|(moment, step)| HARMS.map(|harm| Cell { at: format!("{moment}:{step}"), harm }))
            .collect()
    };
    if extent::pick(false, true) { every() } else { some }
}

#[test]
fn whatever_breaks_one_side_serves_and_the_same_command_ends_it() {
    use Harm::{Break, Cut, Delay, FullDisk, KillPooler, Restart, Signal as Sent};
    let mut detour = Detour::new().table("orders").through_proxies();
    let disk = SmallDisk::mount(&detour);
    detour = detour.writing().mirrored().run("capture").exits(0);
    let mut matrix = Matrix::default();

    let out = cells(
        &mut detour,
        "cutover",
        &[
            ("after:plan sequences", Sent(Signal::INT)),
            ("after:hold clients", Sent(Signal::TERM)),
            ("after:fence source", Sent(Signal::KILL)),
            ("after:fence source", Restart(Part::Source, Shutdown::Immediate)),
            ("after:fence source", Cut(Part::Target)),
            ("after:write marker", Restart(Part::Target, Shutdown::Fast)),
            ("after:write marker", Break(Part::Source)),
            ("after:end open transactions", FullDisk),
            ("after:stop the mirror", Break(Part::Target)),
            ("before:fence source", KillPooler),
        ],
    );
    for cell in &out {
        // What was decided goes forwards, and the rest of the cells have nothing left to break.
        if detour.ask("status", &[]).text_at("/phase") == "detoured" {
            break;
        }
        detour = matrix.fill(detour, disk.as_ref(), "cutover", cell);
    }
    detour = detour.run("cutover").exits(0).phase("detoured").serving(Serving::Target);

    let home = cells(
        &mut detour,
        "cutback",
        &[
            ("after:start replay", Sent(Signal::TERM)),
            ("after:hold clients", Break(Part::Target)),
            ("after:fence target", Restart(Part::Target, Shutdown::Immediate)),
            ("after:write marker", Sent(Signal::KILL)),
            ("after:write marker", Restart(Part::Source, Shutdown::Fast)),
            ("before:decide", Cut(Part::Source)),
            ("before:hold clients", Delay(Part::Source)),
            ("after:decide", Sent(Signal::KILL)),
            ("after:open source", Break(Part::Pooler)),
            ("after:point router to source", Restart(Part::Target, Shutdown::Immediate)),
            ("after:resume clients", Sent(Signal::KILL)),
        ],
    );
    for cell in &home {
        if detour.ask("status", &[]).text_at("/phase") == "returned" {
            break;
        }
        detour = matrix.fill(detour, disk.as_ref(), "cutback", cell);
    }
    let detour =
        detour.run("cutback").exits(0).phase("returned").serving(Serving::Source).application_goes_on();
    detour.run("clean").exits(0).phase("absent").no_row_lost();
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
