//! How to reach a server: libpq's connection strings, environment and files.

mod options;
mod passfile;
mod reach;
mod security;
mod service;
mod surroundings;
mod text;

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pg::patience::Patience;
use crate::pg::tls::Mode;
use options::Options;
use reach::WithoutTls;
pub(in crate::pg) use reach::{Attempt, Place};
use security::Security;
use surroundings::Surroundings;

const DEFAULT_PORT: u16 = 5432;
/// Where Debian's libpq looks for a socket, then PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// How long one attempt may take when nobody says: nothing here waits for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long a network that swallows what we send is given up.
const LOSS_NOTICED: Duration = Duration::from_secs(20);
/// `connect_timeout=0`: as long as it takes.
const PATIENT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where and as whom to connect: everything that libpq would take from the same text, environment and files.
#[derive(Clone)]
pub struct Conninfo {
    options: Options,
    hosts: Vec<Host>,
    user: String,
    dbname: String,
    /// The passfile, when there is one and the password comes from nowhere else.
    passfile: Option<String>,
    security: Security,
    binding: Binding,
    attributes: Attributes,
    shuffle: bool,
    timeout: Duration,
    keepalives: Option<Keepalives>,
    user_timeout: Option<Duration>,
    patience: Patience,
    without_tls: WithoutTls,
    warnings: Vec<String>,
}

impl Conninfo {
    /// Where it leads, without anything secret: `db1:5432, db2:5432`.
    pub fn places(&self) -> String {
        let place = |host: &Host| match (host.name.as_str(), host.address) {
            ("", Some(address)) => format!("{address}:{}", host.port),
            (name, _) => format!("{name}:{}", host.port),
        };
        self.hosts.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// The same with a host's address where that is given beside its name, which several may share: `10.0.0.5:6432`.
    pub fn addresses(&self) -> String {
        let address = |host: &Host| {
            let name = host.address.map_or_else(|| host.name.clone(), |address| address.to_string());
            format!("{name}:{}", host.port)
        };
        self.hosts.iter().map(address).collect::<Vec<_>>().join(", ")
    }

    /// How long the server may leave ordinary SQL connections over TCP without an answer, those that are open included.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Gives up a network that swallows what we send, and attempts to connect, after `limit` at the latest.
    pub fn give_up_within(&mut self, limit: Duration) {
        self.timeout = self.timeout.min(limit);
        let limit = limit.max(Duration::from_secs(1));
        self.user_timeout = self.user_timeout.map(|timeout| timeout.min(limit));
        if let Some(keepalives) = &mut self.keepalives {
            keepalives.idle = keepalives.idle.min(limit / 2).max(Duration::from_secs(1));
            keepalives.interval = keepalives.interval.min(Duration::from_secs(1));
        }
    }
}

/// One of the hosts to try.
#[derive(Clone)]
struct Host {
    /// Name, address, or directory of a socket.
    name: String,
    /// `hostaddr`: spares looking the name up.
    address: Option<IpAddr>,
    port: u16,
    password: Option<String>,
}

impl Host {
    fn is_socket(&self) -> bool {
        self.name.starts_with('/') && self.address.is_none()
    }
}

/// Whether SCRAM is to be bound to the TLS channel (`channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum Binding {
    /// Never.
    Disable,
    /// When both ends can.
    Prefer,
    /// Or there is no connection.
    Require,
}

/// What the server must be like (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// How a dead peer is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keepalives {
    idle: Duration,
    interval: Duration,
    count: u32,
}

impl Conninfo {
    /// Reads a key/value string or URI, completed from the `PG*` environment, the service file and the passfile.
    pub fn parse(text: &str) -> Result<Conninfo> {
        Conninfo::parse_in(text, &Surroundings::of_process())
    }

