//! Authorities and certificates for tests, made on the spot.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// An authority that signs.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its key.
pub struct Pair {
    /// PEM.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: PKey<Private>,
}

impl Pair {
    /// PKCS#8 in PEM.
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().expect("a key has a PEM form")
    }
}

/// A new RSA key.
pub fn rsa_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("OpenSSL makes keys")).expect("an RSA key")
}

/// A new key on the curve P-256.
pub fn ec_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("OpenSSL makes keys")).expect("an EC key")
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let key = ec_key();
        let certificate = sign(name, &key, None, None);
        Authority { certificate, key }
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("a certificate has a PEM form")
    }

    /// A server's certificate for a host name, with an RSA key.
    pub fn issue_server(&self, host: &str) -> Pair {
        self.issue(host, rsa_key(), Some(host))
    }

    /// A client's certificate for a role.
    pub fn issue_client(&self, role: &str, key: PKey<Private>) -> Pair {
        self.issue(role, key, None)
    }

    fn issue(&self, name: &str, key: PKey<Private>, host: Option<&str>) -> Pair {
        let certificate = sign(name, &key, Some(self), host);
        Pair { certificate: certificate.to_pem().expect("a certificate has a PEM form"), key }
    }
}

fn sign(name: &str, key: &PKey<Private>, authority: Option<&Authority>, host: Option<&str>) -> X509 {
    let build = || -> Result<X509, openssl::error::ErrorStack> {
        let mut subject = X509NameBuilder::new()?;
        subject.append_entry_by_text("CN", name)?;
        let subject = subject.build();
        let mut serial = BigNum::new()?;
        serial.rand(120, MsbOption::MAYBE_ZERO, false)?;
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*serial.to_asn1_integer()?)?;
        builder.set_subject_name(&subject)?;
        builder
            .set_issuer_name(authority.map_or(&*subject, |authority| authority.certificate.subject_name()))?;
        builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        builder.set_not_after(&*Asn1Time::days_from_now(2)?)?;
        builder.set_pubkey(key)?;
        let constraints = if authority.is_none() {
            BasicConstraints::new().critical().ca().build()?
        } else {
            BasicConstraints::new().build()?
        };
        builder.append_extension(constraints)?;
        if let Some(host) = host {
            let context = builder.x509v3_context(None, None);
            let names = SubjectAlternativeName::new().dns(host).build(&context)?;
            builder.append_extension(names)?;
        }
        builder.sign(authority.map_or(key, |authority| &authority.key), MessageDigest::sha256())?;
        Ok(builder.build())
    };
    build().expect("OpenSSL makes certificates")
}
