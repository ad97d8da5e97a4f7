//! The options of a connection string: which there are, and what sets them when the string does not.

use std::collections::BTreeMap;

use super::surroundings::Surroundings;
use super::{service, text};
use crate::error::{Error, Result};

/// What becomes of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It is honoured here.
    Honoured,
    /// It says what is settled otherwise here, or tunes what is not used here; libpq gets none of it from us.
    Ignored,
    /// It protects something that would not be protected here.
    Refused,
}

/// Every option of libpq 18 with its environment variable.
const OPTIONS: &[(&str, Option<&str>, Use)] = &[
    ("application_name", Some("PGAPPNAME"), Use::Ignored),
    ("channel_binding", Some("PGCHANNELBINDING"), Use::Honoured),
    ("client_encoding", Some("PGCLIENTENCODING"), Use::Ignored),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT"), Use::Honoured),
    ("dbname", Some("PGDATABASE"), Use::Honoured),
    ("fallback_application_name", None, Use::Ignored),
    ("gssdelegation", Some("PGGSSDELEGATION"), Use::Ignored),
    ("gssencmode", Some("PGGSSENCMODE"), Use::Ignored),
    ("gsslib", Some("PGGSSLIB"), Use::Ignored),
    ("host", Some("PGHOST"), Use::Honoured),
    ("hostaddr", Some("PGHOSTADDR"), Use::Honoured),
    ("keepalives", None, Use::Honoured),
    ("keepalives_count", None, Use::Honoured),
    ("keepalives_idle", None, Use::Honoured),
    ("keepalives_interval", None, Use::Honoured),
    ("krbsrvname", Some("PGKRBSRVNAME"), Use::Ignored),
    ("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), Use::Honoured),
    ("max_protocol_version", Some("PGMAXPROTOCOLVERSION"), Use::Ignored),
    ("min_protocol_version", Some("PGMINPROTOCOLVERSION"), Use::Ignored),
    ("options", Some("PGOPTIONS"), Use::Honoured),
    ("passfile", Some("PGPASSFILE"), Use::Honoured),
    ("password", Some("PGPASSWORD"), Use::Honoured),
    ("port", Some("PGPORT"), Use::Honoured),
    ("replication", None, Use::Refused),
    ("require_auth", Some("PGREQUIREAUTH"), Use::Refused),
    ("requirepeer", Some("PGREQUIREPEER"), Use::Refused),
    ("service", Some("PGSERVICE"), Use::Honoured),
    ("servicefile", None, Use::Honoured),
    ("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION"), Use::Honoured),
    ("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION"), Use::Honoured),
    ("sslcert", Some("PGSSLCERT"), Use::Honoured),
    ("sslcertmode", Some("PGSSLCERTMODE"), Use::Honoured),
    ("sslcompression", Some("PGSSLCOMPRESSION"), Use::Ignored),
    ("sslcrl", Some("PGSSLCRL"), Use::Refused),
    ("sslcrldir", Some("PGSSLCRLDIR"), Use::Refused),
    ("sslkey", Some("PGSSLKEY"), Use::Honoured),
    ("sslkeylogfile", None, Use::Ignored),
    ("sslmode", Some("PGSSLMODE"), Use::Honoured),
    ("sslnegotiation", Some("PGSSLNEGOTIATION"), Use::Honoured),
    ("sslpassword", None, Use::Honoured),
    ("sslrootcert", Some("PGSSLROOTCERT"), Use::Honoured),
    ("sslsni", Some("PGSSLSNI"), Use::Honoured),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS"), Use::Honoured),
    ("tcp_user_timeout", None, Use::Honoured),
    ("user", Some("PGUSER"), Use::Honoured),
];

/// Options that are set, by name.
#[derive(Clone, Default)]
pub(super) struct Options {
    values: BTreeMap<String, String>,
}

