//! The `ssl*` options: which files they mean, and when those are looked at.

use std::os::unix::fs::MetadataExt as _;

use native_tls::Protocol;

use super::options::Options;
use super::surroundings::Surroundings;
use crate::error::{Error, Result};
use crate::pg::tls::{Encryption, Mode, Roots, Settings};

/// How connections over TCP are secured.
#[derive(Clone)]
pub(super) struct Security {
    pub mode: Mode,
    /// Present unless the mode is `disable`.
    pub encryption: Option<Encryption>,
    /// TLS from the first byte on.
    pub direct: bool,
}

const MODES: &[(&str, Mode)] = &[
    ("disable", Mode::Disable),
    ("allow", Mode::Allow),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

const PROTOCOLS: &[(&str, Option<Protocol>)] = &[
    ("TLSv1", Some(Protocol::Tlsv10)),
    ("TLSv1.1", Some(Protocol::Tlsv11)),
    ("TLSv1.2", Some(Protocol::Tlsv12)),
    ("TLSv1.3", Some(Protocol::Tlsv13)),
];

impl Security {
    /// Reads the options and the files that they name, or that libpq looks for without being told.
    pub(super) fn read(
        options: &Options,
        surroundings: &Surroundings,
        warnings: &mut Vec<String>,
    ) -> Result<Security> {
        let system = options.given("sslrootcert") == Some("system");
        let required = surroundings.variable("PGREQUIRESSL").is_some_and(|value| value.starts_with('1'));
        let default = match (system, required) {
            (true, _) => Mode::VerifyFull,
            (false, true) => Mode::Require,
            (false, false) => Mode::Prefer,
        };
        let mode = options.word("sslmode", MODES, default)?;
        if system && mode != Mode::VerifyFull {
            return Err(usage(
                "sslrootcert=system goes with sslmode=verify-full only",
                "Anybody can have a certificate from those authorities: use sslmode=verify-full, or leave it out.",
            ));
        }
        let direct = options.word("sslnegotiation", &[("postgres", false), ("direct", true)], false)?;
        if direct && matches!(mode, Mode::Disable | Mode::Allow | Mode::Prefer) {
            return Err(usage(
                "sslnegotiation=direct needs TLS",
                "Set sslmode=require, verify-ca or verify-full beside it.",
            ));
        }
        if mode == Mode::Disable {
            return Ok(Security { mode, encryption: None, direct });
        }
        let certificate = read_certificate(options, surroundings, warnings)?;
        let key = match certificate {
            Some(_) => read_key(options, surroundings)?,
            None => Vec::new(),
        };
        let settings = Settings {
            mode,
            roots: if system { Roots::System } else { read_roots(mode, options, surroundings)? },
            certificate,
            key,
            key_password: options.given("sslpassword").map(str::to_owned),
            server_name: options.word("sslsni", &[("1", true), ("0", false)], true)?,
            oldest: options.word("ssl_min_protocol_version", PROTOCOLS, Some(Protocol::Tlsv12))?,
            newest: options.word("ssl_max_protocol_version", PROTOCOLS, None)?,
            direct,
        };
        let has_files = settings.certificate.is_some() || matches!(settings.roots, Roots::Pem(_));
        let encryption = Encryption::new(settings);
        // What is wrong with them is said now, and not when a server happens to ask for TLS.
        if has_files {
            encryption.connector().map_err(|why| {
                usage(
                    &format!("TLS cannot be set up: {why}"),
                    "Check the files of sslrootcert, sslcert and sslkey.",
                )
            })?;
        }
        Ok(Security { mode, encryption: Some(encryption), direct })
    }
}

/// A file of authorities that exists is heeded in every mode, as libpq does; without one only `verify-*` complain.
fn read_roots(mode: Mode, options: &Options, surroundings: &Surroundings) -> Result<Roots> {
    let path = path(options, surroundings, "sslrootcert", "root.crt");
    match &path {
        Some(path) if surroundings.exists(path) => Ok(Roots::Pem(read(surroundings, path)?)),
        _ if matches!(mode, Mode::VerifyCa | Mode::VerifyFull) => Err(usage(
            &format!("root certificate file \"{}\" does not exist", path.unwrap_or_default()),
            "Name the file in sslrootcert, use sslrootcert=system, or do without verification: sslmode=require.",
        )),
        _ => Ok(Roots::Unchecked),
    }
}

fn read_certificate(
    options: &Options,
    surroundings: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<u8>>> {
    if !options.word("sslcertmode", &[("disable", false), ("allow", true)], true)? {
        return Ok(None);
    }
    let Some(path) = path(options, surroundings, "sslcert", "postgresql.crt") else { return Ok(None) };
    if surroundings.exists(&path) {
        return read(surroundings, &path).map(Some);
    }
    if options.given("sslcert").is_some() {
        warnings.push(format!("client certificate file \"{path}\" does not exist, and is not sent"));
    }
    Ok(None)
}

fn read_key(options: &Options, surroundings: &Surroundings) -> Result<Vec<u8>> {
    let path = path(options, surroundings, "sslkey", "postgresql.key").unwrap_or_default();
    let Ok(metadata) = std::fs::metadata(surroundings.locate(&path)) else {
        return Err(usage(
            &format!("private key file \"{path}\" does not exist, but the client certificate does"),
            "Name the key's file in sslkey, or set sslcertmode=disable to send no certificate.",
        ));
    };
    // A key of root's may be readable by a group, as distributions hand out keys.
    let (forbidden, allowed) = if metadata.uid() == 0 { (0o037, "0640") } else { (0o077, "0600") };
    if metadata.mode() & forbidden != 0 {
        return Err(usage(
            &format!("private key file \"{path}\" has group or world access"),
            &format!("Its permissions must be {allowed} or less."),
        ));
    }
    read(surroundings, &path)
}

/// The option's file, or libpq's own place for it.
fn path(options: &Options, surroundings: &Surroundings, key: &str, default: &str) -> Option<String> {
    let given = options.given(key).map(str::to_owned);
    given.or_else(|| surroundings.in_home(&format!(".postgresql/{default}")))
}

fn read(surroundings: &Surroundings, path: &str) -> Result<Vec<u8>> {
    surroundings
        .read(path)
        .map_err(|error| usage(&format!("could not read \"{path}\": {error}"), "Check its permissions."))
}

fn usage(message: &str, hint: &str) -> Error {
    Error::Usage { message: message.into(), hint: hint.into() }
}
