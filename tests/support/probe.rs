//! Where a write of the application really goes.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use postgres::NoTls;

/// How long a probe waits before it says that nobody serves.
const LIMIT: Duration = Duration::from_millis(1500);

enum Probe {
    Begun(postgres::CancelToken),
    Ended(Option<u16>),
}

/// Writes a row to `public.probe` and returns the port of the server that took it; none if none did in time.
pub fn port_that_takes_writes(conninfo: &str) -> Option<u16> {
    let conninfo = conninfo.to_owned();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let session = conninfo
            .parse::<postgres::Config>()
            .expect("the harness writes correct connection strings")
            .connect_timeout(LIMIT)
            .connect(NoTls);
        let port = session.and_then(|mut session| {
            let _ = tell.send(Probe::Begun(session.cancel_token()));
            let rows = session
                .simple_query("insert into public.probe default values returning inet_server_port()")?;
            let port = rows.iter().find_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<u16>().ok(),
                _ => None,
            });
            Ok(port.expect("a server has a port"))
        });
        // Nobody listens any more when the probe came too late.
        let _ = tell.send(Probe::Ended(port.ok()));
    });
    let deadline = Instant::now() + LIMIT;
    let mut cancel = None;
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Probe::Begun(token)) => cancel = Some(token),
            Ok(Probe::Ended(port)) => return port,
            Err(_) => {
                if let Some(token) = cancel {
                    // A probe that is still in the pooler must not be carried out later.
                    let _ = token.cancel_query(NoTls);
                }
                return None;
            }
        }
    }
}
