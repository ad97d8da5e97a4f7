//! Workers that share a queue: the heaviest task first, and all stop when one fails or the caller asks.

use std::collections::{BinaryHeap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pg::Server;

/// How often the caller's stop flag is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// How often statements that still run are cancelled after a stop.
const CANCEL_INTERVAL: Duration = Duration::from_millis(200);

struct Weighed<T> {
    weight: u64,
    /// Earlier ones first among equals.
    order: u64,
    task: T,
}

impl<T> PartialEq for Weighed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Weighed<T> {}

impl<T> PartialOrd for Weighed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Weighed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.weight.cmp(&other.weight).then(other.order.cmp(&self.order))
    }
}

struct State<T> {
    waiting: BinaryHeap<Weighed<T>>,
    pushed: u64,
    running: usize,
    workers: usize,
    failure: Option<Error>,
    /// Backends of the subscriber that run a statement of ours which is to be cancelled on a stop.
    backends: HashSet<i32>,
}

/// A queue and the workers' common state.
pub struct Pool<'a, T> {
    stop: &'a AtomicBool,
    halted: AtomicBool,
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<'a, T: Send> Pool<'a, T> {
    /// An empty pool that ends early when `stop` is set.
    pub fn new(stop: &'a AtomicBool) -> Self {
        let state = State {
            waiting: BinaryHeap::new(),
            pushed: 0,
            running: 0,
            workers: 0,
            failure: None,
            backends: HashSet::new(),
        };
        Pool { stop, halted: AtomicBool::new(false), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task.
    pub fn push(&self, weight: u64, task: T) {
        let mut state = self.state();
        let order = state.pushed;
        state.pushed += 1;
        state.waiting.push(Weighed { weight, order, task });
        self.changed.notify_all();
    }

    /// Whether a worker that asks has the only task that is left.
    pub fn has_one_task(&self) -> bool {
        let state = self.state();
        state.running == 1 && state.waiting.is_empty()
    }

    /// Fails once work is to end, for use inside long work.
    pub fn go_on(&self) -> Result<()> {
        if self.halted.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
            Err(crate::pg::dump::program::stopped())
        } else {
            Ok(())
        }
    }

    /// Runs `work`, whose statement runs in backend `pid` of the subscriber and is cancelled on a stop.
    pub fn cancellable<R>(&self, pid: i32, work: impl FnOnce() -> Result<R>) -> Result<R> {
        self.go_on()?;
        self.state().backends.insert(pid);
        let result = work();
        self.state().backends.remove(&pid);
        result
    }

    /// Works the queue off with `jobs` workers. The first failure ends all and is returned.
    pub fn run<W>(
        &self,
        subscriber: &Server,
        jobs: usize,
        start: impl Fn() -> W + Sync,
        work: impl Fn(&mut W, T) -> Result<()> + Sync,
    ) -> Result<()> {
        let jobs = jobs.max(1);
        self.state().workers = jobs;
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    let leaving = Leaving(self);
                    let mut worker = start();
                    while let Some(task) = self.next() {
                        let done = Running(self);
                        if let Err(error) = work(&mut worker, task) {
                            self.fail(error);
                        }
                        drop(done);
                    }
                    drop(leaving);
                });
            }
            self.watch(subscriber);
        });
        let mut state = self.state();
        if let Some(error) = state.failure.take() {
            return Err(error);
        }
        if !state.waiting.is_empty() {
            return Err(crate::pg::dump::program::stopped());
        }
        Ok(())
    }

    /// The heaviest task, once there is one; none when all is done or work is to end.
    fn next(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if self.go_on().is_err() {
                return None;
            }
            if let Some(weighed) = state.waiting.pop() {
                state.running += 1;
                return Some(weighed.task);
            }
            if state.running == 0 {
                return None;
            }
            state = self.changed.wait_timeout(state, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn fail(&self, error: Error) {
        let mut state = self.state();
        // Those that end because of the first failure, or of the stop, fail too.
        if !self.halted.swap(true, Ordering::Relaxed) {
            let asked = self.stop.load(Ordering::Relaxed);
            state.failure = Some(if asked { crate::pg::dump::program::stopped() } else { error });
        }
        self.changed.notify_all();
    }

    /// Waits for the workers; when work is to end, cancels what still runs.
    fn watch(&self, subscriber: &Server) {
        let mut state = self.state();
        while state.workers > 0 {
            if self.go_on().is_ok() {
                state = self.changed.wait_timeout(state, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let backends: Vec<i32> = state.backends.iter().copied().collect();
            drop(state);
            if !backends.is_empty() {
                // A server that is gone has ended them by itself.
                let _ = cancel(subscriber, &backends);
            }
            state = self.state();
            if state.workers > 0 {
                state = self
                    .changed
                    .wait_timeout(state, CANCEL_INTERVAL)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
    }
}

fn cancel(subscriber: &Server, backends: &[i32]) -> Result<()> {
    let mut session = subscriber.connect()?;
    session.query_text(
        "select pg_catalog.pg_cancel_backend(p.pid) from unnest($1::int4[]) as p (pid)",
        &[&backends],
    )?;
    Ok(())
}

/// Counts a task as done, also when the worker panics.
struct Running<'p, 'a, T: Send>(&'p Pool<'a, T>);

impl<T: Send> Drop for Running<'_, '_, T> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
        self.0.changed.notify_all();
    }
}

/// Counts a worker as gone, also when it panics.
struct Leaving<'p, 'a, T: Send>(&'p Pool<'a, T>);

impl<T: Send> Drop for Leaving<'_, '_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.halted.store(true, Ordering::Relaxed);
        }
        self.0.state().workers -= 1;
        self.0.changed.notify_all();
    }
}
