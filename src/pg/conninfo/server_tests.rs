//! Every way in, with both clients, on real servers.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Conninfo;
use crate::error::ServerError;
use crate::pg::test_certificates::{Authority, ec_key, rsa_key};
use crate::pg::test_port::Port;
use crate::pg::test_server::TestServer;
use crate::pg::wire::{Client, Purpose};

const PASSWORD: &str = "p w'\\\"@:/?#%&=,;ß";
const HBA: &str = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
    host all clear 127.0.0.1/32 password\nhost all md 127.0.0.1/32 md5\n\
    host all scram 127.0.0.1/32 scram-sha-256\nhostssl all certified 127.0.0.1/32 cert\n\
    hostssl all tlsonly 127.0.0.1/32 trust\nhostnossl all plainonly 127.0.0.1/32 trust\n";

/// Whether the connection is encrypted, by both clients, which must agree.
fn reach(text: &str) -> Result<bool, ServerError> {
    let conninfo = Conninfo::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let question = "select ssl::text from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()";
    let by_sql = conninfo.connect("test").map(|mut client| {
        let row = client.query_one(question, &[]).expect("the statement runs");
        row.get::<_, String>(0) == "true"
    });
    let by_wire = Client::connect(&conninfo, "test", Purpose::Sql).map(|mut client| {
        let rows = client.simple_query(question).expect("the statement runs");
        assert_eq!(rows[0][0].as_deref() == Some("true"), client.is_tls(), "{text}");
        client.is_tls()
    });
    match (by_sql, by_wire) {
        (Ok(one), Ok(other)) if one == other => Ok(one),
        (Err(one), Err(other)) if one.sqlstate == other.sqlstate => {
            assert!(one.connection_lost && other.connection_lost, "{text}");
            assert!(!format!("{one:?} {other:?}").contains("p w"), "{text}");
            Err(other)
        }
        (one, other) => panic!("{text}: the crate's client: {one:?}, ours: {other:?}"),
    }
}

fn refused(text: &str) -> (String, String) {
    match reach(text) {
        Err(error) => (error.sqlstate.unwrap_or_default(), error.message),
        Ok(_) => panic!("{text}: let in"),
    }
}

