//! An application that numbers its rows, so that a lost, doubled or changed one is seen whatever happened on the way.
//!
//! Each thread has one connection through the pooler. Its transaction number n inserts row n and counts itself in its
//! tally; now and then it also changes or deletes an earlier row of its own. What was acknowledged must be there at
//! the end, what failed must not, and what broke in COMMIT may be either.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use super::wait::until;

/// Tables of the application; run on the source before the trip.
pub const TABLES: &str = "
create table public.entry (
    writer int not null,
    number int not null,
    state text not null default 'new',
    body text not null,
    primary key (writer, number)
);
create table public.tally (writer int primary key, transactions int not null);
grant select, insert, update, delete on public.entry, public.tally to shop_app;
";

/// How long between two transactions of a thread: a busy application, not a benchmark. With less, what the tests that run beside each
/// other write takes most of two cores.
const PACE: Duration = Duration::from_millis(12);

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// COMMIT was acknowledged.
    Committed,
    /// It failed, and surely has no effect.
    Failed,
    /// The connection broke in COMMIT.
    Unknown,
}

/// An error that the application saw.
#[derive(Clone, Debug)]
pub struct ClientError {
    /// Thread.
    pub writer: i32,
    /// Its transaction.
    pub number: i32,
    /// Absent when the connection broke.
    pub sqlstate: Option<String>,
    /// What the client said.
    pub message: String,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.sqlstate.as_deref().unwrap_or("no SQLSTATE");
        write!(f, "writer {}, transaction {}: {} ({code})", self.writer, self.number, self.message)
    }
}

#[derive(Default)]
struct Log {
    outcomes: Vec<Outcome>,
    acknowledged_at: Vec<Instant>,
    errors: Vec<ClientError>,
}

struct Shared {
    conninfo: String,
    stop: AtomicBool,
    rest: AtomicBool,
    resting: AtomicUsize,
    acknowledged: AtomicU64,
    logs: Vec<Mutex<Log>>,
}