    fn parse_in(text: &str, surroundings: &Surroundings) -> Result<Conninfo> {
        let options = Options::read(text, surroundings)?;
        let mut warnings = Vec::new();
        let user = match options.given("user") {
            Some(user) => user.to_owned(),
            None => surroundings.user().ok_or_else(|| Error::Usage {
                message: "the role to connect as is not given, and this process's account has no name".into(),
                hint: "Add user= to the connection string, or set PGUSER.".into(),
            })?,
        };
        let dbname = options.given("dbname").unwrap_or(&user).to_owned();
        let mut hosts = read_hosts(&options, surroundings)?;
        let passfile = read_passwords(&options, surroundings, &mut hosts, &dbname, &user, &mut warnings);
        let security = Security::read(&options, surroundings, &mut warnings)?;
        if security.mode == Mode::VerifyFull && hosts.iter().any(|host| host.name.is_empty()) {
            return Err(Error::Usage {
                message: "sslmode=verify-full needs a host name beside hostaddr".into(),
                hint: "Add host= with the name that the server's certificate is made out to.".into(),
            });
        }
        let seconds = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let timeout = match options.number("connect_timeout")? {
            None => CONNECT_TIMEOUT,
            Some(given) => {
                seconds(Some(given).filter(|given| *given > 0)).map_or(PATIENT, Duration::from_secs)
            }
        };
        let tuned = |key: &str, default: u64| -> Result<u64> {
            Ok(seconds(options.number(key)?).filter(|given| *given > 0).unwrap_or(default))
        };
        let keepalives = Keepalives {
            idle: Duration::from_secs(tuned("keepalives_idle", 30)?),
            interval: Duration::from_secs(tuned("keepalives_interval", 10)?),
            count: tuned("keepalives_count", 3)?.min(127) as u32,
        };
        // A network that swallows what we send must not keep clients held for as long as TCP would try.
        let user_timeout = tuned("tcp_user_timeout", LOSS_NOTICED.as_millis() as u64)?;
        Ok(Conninfo {
            hosts,
            user,
            dbname,
            passfile,
            security,
            binding: options.word(
                "channel_binding",
                &[("disable", Binding::Disable), ("prefer", Binding::Prefer), ("require", Binding::Require)],
                Binding::Prefer,
            )?,
            attributes: options.word(
                "target_session_attrs",
                &[
                    ("any", Attributes::Any),
                    ("read-write", Attributes::ReadWrite),
                    ("read-only", Attributes::ReadOnly),
                    ("primary", Attributes::Primary),
                    ("standby", Attributes::Standby),
                    ("prefer-standby", Attributes::PreferStandby),
                ],
                Attributes::Any,
            )?,
            shuffle: options.word("load_balance_hosts", &[("disable", false), ("random", true)], false)?,
            timeout,
            keepalives: Some(keepalives).filter(|_| options.number("keepalives").unwrap_or(None) != Some(0)),
            user_timeout: Some(Duration::from_millis(user_timeout)).filter(|limit| !limit.is_zero()),
            patience: Patience::default(),
            without_tls: WithoutTls::default(),
            warnings,
            options,
        })
    }

    /// The same place, as the role that `other` names, by that one's password or passfile.
    pub fn as_user_of(&self, other: &Conninfo) -> Conninfo {
        let mut hosts = self.hosts.clone();
        for host in &mut hosts {
            host.password = None;
        }
        let (surroundings, mut warnings) = (Surroundings::of_process(), Vec::new());
        let user = &other.user;
        let passfile =
            read_passwords(&other.options, &surroundings, &mut hosts, &self.dbname, user, &mut warnings);
        Conninfo { hosts, user: user.clone(), passfile, warnings, ..self.clone() }
    }

    /// What was left aside and should not have been: whole lines for people.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Name of the database.
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// Name of the role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Command-line options for the server, as given; none are added.
    pub fn options(&self) -> Option<&str> {
        self.options.given("options")
    }

    /// `host=db1 port=5432 dbname=shop user=dba`: for people.
    pub fn describe(&self) -> String {
        let place =
            self.place().into_iter().filter(|(key, _)| *key != "hostaddr" || self.hosts[0].name.is_empty());
        join(place.chain([("dbname", self.dbname.clone()), ("user", self.user.clone())]))
    }

