//! How to reach a server: libpq's connection strings, environment and files.

use crate::error::{Error, Result};

/// Where and as whom to connect: everything that libpq would take from the same text, environment and files.
#[derive(Clone)]
pub struct Conninfo {
    config: postgres::Config,
}

impl Conninfo {
    /// Reads a key/value string or URI, completed from the `PG*` environment, the service file and the passfile.
    pub fn parse(text: &str) -> Result<Conninfo> {
        let config = text.parse().map_err(|error: postgres::Error| Error::Usage {
            message: format!("invalid connection string: {error}"),
            hint: "Give key/value pairs or a postgresql:// URI, as for psql.".into(),
        })?;
        Ok(Conninfo { config })
    }

    /// An ordinary SQL connection.
    pub fn connect(&self, application_name: &str) -> Result<postgres::Client, postgres::Error> {
        let mut config = self.config.clone();
        config.application_name(application_name).connect(postgres::NoTls)
    }
}
