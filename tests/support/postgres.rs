//! PostgreSQL servers of our own, copied from a template.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use postgres::types::FromSqlOwned;
use postgres::{Client, NoTls};

use super::port::Port;
use super::scratch::{Kept, as_server_user, write_as_server_user};
use super::wait::until;

/// Password of the role `dba` over TCP. No output may ever show it.
pub const DBA_PASSWORD: &str = "never-to-be-shown-7Q";

const START_LIMIT: Duration = Duration::from_secs(60);

/// The database that every server has.
pub const DATABASE: &str = "shop";

const HBA: &str = "\
local all all trust
local replication all trust
host  all dba,shop_owner,detour 127.0.0.1/32 scram-sha-256
host  all all 127.0.0.1/32 trust
";

const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
wal_init_zero = off
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_logical_replication_workers = 8
max_worker_processes = 16
max_connections = 60
max_prepared_transactions = 10
wal_retrieve_retry_interval = '100ms'
shared_buffers = '32MB'
log_line_prefix = '%m [%p] %q%u@%d %a '
log_checkpoints = off
timezone = 'America/New_York'
datestyle = 'ISO, DMY'
intervalstyle = 'iso_8601'
bytea_output = 'escape'
password_encryption = 'scram-sha-256'
";

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, data written.
    Fast,
    /// As after a crash: what was not in the WAL is lost, and recovery runs at the next start.
    Immediate,
}

/// Directory of a PostgreSQL installation's programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Programs(PathBuf);

impl Programs {
    /// From the environment variable if set, else the newest that the system has.
    pub fn find(variable: &str) -> Programs {
        if let Some(path) = std::env::var_os(variable) {
            return Programs(path.into());
        }
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = installed
            .filter_map(|entry| {
                entry.file_name().to_str()?.parse::<u32>().ok().map(|major| (major, entry.path()))
            })
            .filter(|(_, path)| path.join("bin/initdb").exists())
            .max();
        let (_, path) = newest.expect("PostgreSQL is under /usr/lib/postgresql: run scripts/install first");
        Programs(path.join("bin"))
    }

    /// Those that can take the data of a server over by `pg_upgrade`: of a newer major, from the environment variable or
    /// else the system; none where there are no such.
    pub fn find_newer(&self, variable: &str) -> Option<Programs> {
        // What pg_upgrade asks of an old installation, and is in no package of servers alone.
        if !self.program("pg_controldata").exists() {
            return None;
        }
        let named = std::env::var_os(variable).map(|path| Programs(path.into()));
        let newer = named.unwrap_or_else(|| Programs::find(variable));
        (newer.program("pg_upgrade").exists() && newer.major() > self.major()).then_some(newer)
    }

    /// The major version.
    fn major(&self) -> u32 {
        let output = Command::new(self.program("postgres")).arg("--version").output();
        let said =
            output.unwrap_or_else(|error| panic!("{} can be started: {error}", self.0.display())).stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let version = said.split(' ').nth(2).and_then(|version| version.split(['.', '\n']).next());
        version.and_then(|major| major.parse().ok()).unwrap_or_else(|| panic!("{said} is no version"))
    }

    /// Path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// One server with its data, on a port of 127.0.0.1 and on a Unix socket in its own directory.
pub struct Postgres {
    name: String,
    programs: Programs,
    data: PathBuf,
    log: PathBuf,
    port: Port,
    process: Option<Kept>,
}

impl Postgres {
    /// Starts a new server under `parent`, with the database `shop` and the roles `dba` (superuser), `shop_owner`,
    /// `shop_app` and `shop_limited`.
    pub fn start_new(parent: &Path, name: &str, template: &Template) -> Postgres {
        let data = parent.join(name);
        succeed(Command::new("cp").args(["-a", "--reflink=auto"]).args([&template.data, &data]));
        let log = parent.join(format!("{name}.log"));
        let mut server = Postgres {
            name: name.to_owned(),
            programs: template.programs.clone(),
            data,
            log,
            port: Port::claim(),
            process: None,
        };
        server.write_place();
        server.start();
        server
    }

