//! Throwaway `PgBouncer` processes for tests: real ones, in transaction pooling unless told otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::config::PgBouncerSettings;
use crate::pg::test_port::Port;

/// One process, with its databases in a file of their own. Trusts everybody; `dba` may run PAUSE, `stats` may look.
pub struct TestPgBouncer {
    directory: tempfile::TempDir,
    port: Port,
    process: Child,
}

impl TestPgBouncer {
    /// `databases` is the text of the file of entries, `settings` further lines of `[pgbouncer]`.
    pub fn start(databases: &str, settings: &str) -> TestPgBouncer {
        let directory = tempfile::Builder::new().prefix("pgdetour-pooler-").tempdir().expect("a directory");
        let port = Port::claim();
        let at = directory.path().display();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
        write("databases.ini", databases);
        let users = ["dba", "stats", "postgres", "shop_app", "shop_limited"];
        write("users.txt", &users.map(|user| format!("\"{user}\" \"\"\n")).concat());
        write(
            "pgbouncer.ini",
            &format!(
                "%include {at}/databases.ini\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {at}/users.txt\nadmin_users = dba\n\
                 stats_users = stats\npool_mode = transaction\nserver_login_retry = 1\n{settings}\n",
                port.number()
            ),
        );
        let mut command = if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").args(["-R", "postgres:"]).arg(directory.path()).status();
            assert!(owned.expect("chown runs").success());
            let mut command = Command::new("setpriv");
            // Becomes the pooler instead of starting it, so that it can be ended by its own process id.
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "pgbouncer"]);
            command
        } else {
            Command::new("pgbouncer")
        };
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        let process = command
            .arg(directory.path().join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pgbouncer runs");
        let pooler = TestPgBouncer { directory, port, process };
        let begun = Instant::now();
        while pooler.try_connect("pgbouncer", "dba").is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", pooler.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// The file that holds the entries.
    pub fn databases_file(&self) -> PathBuf {
        self.directory.path().join("databases.ini")
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// How `user` reaches `database` through it.
    pub fn conninfo(&self, database: &str, user: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database} user={user}", self.port.number())
    }

    /// A client of it.
    pub fn connect(&self, database: &str, user: &str) -> postgres::Client {
        self.try_connect(database, user).expect("the pooler lets us in")
    }

    fn try_connect(&self, database: &str, user: &str) -> Result<postgres::Client, postgres::Error> {
        postgres::Client::connect(&self.conninfo(database, user), postgres::NoTls)
    }

    /// `[[router.pgbouncer]]` for its database `shop`.
    pub fn settings(&self, target: &str) -> PgBouncerSettings {
        PgBouncerSettings {
            admin: self.conninfo("pgbouncer", "dba"),
            database: "shop".into(),
            config: self.databases_file(),
            target: target.into(),
            source: None,
            file_command: None,
        }
    }

    /// Rewrites a line of its main file, for what a test needs different.
    pub fn main_file(&self) -> PathBuf {
        self.directory.path().join("pgbouncer.ini")
    }

    /// Stops the process where it is until it is told to go on, or has it go on.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process), signal).expect("it is ours");
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for TestPgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