/// The running application. Dropping it stops it too.
pub struct Writer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts `threads` connections to `conninfo`; returns when each has written something.
    pub fn start(conninfo: &str, threads: usize) -> Writer {
        let shared = Arc::new(Shared {
            conninfo: conninfo.to_owned(),
            stop: AtomicBool::new(false),
            rest: AtomicBool::new(false),
            resting: AtomicUsize::new(0),
            acknowledged: AtomicU64::new(0),
            logs: (0..threads).map(|_| Mutex::default()).collect(),
        });
        let start_thread = |writer: usize| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.write_on(writer))
        };
        let writer = Writer { threads: (0..threads).map(start_thread).collect(), shared };
        until("every writer has written", Duration::from_secs(20), || {
            let begun = |log: &Mutex<Log>| !locked(log).acknowledged_at.is_empty();
            writer.shared.logs.iter().all(begun).then_some(())
        });
        writer
    }

    /// Transactions acknowledged until now.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Errors seen until now.
    pub fn errors(&self) -> Vec<ClientError> {
        self.shared.logs.iter().flat_map(|log| locked(log).errors.clone()).collect()
    }

    /// Waits until `more` transactions are acknowledged: proof that the application is served.
    pub fn until_acknowledged(&self, more: u64) {
        let goal = self.acknowledged() + more;
        until(&format!("{more} more transactions are acknowledged"), Duration::from_secs(30), || {
            (self.acknowledged() >= goal).then_some(())
        });
    }

    /// The longest time, within `from..to`, that a connection of the application went without an acknowledgement.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let gap_of = |log: &Mutex<Log>| {
            let log = locked(log);
            let inside = log.acknowledged_at.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
            inside.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        self.shared.logs.iter().map(gap_of).max().unwrap_or_default()
    }

    /// Lets the application rest between two transactions; returns when no transaction is open.
    pub fn rest(&self) {
        self.shared.rest.store(true, Ordering::SeqCst);
        until("the application rests", Duration::from_secs(30), || {
            (self.shared.resting.load(Ordering::SeqCst) == self.threads.len()).then_some(())
        });
    }

    /// Ends the rest.
    pub fn go_on(&self) {
        self.shared.rest.store(false, Ordering::SeqCst);
    }

    /// Stops the application and returns what it did.
    pub fn stop(mut self) -> Written {
        self.end();
        let logs: Vec<Log> = self.shared.logs.iter().map(|log| std::mem::take(&mut *locked(log))).collect();
        Written {
            errors: logs.iter().flat_map(|log| log.errors.clone()).collect(),
            outcomes: logs.into_iter().map(|log| log.outcomes).collect(),
        }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer does not panic");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn write_on(&self, index: usize) {
        let writer = index as i32;
        let mut connection: Option<Client> = None;
        let mut has_tally = false;
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) {
            self.rest_if_told();
            let Some(client) = connection.as_mut() else {
                match self.connect() {
                    Ok(client) => connection = Some(client),
                    Err(error) => self.note_error(index, number, &error),
                }
                std::thread::sleep(PACE);
                continue;
            };
            if !has_tally {
                let row = format!("insert into public.tally values ({writer}, 0) on conflict do nothing");
                match client.batch_execute(&row) {
                    Ok(()) => has_tally = true,
                    Err(error) => {
                        self.note_error(index, number, &error);
                        connection = None;
                    }
                }
                continue;
            }
            number += 1;
            let (outcome, error) = transact(client, writer, number);
            {
                let mut log = locked(&self.logs[index]);
                log.outcomes.push(outcome);
                if outcome == Outcome::Committed {
                    log.acknowledged_at.push(Instant::now());
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            }
            if let Some(error) = error {
                self.note_error(index, number, &error);
                let is_broken = client.is_closed() || client.batch_execute("rollback").is_err();
                if is_broken {
                    connection = None;
                }
            }
            std::thread::sleep(PACE);
        }
    }

    fn rest_if_told(&self) {
        let is_told = || self.rest.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst);
        if is_told() {
            self.resting.fetch_add(1, Ordering::SeqCst);
            while is_told() {
                std::thread::sleep(PACE);
            }
            self.resting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn connect(&self) -> Result<Client, postgres::Error> {
        self.conninfo
            .parse::<postgres::Config>()?
            .application_name("shop")
            .connect_timeout(Duration::from_secs(5))
            .connect(NoTls)
    }

    fn note_error(&self, index: usize, number: i32, error: &postgres::Error) {
        let db = error.as_db_error();
        locked(&self.logs[index]).errors.push(ClientError {
            writer: index as i32,
            number,
            sqlstate: db.map(|db| db.code().code().to_owned()),
            message: db.map_or_else(|| error.to_string(), |db| db.message().to_owned()),
        });
    }
}

/// Three round trips, so that a switch may fall between any two of them.
fn transact(client: &mut Client, writer: i32, number: i32) -> (Outcome, Option<postgres::Error>) {
    if let Err(error) = client.batch_execute("begin") {
        return (Outcome::Failed, Some(error));
    }
    if let Err(error) = client.batch_execute(&statements(writer, number)) {
        return (Outcome::Failed, Some(error));
    }
    match client.batch_execute("commit") {
        Ok(()) => (Outcome::Committed, None),
        // An answer to COMMIT that leaves the session standing is a refusal; anything else may have come too late.
        Err(error) => {
            let refused =
                error.as_db_error().is_some_and(|db| db.severity() == "ERROR") && !client.is_closed();
            (if refused { Outcome::Failed } else { Outcome::Unknown }, Some(error))
        }
    }
}

fn statements(writer: i32, number: i32) -> String {
    let mut text = format!(
        "insert into public.entry (writer, number, body) values ({writer}, {number}, '{}');\n\
         update public.tally set transactions = transactions + 1 where writer = {writer};\n",
        body(writer, number)
    );
    for (row, change) in changes(number) {
        let verb = match change {
            Change::Update => format!("update public.entry set state = '{}'", state(number)),
            Change::Delete => "delete from public.entry".to_owned(),
        };
        let _ = writeln!(text, "{verb} where writer = {writer} and number = {row};");
    }
    text
}

enum Change {
    Update,
    Delete,
}