    /// Starts a standby of this server, which is restarted for that. It applies each commit only after `delay`.
    pub fn start_standby(&mut self, name: &str, delay: Duration) -> Postgres {
        self.stop(Shutdown::Fast);
        let data = self.data.with_file_name(name);
        succeed(Command::new("cp").args(["-a", "--reflink=auto"]).args([&self.data, &data]));
        self.start();
        let mut standby = Postgres {
            name: name.to_owned(),
            programs: self.programs.clone(),
            log: data.with_file_name(format!("{name}.log")),
            data,
            port: Port::claim(),
            process: None,
        };
        standby.write_place();
        write_as_server_user(&standby.data.join("standby.signal"), "");
        let upstream = format!(
            "primary_conninfo = 'host={} port={} user=dba application_name={name}'\nrecovery_min_apply_delay = {}\n",
            self.data.display(),
            self.port.number(),
            delay.as_millis()
        );
        write_as_server_user(&standby.data.join("postgresql.auto.conf"), &upstream);
        standby.start();
        standby
    }

    /// Starts a stopped server and waits until it lets clients in.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let data = self.data.to_str().expect("temporary paths are UTF-8");
        let postgres = self.program("postgres");
        let process = Kept::start(&postgres, &["-D", data], &self.log, "QUIT");
        let letting_in = until(&format!("{} lets clients in", self.name), START_LIMIT, || {
            if self.try_client("dba").is_ok() { Some(true) } else { (!process.is_running()).then_some(false) }
        });
        assert!(letting_in, "{} did not start:\n{}", self.name, self.log_end());
        self.process = Some(process);
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(&mut self, shutdown: Shutdown) {
        let process = self.process.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        process.end(match shutdown {
            Shutdown::Fast => "INT",
            Shutdown::Immediate => "QUIT",
        });
    }

    /// Stops and starts it.
    pub fn restart(&mut self, shutdown: Shutdown) {
        self.stop(shutdown);
        self.start();
    }

    /// Has `pg_upgrade` make a server of another installation of a stopped one; it will listen on another port.
    pub fn upgrade(&mut self, to: &Programs) {
        assert!(self.process.is_none(), "{} still runs", self.name);
        let data = self.data.with_file_name(format!("{}-upgraded", self.name));
        make_cluster(to, &data);
        succeed(
            as_server_user(to.program("pg_upgrade"))
                .args(["--username=dba", "--old-bindir"])
                .arg(&self.programs.0)
                .arg("--new-bindir")
                .arg(&to.0)
                .arg("--old-datadir")
                .arg(&self.data)
                .arg("--new-datadir")
                .arg(&data)
                .current_dir(data.parent().expect("it is in the scratch directory")),
        );
        self.data = data;
        self.programs = to.clone();
        self.port = Port::claim();
        self.write_place();
    }

    /// Changes a setting for good and restarts the server.
    pub fn set(&mut self, setting: &str, value: &str) {
        self.exec(&format!("alter system set {setting} = {value}"));
        self.restart(Shutdown::Fast);
    }

    /// A session in the database, over the Unix socket.
    pub fn client(&self, role: &str) -> Client {
        self.try_client(role).unwrap_or_else(|error| panic!("{role} can connect to {}: {error}", self.name))
    }

    /// A session in the database, if the server gives one.
    pub fn try_client(&self, role: &str) -> Result<Client, postgres::Error> {
        postgres::Config::new()
            .host_path(self.directory())
            .port(self.port.number())
            .dbname(DATABASE)
            .user(role)
            .application_name("harness")
            .connect_timeout(Duration::from_secs(5))
            .connect(NoTls)
    }

