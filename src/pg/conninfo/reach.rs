//! From a connection string to a connection: hosts, addresses and ways of encryption are tried in libpq's order.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use postgres::error::SqlState;
use postgres::{NoTls, SimpleQueryMessage};

use super::{Attributes, Binding, Conninfo, Host};
use crate::error::ServerError;
use crate::pg::patience::{Impatient, Plain};
use crate::pg::tls::{Encryption, Mode};
use crate::pg::wire;

/// What the crate and our own client say of a server whose answer to the question for TLS is no.
const NO_TLS: &str = "does not support TLS";

/// Addresses whose servers have said that they have no TLS: asking each time would cost them a process more for each
/// connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct WithoutTls(Arc<Mutex<HashSet<SocketAddr>>>);

impl WithoutTls {
    fn addresses(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, address: SocketAddr) -> bool {
        self.addresses().contains(&address)
    }

    fn add(&self, address: SocketAddr) {
        self.addresses().insert(address);
    }
}

/// One try at one address.
pub(in crate::pg) struct Attempt {
    /// The host as given, for TLS.
    pub name: String,
    /// Where the server listens.
    pub place: Place,
    /// The one that goes with this host.
    pub password: Option<String>,
    /// Present when this try is to be encrypted.
    pub tls: Option<Encryption>,
    /// TLS from the first byte on.
    pub direct: bool,
    /// When to give up.
    pub deadline: Instant,
}

/// Where a server listens.
pub(in crate::pg) enum Place {
    /// An address.
    Tcp(SocketAddr),
    /// A socket: its directory and the port that its name holds.
    Unix(PathBuf, u16),
}

impl Place {
    /// The file of a socket.
    pub(in crate::pg) fn socket_file(directory: &std::path::Path, port: u16) -> PathBuf {
        directory.join(format!(".s.PGSQL.{port}"))
    }
}

impl Attempt {
    /// Whether others may be able to listen.
    pub(in crate::pg) fn can_be_overheard(&self) -> bool {
        match &self.place {
            Place::Unix(..) => false,
            Place::Tcp(address) => self.tls.is_none() && !address.ip().is_loopback(),
        }
    }
}