fn write(directory: &Path, name: &str, contents: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn create_roles(server: &TestServer) {
    let password = crate::sql::quote_literal(PASSWORD);
    server
        .client()
        .batch_execute(&format!(
            "set password_encryption = 'md5'; create role md login password {password}; \
             create role clear login password {password}; set password_encryption = 'scram-sha-256'; \
             create role scram login password {password}; create role certified login; create role tlsonly login; \
             create role plainonly login"
        ))
        .unwrap();
}

#[test]
fn lets_in_with_every_password_method_over_plain_and_tls() {
    let authority = Authority::new("authority");
    let pair = authority.issue_server("localhost");
    let key = pair.key_pem();
    let files: [(&str, &[u8]); 3] =
        [("server.crt", &pair.certificate), ("server.key", &key), ("root.crt", &authority.pem())];
    let server = TestServer::start_with("ssl = on\nssl_ca_file = 'root.crt'", HBA, &files);
    create_roles(&server);
    let port = server.port;
    let at =
        |role: &str, more: &str| format!("host=127.0.0.1 port={port} dbname=postgres user={role} {more}");
    let password = format!("password={}", super::text::quote(PASSWORD));

    for role in ["clear", "md", "scram"] {
        for (mode, encrypted) in [("disable", false), ("allow", false), ("prefer", true), ("require", true)] {
            assert_eq!(
                reach(&at(role, &format!("{password} sslmode={mode}"))).unwrap(),
                encrypted,
                "{role} {mode}"
            );
        }
        assert_eq!(refused(&at(role, "password=wrong sslmode=prefer")).0, "28P01", "{role}");
        assert_eq!(refused(&at(role, "password=wrong sslmode=require")).0, "28P01", "{role}");
        let (code, message) = refused(&at(role, "passfile=/absent sslmode=require"));
        assert!(code.is_empty() && message.contains("wants a password, and none is given"), "{message}");
    }
    let uri: Vec<String> = PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let uri = uri.concat();
    assert!(reach(&format!("postgresql://scram:{uri}@127.0.0.1:{port}/postgres?sslmode=require")).unwrap());

    // Bound to the channel, and not.
    for (role, binding, mode, ok) in [
        ("scram", "require", "require", true),
        ("scram", "disable", "require", true),
        ("scram", "require", "disable", false),
        ("md", "require", "require", false),
        ("postgres", "require", "require", false),
    ] {
        let text = at(role, &format!("{password} channel_binding={binding} sslmode={mode}"));
        assert_eq!(reach(&text).is_ok(), ok, "{role} {binding} {mode}");
    }

    // An address that is not known as this machine's: what an eavesdropper could use is not sent.
    let elsewhere = |role: &str, mode: &str| {
        format!("hostaddr=::ffff:127.0.0.1 port={port} dbname=postgres user={role} {password} sslmode={mode}")
    };
    for role in ["clear", "md"] {
        let conninfo = Conninfo::parse(&elsewhere(role, "allow")).unwrap();
        // Refused in the open, done under TLS.
        assert!(Client::connect(&conninfo, "test", Purpose::Sql).unwrap().is_tls());
        assert!(reach(&elsewhere(role, "allow")).unwrap());
        assert!(reach(&elsewhere(role, "require")).unwrap());
        assert!(!reach(&elsewhere(role, "disable")).unwrap(), "told to");
    }
    assert!(!reach(&elsewhere("scram", "allow")).unwrap());

    // Lines of pg_hba.conf that take one kind only.
    assert!(reach(&at("tlsonly", "sslmode=allow")).unwrap());
    assert!(!reach(&at("plainonly", "sslmode=prefer")).unwrap());
    assert_eq!(refused(&at("plainonly", "sslmode=require")).0, "28000");
    assert_eq!(refused(&at("tlsonly", "sslmode=disable")).0, "28000");
    assert_eq!(refused(&at("nobody_there", "sslmode=prefer")).0, "28000");
    assert_eq!(
        refused(&at("postgres", "sslmode=prefer").replace("dbname=postgres", "dbname=absent")).0,
        "3D000"
    );
    let socket = server.socket_directory().display();
    assert!(!reach(&format!("host={socket} port={port} dbname=postgres user=md sslmode=require")).unwrap());

    // Replication through TLS.
    let conninfo = Conninfo::parse(&at("postgres", "sslmode=require")).unwrap();
    server
        .client()
        .batch_execute("create table public.a (i int primary key); create publication p for table public.a")
        .unwrap();
    server.client().batch_execute("select pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    server.client().batch_execute("insert into public.a select generate_series(1, 20000)").unwrap();
    let client = Client::connect(&conninfo, "test", Purpose::Replication).unwrap();
    assert!(client.is_tls());
    let mut stream = client.start_replication("s", 0.into(), "p").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut rows = 0;
    while rows < 20_000 && Instant::now() < deadline {
        if let crate::pg::wire::Event::Data { body, .. } = stream.next(Duration::from_secs(1)).unwrap() {
            rows += usize::from(body[0] == b'I');
        }
    }
    assert_eq!(rows, 20_000);
    stream.finish().unwrap();

    // COPY through TLS on both ends.
    let mut from = Client::connect(&conninfo, "test", Purpose::Sql).unwrap();
    let mut into = Client::connect(&conninfo, "test", Purpose::Sql).unwrap();
    into.simple_query("create table public.b (i int, t text)").unwrap();
    let out = "copy (select i, repeat('x', 100) from generate_series(1, 100000) i) to stdout";
    let copied = from.copy_through(out, &mut into, "copy public.b from stdin", &mut |_| Ok(())).unwrap();
    assert_eq!(copied.rows, 100_000);
}

#[test]
fn checks_certificates_as_far_as_sslmode_says_and_shows_its_own() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let pair = authority.issue_server("localhost");
    let key = pair.key_pem();
    let files: [(&str, &[u8]); 3] =
        [("server.crt", &pair.certificate), ("server.key", &key), ("root.crt", &authority.pem())];
    let server = TestServer::start_with("ssl = on\nssl_ca_file = 'root.crt'", HBA, &files);
    create_roles(&server);
    let directory = tempfile::tempdir().unwrap();
    let known = write(directory.path(), "known.crt", &authority.pem());
    let unknown = write(directory.path(), "unknown.crt", &stranger.pem());
    let port = server.port;
    let at = |host: &str, more: &str| format!("host={host} port={port} dbname=postgres user=postgres {more}");

    // The certificate is made out to localhost.
    assert!(reach(&at("localhost", &format!("sslmode=verify-full sslrootcert={known}"))).unwrap());
    assert!(
        reach(&at("localhost", &format!("hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={known}")))
            .unwrap()
    );
    let (code, message) = refused(&at("127.0.0.1", &format!("sslmode=verify-full sslrootcert={known}")));
    assert!(code.is_empty() && message.contains("mismatch"), "{message}");
    assert!(reach(&at("127.0.0.1", &format!("sslmode=verify-ca sslrootcert={known}"))).unwrap());
    assert!(reach(&at("127.0.0.1", &format!("sslmode=require sslrootcert={known}"))).unwrap());
    assert!(reach(&at("127.0.0.1", "sslmode=require sslrootcert=/absent")).unwrap());
    // An authority that exists is heeded by `require` too; `prefer` goes on without TLS.
    for mode in ["verify-full", "verify-ca", "require"] {
        let (code, message) = refused(&at("localhost", &format!("sslmode={mode} sslrootcert={unknown}")));
        assert!(code.is_empty() && message.contains("certificate verify failed"), "{message}");
    }
    assert!(!reach(&at("127.0.0.1", &format!("sslmode=prefer sslrootcert={unknown}"))).unwrap());
    let (_, message) = refused(&at("localhost", "sslrootcert=system"));
    assert!(message.contains("certificate verify failed"), "{message}");

    // Our own certificate, with the key in every form.
    let (rsa, ec) = (rsa_key(), ec_key());
    let rsa_pair = authority.issue_client("certified", rsa.clone());
    let ec_pair = authority.issue_client("certified", ec.clone());
    let rsa_certificate = write(directory.path(), "rsa.crt", &rsa_pair.certificate);
    let ec_certificate = write(directory.path(), "ec.crt", &ec_pair.certificate);
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let as_certified = |certificate: &str, key: &[u8], more: &str| {
        let key = write(directory.path(), "client.key", key);
        at(
            "localhost",
            &format!("sslmode=verify-full sslrootcert={known} sslcert={certificate} sslkey={key} {more}"),
        )
        .replace("user=postgres", "user=certified")
    };
    let pkcs1 = rsa.rsa().unwrap().private_key_to_pem().unwrap();
    let sec1 = ec.ec_key().unwrap().private_key_to_pem().unwrap();
    assert!(pkcs1.starts_with(b"-----BEGIN RSA PRIVATE KEY"));
    assert!(sec1.starts_with(b"-----BEGIN EC PRIVATE KEY"));
    let locked = rsa.private_key_to_pem_pkcs8_passphrase(cipher, b"key secret").unwrap();
    let locked_pkcs1 = rsa.rsa().unwrap().private_key_to_pem_passphrase(cipher, b"key secret").unwrap();
    for (certificate, key, more) in [
        (&rsa_certificate, rsa_pair.key_pem(), ""),
        (&rsa_certificate, pkcs1, ""),
        (&rsa_certificate, rsa.private_key_to_der().unwrap(), ""),
        (&rsa_certificate, locked.clone(), "sslpassword='key secret'"),
        (&rsa_certificate, locked_pkcs1, "sslpassword='key secret'"),
        (&ec_certificate, ec_pair.key_pem(), ""),
        (&ec_certificate, sec1, ""),
    ] {
        assert!(reach(&as_certified(certificate, &key, more)).unwrap());
    }
    for (more, why) in [("", "sslpassword is not given"), ("sslpassword=wrong", "does not open it")] {
        let error = Conninfo::parse(&as_certified(&rsa_certificate, &locked, more)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // Without one, and with a stranger's.
    let bare =
        at("localhost", "sslmode=require sslcertmode=disable").replace("user=postgres", "user=certified");
    assert_eq!(refused(&bare).0, "28000");
    let foreign = stranger.issue_client("certified", ec_key());
    let foreign_certificate = write(directory.path(), "foreign.crt", &foreign.certificate);
    let (_, message) = refused(&as_certified(&foreign_certificate, &foreign.key_pem(), ""));
    assert!(!message.is_empty());
}

#[test]
fn finds_the_host_that_fits_and_gives_up_in_time() {
    let primary = TestServer::start("");
    // No less than initdb wrote into the WAL.
    let standby = TestServer::start_with(
        "max_connections = 100",
        "local all all trust\nhost all all 127.0.0.1/32 trust\n",
        &[("standby.signal", b"")],
    );
    let nobody = Port::claim();
    let closed = nobody.number();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let both = |first: u16, second: u16, more: &str| {
        format!("host=127.0.0.1,127.0.0.1 port={first},{second} dbname=postgres user=postgres {more}")
    };
    let arrive = |text: &str| -> u16 {
        let conninfo = Conninfo::parse(text).unwrap();
        let question = "select pg_catalog.current_setting('port')";
        let port: String = conninfo.connect("test").unwrap().query_one(question, &[]).unwrap().get(0);
        let mut client = Client::connect(&conninfo, "test", Purpose::Sql).unwrap();
        assert_eq!(client.simple_query(question).unwrap()[0][0].as_ref(), Some(&port));
        port.parse().unwrap()
    };
    let (p, s) = (primary.port, standby.port);
    assert_eq!(arrive(&both(closed, p, "")), p);
    assert_eq!(arrive(&both(s, p, "")), s);
    for (attributes, expected) in [
        ("any", s),
        ("read-write", p),
        ("primary", p),
        ("read-only", s),
        ("standby", s),
        ("prefer-standby", s),
    ] {
        assert_eq!(
            arrive(&both(s, p, &format!("target_session_attrs={attributes}"))),
            expected,
            "{attributes}"
        );
    }
    assert_eq!(arrive(&both(p, closed, "target_session_attrs=prefer-standby")), p);
    let by_chance = Conninfo::parse(&both(s, p, "load_balance_hosts=random")).unwrap();
    let in_recovery = "select pg_catalog.pg_is_in_recovery()";
    let kinds: std::collections::HashSet<bool> = (0..20)
        .map(|_| by_chance.connect("test").unwrap().query_one(in_recovery, &[]).unwrap().get(0))
        .collect();
    assert_eq!(kinds.len(), 2);

    let (_, message) = refused(&both(p, closed, "target_session_attrs=standby"));
    let expected = format!(
        "127.0.0.1 port {p}: the server is not in hot standby mode; 127.0.0.1 port {closed}: connection refused"
    );
    assert_eq!(message, expected);
    let (_, message) = refused("host=no-such-host.invalid dbname=x user=x");
    assert!(message.starts_with("no-such-host.invalid port 5432: unknown host name"), "{message}");
    let (_, message) = refused("host=/nowhere dbname=x user=x");
    assert_eq!(message, "/nowhere port 5432: no such file or directory");

    for mode in ["disable", "prefer", "require"] {
        let text =
            format!("host=127.0.0.1 port={silent_port} dbname=x user=x connect_timeout=1 sslmode={mode}");
        let conninfo = Conninfo::parse(&text).unwrap();
        let start = Instant::now();
        let by_sql = conninfo.connect("test").map(|_| ()).unwrap_err();
        let by_wire = Client::connect(&conninfo, "test", Purpose::Sql).map(|_| ()).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5), "{mode}: {:?}", start.elapsed());
        assert!(
            by_sql.message.contains("timed out") && by_wire.message.contains("in time"),
            "{by_sql} {by_wire}"
        );
    }
    assert_eq!(arrive(&both(silent_port, p, "connect_timeout=1")), p);

    // A server without TLS.
    let one = |mode: &str| format!("host=127.0.0.1 port={p} dbname=postgres user=postgres sslmode={mode}");
    assert!(!reach(&one("prefer")).unwrap());
    assert!(refused(&one("require")).1.contains("does not support TLS"));
}

#[test]
fn a_server_without_tls_is_asked_for_it_once() {
    let server = TestServer::start("log_connections = on");
    let port = server.port;
    let text = format!("host=127.0.0.1 port={port} dbname=postgres user=postgres sslmode=prefer");
    let conninfo = Conninfo::parse(&text).unwrap();
    let received = || server.log().matches("connection received: host=127.0.0.1").count();
    let before = received();
    conninfo.connect("test").unwrap();
    assert_eq!(received(), before + 2, "once with the question, once without");
    conninfo.clone().connect("test").unwrap();
    Client::connect(&conninfo, "test", Purpose::Sql).unwrap();
    assert_eq!(received(), before + 4);
}