    /// Runs statements as `dba`.
    pub fn exec(&self, statements: &str) {
        self.client("dba")
            .batch_execute(statements)
            .unwrap_or_else(|error| panic!("on {}: {error:?}\n{statements}", self.name));
    }

    /// The one value that a query gives, asked as `dba`.
    pub fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        let row = self.client("dba").query_one(query, &[]);
        row.unwrap_or_else(|error| panic!("on {}: {error:?}\n{query}", self.name)).get(0)
    }

    /// How `role` connects over TCP, with the password where the server asks for one.
    pub fn conninfo(&self, role: &str) -> String {
        let mut conninfo =
            format!("host=127.0.0.1 port={} dbname={DATABASE} user={role}", self.port.number());
        if matches!(role, "dba" | "shop_owner") {
            let _ = write!(conninfo, " password={DBA_PASSWORD}");
        }
        conninfo
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Directory of the data and of the Unix socket.
    pub fn directory(&self) -> &Path {
        &self.data
    }

    /// Path of one of its installation's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.program(name)
    }

    /// Path of a client's program: where the environment names a folder of newer ones, of those.
    pub fn client_program(&self, name: &str) -> PathBuf {
        let folder = std::env::var_os("PGDETOUR_PG_BIN").map(PathBuf::from);
        folder.map_or_else(|| self.program(name), |folder| folder.join(name))
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log, for messages.
    pub fn log_end(&self) -> String {
        last_lines(&self.log())
    }

    fn write_place(&self) {
        let place = format!(
            "port = {}\nunix_socket_directories = '{}'\ncluster_name = '{}'\n",
            self.port.number(),
            self.data.display(),
            self.name
        );
        write_as_server_user(&self.data.join("place.conf"), &place);
    }
}

/// The last lines of a log.
pub fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A cluster that was never started, from which servers are copied: `initdb` takes longer than a copy.
#[derive(Clone, Debug)]
pub struct Template {
    programs: Programs,
    data: PathBuf,
}

impl Template {
    /// Makes one in the new directory `data`.
    pub fn make(data: PathBuf, programs: Programs) -> Template {
        fill_template(&programs, &data);
        Template { programs, data }
    }
}

/// A new cluster with our settings, and nothing in it.
fn make_cluster(programs: &Programs, data: &Path) {
    let mut initdb = as_server_user(programs.program("initdb"));
    initdb.args(["--username=dba", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
    // The same in all majors: pg_upgrade takes no data over from a cluster that has none.
    if programs.major() >= 18 {
        initdb.arg("--no-data-checksums");
    }
    succeed(initdb.arg("-D").arg(data).current_dir("/"));
    write_as_server_user(&data.join("pg_hba.conf"), HBA);
    let configuration = std::fs::read_to_string(data.join("postgresql.conf")).expect("initdb writes it");
    let ours = format!("{configuration}\n{SETTINGS}include_if_exists = 'place.conf'\n");
    write_as_server_user(&data.join("postgresql.conf"), &ours);
}

fn fill_template(programs: &Programs, data: &Path) {
    make_cluster(programs, data);
    // Single-user mode needs no port and no waiting. It takes one statement a line.
    let statements = format!(
        "alter role dba password '{DBA_PASSWORD}'\n\
         create role shop_owner login password '{DBA_PASSWORD}'\n\
         create role shop_app login\n\
         create role shop_limited login\n\
         create database {DATABASE} owner shop_owner\n"
    );
    let input = data.join("statements.sql");
    std::fs::write(&input, statements).expect("the template's directory can be written");
    let output = succeed(
        as_server_user(programs.program("postgres"))
            .args(["--single", "-D"])
            .arg(data)
            .arg("postgres")
            .current_dir("/")
            .stdin(std::fs::File::open(&input).expect("it was just written")),
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("ERROR"), "the template could not be filled:\n{said}");
    std::fs::remove_file(input).expect("it was just written");
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} can be started: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
