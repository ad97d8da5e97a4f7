//! A TCP port on 127.0.0.1 that no other run of these tests takes while we have it.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system gives ports to outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port, ours from now until the last copy of the value goes away, also while the server on it is stopped.
#[derive(Clone)]
pub struct Port {
    number: u16,
    /// An abstract Unix socket named for the port: the system frees it when we die, and it leaves no file.
    _claim: Arc<UnixListener>,
}

impl Port {
    /// Claims a free one.
    pub fn claim() -> Port {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = TRIED.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_mul(7).wrapping_add(step)) % COUNT;
            let name = format!("pgdetour test port {number}");
            let address = SocketAddr::from_abstract_name(name).expect("the name is short");
            let Ok(claim) = UnixListener::bind_addr(&address) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port { number, _claim: Arc::new(claim) };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
