//! What can break while a run is at a step.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use postgres::error::SqlState;
use rustix::process::{Signal, kill_process};

use super::disk::SmallDisk;
use crate::support::answer::Answer;
use crate::support::detour::{Detour, Waiting};
use crate::support::postgres::Shutdown;
use crate::support::proxy::Proxy;

/// Longer than anybody may be held by a run that a silent server keeps waiting. A run that holds nobody waits for a slow
/// server, or for somebody to let it go on, as long as that takes, and so would a test.
const ENOUGH: Duration = Duration::from_secs(12);

/// What a run talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The source's server.
    Source,
    /// The target's server.
    Target,
    /// The pooler's console, or HAProxy's runtime API.
    Router,
}

/// What happens to a run while it is at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The run itself gets a signal.
    Signal(Signal),
    /// A server is restarted.
    Restart(Part, Shutdown),
    /// The pooler, or HAProxy, is killed and started again.
    KillRouter,
    /// Connections break; new ones can be made.
    Break(Part),
    /// Connections break, and none can be made until the run has ended.
    Cut(Part),
    /// Connections stay, and nothing comes through them, until the run has ended.
    Silence(Part),
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
            Harm::Signal(Signal::STOP) => "SIGSTOP".to_owned(),
            Harm::Signal(Signal::INT) => "SIGINT".to_owned(),
            Harm::Signal(_) => "SIGTERM".to_owned(),
            Harm::Restart(part, shutdown) => {
                format!("{shutdown:?} restart of the {}", name(part)).to_lowercase()
            }
            Harm::KillRouter => "router killed".to_owned(),
            Harm::Break(part) => format!("connections to the {} break", name(part)),
            Harm::Cut(part) => format!("no network to the {}", name(part)),
            Harm::Silence(part) => format!("silence of the {}", name(part)),
            Harm::Delay(part) => format!("2 s round trip to the {}", name(part)),
            Harm::FullDisk => "target's disk full".to_owned(),
        };
        f.write_str(&text)
    }
}

/// What can happen at any step.
pub const HARMS: [Harm; 22] = [
    Harm::Signal(Signal::KILL),
    Harm::Signal(Signal::STOP),
    Harm::Signal(Signal::INT),
    Harm::Signal(Signal::TERM),
    Harm::Restart(Part::Source, Shutdown::Fast),
    Harm::Restart(Part::Source, Shutdown::Immediate),
    Harm::Restart(Part::Target, Shutdown::Fast),
    Harm::Restart(Part::Target, Shutdown::Immediate),
    Harm::KillRouter,
    Harm::Break(Part::Source),
    Harm::Break(Part::Target),
    Harm::Break(Part::Router),
    Harm::Cut(Part::Source),
    Harm::Cut(Part::Target),
    Harm::Cut(Part::Router),
    Harm::Silence(Part::Source),
    Harm::Silence(Part::Target),
    Harm::Silence(Part::Router),
    Harm::Delay(Part::Source),
    Harm::Delay(Part::Target),
    Harm::Delay(Part::Router),
    Harm::FullDisk,
];

impl Harm {
    /// Lets it happen to a run that waits.
    pub fn befall(self, detour: &mut Detour, run: &Waiting, disk: Option<&SmallDisk>) {
        match self {
            Harm::Signal(signal) => run.signal(signal),
            Harm::Restart(Part::Source, shutdown) => detour.source.restart(shutdown),
            Harm::Restart(_, shutdown) => detour.target.restart(shutdown),
            Harm::KillRouter if detour.has_balancer() => detour.balancer_to_break().restart(),
            Harm::KillRouter => {
                detour.pooler().kill();
                detour.pooler().start();
            }
            Harm::Break(part) => {
                proxy(detour, part).cut();
                proxy(detour, part).mend();
            }
            Harm::Cut(part) => proxy(detour, part).cut(),
            Harm::Silence(part) => proxy(detour, part).fall_silent(),
            Harm::Delay(part) => proxy(detour, part).delay(Duration::from_secs(1)),
            Harm::FullDisk => {
                disk.expect("without a disk there is no such harm").fill();
                // More than the pages that the target has already: where it serves itself, this finds the end of them.
                let serving = detour.serving_server();
                let rows = "insert into public.orders (note) select repeat(md5(n::text), 20) from generate_series(1, 5000) as n";
                let filled = serving.try_client("dba").and_then(|mut client| client.batch_execute(rows));
                if let Err(error) = filled {
                    // What a new session cannot write of its cache has no code of its own.
                    let is_of_cache = error
                        .as_db_error()
                        .is_some_and(|error| error.message() == "could not write init file");
                    assert!(is_of_cache || error.code() == Some(&SqlState::DISK_FULL), "{error:?}");
                }
            }
        }
    }
}

/// Lets a run go on to its end, while what has befallen goes on; or ends after [`ENOUGH`], unless clients are held then.
pub fn end(run: Waiting, detour: &Detour, harm: Harm) -> Answer {
    let pid = run.pid();
    let relieve: Box<dyn Fn() + Send> = match harm {
        Harm::Silence(part) | Harm::Delay(part) => Box::new(move || proxy(detour, part).mend()),
        Harm::Signal(Signal::STOP) => Box::new(move || {
            // It may just have ended.
            let _ = kill_process(pid, Signal::CONT);
        }),
        _ => return run.go_on(),
    };
    let is_held = detour.look_for_hold();
    let (ended, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while wait.recv_timeout(ENOUGH) == Err(RecvTimeoutError::Timeout) {
                if !is_held() {
                    return relieve();
                }
            }
        });
        let answer = run.go_on();
        drop(ended);
        answer
    })
}

/// Everything is in place again.
pub fn mend(detour: &Detour, disk: Option<&SmallDisk>) {
    if let Some(disk) = disk {
        disk.clear();
    }
    for part in [Part::Source, Part::Target, Part::Router] {
        proxy(detour, part).mend();
    }
}

fn proxy(detour: &Detour, part: Part) -> &Proxy {
    let proxies = detour.proxies();
    match part {
        Part::Source => &proxies.source,
        Part::Target => &proxies.target,
        Part::Router => &proxies.router,
    }
}
