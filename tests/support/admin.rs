//! An administrator at work on the source all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::{Client, NoTls};

/// An administrator who writes to one table of the source all the while, in one session.
pub struct Admin {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<i64>,
}

impl Admin {
    /// Starts one; the table is `public.maintenance`, with the server's port in column `port`.
    pub fn start(conninfo: &str) -> Admin {
        let mut client = Client::connect(conninfo, NoTls).expect("the admin is let in");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let insert = "insert into public.maintenance (port) values (inet_server_port())";
        let thread = std::thread::spawn(move || {
            let mut written = 0;
            while !told.load(Ordering::SeqCst) {
                client.batch_execute(insert).expect("the admin's session is not touched");
                written += 1;
                std::thread::sleep(Duration::from_millis(4));
            }
            written
        });
        Admin { stop, thread }
    }

    /// How many rows it has written.
    pub fn stop(self) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the admin saw no error")
    }
}
