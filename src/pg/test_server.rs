//! Throwaway PostgreSQL servers for tests: real ones, on free ports, stopped and removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::pg::test_port::Port;
use crate::pg::{Conninfo, Server};
use crate::phase::Place;
use crate::plan::Plan;

/// Where Debian keeps the programs; `PGDETOUR_TEST_BIN` names another place.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// One running server with superuser `postgres`, trusted over TCP and its socket unless told otherwise.
pub struct TestServer {
    directory: tempfile::TempDir,
    /// On 127.0.0.1.
    pub port: u16,
    _claim: Port,
}

impl TestServer {
    /// A new cluster with `wal_level = logical`, and `settings` on top: lines of postgresql.conf.
    pub fn start(settings: &str) -> TestServer {
        TestServer::start_with(settings, "local all all trust\nhost all all 127.0.0.1/32 trust\n", &[])
    }

    /// The same with its own `pg_hba.conf` and further `files` (name, contents) in the data directory, mode 0600.
    pub fn start_with(settings: &str, hba: &str, files: &[(&str, &[u8])]) -> TestServer {
        let directory = tempfile::Builder::new().prefix("pgdetour-server-").tempdir().expect("a directory");
        let claim = Port::claim();
        let port = claim.number();
        let server = TestServer { directory, port, _claim: claim };
        let data = server.data();
        if is_root() {
            let owned = Command::new("chown").arg("postgres:").arg(server.socket_directory()).output();
            check(&owned.expect("chown runs"));
        }
        let data_text = data.to_str().expect("a temporary path is text").to_owned();
        server.program("initdb", &["-D", &data_text, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]);
        let conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             wal_level = logical\nshared_buffers = 16MB\nmax_connections = 30\n{settings}\n",
            server.socket_directory().display(),
        );
        let own = |name: &str, contents: &[u8]| {
            let path = data.join(name);
            fs::write(&path, contents).expect("a file in the data directory");
            if is_root() {
                check(&Command::new("chown").arg("postgres:").arg(&path).output().expect("chown runs"));
            }
            check(&Command::new("chmod").arg("600").arg(&path).output().expect("chmod runs"));
        };
        own("postgresql.auto.conf", conf.as_bytes());
        own("pg_hba.conf", hba.as_bytes());
        for (name, contents) in files {
            own(name, contents);
        }
        server.run();
        server
    }

    fn run(&self) {
        let (data, log) = (self.data().display().to_string(), self.data().join("log").display().to_string());
        let output = self.command("pg_ctl", &["-D", &data, "-l", &log, "-w", "-t", "60", "start"]);
        assert!(output.status.success(), "{}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Restarts it as one that has given out 2^32 xids more.
    pub fn enter_next_epoch(&self) {
        assert!(self.stop("fast", 60), "it stops");
        self.program("pg_resetwal", &["-e", "1", "-D", &self.data().display().to_string()]);
        self.run();
    }

    /// `host=127.0.0.1 port=… dbname=postgres user=postgres`.
    pub fn conninfo_text(&self) -> String {
        format!("host=127.0.0.1 port={} dbname=postgres user=postgres", self.port)
    }

    /// Superuser over TCP.
    pub fn conninfo(&self) -> Conninfo {
        Conninfo::parse(&self.conninfo_text()).expect("our own text")
    }

    /// As one of the configured servers, entered by its superuser.
    pub fn server(&self, place: impl Into<Place>) -> Server {
        Server {
            place: place.into(),
            conninfo: self.conninfo(),
            application_name: "pgdetour test".into(),
            plan: Plan::real(),
            conventions: crate::pg::Conventions::default(),
        }
    }

    /// Superuser over the Unix socket.
    pub fn socket_conninfo(&self) -> Conninfo {
        let directory = self.socket_directory().display();
        Conninfo::parse(&format!("host={directory} port={} dbname=postgres user=postgres", self.port))
            .expect("our own text")
    }

    /// Where its socket is.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ordinary SQL as superuser.
    pub fn client(&self) -> postgres::Client {
        self.conninfo().connect("test").expect("the test server lets us in")
    }

    /// What psql writes for one command after the other, without its errors; fields are separated by tabs.
    pub fn psql(&self, commands: &[String]) -> String {
        let conninfo = self.conninfo_text();
        let options = ["-X", "-A", "-t", "-F", "\t", "-d", &conninfo];
        let each = commands.iter().flat_map(|command| ["-c", command]);
        let output = self.command("psql", &options.into_iter().chain(each).collect::<Vec<_>>());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Stops it as `pg_ctl -m MODE stop` does, within `seconds`; whether it stopped.
    pub fn stop(&self, mode: &str, seconds: u32) -> bool {
        let data = self.data().display().to_string();
        let output =
            self.command("pg_ctl", &["-D", &data, "-m", mode, "-w", "-t", &seconds.to_string(), "stop"]);
        output.status.success()
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.data().join("log")).expect("the server writes a log")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn program(&self, name: &str, arguments: &[&str]) {
        check(&self.command(name, arguments));
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Output {
        let folder = std::env::var("PGDETOUR_TEST_BIN").unwrap_or_else(|_| PROGRAMS.to_owned());
        let program = Path::new(&folder).join(name);
        let mut command = if is_root() {
            let mut runuser = Command::new("runuser");
            runuser.args(["-u", "postgres", "--"]).arg(program);
            runuser
        } else {
            Command::new(program)
        };
        command.args(arguments).current_dir(self.directory.path());
        command.output().unwrap_or_else(|error| panic!("{name} does not run: {error}"))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.stop("immediate", 20);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn check(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
