//! TLS as libpq's options describe it: whom to trust, how much of a certificate to check, who we are.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use native_tls::{Certificate, Identity, Protocol, TlsConnector};
use openssl::pkey::{PKey, Private};
use postgres::Socket;
use postgres::tls::{MakeTlsConnect, TlsConnect};
use postgres_native_tls::TlsStream;

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never encrypted.
    Disable,
    /// Encrypted when the server wants nothing else.
    Allow,
    /// Encrypted when the server can.
    Prefer,
    /// Always encrypted.
    Require,
    /// And the certificate comes from a known authority.
    VerifyCa,
    /// And it is made out to the host's name.
    VerifyFull,
}

/// Whose certificates are accepted.
pub enum Roots {
    /// Anybody's: encryption without proof of who is there.
    Unchecked,
    /// Those that the operating system trusts.
    System,
    /// These authorities', in PEM.
    Pem(Vec<u8>),
}

/// What a connector is made of.
pub struct Settings {
    /// `sslmode`.
    pub mode: Mode,
    /// `sslrootcert`.
    pub roots: Roots,
    /// `sslcert`: our certificate, and what leads from it to an authority, in PEM.
    pub certificate: Option<Vec<u8>>,
    /// `sslkey`: its private key, PEM or DER, PKCS#8, PKCS#1 or EC.
    pub key: Vec<u8>,
    /// `sslpassword`: opens the key.
    pub key_password: Option<String>,
    /// `sslsni`: whether to tell the server which host is meant.
    pub server_name: bool,
    /// `ssl_min_protocol_version`.
    pub oldest: Option<Protocol>,
    /// `ssl_max_protocol_version`.
    pub newest: Option<Protocol>,
    /// `sslnegotiation=direct`: say that it is PostgreSQL that we want to speak.
    pub direct: bool,
}

/// What encrypts connections, made when a server is the first to ask for it: OpenSSL then reads every authority that the system
/// trusts, whether one is asked or not, which takes longer than all else that a short command does. Clones share it.
#[derive(Clone)]
pub struct Encryption(Arc<Made>);

struct Made {
    settings: Settings,
    connector: OnceLock<Result<TlsConnector, String>>,
}

impl Encryption {
    /// By these settings.
    pub fn new(settings: Settings) -> Encryption {
        Encryption(Arc::new(Made { settings, connector: OnceLock::new() }))
    }

    /// The connector; what is wrong with the files otherwise.
    pub fn connector(&self) -> Result<&TlsConnector, &str> {
        let made = self.0.connector.get_or_init(|| build_connector(&self.0.settings));
        made.as_ref().map_err(String::as_str)
    }
}

/// What encrypts one connection of the `postgres` crate.
pub struct Encrypting {
    encryption: Encryption,
    domain: String,
}

impl MakeTlsConnect<Socket> for Encryption {
    type Stream = TlsStream<Socket>;
    type TlsConnect = Encrypting;
    type Error = Box<dyn Error + Send + Sync>;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Encrypting, Self::Error> {
        Ok(Encrypting { encryption: self.clone(), domain: domain.to_owned() })
    }
}

impl TlsConnect<Socket> for Encrypting {
    type Stream = TlsStream<Socket>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<TlsStream<Socket>, Self::Error>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = self.encryption.connector()?.clone();
            let encrypting = postgres_native_tls::TlsConnector::new(connector, &self.domain);
            Ok(encrypting.connect(socket).await?)
        })
    }
}

fn build_connector(settings: &Settings) -> Result<TlsConnector, String> {
    let mut builder = TlsConnector::builder();
    match &settings.roots {
        Roots::Unchecked => {
            builder.danger_accept_invalid_certs(true).disable_built_in_roots(true);
        }
        Roots::System => {}
        Roots::Pem(pem) => {
            builder.disable_built_in_roots(true);
            let all =
                Certificate::stack_from_pem(pem).map_err(|error| format!("root certificates: {error}"))?;
            if all.is_empty() {
                return Err("root certificates: there are none in the file".into());
            }
            for one in all {
                builder.add_root_certificate(one);
            }
        }
    }
    builder
        .danger_accept_invalid_hostnames(settings.mode != Mode::VerifyFull)
        .use_sni(settings.server_name)
        .min_protocol_version(settings.oldest)
        .max_protocol_version(settings.newest);
    if let Some(certificate) = &settings.certificate {
        let key = read_key(&settings.key, settings.key_password.as_deref())?;
        let pem = key.private_key_to_pem_pkcs8().map_err(|error| format!("client key: {error}"))?;
        let identity = Identity::from_pkcs8(certificate, &pem);
        builder.identity(identity.map_err(|error| format!("client certificate: {error}"))?);
    }
    if settings.direct {
        builder.request_alpns(&["postgresql"]);
    }
    builder.build().map_err(|error| error.to_string())
}

/// A private key in any of the forms that libpq takes.
fn read_key(bytes: &[u8], password: Option<&str>) -> Result<PKey<Private>, String> {
    let mut asked = false;
    // Without a callback of ours, OpenSSL would ask at the terminal.
    let from_pem = PKey::private_key_from_pem_callback(bytes, |buffer| {
        asked = true;
        let password = password.unwrap_or_default().as_bytes();
        let count = password.len().min(buffer.len());
        buffer[..count].copy_from_slice(&password[..count]);
        Ok(count)
    });
    match from_pem {
        Ok(key) => Ok(key),
        Err(_) if asked && password.is_none() => {
            Err("client key: it is encrypted, and sslpassword is not given".into())
        }
        Err(_) if asked => Err("client key: sslpassword does not open it".into()),
        Err(error) => PKey::private_key_from_der(bytes).map_err(|_| format!("client key: {error}")),
    }
}