    /// All of it as one key/value text for another libpq, the password too: for `CREATE SUBSCRIPTION`.
    pub fn libpq_text(&self) -> String {
        let password = self.hosts.iter().find_map(|host| host.password.clone());
        let key_password = self.options.given("sslpassword").map(str::to_owned);
        let secrets = [("password", password), ("sslpassword", key_password)];
        let secrets = secrets.into_iter().filter_map(|(key, value)| Some((key, value?)));
        join(self.public_pairs().into_iter().chain(secrets))
    }

    /// Whether [`Conninfo::libpq_text`] holds one.
    pub fn has_secret(&self) -> bool {
        self.libpq_text() != self.libpq_text_without_password()
    }

    /// The same without a secret.
    pub fn libpq_text_without_password(&self) -> String {
        join(self.public_pairs())
    }

    /// Lets a child process such as `pg_dump` connect as we do, by its environment alone. Everything that libpq would
    /// heed is set or removed there. Fails for an encrypted client key: no variable carries its password.
    pub fn set_environment(&self, command: &mut Command, application_name: &str) -> Result<()> {
        if self.options.given("sslpassword").is_some() {
            return Err(Error::Usage {
                message: "sslpassword cannot be handed to a child process".into(),
                hint: "Use a client key that is not encrypted, readable by its owner only.".into(),
            });
        }
        for name in Options::variables() {
            command.env_remove(name);
        }
        command.envs(self.child_environment(application_name));
        Ok(())
    }

    fn child_environment(&self, application_name: &str) -> Vec<(&'static str, String)> {
        let mut environment: Vec<(&str, String)> = self
            .options
            .for_libpq(&["passfile", "service", "servicefile", "password"])
            .filter_map(|(_, variable, value)| Some((variable?, value.to_owned())))
            .filter(|(variable, _)| !["PGHOST", "PGHOSTADDR", "PGPORT"].contains(variable))
            .collect();
        environment.extend(self.place().into_iter().map(|(key, value)| match key {
            "host" => ("PGHOST", value),
            "hostaddr" => ("PGHOSTADDR", value),
            _ => ("PGPORT", value),
        }));
        environment.push(("PGDATABASE", self.dbname.clone()));
        environment.push(("PGUSER", self.user.clone()));
        environment.push(("PGAPPNAME", application_name.to_owned()));
        if self.timeout != PATIENT {
            environment.push(("PGCONNECT_TIMEOUT", self.timeout.as_secs().to_string()));
        }
        if let Some(password) = self.options.given("password") {
            environment.push(("PGPASSWORD", password.to_owned()));
        } else if let Some(passfile) = &self.passfile {
            environment.push(("PGPASSFILE", passfile.clone()));
        }
        environment
    }

    /// Everything that is no secret, for libpq.
    fn public_pairs(&self) -> Vec<(&'static str, String)> {
        let placed = ["host", "hostaddr", "port", "dbname", "user"];
        let secret = ["password", "sslpassword", "passfile", "service", "servicefile"];
        let left_out = [&placed[..], &secret[..]].concat();
        let mut pairs = self.place();
        pairs.push(("dbname", self.dbname.clone()));
        pairs.push(("user", self.user.clone()));
        pairs.extend(self.options.for_libpq(&left_out).map(|(key, _, value)| (key, value.to_owned())));
        pairs
    }

    /// `host`, `hostaddr` and `port` of all hosts.
    fn place(&self) -> Vec<(&'static str, String)> {
        let list = |entry: &dyn Fn(&Host) -> String| {
            let entries: Vec<String> = self.hosts.iter().map(entry).collect();
            Some(entries.join(",")).filter(|text| !text.trim_matches(',').is_empty())
        };
        let host = list(&|host| host.name.clone());
        let address = list(&|host| host.address.map(|address| address.to_string()).unwrap_or_default());
        let port = self.hosts[0].port;
        let port = if self.hosts.iter().all(|host| host.port == port) {
            Some(port.to_string())
        } else {
            list(&|host| host.port.to_string())
        };
        let all = [("host", host), ("hostaddr", address), ("port", port)];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

impl std::fmt::Display for Conninfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl std::fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conninfo({})", self.libpq_text_without_password())
    }
}