/// Which earlier rows transaction `number` touches.
fn changes(number: i32) -> Vec<(i32, Change)> {
    let mut changes = Vec::new();
    if number % 3 == 0 {
        changes.push((number - 2, Change::Update));
    }
    if number % 5 == 0 && number > 4 {
        changes.push((number - 4, Change::Delete));
    }
    changes
}

fn state(number: i32) -> String {
    format!("changed by {number}")
}

/// Text that says whose it is; some of it too long and too random to be stored in line.
fn body(writer: i32, number: i32) -> String {
    let mut text = format!("writer {writer} number {number}");
    if number % 7 == 1 {
        let mut seed = (u64::from(writer.unsigned_abs()) << 32) | u64::from(number.unsigned_abs());
        for _ in 0..300 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let _ = write!(text, " {:x}", seed >> 16);
        }
    }
    text
}

/// What the application did, to hold against what a database has.
pub struct Written {
    /// Every error that a connection saw.
    pub errors: Vec<ClientError>,
    outcomes: Vec<Vec<Outcome>>,
}

/// The state of a row; none where there is no row.
type State = Option<String>;

impl Written {
    /// How many transactions ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.iter().flatten().filter(|one| **one == outcome).count()
    }

    /// Every difference between what was acknowledged and what the database behind `client` has; none if all is well.
    pub fn differences(&self, client: &mut Client) -> Vec<String> {
        let mut differences = Vec::new();
        let mut found: BTreeMap<(i32, i32), Vec<(String, String)>> = BTreeMap::new();
        let rows = client.query("select writer, number, state, body from public.entry", &[]);
        for row in rows.expect("the entries can be read") {
            found.entry((row.get(0), row.get(1))).or_default().push((row.get(2), row.get(3)));
        }
        for (writer, outcomes) in self.outcomes.iter().enumerate() {
            let writer = writer as i32;
            for (number, possible) in expected(outcomes) {
                let rows = found.remove(&(writer, number)).unwrap_or_default();
                if rows.len() > 1 {
                    differences.push(format!("row ({writer}, {number}) is there {} times", rows.len()));
                }
                let (state, body_found) = rows.into_iter().next().unzip();
                if !possible.contains(&state) {
                    differences.push(format!("row ({writer}, {number}): {state:?} instead of {possible:?}"));
                }
                if body_found.is_some_and(|found| found != body(writer, number)) {
                    differences.push(format!("row ({writer}, {number}) has another body"));
                }
            }
            let row = client.query_opt("select transactions from public.tally where writer = $1", &[&writer]);
            let counted = row.expect("the tally can be read").map_or(0, |row| row.get::<_, i32>(0));
            let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count() as i32;
            let (least, most) =
                (count(Outcome::Committed), count(Outcome::Committed) + count(Outcome::Unknown));
            if !(least..=most).contains(&counted) {
                differences
                    .push(format!("writer {writer} is counted {counted} times, not {least} to {most}"));
            }
        }
        let strangers = found.keys().map(|key| format!("row {key:?} was never acknowledged nor in doubt"));
        differences.extend(strangers);
        differences
    }
}

/// For every row that a writer tried to insert, the states that it may have now.
fn expected(outcomes: &[Outcome]) -> BTreeMap<i32, Vec<State>> {
    let mut rows: BTreeMap<i32, Vec<State>> = BTreeMap::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        let number = index as i32 + 1;
        let mut effect = |row: i32, change: &dyn Fn(&State) -> State| {
            let before = rows.remove(&row).unwrap_or_else(|| vec![None]);
            let changed = before.iter().map(change);
            let mut after: Vec<State> = match outcome {
                Outcome::Committed => changed.collect(),
                Outcome::Failed => before,
                Outcome::Unknown => changed.chain(before.iter().cloned()).collect(),
            };
            after.dedup();
            rows.insert(row, after);
        };
        effect(number, &|_| Some("new".to_owned()));
        for (row, change) in changes(number) {
            match change {
                Change::Update => effect(row, &|before| before.as_ref().map(|_| state(number))),
                Change::Delete => effect(row, &|_| None),
            }
        }
    }
    rows
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
