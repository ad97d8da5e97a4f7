//! How to reach a server: libpq's connection strings, environment and files.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, ServerError};

/// Where and as whom to connect: everything that libpq would take from the same text, environment and files.
#[derive(Clone)]
pub struct Conninfo {
    config: postgres::Config,
    user: String,
    dbname: String,
}

/// One try at one address.
pub(in crate::pg) struct Attempt {
    /// The host as given, for TLS and messages.
    pub name: String,
    pub place: Place,
    pub password: Option<String>,
    /// Present when this try is to be encrypted.
    pub tls: Option<native_tls::TlsConnector>,
    pub deadline: Instant,
}

/// Where a server listens.
pub(in crate::pg) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether SCRAM is to be bound to the TLS channel (`channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum Binding {
    Disable,
    Prefer,
    Require,
}

impl Conninfo {
    /// Reads a key/value string or URI, completed from the `PG*` environment, the service file and the passfile.
    pub fn parse(text: &str) -> Result<Conninfo> {
        let config: postgres::Config = text.parse().map_err(|error: postgres::Error| Error::Usage {
            message: format!("invalid connection string: {error}"),
            hint: "Give key/value pairs or a postgresql:// URI, as for psql.".into(),
        })?;
        let user = config.get_user().unwrap_or("postgres").to_owned();
        let dbname = config.get_dbname().unwrap_or(&user).to_owned();
        Ok(Conninfo { config, user, dbname })
    }

    /// An ordinary SQL connection.
    pub fn connect(&self, application_name: &str) -> Result<postgres::Client, ServerError> {
        let mut config = self.config.clone();
        config.application_name(application_name).connect(postgres::NoTls).map_err(|error| (&error).into())
    }

    /// Name of the role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Name of the database.
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// Command-line options for the server.
    pub fn options(&self) -> Option<&str> {
        self.config.get_options()
    }

    pub(in crate::pg) fn channel_binding(&self) -> Binding {
        Binding::Prefer
    }

    /// Whether the operator said that there shall be no TLS.
    pub(in crate::pg) fn tls_is_waived(&self) -> bool {
        self.config.get_ssl_mode() == postgres::config::SslMode::Disable
    }

    pub(in crate::pg) fn set_socket_options(&self, _stream: &TcpStream) -> std::io::Result<()> {
        Ok(())
    }

    /// Opens a connection to the first host that lets us in; `ask` runs a statement on it and gives its only value.
    pub(in crate::pg) fn reach<C>(
        &self,
        mut open: impl FnMut(&Attempt) -> Result<C, ServerError>,
        _ask: impl FnMut(&mut C, &str) -> Result<String, ServerError>,
    ) -> Result<C, ServerError> {
        let mut last = ServerError::lost("no host is given");
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let ports = self.config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let (name, places) = match host {
                postgres::config::Host::Tcp(name) => {
                    let found = (name.as_str(), port).to_socket_addrs();
                    let found = found.map_err(|error| ServerError::lost(error.to_string()))?;
                    (name.clone(), found.map(Place::Tcp).collect())
                }
                postgres::config::Host::Unix(directory) => (
                    directory.display().to_string(),
                    vec![Place::Unix(directory.join(format!(".s.PGSQL.{port}")))],
                ),
            };
            for place in places {
                let attempt = Attempt {
                    name: name.clone(),
                    place,
                    password: self.config.get_password().map(|p| String::from_utf8_lossy(p).into_owned()),
                    tls: None,
                    deadline: Instant::now() + Duration::from_secs(10),
                };
                match open(&attempt) {
                    Ok(client) => return Ok(client),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }
}

impl Conninfo {
    /// Lets a child process connect as we do, by its environment alone.
    pub fn set_environment(&self, command: &mut std::process::Command, application_name: &str) -> Result<()> {
        command.env("PGAPPNAME", application_name).env("PGUSER", &self.user).env("PGDATABASE", &self.dbname);
        match self.config.get_hosts().first() {
            Some(postgres::config::Host::Tcp(name)) => command.env("PGHOST", name),
            Some(postgres::config::Host::Unix(directory)) => command.env("PGHOST", directory),
            None => command,
        };
        if let Some(port) = self.config.get_ports().first() {
            command.env("PGPORT", port.to_string());
        }
        if let Some(password) = self.config.get_password() {
            command.env("PGPASSWORD", String::from_utf8_lossy(password).as_ref());
        }
        Ok(())
    }
}