impl Options {
    /// What `text` says, completed from its service, then from the environment.
    pub(super) fn read(text: &str, surroundings: &Surroundings) -> Result<Options> {
        let mut options = Options::default();
        for (key, value) in text::parse(text)? {
            check(&key, &value, "the connection string")?;
            options.values.insert(key, value);
        }
        let service =
            options.given("service").map(str::to_owned).or_else(|| surroundings.variable("PGSERVICE"));
        if let Some(service) = service {
            for (key, value) in service::read(surroundings, &service, options.given("servicefile"))? {
                check(&key, &value, &format!("service \"{service}\""))?;
                options.values.entry(key).or_insert(value);
            }
        }
        for (key, variable, _) in OPTIONS {
            let value = variable.and_then(|name| surroundings.variable(name)).filter(|_| *key != "service");
            if let (Some(value), Some(name)) = (value, variable)
                && !options.values.contains_key(*key)
            {
                check(key, &value, &format!("environment variable {name}"))?;
                options.values.insert((*key).to_owned(), value);
            }
        }
        Ok(options)
    }

    /// The value, unless it is empty: an empty one hides the environment's, and means the default.
    pub(super) fn given(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// One of the fixed words of an option, or its default.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)], default: T) -> Result<T> {
        let Some(value) = self.given(key) else { return Ok(default) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == value) {
            return Ok(*meaning);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(Error::Usage {
            message: format!("invalid value \"{value}\" for connection option \"{key}\""),
            hint: format!("Valid values are {}.", known.join(", ")),
        })
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>> {
        let parse = |value: &str| {
            value.trim().parse().map_err(|_| Error::Usage {
                message: format!("invalid value \"{value}\" for connection option \"{key}\""),
                hint: "Give a whole number.".into(),
            })
        };
        self.given(key).map(parse).transpose()
    }

    /// The entries of a comma-separated list; empty when the option is not given.
    pub(super) fn list(&self, key: &str) -> Vec<&str> {
        self.given(key).map(|value| value.split(',').map(str::trim).collect()).unwrap_or_default()
    }

    /// Options that mean something to libpq besides those named in `left_out`, with their environment variable.
    pub(super) fn for_libpq<'a>(
        &'a self,
        left_out: &'a [&str],
    ) -> impl Iterator<Item = (&'static str, Option<&'static str>, &'a str)> {
        OPTIONS
            .iter()
            .filter(|(key, _, usage)| *usage == Use::Honoured && !left_out.contains(key))
            .filter_map(|(key, variable, _)| Some((*key, *variable, self.given(key)?)))
    }

    /// Every environment variable that libpq would heed.
    pub(super) fn variables() -> impl Iterator<Item = &'static str> {
        OPTIONS.iter().filter_map(|(_, variable, _)| *variable).chain(["PGSERVICEFILE", "PGREQUIRESSL"])
    }
}

/// Whether `key` is an option, and one that we can do justice to. `origin` is where it was found.
fn check(key: &str, value: &str, origin: &str) -> Result<()> {
    let Some((_, _, usage)) = OPTIONS.iter().find(|(known, _, _)| *known == key) else {
        let distance = |known: &str| strsim::damerau_levenshtein(key, known);
        let nearest = OPTIONS.iter().map(|(known, _, _)| *known).min_by_key(|known| distance(known));
        let near = nearest.filter(|known| distance(known) <= 1 + known.len() / 3);
        return Err(Error::Usage {
            message: format!("unknown connection option \"{key}\" in {origin}"),
            hint: match near {
                Some(known) => format!("Did you mean \"{known}\"?"),
                None => "The options are libpq's, such as host, port, dbname and user.".into(),
            },
        });
    };
    let refused = match key {
        "gssencmode" => value == "require",
        _ => *usage == Use::Refused && !value.is_empty(),
    };
    if refused {
        return Err(Error::Usage {
            message: format!("connection option \"{key}\" in {origin} is not supported"),
            hint: format!("Leave \"{key}\" out for this program."),
        });
    }
    Ok(())
}
