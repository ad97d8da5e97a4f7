//! A TCP proxy before a server, that can delay and cut what passes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::port::Port;

#[derive(Default)]
struct Shared {
    /// Microseconds in each direction.
    delay: AtomicU64,
    /// New connections are closed at once, old ones are.
    cut: AtomicBool,
    /// Nothing passes, and nothing is closed.
    silent: AtomicBool,
    /// When a client sends this, it is passed on, and the connection is closed before the answer.
    last_word: Mutex<Option<Vec<u8>>>,
    /// With the last word, new connections are refused, too.
    stays_away: AtomicBool,
    /// How many connections were closed for their last word.
    answers_lost: AtomicU64,
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
    ended: AtomicBool,
}

/// Listens on a port of its own and passes everything on to another one of 127.0.0.1.
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
}

impl Proxy {
    /// One before the server on `to`; passes everything at once.
    pub fn start(to: u16) -> Proxy {
        let port = Port::claim();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).expect("the claimed port is free");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                if !accepting.cut.load(Ordering::SeqCst) {
                    join(&accepting, client, to);
                }
            }
        });
        Proxy { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Each direction takes this much longer from now on.
    pub fn delay(&self, each_way: Duration) {
        self.shared.delay.store(each_way.as_micros() as u64, Ordering::SeqCst);
    }

    /// Breaks all connections and takes no new ones, until [`Self::mend`].
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        for (client, server) in locked(&self.shared.open).drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// Swallows whatever comes, from both sides, until [`Self::mend`] breaks these connections; new ones are taken, too.
    pub fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Passes everything again, at once.
    pub fn mend(&self) {
        if self.shared.silent.swap(false, Ordering::SeqCst) {
            self.cut();
        }
        self.delay(Duration::ZERO);
        self.shared.cut.store(false, Ordering::SeqCst);
        self.shared.stays_away.store(false, Ordering::SeqCst);
        *locked(&self.shared.last_word) = None;
    }

    /// The next client that sends `word` has it passed on and gets no answer any more.
    pub fn lose_answer_to(&self, word: &str) {
        *locked(&self.shared.last_word) = Some(word.as_bytes().to_vec());
    }

    /// The same, and from then on no new connection is taken, until [`Self::mend`].
    pub fn lose_answer_and_stay_away(&self, word: &str) {
        self.shared.stays_away.store(true, Ordering::SeqCst);
        self.lose_answer_to(word);
    }

    /// How many answers were lost so.
    pub fn answers_lost(&self) -> u64 {
        self.shared.answers_lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port()));
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream, to: u16) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let twice = |stream: &TcpStream| stream.try_clone().expect("a socket can be had twice");
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let mut open = locked(&shared.open);
    open.push((twice(&client), twice(&server)));
    drop(open);
    pump(shared, twice(&client), twice(&server), true);
    pump(shared, server, client, false);
}

fn pump(shared: &Arc<Shared>, mut from: TcpStream, mut to: TcpStream, is_request: bool) {
    let (pass, passing) = channel::<(Instant, Vec<u8>)>();
    let reading = Arc::clone(shared);
    let (other_from, other_to) = (from.try_clone(), to.try_clone());
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if reading.silent.load(Ordering::SeqCst) {
                continue;
            }
            let bytes = buffer[..length].to_vec();
            let delay = Duration::from_micros(reading.delay.load(Ordering::SeqCst));
            let is_last = is_request && is_last_word(&reading, &bytes);
            if is_last {
                // The answer's way is closed before the question is passed on; the server is left to do its work.
                let _ = from.shutdown(Shutdown::Both);
            }
            if pass.send((Instant::now() + delay, bytes)).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, bytes)) = passing.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        for stream in [other_from, other_to].into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

fn is_last_word(shared: &Shared, bytes: &[u8]) -> bool {
    let mut word = locked(&shared.last_word);
    let is_last = word.as_ref().is_some_and(|word| bytes.windows(word.len()).any(|window| window == word));
    if is_last {
        *word = None;
        shared.answers_lost.fetch_add(1, Ordering::SeqCst);
        if shared.stays_away.load(Ordering::SeqCst) {
            shared.cut.store(true, Ordering::SeqCst);
        }
    }
    is_last
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
