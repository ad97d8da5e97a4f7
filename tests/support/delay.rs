//! A proxy on 127.0.0.1 that adds a fixed time to each round trip, without limiting how much is on its way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Lives as long as the process: its threads end with their connections.
pub struct DelayingProxy {
    port: u16,
}

impl DelayingProxy {
    /// Passes connections on to `port`; each round trip takes `delay` longer.
    pub fn start(port: u16, delay: Duration) -> DelayingProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let own = listener.local_addr().expect("a listener has an address").port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let twice = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
                pass(twice(&client), twice(&server), delay / 2);
                pass(server, client, delay / 2);
            }
        });
        DelayingProxy { port: own }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// One direction of a connection: what is read is written `delay` later.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let _ = to.set_nodelay(true);
    let (sender, waiting) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in waiting {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
