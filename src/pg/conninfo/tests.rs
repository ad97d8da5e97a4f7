//! Completion from made-up surroundings, and what is handed on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

const SECRET: &str = "p w'\\\"@:/?#%&=,;ß";

/// A file system of its own, with the home directory `/home/dba`.
struct World {
    root: tempfile::TempDir,
    environment: Vec<(&'static str, &'static str)>,
}

impl World {
    fn new() -> World {
        World { root: tempfile::tempdir().unwrap(), environment: vec![("HOME", "/home/dba")] }
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> World {
        self.environment.push((name, value));
        self
    }

    fn file(self, path: &str, mode: u32, text: &str) -> World {
        let place = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, text).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn try_parse(&self, text: &str) -> Result<Conninfo> {
        Conninfo::parse_in(text, &Surroundings::made_up(self.root.path(), "account", &self.environment))
    }

    fn parse(&self, text: &str) -> Conninfo {
        self.try_parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refuse(&self, text: &str) -> (String, String) {
        match self.try_parse(text).map(|conninfo| conninfo.describe()) {
            Err(Error::Usage { message, hint } | Error::Config { message, hint, .. }) => (message, hint),
            other => panic!("{text}: {other:?}"),
        }
    }
}

fn passwords(conninfo: &Conninfo) -> Vec<Option<&str>> {
    conninfo.hosts.iter().map(|host| host.password.as_deref()).collect()
}

#[test]
fn without_anything_it_is_the_account_on_this_machine() {
    let conninfo = World::new().parse("");
    assert_eq!(conninfo.describe(), "host=localhost port=5432 dbname=account user=account");
    let world = World::new().file("/var/run/postgresql/.s.PGSQL.5433", 0o777, "");
    assert_eq!(
        world.parse("port=5433 user=u").describe(),
        "host=/var/run/postgresql port=5433 dbname=u user=u"
    );
    assert_eq!(world.parse("dbname=d").describe(), "host=localhost port=5432 dbname=d user=account");
    let real = Conninfo::parse("host=h").unwrap();
    assert!(!real.user().is_empty());
}

#[test]
fn the_text_comes_first_then_the_service_then_the_environment() {
    let world = World::new()
        .variable("PGHOST", "envhost")
        .variable("PGPORT", "1111")
        .variable("PGUSER", "envuser")
        .variable("PGDATABASE", "envdb")
        .variable("PGOPTIONS", "-c a=b")
        .variable("PGAPPNAME", "ignored")
        .file("/home/dba/.pg_service.conf", 0o644, "[shop]\nport=2222\nuser=svcuser\npassword=svc\n");
    assert_eq!(world.parse("").describe(), "host=envhost port=1111 dbname=envdb user=envuser");
    let conninfo = world.parse("service=shop user=dba");
    assert_eq!(conninfo.describe(), "host=envhost port=2222 dbname=envdb user=dba");
    assert_eq!(passwords(&conninfo), [Some("svc")]);
    assert_eq!(conninfo.options(), Some("-c a=b"));
    assert_eq!(
        world.parse("host='' user='' dbname=''").describe(),
        "host=localhost port=1111 dbname=account user=account"
    );

    let world = world.variable("PGSERVICE", "shop");
    assert_eq!(world.parse("host=h").describe(), "host=h port=2222 dbname=envdb user=svcuser");
    let (message, hint) = world.refuse("service=absent");
    assert_eq!(message, "definition of service \"absent\" not found");
    assert!(
        hint.contains("/home/dba/.pg_service.conf")
            && hint.contains("/etc/postgresql-common/pg_service.conf")
    );
}

#[test]
fn service_files_are_looked_for_where_libpq_looks() {
    let world = World::new()
        .file("/etc/postgresql-common/pg_service.conf", 0o644, "[a]\nhost=system\n[b]\nhost=systemb\n")
        .file("/home/dba/.pg_service.conf", 0o644, "[a]\nhost=own\n")
        .file("/else/pg_service.conf", 0o644, "[b]\nhost=sysconf\n")
        .file("/named.conf", 0o644, "[a]\nhost=named\n[bad]\nhots=x\n");
    assert!(
        world.parse("service=a").describe().starts_with("host=own "),
        "{}",
        world.parse("service=a").describe()
    );
    assert!(
        world.parse("service=b").describe().starts_with("host=systemb "),
        "{}",
        world.parse("service=b").describe()
    );
    assert!(
        world.parse("service=a servicefile=/named.conf").describe().starts_with("host=named "),
        "{}",
        world.parse("service=a servicefile=/named.conf").describe()
    );
    let world = world.variable("PGSYSCONFDIR", "/else").variable("PGSERVICEFILE", "/named.conf");
    assert!(
        world.parse("service=a").describe().starts_with("host=named "),
        "{}",
        world.parse("service=a").describe()
    );
    assert!(
        world.parse("service=b").describe().starts_with("host=sysconf "),
        "{}",
        world.parse("service=b").describe()
    );
    let (message, hint) = world.refuse("service=bad");
    assert_eq!(message, "unknown connection option \"hots\" in service \"bad\"");
    assert_eq!(hint, "Did you mean \"host\"?");
    let world = World::new().variable("PGSERVICEFILE", "/absent");
    assert_eq!(world.refuse("service=a").0, "service file \"/absent\" does not exist");
}

#[test]
fn each_host_has_its_own_password_of_the_passfile() {
    let lines = "a:5432:*:*:one\nb:5433:shop:dba:two\nlocalhost:*:*:*:here\n/own/socket:*:*:*:own\n10.0.0.1:*:*:*:ip\n";
    let world = World::new().file("/home/dba/.pgpass", 0o600, lines);
    let conninfo = world.parse("host=a,b,c port=5432,5433,5434 dbname=shop user=dba");
    assert_eq!(passwords(&conninfo), [Some("one"), Some("two"), None]);
    assert!(conninfo.warnings().is_empty());
    let socket = world.parse("host=/var/run/postgresql,/own/socket,/other");
    assert_eq!(passwords(&socket), [Some("here"), Some("own"), None]);
    assert_eq!(passwords(&world.parse("hostaddr=10.0.0.1")), [Some("ip")]);
    assert_eq!(passwords(&world.parse("host=a hostaddr=10.0.0.1")), [Some("one")]);
    assert_eq!(passwords(&world.parse("")), [Some("here")]);
    assert_eq!(passwords(&world.parse("host=a password=mine")), [Some("mine")]);
    assert_eq!(passwords(&world.parse("host=a passfile=/absent")), [None]);

    let world = world.file("/shared", 0o640, "*:*:*:*:shared\n").variable("PGPASSFILE", "/shared");
    let conninfo = world.parse("host=a");
    assert_eq!(passwords(&conninfo), [None]);
    let expected = "password file \"/shared\" has group or world access, and is ignored: \
                    permissions should be u=rw (0600) or less";
    assert_eq!(conninfo.warnings(), [expected]);
    assert_eq!(passwords(&world.parse("host=a passfile=/home/dba/.pgpass")), [Some("one")]);
    let conninfo = world.parse("host=a passfile=/home");
    assert!(conninfo.warnings()[0].contains("is not a plain file"), "{:?}", conninfo.warnings());
}

#[test]
fn lists_of_hosts_go_together() {
    let world = World::new();
    let text = |text: &str| world.parse(text).libpq_text();
    assert_eq!(text("host=a,b port=1 dbname=d user=u"), "host=a,b port=1 dbname=d user=u");
    assert_eq!(text("host=a,b port=1,2 dbname=d user=u"), "host=a,b port=1,2 dbname=d user=u");
    assert_eq!(text("postgresql://u@a,b:2/d"), "host=a,b port=5432,2 dbname=d user=u");
    assert_eq!(text("postgresql://u@[::1]:2/d"), "host=::1 port=2 dbname=d user=u");
    assert_eq!(text("hostaddr=::1 dbname=d user=u"), "hostaddr=::1 port=5432 dbname=d user=u");
    let both = world.parse("host=a hostaddr=10.0.0.1 dbname=d user=u");
    assert_eq!(both.libpq_text(), "host=a hostaddr=10.0.0.1 port=5432 dbname=d user=u");
    assert_eq!(both.describe(), "host=a port=5432 dbname=d user=u");
    assert!(
        world.parse("hostaddr=::1").describe().starts_with("hostaddr=::1 "),
        "{}",
        world.parse("hostaddr=::1").describe()
    );
    for (text, message) in [
        ("host=a,b port=1,2,3", "the connection string has 3 ports for 2 hosts"),
        ("host=a,b hostaddr=10.0.0.1", "the connection string has 1 addresses for 2 hosts"),
        ("host=a port=x", "invalid port number \"x\""),
        ("host=a port=0", "invalid port number \"0\""),
        ("host=a port=70000", "invalid port number \"70000\""),
        ("hostaddr=db1", "\"db1\" is no IP address"),
        ("host=@abstract", "abstract socket \"@abstract\" is not supported"),
    ] {
        assert_eq!(world.refuse(text).0, message);
    }
}

#[test]
fn unknown_and_unsupported_options_are_named() {
    let world = World::new();
    for (text, message, hint) in [
        (
            "hostname=a",
            "unknown connection option \"hostname\" in the connection string",
            "The options are libpq's, such as host, port, dbname and user.",
        ),
        (
            "pasword=x",
            "unknown connection option \"pasword\" in the connection string",
            "Did you mean \"password\"?",
        ),
        (
            "postgresql://h/d?ssl_mode=require",
            "unknown connection option \"ssl_mode\" in the connection string",
            "Did you mean \"sslmode\"?",
        ),
        (
            "replication=database",
            "connection option \"replication\" in the connection string is not supported",
            "Leave \"replication\" out for this program.",
        ),
        (
            "gssencmode=require",
            "connection option \"gssencmode\" in the connection string is not supported",
            "Leave \"gssencmode\" out for this program.",
        ),
        (
            "sslmode=verify_full",
            "invalid value \"verify_full\" for connection option \"sslmode\"",
            "Valid values are disable, allow, prefer, require, verify-ca, verify-full.",
        ),
        (
            "connect_timeout=soon",
            "invalid value \"soon\" for connection option \"connect_timeout\"",
            "Give a whole number.",
        ),
    ] {
        let found = world.refuse(text);
        assert_eq!((found.0.as_str(), found.1.as_str()), (message, hint));
    }
    world.parse("gssencmode=disable krbsrvname=x sslcompression=0 sslcrl='' application_name=x");
    let world = world.variable("PGREQUIREPEER", "postgres");
    assert!(world.refuse("").0.contains("environment variable PGREQUIREPEER"));
}

#[test]
fn times_have_bounds_unless_the_operator_lifts_them() {
    let world = World::new();
    assert_eq!(world.parse("").timeout, Duration::from_secs(10));
    assert_eq!(world.parse("connect_timeout=3").timeout, Duration::from_secs(3));
    assert_eq!(world.parse("connect_timeout=0").timeout, PATIENT);
    assert_eq!(world.parse("connect_timeout=-1").timeout, PATIENT);
    let keepalives = world.parse("keepalives_idle=5 keepalives_count=9").keepalives.unwrap();
    assert_eq!((keepalives.idle.as_secs(), keepalives.interval.as_secs(), keepalives.count), (5, 10, 9));
    assert_eq!(world.parse("keepalives=0").keepalives, None);
    assert_eq!(world.parse("tcp_user_timeout=1500").user_timeout, Some(Duration::from_millis(1500)));
    let mut bounded = world.parse("");
    bounded.give_up_within(Duration::from_millis(2500));
    let keepalives = bounded.keepalives.as_ref().expect("they are on");
    assert_eq!(
        (bounded.timeout, bounded.user_timeout, keepalives.idle, keepalives.interval),
        (
            Duration::from_millis(2500),
            Some(Duration::from_millis(2500)),
            Duration::from_millis(1250),
            Duration::from_secs(1)
        )
    );
    bounded = world.parse("tcp_user_timeout=1500 keepalives=0");
    bounded.give_up_within(Duration::from_secs(5));
    assert_eq!((bounded.user_timeout, bounded.keepalives), (Some(Duration::from_millis(1500)), None));
    assert_eq!(world.variable("PGCONNECT_TIMEOUT", "7").parse("").timeout, Duration::from_secs(7));
}

#[test]
fn files_of_tls_are_those_of_libpq() {
    let world = World::new();
    let (message, _) = world.refuse("sslmode=verify-full host=h");
    assert_eq!(message, "root certificate file \"/home/dba/.postgresql/root.crt\" does not exist");
    assert_eq!(
        world.refuse("sslmode=verify-ca sslrootcert=/x").0,
        "root certificate file \"/x\" does not exist"
    );
    world.parse("sslmode=require");
    world.parse("sslmode=require sslrootcert=/x");
    assert_eq!(world.parse("sslrootcert=system host=h").security.mode, Mode::VerifyFull);
    assert!(world.refuse("sslrootcert=system sslmode=require").0.contains("verify-full only"));
    assert!(world.refuse("sslnegotiation=direct").0.contains("needs TLS"));
    assert_eq!(world.parse("").security.mode, Mode::Prefer);
    assert!(world.refuse("sslrootcert=system hostaddr=10.0.0.1").0.contains("needs a host name"));
    assert_eq!(world.parse("sslcert=/absent").warnings().len(), 1);

    let world = world.file("/home/dba/.postgresql/postgresql.crt", 0o644, "no certificate");
    let (message, _) = world.refuse("");
    assert!(message.starts_with("private key file \"/home/dba/.postgresql/postgresql.key\" does not exist"));
    let world = world.file("/home/dba/.postgresql/postgresql.key", 0o644, "no key");
    assert!(world.refuse("").0.ends_with("has group or world access"));
    let world = world.file("/home/dba/.postgresql/postgresql.key", 0o600, "no key");
    assert!(world.refuse("").0.starts_with("TLS cannot be set up: client key"), "{:?}", world.refuse(""));
    world.parse("sslmode=disable");
    world.parse("sslcertmode=disable");
    let world = world.file("/home/dba/.postgresql/root.crt", 0o644, "no authority");
    assert!(world.refuse("sslcertmode=disable").0.contains("root certificates"));
    assert_eq!(World::new().variable("PGREQUIRESSL", "1").parse("").security.mode, Mode::Require);
}

#[test]
fn another_libpq_is_told_everything_and_people_no_secret() {
    let world = World::new();
    let text = format!(
        "host=db1 user=dba dbname='my shop' sslmode=require connect_timeout=5 options='-c a=b' \
         application_name=x password={} sslpassword=keysecret service='' keepalives_idle=9",
        text::quote(SECRET)
    );
    let conninfo = world.parse(&text);
    let without = "host=db1 port=5432 dbname='my shop' user=dba connect_timeout=5 keepalives_idle=9 \
                   options='-c a=b' sslmode=require";
    assert_eq!(conninfo.libpq_text_without_password(), without);
    let again = world.parse(&conninfo.libpq_text());
    assert_eq!(again.hosts[0].password.as_deref(), Some(SECRET));
    assert_eq!(again.libpq_text(), conninfo.libpq_text());
    assert!(conninfo.libpq_text().ends_with(" sslpassword=keysecret"));
    assert_eq!(conninfo.describe(), "host=db1 port=5432 dbname='my shop' user=dba");
    for shown in [conninfo.describe(), format!("{conninfo} {conninfo:?} {conninfo:#?}")] {
        assert!(!shown.contains("p w") && !shown.contains("keysecret"), "{shown}");
    }
}

#[test]
fn a_child_process_gets_all_by_its_environment() {
    let environment = |conninfo: &Conninfo| {
        let mut command = Command::new("true");
        conninfo.set_environment(&mut command, "pgdetour mirror").unwrap();
        assert_eq!(command.get_args().count(), 0);
        let all: Vec<(String, Option<String>)> = command
            .get_envs()
            .map(|(name, value)| {
                (name.to_str().unwrap().into(), value.map(|text| text.to_str().unwrap().into()))
            })
            .collect();
        all
    };
    let world = World::new().file("/pass", 0o600, "*:*:*:*:filed\n");
    let all = environment(
        &world.parse(&format!("host=a,b port=1,2 sslmode=require password={}", text::quote(SECRET))),
    );
    let value = |name: &str| {
        all.iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} is left alone"))
            .1
            .as_deref()
    };
    for (name, expected) in [
        ("PGHOST", Some("a,b")),
        ("PGPORT", Some("1,2")),
        ("PGUSER", Some("account")),
        ("PGDATABASE", Some("account")),
        ("PGSSLMODE", Some("require")),
        ("PGPASSWORD", Some(SECRET)),
        ("PGAPPNAME", Some("pgdetour mirror")),
        ("PGCONNECT_TIMEOUT", Some("10")),
        ("PGSERVICE", None),
        ("PGSERVICEFILE", None),
        ("PGPASSFILE", None),
        ("PGHOSTADDR", None),
        ("PGOPTIONS", None),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let all = environment(&world.parse("host=a passfile=/pass"));
    assert!(all.contains(&("PGPASSFILE".into(), Some("/pass".into()))));
    assert!(all.contains(&("PGPASSWORD".into(), None)));
    let encrypted = world.parse("host=a sslpassword=x");
    assert!(encrypted.set_environment(&mut Command::new("true"), "x").is_err());
}

#[test]
fn paths_are_taken_as_they_are_in_the_real_surroundings() {
    let surroundings = Surroundings::of_process();
    assert_eq!(surroundings.locate("/etc/passwd"), Path::new("/etc/passwd"));
    assert_eq!(surroundings.locate("certificates/root.crt"), Path::new("certificates/root.crt"));
    assert!(surroundings.exists("/etc/passwd"));
}