impl Conninfo {
    /// An ordinary SQL connection.
    pub fn connect(&self, application_name: &str) -> Result<postgres::Client, ServerError> {
        self.reach(
            |attempt| self.open_sql(attempt, application_name),
            |client, question| {
                let messages = client.simple_query(question).map_err(|error| ServerError::from(&error))?;
                let value = messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                });
                Ok(value.unwrap_or_default().to_owned())
            },
        )
    }

    /// Whether SCRAM is bound to TLS.
    pub(in crate::pg) fn channel_binding(&self) -> Binding {
        self.binding
    }

    /// Whether the operator said that there shall be no TLS.
    pub(in crate::pg) fn tls_is_waived(&self) -> bool {
        self.security.mode == Mode::Disable
    }

    /// What finds out that the other end is dead.
    pub(in crate::pg) fn set_socket_options(&self, stream: &TcpStream) -> std::io::Result<()> {
        use rustix::net::sockopt;
        if let Some(keepalives) = self.keepalives {
            sockopt::set_socket_keepalive(stream, true)?;
            sockopt::set_tcp_keepidle(stream, keepalives.idle)?;
            sockopt::set_tcp_keepintvl(stream, keepalives.interval)?;
            sockopt::set_tcp_keepcnt(stream, keepalives.count)?;
        }
        if let Some(limit) = self.user_timeout {
            sockopt::set_tcp_user_timeout(stream, limit.as_millis() as u32)?;
        }
        Ok(())
    }

    /// Opens a connection to the first host that lets us in; `ask` runs a statement on it and gives its only value.
    pub(in crate::pg) fn reach<C>(
        &self,
        mut open: impl FnMut(&Attempt) -> Result<C, ServerError>,
        mut ask: impl FnMut(&mut C, &str) -> Result<String, ServerError>,
    ) -> Result<C, ServerError> {
        let mut failures = Vec::new();
        let rounds: &[Attributes] = match self.attributes {
            Attributes::PreferStandby => &[Attributes::Standby, Attributes::Any],
            ref other => std::slice::from_ref(other),
        };
        for wanted in rounds {
            failures.clear();
            for host in self.hosts_in_turn() {
                let places = match self.find_places(host) {
                    Ok(places) => places,
                    Err(error) => {
                        failures.push((host, error));
                        continue;
                    }
                };
                for place in places {
                    match self.try_place(host, place, &mut open) {
                        Ok(mut client) => match unfit(*wanted, |question| ask(&mut client, question)) {
                            Ok(None) => return Ok(client),
                            Ok(Some(why)) => {
                                failures.push((host, ServerError::lost(why)));
                                break;
                            }
                            Err(error) => failures.push((host, error)),
                        },
                        // A server that refuses us ends the search, unless it is only starting or stopping.
                        Err(error)
                            if error.sqlstate.is_some() && !error.is(&SqlState::CANNOT_CONNECT_NOW) =>
                        {
                            return Err(error);
                        }
                        Err(error) => failures.push((host, error)),
                    }
                }
            }
        }
        Err(self.sum_up(failures))
    }

    /// In the order given, or by chance when the load is to be balanced.
    fn hosts_in_turn(&self) -> Vec<&Host> {
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        if self.shuffle {
            use std::hash::{BuildHasher as _, RandomState};
            let chance = RandomState::new();
            hosts.sort_by_cached_key(|host| chance.hash_one((&host.name, host.address, host.port)));
        }
        hosts
    }

    fn find_places(&self, host: &Host) -> Result<Vec<Place>, ServerError> {
        if host.is_socket() {
            return Ok(vec![Place::Unix(PathBuf::from(&host.name), host.port)]);
        }
        if let Some(address) = host.address {
            return Ok(vec![Place::Tcp(SocketAddr::new(address, host.port))]);
        }
        let (name, port) = (host.name.clone(), host.port);
        let found = within(self.timeout, move || (name.as_str(), port).to_socket_addrs());
        let found = found.ok_or_else(|| ServerError::lost("the name could not be resolved in time"))?;
        found.map(|addresses| addresses.map(Place::Tcp).collect()).map_err(|error| {
            let text = error.to_string();
            ServerError::lost(text.replace("failed to lookup address information", "unknown host name"))
        })
    }

    /// Tries one address, encrypted or not, in the order that `sslmode` gives. libpq never encrypts a socket.
    fn try_place<C>(
        &self,
        host: &Host,
        place: Place,
        open: &mut impl FnMut(&Attempt) -> Result<C, ServerError>,
    ) -> Result<C, ServerError> {
        let deadline = Instant::now() + self.timeout;
        let address = match &place {
            Place::Unix(..) => None,
            Place::Tcp(address) => Some(*address),
        };
        let encrypted: &[bool] = match (address, self.security.mode) {
            (None, _) | (_, Mode::Disable) => &[false],
            (_, Mode::Allow) => &[false, true],
            (Some(address), Mode::Prefer) if self.without_tls.has(address) => &[false, true],
            (_, Mode::Prefer) => &[true, false],
            (_, Mode::Require | Mode::VerifyCa | Mode::VerifyFull) => &[true],
        };
        let mut attempt = Attempt {
            name: host.name.clone(),
            place,
            password: host.password.clone(),
            tls: None,
            direct: self.security.direct,
            deadline,
        };
        if attempt.name.is_empty() {
            attempt.name = host.address.map(|address| address.to_string()).unwrap_or_default();
        }
        let mut first: Option<ServerError> = None;
        for encrypt in encrypted {
            attempt.tls = self.security.encryption.clone().filter(|_| *encrypt);
            match (open(&attempt), first.take()) {
                (Ok(client), earlier) => {
                    if let (Some(address), Some(ServerError { message, .. })) = (address, earlier)
                        && message.contains(NO_TLS)
                    {
                        self.without_tls.add(address);
                    }
                    return Ok(client);
                }
                // What a server says tells more than that it has no TLS.
                (Err(second), Some(earlier))
                    if earlier.sqlstate.is_none() && second.message != earlier.message =>
                {
                    let detail = format!("before that: {}", earlier.message);
                    first = Some(ServerError { detail: second.detail.clone().or(Some(detail)), ..second });
                }
                (Err(second), Some(mut earlier)) => {
                    if second.message != earlier.message && earlier.detail.is_none() {
                        earlier.detail = Some(format!("after that: {}", second.message));
                    }
                    first = Some(earlier);
                }
                (Err(error), None) => first = Some(error),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        let mut error = first.unwrap_or_default();
        error.connection_lost = true;
        Err(error)
    }

    /// One failure that names the hosts.
    fn sum_up(&self, failures: Vec<(&Host, ServerError)>) -> ServerError {
        let mut all = ServerError { connection_lost: true, ..Default::default() };
        let mut messages: Vec<String> = Vec::new();
        for (host, error) in failures {
            let name = match (&host.name, host.address) {
                (name, None) => name.clone(),
                (name, Some(address)) if name.is_empty() => address.to_string(),
                (name, Some(address)) => format!("{name} ({address})"),
            };
            let message = if error.sqlstate.is_some() && self.hosts.len() == 1 {
                error.message
            } else {
                format!("{name} port {}: {}", host.port, error.message)
            };
            if !messages.contains(&message) {
                messages.push(message);
            }
            all.sqlstate = all.sqlstate.or(error.sqlstate);
            all.detail = all.detail.or(error.detail);
            all.hint = all.hint.or(error.hint);
        }
        all.message = messages.join("; ");
        all
    }

    /// A connection of the `postgres` crate to exactly this address.
    fn open_sql(&self, attempt: &Attempt, application_name: &str) -> Result<postgres::Client, ServerError> {
        if attempt.can_be_overheard() && attempt.password.is_some() && !self.tls_is_waived() {
            // The crate sends whatever password the server asks for. Our own client looks first at what that is.
            wire::Client::log_in(self, attempt, application_name, wire::Purpose::Sql)?;
        }
        let mut config = postgres::Config::new();
        config.user(&self.user).dbname(&self.dbname).application_name(application_name);
        match &attempt.place {
            Place::Unix(directory, port) => config.host_path(directory).port(*port),
            Place::Tcp(address) => config.host(&attempt.name).hostaddr(address.ip()).port(address.port()),
        };
        if let Some(password) = &attempt.password {
            config.password(password);
        }
        if let Some(options) = self.options() {
            config.options(options);
        }
        config.channel_binding(match self.binding {
            Binding::Disable => ChannelBinding::Disable,
            Binding::Prefer => ChannelBinding::Prefer,
            Binding::Require => ChannelBinding::Require,
        });
        config.keepalives(self.keepalives.is_some());
        if let Some(keepalives) = self.keepalives {
            config
                .keepalives_idle(keepalives.idle)
                .keepalives_interval(keepalives.interval)
                .keepalives_retries(keepalives.count);
        }
        if let Some(limit) = self.user_timeout {
            config.tcp_user_timeout(limit);
        }
        let left = attempt.deadline.saturating_duration_since(Instant::now());
        config.connect_timeout(left.max(Duration::from_millis(1)));
        let is_local = matches!(attempt.place, Place::Unix(..));
        config.ssl_mode(if is_local { SslMode::Disable } else { SslMode::Require });
        if attempt.tls.is_none() || attempt.direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let (tls, patience) = (attempt.tls.clone(), self.patience.clone());
        // The crate's own limit ends with the first packet: a server that says nothing would hold us for ever.
        let opened = within(left, move || match tls {
            Some(tls) => config.connect(Impatient { patience, tls }),
            None if is_local => config.connect(NoTls),
            None => config.connect(Impatient { patience, tls: Plain }),
        });
        match opened {
            Some(result) => result.map_err(|error| explain(&error)),
            None => Err(ServerError::lost("connection timed out")),
        }
    }
}

/// Why the server is not the wanted one, if it is not.
fn unfit(
    wanted: Attributes,
    mut ask: impl FnMut(&str) -> Result<String, ServerError>,
) -> Result<Option<&'static str>, ServerError> {
    let mut is = |question: &str| ask(question).map(|answer| answer == "on" || answer == "t");
    let read_only = "show transaction_read_only";
    let in_recovery = "select pg_catalog.pg_is_in_recovery()";
    Ok(match wanted {
        Attributes::Any | Attributes::PreferStandby => None,
        Attributes::ReadWrite => is(read_only)?.then_some("the session is read-only"),
        Attributes::ReadOnly => (!is(read_only)?).then_some("the session is not read-only"),
        Attributes::Primary => is(in_recovery)?.then_some("the server is in hot standby mode"),
        Attributes::Standby => (!is(in_recovery)?).then_some("the server is not in hot standby mode"),
    })
}

/// What `work` gives, unless it takes longer than `limit`: then it goes on by itself, and nobody waits for it.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(work());
    });
    receiver.recv_timeout(limit).ok()
}

/// The crate's failure in the words that our own client uses.
fn explain(error: &postgres::Error) -> ServerError {
    let mut explained = ServerError::from(error);
    if explained.sqlstate.is_none() {
        let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let text = if why.contains(NO_TLS) { format!("the {why}") } else { error.to_string() };
        let text = text.strip_prefix("error connecting to server: ").unwrap_or(&text);
        let text = text.split(" (os error").next().unwrap_or(text);
        explained.message = match text {
            "invalid configuration: password missing" => {
                "the server wants a password, and none is given".into()
            }
            other => {
                let mut characters = other.chars();
                let first = characters.next().into_iter().flat_map(char::to_lowercase);
                first.chain(characters).collect()
            }
        };
    }
    explained.connection_lost = true;
    explained
}