fn join(pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let pairs: Vec<String> =
        pairs.into_iter().map(|(key, value)| format!("{key}={}", text::quote(&value))).collect();
    pairs.join(" ")
}

/// The hosts to try, in order. Lists of names, addresses and ports go together entry by entry.
fn read_hosts(options: &Options, surroundings: &Surroundings) -> Result<Vec<Host>> {
    let names = options.list("host");
    let addresses = options.list("hostaddr");
    let ports = options.list("port");
    let count = names.len().max(addresses.len()).max(1);
    let mismatch = |what: &str, found: usize| Error::Usage {
        message: format!("the connection string has {found} {what} for {count} hosts"),
        hint: format!("Give as many {what} as there are hosts, separated by commas."),
    };
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(mismatch("addresses", addresses.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(mismatch("ports", ports.len()));
    }
    let mut hosts = Vec::with_capacity(count);
    for index in 0..count {
        let port = match ports.get(index).or(ports.first().filter(|_| ports.len() == 1)) {
            None | Some(&"") => DEFAULT_PORT,
            Some(text) => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| Error::Usage {
                message: format!("invalid port number \"{text}\""),
                hint: "Give a number from 1 to 65535.".into(),
            })?,
        };
        let address = match addresses.get(index) {
            None | Some(&"") => None,
            Some(text) => Some(text.parse().map_err(|_| Error::Usage {
                message: format!("\"{text}\" is no IP address"),
                hint: "Give host names in host, not in hostaddr.".into(),
            })?),
        };
        let name = match names.get(index) {
            Some(name) if name.starts_with('@') => {
                return Err(Error::Usage {
                    message: format!("abstract socket \"{name}\" is not supported"),
                    hint: "Give the directory of a socket, or a host name.".into(),
                });
            }
            Some(name) if !name.is_empty() => (*name).to_owned(),
            _ if address.is_some() => String::new(),
            _ => default_host(surroundings, port),
        };
        hosts.push(Host { name, address, port, password: None });
    }
    Ok(hosts)
}

/// The directory where a server's socket is, or else this machine by TCP.
fn default_host(surroundings: &Surroundings, port: u16) -> String {
    let found = SOCKET_DIRECTORIES
        .into_iter()
        .find(|directory| surroundings.exists(&format!("{directory}/.s.PGSQL.{port}")));
    found.unwrap_or("localhost").to_owned()
}

/// Gives each host its password: the one that is given, or its own of the passfile. The passfile that was used.
fn read_passwords(
    options: &Options,
    surroundings: &Surroundings,
    hosts: &mut [Host],
    dbname: &str,
    user: &str,
    warnings: &mut Vec<String>,
) -> Option<String> {
    if let Some(password) = options.given("password") {
        for host in hosts {
            host.password = Some(password.to_owned());
        }
        return None;
    }
    let path = options.given("passfile").map(str::to_owned).or_else(|| surroundings.in_home(".pgpass"))?;
    let lines = passfile::read(surroundings, &path).unwrap_or_else(|warning| {
        warnings.push(warning);
        Vec::new()
    });
    for host in hosts {
        let name = match (&host.name, host.address) {
            (name, Some(address)) if name.is_empty() => address.to_string(),
            (name, _) if SOCKET_DIRECTORIES.contains(&name.as_str()) => "localhost".to_owned(),
            (name, _) => name.clone(),
        };
        host.password = passfile::find(&lines, &name, &host.port.to_string(), dbname, user);
    }
    Some(path).filter(|_| !lines.is_empty())
}
